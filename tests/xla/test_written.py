"""Sines in Jacobians of numbers and in gradients: computed once, the same numbers, and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.xla.written import written

from .. import reference
from ..capture.oracle import assert_close, assert_same, normal

POINT = normal(4)
ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere XLA decides")


def arm(*q):
    """A planar arm: every sine and cosine has many readers."""
    angle, x, y = 0.0, 0.0, 0.0
    for turn in q:
        angle = angle + turn
        x, y = x + jnp.cos(angle), y + jnp.sin(angle)
    return x, y, x * y + jnp.tan(q[0] * q[1]), jnp.sin(x) * y


def chain(q):
    return jnp.stack(arm(*q))


def as_it_stands(f, argnums=0):
    return lambda *args: bs.linearize(f, *args, argnums=argnums).jacobian()


def count(f, *args):
    """How many values are written down."""
    return str(jax.make_jaxpr(f)(*args)).count("= written")


@ON_CPU
@pytest.mark.usefixtures("as_users_compile")
def test_each_is_worked_out_once_a_point():
    """Ten sines and cosines and a tangent, by XLA's own count; otherwise there are several times as many."""
    points = 1000
    q = [jnp.full(points, x, jnp.float32) for x in POINT]

    def done(jacobian):
        analysis = jax.jit(jax.vmap(jacobian(arm, argnums=(0, 1, 2, 3)))).lower(*q).compile().cost_analysis()
        return analysis["transcendentals"] / points

    assert done(bs.jacobian) <= 11
    assert done(as_it_stands) > 22


@pytest.mark.usefixtures("as_users_compile")
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_what_is_written_is_the_same_bit_for_bit(dtype):
    info = jnp.finfo(dtype)
    numbers = [0.0, -0.0, 1, -1, 0.5, np.pi, info.max, info.min, info.tiny, -info.tiny, np.inf, -np.inf, np.nan]
    x = jnp.array(numbers, dtype)
    out = jax.jit(written)(x)
    assert out.dtype == dtype
    assert np.asarray(out).tobytes() == np.asarray(x).tobytes()


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_every_transform_of_a_jacobian(transform):
    want = jax.jacobian(chain)
    assert_same(transform(bs.jacobian(chain))(POINT), reference.compiled(want)(POINT))
    points = normal(3, 4)
    assert_same(transform(jax.vmap(bs.jacobian(chain)))(points), reference.compiled(jax.vmap(want))(points))
    assert_same(transform(bs.jacobian(bs.jacobian(chain)))(POINT), reference.jacobian(want)(POINT))
    for outer in (jax.jacfwd, jax.jacrev):
        assert_same(transform(outer(bs.jacobian(chain)))(POINT), reference.jacobian(want)(POINT))
    squares = [lambda q, J=J: jnp.sum(J(q) ** 2) for J in (bs.jacobian(chain), want)]
    for grad in (jax.grad, bs.grad):
        assert_close(transform(grad(squares[0]))(POINT), reference.grad(squares[1])(POINT))
    assert_close(transform(bs.hessian(squares[1]))(POINT), reference.hessian(squares[1])(POINT))


@ON_CPU
def test_only_real_numbers_of_jacobians_that_several_entries_read_are_written():
    assert count(bs.jacobian(chain), POINT) > 0
    for other in (bs.grad(lambda q: chain(q).sum()), lambda q: bs.jvp(chain, (q,), (q,))[1]):
        assert count(other, POINT) == 0
    assert count(bs.jacobian(lambda q: jnp.sin(q) * jnp.cos(q)), POINT) == 0
    assert count(bs.jacobian(lambda z: jnp.sin(z) * z, holomorphic=True), 1.0 + 2.0j) == 0
    assert count(bs.jacobian(lambda q: jnp.sin(q) + jnp.exp(q)), 1.0) == 0  # its one entry reads one cosine


def test_writing_adds_no_node():
    """A Jacobian's own graph is the same whether its sines are written or not, so that plans fit both."""

    ours, plain = (bs.plan(jacobian(chain), jnp.asarray(POINT)) for jacobian in (bs.jacobian, as_it_stands))
    assert ours.multiplications == plain.multiplications
    assert len(ours.steps) == len(plain.steps)
    assert_same(bs.jacobian(bs.jacobian(chain), order=plain)(POINT), reference.jacobian(jax.jacobian(chain))(POINT))


@ON_CPU
def test_sines_of_what_is_not_differentiated_are_written_too():
    def f(x, y):
        return jnp.sin(y) * x, jnp.sin(y) * x * x

    assert count(bs.jacobian(f), 2.0, 3.0) == 2
    assert_same(jax.jit(bs.jacobian(f))(2.0, 3.0), reference.jacobian(f)(2.0, 3.0))


@pytest.mark.usefixtures("as_users_compile")
def test_at_one_point_nothing_is_written():
    assert " divide(" not in jax.jit(bs.jacobian(chain)).lower(POINT).compile().as_text()


def many_readers(p):
    """Sines of sines, each with three readers and all those before it behind it, and twice as many values that are kept."""
    values = list(p)
    for _ in range(20):
        values.append(jnp.sin(values[-1] * values[-2] + values[-3]))
    return jnp.sum(sum(jnp.tanh(jnp.tanh(x)) for x in values))


def arrays(*shape):
    return [normal(*shape, seed=k) for k in range(6)]


def compiled(grad, p):
    return jax.jit(grad(many_readers)).lower(p).compile()


@ON_CPU
@pytest.mark.usefixtures("as_users_compile")
def test_a_gradient_writes_the_sines_that_save_most_and_takes_little_more_memory():
    p = arrays(500)
    assert 0 < count(bs.grad(many_readers), p) < 6
    assert_same(jax.jit(bs.grad(many_readers))(p), reference.grad(many_readers)(p))
    ours, theirs = (compiled(grad, p) for grad in (bs.grad, jax.grad))
    assert ours.cost_analysis()["transcendentals"] < 0.97 * theirs.cost_analysis()["transcendentals"]
    assert ours.memory_analysis().temp_size_in_bytes <= 1.05 * theirs.memory_analysis().temp_size_in_bytes


def test_a_gradient_writes_nothing_else():
    p = arrays(5)
    few = [lambda p: jnp.sum(jnp.sin(p[0] + p[1]) * p[2]), lambda p: jnp.sum(sum(map(jnp.tanh, p)) ** 2)]
    for f in few:
        assert count(bs.grad(f), p) == 0
    assert count(bs.grad(lambda z: jnp.real(many_readers(z))), [x.astype(complex) for x in p]) == 0
    assert_same(bs.grad(many_readers)(p), reference.grad(many_readers)(p))  # of arrays that are there, nothing is traced


@ON_CPU
@pytest.mark.parametrize("outer", [jax.grad, bs.grad], ids=["jax", "backsolve"])
def test_a_gradient_that_writes_is_differentiated_again(outer):
    p = arrays(300)
    assert count(bs.grad(many_readers), p) > 0

    def squared(grad):
        return lambda p: sum(jnp.sum(g**2) for g in grad(many_readers)(p))

    assert_same(jax.jit(outer(squared(bs.grad)))(p), reference.grad(squared(jax.grad))(p))
    few = arrays(3, 4)
    assert_same(jax.jit(jax.vmap(bs.grad(many_readers)))(few), jax.vmap(jax.grad(many_readers))(few))
    ours, theirs = (jvp(grad(many_readers), (p,), (p,))[1] for jvp, grad in ((bs.jvp, bs.grad), (jax.jvp, jax.grad)))
    assert_same(ours, theirs)


def test_auxiliary_data_that_is_no_array_comes_back():
    def f(q):
        x, y, *_ = arm(*q)
        return x * y, {"word": "two", "array": jnp.sin(q)}

    def run(q):
        gradient, aux = bs.grad(f, has_aux=True)(q)
        jacobian, again = bs.jacobian(f, has_aux=True)(q)
        assert aux["word"] == again["word"] == "two"
        return gradient, jacobian, aux["array"], again["array"]

    first, second, *others = jax.jit(run)(POINT)
    assert_same(first, second)
    for other in others:
        assert_same(other, jnp.sin(POINT))


def test_effects_and_results_that_are_constant():
    def f(a, b):
        jax.debug.callback(lambda x: seen.append(float(x)), jnp.sum(a))
        return jnp.sum(jnp.sin(a) * jnp.cos(a))

    seen = []
    got = jax.jit(bs.grad(f, argnums=(0, 1)))(POINT, 2.0)
    jax.effects_barrier()
    assert len(seen) == 1
    assert_same(got, reference.grad(f, argnums=(0, 1))(POINT, 2.0))

    def arrays(x):
        rows = bs.jacobian(lambda x: (jnp.sin(x) * jnp.sin(x), 3.0 * x))(x)
        assert all(isinstance(row, jax.Array) for row in rows)
        return rows

    assert_same(jax.jit(arrays)(1.0), (jnp.sin(2.0), 3.0))
