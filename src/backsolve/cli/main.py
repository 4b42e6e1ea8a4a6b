"""The command line: `backsolve demo`, `backsolve explain`, `backsolve show`. A subcommand is one entry in `COMMANDS`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from backsolve import __version__


def _demo(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("demo", help="train the paper's net on scanned digits and write a page of pictures")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo-output"), metavar="DIR", help="folder (default: %(default)s)"
    )
    parser.set_defaults(run=_run_demo)


def _run_demo(arguments: argparse.Namespace) -> int:
    # Looked for rather than imported, so that a broken installation still shows its own traceback.
    needed = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "tqdm": "tqdm"}
    missing = [project for module, project in needed.items() if find_spec(module) is None]
    if missing:
        print(f"backsolve demo needs {', '.join(missing)}: pip install 'backsolve[demo]'", file=sys.stderr)
        return 2
    from backsolve.demo import run

    try:
        return run(arguments.output)
    except OSError as error:
        return _misused("demo", error)


def _misused(command: str, error: Exception) -> int:
    """Say in a line on stderr what is wrong with what was asked for."""
    told = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        told = f"cannot write {str(error.filename)!r}: {error.strerror}"
    print(f"backsolve {command}: {told}", file=sys.stderr)
    return 2


def _explain(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="print the system of a JAX function",
        description="Linearize a JAX function at random inputs, or at those that --args makes, and print its system: sizes, "
        "edges by kind, nodes with their lines, and the cost of the gradient.",
    )
    _add_function(parser)
    parser.set_defaults(run=_run_explain)


def _add_function(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("function", metavar="MODULE:FUNCTION", help="or path/to/file.py:FUNCTION")
    parser.add_argument(
        "--shape",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=SIZES",
        help="x=3,4 makes an array, 'x=3,4;4' a list of two (default: scalars)",
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]DTYPE",
        help="of all inputs, or of one (default: float32)",
    )
    parser.add_argument(
        "--args",
        metavar="MODULE:FUNCTION",
        help="a function that makes the inputs, any pytrees: it returns a tuple of them, or one that is none",
    )


def _run_explain(arguments: argparse.Namespace) -> int:
    from backsolve.cli.explain import ExplainError, explain

    try:
        print(explain(arguments.function, arguments.shape, arguments.dtype, arguments.args))
    except ExplainError as error:
        return _misused("explain", error)
    return 0


def _show(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "show",
        help="write a page with the graph and the block matrix of a JAX function",
        description="Linearize a JAX function at random inputs, or at those that --args makes, and write a page that shows "
        "its graph and its block matrix side by side "
        "and steps through the substitution. The page needs nothing else and opens offline.",
    )
    _add_function(parser)
    parser.add_argument(
        "--order",
        metavar="ORDER",
        help="forward, reverse, markowitz, auto, or node numbers such as 2,0,1: what the page steps through first",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".html, or .svg, .png, .pdf, .dot, .tex, in a folder that exists (default: the function's name with .html)",
    )
    parser.set_defaults(run=_run_show)


def _run_show(arguments: argparse.Namespace) -> int:
    from backsolve.cli.explain import ExplainError
    from backsolve.cli.show import show_function

    try:
        path = show_function(
            arguments.function, arguments.shape, arguments.dtype, arguments.order, arguments.output, arguments.args
        )
    except (ExplainError, ModuleNotFoundError, OSError) as error:
        return _misused("show", error)
    print(path)
    return 0


# Each adds its parser and sets `run`, a function of the parsed arguments that returns the exit status.
COMMANDS: tuple[Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], None], ...] = (_demo, _explain, _show)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` by default) and return the status: 0, 1 for a failed check, 2 for misuse."""
    parser = argparse.ArgumentParser(prog="backsolve", description="Backpropagation as a triangular solve.")
    parser.add_argument("--version", action="version", version=f"backsolve {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(subparsers)
    arguments = parser.parse_args(argv)
    status: int = arguments.run(arguments)
    return status
