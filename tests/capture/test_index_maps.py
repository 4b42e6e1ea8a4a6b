"""Equations that move entries, as sparse operators: against JAX's own dense Jacobian of the same equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from backsolve import linearize
from backsolve.capture.index_maps import index_operator
from backsolve.capture.sparse import sparse_edge
from backsolve.sparse.pattern import PatternTooLargeError
from backsolve.testing import check_operator
from backsolve.tracing.series import bind_primitive
from tests import reference

from .oracle import normal

X = normal(5, 4)
U = normal(2, 4, seed=1)
I2 = jnp.array([3, 1])
MANY = jnp.array([[4, 0], [0, 7], [-9, 2]])


def equations(f, *args):
    """The equations of f with the values of their operands, nested calls entered; the indices evaluated."""
    closed = jax.make_jaxpr(f)(*args)
    todo, found = [(closed.jaxpr, closed.consts, args)], []
    while todo:
        jaxpr, consts, inputs = todo.pop()
        values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
        for eqn in jaxpr.eqns:
            operands = [v.val if hasattr(v, "val") else values[v] for v in eqn.invars]
            if eqn.primitive.name == "jit":
                todo.append((eqn.params["jaxpr"].jaxpr, eqn.params["jaxpr"].consts, operands))
            else:
                found.append((eqn, operands))
            values.update(zip(eqn.outvars, bind_primitive(eqn.primitive, eqn.params, operands), strict=True))
    return found


def dense(eqn, k, operands):
    """JAX's Jacobian of an equation by operand k."""

    def f(x):
        given = [*operands[:k], x, *operands[k + 1 :]]
        return bind_primitive(eqn.primitive, eqn.params, given)[0]

    return np.asarray(reference.jacfwd(f)(jnp.asarray(operands[k])))


def only(f, name, *args):
    """The one equation of this primitive."""
    ((eqn, operands),) = [pair for pair in equations(f, *args) if pair[0].primitive.name == name]
    return eqn, operands


def window_sum(x, dims, strides, padding, base=(1, 1), spread=(1, 1)):
    return lax.reduce_window(x, 0.0, lax.add, dims, strides, padding, base, spread)


MOVES = {
    "slice": ("slice", lambda x: x[1:3, 2:]),
    "strided slice": ("slice", lambda x: lax.slice(x, (0, 1), (5, 4), (2, 2))),
    "empty slice": ("slice", lambda x: x[2:2]),
    "rev": ("rev", lambda x: x[::-1, ::-1]),
    "reshape": ("reshape", lambda x: x.reshape(2, 10)),
    "squeeze": ("squeeze", lambda x: jnp.squeeze(x[:1])),
    "transpose": ("transpose", lambda x: x.T),
    "broadcast": ("broadcast_in_dim", lambda x: jnp.broadcast_to(x, (3, 5, 4))),
    "stretched axis": ("broadcast_in_dim", lambda x: lax.broadcast_in_dim(x[:1], (3, 4), (0, 1))),
    "concatenate": ("concatenate", lambda x: jnp.concatenate([U, x], axis=0)),
    "concatenated with itself": ("concatenate", lambda x: jnp.concatenate([x, x], axis=1)),
    "stack": ("stack", lambda x: jnp.stack([x, 2 * x], axis=1)),
    "pad": ("pad", lambda x: lax.pad(x, 1.0, [(1, 2, 0), (0, 1, 2)])),
    "negative pad": ("pad", lambda x: lax.pad(x, 1.0, [(-1, 2, 1), (1, -2, 0)])),
    "padded number": ("pad", lambda x: lax.pad(x[0, 0], 1.0, [])),
    "select by a mask": ("select_n", lambda x: lax.select(np.eye(5, 4) > 0, x, 2 * x)),
    "select by one boolean": ("select_n", lambda x: lax.select_n(np.bool_(True), x, 2 * x)),
    "select among three": ("select_n", lambda x: lax.select_n(np.int32(np.arange(20).reshape(5, 4) % 3), x, -x, x)),
    "window sum": ("reduce_window_sum", lambda x: window_sum(x, (2, 3), (1, 1), "SAME")),
    "strided window sum": ("reduce_window_sum", lambda x: window_sum(x, (2, 2), (2, 1), "VALID")),
    "dilated window sum": (
        "reduce_window_sum",
        lambda x: window_sum(x, (2, 2), (1, 2), [(1, 0), (2, 1)], (2, 1), (1, 2)),
    ),
    "dynamic_slice": ("dynamic_slice", lambda x: lax.dynamic_slice(x, (1, 2), (3, 2))),
    "clamped dynamic_slice": ("dynamic_slice", lambda x: lax.dynamic_slice(x, (4, -3), (3, 2))),
    "dynamic_update_slice": ("dynamic_update_slice", lambda x: lax.dynamic_update_slice(x, U[:, :2] * 2, (4, 1))),
    "gather rows": ("gather", lambda x: x[I2]),
    "gather repeated rows": ("gather", lambda x: x[jnp.array([1, 1, 0, 1])]),
    "gather entries": ("gather", lambda x: x[I2, jnp.array([0, 3])]),
    "gather columns": ("gather", lambda x: x[:, I2]),
    "gather a table": ("gather", lambda x: x[jnp.array([[0, 2], [4, 4]])]),
    "gather by batch": ("gather", lambda x: jnp.take_along_axis(x, jnp.array([[0, 3, 3]] * 5), axis=1)),
    "gather by batch of rows": ("gather", lambda x: jnp.take_along_axis(x, jnp.array([[0, 3, 2, 4]] * 2), axis=0)),
    "gather out of range filled": ("gather", lambda x: jnp.take(x, jnp.array([0, 9, -20]), axis=0)),
    "gather out of range clamped": ("gather", lambda x: jnp.take(x, jnp.array([0, 9]), axis=0, mode="clip")),
    "gather windows": (
        "gather",
        lambda x: lax.gather(x, MANY, lax.GatherDimensionNumbers((0, 2), (), (0, 1)), (2, 3), mode="clip"),
    ),
    "gather windows filled": (
        "gather",
        lambda x: lax.gather(x, MANY, lax.GatherDimensionNumbers((1,), (0,), (0, 1)), (1, 3), mode="fill", fill_value=0),
    ),
    "vmapped gather": ("gather", lambda x: jax.vmap(lambda row, i: row[i])(x, jnp.array([0, 3, 1, 1, 2]))),
    "scatter-add": ("scatter-add", lambda x: x.at[jnp.array([1, 1])].add(U * 2)),
    "scatter-add entries": ("scatter-add", lambda x: x.at[I2, I2].add(U[0, :2] * 2)),
    "scatter-add dropped": ("scatter-add", lambda x: x.at[jnp.array([1, 17])].add(U * 2)),
    "scatter-add clamped": ("scatter-add", lambda x: x.at[jnp.array([1, 17])].add(U * 2, mode="clip")),
    "scatter-sub": ("scatter-sub", lambda x: x.at[:, I2].subtract(U.T[0, 0] * jnp.ones((5, 2)))),
    "segment_sum": ("scatter-add", lambda x: jax.ops.segment_sum(x, jnp.array([0, 2, 2, 1, 0]), 3)),
    "vmapped scatter-add": ("scatter-add", lambda x: jax.vmap(lambda r, i: r.at[i].add(r[0]))(x, jnp.arange(5) * 2)),
    "scatter": ("scatter", lambda x: x.at[I2].set(U * 2)),
    "scatter one row": ("scatter", lambda x: x.at[1].set(x[2])),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_operators_of_known_indices_are_jax_s_jacobians(name):
    primitive, f = MOVES[name]
    eqn, operands = only(f, primitive, jnp.asarray(X))
    moving = [k for k, v in enumerate(eqn.invars) if jnp.issubdtype(v.aval.dtype, jnp.inexact)]
    for k in moving:
        op = index_operator(eqn, k, operands)
        assert op is not None
        want = dense(eqn, k, operands)
        np.testing.assert_array_equal(np.asarray(op.todense()), want)
        assert op.values.is_static
        assert op.nnz == np.count_nonzero(want)
        check_operator(op)


def test_a_tangent_operand_needs_no_value():
    eqn, operands = only(MOVES["scatter-add"][1], "scatter-add", jnp.asarray(X))
    assert index_operator(eqn, 2, [None, operands[1], None]).nnz == 8


def test_other_primitives_and_index_operands_have_no_operator():
    eqn, operands = only(lambda x: jnp.sin(x), "sin", X)
    assert index_operator(eqn, 0, operands) is None
    eqn, operands = only(lambda x: x[I2], "gather", jnp.asarray(X))
    assert index_operator(eqn, 1, operands) is None
    assert index_operator(eqn, 0, [None, None]) is None
    eqn, operands = only(lambda x: x.at[jnp.array([1, 1])].set(U), "scatter", jnp.asarray(X))
    assert index_operator(eqn, 2, operands) is None


TRACED = {
    "one row": ("dynamic_slice", lambda x, i: x[i[0]]),
    "a box": ("dynamic_slice", lambda x, i: lax.dynamic_slice(x, (i[0], 1), (2, 2))),
    "rows": ("gather", lambda x, i: x[i]),
    "rows, filled": ("gather", lambda x, i: jnp.take(x, i + 4, axis=0)),
    "entries": ("gather", lambda x, i: x[i, jnp.array([0, 3])]),
    "by batch": ("gather", lambda x, i: jnp.take_along_axis(x, jnp.broadcast_to(i, (5, 2)), axis=1)),
    "scatter-add": ("scatter-add", lambda x, i: x.at[i].add(U * 2)),
    "scatter-sub": ("scatter-sub", lambda x, i: x.at[i].subtract(U * 2)),
    "segment_sum": ("scatter-add", lambda x, i: jax.ops.segment_sum(x[:2], i, 3)),
    "update of a box": ("dynamic_update_slice", lambda x, i: lax.dynamic_update_slice(x, U * 2, (i[0], 0))),
    "scatter": ("scatter", lambda x, i: x.at[i].set(U * 2, unique_indices=True)),
}


@pytest.mark.parametrize("indices", [[3, 1], [0, 4]])
@pytest.mark.parametrize("name", TRACED)
def test_a_traced_index_gives_all_places_it_may_name_and_a_mask(name, indices):
    primitive, f = TRACED[name]
    x, i = jnp.asarray(X), jnp.array(indices)
    eqn, operands = only(f, primitive, x, i)
    moving = [k for k, v in enumerate(eqn.invars) if jnp.issubdtype(v.aval.dtype, jnp.inexact)]
    for k in moving:
        patterns = []

        def matrix(operands, k=k, patterns=patterns):
            op = index_operator(eqn, k, operands)
            patterns.append(op.pattern)
            return op.todense()

        got = jax.jit(matrix)(operands)
        np.testing.assert_array_equal(np.asarray(got), dense(eqn, k, operands))
        assert patterns[0].nnz > 0


def test_a_traced_index_leaves_the_other_axes_sparse():
    eqn, operands = only(lambda x, i: x[i], "gather", jnp.asarray(X), I2)
    ops = []
    jax.jit(lambda operands: ops.append(index_operator(eqn, 0, operands).pattern))(operands)
    assert ops[0].nnz == 2 * 4 * 5  # each of the 2 × 4 entries comes from one of 5 rows, of its own column
    assert ((ops[0].cols % 4) == (ops[0].rows % 4)).all()


def test_a_traced_index_into_too_many_places_is_refused_with_their_bytes():
    x = jax.ShapeDtypeStruct((2**20,), jnp.float32)
    i = jax.ShapeDtypeStruct((2**20,), jnp.int32)

    def f(x, i):
        eqn, _ = [(e, ()) for e in jax.make_jaxpr(lambda x, i: lax.gather(
            x, i[:, None], lax.GatherDimensionNumbers((), (0,), (0,)), (1,), mode="clip"))(x, i).eqns][-1]  # fmt: skip
        return index_operator(eqn, 0, [x, i[:, None]]).todense()

    with pytest.raises(PatternTooLargeError, match=r"1,099,511,627,776 entries and needs 43,980,465,111,040 bytes"):
        jax.eval_shape(f, x, i)


@given(st.data())
def test_random_gathers(data):
    rows, cols = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    place = st.integers(-6, 6)
    index = jnp.array(data.draw(st.lists(st.tuples(place, place), min_size=1, max_size=4)))
    sizes = (data.draw(st.integers(1, rows)), data.draw(st.integers(1, cols)))
    mode = data.draw(st.sampled_from(["clip", "fill"]))
    dims = lax.GatherDimensionNumbers((1, 2), (), (1, 0))
    x = jnp.arange(1.0, rows * cols + 1).reshape(rows, cols)
    eqn, operands = only(lambda x: lax.gather(x, index, dims, sizes, mode=mode, fill_value=0), "gather", x)
    got = index_operator(eqn, 0, operands) @ x
    np.testing.assert_array_equal(np.asarray(got), np.asarray(lax.gather(x, index, dims, sizes, mode=mode, fill_value=0)))


# ---- edges of captured programs -------------------------------------------------------------------------------------------
def test_edges_of_a_captured_program_are_sparse():
    def f(x):
        y = jnp.sin(x[::2, ::-1]) * x[jnp.array([0, 2, 2])]
        z = jnp.zeros((5, 4)).at[jnp.array([1, 4, 4])].add(y) + jnp.roll(x, 1, axis=0)
        return jnp.cumsum(window_sum(z, (2, 1), (1, 1), "SAME"), axis=0)

    system = linearize(f, jnp.asarray(X))
    edges = {**{(i, -1): e for (i, _), e in system.M.entries.items()}, **system.L.entries}
    made = {place: sparse_edge(edge) for place, edge in edges.items()}
    for place, op in made.items():
        np.testing.assert_allclose(np.asarray(op.todense()), np.asarray(edges[place].todense()), rtol=1e-6)
        np.testing.assert_allclose(np.asarray(sparse_edge(edges[place].T).todense()), np.asarray(op.T.todense()))
