"""Loops taken apart where a derivative is solved with: right whatever the loop, and linear in its steps."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.algebra.spaces import ArraySpace
from backsolve.capture import bidiagonal
from backsolve.capture.solving import bordered_system
from tests import reference

RNG = np.random.default_rng(3)
T, N = 12, 3
W = 0.4 * RNG.standard_normal((N, N))
X = RNG.standard_normal((T, N))
C0 = RNG.standard_normal(N)


def over(step, start=C0, **options):
    """All outputs of a scan over the rows of x."""
    return lambda x: lax.scan(step, start, x, **options)[1]


def dense_step(c, x):
    c = jnp.tanh(W @ c) + x
    return c, c * 2 + jnp.sin(x)


def with_counter(x):
    def body(t, carry):
        c, out = carry
        c = jnp.cos(c) * 0.3 + x[t] * (1.0 + t)
        return c, out.at[t].set(c)

    return lax.fori_loop(0, T, body, (C0, jnp.zeros_like(x)))[1]


def known_carry(x):
    """What is carried beside the tangents' own carry is known: a step that grows."""

    def step(carry, u):
        c, h = carry
        c = c * jnp.exp(-h) + u
        return (c, h * 1.1), c

    return lax.scan(step, (C0, 0.1), x)[1]


def several_leaves(x):
    def step(carry, u):
        a, b = carry
        a = jnp.sin(a) * 0.5 + jnp.tanh(b) * 0.1 + u
        b = 0.2 * b + jnp.sum(jnp.sin(a) ** 2)
        return (a, b), {"y": a + b, "z": u * jnp.cos(a)}

    out = lax.scan(step, (C0, 1.5), x)[1]
    return out["y"] + 0.3 * out["z"]


def constants_move(x):
    w = x[0] * 0.1

    def step(c, u):
        c = jnp.sin(c) * w + u
        return c, c

    return lax.scan(step, C0, x)[1]


def starts_from_x(x):
    def step(c, u):
        c = 0.5 * c + u * u
        return c, c + u

    return lax.scan(step, jnp.sum(x, axis=0), x)[1]


def loops_in_loops(x):
    def step(c, u):
        c = lax.fori_loop(0, 3, lambda i, c: 0.4 * jnp.roll(jnp.sin(c), 1) + u, c)
        return c, c + u

    return lax.scan(step, C0, x)[1]


def branches(x):
    def step(c, u):
        c = lax.cond(u[0] > 0, lambda c: jnp.sin(c) + u, lambda c: 0.3 * jnp.flip(c) + 2 * u, c)
        return c, c

    return lax.scan(step, C0, x)[1]


def batched(x):
    """T loops of N steps each, side by side."""

    def one(row):
        def step(c, u):
            c = jnp.sin(c) * 0.5 + u
            return c, c

        return lax.scan(step, 0.3, row)[1]

    return jax.vmap(one)(x.T).T


def checkpointed(x):
    @jax.checkpoint
    def step(c, u):
        c = jnp.tanh(W @ jnp.sin(c)) + u
        return c, c * jnp.cosh(u)

    return lax.scan(step, C0, x)[1]


def there_and_back(x):
    forward = over(dense_step)(x)
    return lax.scan(dense_step, C0, jnp.sin(forward), reverse=True)[1] + forward


def unrolled(x):
    return lax.scan(dense_step, C0, x, unroll=4)[1]


def two_at_once(x):
    return over(dense_step)(x) + over(lambda c, u: (0.9 * c + u, jnp.sin(c) * 0.2), C0)(x)


def handed_on(x):
    """Outputs of the carries after the step, one of which follows from the other."""

    def step(carry, u):
        a, b = carry
        b = 0.3 * b + u * jnp.sin(a)
        a = 0.2 * jnp.cos(a) + 0.5 * b
        return (a, b), (jnp.sin(jnp.roll(a, 1)) * b, u + a)

    y, z = lax.scan(step, (C0, 0.4 * C0), x)[1]
    return y + 2 * z


def history(x):
    """The last states are carried: one carry is another's of before, one of them twice."""

    def step(carry, u):
        new, before, _ = carry
        after = jnp.sin(new) * 0.5 - 0.2 * before + u
        return (after, new, after), (after + jnp.sin(new), jnp.cumsum(after))

    y, z = lax.scan(step, (C0, C0, C0), x)[1]
    return y + z


PROGRAMS = {
    "dense": over(dense_step),
    "reverse": over(dense_step, reverse=True),
    "diagonal": over(lambda c, u: (jnp.sin(c) + u, jnp.sin(c) + u)),
    "stencil": over(lambda c, u: (0.3 * (jnp.roll(c, 1) + c) + u, 0.3 * jnp.roll(c, 1) + u)),
    "counter": with_counter,
    "known carry": known_carry,
    "several leaves": several_leaves,
    "constants": constants_move,
    "start": starts_from_x,
    "loops in loops": loops_in_loops,
    "branches": branches,
    "batched": batched,
    "checkpoint": checkpointed,
    "there and back": there_and_back,
    "unrolled": unrolled,
    "two": two_at_once,
    "handed on": handed_on,
    "history": history,
}


@cache
def jacobian(name):
    """The Jacobian of a program at X, by JAX."""
    return np.asarray(jax.jit(jax.jacfwd(PROGRAMS[name]))(X))


def loss_of(name):
    """A function to one number whose Hessian goes through the loop twice."""
    return lambda x: jnp.sum(PROGRAMS[name](x) ** 2) + jnp.sum(jnp.cosh(x))


@cache
def hessian(name):
    """Its Hessian at X as a matrix, by JAX."""
    return np.asarray(jax.jit(jax.hessian(loss_of(name)))(X)).reshape(X.size, X.size)


@cache
def products(name):
    """J t and Jᵀ g at X by JAX, a function of t and g that is compiled once."""
    f = PROGRAMS[name]
    return jax.jit(lambda t, g: (jax.jvp(f, (X,), (t,))[1], jax.vjp(f, X)[1](g)[0]))


def parts(system):
    """How many loops a bordered matrix has taken apart."""
    return [part.pieces for part in bordered_system(system).layout.cols if part.pieces > 1]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_solutions_through_loops(name, compiled):
    f = PROGRAMS[name]
    b = RNG.standard_normal((T, N))
    J = jacobian(name).reshape(X.size, X.size)
    assert np.linalg.cond(J) < 1e8

    def both(x, b):
        system = bs.linearize(f, x)
        return system.solve(b), system.solve_transpose(b)

    solution, transposed = (jax.jit(both) if compiled else both)(X, b)
    np.testing.assert_allclose(np.ravel(solution), np.linalg.solve(J, np.ravel(b)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.ravel(transposed), np.linalg.solve(J.T, np.ravel(b)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"counter", "batched"}))
def test_loops_are_taken_apart(name):
    assert T in parts(bs.linearize(PROGRAMS[name], X))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_inverse_hessians_through_loops(name, compiled):
    def product(x, v):
        return bs.inverse_hvp(loss_of(name), (x,), v, damping=1.0)

    v = RNG.standard_normal((T, N))
    H = hessian(name) + np.eye(X.size)
    u = (jax.jit(product) if compiled else product)(X, v)
    np.testing.assert_allclose(np.ravel(u), np.linalg.solve(H, np.ravel(v)), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_unfolded_loops_are_the_same_system(name):
    f = PROGRAMS[name]
    system = bs.linearize(f, X)
    steps = system.unfolded()
    loops = [op for op in system.L.entries.values() if "scan" in op.label]
    loops += [op for op in system.M.entries.values() if "scan" in op.label]
    assert steps.L.shape[0] >= system.L.shape[0] + (0 if name == "batched" else T * len(loops))
    t, g = RNG.standard_normal((2, T, N))
    change, gradient = products(name)(t, g)
    np.testing.assert_allclose(steps.jvp(t), change, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(steps.vjp(g), gradient, rtol=1e-9, atol=1e-12)
    J = jacobian(name)
    for order in ("auto", "forward", "reverse"):
        np.testing.assert_allclose(steps.jacobian(order), J, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(steps.jacobian(format="sparse").todense(), J, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_steps_in_parallel_are_the_same_system(name, compiled):
    f = PROGRAMS[name]
    t, g = RNG.standard_normal((2, T, N))

    def in_parallel(x, t, g):
        system = bs.linearize(f, x).in_parallel()
        return system.jvp(t), system.vjp(g), system.jacobian("forward"), system.jacobian("reverse")

    ours = (jax.jit(in_parallel) if compiled else in_parallel)(X, t, g)
    J = jacobian(name)
    for a, b in zip(ours, (*products(name)(t, g), J, J), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("steps", [64, 8192])
def test_the_depth_of_steps_in_parallel_is_logarithmic(steps, diagonal):
    """Counted in the compiled program: no loop is left, and an operation more for each doubling of the steps."""
    W = np.eye(4) * 0.5 if diagonal else 0.4 * RNG.standard_normal((4, 4))

    def f(x):
        return lax.scan(lambda c, u: ((jnp.sin(c) * 0.5 if diagonal else jnp.tanh(W @ c)) + u, None), jnp.zeros(4), x)[0]

    x = 0.1 * RNG.standard_normal((steps, 4))
    system = bs.linearize(f, x).in_parallel()
    program = jax.jit(lambda system, g: system.vjp(g)).lower(system, jnp.ones(4)).compile()
    assert " while(" not in program.as_text()
    np.testing.assert_allclose(
        program(system, jnp.ones(4)), reference.grad(lambda x: jnp.sum(f(x)))(x), rtol=1e-9, atol=1e-12
    )
    depth = jax.make_jaxpr(lambda system, g: system.vjp(g))(system, jnp.ones(4))
    assert len(depth.eqns) < 40 * np.log2(steps)


@pytest.mark.parametrize(
    ("name", "compiled"),
    [("reverse", True), ("loops in loops", True), ("known carry", True), ("counter", True), ("diagonal", False)],
)
def test_derivatives_with_loops_in_parallel(name, compiled):
    loss, v = loss_of(name), np.linspace(-1, 1, X.size).reshape(X.shape)

    def derivatives(x):
        first = bs.value_and_grad(loss, loops="parallel")(x)
        change = bs.jvp(loss, (x,), (v,), loops="parallel")[1]
        product = bs.hvp(loss, (x,), (v,), loops="parallel")
        return first, change, product, jax.jvp(bs.grad(loss, loops="parallel"), (x,), (v,))[1]

    ours = (jax.jit(derivatives) if compiled else derivatives)(X)
    value, gradient = loss(jnp.asarray(X)), reference.grad(loss)(X)
    second = hessian(name) @ v.reshape(-1)
    second = second.reshape(X.shape)
    expected = ((value, gradient), np.vdot(gradient, v), second, second)
    for a, b in zip(*map(jax.tree_util.tree_leaves, (ours, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_weights_in_parallel_take_no_more_memory_than_their_steps():
    """The gradient by the weights of a narrow net with many inputs: no block of step, row and weight is held."""
    steps, width, inputs = 500, 2, 200
    V, x = RNG.standard_normal((width, inputs)), 0.1 * RNG.standard_normal((steps, inputs))

    def f(V):
        return jnp.sum(lax.scan(lambda c, u: (jnp.tanh(0.5 * jnp.flip(c) + V @ u), c), jnp.zeros(width), x)[1] ** 2)

    gradient = jax.jit(bs.grad(f, loops="parallel")).lower(V).compile()
    np.testing.assert_allclose(gradient(V), reference.grad(f)(V), rtol=1e-9, atol=1e-12)
    assert gradient.memory_analysis().temp_size_in_bytes < 8 * steps * width * inputs / 2


def test_loops_in_parallel_under_vmap():
    batch = np.stack([X, 0.5 * X, -X])
    ours = jax.jit(jax.vmap(bs.grad(loss_of("several leaves"), loops="parallel")))(batch)
    np.testing.assert_allclose(ours, jax.jit(jax.vmap(jax.grad(loss_of("several leaves"))))(batch), rtol=1e-9, atol=1e-11)


def test_loops_are_chosen_by_cost(monkeypatch):
    """On a processor all as they are; elsewhere those that carry little are in parallel, and the gradient is the same."""

    def f(x):
        narrow = over(dense_step)(x)
        wide = lax.scan(lambda c, u: (jnp.sin(c) * 0.5 + jnp.sum(u), None), jnp.ones(33), narrow)[0]
        return jnp.sum(wide**2)

    def labels():
        system = bs.linearize(f, X, loops="auto")
        return [op.label for A in (system.M, system.L) for op in A.entries.values()]

    expected = reference.grad(f)(X)
    assert labels().count("scan") == 2
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert labels().count("scan") == 1
    assert labels().count("(I − A)⁻¹") == 1
    np.testing.assert_allclose(bs.grad(f, loops="auto")(X), expected, rtol=1e-9)


def test_unknown_words_for_loops_are_refused():
    f = loss_of("dense")
    unknown = "unknown loops='fast'; use one of 'sequential', 'parallel', 'auto'"
    with pytest.raises(ValueError, match=unknown):
        bs.grad(f, loops="fast")
    with pytest.raises(ValueError, match=unknown):
        bs.vjp(f, X, loops="fast")
    with pytest.raises(ValueError, match=unknown):
        bs.linearize(f, X, loops="fast")
    with pytest.raises(ValueError, match="unknown loops=True"):
        bs.jvp(f, (X,), (X,), loops=True)


def test_blocks_that_do_not_fit_are_refused(monkeypatch):
    """A carry of 40,000 numbers that mix at each of 50 steps; and one that fits while planning, but not twice over."""

    def mixed(x):
        start = jnp.full(40_000, x)
        return jnp.sum(lax.fori_loop(0, 50, lambda i, c: jnp.sin(c) + jnp.sum(c * c), start))

    with pytest.raises(MemoryError, match=r"needs [\d,]+ bytes") as told:
        bs.grad(mixed, loops="parallel")(1.0)
    assert "loops='sequential' keeps them whole" in told.value.__notes__[0]
    monkeypatch.setattr(bidiagonal, "available_memory", lambda: 2_000)
    refusal = (
        r"scan \(.*\): its 12 steps side by side are as many blocks of 3 × 3 numbers and need 3,456 bytes, but 2,000 are"
    )
    with pytest.raises(MemoryError, match=refusal):
        bs.linearize(PROGRAMS["dense"], X, loops="parallel")
    bs.linearize(PROGRAMS["diagonal"], X, loops="parallel")


def test_the_papers_net_as_a_scan():
    """Its L, unfolded, is the paper's block bidiagonal one: Δ Wᴸ below the diagonal; M holds Δ (X)ᴿ and Δ, a row a layer."""
    layers, width, batch = 4, 3, 2
    Ws, biases = 0.5 * RNG.standard_normal((layers, width, width)), RNG.standard_normal((layers, width, 1))
    X0 = RNG.standard_normal((width, batch))

    def net(Ws, biases):
        def layer(X, parameters):
            W, b = parameters
            X = jnp.tanh(W @ X + b)
            return X, X

        return lax.scan(layer, X0, (Ws, biases))[0]

    system = bs.linearize(net, Ws, biases, argnums=(0, 1)).unfolded()
    names = list(system.L.names)
    nodes = [k for k, name in enumerate(names) if name.startswith("step")]
    assert [names[k].split("(")[0] for k in nodes] == [f"step {t} of scan " for t in range(layers)]

    X, Xs, deltas = X0, [], []
    for W, b in zip(Ws, biases, strict=True):
        Xs.append(X)
        X = np.tanh(W @ X + b)
        deltas.append(bs.hadamard(1 - X**2))
    size = width * batch
    papers = bs.bidiagonal([0] * layers, [delta @ bs.left_mul(W) for delta, W in zip(deltas[1:], Ws[1:], strict=True)])
    ours = system.L.entries
    for i, row in enumerate(nodes):
        for j, column in enumerate(nodes):
            assert ((row, column) in ours) == (i == j + 1)
            if i == j + 1:
                expected = papers[i, j].refine(ArraySpace((width, batch)), ArraySpace((width, batch))).todense()
                np.testing.assert_allclose(ours[row, column].todense(), expected.reshape(size, size), rtol=1e-12)
    ones = np.ones((1, batch))
    for t, (row, delta) in enumerate(zip(nodes, deltas, strict=True)):
        for leaf, (factor, shape) in enumerate([(Xs[t], (width, width)), (ones, (width, 1))]):
            expected = (delta @ bs.right_mul(factor)).refine(ArraySpace(shape), ArraySpace((width, batch))).todense()
            block = np.asarray(system.M.entries[row, leaf].todense()).reshape(size, layers, -1)
            np.testing.assert_allclose(block[:, t], expected.reshape(size, -1), rtol=1e-12)
            assert not np.delete(block, t, axis=1).any()


def rollout(u):
    """The cost of a pendulum's path under torques."""

    def step(state, torque):
        angle, speed = state
        state = jnp.stack([angle + 0.05 * speed, speed + 0.05 * (torque - jnp.sin(angle) - 0.4 * speed)])
        return state, state @ state + 0.01 * torque**2

    end, costs = lax.scan(step, jnp.array([1.0, 0.0]), u)
    return jnp.sum(costs) + 10 * end @ end


def test_optimal_control_is_linear_in_its_steps():
    entries = {}
    for steps in (100, 200, 10_000):
        u = jnp.asarray(0.1 * RNG.standard_normal(steps))
        matrix = bordered_system(bs.linearize(bs.grad(rollout), u))
        entries[steps] = matrix.layout.nnz
        assert matrix.layout.size == 5 * steps  # state, costate and torque of each
    assert entries[200] - entries[100] == (entries[10_000] - entries[200]) / 98
    u, v = jnp.asarray(0.1 * RNG.standard_normal(10_000)), jnp.asarray(RNG.standard_normal(10_000))
    x = bs.inverse_hvp(rollout, (u,), v)
    np.testing.assert_allclose(jax.jvp(jax.grad(rollout), (u,), (x,))[1], v, atol=1e-10)


def pulled(bwd):
    """A function that is sin, rolled by one, of which only this pullback is known, in a loop."""

    @jax.custom_vjp
    def rolled(x):
        return jnp.roll(jnp.sin(x), 1)

    rolled.defvjp(lambda x: (rolled(x), jnp.cos(x)), bwd)

    def step(c, u):
        c = 0.5 * rolled(c) + u
        return c, c * 2 + rolled(u * c)

    return over(step)


def test_functions_known_by_their_pullback_are_taken_apart():
    f = pulled(lambda slope, ct: (slope * jnp.roll(ct, -1),))

    def plain(c, u):
        c = 0.5 * jnp.roll(jnp.sin(c), 1) + u
        return c, c * 2 + jnp.roll(jnp.sin(u * c), 1)

    J = np.asarray(reference.jacobian(over(plain))(X)).reshape(X.size, X.size)
    b, g = RNG.standard_normal((2, T, N))
    system = bs.linearize(f, X)
    assert T in parts(system)
    np.testing.assert_allclose(np.ravel(system.solve(b)), np.linalg.solve(J, b.ravel()), rtol=1e-9)
    for other in (system.unfolded(), system.in_parallel()):
        np.testing.assert_allclose(np.ravel(other.vjp(g)), J.T @ g.ravel(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.ravel(jax.jit(other.vjp)(g)), J.T @ g.ravel(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.ravel(other.jvp(b)), J @ b.ravel(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(bs.jacobian(f, format="sparse")(X).todense().reshape(J.shape), J, atol=1e-12)

    def loss(f):
        return lambda x: jnp.sum(f(x) ** 2) + jnp.sum(jnp.cosh(x))

    H = np.asarray(reference.hessian(loss(over(plain)))(X)).reshape(X.size, X.size)
    product = bs.inverse_hvp(loss(f), (X,), b, damping=1.0)
    np.testing.assert_allclose(np.ravel(product), np.linalg.solve(H + np.eye(X.size), b.ravel()), rtol=1e-8)


def test_pullbacks_that_are_not_linear_keep_a_loop_whole():
    for bwd in (
        lambda slope, ct: (jnp.clip(slope * jnp.roll(ct, -1), -9, 9),),
        lambda slope, ct: (slope * jnp.roll(ct, -1) / jnp.maximum(1.0, jnp.linalg.norm(ct)),),
        lambda slope, ct: (slope * jnp.roll(ct, -1) * jnp.where(ct > 0, 1.0, 0.5),),
    ):
        assert parts(bs.linearize(pulled(bwd), X)) == []


def test_stages_of_a_step_are_no_unknowns():
    """The stages of a Runge-Kutta method, which the pullback reads too, add no entry where they are eliminated."""

    def rate(state, torque):
        return jnp.stack([state[1], torque - jnp.sin(state[0])])

    def f(torques):
        def step(s, u):
            k1 = rate(s, u)
            k2 = rate(s + 0.05 * k1, u)
            k3 = rate(s + 0.05 * k2, u)
            s = s + 0.1 / 6 * (k1 + 2 * k2 + 2 * k3 + rate(s + 0.1 * k3, u))
            return s, s @ s + 0.1 * u**2

        return jnp.sum(lax.scan(step, jnp.array([1.0, 0.0]), torques)[1])

    u, v = jnp.asarray(0.1 * RNG.standard_normal(40)), RNG.standard_normal(40)
    assert bordered_system(bs.linearize(bs.grad(f), u)).layout.size == 5 * 40
    H = np.asarray(reference.hessian(f)(u))
    for product in (bs.inverse_hvp, jax.jit(bs.inverse_hvp, static_argnums=0)):
        np.testing.assert_allclose(product(f, (u,), v), np.linalg.solve(H, v), rtol=1e-9)


def test_newton_through_a_loop():
    """All states of an implicit scheme as unknowns of a loop that checks them."""

    def residual(x):
        def step(before, now):
            return now, now - before - 0.1 * (jnp.sin(now) + 1)

        return lax.scan(step, jnp.zeros(2), x)[1]

    solution = bs.root(residual, jnp.zeros((50, 2)))
    before = np.zeros(2)
    for now in np.asarray(solution):
        np.testing.assert_allclose(now, before + 0.1 * (np.sin(now) + 1), atol=1e-12)
        before = now


def test_the_carry_is_named_by_loop_and_step():
    """Unknowns of a loop are named by its place in the source, the step and the entry: for errors of singular matrices."""

    def f(x):
        return lax.scan(lambda c, u: (jnp.where(jnp.arange(N) > 0, c + u, 0.0), c + jnp.flip(u)), C0, x)[1]

    layout = bordered_system(bs.linearize(f, X)).layout
    labels = [layout.column_label(k) for k in range(layout.size)]
    (label,) = (each for each in labels if each.endswith("at step 4, entry 2 of 3"))
    assert label.startswith("the carry of scan (")
    assert "test_recurrence.py" in label
    with pytest.raises(bs.SingularError, match=r"for its pattern alone: 12 of 72 unknowns"):
        bs.solve_jacobian(lambda x: f(x) * jnp.arange(N), X, X)


def test_what_is_smaller_whole_stays_whole():
    """The last carry of a small state has a small matrix of its own."""

    def last(x):
        return lax.fori_loop(0, 100, lambda i, c: jnp.tanh(W @ c) + 0.1, x)

    assert parts(bs.linearize(last, C0)) == []
