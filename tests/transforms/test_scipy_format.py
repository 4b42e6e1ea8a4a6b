"""`format="scipy"`, `value_and_jacobian` and `value_grad_and_hessian`: SciPy's solvers call them as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from jax import lax
from scipy.integrate import solve_ivp
from scipy.optimize import NonlinearConstraint, least_squares, minimize, root

import backsolve as bs
from tests import reference

N = 40
X = np.cos(np.arange(1.0, N + 1))


def rate(t, y):
    """A reaction and diffusion on a line."""
    left, right = jnp.concatenate([y[:1], y[:-1]]), jnp.concatenate([y[1:], y[-1:]])
    return N**2 * (left - 2 * y + right) + 40 * y * (1 - y) * jnp.cos(t)


def looped(x):
    """A composition with a loop, a gather and a mask inside."""
    x = lax.fori_loop(0, 3, lambda i, c: c + 0.1 * jnp.roll(c, 1) ** 2, x)
    return jnp.where(x > 0, jnp.sin(x)[::-1], x[jnp.array([0] * N)])


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def in_double(derivative, *args):
    with jax.enable_x64(True):
        return np.asarray(derivative(*args))


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("x64", [False, True])
def test_they_are_scipys_arrays_of_double_precision(layout, x64):
    """NumPy's numbers are computed with as they are given, whether JAX is told to or not."""
    J = bs.jacobian(looped, format="scipy", layout=layout)
    H = bs.hessian(rosenbrock, format="scipy", layout=layout)
    with jax.enable_x64(x64):
        A, B = J(X), H(X)
    for found, want in ((A, in_double(reference.jacobian(looped), X)), (B, in_double(reference.hessian(rosenbrock), X))):
        assert type(found) is {"csr": sp.csr_array, "csc": sp.csc_array}[layout]
        assert (found.dtype, found.indices.dtype, found.indptr.dtype) == (np.float64, np.int32, np.int32)
        assert found.has_canonical_format
        np.testing.assert_allclose(found.toarray(), want, rtol=1e-13, atol=1e-13)
        assert found.nnz < 0.2 * found.shape[0] * found.shape[1]


def test_what_comes_back_is_the_callers_own():
    """Changing it changes no later result."""
    J = bs.jacobian(looped, format="scipy")
    A, want = J(X), J(X).toarray()
    A.data *= 2
    A.data[0] = 0
    A.eliminate_zeros()
    A.indices[:] = 0
    np.testing.assert_array_equal(J(X).toarray(), want)


@pytest.mark.parametrize("kind", ["f8", "c16", "f4"])
def test_bytes_in_either_order(kind):
    """Arrays of files that another machine wrote (FITS, netCDF); also beside a key, which has no order of bytes."""

    def f(x, key):
        return jnp.exp(x) * x[0] + 0 * jax.random.normal(key, x.shape)

    J = bs.jacobian(f, format="scipy", holomorphic=kind == "c16")
    x, key = np.array([0.5, -1.0, 2.0]).astype(kind), jax.random.key(0)
    found = [J(x.astype(order + kind), key) for order in "<>"]
    expected = np.diag(np.exp(x) * x[0]) + np.outer(np.exp(x), [1, 0, 0])
    for A in found:
        assert A.dtype == np.dtype(kind)
        np.testing.assert_allclose(A.toarray(), expected, rtol=1e-6)


def test_single_precision_stays_single():
    J = bs.jacobian(lambda x, c: c * x**2, format="scipy")
    assert J(np.ones(3, np.float32), np.float64(2.0)).dtype == np.float32
    assert J(jnp.ones(3, jnp.float32), 2.0).dtype == np.float32
    half = bs.jacobian(lambda x: x**2, format="scipy")(jnp.ones(3, jnp.bfloat16))
    np.testing.assert_array_equal(half.toarray(), 2 * np.eye(3))


def test_other_values_compile_nothing():
    calls = []

    def counted(t, y, c):
        calls.append(t)
        return rate(t, y) * c

    J = bs.jacobian(counted, argnums=1, format="scipy")
    J(0.0, X, 1.0)
    once = len(calls)
    for t in (0.5, np.float64(0.25), 1.0):
        J(t, 2 * X, np.float64(3.0))
    assert len(calls) == once
    assert np.array_equal(J(0.0, X, 2.0).toarray(), 2 * J(0.0, X, 1.0).toarray())


def test_trees_scalars_and_empty_blocks():
    def f(p, s):
        return {"a": p["x"] * s, "b": jnp.sum(p["y"])}

    p = {"x": np.ones(3), "y": np.ones((2, 2))}
    found = bs.jacobian(f, (0, 1), format="scipy")(p, 2.0)
    assert found["a"][0]["x"].shape == (3, 3)
    assert found["a"][0]["y"].nnz == 0
    assert found["b"][0]["y"].shape == (1, 4)
    assert found["a"][1].toarray().tolist() == [[1.0]] * 3
    assert bs.jacobian(jnp.sin, format="scipy")(0.0).toarray().tolist() == [[1.0]]
    ints = bs.jacobian(lambda x, k: x * k, (0, 1), allow_int=True, format="scipy")(np.ones(2), np.arange(2))
    assert ints[1].shape == (2, 2)
    assert ints[1].nnz == 0


# ---- values beside ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("format", ["array", "operator", "sparse"])
@pytest.mark.usefixtures("double_precision")
def test_value_and_jacobian_in_every_format(format, jit):
    def f(x, y):
        return jnp.sin(x) * y[::-1], {"seen": x[0]}

    both = bs.value_and_jacobian(f, (0, 1), has_aux=True, format=format)
    (value, aux), J = (jax.jit(both) if jit else both)(X, 2 * X)
    np.testing.assert_allclose(value, np.sin(X) * 2 * X[::-1], rtol=1e-14)
    assert aux == {"seen": X[0]}
    want = reference.jacobian(f, (0, 1), has_aux=True)(X, 2 * X)[0]
    for k in range(2):
        found = J.entries[0, k] if format == "operator" else J[k]
        np.testing.assert_allclose(found if format == "array" else found.todense(), want[k], rtol=1e-13, atol=1e-13)
    value, _ = bs.value_and_jacobian(lambda x: f(x, x)[0], format=format)(X)
    np.testing.assert_allclose(value, np.sin(X) * X[::-1], rtol=1e-14)


def test_value_and_jacobian_for_scipy_is_numpys():
    (value, aux), J = bs.value_and_jacobian(lambda x: (looped(x), (x, "name")), has_aux=True, format="scipy")(X)
    assert type(value) is type(aux[0]) is np.ndarray
    assert value.dtype == aux[0].dtype == np.float64
    assert aux[1] == "name"
    np.testing.assert_allclose(value, in_double(looped, X), rtol=1e-14)
    np.testing.assert_allclose(J.toarray(), in_double(reference.jacobian(looped), X), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("format", ["array", "sparse", "scipy"])
@pytest.mark.usefixtures("double_precision")
def test_value_gradient_and_hessian(format, jit):
    if jit and format == "scipy":
        return
    triple = bs.value_grad_and_hessian(rosenbrock, format=format)
    value, gradient, H = (jax.jit(triple) if jit else triple)(X)
    np.testing.assert_allclose(value, rosenbrock(X), rtol=1e-14)
    np.testing.assert_allclose(gradient, reference.grad(rosenbrock)(X), rtol=1e-12)
    dense = H if format == "array" else H.todense()
    np.testing.assert_allclose(dense, reference.hessian(rosenbrock)(X), rtol=1e-12, atol=1e-12)
    (value, aux), gradient, H = bs.value_grad_and_hessian(lambda x, y: (x @ y, "aux"), (0, 1), True, format=format)(X, X)
    assert aux == "aux"
    np.testing.assert_allclose(value, X @ X)
    np.testing.assert_allclose(gradient[1], X)
    np.testing.assert_allclose(H[0][1] if format == "array" else H[0][1].todense(), np.eye(N))


@pytest.mark.usefixtures("double_precision")
def test_one_evaluation_is_shared():
    """The sine, and what is read of it, is evaluated as often as for the Jacobian alone."""

    def sines(f):
        return str(jax.make_jaxpr(f)(X)).count(" sin ")

    f = lambda x: jnp.sin(x) ** 3  # noqa: E731
    for format in ("array", "sparse"):
        assert sines(bs.value_and_jacobian(f, format=format)) == sines(bs.jacobian(f, format=format)) == 1


# ---- SciPy's solvers ---------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")  # SciPy's BDF subtracts what was never written
@pytest.mark.parametrize("method", ["BDF", "Radau"])
def test_a_stiff_equation(method):
    y0 = np.exp(-(((np.arange(N) / N - 0.5) / 0.1) ** 2))
    f = jax.jit(rate)
    with jax.enable_x64(True):
        found = solve_ivp(f, (0, 1), y0, method, jac=bs.jacobian(rate, argnums=1, format="scipy"), rtol=1e-8, atol=1e-10)
        want = solve_ivp(f, (0, 1), y0, "LSODA", rtol=1e-10, atol=1e-12)
    assert found.success
    np.testing.assert_allclose(found.y[:, -1], want.y[:, -1], rtol=1e-5)


@pytest.mark.usefixtures("double_precision")
def test_least_squares_roots_and_minima():
    residual = jax.jit(lambda x: jnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]]))
    start = np.full(N, 0.5)
    jac = bs.jacobian(residual, format="scipy")
    for options in ({"tr_solver": "lsmr"}, {}, {"bounds": (-2, 2)}):
        np.testing.assert_allclose(least_squares(residual, start, jac=jac, **options).x, np.ones(N), atol=1e-6)
    f, gradient, H = jax.jit(rosenbrock), jax.jit(bs.grad(rosenbrock)), bs.hessian(rosenbrock, format="scipy")
    found = minimize(f, start, jac=gradient, hess=H, method="trust-constr")
    np.testing.assert_allclose(found.x, np.ones(N), atol=1e-4)
    c = lambda x: x[1:] ** 2 + x[:-1]  # noqa: E731
    constraint = NonlinearConstraint(
        jax.jit(c), -np.inf, 1.5, jac=bs.jacobian(c, format="scipy"), hess=bs.hessian(lambda x, v: c(x) @ v, format="scipy")
    )
    bounded = minimize(f, start, jac=gradient, hess=H, method="trust-constr", constraints=constraint)
    plain = minimize(f, start, jac=gradient, method="SLSQP", constraints={"type": "ineq", "fun": lambda x: 1.5 - c(x)})
    np.testing.assert_allclose(bounded.fun, plain.fun, rtol=1e-4)
    G = lambda x: x**3 + jnp.roll(x, 1) - 1  # noqa: E731
    for method in ("hybr", "lm"):
        found = root(jax.jit(G), np.ones(6), jac=bs.jacobian(G), method=method)
        assert found.success
        assert np.abs(G(found.x)).max() < 1e-9


# ---- wrong input ---------------------------------------------------------------------------------------------------------
def test_wrong_input():
    with pytest.raises(ValueError, match=r"unknown format 'csr'; use one of 'array', 'operator', 'sparse', 'scipy'\."):
        bs.jacobian(jnp.sin, format="csr")
    with pytest.raises(ValueError, match=r"unknown layout 'coo'; use one of 'csr', 'csc'\."):
        bs.hessian(jnp.sum, format="scipy", layout="coo")
    with pytest.raises(ValueError, match=r"layout='csc' is one of SciPy's: take it with format='scipy', not 'sparse'"):
        bs.value_and_jacobian(jnp.sin, format="sparse", layout="csc")
    J = bs.jacobian(jnp.sin, format="scipy")
    for transformed in (jax.jit(lambda x: J(x).data), jax.vmap(lambda x: J(x).data)):
        with pytest.raises(
            TypeError, match=r"Jacobian of sin in SciPy's form .* traced; under jit, vmap and grad take format"
        ):
            transformed(jnp.ones((2, 3)))
    with pytest.raises(TypeError, match=r"hessian with format='scipy' needs a scalar output, but sin returns shape \(3,\)"):
        bs.hessian(jnp.sin, format="scipy")(np.ones(3))
    with pytest.raises(TypeError, match="grad needs a function with a scalar output"):
        bs.value_grad_and_hessian(jnp.sin)(np.ones(3))
    with pytest.raises(TypeError, match="has dtype int"):
        J(np.arange(3))
