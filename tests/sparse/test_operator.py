"""The sparse kind: its laws, what it gives together with the others, and that it stays lazy, traced and cheap."""

from collections import Counter
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backsolve import I, O, SpaceError, hadamard, left_mul, linear_map, tdot
from backsolve.operators import ArraySpace, Einsum, Identity, Product, Scaling, Sum, Zero, einsum
from backsolve.operators.einsum import quotient
from backsolve.operators.moves import Reshape, Slice
from backsolve.sparse.lazy_values import Combination, LazyValues
from backsolve.sparse.materialize import combine, take
from backsolve.sparse.operator import Sparse, as_sparse, sparse
from backsolve.sparse.pattern import PatternTooLargeError
from backsolve.testing import check_operator

from ..zoo import NAMES, zoo

KINDS = ["numpy", "jax", "ones", "number", "integers"]
RNG = np.random.default_rng(3)


@st.composite
def operators(draw, m=None, n=None):
    """A sparse operator with data of some kind, and its matrix."""
    m, n = (draw(st.integers(1, 5)) if size is None else size for size in (m, n))
    places = draw(st.lists(st.integers(0, m * n - 1), max_size=12, unique=draw(st.booleans())))
    rows, cols = np.divmod(np.array(places, int), n)
    kind = draw(st.sampled_from(KINDS))
    numbers = np.random.default_rng(draw(st.integers(0, 9))).standard_normal(len(places))
    if kind in ("ones", "number"):
        numbers = np.full(len(places), 1.0 if kind == "ones" else -2.5)
    if kind == "integers":
        numbers = np.round(numbers * 3)
    data = {"numpy": numbers, "jax": jnp.asarray(numbers), "ones": None, "number": -2.5, "integers": numbers.astype(int)}[
        kind
    ]
    dense = np.zeros((m, n))
    np.add.at(dense, (rows, cols), numbers)
    return sparse(rows, cols, data, (n,), (m,)), dense


def close(got, want):
    got = np.asarray(got)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-6 if got.dtype == np.float32 else 1e-12, rtol=1e-5)


# ---- laws ------------------------------------------------------------------------------------------------------------
@settings(max_examples=25)
@given(operators())
def test_every_operator_passes_the_checker(pair):
    op, dense = pair
    close(op.todense(), dense)
    check_operator(op, rtol=1e-5)
    close(op.data, dense[op.rows, op.cols])
    close(op.T.todense(), dense.T)
    if op.domain == op.codomain:
        close(op.diagonal(), np.diag(dense))


@settings(max_examples=25)
@given(st.data())
def test_products_sums_and_multiples(data):
    a, da = data.draw(operators())
    b, db = data.draw(operators(m=da.shape[1]))
    c, dc = data.draw(operators(m=db.shape[1]))
    e, de = data.draw(operators(*da.shape))
    x = np.random.default_rng(0).standard_normal(db.shape[1])
    assert all(isinstance(op, Sparse) for op in (a @ b, a + e, 3 * a, a.T, -a))
    close((a @ b).todense(), da @ db)
    close(((a @ b) @ c).todense(), (a @ (b @ c)).todense())
    assert ((a @ b) @ c).pattern == (a @ (b @ c)).pattern
    close((a + e).todense(), da + de)
    close((a + e + a).todense(), 2 * da + de)
    close((a - a).todense(), 0 * da)
    close((a @ b) @ x, da @ db @ x)
    close((a + e).T @ x[:0] if not da.shape[0] else (a + e).T @ np.ones(da.shape[0]), (da + de).T.sum(axis=1))
    close((jnp.float32(2.0) * a).todense(), 2 * da)
    close((a * np.float64(0.5)).todense(), da / 2)
    close(((a + e) @ b @ c).T.todense(), ((da + de) @ db @ dc).T)


@settings(max_examples=25)
@given(operators())
def test_complex_data_and_adjoints(pair):
    op, dense = pair
    op, dense = op.scaled(1 + 2j), dense * (1 + 2j)
    op = Sparse(op.pattern, LazyValues.of(np.asarray(op.data, complex), op.nnz), op.domain, op.codomain)
    check_operator(op, complex_values=True, rtol=1e-5)
    close(op.H.todense(), dense.conj().T)
    close(op.conj().todense(), dense.conj())


# ---- the other kinds --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_the_zoo_as_sparse(name):
    case = zoo()[name]
    op = case.op.refine(ArraySpace(case.domain), ArraySpace(case.codomain))
    made = as_sparse(op)
    if name in ("linear map", "user's own", "lazy product", "lazy sum"):
        assert made is None
        return
    close(made.todense(), case.dense)
    check_operator(made)
    deltas = ("identity", "zero", "transpose", "sum", "broadcast", "trace")
    if name in deltas or name.startswith("identity"):
        assert made.values.is_static
        assert made.nnz == np.count_nonzero(case.dense)


def test_slices_reshapes_and_quotients_as_sparse():
    x = RNG.standard_normal((4, 5))
    cut = Slice((4, 5), (1, 2), (3, 5))
    for op in (cut, cut.transpose(), Reshape((2, 10), (4, 5)), quotient(x)):
        made = as_sparse(op)
        given_ = RNG.standard_normal(op.domain.shape)
        close(made @ given_, op @ given_)
        check_operator(made)
    assert as_sparse(cut).values.is_static


def test_what_has_no_known_matrix_is_not_sparse():
    assert as_sparse(I) is None
    assert as_sparse(left_mul(np.ones((2, 3)))) is None
    assert as_sparse(linear_map(lambda x: x, lambda y: y, [(2,), (3,)], (2,))) is None


def test_products_and_sums_with_other_kinds_are_sparse():
    A, d = RNG.standard_normal((3, 4)), RNG.standard_normal(12)
    op = sparse([0, 3, 7, 11, 11], [1, 0, 5, 5, 2], RNG.standard_normal(5), (3, 4), (12,))
    space = ArraySpace((3, 4))
    cases = [
        op @ hadamard(A),
        hadamard(d) @ op,
        op @ quotient(A + 5),
        op @ Slice((5, 4), (1, 0), (4, 4)),
        Slice((12,), (2,), (9,)) @ op,
        Reshape((4, 3), (12,)) @ op,
        op @ Reshape((3, 4), (2, 6)),
        op @ einsum("ij", "ji", sizes={"i": 3, "j": 4}),
        op @ Scaling(2.0, space),
        Scaling(2.0, ArraySpace((12,))) @ op,
        op @ Identity(space),
        einsum("", "i", sizes={"i": 12}) @ op,
        tdot(d) @ op,
    ]
    for made in cases:
        assert isinstance(made, Sparse), made
        check_operator(made)
    x = RNG.standard_normal((3, 4))
    close(cases[0] @ x, op @ (A * x))
    close(cases[1] @ x, d * (op @ x))
    close(cases[2] @ x, op @ (x / (A + 5)))
    close(cases[4] @ x, (op @ x)[2:9])
    close(cases[12] @ x, d @ (op @ x))
    square = sparse([0, 1, 1], [1, 1, 0], np.array([1.0, 2.0, 3.0]), (2,), (2,))
    for other in (I, 2.0 * I, hadamard(np.array([4.0, 5.0])), Identity(ArraySpace((2,)))):
        for total in (square + other, other + square):
            assert isinstance(total, Sparse)
            close(total.todense(), square.todense() + np.asarray(other.refine(square.domain, square.domain).todense()))
    assert isinstance(square + O, Sparse)
    assert isinstance(O @ square, Zero)


def test_a_dense_operator_is_not_blown_up_by_composing_it():
    op = as_sparse(Identity(ArraySpace((30, 40)))).scaled(2.0)
    dense = left_mul(RNG.standard_normal((30, 30))).refine(ArraySpace((30, 40)), ArraySpace((30, 40)))
    assert isinstance(dense @ op, Product)
    assert isinstance(dense + op, Sum)
    assert as_sparse(dense @ op).nnz == 30 * 30 * 40
    with pytest.raises(PatternTooLargeError, match="100 are available"):
        as_sparse(left_mul(np.ones((2000, 2000))).refine(ArraySpace((2000, 9)), ArraySpace((2000, 9))), limit=100)


def test_a_static_mask_takes_places_away_and_a_traced_one_selects():
    mask = np.array([True, False, True])
    assert as_sparse(hadamard(mask)).nnz == 2
    value = jnp.array([1.0, jnp.nan, 3.0])
    masked = as_sparse(hadamard(jnp.asarray(mask)))
    close(masked @ value, np.array([1.0, 0.0, 3.0]))
    both = masked @ as_sparse(hadamard(value))
    close(both.data, np.array([1.0, 0.0, 3.0]))
    close((masked + masked).todense(), np.diag([2.0, 0.0, 2.0]))
    close((2 * masked).todense(), np.diag([2.0, 0.0, 2.0]))


def test_einsums_with_inner_sums_and_coefficients():
    U, V = RNG.standard_normal((3, 2)), RNG.standard_normal((2, 4))
    op = einsum("bi", "bj", (U, "ir"), (V, "rj"), sizes={"b": 5}, coef=-2.0)
    close(as_sparse(op).todense(), op.todense())
    assert as_sparse(op).nnz == 5 * 3 * 4
    assert isinstance(op, Einsum)


# ---- refusals -------------------------------------------------------------------------------------------------------
def test_wrong_input_is_refused():
    with pytest.raises(SpaceError, match=r"2 places need data of shape \(2,\), got numpy.ndarray of shape \(3,\)"):
        sparse([0, 1], [0, 1], np.ones(3), (2,), (2,))
    with pytest.raises(SpaceError, match=r"needs the shape of its domain, a tuple of sizes; got None"):
        sparse([0], [0], None, None, (2,))
    with pytest.raises(SpaceError, match=r"needs the shape of its codomain, a tuple of sizes; got .*None"):
        sparse([0], [0], None, (2,), ArraySpace((None,)))
    with pytest.raises(SpaceError, match=r"column 2 lies outside a sparse matrix of shape \(2, 2\)"):
        sparse([0], [2], None, (2,), (2,))
    op = sparse([0], [0], None, 3, 2)
    with pytest.raises(SpaceError, match=r"a matrix of 2 × 3; only a square one has a diagonal"):
        op.diagonal()
    with pytest.raises(SpaceError, match=r"cannot compose .*domain 3 of the first is not the codomain 2"):
        op @ op
    with pytest.raises(SpaceError, match=r"the domain of sparse\(2×3, 1 non-zero\) and the array do not match: 3 against 4"):
        op @ np.ones(4)
    with pytest.raises(
        SpaceError, match=r"the codomain of sparse\(2×3, 1 non-zero\) and its place do not match: 2 against 5"
    ):
        op.refine(ArraySpace((3,)), ArraySpace((5,)))


# ---- laziness ---------------------------------------------------------------------------------------------------------
def counts(f, *args):
    return Counter(e.primitive.name for e in jax.make_jaxpr(f)(*args).eqns)


def test_moving_scaling_and_adding_apart_costs_nothing_until_the_numbers_are_wanted():
    n = 50
    up = sparse(np.arange(n - 1), np.arange(1, n), None, (n,), (n,))
    down = up.T

    def data(d):
        D = as_sparse(hadamard(d))
        return (up @ D - 2 * (D @ down) + D.T).data

    d = jnp.arange(1.0, n + 1)
    assert {"slice", "mul", "broadcast_in_dim", "reshape", "concatenate"} >= set(counts(data, d))
    assert counts(data, d)["mul"] == 1  # slices of d, one of them times −2, put in order
    D = np.diag(np.arange(1.0, n + 1))
    U = np.eye(n, k=1)
    want = U @ D - 2 * D @ U.T + D
    made = jax.jit(data)(d)
    close(made, want[np.nonzero(want)])


def test_contiguous_and_regular_places_become_slices_and_broadcasts():
    names = lambda f, x: [e.primitive.name for e in jax.make_jaxpr(f)(x).eqns]  # noqa: E731
    x = jnp.arange(200.0)
    places = {
        "identity": (np.arange(200), []),
        "slice": (np.arange(3, 40), ["slice"]),
        "strided": (np.arange(3, 40, 4), ["slice"]),
        "repeat": (np.repeat(np.arange(2, 30), 3), ["slice", "broadcast_in_dim", "reshape"]),
        "tile": (np.tile(np.arange(200), 3), ["broadcast_in_dim", "reshape"]),
        "constant": (np.full(7, 5), ["slice", "broadcast_in_dim", "reshape"]),
        "two runs": (np.r_[40:90, 0:40], ["slice", "slice", "concatenate"]),
        "a box": (np.arange(200).reshape(10, 20)[1:, 2:15].reshape(-1), ["reshape", "slice", "reshape"]),
        "a strided box": (np.arange(200).reshape(5, 40)[:, 1:36:2].reshape(-1), ["reshape", "slice", "reshape"]),
        "two in turn": (
            np.r_[150, np.c_[0:64, 90:154].reshape(-1), 7],
            ["slice", "slice", *["broadcast_in_dim"] * 2, "concatenate", "slice", "reshape", "slice", "concatenate"],
        ),
        "a sheared box": ((np.arange(20)[:, None] + 9 * np.arange(10)).reshape(-1), ["gather"]),
        "irregular": (np.array([3, 1, 4, 1, 5]), ["gather"]),
        "columns of many runs": (np.arange(200).reshape(2, 10, 10).swapaxes(0, 2).reshape(-1), ["gather"]),
        "backwards": (np.arange(100)[::-1], ["gather"]),
        "one": (np.array([7]), ["slice"]),
        "none": (np.zeros(0, int), ["slice"]),
    }
    for name, (index, primitives) in places.items():
        assert names(lambda x, index=index: take(x, index), x) == primitives, name
        np.testing.assert_array_equal(np.asarray(take(x, index)), np.arange(200.0)[index])
        np.testing.assert_array_equal(take(np.arange(200.0), index), np.arange(200.0)[index])
    assert take(x, None) is x


@settings(max_examples=25)
@given(st.lists(st.integers(0, 40), max_size=8), st.booleans())
def test_sums_of_runs_of_any_length(lengths, weighted):
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(int)
    x = np.random.default_rng(0).standard_normal(20)
    index = np.random.default_rng(1).integers(0, 20, starts[-1])
    coef = np.random.default_rng(2).standard_normal(starts[-1]) if weighted else 1
    want = np.array([(np.ones(b - a) * (coef[a:b] if weighted else 1)) @ x[index[a:b]] for a, b in pairwise(starts)])
    close(combine(x, index, starts, coef), want)
    close(combine(jnp.asarray(x), index, starts, coef), want)


def test_a_long_sum_is_a_few_passes_and_as_exact_as_pairwise():
    x = jnp.full(100_003, 0.1, jnp.float32)
    starts = np.array([0, 100_000, 100_003])
    assert counts(lambda x: combine(x, None, starts), x).total() < 150
    assert abs(float(combine(x, None, starts)[0]) - 1e4) < 0.05


def test_long_chains_of_sums_and_products_stay_linear():
    d = jnp.arange(1.0, 6.0)
    shift = sparse([0, 1, 2, 3], [1, 2, 3, 4], None, (5,), (5,))

    def chain(d, length):
        total = as_sparse(hadamard(d))
        for k in range(length):
            total = total + shift @ as_sparse(hadamard(jnp.sin(d + k)))
        return total

    sizes = []
    made = jax.jit(lambda d: sizes.append(chain(d, 200)) or sizes[0].data)(d)
    assert len(sizes[0].values.sources) <= 16
    ops = [counts(lambda d, n=n: chain(d, n).data, d).total() for n in (100, 200)]
    assert ops[1] < 2.2 * ops[0]
    want = np.diag(np.arange(1.0, 6)) + sum(np.eye(5, k=1) @ np.diag(np.sin(np.arange(1.0, 6) + k)) for k in range(200))
    np.testing.assert_allclose(made, want[np.nonzero(want)], atol=1e-4)


def test_sources_are_kept_once_and_constants_are_static():
    d = jnp.ones(4)
    D = as_sparse(hadamard(d))
    twice = sparse([0, 1, 2], [1, 2, 3], None, (4,), (4,)) @ D + D
    assert len(twice.values.sources) == 1
    stencil = sparse([0, 1], [1, 0], None, (2,), (2,)) + 3.0 * Identity(ArraySpace((2,)))
    assert stencil.values.is_static
    assert stencil.evaluated() is not None
    close(stencil.data, np.array([3.0, 1.0, 1.0, 3.0]))
    ones = sparse([0, 1], [1, 0], None, (2,), (2,)) + Identity(ArraySpace((2,)))
    assert ones.values.plan.const == 1  # all the same: nothing stored


# ---- JAX and PyTorch ------------------------------------------------------------------------------------------------------
ROWS, COLS = np.array([0, 2, 2, 1, 2]), np.array([0, 3, 1, 1, 3])


def built(d):
    op = sparse(ROWS, COLS, d, (4,), (3,))
    return op @ op.T + as_sparse(hadamard(d[:3]))


def built_dense(d):
    A = jnp.zeros((3, 4)).at[ROWS, COLS].add(d)
    return A @ A.T + jnp.diag(d[:3])


def test_operators_cross_jit_vmap_and_grad():
    d, x = jnp.arange(1.0, 6.0), jnp.array([1.0, -2.0, 0.5])
    op = jax.jit(built)(d)
    assert isinstance(op, Sparse)
    close(op.todense(), np.asarray(built_dense(d)))
    close(jax.jit(lambda o, x: o.T @ (o @ x))(op, x), np.asarray(built_dense(d).T @ built_dense(d) @ x))
    ds = jnp.stack([d, 2 * d])
    ops = jax.vmap(built)(ds)
    close(jax.vmap(lambda o: o @ x)(ops), np.asarray(jax.vmap(lambda d: built_dense(d) @ x)(ds)))
    close(
        jax.grad(lambda d: jnp.sum(jnp.sin(built(d) @ x)))(d),
        np.asarray(jax.grad(lambda d: jnp.sum(jnp.sin(built_dense(d) @ x)))(d)),
    )
    close(
        jax.grad(lambda d: jnp.sum(built(d).data ** 2))(d), np.asarray(jax.grad(lambda d: jnp.sum(built_dense(d) ** 2))(d))
    )
    traces = []
    again = jax.jit(lambda o: traces.append(1) or o @ x)
    for values in (d, 2 * d):
        again(jax.jit(built)(values))
    assert len(traces) == 1  # equal patterns are one static structure
    assert jax.tree.structure(op) == jax.tree.structure(jax.jit(built)(2 * d))


def test_pytorch_tensors_as_data():
    import torch

    d = torch.arange(1.0, 6.0, dtype=torch.float64, requires_grad=True)
    op = sparse(ROWS, COLS, d, (4,), (3,))
    total = op @ op.T + as_sparse(hadamard(d[:3]))
    want = np.asarray(built_dense(jnp.arange(1.0, 6.0)))
    close(total.todense().detach(), want)
    x = torch.ones(3, dtype=torch.float64)
    close((total @ x).detach(), want @ np.ones(3))
    (total @ x).sum().backward()
    close(d.grad, np.asarray(jax.grad(lambda d: built_dense(d).sum())(jnp.arange(1.0, 6.0))))


# ---- the static part ------------------------------------------------------------------------------------------------------
def test_arrangements_are_equal_by_content():
    a = Combination(2, (3,), np.array([0, 2]), None, np.array([1.0, 2.0]), 0)
    b = Combination(2, (3,), np.array([0, 2]), None, np.array([1.0, 2.0]), 0)
    assert a == b
    assert hash(a) == hash(b)
    assert a != Combination(2, (3,), np.array([0, 1]), None, np.array([1.0, 2.0]), 0)
    assert a != Combination(2, (3,), np.array([0, 2]), None, 1, 0)
    assert a != 2
    assert repr(sparse([0], [0], None, (1,), (1,))) == "sparse(1×1, 1 non-zero) : 1 → 1"
