"""The paper, section by section: every worked case and identity of `paper.md` by name.

Oracles: matrices of SymPy, NumPy's kron on column-major vec, jax.grad in float64, finite differences.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

import backsolve as bs
from backsolve import (
    Graph,
    I,
    O,
    OperatorMatrix,
    diagonal,
    hadamard,
    kron,
    left_mul,
    matrix,
    right_mul,
    row,
    solve,
    substitute,
    tdot,
    vector,
)
from tests import reference

RNG = np.random.default_rng(0)


def symbols(names):
    return sympy.symbols(names, commutative=False)


def vec(X):
    """Stack the columns."""
    return np.asarray(X).reshape(-1, order="F")


def on_vec(op, domain):
    """The matrix of an operator on column-major vec, column by column."""
    columns = []
    for j in range(int(np.prod(domain))):
        e = np.zeros(int(np.prod(domain)))
        e[j] = 1
        columns.append(vec(op @ e.reshape(domain, order="F")))
    return np.stack(columns, axis=1)


# ---- section 1: path weights in a DAG -----------------------------------------------------------------------------
def five_nodes():
    a, b, c, d = symbols("a b c d")
    return (a, b, c, d), Graph({(1, 3): a, (2, 3): b, (3, 4): c, (4, 5): d})


@pytest.mark.parametrize("order", ["auto", "reverse", "forward", (3, 4), (4, 3)])
def test_case_1_path_weights(order):
    (a, b, c, d), graph = five_nodes()
    assert graph.path_weights(sink=5, order=order) == {1: a * c * d, 2: b * c * d}
    assert graph.path_weights(order=order) == {(1, 5): a * c * d, (2, 5): b * c * d}
    assert graph.path_weights(source=2, order=order) == {5: b * c * d}
    assert graph.path_weights(source=1, sink=5, order=order) == a * c * d


def lt_of(graph):
    """Lᵀ as a matrix of SymPy, in the graph's order."""
    n = len(graph.nodes)
    return sympy.Matrix(n, n, lambda i, j: graph.matrix().entries.get((i, j), 0))


def case_1_matrix():
    (a, b, c, d), graph = five_nodes()
    names = list(graph.nodes)
    entries = {(u - 1, v - 1): graph.matrix()[names.index(u), names.index(v)] for u, v in [(1, 3), (2, 3), (3, 4), (4, 5)]}
    return (a, b, c, d), OperatorMatrix.from_entries(entries, (5, 5))


def test_case_1_last_column_is_the_backward_pass():
    (a, b, c, d), Lt = case_1_matrix()
    column = solve(I - Lt, [O, O, O, O, I])
    assert [sympy.expand(x) for x in column[:4]][::-1] == [d, c * d, b * c * d, a * c * d]
    last = {i: x for (i, j), x in (I - Lt).inverse().entries.items() if j == 4}
    assert {i: last[i] for i in range(4)} == {3: d, 2: c * d, 1: b * c * d, 0: a * c * d}


def test_case_1_first_rows_are_the_forward_pass():
    (a, b, c, d), Lt = case_1_matrix()
    inverse = (I - Lt).inverse()
    assert [inverse[0, j] for j in (2, 3, 4)] == [a, a * c, a * c * d]
    assert [inverse[1, j] for j in (2, 3, 4)] == [b, b * c, b * c * d]
    assert inverse[0, 1] is O


def test_case_1_backward_pass_has_one_multiplication_fewer():
    products = []

    class Counted:
        def __init__(self, value):
            self.value = value

        def __add__(self, other):
            return Counted(self.value + other.value)

        def __mul__(self, other):
            products.append((self.value, other.value))
            return Counted(self.value * other.value)

    a, b, c, d = (Counted(p) for p in (2, 3, 5, 7))
    Lt = OperatorMatrix.from_entries({(0, 2): a, (1, 2): b, (2, 3): c, (3, 4): d}, (5, 5))
    x = substitute(Lt, [O, O, O, O, I])
    assert (x[0].value, x[1].value) == (2 * 5 * 7, 3 * 5 * 7)
    backward = len(products)
    products.clear()
    graph = Graph({(1, 3): a, (2, 3): b, (3, 4): c, (4, 5): d})
    assert {k: w.value for k, w in graph.path_weights(sink=5, order="forward").items()} == {1: 70, 2: 105}
    assert (backward, len(products)) == (3, 4)


def complete_dag():
    a1, b1, c1, b2, c2, c3 = symbols("a1 b1 c1 b2 c2 c3")
    edges = {(1, 2): a1, (1, 3): b1, (1, 4): c1, (2, 3): b2, (2, 4): c2, (3, 4): c3}
    return (a1, b1, c1, b2, c2, c3), Graph(edges)


def test_case_2_powers_of_Lt_count_the_k_edge_paths():
    (a1, b1, _, b2, c2, c3), graph = complete_dag()
    assert graph.nodes == (1, 2, 3, 4)
    Lt = graph.matrix()
    square, cube = Lt @ Lt, Lt @ Lt @ Lt
    assert square.entries == {(0, 2): a1 * b2, (0, 3): a1 * c2 + b1 * c3, (1, 3): b2 * c3}
    assert cube.entries == {(0, 3): a1 * b2 * c3}
    assert not (cube @ Lt).entries  # nilpotent
    assert lt_of(graph) ** 2 == sympy.Matrix(4, 4, lambda i, j: square.entries.get((i, j), 0))


@pytest.mark.parametrize("order", ["reverse", "forward", (2, 3), (3, 2)])
def test_case_2_path_weight(order):
    (a1, b1, c1, b2, c2, c3), graph = complete_dag()
    weight = graph.path_weights(source=1, sink=4, order=order)
    assert sympy.expand(weight) == c1 + a1 * c2 + b1 * c3 + a1 * b2 * c3


def test_case_2_inverse_is_the_sum_of_the_powers():
    _, graph = complete_dag()
    Lt = graph.matrix()
    series = Lt + Lt @ Lt + Lt @ Lt @ Lt
    inverse = (I - Lt).inverse()
    for i, j in itertools.combinations(range(4), 2):
        assert sympy.expand(inverse[i, j]) == sympy.expand(series[i, j])


def test_case_3_one_more_edge_changes_only_the_right_hand_side():
    (a1, b1, c1, b2, c2, c3), graph = complete_dag()
    w = sympy.Symbol("w", commutative=False)
    longer = Graph({(1, 2): a1, (1, 3): b1, (1, 4): c1, (2, 3): b2, (2, 4): c2, (3, 4): c3, (4, 5): w})
    x = solve(I - graph.matrix(), [0, 0, 0, w])  # the system keeps its size
    for node in (1, 2, 3, 4):
        weight = longer.path_weights(source=node, sink=5)
        assert sympy.expand(x[node - 1]) == sympy.expand(weight)


def test_without_a_topological_numbering_a_permutation_gives_one():
    entries = {(2, 0): 2, (0, 3): 3, (3, 1): 5}  # 2 → 0 → 3 → 1
    A = I - OperatorMatrix.from_entries(entries, (4, 4))
    assert solve(A, [0, 1, 0, 0]) == [15, 1, 30, 5]


# ---- section 2: derivatives are path weights ----------------------------------------------------------------------
def scalar_net():
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal(4), rng.standard_normal(4)
    x0, target = 0.7, 0.3

    def loss(params, xp=np):
        x = x0
        for i in range(4):
            x = xp.tanh(params[2 * i] * x + params[2 * i + 1])
        return (x - target) ** 2

    xs, deltas = [x0], []
    for wi, bi in zip(w, b):
        z = wi * xs[-1] + bi
        xs.append(np.tanh(z))
        deltas.append(1 - np.tanh(z) ** 2)
    M = diagonal([row([d * x, d]) for d, x in zip(deltas, xs)])
    L = OperatorMatrix.from_entries({(i, i - 1): deltas[i] * w[i] for i in range(1, 4)}, (4, 4))
    g = vector([0.0, 0.0, 0.0, 2 * (xs[-1] - target)])
    return np.stack([w, b], axis=1).ravel(), loss, M, L, g


def test_scalar_net_formula_1_against_jax_and_finite_differences():
    params, loss, M, L, g = scalar_net()
    assert (M.shape, L.shape) == ((4, 8), (4, 4))
    assert all(i == j + 1 for i, j in L.entries)  # the subdiagonal
    gradient = np.array(M.T @ solve(I - L.T, g))
    with jax.enable_x64(True):
        expected = reference.grad(lambda p: loss(p, jnp))(jnp.asarray(params))
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)
    h = 1e-6
    differences = [(loss(params + h * e) - loss(params - h * e)) / (2 * h) for e in np.eye(8)]
    np.testing.assert_allclose(gradient, differences, rtol=1e-7, atol=1e-9)


def test_scalar_net_forward_substitution_is_the_directional_derivative():
    params, loss, M, L, g = scalar_net()
    dp = np.random.default_rng(2).standard_normal(8)
    dx = solve(I - L, M @ dp)
    h = 1e-6
    change = (loss(params + h * dp) - loss(params - h * dp)) / (2 * h)
    assert g[3] * dx[3] == pytest.approx(change, rel=1e-8)


# ---- section 3: operators as elements -----------------------------------------------------------------------------
A, B, W, H, G = (RNG.standard_normal(s) for s in [(2, 4), (5, 3), (3, 3), (3, 4), (3, 4)])
R = RNG.standard_normal((4, 2))
X = RNG.standard_normal((3, 4))
TABLE = {  # name: operator, the map, the matrix on vec(X), the adjoint
    "kronecker": (kron(A, B), B @ X @ A.T, np.kron(A, B), kron(A.T, B.T)),
    "left multiplication": (left_mul(B), B @ X, np.kron(np.eye(4), B), left_mul(B.T)),
    "right multiplication": (right_mul(R), X @ R, np.kron(R.T, np.eye(3)), right_mul(R.T)),
    "hadamard": (hadamard(H), H * X, np.diag(vec(H)), hadamard(H)),
    "inner product": (tdot(G), np.trace(G.T @ X), vec(G)[None, :], None),
    "identity": (I, X, np.eye(12), I),
}


@pytest.mark.parametrize("name", TABLE)
def test_table_of_operators(name):
    op, image, on_columns, adjoint = TABLE[name]
    np.testing.assert_allclose(op @ X, image, rtol=1e-13)
    np.testing.assert_allclose(on_vec(op, (3, 4)), on_columns, rtol=1e-13)
    Y = np.random.default_rng(3).standard_normal(np.shape(image))
    assert np.sum((op @ X) * Y) == pytest.approx(np.sum(X * (op.T @ Y)), rel=1e-12)
    if adjoint is not None:
        np.testing.assert_allclose(op.T @ Y, adjoint @ Y, rtol=1e-13)
    np.testing.assert_allclose(on_vec(op.T, np.shape(image)), on_columns.T, rtol=1e-13)


def test_table_zero():
    zero = O.refine(bs.operators.ArraySpace((3, 4)), bs.operators.ArraySpace((2, 2)))
    np.testing.assert_array_equal(zero @ X, np.zeros((2, 2)))
    np.testing.assert_array_equal(zero.T @ np.ones((2, 2)), np.zeros((3, 4)))
    assert O.T is O or isinstance(O.T, type(O))


def test_adjoint_of_the_inner_product_takes_s_to_s_G():
    np.testing.assert_allclose(tdot(G).T @ 2.5, 2.5 * G)
    np.testing.assert_allclose((matrix([[tdot(G).T]]) @ vector([2.5]))[0], 2.5 * G)


@pytest.mark.parametrize("op", [hadamard(H), left_mul(W), right_mul(RNG.standard_normal((4, 4))), kron(A[:, :4], W)])
def test_transpose_dot_law(op):
    """(𝓛ᵀ G)^{T•} = G^{T•} 𝓛."""
    cotangent = np.random.default_rng(4).standard_normal((op @ X).shape)
    left, right = tdot(op.T @ cotangent), tdot(cotangent) @ op
    assert float(left @ X) == pytest.approx(float(right @ X), rel=1e-12)
    np.testing.assert_allclose(on_vec(left, (3, 4)), on_vec(right, (3, 4)), rtol=1e-12)


def test_transpose_dot_turns_the_row_of_operators_inside_out():
    rng = np.random.default_rng(5)
    D1, D2, D3, g = (rng.standard_normal((3, 4)) for _ in range(4))
    W2, W3, X0 = rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal((2, 4))
    row_of_operators = tdot(g) @ hadamard(D3) @ left_mul(W3) @ hadamard(D2) @ left_mul(W2) @ hadamard(D1) @ right_mul(X0)
    backward = right_mul(X0.T) @ hadamard(D1) @ left_mul(W2.T) @ hadamard(D2) @ left_mul(W3.T) @ hadamard(D3) @ g
    by_hand = (D1 * (W2.T @ (D2 * (W3.T @ (D3 * g))))) @ X0.T
    np.testing.assert_allclose(backward, by_hand, rtol=1e-12)
    dW = rng.standard_normal((3, 2))
    assert float(row_of_operators @ dW) == pytest.approx(np.sum(by_hand * dW), rel=1e-12)
    assert float(tdot(backward) @ dW) == pytest.approx(np.sum(by_hand * dW), rel=1e-12)
