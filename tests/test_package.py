"""The package as a whole: what importing it imports, who may import whom, and which names are public."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import FunctionType

import pytest

import backsolve

ROOT = Path(backsolve.__file__).parent


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


ORDERS = {
    "backsolve first": "import backsolve as bs\nimport jax",
    "jax first": "import jax\nimport backsolve as bs",
    "a part first": "import backsolve.planning\nimport jax\nimport backsolve as bs",
    "found first": "import backsolve as bs, importlib.util\nimportlib.util.find_spec('jax')\nimport jax",
    "of its parts": "import backsolve as bs\nfrom jax import numpy\nimport jax",
}
CROSSES = """
import numpy as np
from backsolve.operators import hadamard
A = bs.SparseMatrix.from_entries([0, 1], [0, 1], np.ones(2, np.float32), (2, 3))
print(jax.jit(lambda A, x: A @ x)(A, np.ones(3, np.float32)), len(jax.tree.leaves(hadamard(np.ones(3)))))
"""


@pytest.mark.parametrize("order", ORDERS)
def test_matrices_and_operators_are_pytrees_in_whichever_order_is_imported(order):
    done = subprocess.run([sys.executable, "-c", ORDERS[order] + CROSSES], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1. 1.] 1"


def test_a_jax_that_backsolve_cannot_use_is_imported_all_the_same(tmp_path):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("__version__ = '0.1'\n", encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import backsolve, jax; print(jax.__version__)"
    code += "; backsolve.jacobian"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0.1"
    assert "No module named 'jax.numpy'" in done.stderr


# Imported where they are used: what needs JAX, SciPy, or a package that not everybody has.
LATE = {
    "backsolve.demo",
    "backsolve.cli.explain",
    "backsolve.cli.show",
    "backsolve.engines",
    "backsolve.engines.blocks",
    "backsolve.engines.hosted",
    "backsolve.engines.suitesparse",
    "backsolve.show.drawing",
    "backsolve.show.entries",
    "backsolve.testing",
}


def test_imports_stand_at_the_top():
    """Those inside functions are listed: each spares a user the import of a package that this call alone needs."""
    late = set()
    for path in ROOT.rglob("*.py"):
        if "demo" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        late |= {
            node.module
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("backsolve")
        }
    assert late == LATE


MOVED = re.compile(r"jax\._src|get_bind_params|\b(num_carry|num_consts|ft_in|ft_out|out_dtype|to_ct_aval|FlatTree)\b")


def test_only_one_file_touches_the_internals_of_jax():
    """Its private modules, and what of its equations has moved from series to series."""
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).as_posix() != "tracing/series.py":
            assert not [name for name in imports(path) if name.startswith(("jax._src", "jaxlib"))], path
            assert not MOVED.findall(path.read_text(encoding="utf-8")), path


def test_private_names_stay_in_their_files():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("backsolve"):
                private = [alias.name for alias in node.names if alias.name.startswith("_") and alias.name != "__version__"]
                assert not private, path


def test_files_are_short():
    for path in [*ROOT.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 600, path


FOLDERS = sorted(path.parent for path in ROOT.rglob("__init__.py") if path.parent != ROOT)


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.relative_to(ROOT).as_posix() for folder in FOLDERS])
def test_the_readme_of_a_folder_names_its_files(folder):
    """A line a file, in reading order; `__init__` only hands names on.  Files of other folders are named by their path."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    here = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    below = [f"{path.parent.name}/" for path in folder.glob("*/__init__.py")]
    assert text.startswith(f"# {folder.relative_to(ROOT).as_posix()}\n")
    assert sorted(re.findall(r"^- `([^`]+)`: .", text, re.MULTILINE)) == sorted(here + below)
    assert all((ROOT / path).exists() for path in re.findall(r"`(\w+/[\w/]+\.py)`", text))


def test_the_command_is_a_function():
    """What an installation calls by the name of the package; tests start it as a module."""
    scripts = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    for target in scripts.values():
        module, _, name = target.partition(":")
        assert isinstance(getattr(importlib.import_module(module), name), FunctionType)


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
