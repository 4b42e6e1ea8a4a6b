"""Habits of XLA's compiler: nothing else knows them."""
