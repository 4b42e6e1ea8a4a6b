"""Passes on traced programs for the habits of XLA's CPU compiler; nothing else rewrites programs for it.

A pass names the version that it was tried with and what it gained; it goes when it gains less than a twentieth.
"""
