"""J x = b and Jᵀ y = g without J, against JAX's dense Jacobian: programs of all kinds, engines, transforms, refusals."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax import lax
from jax.flatten_util import ravel_pytree

import backsolve as bs
from backsolve.capture.solving import bordered_system

from .. import reference
from ..engines.installed import GENERAL
from .oracle import as_jax, assert_close, compiled, complex_normal, normal, positive
from .test_primitives import CASES
from .test_random_programs import FAMILIES, PROGRAMS, Program, programs

A = normal(4, 4) + 4 * np.eye(4)


@jax.custom_jvp
def bent(x):
    return jnp.where(x > 0, x, 0.1 * x)


bent.defjvp(lambda p, t: (bent(p[0]), jnp.where(p[0] > 0, 3.0, 0.2) * t[0]))


@jax.custom_vjp
def own(x):
    return jnp.sin(x) * x[::-1]


own.defvjp(lambda x: (own(x), x), lambda x, g: (jnp.cos(x) * x[::-1] * g + (jnp.sin(x) * g)[::-1],))


def residual_net(x):
    for k in range(4):
        x = x + 0.3 * jnp.tanh(normal(4, 4, seed=k) @ x)
    return x


V = normal(4)
TREE = {"a": positive(2, 3), "b": (positive(2), np.float64(1.5))}
# name: (function, its argument, damping)
PROBLEMS = {
    "the identity": (lambda x: x, V, None),
    "damped identity": (lambda x: x, V, 0.5),
    "a net": (residual_net, V, None),
    "a number": (lambda x: x**3 + x, np.float64(2.0), None),
    "a matrix": (lambda X: A[:3, :3] @ X @ A[:2, :2] + jnp.sin(X), normal(3, 2), None),
    "a constant, damped": (lambda x: jnp.ones(4), V, 2.0),
    "entries unused": (lambda x: jnp.concatenate([x[:2] ** 3, jnp.zeros(2)]), V, 1.0),
    "a leaf unused": (lambda p: [p[0] * 2, jnp.zeros(2)], [normal(3), normal(2)], 3.0),
    "inputs as outputs": (lambda p: (p[1], p[0]), (normal(2), normal(3)), None),
    "leaves of other shapes": (lambda p: (jnp.sin(p[1]) + 2 * p[1], p[0].reshape(3, 2) * 2), (normal(6), normal(3)), 0.3),
    "one leaf split": (lambda x: {"head": x[:1] * 2, "tail": (x[1:3] * x[0], x[3] + 0)}, positive(4), None),
    "a tree": (lambda p: {"a": p["a"] * p["b"][1] + 1, "b": (p["b"][0] ** 2 + p["a"][:, 0], p["b"][1] * 3)}, TREE, None),
    "an output twice": (lambda x: [x[:2] * 2 + x[2:], x[:2] * 2], V, 0.1),
    "gather and scatter": (lambda x: x[np.array([2, 0, 3, 1])].at[np.array([0, 2])].add(x[:2] * x[2:]) + x, V, None),
    "computed gather": (lambda x: x[jnp.argsort(x)] + x, V, 5.0),
    "scan": (lambda x: lax.scan(lambda c, w: (jnp.sin(c) + w * x, c), x, jnp.arange(3.0))[0] + x, V, None),
    "cond": (lambda x: lax.cond(x[0] > 0, jnp.sinh, jnp.sin, A @ x), V, None),
    "custom_jvp": (lambda x: bent(A @ x), V, None),
    "custom_vjp": (lambda x: own(x) + 3 * x, V, None),
    "a linear solve": (lambda x: jnp.linalg.solve(A + jnp.diag(x), x + 1), V, None),
    "cholesky": (lambda x: jnp.linalg.cholesky(A @ A.T + jnp.diag(x**2)) @ x, V, None),
    "a real spectrum": (lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * (1 + 2j), 4) + x, V, None),
    "complex between": (lambda x: jnp.abs(jnp.cumprod(jnp.exp((1 + 1j) * x))), V, None),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(A @ x) + x), V, None),
    "vmap": (jax.vmap(lambda v: jnp.linalg.solve(A, v) * v + v), positive(3, 4), None),
    "a batched net": (lambda X: X + jnp.tanh(X @ A) @ A[::-1] / 9, normal(3, 4), None),
    "dtypes": (lambda p: (p[1] * p[0][0], p[0] ** 2), (positive(3), positive(3).astype(np.float32)), None),
}
ENGINES = ["superlu", "blocks", *GENERAL]


def flattened(f, x):
    """f between flat vectors, and how to unflatten right-hand sides of J and of Jᵀ."""
    flat, unflat = ravel_pytree(x)
    value, unvalue = ravel_pytree(f(x))
    return flat, unflat, value.size, unvalue, lambda v: ravel_pytree(f(unflat(v)))[0]


def assert_solves(f, x, damping=None, engine="auto", *, rtol=1e-9, least=1e-9):
    """Both solutions, relative to the largest entry; random programs too near to singular are left out."""
    (x,) = as_jax((x,))
    flat, unflat, m, unvalue, F = flattened(f, x)
    assert m == flat.size
    J = compiled(jax.jacobian(F))(flat) + (0 if damping is None else damping) * jnp.eye(m)
    if not np.isfinite(J).all() or np.linalg.cond(J) * np.finfo(float).eps > least * 1e-3:
        return False
    system = bs.linearize(f, x)
    for solve, matrix, rhs, form in (
        (system.solve, J, normal(m, seed=3), unvalue),
        (system.solve_transpose, J.T, normal(m, seed=4), unflat),
    ):
        b = form(jnp.asarray(rhs))
        got = solve(b, damping=damping, engine=engine)
        other = x if matrix is J else f(x)
        assert jax.tree.structure(got) == jax.tree.structure(other)
        for leaf, like in zip(jax.tree.leaves(got), jax.tree.leaves(other), strict=True):
            assert (leaf.shape, leaf.dtype) == (jnp.shape(like), jnp.result_type(like))
        want = np.linalg.solve(np.asarray(matrix), np.asarray(ravel_pytree(b)[0]))
        got = np.asarray(ravel_pytree(got)[0])
        np.testing.assert_allclose(got, want, rtol=0, atol=rtol * np.abs(want).max())
    return True


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_against_the_dense_solution(name, engine):
    f, x, damping = PROBLEMS[name]
    assert assert_solves(f, x, damping, engine, rtol=1e-5 if name == "dtypes" else 1e-9)


def test_a_loop_solved_forward():
    """JAX has no reverse mode of a while loop, and none is needed to solve with its Jacobian."""

    def f(x):
        return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1]) + x), (0, x))[1]

    x, b = as_jax((V, normal(4, seed=1)))
    for engine in ENGINES:
        assert_close(bs.solve_jacobian(f, x, b, engine=engine), jnp.linalg.solve(reference.jacfwd(f)(x), b))


NUMERIC = [p for p in CASES if not p.id.startswith(("linear_call", "ragged_dot"))]  # which JAX cannot batch
SQUARE = [p for p in NUMERIC if p.values[1].vjp and p.values[1].adjoint and p.values[1].rtol is None]


def real_parts(f, args):
    """f as a function of one real vector, the leaves of double precision or their real and imaginary parts, and at which."""
    leaves, structure = jax.tree.flatten(as_jax(args))
    mine = [i for i, leaf in enumerate(leaves) if getattr(leaf, "dtype", None) in (np.float64, np.complex128)]
    x, unflat = ravel_pytree([[leaves[i].real, leaves[i].imag][: 1 + jnp.iscomplexobj(leaves[i])] for i in mine])

    def F(x):
        own = {i: parts[0] if len(parts) == 1 else lax.complex(*parts) for i, parts in zip(mine, unflat(x), strict=True)}
        value = f(*jax.tree.unflatten(structure, [own.get(i, leaf) for i, leaf in enumerate(leaves)]))
        flat = [jnp.ravel(y) for y in jax.tree.leaves(value) if jnp.result_type(y) in (np.float64, np.complex128)]
        parts = [[y.real, y.imag] if jnp.iscomplexobj(y) else [y] for y in flat]
        return jnp.concatenate([jnp.zeros(0), *(part for pair in parts for part in pair)])

    return F, x


@pytest.fixture
def in_all_threads():
    """Double precision where callbacks run, too."""
    with ThreadPoolExecutor(1) as another:  # here it is what this thread has been told
        before = another.submit(lambda: jax.config.jax_enable_x64).result()
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.usefixtures("in_all_threads")
@pytest.mark.parametrize(("name", "c"), SQUARE)
def test_the_jacobian_of_a_primitive(name, c):
    """Of the zoo, its outputs weighted and folded to as many as its inputs, and damped; SuperLU, from compiled code."""
    f, x = real_parts(c.f, c.args)
    if not x.size:
        pytest.skip("no argument has double precision")
    weights = normal(jax.eval_shape(f, x).size, seed=7)
    b, damping = normal(2, x.size, seed=3), 2.5

    def F(x):
        return jnp.zeros(x.size).at[np.arange(weights.size) % x.size].add(weights * f(x))

    def derivative(x):
        return lax.map(lambda e: jax.vjp(F, x)[1](e)[0], jnp.eye(x.size))

    def solutions(x):
        system = bs.linearize(F, x)
        ways = system.solve, system.solve_transpose
        return derivative(x), [solve(v, damping=damping, engine="superlu") for solve, v in zip(ways, b, strict=True)]

    if x.size > 200:  # convolutions, of which concrete values make shorter work
        if not assert_solves(F, x, damping, least=1e-6):
            pytest.skip("nearly singular")
        return
    try:
        J, found = compiled(solutions)(x)
    except jax.errors.JaxRuntimeError as error:
        if "NaN or infinite" not in str(error):
            raise
        if not all(np.isfinite(compiled(mode(F))(x)).all() for mode in (jax.jacfwd, jax.jacrev)):
            pytest.skip("JAX's Jacobian is not finite")
        assert assert_solves(F, x, damping)  # NaN of an edge where zero is passed on: concrete values tell
        return
    J = np.asarray(J) + damping * np.eye(x.size)
    if not np.isfinite(J).all() or np.linalg.cond(J) > 1e6:
        pytest.skip("JAX's Jacobian is not finite, or nearly singular")
    for got, A, v in zip(found, (J, J.T), b, strict=True):
        want = np.linalg.solve(A, v)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_random_programs(family):
    """f'(x) of a program made square by a mixing matrix and regular by damping."""

    @settings(max_examples=PROGRAMS // 20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(programs(family))
    def same_as_jax(program: Program):
        flat, unflat = ravel_pytree(as_jax(program.arguments))
        value, _ = ravel_pytree(program(*unflat(flat)))
        mixing = normal(flat.size, value.size, seed=5)
        assert_solves(lambda v: mixing @ ravel_pytree(program(*unflat(v)))[0], flat, 1.3, least=1e-6)

    same_as_jax()


# ---- numbers -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("engine", ENGINES)
def test_lower_precision(dtype, engine):
    x, b = (jnp.asarray(v, dtype) for v in (V, normal(4, seed=1)))
    got = bs.solve_jacobian(lambda x: jnp.sinh(x) + x[::-1] * 3, x, b, engine=engine)
    assert got.dtype == dtype
    wide, c = x.astype(float), b.astype(float)
    want = jnp.linalg.solve(jnp.diag(jnp.cosh(wide)) + 3 * jnp.eye(4)[::-1], c)
    np.testing.assert_allclose(got.astype(float), want, atol=20 * float(jnp.finfo(dtype).eps) * float(jnp.abs(want).max()))


@pytest.mark.parametrize("engine", [*ENGINES, "gmres", "bicgstab"])
def test_holomorphic_functions(engine):
    C, z, b = as_jax((complex_normal(4, 4), complex_normal(4, seed=1), complex_normal(4, seed=2)))

    def F(z):
        return C @ z**2 + jnp.exp(z)

    J = reference.jacobian(F, holomorphic=True)(z)
    assert_close(bs.solve_jacobian(F, z, b, engine=engine), jnp.linalg.solve(J, b))
    assert_close(bs.linearize(F, z).solve_transpose(b, engine=engine), jnp.linalg.solve(J.T, b))


@pytest.mark.parametrize("f", [lambda z: jnp.conj(z) * 2, lambda z: z * jnp.conj(z) + z, lambda z: z.real + 2j * z.imag])
@pytest.mark.parametrize("engine", ENGINES)
def test_functions_that_are_not_holomorphic(f, engine):
    """The derivative is linear over the reals alone: the change along the solution is the right-hand side."""
    z, b = as_jax((complex_normal(3), complex_normal(3, seed=1)))
    for solve in (
        lambda z: bs.solve_jacobian(f, z, b, engine=engine),
        jax.jit(lambda z: bs.solve_jacobian(f, z, b, engine=engine)),
    ):
        assert_close(jax.jvp(f, (z,), (solve(z),))[1], b)


@pytest.mark.parametrize("f", [jnp.real, jnp.abs, lambda z: jnp.abs(z) ** 2])
def test_real_outputs_of_complex_unknowns_are_refused(f):
    with pytest.raises(ValueError, match="0 outputs and 3 unknowns are complex: over the reals the Jacobian is not square"):
        bs.solve_jacobian(f, jnp.asarray(complex_normal(3)), jnp.ones(3))
    with pytest.raises(ValueError, match="3 outputs and 0 unknowns are complex"):
        bs.solve_jacobian(lambda x: x * 1j, jnp.ones(3), jnp.ones(3) + 0j)


def test_numbers_that_are_not_finite():
    with pytest.raises(bs.SingularError, match="NaN or infinite, in the column of source 0, entry 1 of 3"):
        bs.solve_jacobian(jnp.sqrt, jnp.array([1.0, -1.0, 2.0]), jnp.ones(3))
    assert np.isnan(bs.solve_jacobian(lambda x: 2 * x, jnp.ones(2), jnp.array([jnp.nan, 1.0]))[0])


# ---- iterative solvers ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("engine", ["gmres", "cg", "bicgstab"])
def test_iterative_solvers(engine):
    """With a symmetric matrix, which serves all three."""
    S = A @ A.T

    def f(x):
        return S @ x + x**3

    x, b = as_jax((V, normal(4, seed=1)))
    J = reference.jacobian(f)(x)
    system = bs.linearize(f, x)
    for damping, D in ((None, J), (0.7, J + 0.7 * jnp.eye(4))):
        assert_close(system.solve(b, damping=damping, engine=engine), jnp.linalg.solve(D, b), rtol=1e-8)
    assert_close(jax.jit(system.solve, static_argnames="engine")(b, engine=engine), jnp.linalg.solve(J, b), rtol=1e-8)
    zero = bs.solve_jacobian(f, x, 0 * b, engine=engine)
    np.testing.assert_array_equal(zero, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bicgstab_begins_anew_where_it_breaks_down(dtype):
    """Drift and diffusion, of condition 25, with both directions of the same products."""
    x, b = (jnp.asarray(np.cos(np.arange(144.0) ** k).reshape(12, 12), dtype) for k in (1, 2))

    def f(u):
        around = jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1)
        return 4.3 * u - around + 0.3 * (jnp.roll(u, 1, 0) - jnp.roll(u, -1, 0)) + 0.01 * u**3

    J = np.asarray(reference.jacobian(f)(x), float).reshape(144, 144)
    tol = 1e-3 if dtype == np.float32 else 1e-7
    for transposed in (False, True):
        name = "solve_transpose" if transposed else "solve"

        def solved(x, b, name=name):
            return getattr(bs.linearize(f, x), name)(b, engine="bicgstab")

        want = np.linalg.solve(J.T if transposed else J, np.asarray(b, float).ravel()).reshape(12, 12)
        for got in (solved(x, b), jax.jit(solved)(x, b)):
            assert got.dtype == dtype
            np.testing.assert_allclose(got, want, rtol=tol, atol=tol)


def test_an_iteration_that_does_not_converge_is_told():
    for rotated in (lambda x: jnp.stack([x[1], -x[0]]), lambda x: x.at[1].set(0.0)):
        with pytest.raises(bs.SingularError, match=r"BiCGStab has left a residual of .* singular or badly conditioned"):
            bs.solve_jacobian(rotated, jnp.ones(2), jnp.array([1.0, 2.0]), engine="bicgstab")
        assert np.isnan(jax.jit(lambda b, f=rotated: bs.solve_jacobian(f, b, b, engine="bicgstab"))(jnp.ones(2))).all()

    with pytest.raises(bs.SingularError, match=r"GMRES has left a residual of .* singular or badly conditioned"):
        bs.solve_jacobian(lambda x: x.at[1].set(0.0), jnp.asarray(V), jnp.ones(4), engine="gmres")
    with pytest.raises(bs.SingularError, match=r"CG has left a residual .*not positive definite"):
        bs.solve_jacobian(lambda x: jnp.ones((4, 4)) @ x, jnp.asarray(V), jnp.asarray(V), engine="cg")


# ---- wrong input ---------------------------------------------------------------------------------------------------------
X = np.ones(3)
REFUSED = {
    "not square": (lambda x: x[:2], X, X[:2], {}, ValueError, r"2 rows and 3 columns \(outputs \(2,\), unknowns \(3,\)\)"),
    "integer": (lambda x: 2.0 * x, np.arange(3), X, {}, TypeError, "leaf 0 of the unknowns has dtype int64"),
    "a leaf": (lambda p: p[0] * p[1], (X, np.arange(3)), X, {}, TypeError, "leaf 1 of the unknowns has dtype int64"),
    "value": (lambda x: (x, jnp.argsort(x)), X, (X, np.arange(3)), {}, TypeError, "leaf 1 of the outputs has dtype int64"),
    "shape": (lambda x: x, X, np.ones(2), {}, ValueError, r"shape \(2,\) does not match the leaf's shape \(3,\)"),
    "tree": (lambda x: x, X, [X], {}, TypeError, r"must have the tree PyTreeDef\(\*\), got PyTreeDef\(\[\*\]\)"),
    "dtype": (lambda x: x, X, X.astype(np.float32), {}, TypeError, "dtype float32 does not match the leaf's dtype float64"),
    "engine": (lambda x: x, X, X, {"engine": "lu"}, ValueError, "unknown engine 'lu'; use one of 'auto', 'superlu'"),
    "vector": (lambda x: x, X, X, {"damping": X}, TypeError, "damping must be a single number"),
    "text": (lambda x: x, X, X, {"damping": "1"}, TypeError, "damping must be a single number.*'1'"),
    "complex": (lambda x: x, X, X, {"damping": 1j}, TypeError, "real where an unknown is, got 1j"),
    "pattern": (lambda x: x.at[1].set(0.0), X, X, {}, bs.SingularError, "1 of 3 .* the first is source 0, entry 1 of 3"),
    "numbers": (lambda x: jnp.ones((3, 3)) @ x, X, X, {}, bs.SingularError, "the pivot of source 0, entry . of 3 is .*e-1"),
    "a constant": (lambda x: jnp.ones(3), X, X, {}, bs.SingularError, "3 of 3 unknowns have no equation"),
    "damped away": (lambda x: 2 * x, X, X, {"damping": -2.0}, bs.SingularError, "singular"),
    "blocks": (lambda x: jnp.ones((3, 3)), X, np.ones((3, 3)), {"engine": "blocks"}, ValueError, "9 rows and 3 columns"),
    "blocks of 0": (lambda x: 0.0 * x + 1, X, X, {"engine": "blocks"}, bs.SingularError, "source 0, entry 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    f, x, b, options, error, message = REFUSED[name]
    (x, b) = as_jax((x, b))
    with pytest.raises(error, match=message):
        bs.solve_jacobian(f, x, b, **options)


def test_the_inner_node_that_is_singular_is_named():
    """A hidden unknown given by nothing: its own equation is multiplied away."""
    x = jnp.ones(4)
    with pytest.raises(bs.SingularError, match=r"pivot of .*entry \d+ of \d+ is"):
        bs.solve_jacobian(lambda x: A @ jnp.sinh(jnp.outer(A[0], A[1]) @ jnp.tanh(A @ x)), x, x)


def test_without_entries():
    for engine in (*ENGINES, "gmres"):
        assert bs.solve_jacobian(lambda x: x * 2, jnp.zeros(0), jnp.zeros(0), engine=engine).shape == (0,)
    assert bs.solve_jacobian(lambda x: (), (), ()) == ()


def test_memory_that_would_not_suffice(monkeypatch):
    monkeypatch.setattr("backsolve.algebra.spaces.available_memory", lambda: 2**24)
    with pytest.raises(MemoryError, match=r"\d{1,3}(,\d{3})+ bytes"):
        bs.solve_jacobian(lambda x: jnp.sin(jnp.ones((2000, 2000)) @ x), jnp.ones(2000), jnp.ones(2000))


def test_further_right_hand_sides_cost_no_factors():
    system = bs.linearize(residual_net, jnp.asarray(V))
    first = system.factored()
    system.solve(jnp.ones(4))
    system.solve_transpose(jnp.ones(4))
    assert system.factored() is first
    assert system.factored(damping=1.0) is not first
    np.testing.assert_allclose(
        first.solve(np.eye(4)), np.linalg.inv(reference.jacobian(residual_net)(V)), rtol=1e-10, atol=1e-12
    )
    assert "Inverse of a Jacobian of 4 × 4" in repr(first)


@pytest.mark.usefixtures("in_all_threads")
def test_a_node_between_large_dense_blocks_stays():
    """Two Jacobians of 200 × 200: their product takes 8 million products, which nobody plans one by one."""
    W, V = normal(200, 200, seed=1) / 14, normal(200, 200, seed=2) / 14

    def f(x):
        return V @ jnp.tanh(W @ x) + 3 * x

    x, b = as_jax((normal(200), normal(200, seed=3)))
    want = np.linalg.solve(reference.jacobian(f)(x), b)
    assert bordered_system(bs.linearize(f, x), None).layout.size == 400
    for solve in (
        bs.solve_jacobian,
        jax.jit(lambda f, x, b: bs.solve_jacobian(f, x, b, engine="superlu"), static_argnums=0),
    ):
        np.testing.assert_allclose(solve(f, x, b), want, rtol=0, atol=1e-9 * np.abs(want).max())
