"""`python -m backsolve` is the command `backsolve`."""

import sys

from backsolve.cli import main

if __name__ == "__main__":
    sys.exit(main())
