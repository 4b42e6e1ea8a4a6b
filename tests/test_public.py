"""What a stranger sees first: names, the package's own words, how things print in a terminal and in a notebook."""

import re
from types import ModuleType

import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.interop import ipopt


def test_the_names_are_public_ones_alone():
    assert "__version__" in dir(bs)
    names = [name for name in dir(bs) if name != "__version__"]
    assert {"grad", "jacobian", "linearize", "Plan", "plan", "matrix", "Graph", "System", "newton", "explain"} <= set(names)
    for name in names:
        assert not name.startswith("_")
        assert not isinstance(getattr(bs, name), ModuleType), name
        assert getattr(bs, name).__doc__


def test_the_package_says_what_one_does_with_it():
    assert bs.__doc__.count("\n- ") == 6
    named = re.findall(r"\bbs\.(\w+)", bs.__doc__)
    assert len(named) > 12
    assert set(named) <= set(dir(bs))
    for word in re.findall(r"`backsolve\.(\w+)`", bs.__doc__):
        assert __import__(f"backsolve.{word}")


def f(x):
    return jnp.tanh(x[1:] * x[:-1]) + x[1:]


def F(x):
    return x**3 + jnp.roll(x, 1) - 2


def things():
    x, D, W = jnp.arange(1.0, 6.0), bs.hadamard(np.ones((2, 3))), bs.left_mul(np.ones((2, 2)), "W")
    sparse = bs.jacobian(f, format="sparse")(x)
    system = bs.linearize(F, x)
    return {
        "System of 1 source, 2 nodes, 1 output and 2 edges": bs.System(
            bs.matrix([[2.0], [0.0]]), bs.matrix([[0, 0], [3.0, 0]]), bs.matrix([[0, 1.0]])
        ),
        "System of 1 source, 6 nodes, 1 output and 8 edges": bs.linearize(f, x),
        "Plan: 5 nodes to eliminate, 24 multiplications, cost 128 by elimination": bs.plan(f, x),
        "Graph of 3 nodes and 2 edges, 1 source, 1 sink": bs.Graph({("a", "b"): 2, ("b", "c"): 3}),
        "OperatorMatrix of 1 × 1 blocks, 1 entry": bs.jacobian(f, format="operator")(x),
        "OperatorMatrix of 2000 × 2000 blocks, 3,999 entries": bs.bidiagonal([1] * 2000, [2] * 1999),
        "SparseMatrix 4×5, 8 non-zeros (40%), float32": sparse,
        "SparseMatrix 4×5, 8 non-zeros (40%), bool": bs.sparsity(f, x),
        "BlockVector([1.0, 3 float64])": bs.vector([1.0, np.ones(3)]),
        "BlockVector([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, …]) of 1,000 blocks": bs.vector(range(1000)),
        "Inverse of a Jacobian of 5 × 5, by a bordered matrix of 5 unknowns with 10 non-zeros (superlu)": system.factored(),
        "newton: converged in ": bs.newton(F, x),
        "f": bs.explain(f, x),
        "I : ? → ?": bs.I,
        "O : ? → ?": bs.O,
        "2·I : ? → ?": 2 * bs.I,
        "(2×3)ᴴ : 2×3 → 2×3": D,
        "(W)ᴸ : 2×? → 2×?": W,
        "(W)ᴸ ∘ (2×3)ᴴ : 2×3 → 2×3": W @ D,
        "(3×3)ᴿ : ?×3 → ?×3": bs.right_mul(np.ones((3, 3))),
        "(2)ᵀ• : 2 → scalar": bs.tdot(np.ones(2)),
        "double : 3 → 3": bs.linear_map(lambda x: 2 * x, None, (3,), (3,), name="double"),
        "sparse(4×5, 8 non-zeros) : 5 → 4": sparse.as_operator(),
    }


@pytest.mark.parametrize("head", things())
def test_everything_prints_short_and_true(head):
    thing = things()[head]
    lines = repr(thing).splitlines()
    assert lines[0].startswith(head) if head.endswith(" ") else lines[0] == head
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    assert " object at 0x" not in repr(thing)
    assert "Array(" not in repr(thing)


def test_the_repr_of_a_plan_is_the_end_of_its_table():
    plan = bs.plan(lambda x: jnp.sum(jnp.tanh(jnp.sin(jnp.cos(jnp.exp(x)))) ** 2), jnp.ones(3))
    table, told = str(plan).splitlines(), repr(plan).splitlines()
    assert len(plan.steps) == 5
    assert told[:4] == table[:4]
    assert told[4] == "    …  (2 steps more)"
    assert told[5:] == table[-3:]
    short = bs.plan(lambda x: jnp.sin(x) * x, 1.0)
    assert repr(short) == str(short)


def test_a_notebook_shows_pages_of_what_has_a_graph_and_text_of_the_rest():
    for head, thing in things().items():
        html = getattr(thing, "_repr_html_", lambda: None)()
        assert (html is None) != head.startswith(("System", "Plan", "Graph", "OperatorMatrix")), head


def test_a_notebook_calls_lines_by_their_cell():
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    cells = [
        "import backsolve as bs, jax.numpy as jnp",
        "def f(x):\n    return jnp.sin(x) * x",
        "print(bs.linearize(f, 1.0).L.name(0))",
        "print('(In[2]:2:' in str(bs.plan(f, 1.0)), 'In[2]:2' in bs.explain(f, 1.0))",
        "from backsolve.show import page\nhtml = page(bs.linearize(f, 1.0))\n"
        "print('return jnp.sin(x) * x' in html, '\"source\":[[\"In[2]\",' in html)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    printed = ["".join(o.get("text", "") for o in cell.outputs) for cell in book.cells]
    assert printed[2].startswith("sin (In[2]:2:")
    assert printed[3:] == ["True True\n", "True True\n"]


def test_ipopt_problems_print_short():
    problem = ipopt.Problem(lambda x: jnp.sum(x**2), n=3)
    assert len(repr(problem)) < 300
    assert " object at 0x" not in repr(problem)
