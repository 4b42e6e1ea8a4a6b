"""The package as a whole: what importing it imports, who may import whom, and which names are public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import backsolve

ROOT = Path(backsolve.__file__).parent
CORE = [
    *(ROOT / f"{name}.py" for name in (
        "algebra", "arrays", "blocks", "bordered", "build", "eliminate", "graph", "history", "inverse", "least_squares",
        "matrix", "measured", "network", "numeric", "order", "search", "shadow", "solve", "sparse_elimination",
        "sparse_matrix", "structures", "system", "thinning", "typeset")),
    *sorted((ROOT / "operators").glob("*.py")),
    *sorted((ROOT / "engines").glob("*.py")),
]  # fmt: skip
ABOVE = {"capture", "transforms", "extend", "show", "cli", "demo", "testing"}


def imports(path):
    """Every module a file imports, at any depth of nesting, as an absolute dotted name."""
    package = ("backsolve", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_importing_the_package_imports_neither_jax_nor_scipy():
    code = "import sys, backsolve; print(sorted({m.split('.')[0] for m in sys.modules} & {'jax', 'scipy', 'torch'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_below_the_line_imports_jax_or_what_is_above(path):
    for name in imports(path):
        assert name.split(".")[0] not in {"jax", "jaxlib"}
        if name.startswith("backsolve."):
            assert name.split(".")[1] not in ABOVE


def test_imports_inside_the_core_point_down():
    layers = (
        ["algebra", "arrays"],
        ["operators"],
        ["blocks", "solve", "numeric"],
        ["matrix"],
        ["build", "eliminate", "network", "shadow", "search"],
        ["structures"],
        ["order", "engines", "sparse_elimination"],
        ["thinning"],
        ["bordered"],
        ["inverse", "least_squares"],
        ["graph", "system"],
    )
    rank = {name: k for k, layer in enumerate(layers) for name in layer}
    for path in CORE:
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "backsolve" and len(parts) > 1 and here in rank and parts[1] in rank:
                assert rank[parts[1]] <= rank[here], f"{here} imports {name}"


def test_only_jaxpr_touches_the_internals_of_jax():
    """Its private modules, and the parameters of an equation."""
    for path in ROOT.rglob("*.py"):
        if path.name != "jaxpr.py":
            assert not [name for name in imports(path) if name.startswith(("jax._src", "jaxlib"))], path


def test_files_are_short():
    for path in [*ROOT.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 600, path


PUBLIC = """I O left_mul right_mul hadamard kron tdot linear_map LinearOperator matrix diagonal bidiagonal row column
    vector OperatorMatrix BlockVector substitute solve Graph System AlgebraError CycleError SingularError SpaceError"""


@pytest.mark.parametrize("name", PUBLIC.split())
def test_public_names_exist_and_say_what_they_are(name):
    thing = getattr(backsolve, name)
    assert (thing if isinstance(thing, type) or callable(thing) else type(thing)).__doc__


def test_semirings_and_the_checker_are_public():
    from backsolve.algebra import Boolean, Counting, LogSumExp, MaxTimes, MinPlus
    from backsolve.testing import check_operator

    assert all(kind.__doc__ for kind in (Boolean, Counting, LogSumExp, MaxTimes, MinPlus, check_operator))
    assert Path(backsolve.__file__).with_name("py.typed").exists()
