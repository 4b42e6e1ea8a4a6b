"""Derivatives in symbols against SymPy's and against numbers; short names; arrays as small pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from backsolve import hadamard, left_mul, linear_map, linearize
from backsolve.show.model import picture_of
from backsolve.show.numbers import Grid, grid_of, number_of, operator_grid, told
from backsolve.show.symbols import DERIVATIVE, Symbols, short_names, telling
from tests import reference

from .things import signed

UP = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def evaluated(text, **values):
    """A symbol's number, by Python: juxtaposed letters are products, raised digits powers."""
    import re

    text = re.sub(r"tanh²\(([^()]*)\)", r"tanh(\1)**2", text)
    text = re.sub(r"([⁻⁰-⁹¹²³]+)", lambda m: f"**({m[1].translate(UP)})", text)
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text).replace("−", "-").replace("·", "*").replace("^", "**")
    text = re.sub(r"√([a-z]\b|\()", lambda m: f"sqrt({m[1]})" if m[1] != "(" else "sqrt(", text)
    text = re.sub(r"(\d|\b[xy])(?=[xy]\b|[xy]\*)", r"\1*", text)
    text = re.sub(r"\[(.*)\]", r"float(\1)", text)
    names = {n: getattr(np, n) for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "log", "exp", "sqrt", "sign")}
    return eval(text, {**names, "σ": lambda x: 1 / (1 + np.exp(-x)), "__builtins__": {"abs": abs, "float": float}}, values)


UNARY = {
    "neg": jnp.negative, "exp": jnp.exp, "log": jnp.log, "log1p": jnp.log1p, "expm1": jnp.expm1, "sin": jnp.sin,
    "cos": jnp.cos, "tan": jnp.tan, "sinh": jnp.sinh, "cosh": jnp.cosh, "tanh": jnp.tanh, "logistic": jax.nn.sigmoid,
    "sqrt": jnp.sqrt, "abs": jnp.abs, "asin": jnp.arcsin, "acos": jnp.arccos, "atan": jnp.arctan, "square": jnp.square,
    "integer_pow": lambda x: x**3, "reciprocal": lambda x: x**-2,
}  # fmt: skip
BINARY = {
    "add": jnp.add, "sub": jnp.subtract, "mul": jnp.multiply, "div": jnp.divide, "pow": jnp.power, "max": jnp.maximum,
    "min": jnp.minimum,
}  # fmt: skip


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_a_symbol_says_what_the_edge_holds(name):
    if name in UNARY:
        point, f = (0.6,), lambda x: UNARY[name](x)
    else:
        point, f = (0.6, 0.8), lambda x, y: BINARY[name](x, y)
    by = tuple(range(len(point)))
    picture = picture_of(linearize(f, *point, argnums=by))
    exact = dict(zip("xy", reference.jacobian(f, argnums=by)(*point), strict=False))
    vertices = picture.vertices
    edges = [e for e in picture.edges if vertices[e.tail].role == "source"]
    assert {vertices[e.tail].text for e in edges} == set(exact)
    for e in edges:
        g = float(exact[vertices[e.tail].text])
        assert e.value == pytest.approx(g, rel=1e-5)
        if vertices[e.head].text in DERIVATIVE:
            assert evaluated(e.symbol, **dict(zip("xy", point, strict=False))) == pytest.approx(g, rel=1e-5)


def symbols(f, *point):
    picture = picture_of(linearize(f, *point, argnums=tuple(range(len(point)))))
    names = [v.name for v in picture.vertices]
    return {(names[e.tail], names[e.head]): e.label for e in picture.edges}


def test_expressions_and_literals():
    def f(x, y):
        return 2.0 * x**2 + jnp.sin(x * y) * jnp.exp(3 * y) + x * x

    told = symbols(f, 1.0, 2.0)
    assert set(told.values()) >= {"2", "2x = 2", f"cos(xy) = {signed(np.cos(2.0))}", f"exp(3y) = {np.exp(6.0):.4g}"}
    assert not any("2 + " in label for label in told.values())  # a literal 2.0 is no node number 2


def test_what_is_not_varied_has_no_letter():
    c = jnp.array(3.0)
    told = symbols(lambda x: jnp.sin(x * c) + jnp.cos(x + jnp.cumsum(jnp.ones(3))[1]), 1.0)
    assert all("None" not in label for label in told.values())
    assert f"cos(x0) = {signed(np.cos(3.0))}" in told.values()


def test_a_negative_literal_divided_twice_is_not_negated_twice():
    told = symbols(lambda x: -9.81 / x, 2.0)
    assert "9.81/x² = 2.453" in told.values()


def test_a_multiple_of_an_array_by_a_complex_number_has_its_letter():
    told = symbols(lambda z, a: z * a, jnp.ones(3), 2 + 1j)
    assert "a·I" in told.values()


def test_products_of_matrices_and_vectors():
    W, V, x = jnp.ones((4, 3)), jnp.ones((3, 4)), jnp.ones(3)
    assert symbols(lambda W, x: W @ x, W, x) == {("p0", "x0"): "(x)ᴿ", ("p1", "x0"): "(W)ᴸ", ("x0", "y0"): "I"}
    assert symbols(lambda W, V: W @ V, W, V)[("p1", "x0")] == "(W)ᴸ"
    assert symbols(lambda x, W: x @ W, jnp.ones(4), W)[("p1", "x0")] == "(x)ᴸ"
    assert symbols(lambda a, b: a @ b, x, x)[("p0", "x0")] == "(b)ᵀ•"
    transposed = symbols(lambda W, x: jnp.einsum("ij,ik->jk", W, x), W, jnp.ones((4, 2)))
    assert not any(label in ("(W)ᴸ", "(x)ᴿ") for label in transposed.values())  # Wᵀx is not Wx


def test_symbols_of_what_crossed_jit_or_was_made_by_hand_are_absent():
    assert isinstance(Symbols(lambda i: None, 2, ["x"]).derivative(0, -1), type(None))
    crossed = jax.tree_util.tree_map(lambda x: x, linearize(lambda x: jnp.sin(x) * 2, 1.0))
    assert {e.symbol for e in picture_of(crossed).edges} <= {"", "cos(p0)", "2"}  # names may be kept, the point is not


def test_names():
    tree = ["params['a']['kernel']", "params['b']['kernel']", "x", "w[0][1]", "w[0][0]", "s.velocity"]
    assert short_names(tree) == ["a.kernel", "b.kernel", "x", "w[0][1]", "w[0][0]", "velocity"]
    long = [f"parameters['encoder_of_the_model']['{k}']" for k in ("kernel", "bias")]
    assert telling([*long, "x"]) == ["…['kernel']", "…['bias']", "x"]
    assert telling(["a" * 40])[0] == "…" + "a" * 23
    for names in (tree, long):
        assert len(set(short_names(names))) == len(set(telling(names))) == len(names)


def test_numbers_of_elements():
    x = sympy.Symbol("x")
    assert [number_of(e) for e in (2, 2.5, np.float32(0.5), x, np.ones(3), True)] == [2.0, 2.5, 0.5, None, None, None]
    assert number_of(hadamard(np.array(3.0))) == 3.0
    assert number_of(linear_map(lambda v: 4 * v, None, (), ())) == 4.0
    assert number_of(linear_map(lambda v: 4 * v, None, (2,), (2,))) is None

    def raises(v):
        raise RuntimeError("no")

    assert number_of(linear_map(raises, None, (), ())) is None
    assert number_of(hadamard(np.array(1j))) is None
    found = []
    jax.jit(lambda v: found.append(picture_of(linearize(jnp.sin, v))) or v)(1.0)  # of numbers that are not known yet
    assert [e.value for e in found[0].edges] == [None, 1.0]
    assert found[0].vertices[0].at == "not known yet"


def test_grids():
    assert grid_of(np.arange(6.0).reshape(2, 3)) == Grid((2, 3), 2, 3, (0.0, 1.0, 2.0, 3.0, 4.0, 5.0))
    big = np.zeros((100, 50))
    big[99, 0], big[0, 49] = -7.0, 3.0
    grid = grid_of(big)
    assert (grid.shape, grid.rows, grid.cols) == ((100, 50), 16, 16)
    assert grid.numbers[15 * 16] == -7.0
    assert grid.numbers[15] == 3.0
    assert sum(map(abs, grid.numbers)) == 10.0
    line = grid_of(np.arange(1.0, 41.0))  # a long vector in lines
    assert (line.rows, line.cols) == (3, 16)
    assert line.numbers[:40] == tuple(np.arange(1.0, 41.0))
    assert grid_of(np.ones((2, 2)) * 1j) is grid_of("text") is grid_of(np.zeros(0)) is None
    assert operator_grid(
        left_mul(np.array([[1.0, 2.0], [3.0, 4.0]])).refine(*[hadamard(np.ones((2, 1))).domain] * 2)
    ) == Grid((2, 2), 2, 2, (1.0, 2.0, 3.0, 4.0))
    assert operator_grid(hadamard(np.ones((300, 300)))).shape == (300, 300)  # its array, for its matrix is large
    assert told(np.array([1.0, 2.5])) == "[1, 2.5]"
    assert told(np.ones((3, 4))) == "3×4, norm 3.464"
    assert told(np.arange(3)) == "[0, 1, 2]"
    assert told(np.array([3j, 4.0])) == "2, norm 5"  # no absolute values in place of the numbers
    assert told(np.array(1 + 2j)) == "(1+2j)"
