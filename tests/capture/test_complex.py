"""Complex numbers inside and at the ends: what is linear over the reals alone, in every order and format."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.testing import check_operator
from tests import reference

from .oracle import ORDERS, assert_close, assert_everywhere, complex_normal, normal

X = normal(4)
Z = complex_normal(4)
C = complex_normal(4, 4, seed=1)

REAL = {  # real inputs, real outputs, complex numbers between
    "irfft": lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * np.exp(1j * np.arange(3))) * x,
    "spectrum": lambda x: jnp.abs(jnp.fft.fft(x * (1 + 2j))) ** 2,
    "angle": lambda x: jnp.angle(C @ (x + 1j * x**2)),
    "gathered": lambda x: jnp.real((x * C)[np.array([2, 0, 1])] * jnp.conj(x * 1j)),
    "scattered": lambda x: jnp.abs(jnp.zeros(5, complex).at[np.array([1, 3, 1, 0])].add(x * (1 - 2j))),
    "products": lambda x: jnp.abs(jnp.cumprod(jnp.exp((1 + 1j) * x))),
    "eigenvalues": lambda x: jnp.sort(jnp.linalg.eigvals(x.reshape(2, 2) + np.array([[0, 3.0], [-3.0, 0]])).real),
    "loop": lambda x: lax.scan(lambda c, a: (c * (a + 1j), jnp.abs(c)), 1.0 + 0j, x)[1],
    "masked": lambda x: jnp.real(jnp.where(x > 0, x + 1j * x * x, jnp.conj(x * (2 + 1j)) ** 2)),
    "coefficients": lambda x: jnp.imag((-1 + 0j) * (x + 0j) * 1j - (2 - 3j) * x) / (1 + jnp.abs(x * 1j)),
    "parts": lambda x: lax.complex(x, x[::-1]).imag * lax.complex(x * x, x).real + jnp.conj(x),
    "signs": lambda x: jnp.real(jnp.sign(x + 1j) * jnp.sqrt(x + 2j)),
}


@pytest.mark.parametrize("name", REAL)
def test_inside(name):
    f, x = REAL[name], jnp.asarray(X)
    assert_everywhere(bs.jacobian, f, (x,), reference.jacobian(f)(x))


def test_constant_matrices_have_their_own_pattern():
    """Each in pairs, of which the zeros of a constant matrix have none: a network's power flow, say."""
    Y = np.diag([1 + 1j, 2 - 1j, 1 + 3j, 4 + 1j]) + np.diag([1j, 2 - 1j, 1], 1)
    given, x = jnp.asarray(Y), jnp.asarray(X)

    def power(x):
        V = x * jnp.exp(1j * x)
        S = V * jnp.conj(given @ V)
        return jnp.concatenate([S.real, S.imag])

    for f in (power, lambda x: (Y @ (x * jnp.exp(1j * x))).real, lambda x: jnp.abs((x + 2j * x**2) @ given)):
        expected = reference.jacobian(f)(x)
        found = jax.jit(bs.jacobian(f, format="sparse"))(x)
        np.testing.assert_allclose(found.todense(), expected, rtol=1e-9, atol=1e-12)
        assert found.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize("name", ["irfft", "spectrum", "products", "masked"])
def test_hessians(name):
    def energy(x):
        return jnp.sum(REAL[name](x) ** 2)

    x = jnp.asarray(X)
    assert_everywhere(bs.hessian, energy, (x,), reference.hessian(energy)(x), 1e-8)


COMPLEX = {  # complex inputs, real outputs
    "abs": jnp.abs,
    "abs of a product": lambda z: jnp.abs(C @ z) + z.real * z.imag[::-1],
    "conjugates": lambda z: jnp.real(jnp.conj(z) * jnp.roll(z, 1) * z),
    "spectrum": lambda z: jnp.abs(jnp.fft.fft(z)) ** 2,
    "real part": lambda z: z.real,
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_inputs_of_real_outputs(name):
    f, z = COMPLEX[name], jnp.asarray(Z)
    expected = reference.jacobian(f)(z)
    assert_everywhere(bs.jacobian, f, (z,), expected)
    # df = Re(J dz), as the convention says
    dz = jnp.asarray(complex_normal(4, seed=5))
    change = jax.jvp(f, (z,), (dz,))[1]
    assert_close(jnp.real(bs.jacobian(f)(z) @ dz), change)
    J = bs.jacobian(f, format="operator")(z)[0, 0]
    assert_close(J @ dz, change)
    assert_close(J.T @ change, jax.vjp(f, z)[1](change)[0])
    assert_close(J.T.todense(), jnp.transpose(expected))


def test_a_known_value():
    assert_close(bs.jacobian(lambda z: jnp.abs(z) ** 2)(1 + 2j), 2 - 4j)
    assert bs.jacobian(jnp.abs)(jnp.asarray(Z)).dtype == np.complex128


HOLOMORPHIC = {
    "exp": lambda z: jnp.exp(C @ z) * z,
    "fft": lambda z: jnp.fft.fft(z * z),
    "solve": lambda z: jnp.linalg.solve(C + jnp.diag(z), z),
    "by conjugates": lambda z: jnp.conj(jnp.conj(z) ** 2),
    "not holomorphic": lambda z: jnp.conj(z) * jnp.roll(z, 1),
}


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_holomorphic(name):
    f, z = HOLOMORPHIC[name], jnp.asarray(Z)
    assert_everywhere(bs.jacobian, f, (z,), reference.jacobian(f, holomorphic=True)(z), holomorphic=True)


def test_trees_of_both():
    tree = {"x": jnp.asarray(X), "z": jnp.asarray(Z)}

    def f(d):
        return {"a": jnp.real(d["z"] * d["x"]), "b": d["x"] ** 2 * jnp.abs(d["z"])}

    assert_everywhere(bs.jacobian, f, (tree,), reference.jacobian(f)(tree))


@pytest.mark.parametrize("form", ["array", "operator", "sparse"])
@pytest.mark.parametrize("order", ORDERS)
def test_complex_outputs_of_real_inputs_are_refused(form, order):
    with pytest.raises(TypeError, match=r"returns dtype complex128; pass holomorphic=True .* real and imaginary parts"):
        bs.jacobian(lambda x: x * (1 + 2j), order=order, format=form)(jnp.asarray(X))


def test_a_system_says_what_jacfwd_says():
    def f(x):
        return x * jnp.exp(1j * x[::-1])

    x = jnp.asarray(X)
    for order in ORDERS:
        got = bs.linearize(f, x).jacobian(order)
        assert got.dtype == np.complex128
        assert_close(got, reference.jacfwd(f)(x))


def test_patterns_are_exact():
    x = jnp.asarray(X)
    assert bs.sparsity(lambda x: jnp.real((x + 1j * x) * jnp.conj(x + 0j)), x).nnz == 4
    assert bs.sparsity(lambda x: jnp.abs(x[1:] * 1j + x[:-1]), x).nnz == 6
    assert bs.sparsity(lambda x: lax.complex(x, x).imag, x).nnz == 4
    assert bs.sparsity(jnp.abs, jnp.asarray(Z)).nnz == 4


def test_order_sequences_and_plans():
    f, x = REAL["masked"], jnp.asarray(X)
    plan = bs.plan(f, x, search=0.1)
    assert_close(bs.jacobian(f, order=plan)(x), reference.jacobian(f)(x))
    nodes = range(bs.linearize(f, x).L.shape[0])
    assert_close(bs.jacobian(f, order=list(nodes)[::-1])(x), reference.jacobian(f)(x))


@pytest.mark.parametrize("name", [*REAL, *COMPLEX])
def test_plans_and_pages(name, tmp_path):
    """What is planned over pairs of real numbers is shown as such; complex literals and values are told as they are."""
    f, x = (REAL[name], jnp.asarray(X)) if name in REAL else (COMPLEX[name], jnp.asarray(Z))
    plan, system = bs.plan(f, x), bs.linearize(f, x)
    names = [str(name) for name in system.L.names]
    assert [step.name for step in plan.steps] == [names[step.node] for step in plan.steps]
    for shown in (plan, system):
        shown.show(tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert all(name.partition(" (")[0] in page for name in names)
    assert str(bs.explain(f, x))


def test_operators_satisfy_the_contract():
    real = {"abs of a product", "conjugates"}
    for name in real:
        J = bs.jacobian(COMPLEX[name], format="operator")(jnp.asarray(Z))[0, 0]
        inner = J.inner
        check_operator(inner)


SOLVED = {
    "conjugate": lambda z: z + 0.1 * jnp.conj(z) * C[0],
    "holomorphic": lambda z: C @ z * z,
    "modulus": lambda z: jnp.abs(z) * z + 2 * z,
}


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_solving(name, way):
    """The change along the solution is the right-hand side, by JAX's own products."""
    f, z, b = SOLVED[name], jnp.asarray(Z), jnp.asarray(complex_normal(4, seed=3))
    s = way(lambda z, b: bs.solve_jacobian(f, z, b))(z, b)
    assert_close(jax.jvp(f, (z,), (s,))[1], b)
    y = way(lambda z, b: bs.linearize(f, z).solve_transpose(b))(z, b)
    assert_close(jax.vjp(f, z)[1](y)[0], b)
    damped = way(lambda z, b: bs.linearize(f, z).solve(b, damping=0.5))(z, b)
    assert_close(jax.jvp(f, (z,), (damped,))[1] + 0.5 * damped, b)


def test_solving_through_real_unknowns():
    def f(x):
        return jnp.real((-1 + 0j) * (x + 0j)) + 0.1 * jnp.abs(jnp.fft.fft(x))

    x = jnp.asarray(X)
    assert_close(bs.solve_jacobian(lambda x: jnp.real((-1 + 0j) * (x + 0j)), x, x), -x)
    assert_close(bs.solve_jacobian(f, x, x), np.linalg.solve(reference.jacobian(f)(x), x))
    assert_close(bs.linearize(f, x).factored().solve(X), np.linalg.solve(reference.jacobian(f)(x), x))


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_solving_with_real_leaves_beside_complex_ones(way):
    z, x = jnp.asarray(Z), jnp.asarray(X)
    by_z, by_x = way(lambda z, x: bs.solve_jacobian(lambda p: (p[0] ** 2, p[1] ** 3), (z, x), (z, x)))(z, x)
    assert_close(by_z, np.full(4, 0.5 + 0j))
    assert_close(by_x, 1 / (3 * X))


def test_what_has_no_complex_inverse_is_refused():
    f, z = SOLVED["conjugate"], jnp.asarray(Z)
    with pytest.raises(ValueError, match="not holomorphic: its derivative is linear over the reals alone"):
        bs.linearize(f, z).factored()
    with pytest.raises(TypeError, match="damping must be real where the function is not holomorphic"):
        bs.linearize(f, z).solve(z, damping=1j)


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_fixed_points_that_are_not_holomorphic(way):
    def point(p):
        return bs.fixed_point(lambda w, p: 0.3 * jnp.conj(w) + p * 0.2 * jnp.abs(w) + p, 1.0 + 1j, p)

    p, step = 0.5 + 0.2j, 1e-6
    for direction in (1.0 + 0j, 1j):
        got = way(lambda p, d=direction: jax.jvp(point, (p,), (d,))[1])(p)
        by_differences = (point(p + step * direction) - point(p - step * direction)) / (2 * step)
        np.testing.assert_allclose(got, by_differences, rtol=1e-6)


def test_a_system_used_under_jit_is_used_outside_again():
    """What is kept with it belongs to no trace."""
    z = jnp.array([1 + 2j, -0.5 + 0.3j])
    system = bs.linearize(lambda z: jnp.abs(z) ** 2, z)
    jax.jit(lambda a: a * system.jacobian())(1.0)
    assert_close(system.jacobian(), reference.jacrev(lambda z: jnp.abs(z) ** 2)(z))


def test_multiples_and_sums_of_what_is_linear_over_the_reals():
    z = jnp.array([1 + 2j, -0.5 + 0.3j])
    J = bs.jacobian(lambda z: jnp.abs(z) ** 2, format="operator")(z).entries[0, 0]
    expected = reference.jacrev(lambda z: jnp.abs(z) ** 2)(z)
    for op, factor in ((J, 1), (2 * J, 2), (-J, -1), (J + J, 2), (J - 3 * J, -2)):
        assert_close(op.todense(), factor * expected)
        assert_close(op @ z, factor * (J @ z))
    for product in (1j * J, bs.hadamard(np.array([2.0, 3.0])) @ J, J @ bs.hadamard(np.array([1j, 2.0]))):
        with pytest.raises(bs.SpaceError, match=r"linear over the reals alone and has no complex matrix; apply it"):
            product.todense()


def test_a_sparse_hessian_by_complex_numbers_is_refused_as_a_dense_one():
    z = jnp.array([1 + 2j, -0.5 + 0.3j])
    for form in ("array", "sparse"):
        with pytest.raises(TypeError, match=r"returns dtype complex128"):
            bs.hessian(lambda z: jnp.sum(jnp.abs(z) ** 4), format=form)(z)
