"""The commands `backsolve demo`, `explain` and `show`."""
