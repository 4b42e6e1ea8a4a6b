"""`python -m benchmarks [CASE ...]`: run the cases, print the tables, write the results and the README's table."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import cases, headlines, machine, report
from benchmarks.runner import Runner, Section

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def case_names() -> list[str]:
    """The names of all cases, which are those of the files in benchmarks/cases."""
    return sorted(module.name for module in pkgutil.iter_modules(cases.__path__))


def measure(name: str, runner: Runner) -> Section:
    """Run one case, and note the machine it ran on."""
    section: Section = importlib.import_module(f"benchmarks.cases.{name}").measure(runner)
    return replace(section, machine=machine.line())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, or 1 if a target was missed."""
    names = case_names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"among {', '.join(names)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two rounds: tries the cases, measures nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of every contest (default: each its own)")
    parser.add_argument("--only", default="", metavar="WORD", help="gradients: models with it in their name; writes nothing")
    parser.add_argument("-o", "--output", type=Path, help="folder of the results (default: benchmarks/; --quick: none)")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.cases) - set(names))
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(names)}")
    folder = arguments.output or (None if arguments.quick or arguments.only else HERE)

    print(machine.line())
    runner = Runner(quick=arguments.quick, rounds=arguments.rounds, only=arguments.only)
    missed: list[str] = []
    for name in arguments.cases or names:
        section = measure(name, runner)
        missed += report.missed(section)
        print("", report.table(section), sep="\n", flush=True)
        if folder is not None:
            report.write(folder, [section])  # at once, so that a later failure loses nothing
    if folder == HERE:
        page = README.read_text(encoding="utf-8")
        README.write_text(headlines.written(page, report.load(folder / "results.json")), encoding="utf-8")
    if not missed or arguments.quick:
        return 0
    print(f"\nTargets missed: {'; '.join(missed)}.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
