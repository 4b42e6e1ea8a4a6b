"""What is done eagerly: entries put elsewhere by NumPy are those that XLA puts there, and no program is compiled for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.capture.adapter import JaxAdapter, JaxKernels
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import FEW, array, moved_by_numpy

adapter, kernels = JaxAdapter(), JaxKernels()
NUMBERS = np.array([[np.nan, -0.0, np.inf, 1.0], [-np.inf, 5e-324, -2.0, 0.0], [1e308, 3.0, np.nan, -1.0]])
MASK = np.array([[True, False, True, False]] * 3)
INDEX = np.array([2, 0, 0, 1, 2])

MOVES = {
    "pad": lambda x: adapter.pad(x, (1, 0), (0, 2)),
    "take": lambda x: adapter.take(x, (1, 0), (3, 3)),
    "concat": lambda x: adapter.concat([x, x], 1),
    "stack": lambda x: adapter.stack([x, x]),
    "reshape": lambda x: adapter.reshape(x, (2, 6)),
    "transpose": lambda x: adapter.place(x, (0, 1), (1, 0), (4, 3)),
    "repeat": lambda x: adapter.place(x, (0, 1), (1, 2, 0), (4, 5, 3)),
    "select": lambda x: adapter.multiply(array(MASK), x),
    "gather": lambda x: kernels.gather(x, INDEX),
    "box": lambda x: kernels.box(x, (0,), (3,), (2,)),
    "one after the other": lambda x: kernels.concatenate([x, x]),
    "side by side": lambda x: kernels.stack([x, x]),
    "identity": lambda x: adapter.eye(x, 7, x.dtype),
    "zeros": lambda x: jx.zeros(jx.type_of(x)),
}
PROGRAMS = {
    "slice": lambda x: x[1:, ::2],
    "pad": lambda x: jax.lax.pad(x, np.array(-1.0, x.dtype), [(1, 0, 1), (-1, 2, 0)]),
    "concatenate": lambda x: jnp.concatenate([x, x, x], 1),
    "reshape": lambda x: x.reshape(2, 6),
    "transpose": lambda x: x.T,
    "broadcast": lambda x: jnp.broadcast_to(x[:, None], (3, 2, 4)),
    "rev": lambda x: x[::-1],
    "split": lambda x: jnp.split(x, 2, axis=1),
    "of no operand": lambda x: jnp.zeros((3, 2), x.dtype),
}


@pytest.fixture
def compiled(caplog):
    """A function that tells how many programs JAX compiles while another function runs."""

    def count(call):
        caplog.clear()
        with jax.log_compiles():
            call()
        return sum(record.getMessage().startswith("Compiling ") for record in caplog.records)

    assert count(lambda: jax.jit(lambda x: x + 1)(jnp.ones(3))) > 0
    return count


def of_dtype(dtype):
    with np.errstate(all="ignore"):
        return array((10 * NUMBERS if np.dtype(dtype).kind == "c" else np.nan_to_num(NUMBERS)).astype(dtype))


def assert_the_same_bits(got, expected):
    assert (got.dtype, got.shape, got.weak_type) == (expected.dtype, expected.shape, expected.weak_type)
    np.testing.assert_array_equal(np.asarray(got).view(np.uint8), np.asarray(expected).view(np.uint8))


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128, np.int32, bool])
@pytest.mark.parametrize("name", MOVES)
def test_moves_are_those_of_xla(name, dtype):
    if name == "select" and dtype is bool:
        pytest.skip("two masks are one")
    x = array(NUMBERS) if dtype is np.float64 else of_dtype(dtype)
    assert_the_same_bits(MOVES[name](x), jax.jit(MOVES[name])(x))


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("name", PROGRAMS)
def test_equations_are_evaluated_as_xla_does(name):
    x = array(NUMBERS)
    jaxpr, consts, _ = jx.trace(PROGRAMS[name], [x])
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, x), strict=True))
    for eqn in jaxpr.eqns:
        inputs = [jx.literal_value(v) if jx.is_literal(v) else values[v] for v in eqn.invars]
        for v, got, expected in zip(eqn.outvars, jx.bind(eqn, inputs), jax.jit(lambda *xs, e=eqn: jx.bind(e, xs))(*inputs)):
            assert_the_same_bits(got, expected)
            assert (got.dtype, got.weak_type) == (v.aval.dtype, v.aval.weak_type)
            values[v] = got


def test_weak_types_are_left_to_jax():
    jaxpr, _, _ = jx.trace(lambda x: jnp.broadcast_to(1.5, (3, 2)) * x, [array(np.ones((3, 2), np.float32))])
    eqn = jaxpr.eqns[0]
    assert eqn.primitive.name == "broadcast_in_dim"
    assert eqn.outvars[0].aval.weak_type
    assert jx.moved(eqn, [jx.literal_value(eqn.invars[0])]) is None


@pytest.mark.parametrize("name", MOVES)
def test_no_program_is_compiled_for_them(name, compiled):
    assert compiled(lambda: MOVES[name](array(np.ones((3, 4), np.int16)))) == 0  # of a dtype that no other test has


def test_numpys_arrays_are_copied_without_a_program(compiled):
    x = np.arange(1024.0, dtype=np.float32)
    found = []
    assert compiled(lambda: found.append(array(x))) == 0
    system = bs.linearize(jnp.sin, x)
    reshaped = moved_by_numpy(lambda x: x.reshape(2, 512), (x,))
    x[:] = 7.0
    np.testing.assert_array_equal(reshaped.ravel(), np.arange(1024.0))
    np.testing.assert_array_equal(found[0], np.arange(1024.0))
    np.testing.assert_allclose(system.jvp(jnp.ones(1024, jnp.float32)), np.cos(np.arange(1024.0)), atol=1e-6)


@pytest.mark.parametrize("derivative", ["grad", "jacobian", "hessian"])
def test_a_first_call_compiles_fewer_programs_than_jax(derivative, compiled):
    def f(x):
        y = jnp.tanh(x[1:] * x[:-1]) ** 2
        return y if derivative == "jacobian" else jnp.sum(y)

    points = [array(np.linspace(0.1, 1.0, n).astype(np.float32)) for n in (83, 89)]  # sizes that no other test has
    ours, theirs = (compiled(lambda m=m, x=x: getattr(m, derivative)(f)(x)) for m, x in zip((bs, jax), points, strict=True))
    assert 0 < ours < theirs


def test_what_jax_must_move_is_left_to_it():
    def move(x):
        return x[1:]

    few, many = array(np.ones(5, np.float32)), array(np.ones(FEW + 1, np.float32))
    assert moved_by_numpy(move, (few,)).shape == (4,)
    assert moved_by_numpy(move, (many,)) is None
    assert moved_by_numpy(lambda x: np.broadcast_to(x, (FEW, 5)), (few,), 5 * FEW) is None
    assert moved_by_numpy(move, (jax.device_put(few, jax.devices()[0]),)) is None  # it belongs to that device
    assert moved_by_numpy(lambda x: x, (jnp.asarray(1.0),)) is None  # weakly typed
    with jax.enable_x64(True):
        double = array(np.ones(5))
    assert moved_by_numpy(move, (double,)) is None
    left = []
    jax.jit(lambda x: left.append(moved_by_numpy(move, (few,))))(few)
    jax.vmap(lambda x: left.append(moved_by_numpy(move, (few,))))(few)
    assert left == [None, None]


def test_what_is_to_be_known_inside_jit_is():
    """`jax.ensure_compile_time_eval`: derivatives at known arrays are known arrays, as those of JAX."""
    known, seen = jnp.array([1.0, 2.0, 3.0]), {}
    f = lambda x: jnp.sum(jnp.sin(x) ** 2 * x)  # noqa: E731
    g = lambda x: jnp.array([x[0] * x[1], jnp.where(x[2] > 1, x[2] ** 2, x[0])])  # noqa: E731
    looped = lambda x: jnp.sum(jax.lax.fori_loop(0, 3, lambda _, y: jnp.sin(y), x))  # noqa: E731
    calls = {
        "grad": (lambda: bs.grad(f)(known), lambda: jax.grad(f)(known)),
        "jitted": (lambda: bs.grad(jax.jit(f))(known), lambda: jax.grad(f)(known)),
        "loop": (lambda: bs.grad(looped)(known), lambda: jax.grad(looped)(known)),
        "jacobian": (lambda: bs.jacobian(g)(known), lambda: jax.jacobian(g)(known)),
        "sparse": (lambda: bs.jacobian(g, format="sparse")(known).todense(), lambda: jax.jacobian(g)(known)),
        "hessian": (lambda: bs.hessian(f)(known), lambda: jax.hessian(f)(known)),
        "jvp": (lambda: bs.jvp(g, (known,), (known,))[1], lambda: jax.jvp(g, (known,), (known,))[1]),
        "vjp": (lambda: bs.vjp(f, known)[1](1.0)[0], lambda: jax.grad(f)(known)),
        "hvp": (lambda: bs.hvp(f, (known,), (known,)), lambda: jax.hessian(f)(known) @ known),
    }

    @jax.jit
    def outer(x):
        with jax.ensure_compile_time_eval():
            seen.update({name: np.asarray(call()) for name, (call, _) in calls.items()})
        return x * bs.grad(f)(x)

    np.testing.assert_allclose(outer(known), known * jax.grad(f)(known), rtol=1e-6)
    for name, (_, expected) in calls.items():
        np.testing.assert_allclose(seen[name], expected(), rtol=1e-5, atol=1e-6, err_msg=name)
