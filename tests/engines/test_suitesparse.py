"""UMFPACK, KLU and CHOLMOD on matrices in sparse blocks, against NumPy; skipped where scikit-sparse is not installed."""

import importlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.algebra import SingularError
from backsolve.algebra.spaces import PatternTooLargeError
from backsolve.engines import factored

from .installed import GENERAL, SUITESPARSE
from .test_superlu import SIZES, in_blocks, random, with_copied_row, with_zeros

pytest.importorskip("sksparse.cholmod", reason="scikit-sparse is not installed")

SYMMETRIC = {"rows": (3, 1, 4, 2), "cols": (3, 1, 4, 2)}
LU = pytest.mark.parametrize("engine", GENERAL)
CHOLMOD = pytest.mark.parametrize("engine", ["cholmod"])


def definite(n=10, seed=0, kind=float):
    rng = np.random.default_rng(seed)
    A = np.where(rng.random((n, n)) < 0.2, rng.standard_normal((n, n)), 0).astype(kind)
    A = A + (1j * np.triu(A, 1) if kind is complex else 0)
    return A @ A.conj().T + np.diag(np.arange(n) + 1.0)


def assert_solves(factors, A, seed=0):
    rng = np.random.default_rng(seed)
    n = A.shape[0]
    for shape in ((n,), (n, 3)):
        for b in (rng.standard_normal(shape), rng.standard_normal(shape) + 1j * rng.standard_normal(shape)):
            b.flags.writeable = False
            np.testing.assert_allclose(factors.solve(b), np.linalg.solve(A, b), rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(factors.solve_transpose(b), np.linalg.solve(A.T, b), rtol=1e-10, atol=1e-10)


# ---- general matrices ---------------------------------------------------------------------------------------------------
@LU
@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("seed", range(3))
def test_both_solutions(engine, kind, seed):
    A = random(seed=seed, kind=kind)
    factors = factored(*in_blocks(A, **SIZES), engine)
    assert factors.residual is None
    assert_solves(factors, A, seed)
    assert factors.residual < 1e-13
    assert factors.nnz >= (A != 0).sum() / 2


@LU
def test_a_layout_is_analysed_once_and_serves_all_its_matrices(engine, monkeypatch):
    """One object of the package holds the numbers of the last matrix; those before it find theirs again."""
    from backsolve.engines import suitesparse

    analysed, cls = [], getattr(suitesparse, engine.upper())
    before = cls._analysed
    monkeypatch.setattr(cls, "_analysed", lambda self, strict: analysed.append(strict) or before(self, strict))
    A = random(30, density=0.1)
    layout, data = in_blocks(A)
    scales = (1, 3, 1 + 2j)
    made = [factored(layout, [scale * part for part in data], engine) for scale in scales]
    assert analysed == [False, False]  # once more for complex numbers
    for _ in range(2):
        for factors, scale in zip(made[:2], scales, strict=False):
            assert_solves(factors, scale * A)
    assert analysed == [False, False, False]
    assert_solves(made[2], scales[2] * A)


@LU
@pytest.mark.parametrize("tiny", [0.0, 1e-25, 1e-17])
def test_pivots_of_earlier_numbers_that_do_not_serve(engine, tiny):
    """The same pattern with a diagonal that vanishes, or nearly."""
    A, B = np.array([[4.0, 1, 0], [1, 3, 1], [0, 1, 2]]), np.array([[tiny, 1, 0], [1, tiny, 1], [0, 1, 2]])
    layout, data = in_blocks(A)
    first, second = factored(layout, data, engine), factored(layout, [B[np.nonzero(A)]], engine)
    for _ in range(2):
        assert_solves(second, B)
        assert_solves(first, A)


@LU
def test_factors_that_do_not_solve_are_made_again_with_full_pivoting(engine, monkeypatch):
    from backsolve.engines import suitesparse

    cls, A = getattr(suitesparse, engine.upper()), random()
    analysed, cls_by, cls_analysed = [], cls._by, cls._analysed
    monkeypatch.setattr(cls, "_analysed", lambda self, strict: analysed.append(strict) or cls_analysed(self, strict))
    monkeypatch.setattr(cls, "_by", lambda self, *args: cls_by(self, *args) * (1 if analysed[-1] else np.nan))
    layout, data = in_blocks(A, **SIZES)
    assert_solves(factored(layout, data, engine), A)
    assert_solves(factored(layout, data, engine), A)
    assert analysed == [False, True]
    monkeypatch.setattr(cls, "_by", lambda self, *args: cls_by(self, *args) * np.nan)
    with pytest.raises(SingularError, match="singular to working precision"):
        factored(layout, data, engine).solve(np.ones(10))
    assert analysed == [False, True, True]


@LU
@pytest.mark.parametrize(
    ("A", "message"),
    [
        (with_zeros([0]), "for its pattern alone: 1 of 10 unknowns .* the first is node 0, entry 0 of 2"),
        (with_zeros([3, 4]), "2 of 10 unknowns .* the first is node 1, entry 1 of 4"),
        (with_copied_row(), r"singular to working precision: the pivot of node \d.* is \S+e-\d\d times its column"),
    ],
)
def test_a_singular_matrix_is_refused_with_the_node_named(engine, A, message):
    layout, data = in_blocks(A, **SIZES)
    for _ in range(2):
        with pytest.raises(SingularError, match=message):
            factored(layout, data, engine).solve(np.ones(10))


@LU
def test_numbers_that_become_singular_and_regular_again(engine):
    A = random()
    layout, data = in_blocks(A, **SIZES)
    first = factored(layout, data, engine)
    with pytest.raises(SingularError, match="10 of 10 unknowns have no equation"):
        factored(layout, [0 * part for part in data], engine)
    assert_solves(first, A)


@LU
def test_a_matrix_without_entries(engine):
    with pytest.raises(SingularError, match="3 of 3 unknowns have no equation"):
        factored(*in_blocks(np.zeros((3, 3))), engine)


# ---- symmetric positive definite ones -----------------------------------------------------------------------------------
@CHOLMOD
@pytest.mark.parametrize("kind", [float, complex])
def test_positive_definite_matrices(engine, kind):
    """Of one layout, in order and with the rows elsewhere."""
    A = definite(kind=kind)
    layout, data = in_blocks(A, **SYMMETRIC)
    for scale in (1, 7):
        factors = factored(layout, [scale * part for part in data], engine)
        assert_solves(factors, scale * A)
        assert factors.residual < 1e-14
        assert factors.nnz >= 10
    by = np.random.default_rng(1).permutation(10)
    layout, data = in_blocks(A[by], **SIZES)
    assert_solves(factored(replace(layout, mates=by), data, engine), A[by])


@CHOLMOD
def test_a_matrix_that_is_not_positive_definite_is_refused_with_the_node_named(engine):
    A = np.eye(10)
    A[8, 9] = A[9, 8] = 2
    layout, data = in_blocks(A, **SYMMETRIC)
    message = r"not positive definite, as engine='cholmod' needs it: the pivot of node 3, entry [01] of 2 is not positive\. "
    for _ in range(2):
        with pytest.raises(SingularError, match=message + "Pass damping, or take engine='superlu'"):
            factored(layout, data, engine)
    with pytest.raises(SingularError, match=r"the pivot of node 3, entry [01] of 2 is not positive"):
        factored(*in_blocks(A + 1e-300j, **SYMMETRIC), engine)


@CHOLMOD
def test_a_matrix_that_is_singular_to_rounding(engine):
    A = np.diag(np.r_[1.0, np.zeros(3)]) + np.ones((4, 4))
    with pytest.raises(SingularError, match=r"not positive definite|singular to working precision: the pivot of node 0"):
        factored(*in_blocks(A), engine).solve(np.arange(4.0))


@CHOLMOD
@pytest.mark.parametrize(("dtype", "off"), [(np.float64, 1e-10), (np.float32, 1e-5), (np.float16, 1e-2)])
def test_rounding_is_no_asymmetry(engine, dtype, off):
    A = definite().astype(dtype)
    A[2, 5] += dtype(off) * A.max()
    factors = factored(*in_blocks(A), engine)
    np.testing.assert_allclose(factors.solve(np.ones(10)), np.linalg.solve(A.astype(float), np.ones(10)), rtol=1e-4)


# ---- with a program -----------------------------------------------------------------------------------------------------
def energy(u):
    v = jnp.pad(u["inner"], 1)
    return jnp.sum(jnp.diff(v) ** 2) + jnp.sum(u["inner"] ** 4) + jnp.sum(u["rest"] ** 2 * (1 + u["inner"][:2] ** 2))


POINT = {"inner": np.linspace(0.1, 1.0, 6), "rest": np.array([0.3, 0.7])}


@pytest.mark.parametrize("engine", SUITESPARSE)
@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_inverse_hvp_concretely_and_under_jit_and_grad(engine, damping):
    with jax.enable_x64(True):
        x, b = (jax.tree.map(jnp.asarray, tree) for tree in (POINT, jax.tree.map(np.cos, POINT)))

        def s(x, b, engine):
            return bs.inverse_hvp(energy, (x,), b, damping, engine=engine)

        got, jitted, want = s(x, b, engine), jax.jit(s, static_argnums=2)(x, b, engine), s(x, b, "superlu")
        slopes = [jax.grad(lambda x, e=e: jnp.sum(s(x, b, e)["inner"] ** 2))(x) for e in (engine, "superlu")]
        for leaf in POINT:
            np.testing.assert_allclose(got[leaf], want[leaf], rtol=1e-12)
            np.testing.assert_allclose(jitted[leaf], want[leaf], rtol=1e-12)
            np.testing.assert_allclose(slopes[0][leaf], slopes[1][leaf], rtol=1e-10)


@pytest.mark.parametrize("engine", SUITESPARSE)
def test_the_inverse_names_its_engine_and_serves_both_ways(engine):
    with jax.enable_x64(True):
        x = jax.tree.map(jnp.asarray, POINT)
        inverse = bs.linearize(bs.grad(energy), x).factored(engine=engine)
        assert f"({engine})" in repr(inverse)
        H = np.linalg.inv(inverse.solve(np.eye(8)))
        np.testing.assert_allclose(H, H.T, atol=1e-12)
        np.testing.assert_allclose(inverse.solve_transpose(np.eye(8)), inverse.solve(np.eye(8)), atol=1e-12)
        assert f"({engine}, last residual" in repr(inverse)


@CHOLMOD
def test_a_hessian_is_formed_for_cholmod(engine):
    """Where the other engines are given the inner nodes too."""
    B = np.random.default_rng(0).standard_normal((6, 40))

    def f(x):
        return jnp.sum(jnp.exp(0.1 * B.T @ x)) + jnp.sum(x**2)

    with jax.enable_x64(True):
        x, b = jnp.linspace(0.0, 1.0, 6), jnp.ones(6)
        system = bs.linearize(bs.grad(f), x)
        assert system.factored(engine=engine).matrix.layout.size == 6
        np.testing.assert_allclose(system.solve(b, engine=engine), jnp.linalg.solve(jax.hessian(f)(x), b), rtol=1e-12)


@CHOLMOD
def test_programs_that_cholmod_refuses(engine):
    x = jnp.ones(3)
    with pytest.raises(ValueError, match=r"needs a symmetric matrix, but the entry of output 0, entry . of 3 and source 0,"):
        bs.solve_jacobian(lambda x: jnp.cumsum(x**2), x, x, engine=engine)
    with pytest.raises(bs.SingularError, match=r"not positive definite.* the pivot of source 0, entry 2 of 3 is not"):
        bs.inverse_hvp(lambda x: jnp.sum(jnp.array([1.0, 1.0, -1.0]) * x**2), (x,), x, engine=engine)
    with pytest.raises(Exception, match="not positive definite"):
        jax.block_until_ready(jax.jit(lambda x: bs.inverse_hvp(lambda x: -jnp.sum(x**2), (x,), x, engine=engine))(x))


# ---- without memory -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("engine", SUITESPARSE)
@pytest.mark.parametrize("error", [MemoryError, OverflowError])
def test_no_memory_for_the_factors(engine, error, monkeypatch):
    module = importlib.import_module(f"sksparse.{engine}")
    names = {"umfpack": ["UMFFactor"], "klu": ["KLUFactor"], "cholmod": ["CholeskyFactor", "analyze"]}[engine]
    name = next(name for name in names if hasattr(module, name))

    def refuse(*args, **options):
        raise error

    monkeypatch.setattr(module, name, refuse)
    with pytest.raises(PatternTooLargeError, match=r"10 unknowns and \d+ non-zeros \(\d+(,\d+)* bytes .*engine='gmres'"):
        factored(*in_blocks(definite()), engine)
