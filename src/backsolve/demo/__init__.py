"""`backsolve demo`: the paper's matrix net learns scanned digits, every gradient being the paper's formula."""

from backsolve.demo.run import run as run

__all__ = ["run"]
