"""`python -m backsolve` is the command `backsolve`."""

import sys

from backsolve.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
