"""What the public names say to a wrong input: one message of a fitting type that says what is wrong, where, and what to do.

Each row is a call, the type of its error, and the telling part of its message.
"""

import itertools
import re
import sys

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir

import backsolve as bs
from backsolve import (
    BlockVector,
    CycleError,
    Graph,
    I,
    O,
    OperatorMatrix,
    SingularError,
    SpaceError,
    SparseMatrix,
    System,
    bidiagonal,
    column,
    diagonal,
    extend,
    hadamard,
    kron,
    left_mul,
    linear_map,
    matrix,
    right_mul,
    row,
    solve,
    substitute,
    tdot,
    testing,
    vector,
)
from backsolve.algebra.elements import AlgebraError, Counting, MinPlus, multiply
from backsolve.cli import main as cli
from backsolve.cli.explain import ExplainError, find_function, make_inputs, wide_enough
from backsolve.elimination.graph import eliminate
from backsolve.planning.plan import make_plan
from backsolve.show import save, show, spy, to_dot

from .zoo import Minimal

G = Graph({("a", "b"): 2, ("b", "c"): 3, ("a", "c"): 1})
T = matrix([[1.0, 0], [2.0, 1.0]])
L = matrix([[0, 0], [1, 0]])
OPS = matrix([[I, O], [hadamard(np.ones(3)), I]])
HAND = System(matrix([[2.0], [0.0]]), matrix([[0, 0], [3.0, 0]]), matrix([[0, 1.0]]))
SPARSE = SparseMatrix.from_entries([0, 1, 1], [0, 0, 2], np.array([1.0, 2.0, 3.0]), (2, 3))
B, H = left_mul(np.ones((2, 2))), hadamard(np.ones(3))
X = jnp.arange(1.0, 4.0)
from_entries, sparse = OperatorMatrix.from_entries, SparseMatrix.from_entries


def square(x):
    return jnp.sum(x**2)


def product(x, y):
    return jnp.sum(x * y)


class Lonely:
    """An element with a product that refuses everything."""

    def __mul__(self, other):
        raise TypeError("I multiply nothing")


def told(call, error, message):
    """The error of a call, of exactly this type, with this in its message and nothing of our own chained to it."""
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value


GRAPHS = [
    (lambda: Graph(None), TypeError, r"Graph takes a mapping .*csr_array\(A\)\), got NoneType"),
    (lambda: Graph(3), TypeError, r"Graph takes a mapping .*got int"),
    (lambda: Graph("ab"), TypeError, r"Graph takes a mapping .*got str"),
    (lambda: Graph(np.eye(3)), TypeError, r"Graph takes a mapping .*got numpy.ndarray of shape \(3, 3\)"),
    (lambda: Graph(G), TypeError, r"Graph takes a mapping .*got backsolve.Graph"),
    (lambda: Graph(T), TypeError, r"Graph takes a mapping .*got backsolve.OperatorMatrix of shape \(2, 2\)"),
    (lambda: Graph([1, 2]), TypeError, r"edge 0 is 1, not \(\(u, v\), weight\)"),
    (lambda: Graph([((1, 2), 3), (1, 2)]), TypeError, r"edge 1 is \(1, 2\), not \(\(u, v\), weight\)"),
    (lambda: Graph([((1, 2, 3), 4)]), TypeError, r"edge 0 is \(\(1, 2, 3\), 4\), not"),
    (lambda: Graph({"ab": 2}), TypeError, r"edge 0 is \('ab', 2\), not"),
    (lambda: Graph([(([], "b"), 1)]), TypeError, r"edge 0 is .* with hashable nodes"),
    (lambda: Graph({("a", "b"): "x"}), AlgebraError, r"the weight of 'a' → 'b' is 'x', which cannot be multiplied"),
    (lambda: Graph({("a", "b"): 1, ("b", "c"): None}), AlgebraError, r"the weight of 'b' → 'c' is None, which cannot"),
    (lambda: Graph({("a", "b"): {}}), AlgebraError, r"the weight of 'a' → 'b' is \{\}, which cannot"),
    (lambda: Graph({("a", "b"): [1, 2]}), AlgebraError, r"the weight of 'a' → 'b' is \[1, 2\].* block as an array"),
    (lambda: Graph({("a", "b"): object()}), AlgebraError, r"the weight of 'a' → 'b' is <object>, which cannot"),
    (lambda: Graph({("a", "b"): lambda x: x}), AlgebraError, r"the weight of 'a' → 'b' is <function>, which cannot"),
    (lambda: Graph(nx.DiGraph([(1, 2, {"weight": "x"})])), AlgebraError, r"the weight of 1 → 2 is 'x'"),
    (lambda: Graph({("a", "a"): 1}), CycleError, r"'a' → 'a'"),
    (lambda: Graph({}).path_weights("a"), KeyError, r"source 'a': the graph has no nodes"),
    (lambda: G.path_weights(["a"]), KeyError, r"source \['a'\] is not among the graph's 3 nodes: 'a', 'b', 'c'"),
    (lambda: G.path_weights(order=None), ValueError, r"unknown order None; use 'auto', 'forward', 'reverse' or a sequence"),
    (lambda: G.path_weights(order=3), ValueError, r"unknown order 3; use"),
    (lambda: G.path_weights(order=[["b"]]), KeyError, r"node \['b'\] is not among"),
]

BUILT = [
    (lambda: matrix(None), TypeError, r"matrix takes a list of rows, got None"),
    (lambda: matrix("ab"), TypeError, r"matrix takes a list of rows, got 'ab'"),
    (lambda: matrix({1: 2}), TypeError, r"matrix takes a list of rows, got \{1: 2\}"),
    (lambda: matrix([[1, 2], 3]), TypeError, r"row 1 of matrix takes a list of elements, got 3"),
    (lambda: matrix(np.ones(3)), TypeError, r"row 0 of matrix takes a list of elements, got np.float64\(1.0\)"),
    (lambda: matrix(np.array(3.0)), TypeError, r"matrix takes a list of rows, got an array without axes"),
    (lambda: matrix([[1, None]]), AlgebraError, r"entry \(0, 1\) is None, which cannot be multiplied.* O where there is"),
    (lambda: matrix([["a"]]), AlgebraError, r"entry \(0, 0\) is 'a', which cannot be multiplied"),
    (lambda: matrix([[[1, 2]]]), AlgebraError, r"entry \(0, 0\) is \[1, 2\], which cannot .* Write a block as an array"),
    (lambda: matrix([[G]]), AlgebraError, r"entry \(0, 0\) is Graph of 3 nodes"),
    (lambda: matrix([[1], [vector([1, 2])]]), TypeError, r"element \(1, 0\) is a vector of blocks; .* column"),
    (lambda: diagonal(3), TypeError, r"diagonal takes a list of elements, got 3"),
    (lambda: diagonal({1, 2}), TypeError, r"diagonal takes a list of elements, got \{1, 2\}"),
    (lambda: bidiagonal([1, 2], None), TypeError, r"the line below the diagonal of bidiagonal takes a list .* got None"),
    (lambda: bidiagonal(1, [2]), TypeError, r"the diagonal of bidiagonal takes a list of elements, got 1"),
    (lambda: row("ab"), TypeError, r"row takes a list of elements, got 'ab'"),
    (lambda: column(None), TypeError, r"column takes a list of elements, got None"),
    (lambda: vector(3), TypeError, r"vector takes a list of blocks, got 3"),
    (lambda: vector([1, None]), TypeError, r"block 1 of the vector is None; a zero of any size is written O"),
    (lambda: BlockVector(3), TypeError, r"a BlockVector holds a sequence of blocks, got 3"),
    (lambda: from_entries(None, (2, 2)), TypeError, r"entries are a mapping .* or pairs .* got None"),
    (
        lambda: from_entries({}, None),
        ValueError,
        r"the shape of a matrix is two numbers of blocks such as \(2, 3\), got None",
    ),
    (lambda: from_entries({}, (2,)), ValueError, r"two numbers of blocks such as \(2, 3\), got \(2,\)"),
    (lambda: from_entries({}, (-1, 2)), ValueError, r"two numbers of blocks such as \(2, 3\), got \(-1, 2\)"),
    (lambda: from_entries({}, (2.0, 2)), ValueError, r"two numbers of blocks such as \(2, 3\), got \(2.0, 2\)"),
    (lambda: from_entries({}, (10**30, 1)), MemoryError, r"10{30} × 1 blocks does not fit into memory"),
    (lambda: from_entries({0: 1}, (2, 2)), TypeError, r"entry 0 is \(0, 1\), not \(\(i, j\), element\) with whole numbers"),
    (lambda: from_entries({("a", 0): 1}, (2, 2)), TypeError, r"entry 0 is \(\('a', 0\), 1\), not"),
    (lambda: from_entries({(0, 0.5): 1}, (2, 2)), TypeError, r"entry 0 is \(\(0, 0.5\), 1\), not"),
    (lambda: from_entries({(0, 0): "x"}, (2, 2)), AlgebraError, r"entry \(0, 0\) is 'x', which cannot"),
    (
        lambda: from_entries({}, (1, 1), names=["a", "b"]),
        ValueError,
        r"one name for each of the 1 block rows, got \['a', 'b'\]",
    ),
    (lambda: from_entries({}, (1, 1), names=3), ValueError, r"one name for each of the 1 block rows, got 3"),
    (
        lambda: OperatorMatrix(None, (2, 2)),
        TypeError,
        r"wraps a dict of entries and a shape, got None and \(2, 2\); use backs",
    ),
    (lambda: OperatorMatrix({}, 2), TypeError, r"wraps a dict of entries and a shape, got \{\} and 2"),
    (lambda: OperatorMatrix.from_scipy(None), TypeError, r"from_scipy takes an array of numbers, got None"),
    (
        lambda: OperatorMatrix.from_scipy(T),
        TypeError,
        r"from_scipy takes an array of numbers, got backsolve.OperatorMatrix|<",
    ),
    (lambda: OperatorMatrix.from_scipy(np.ones(3)), ValueError, r"from_scipy takes a matrix \(2 axes\), got shape \(3,\)"),
    (lambda: OperatorMatrix.from_scipy([[1, 2], [3]]), ValueError, r"got \[\[1, 2\], \[3\]\], whose rows differ in length"),
]

USED = [
    (lambda: T[0], TypeError, r"an element is A\[i, j\] with two whole numbers, got A\[0\]"),
    (lambda: T[0:1, 0], TypeError, r"got A\[slice\(0, 1, None\), 0\]"),
    (lambda: T[0.5, 0], TypeError, r"got A\[0.5, 0\]"),
    (lambda: T + 1, TypeError, r"cannot add int to a matrix of 2 × 2 blocks; .*backsolve.diagonal\(\[c\] \* n\)"),
    (lambda: 3 - T, TypeError, r"cannot add int to a matrix of 2 × 2 blocks"),
    (lambda: np.ones((2, 2)) + T, TypeError, r"cannot add numpy.ndarray of shape \(2, 2\) to .*backsolve.matrix\(rows\)"),
    (lambda: T @ [1, 2, 3], ValueError, r"a matrix of 2 × 2 takes a vector of 2 blocks, got one of 3"),
    (lambda: OPS @ [np.ones(3), np.ones(4)], SpaceError, r"block 1 of the vector and column 1 .*: 3 against 4"),
    (lambda: solve(T, None), TypeError, r"solving with 2 × 2 takes a vector of 2 blocks, got NoneType; make one with"),
    (lambda: solve(T, (x for x in [1.0, 2.0])), TypeError, r"takes a vector of 2 blocks, got generator"),
    (lambda: solve(matrix([[np.ones((2, 3))]]), [np.ones(2)]), SingularError, r"row 0, .*has shape \(2, 3\), .* not square"),
    (lambda: solve(matrix([[np.ones((2, 2))]]), [np.ones(2)]), SingularError, r"row 0, .*shape \(2, 2\) is singular"),
    (lambda: solve(matrix([[1, 0], [0, 0]]), [1, 1]), SingularError, r"row 1 has nothing on the diagonal"),
    (lambda: substitute(matrix([[0, 0], [MinPlus(1), 0]]), [1, 2]), AlgebraError, r"cannot multiply .*MinPlus and int"),
    (lambda: multiply(MinPlus(1), Counting(1)), AlgebraError, r"cannot multiply .*MinPlus and .*Counting.*needs a product"),
    (
        lambda: multiply(np.ones((2, 3)), np.ones((2, 2))),
        ValueError,
        r"\(2, 3\) and .*\(2, 2\); check their shapes and the or",
    ),
    (lambda: multiply(jnp.ones((2, 3)), jnp.ones((2, 2))), AlgebraError, r"\(2, 3\) and .*\(2, 2\).*Check their shapes"),
    (lambda: eliminate(matrix([[1, 2]]), [0]), ValueError, r"nodes are eliminated from a square matrix, got 1 × 2 blocks"),
    (lambda: eliminate(L, ["a"]), ValueError, r"the order names node 'a', but the nodes are 0 to 1"),
    (lambda: left_mul(None), TypeError, r"left_mul takes an array of numbers, got None"),
    (lambda: left_mul([["a"]]), TypeError, r"left_mul takes an array of numbers, got \[\['a'\]\], of dtype <U1"),
    (lambda: left_mul(np.ones(3)), SpaceError, r"left_mul needs a matrix \(2 axes\), got an array of shape \(3,\)"),
    (lambda: left_mul(sp.eye_array(2)), TypeError, r"left_mul takes an array of numbers, got <scipy.dia_array of shape"),
    (lambda: left_mul(B), TypeError, r"left_mul takes an array of numbers, got \(2×2\)ᴸ"),
    (lambda: right_mul([[1, 2], [3]]), ValueError, r"right_mul takes an array of numbers.* rows differ in length"),
    (lambda: hadamard([1, None]), TypeError, r"hadamard takes an array of numbers, got \[1, None\], with None in it"),
    (lambda: hadamard(square), TypeError, r"hadamard takes an array of numbers, got <function>"),
    (lambda: tdot("a"), TypeError, r"tdot takes an array of numbers, got 'a'"),
    (lambda: kron(np.eye(2), None), TypeError, r"kron takes an array of numbers, got None"),
    (lambda: kron(np.eye(2), np.eye(2), names="A"), TypeError, r"names of kron are two, such as \('A', 'B'\), got 'A'"),
    (lambda: H @ np.ones(4), SpaceError, r"the domain of \(3\)ᴴ and the array do not match: 3 against 4"),
    (lambda: linear_map(3), TypeError, r"apply of linear_map must be a function, got 3"),
    (lambda: linear_map(square, "f"), TypeError, r"transpose_apply of linear_map must be a function, got 'f'"),
    (lambda: linear_map(square, None, -3), TypeError, r"the domain must be sizes such as \(3, 4\), with None for .* got -3"),
    (lambda: linear_map(square, None, (2.5,)), TypeError, r"the domain must be sizes .* got \(2.5,\)"),
    (lambda: linear_map(square, None, None, "ab"), TypeError, r"the codomain must be sizes .* got 'ab'"),
    (lambda: linear_map(square, None, [(3,), "a"]), TypeError, r"the domain must be sizes .* got 'a'"),
    (lambda: sparse([0], [0], [1.0], 2), TypeError, r"shape of a sparse matrix is that of rows and columns, .* got 2"),
    (lambda: sparse([0], [0], [1.0], (2.5, 2)), TypeError, r"the shape of a sparse matrix must be sizes .* got \(2.5, 2\)"),
    (lambda: sparse([0], [0], [1.0], (2, 2), domain="a"), TypeError, r"the domain must be sizes such as \(3, 4\), got 'a'"),
    (lambda: sparse([0], [0], ["a"], (2, 2)), TypeError, r"from_entries takes an array of numbers, got \['a'\]"),
    (lambda: sparse([0], [5], [1.0], (2, 2)), SpaceError, r"column 5 lies outside a sparse matrix of shape \(2, 2\)"),
    (lambda: SPARSE @ np.ones(2), SpaceError, r"shape \(2, 3\) multiplies arrays of shape \(3,\) or \(3, k\), got \(2,\)"),
    (lambda: SPARSE @ "a", TypeError, r"a product with a sparse matrix takes an array of numbers, got 'a'"),
    (lambda: SparseMatrix.from_operator(H), TypeError, r"takes a sparse operator, got \(3\)ᴴ.*as_sparse makes one"),
    (
        lambda: SparseMatrix(None, None, (), ()),
        TypeError,
        r"SparseMatrix wraps a Pattern, got None; use SparseMatrix.from_e",
    ),
]

DERIVED = [
    (lambda: bs.grad(None)(X), TypeError, r"expected a function of JAX arrays, got None"),
    (lambda: bs.grad(square)("a"), TypeError, r"leaf 0, is 'a' of type str, not an array"),
    (lambda: bs.grad(square, argnums=1)(X), ValueError, r"argnums 1 is out of range: square is called with 1 positional"),
    (lambda: bs.grad(jnp.sin)(X), TypeError, r"needs a function with a scalar output, but sin returns shape \(3,\); reduce"),
    (lambda: bs.grad(square)(jnp.arange(3)), TypeError, r"leaf 0 of the arguments has dtype int32.*allow_int=True"),
    (lambda: bs.jvp(square, X, X), TypeError, r"primals and tangents of jvp must be tuples or lists"),
    (lambda: bs.jvp(jnp.sin, (X,), (X[:2],)), ValueError, r"tangents for sin, leaf 0: shape \(2,\) .* shape \(3,\)"),
    (lambda: bs.jacobian(jnp.sin, format="dense")(X), ValueError, r"unknown format 'dense'; use one of 'array', 'operator'"),
    (lambda: bs.jacobian(jnp.sin, order="frward")(X), ValueError, r"unknown order 'frward'; use one of 'auto', 'forward'"),
    (lambda: bs.jacobian(jnp.sin, order=[7])(X), ValueError, r"the order names node 7, but the nodes are 0 to 0"),
    (lambda: bs.jacobian(lambda x: jnp.zeros(2), order=[0])(X), ValueError, r"the order names node 0, but there are none"),
    (lambda: bs.jacobian(jnp.sin, order=bs.plan(square, X))(X), ValueError, r"the plan was made for a system with"),
    (lambda: bs.plan(square, X, search="x"), ValueError, r"search is a time in seconds, zero or more, got 'x'"),
    (lambda: bs.plan(square, X, search=[1]), ValueError, r"search is a time in seconds, zero or more, got \[1\]"),
    (lambda: bs.plan(square, X, search=True), ValueError, r"search is a time in seconds, zero or more, got True"),
    (lambda: make_plan(HAND.network(), 3), ValueError, r"unknown order 3; use one of"),
    (lambda: bs.solve_jacobian(square, X, 1.0), ValueError, r"1 rows and 3 columns.*gauss_newton"),
    (lambda: bs.solve_jacobian(jnp.sin, X, X, engine="x"), ValueError, r"unknown engine 'x'; use one of 'auto', 'superlu'"),
    (lambda: bs.inverse_hvp(square, (), X), TypeError, r"a tuple or list of one argument or more, got none"),
    (lambda: bs.inverse_hvp(square, X, X), TypeError, r"a tuple or list of one argument or more, got ArrayImpl"),
    (lambda: bs.inverse_hvp(product, (X, X), None), TypeError, r"a part for each of the 2 primals, got NoneType"),
    (lambda: bs.inverse_hvp(product, (X, X), X), TypeError, r"a part for each of the 2 primals, got .* of shape \(3,\)"),
    (lambda: bs.inverse_hvp(product, (X, X), (X,)), TypeError, r"a part for each of the 2 primals, got 1 parts"),
    (lambda: System(T, L, matrix([[1.0]])), ValueError, r"a system needs M .* got M 2 × 2, L 2 × 2, sinks 1 × 1"),
]


COUNT = itertools.count()


def primitive(register):
    """A use of a fresh primitive x ↦ 2 x, whose rule is made by ``register(primitive)``."""
    p = Primitive(f"wrong_{next(COUNT)}")
    p.def_impl(lambda x: 2 * x)
    p.def_abstract_eval(lambda x: ShapedArray(x.shape, x.dtype))
    mlir.register_lowering(p, mlir.lower_fun(lambda x: 2 * x, multiple_results=False))
    register(p)
    return p


def used(edge):
    """Differentiate a primitive with this rule."""
    bs.vjp(primitive(lambda p: extend.rule(p, edge)).bind, X)


def used_partial(partial):
    """Differentiate an entrywise primitive with this partial derivative."""
    bs.vjp(primitive(lambda p: extend.elementwise(p, partial)).bind, X)


EXTENDED = [
    (
        lambda: extend.elementwise(None, jnp.cos),
        TypeError,
        r"a rule is given to a primitive of JAX or to its name, got None",
    ),
    (lambda: extend.linear(""), TypeError, r"a primitive of JAX or to its name, got ''"),
    (lambda: extend.rule(jnp.sin, lambda eq, k: None), TypeError, r"a primitive of JAX or to its name, got <.*PjitFunction"),
    (lambda: extend.elementwise("wrong"), TypeError, r"elementwise takes a function for each operand, .* got none"),
    (lambda: extend.elementwise("wrong", jnp.cos, 3), TypeError, r"elementwise takes a function for each operand.*, 3"),
    (lambda: extend.linear("wrong", 3), TypeError, r"operands of linear are the numbers of some, such as \(0, 1\), got 3"),
    (lambda: extend.linear("wrong", (-1,)), TypeError, r"operands of linear are .* got \(-1,\)"),
    (lambda: extend.linear("wrong", ()), TypeError, r"operands of linear are .* got \(\)"),
    (lambda: extend.rule("wrong", None), TypeError, r"rule takes a function edge\(eq, k\), got None"),
    (lambda: used(lambda eq, k: 2.0), TypeError, r"the rule of wrong_\d+ returns float for operand 0; it must return an op"),
    (lambda: used(lambda eq, k: jnp.ones(3)), TypeError, r"the rule of wrong_\d+ returns .* of shape \(3,\) for operand 0"),
    (
        lambda: used(lambda eq, k: hadamard(jnp.ones(4))),
        SpaceError,
        r"the rule of wrong_\d+ and its operand 0 .* 4 against 3",
    ),
    (lambda: used(lambda eq, k: tdot(jnp.ones(3))), SpaceError, r"the codomain of the rule of .* and the output .*scalar"),
    (lambda: used(lambda eq, k: extend.dense(eq, k, None)), ValueError, r"must have shape \(3, 3\), got NoneType"),
    (lambda: used(lambda eq, k: extend.dense(eq, 5, jnp.eye(3))), ValueError, r"1 operands, .* none with the number 5"),
    (lambda: used_partial(lambda x, y: None), ValueError, r"of wrong_\d+ by operand 0 must be a number or .* got NoneType"),
    (lambda: used_partial(lambda x, y: "a"), ValueError, r"a number or an array of shape \(3,\), got str"),
    (lambda: used_partial(lambda x, y: jnp.ones(7)), ValueError, r"an array of shape \(3,\), got .* of shape \(7,\)"),
]

TESTED = [
    (lambda: testing.check_operator(None), TypeError, r"check_operator takes a LinearOperator, got NoneType"),
    (lambda: testing.check_operator(T), TypeError, r"check_operator takes a LinearOperator, got backsolve.OperatorMatrix"),
    (lambda: testing.check_operator(B, (2, -1)), TypeError, r"the domain of check_operator must be sizes .* got \(2, -1\)"),
    (lambda: testing.check_operator(B, "a"), TypeError, r"the domain of check_operator must be sizes .* got 'a'"),
    (lambda: testing.check_operator(H, rtol="a"), ValueError, r"rtol must be a number from zero on, got 'a'"),
    (lambda: testing.check_operator(H, rtol=-1), ValueError, r"rtol must be a number from zero on, got -1"),
    (lambda: testing.check_grad(square, X), TypeError, r"args of check_grad are a tuple or list of arguments, got .*\(3,\)"),
    (lambda: testing.check_grad(square, 1.0), TypeError, r"args of check_grad are a tuple or list of arguments, got float"),
    (lambda: testing.check_grad(square, ("a",)), TypeError, r"the arguments of a check are arrays and numbers, got 'a'"),
    (lambda: testing.check_grad(square, (3,)), ValueError, r"square has no floating-point input .* nothing to check"),
    (lambda: testing.check_grad(jnp.argmax, (X,)), ValueError, r"argmax has no floating-point output .* nothing to check"),
    (lambda: testing.check_grad(square, (X,), step=0), ValueError, r"step must be a number above zero, got 0"),
    (lambda: testing.check_grad(square, (X,), rtol=None), ValueError, r"rtol must be a number from zero on, got None"),
    (
        lambda: testing.check_grad(square, (X,), directions=0),
        ValueError,
        r"directions must be a whole number above zero, got 0",
    ),
    (lambda: testing.check_grad(square, (X,), directions=2.5), ValueError, r"a whole number above zero, got 2.5"),
    (lambda: testing.check_grad(square, (X * jnp.nan,)), AssertionError, r"square is not finite at these arguments"),
    (lambda: testing.check_rule(jax.lax.sin_p), TypeError, r"check_rule needs the arguments at which sin is checked"),
    (lambda: testing.check_rule(jnp.sin, 3), ValueError, r"sin has no floating-point input here"),
    (lambda: testing.check_rule(jnp.sin, X, rtol="a"), ValueError, r"rtol must be a number from zero on, got 'a'"),
]


def named(rows):
    return pytest.mark.parametrize(
        ("call", "error", "message"), [pytest.param(*line, id=f"{line[1].__name__}: {line[2]}") for line in rows]
    )


@named([*GRAPHS, *BUILT, *USED])
def test_matrices_and_operators(call, error, message):
    told(call, error, message)


@named([*DERIVED, *EXTENDED, *TESTED])
def test_derivatives_rules_and_checks(call, error, message):
    told(call, error, message)


SHOWN = [
    (
        lambda here: HAND.show(here / "no" / "x.html"),
        FileNotFoundError,
        r"cannot write '.*x.html': there is no folder '.*no'",
    ),
    (lambda here: G.save(here / "no" / "x.svg"), FileNotFoundError, r"there is no folder '.*no'; make it first"),
    (lambda here: T.spy(here / "no" / "x.png"), FileNotFoundError, r"there is no folder '.*no'; make it first"),
    (lambda here: G.save(None), TypeError, r"path is the name of a file, got None"),
    (lambda here: G.show(3), TypeError, r"path is the name of a file, got 3"),
    (
        lambda here: G.save(here / "x.svg", order=["b"]),
        ValueError,
        r"order is what a page steps through, but 'x.svg' is none",
    ),
    (lambda here: G.show(here / "x.html", order=3), ValueError, r"unknown order 3; use 'forward', 'reverse'"),
    (
        lambda here: G.show(here / "x.html", order=[["b"]]),
        ValueError,
        r"the order names \['b'\], which is none of the 1 nodes",
    ),
    (lambda here: T.show(here / "x.html", order=[0]), ValueError, r"the order names 0, which is none of the 0 nodes"),
    (
        lambda here: HAND.show(here / "x.html", order=bs.plan(square, X)),
        ValueError,
        r"the plan was made for a system with .* make one with backsolve.plan",
    ),
    (
        lambda here: HAND.show(here / "x.html", names="a"),
        ValueError,
        r"names must hold one name for each of the 1 .* got 'a'",
    ),
    (lambda here: HAND.show(here / "x.html", names=3), ValueError, r"one name for each of the 1 sources, got 3"),
    (
        lambda here: G.show(here / "x.html", names=["a"]),
        ValueError,
        r"names are those of the sources of a System, .* a Graph",
    ),
    (lambda here: G.show(here / "x.html", title=3), TypeError, r"title must be text, got 3"),
    (
        lambda here: show(None, here / "x.html"),
        TypeError,
        r"show takes a System, a Graph, an OperatorMatrix or a Plan, got N",
    ),
    (lambda here: save(np.eye(2), here / "x.svg"), TypeError, r"show takes a System, .* got ndarray"),
    (lambda here: to_dot("a"), TypeError, r"show takes a System, .* got str"),
    (lambda here: spy(3), TypeError, r"spy takes a System, a Graph, an OperatorMatrix or a SparseMatrix, got int"),
]


@named(SHOWN)
def test_pages_and_pictures(call, error, message, tmp_path):
    told(lambda: call(tmp_path), error, message)
    assert list(tmp_path.iterdir()) == []  # no folder is left behind, and no file


def test_it_is_said_which_row_or_node_an_element_fails_in():
    """Beside the message, so that elements are multiplied without asking where they stand."""
    odd = Graph({("a", "b"): np.ones((2, 3)), ("b", "c"): np.ones((2, 2))})
    error = told(lambda: odd.path_weights("a", "c"), ValueError, r"cannot multiply .*\(2, 3\) and .*\(2, 2\)")
    assert error.__notes__ == ["This was in 'a'."]
    error = told(lambda: odd.path_weights("a", "c", order=["b"]), ValueError, r"cannot multiply")
    assert error.__notes__ == ["This was on the way through 'b' to 'a'."]


def test_an_error_of_an_elements_own_code_is_kept():
    with pytest.raises(AlgebraError, match=r"cannot multiply .*Lonely and int: I multiply nothing") as caught:
        multiply(Lonely(), 3)
    assert isinstance(caught.value.__cause__, TypeError)


def test_what_only_looks_wrong_is_taken():
    assert Graph(((u, v), 1) for u, v in [(1, 2)]).path_weights(1, 2) == 1
    assert np.isnan(Graph({(1, 2): float("nan"), (2, 3): 2.0}).path_weights(1, 3))
    assert matrix(np.eye(2)).shape == matrix(r for r in [[1, 0], [0, 1]]).shape == (2, 2)
    assert from_entries([[[0, 0], 1], [(np.int64(1), 1), 2]], (np.int64(2), 2)).entries == {(0, 0): 1, (1, 1): 2}
    assert linear_map(lambda x: x, None, np.int64(3), [(2, None), (...,)]).domain.shape == (3,)
    assert isinstance(matrix([[Minimal(np.eye(2))]])[0, 0], Minimal)
    assert hadamard(np.array([1, 2], dtype=object)).domain.shape == (2,)
    assert hadamard(jnp.ones(2, jnp.bfloat16)).domain.shape == hadamard(np.asarray(jnp.ones(2, jnp.bfloat16))).domain.shape


# ---- the command line ------------------------------------------------------------------------------------------------
PROGRAM = """
import jax.numpy as jnp

number = 3

def loss(x):
    return jnp.sum(jnp.sin(x) ** 2)

def product(x, y):
    return x @ y

def refuses(x):
    raise ValueError("x must be\\n positive")

def leaves(x):
    raise SystemExit(5)

def text(x):
    return "a"

def default(x=1.0):
    return x

class Net:
    def loss(self, x):
        return x
"""
FILES = {
    "wrong_program.py": PROGRAM,
    "wrong_syntax.py": "import math\ndef f(x:\n    return x\n",
    "wrong_import.py": "import no_such_module_of_ours\n",
    "wrong_name.py": "from math import no_such_name\n",
    "wrong_raise.py": "import math\n\nraise RuntimeError('no configuration')\n",
    "wrong_exit.py": "import sys\nsys.exit(3)\n",
    "wrong_bytes.py": "\0",
}
P = "wrong_program.py"
BOTH = [
    (["wrong_syntax.py:f"], r"'wrong_syntax.py' cannot be imported: SyntaxError: '\(' was never closed, at .*syntax.py:2"),
    (["wrong_syntax:f"], r"module 'wrong_syntax' cannot be imported: SyntaxError: .*, at .*wrong_syntax.py:2"),
    (["wrong_import.py:f"], r"ModuleNotFoundError: No module named 'no_such_module_of_ours', at .*wrong_import.py:1"),
    (["wrong_name.py:f"], r"ImportError: cannot import name 'no_such_name' from 'math' .*, at .*wrong_name.py:1"),
    (["wrong_raise.py:f"], r"'wrong_raise.py' cannot be imported: RuntimeError: no configuration, at .*wrong_raise.py:3"),
    (["wrong_exit.py:f"], r"'wrong_exit.py' cannot be imported: SystemExit: 3, at .*wrong_exit.py:2"),
    (
        ["wrong_bytes.py:f"],
        r"'wrong_bytes.py' cannot be imported: (Syntax|Value)Error: source code string cannot contain null bytes",
    ),
    ([".relative:f"], r"a module is named from its outermost package on, got '.relative'"),
    ([f"{P}:number.x"], rf"{P}:number has no function 'x'; it has none"),
    ([f"{P}:loss.x"], rf"{P}:loss has no function 'x'; it has none"),
    ([f"{P}:Net.loss"], rf"{P}:Net.loss is a method; name that of an instance, it.loss with it = Net\(\)"),
    ([f"{P}:loss", "--shape", "x=3", "x=4"], r"--shape names 'x' twice: '3' and '4'"),
    ([f"{P}:loss", "--shape", "x=3,,4"], r"the shape of 'x' must be whole numbers such as 3,4, got '3,,4'"),
    (
        [f"{P}:loss", "--shape", "x=1000000,1000000,1000000"],
        r"x : float32\[.*\] is too large: to make it takes 12,0.* bytes",
    ),
    ([f"{P}:loss", "--shape", f"x={10**30}"], r"is too large: to make it takes [\d,]+ bytes, and [\d,]+ are available"),
    ([f"{P}:loss", "--dtype", "str"], r"there is no dtype 'str'; use float32"),
    ([f"{P}:default"], r"no input of default can be varied: .* one with a default is varied if --shape names it"),
    (
        [f"{P}:product", "--shape", "x=3,4", "y=3,4"],
        r"x : float32\[3×4\], y : float32\[3×4\]: TypeError: .*, at .*program.py:10",
    ),
    ([f"{P}:refuses"], r"cannot be linearized .*: ValueError: x must be positive, at .*wrong_program.py:13. Other inputs"),
    ([f"{P}:leaves"], r"cannot be linearized .*: SystemExit: 5, at .*wrong_program.py:16"),
    ([f"{P}:text"], r"TypeError: function text at .*wrong_program.py:18 .* not a valid JAX type"),
]
COMMANDS = [
    *(([command, *rest], message) for command in ("explain", "show") for rest, message in BOTH),
    (["show", f"{P}:loss", "-o", "no/deeper/x.html"], r"cannot write 'no/deeper/x.html': there is no folder 'no/deeper'"),
    (["show", f"{P}:loss", "-o", f"{P}/x.html"], r"there is no folder 'wrong_program.py'; make it first"),
    (["show", f"{P}:loss", "-o", f"{'x' * 300}.html"], r"cannot write 'x*.html': File name too long"),
    (["show", f"{P}:loss", "--order", "7", "-o", "x.html"], r"the order names 7, which is none of the"),
    (["show", f"{P}:loss", "--order", "auto", "-o", "x.svg"], r"order is what a page steps through, but 'x.svg' is none"),
    (["demo", "-o", "no/deeper"], r"cannot write 'no/deeper': No such file or directory"),
    (["demo", "-o", P], r"cannot write 'wrong_program.py': File exists"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.parametrize(("arguments", "message"), COMMANDS, ids=lambda part: part if isinstance(part, str) else None)
def test_command_line(arguments, message, folder, capsys):
    """One line on stderr, exit status 2, nothing written."""
    before = {path for path in folder.iterdir() if path.name != "__pycache__"}
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"backsolve {arguments[0]}: ")
    assert re.search(message, err)
    assert {path for path in folder.iterdir() if path.name != "__pycache__"} == before


def test_the_exception_of_a_users_file_is_kept_for_python(folder):
    with pytest.raises(ExplainError, match="wrong_raise") as caught:
        find_function("wrong_raise.py:f")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_64_bits_by_any_name_are_kept():
    with wide_enough(["x=f8"]):
        assert make_inputs(square, [], ["x=f8"]).arguments[0].dtype == np.float64


FOREIGN = (
    np.array([1, None, 2], object),
    np.array(["a", "b"]),
    np.array(["2020-01-01"], "datetime64[D]"),
    np.arange(3.0).astype(np.longdouble),
)


@pytest.mark.parametrize("x", FOREIGN, ids=lambda x: str(x.dtype))
@pytest.mark.parametrize("format", ["array", "operator", "sparse", "scipy"])
def test_arrays_of_what_jax_has_none_of(format, x):
    """An error that names the argument; where it is not differentiated by, it is the function's to read, whenever called."""
    if x.dtype == np.float64:
        pytest.skip("long numbers are double ones here")
    with pytest.raises(TypeError, match=r"argument 1 of line, leaf 0, is array\(.* of type ndarray, not an array"):
        bs.jacobian(line, argnums=1, format=format)(2.0, x)
    J = bs.jacobian(lambda y, x: y * x.size, format=format)
    for given in (x, x.copy()):
        found = J(np.ones(2), given)
        np.testing.assert_array_equal(
            np.asarray(
                found.todense() if format in ("operator", "sparse") else found.toarray() if format == "scipy" else found
            ),
            x.size * np.eye(2),
        )


def line(t, y):
    return t * y
