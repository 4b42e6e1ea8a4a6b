"""Indices of which a part is known, as rows in turn beside columns that depend on values.

The oracle of a pattern is JAX's Jacobian at every index that may be meant, one after the other.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import backsolve as bs
from backsolve.capture import folding
from backsolve.capture.folding import FAR, partly_known, wholly_known
from backsolve.capture.index_maps import index_operator
from tests import reference

from .oracle import compiled, normal
from .test_sparse_jacobian import assert_same

X = normal(5, 4)
FIVE, FOUR, FAR_OFF = np.arange(5), np.arange(4), np.array([0, 7, -9, 3])


def windows(x, i, dims, sizes, mode):
    """Windows of one row and more columns, or of several rows, that begin at rows known and at columns not."""
    index = jnp.stack([jnp.array([4, 0, -9]), i], 1)
    return lax.gather(x, index, dims, sizes, mode=mode, fill_value=0)


def placed(x, i, mode):
    """Windows of two columns added at rows known and at columns not."""
    index = jnp.stack([jnp.array([4, 0, -9]), i], 1)
    dims = lax.ScatterDimensionNumbers((1,), (0,), (0, 1))
    return lax.scatter_add(x, index, x[:3, :2] ** 2, dims, mode=mode)


@jax.custom_jvp
def looked_up(x, i):
    """A rule that looks up what it is given, at an index of its own making."""
    return x[FIVE, i]


@looked_up.defjvp
def _(primals, tangents):
    (x, i), (t, _) = primals, tangents
    return looked_up(x, i), t[jnp.arange(5), i]


WILD = range(-6, 7)


def within(n):
    """Indices that name one of n entries, from the end too."""
    return range(-n, n)


FUNCTIONS = {  # by name: function of x and of as many indices, which may be these
    "rows in turn": (lambda x, i: x[jnp.arange(5), i], 5, within(4)),
    "columns in turn": (lambda x, i: x[i, jnp.arange(4)], 4, within(5)),
    "rows backwards, some twice": (lambda x, i: x[jnp.array([0, -1, -1, -5]), i], 4, within(4)),
    "filled": (lambda x, i: x.at[FAR_OFF, i].get(mode="fill", fill_value=0, wrap_negative_indices=False), 4, WILD),
    "filled by nothing else": (lambda x, i: x.at[FAR_OFF + 20, i].get(mode="fill", fill_value=0), 4, WILD),
    "clipped": (lambda x, i: x.at[FAR_OFF, i].get(mode="clip", wrap_negative_indices=False), 4, WILD),
    "promised": (lambda x, i: x.at[FOUR, jnp.clip(i, 0, 3)].get(mode="promise_in_bounds"), 4, WILD),
    "windows": (lambda x, i: windows(x, i, lax.GatherDimensionNumbers((0, 2), (), (0, 1)), (2, 3), "clip"), 3, WILD),
    "windows filled": (lambda x, i: windows(x, i, lax.GatherDimensionNumbers((1,), (0,), (0, 1)), (1, 3), "fill"), 3, WILD),
    "exchanged": (lambda x, i: windows(x.T, i, lax.GatherDimensionNumbers((1,), (0,), (1, 0)), (1, 2), "clip"), 3, WILD),
    "two axes known": (lambda x, i: x.reshape(5, 2, 2)[FIVE, FIVE % 2, i], 5, within(2)),
    "the middle axis known": (lambda x, i: x.reshape(2, 2, 5)[i, jnp.arange(2)], 2, within(2)),
    "a slice between": (lambda x, i: x.reshape(2, 2, 5)[i, :, jnp.arange(3)], 3, within(2)),
    "batches": (lambda x, i: jax.vmap(lambda r, j: r.reshape(2, 2)[jnp.arange(2), j])(x, i.reshape(5, 2)), 10, within(2)),
    "computed": (lambda x, i: x[(2 * jnp.arange(5) + 1) % 5, jnp.where(i > 2, -1, i)], 5, within(4)),
    "a table of rows": (lambda x, i: x[jnp.array([[0, 1], [4, 2]]), i.reshape(2, 2)], 4, within(4)),
    "a rule of its own": (looked_up, 5, within(4)),
    "added": (lambda x, i: x.at[jnp.arange(5), i].add(x[:, 0] ** 2), 5, within(4)),
    "subtracted": (lambda x, i: x.at[i, jnp.arange(4)].subtract(x[0] ** 2), 4, within(5)),
    "added, dropped": (lambda x, i: x.at[FAR_OFF, i].add(x[:4, 0] ** 2, wrap_negative_indices=False), 4, WILD),
    "added, clipped": (lambda x, i: x.at[FAR_OFF, i].add(x[:4, 0] ** 2, mode="clip", wrap_negative_indices=False), 4, WILD),
    "windows added": (lambda x, i: placed(x, i, "drop"), 3, WILD),
    "windows added, clipped": (lambda x, i: placed(x, i, "clip"), 3, WILD),
    "batches added": (lambda x, i: jax.vmap(lambda r, j: r.at[jnp.arange(2) * 2, j].add(r[:2, 0]))(
        x.reshape(1, 5, 4), i.reshape(1, 2)), 2, within(4)),
}  # fmt: skip


def placed_in(pattern):
    """A pattern as a matrix of booleans."""
    there = np.zeros(pattern.shape, bool)
    there[pattern.rows, pattern.cols] = True
    return there


@pytest.mark.parametrize("name", FUNCTIONS)
def test_patterns_are_exact_in_what_is_known_and_full_in_what_is_not(name):
    f, count, meant = FUNCTIONS[name]
    J, want = bs.jacobian(f, format="sparse"), jax.jit(jax.jacobian(f))
    every = sum(np.abs(np.asarray(want(X, jnp.full(count, v)))) for v in meant).reshape(-1, X.size)
    indices = [jnp.asarray(np.random.default_rng(seed).choice(meant, count)) for seed in range(3)]
    for i in indices:
        found = J(X, i)
        np.testing.assert_array_equal(placed_in(found.pattern), every != 0)
        assert_same(found, want(X, i))
    assert_same(jax.jit(J)(X, indices[0]), want(X, indices[0]))


def test_overwritten_where_rows_are_known():
    def f(x, i):
        return x.at[jnp.arange(5), i].set(x[:, 0] ** 2, unique_indices=True)

    J = bs.jacobian(f, format="sparse")
    for i in (jnp.array([0, 3, 3, 1, 2]), jnp.array([1, 1, 1, 1, 1])):
        assert J(X, i).nnz == 20 + 5 * 4 - 5
        for made in (J, jax.jit(J)):
            assert_same(made(X, i), reference.jacobian(f)(X, i))


def test_a_coordinate_that_is_known_for_some_places_alone_is_not():
    def f(x, i):
        return x[jnp.concatenate([jnp.arange(2), i[:1]]), i]

    J, i = bs.jacobian(f, format="sparse"), jnp.array([3, 0, 1])
    assert J(X, i).nnz == 3 * 20
    for made in (J, jax.jit(J)):
        assert_same(made(X, i), reference.jacobian(f)(X, i))


def test_a_corner_that_a_rule_makes_is_known():
    @jax.custom_jvp
    def row(x, i):
        return lax.dynamic_slice(x, (jnp.full((), 2), i), (1, 2))

    row.defjvp(lambda p, t: (row(*p), lax.dynamic_slice(t[0], (jnp.full((), 2), p[1]), (1, 2))))
    J = bs.jacobian(row, format="sparse")
    found = J(X, jnp.array(1))
    assert set(found.cols // 4) == {2}
    assert found.nnz == 2 * 3
    for made in (J, jax.jit(J)):
        assert_same(made(X, jnp.array(1)), reference.jacobian(row)(X, 1))


def test_determinants_of_a_batch():
    """Larger ones than JAX has formulas for: their rows are picked by pivots, those of each matrix from it alone."""

    def f(x):
        return jnp.linalg.det(x)

    x = jnp.asarray(normal(3, 4, 4))
    J = bs.jacobian(f, format="sparse")
    assert J(x).nnz == 3 * 16
    for made in (J, jax.jit(J)):
        assert_same(made(x), reference.jacobian(f)(x))


@settings(max_examples=20)
@given(st.data())
def test_random_gathers_and_scatters(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=3, max_size=3)))
    sizes = tuple(data.draw(st.integers(0, n)) for n in shape)
    order = tuple(data.draw(st.permutations(range(3))))
    known = data.draw(st.lists(st.booleans(), min_size=3, max_size=3))
    place = st.lists(st.integers(-2, 4), min_size=3, max_size=3)
    index = np.array(data.draw(st.lists(place, min_size=1, max_size=3)))
    mode = data.draw(st.sampled_from(["clip", "fill"]))
    x, free = jnp.arange(1.0, 1.0 + np.prod(shape)).reshape(shape), jnp.asarray(index)
    count, values = len(index), list(product(range(-1, 4), repeat=3))

    def mixed(free):
        return jnp.stack([jnp.asarray(index[:, c]) if known[c] else free[:, c] for c in range(3)], axis=1)

    def gather(x, i):
        dims = lax.GatherDimensionNumbers((1, 2, 3), (), order)
        return lax.gather(x, i, dims, sizes, mode=mode, fill_value=0)

    def scatter(u, i):
        return lax.scatter_add(jnp.zeros(shape), i, u, lax.ScatterDimensionNumbers((1, 2, 3), (), order), mode=mode)

    for f, y in ((gather, x), (scatter, jnp.ones((count, *sizes)))):
        eqn = next(e for e in jax.make_jaxpr(f)(y, free).eqns[::-1] if e.primitive.name in ("gather", "scatter-add"))
        k, patterns = (0 if f is gather else 2), []

        def matrix(free, eqn=eqn, k=k, patterns=patterns):
            op = index_operator(eqn, k, [None, mixed(free), None])
            patterns.append(op.pattern)
            return op.todense()

        wanted = compiled(jax.vmap(lambda at, f=f, y=y: jax.jacfwd(lambda y: f(y, at))(y)))
        want, *others = np.asarray(wanted(np.stack([index, *(np.where(known, index, v) for v in values)])))
        np.testing.assert_array_equal(np.asarray(compiled(matrix)(free)), want)
        found = placed_in(patterns[0])
        np.testing.assert_array_equal(found, np.abs([want, *others]).sum(0).reshape(found.shape) > 0)


# ---- what is known of an array ------------------------------------------------------------------------------------------
ARRAYS = [
    lambda i: jnp.stack([jnp.arange(3), i]),
    lambda i: jnp.concatenate([i, jnp.arange(4)])[1:5].reshape(2, 2).T,
    lambda i: lax.pad(i, np.int64(7), [(2, -1, 1)]),
    lambda i: jnp.tile(jnp.stack([i, 2 * jnp.arange(3)]), (2, 1))[::-1] + jnp.arange(3),
    lambda i: jnp.broadcast_to(jnp.stack([i, jnp.arange(3)])[:, None], (2, 4, 3)).astype(np.int8) % 2,
    lambda i: jnp.stack([i, jnp.arange(3) // 2, jnp.argsort(jnp.arange(3))], 1).transpose(1, 0),
    lambda i: jnp.clip(jnp.stack([i, jnp.arange(3)]), -9, jnp.stack([jnp.full(3, 99), jnp.ones(3, int)])),
    lambda i: jnp.stack([i, jnp.arange(3)]) == jnp.array([[2, 0, 1], [0, 1, 1]]),
    lambda i: jnp.split(jnp.concatenate([i, jnp.arange(3)]), [2])[1],
    lambda i: jax.jit(lambda i, j: jnp.concatenate([j + 1, i]))(i, jnp.arange(2)),
]


@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_what_is_said_to_be_known_is_the_same_for_every_value_of_the_rest(number):
    f, parts = ARRAYS[number], []

    def look(i):
        parts.append(partly_known(f(i)))
        return f(i)

    outputs = [np.asarray(jax.jit(look)(jnp.array(i))) for i in ([2, 0, 1], [7, -3, 12], [-9, 5, 4])]
    (part,) = parts
    assert part.known.any()
    assert part.known.shape == part.numbers.shape == outputs[0].shape
    assert part.numbers.dtype == outputs[0].dtype
    for y in outputs:
        np.testing.assert_array_equal(part.numbers[part.known], y[part.known])
    same = np.logical_and.reduce([y == outputs[0] for y in outputs])
    np.testing.assert_array_equal(part.known, same)


def test_nothing_is_known_of_what_depends_on_values_or_is_no_integer():
    found = []

    def look(x, i):
        made = (i, jnp.argmax(x) + i, x, jnp.arange(3.0), jnp.cumsum(i), lax.cond(i[0] > 0, lambda: i, lambda: -i))
        found.extend(map(partly_known, made))
        return x

    jax.jit(look)(jnp.ones(3), jnp.arange(3))
    jax.vmap(lambda i: found.append(partly_known(jnp.stack([i, 1 - i]))) or i)(jnp.arange(2))
    assert [part is None or not part.known.any() for part in found] == [True] * 7


def test_a_known_array_is_known_and_none_is_not():
    assert partly_known(np.arange(3)).known.all()
    assert partly_known(jnp.arange(3)).numbers.tolist() == [0, 1, 2]
    assert partly_known(None) is None
    assert partly_known(np.ones(3)) is None


def test_no_more_than_the_nearest_equations_are_read():
    lengths = []

    def look(i):
        for count in (FAR // 4, 4 * FAR):
            table = jnp.arange(3)
            for _ in range(count):
                i = lax.add(i, lax.full_like(i, 1))
            lengths.append(partly_known(jnp.stack([i, table])).known.sum())
            for _ in range(count):
                table = lax.add(table, 1)
            part = partly_known(jnp.stack([i, table]))
            lengths.append(0 if part is None else part.known.sum())
        return i

    jax.jit(look)(jnp.arange(3))
    assert lengths == [3, 3, 3, 0]


def test_what_a_loop_counts_is_known():
    """Of its outputs those that follow from what is known alone, forwards and backwards, nested, stacked or last."""
    found = []

    def f(x):
        def step(carry, k):
            y, i, total = carry
            j = (i + k) % 6
            inner, _ = lax.scan(lambda c, m: (c + m, None), j, jnp.arange(3))
            return (y.at[i].set(x[j]), i + 1, total + jnp.int32(x[i])), (j, x[i] > 0, inner, total)

        for reverse in (False, True):
            (y, i, total), (j, positive, inner, totals) = lax.scan(step, (x, 0, 0), jnp.arange(4), reverse=reverse)
            found.append([partly_known(v) for v in (i, j, inner, total, positive, totals)])
        return y

    jax.make_jaxpr(f)(jnp.ones(8))
    for reverse, (i, j, inner, *others) in zip((False, True), found, strict=True):
        counted = np.array([(c + k) % 6 for c, k in zip(range(4), range(4)[::-1] if reverse else range(4), strict=True)])
        counted = counted[::-1] if reverse else counted
        assert [part.known.all() for part in (i, j, inner)] == [True] * 3
        assert i.numbers == 4
        assert j.numbers.tolist() == counted.tolist()
        assert inner.numbers.tolist() == (counted + 3).tolist()
        assert others == [None] * 3


def test_a_loop_turns_for_what_is_asked_alone(monkeypatch):
    """What it counts beside values that nobody knows is not worked out where only the latter are asked for."""
    compiled, found = [], []

    def f(x):
        (_, y), (halves, tables) = lax.scan(lambda c, _: ((c[0] + 1, jnp.sin(c[1])), (c[1] / 2, c[0] * 2)), (0, x), None, 4)
        monkeypatch.setattr(folding.jax, "jit", lambda g: compiled.append(g) or jit(g))
        found.extend((wholly_known([halves, y]), len(compiled), wholly_known([halves, tables]), len(compiled)))
        monkeypatch.undo()
        return y

    jit = jax.jit
    jax.make_jaxpr(f)(jnp.ones(3))
    assert found[:2] == [[None, None], 0]
    assert found[2][0] is None
    assert found[2][1].tolist() == [0, 2, 4, 6]
    assert found[3] == 1
