"""lineax, optimistix and diffrax with our operators and solver: against their dense solvers and NumPy."""

import copy
import pickle
import threading
from functools import cache

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import backsolve as bs
from backsolve.interop.lineax import SparseLU, operator
from tests import reference

pytestmark = pytest.mark.usefixtures("double_precision")

ENGINES = ["superlu", "blocks"]
RNG = np.random.default_rng(0)


def stencil(x):
    return x**3 + 4 * x - jnp.roll(x, 1) * jnp.roll(x, -1) + jnp.roll(x, 2)


def points(n=7):
    return jnp.asarray(RNG.uniform(0.5, 1.5, n))


def to_pairs(x):
    return {"a": x["b"] ** 2 @ jnp.ones((3, 2)) + x["a"], "b": jnp.sin(x["b"]) * x["a"].sum()}


PAIR = {"a": np.array([[1.0, 2], [0.5, 3]]), "b": np.array([[0.3, 1, 2], [0.1, 0.4, 0.9]])}


# ---- operators --------------------------------------------------------------------------------------------------------
def check(ours, dense):
    """Each thing that lineax asks of an operator, beside the dense matrix (between the leaves as vectors)."""
    theirs = lx.MatrixLinearOperator(jnp.asarray(dense), ours.tags)
    v, w = (
        jax.tree_util.tree_map(lambda s: jnp.asarray(RNG.standard_normal(s.shape), s.dtype), tree)
        for tree in (ours.in_structure(), ours.out_structure())
    )

    def flat(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(tree)])

    def asked(o, v, w):
        tripled = 2 * o + o @ lx.IdentityLinearOperator(o.in_structure())
        matrices = o.as_matrix(), lx.materialise(o).as_matrix(), lx.linearise(o).as_matrix(), lx.conj(o).as_matrix()
        return o.mv(v), o.T.mv(w), matrices, tripled.as_matrix(), lx.diagonal(o), lx.tridiagonal(o)

    expected = [
        dense @ flat(v),
        dense.T @ flat(w),
        *(dense, dense, dense, dense.conj()),
        3 * dense,
        np.diag(dense),
        *lx.tridiagonal(theirs),
    ]
    for run in (asked, jax.jit(asked)):
        mv, mv_transposed, *others = run(ours, v, w)
        found = [flat(mv), flat(mv_transposed), *jax.tree_util.tree_leaves(others)]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)


def test_an_operator_of_one_matrix():
    x = points()
    J = bs.jacobian(stencil, format="sparse")(x)
    check(operator(J), np.asarray(reference.jacobian(stencil)(x)))


def test_an_operator_between_shaped_arrays():
    def f(X):
        return X.T @ X + X[:2].T

    X = jnp.asarray(RNG.standard_normal((2, 2)))
    ours = operator(bs.jacobian(f, format="sparse")(X))
    assert ours.in_structure().shape == ours.out_structure().shape == (2, 2)
    check(ours, np.asarray(reference.jacobian(f)(X)).reshape(4, 4))


def test_an_operator_between_pytrees():
    J = bs.jacobian(to_pairs, format="sparse")(PAIR)
    ours = operator(J, jax.eval_shape(to_pairs, PAIR))
    assert jax.tree_util.tree_structure(ours.in_structure()) == jax.tree_util.tree_structure(PAIR)
    parts = reference.jacobian(to_pairs)(PAIR)
    dense = np.block([[parts[a][b].reshape(PAIR[a].size, PAIR[b].size) for b in "ab"] for a in "ab"])
    check(ours, dense)
    vector = jax.tree_util.tree_map(jnp.ones_like, PAIR)
    for engine in ENGINES:
        x = lx.linear_solve(ours, vector, SparseLU(engine)).value
        got = np.concatenate([np.ravel(x["a"]), np.ravel(x["b"])])
        np.testing.assert_allclose(got, np.linalg.solve(dense, np.ones(10)), rtol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_complex_operators_and_conjugates(engine):
    A = np.triu(RNG.standard_normal((5, 5)) + 1j * RNG.standard_normal((5, 5)), -1)
    rows, cols = np.nonzero(A)
    ours = operator(bs.SparseMatrix.from_entries(rows, cols, jnp.asarray(A[rows, cols]), (5, 5)))
    check(ours, A)
    b, solver = jnp.asarray(RNG.standard_normal(5) + 1j), SparseLU(engine)
    for theirs in (ours, lx.MatrixLinearOperator(jnp.asarray(A))):
        state = solver.init(theirs, {})
        turned = solver.transpose(state, {})[0]
        states = state, turned, solver.conj(state, {})[0], solver.conj(turned, {})[0]
        for one, matrix in zip(states, (A, A.T, A.conj(), A.conj().T)):
            np.testing.assert_allclose(solver.compute(one, b, {})[0], np.linalg.solve(matrix, b), rtol=1e-10)


def test_what_the_pattern_tells():
    def tag(f):
        return operator(bs.jacobian(f, format="sparse")(jnp.arange(1.0, 5.0)))

    diagonal, lower = tag(jnp.sin), tag(jnp.cumsum)
    assert lx.is_diagonal(diagonal)
    assert lx.is_symmetric(diagonal)
    assert lx.is_lower_triangular(lower)
    assert lx.is_upper_triangular(lower.T)
    assert not lx.is_upper_triangular(lower)
    assert not lx.is_symmetric(lower)
    assert lx.is_tridiagonal(tag(lambda x: x - jnp.pad(x, 1)[:-2]))
    assert not lx.has_unit_diagonal(lower)
    for one in (diagonal, lower, tag(stencil)):
        b = jnp.ones(4)
        np.testing.assert_allclose(lx.linear_solve(one, b).value, np.linalg.solve(one.as_matrix(), b), rtol=1e-10)


@pytest.mark.parametrize(
    "name",
    [
        "symmetric",
        "positive_semidefinite",
        "negative_semidefinite",
        "unit_diagonal",
        "lower_triangular",
        "upper_triangular",
        "diagonal",
        "tridiagonal",
    ],
)
def test_tags_are_lineax_s(name):
    tag = getattr(lx, f"{name}_tag")
    A = jnp.ones((3, 3))
    J = bs.SparseMatrix.from_entries(*np.indices((3, 3)).reshape(2, 9), A.ravel(), (3, 3))
    ours, theirs = operator(J, tags=tag), lx.MatrixLinearOperator(A, tag)
    for ask in (
        lx.is_symmetric,
        lx.is_positive_semidefinite,
        lx.is_negative_semidefinite,
        lx.has_unit_diagonal,
        lx.is_lower_triangular,
        lx.is_upper_triangular,
        lx.is_diagonal,
        lx.is_tridiagonal,
    ):
        assert ask(ours) == ask(theirs), ask
        assert ask(ours.T) == ask(theirs.T), ask
    assert operator(J, tags={tag, lx.symmetric_tag}).tags == {tag, lx.symmetric_tag}


def test_derivatives_by_the_numbers_of_an_operator():
    def f(scale):
        J = bs.jacobian(lambda x: stencil(x) * scale, format="sparse")(jnp.arange(1.0, 6.0))
        return lx.linear_solve(operator(J), jnp.ones(5), SparseLU()).value.sum()

    def dense(scale):
        return jnp.linalg.solve(jax.jacobian(lambda x: stencil(x) * scale)(jnp.arange(1.0, 6.0)), jnp.ones(5)).sum()

    scale = jnp.linspace(1.0, 2.0, 5)
    for derivative in (jax.grad, lambda f: jax.jit(jax.grad(f)), jax.jacfwd):
        np.testing.assert_allclose(derivative(f)(scale), reference.grad(dense)(scale), rtol=1e-9)


# ---- the solver ---------------------------------------------------------------------------------------------------------
def of_every_kind(x):
    D = reference.jacobian(stencil)(x)
    n = x.size
    jacobian = lx.JacobianLinearOperator(lambda x, scale: scale * stencil(x), x, 1.0)
    return {
        "ours": operator(bs.jacobian(stencil, format="sparse")(x)),
        "matrix": lx.MatrixLinearOperator(D),
        "jacobian": jacobian,
        "backward": lx.JacobianLinearOperator(lambda x, _: stencil(x), x, jac="bwd"),
        "linearised": lx.linearise(jacobian),
        "function": lx.FunctionLinearOperator(lambda v: D @ v, jax.eval_shape(lambda: x)),
        "tagged": lx.TaggedLinearOperator(jacobian, lx.symmetric_tag),
        "sum": jacobian * 3.0 - 2.0 * lx.MatrixLinearOperator(D),
        "product": jacobian @ lx.IdentityLinearOperator(jax.eval_shape(lambda: x)),
        "diagonal": lx.DiagonalLinearOperator(x),
        "tridiagonal": lx.TridiagonalLinearOperator(x, jnp.ones(n - 1) / 3, jnp.ones(n - 1) / 4),
    }


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", of_every_kind(jnp.ones(3)))
def test_every_operator_of_lineax(kind, engine):
    x = points()
    A, b, solver = of_every_kind(x)[kind], jnp.arange(7.0), SparseLU(engine)
    expected = np.linalg.solve(A.as_matrix(), b)
    np.testing.assert_allclose(lx.linear_solve(A, b, solver).value, expected, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(lambda b: lx.linear_solve(A, b, solver).value)(b), expected, rtol=1e-9)
    if kind != "tagged":  # it says that it is symmetric, which it is not
        np.testing.assert_allclose(lx.linear_solve(A.T, b, solver).value, np.linalg.solve(A.as_matrix().T, b), rtol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_under_jit_vmap_and_grad(engine):
    solver = SparseLU(engine)

    def solved(x, b):
        return lx.linear_solve(lx.JacobianLinearOperator(lambda x, _: stencil(x), x), b, solver).value

    def dense(x, b):
        return jnp.linalg.solve(jax.jacobian(stencil)(x), b)

    X, B = jnp.stack([points(), points()]), jnp.stack([jnp.ones(7), jnp.arange(7.0)])
    np.testing.assert_allclose(jax.jit(jax.vmap(solved))(X, B), jax.vmap(dense)(X, B), rtol=1e-9)
    np.testing.assert_allclose(jax.vmap(solved, (None, 0))(X[0], B), jax.vmap(dense, (None, 0))(X[0], B), rtol=1e-9)
    for derivative in (jax.jacobian, jax.jacfwd):
        ours = jax.jit(derivative(solved, (0, 1)))(X[0], B[1])
        for one, other in zip(ours, reference.jacobian(dense, (0, 1))(X[0], B[1])):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_state_serves_for_other_right_hand_sides(engine, monkeypatch):
    from backsolve.interop import lineax as ours

    made = []
    real = ours.factored
    monkeypatch.setattr(ours, "factored", lambda *args: made.append(None) or real(*args))
    x, solver = points(), SparseLU(engine)
    A = operator(bs.jacobian(stencil, format="sparse")(x))
    state = solver.init(A, {})
    leaves, tree = jax.tree_util.tree_flatten(state)
    assert leaves
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    solve = jax.jit(lambda state, b: lx.linear_solve(A, b, solver, state=state).value)
    for b in (jnp.ones(7), jnp.arange(7.0)):
        np.testing.assert_allclose(solve(jax.tree_util.tree_unflatten(tree, leaves), b), np.linalg.solve(A.as_matrix(), b))
        turned, _ = solver.transpose(state, {})
        np.testing.assert_allclose(solver.compute(turned, b, {})[0], np.linalg.solve(A.as_matrix().T, b))
    assert len(made) == (engine == "superlu")
    assert jax.tree_util.tree_structure(state) == jax.tree_util.tree_structure(SparseLU(engine).init(A, {}))


def test_many_threads_and_copies():
    solver = SparseLU()
    solver = pickle.loads(pickle.dumps(copy.deepcopy(solver)))
    assert solver == SparseLU()
    found = {}

    def run(k):
        with jax.enable_x64(True):  # each thread has its own
            A = operator(bs.jacobian(stencil, format="sparse")(jnp.linspace(1.0, 2.0 + k, 5)))
            found[k] = lx.linear_solve(A, jnp.ones(5), solver).value, np.linalg.solve(A.as_matrix(), np.ones(5))

    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for ours, theirs in found.values():
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.parametrize("bad", ["singular", "nan"])
def test_what_has_no_solution_is_lineax_s_to_tell(bad):
    A = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [2.0, 4.0]]) if bad == "singular" else jnp.full((2, 2), jnp.nan))
    with pytest.raises(Exception, match=r"singular|non-finite"):
        lx.linear_solve(A, jnp.ones(2), SparseLU()).value.block_until_ready()
    quiet = lx.linear_solve(A, jnp.ones(2), SparseLU(), throw=False)
    assert quiet.result != lx.RESULTS.successful
    assert np.isnan(quiet.value).all()


# ---- optimistix and diffrax ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", [optx.Newton, optx.Chord, optx.Dogleg, optx.LevenbergMarquardt])
def test_optimistix(method, engine):
    """Dogleg and Levenberg-Marquardt take no square solver for their damped steps, so they keep their own."""
    h = 1 / 31

    def bratu(u, strength):
        v = jnp.pad(u, 1)
        return (v[:-2] - 2 * u + v[2:]) / h**2 + strength * jnp.exp(u)

    own = {"linear_solver": SparseLU(engine)} if method in (optx.Newton, optx.Chord) else {}
    theirs = optx.root_find(bratu, optx.Newton(1e-12, 1e-9), jnp.zeros(30), 2.0).value

    def solve(strength):
        return optx.root_find(bratu, method(1e-12, 1e-9, **own), jnp.zeros(30), strength).value

    np.testing.assert_allclose(solve(2.0), theirs, rtol=1e-7)
    np.testing.assert_allclose(jax.jit(solve)(2.0), theirs, rtol=1e-7)
    if own:
        adjoint = optx.ImplicitAdjoint(linear_solver=SparseLU(engine))
        slope = jax.grad(
            lambda s: optx.root_find(bratu, method(1e-12, 1e-9, **own), jnp.zeros(30), s, adjoint=adjoint).value.sum()
        )(2.0)
        shift = 1e-4
        apart = (solve(2.0 + shift).sum() - solve(2.0 - shift).sum()) / (2 * shift)
        assert float(slope) == pytest.approx(float(apart), rel=1e-5)


def brusselator(n):
    def rhs(t, y, args):
        u, v = y["u"], y["v"]

        def spread(w):
            w = jnp.pad(w, 1, mode="edge")
            return 0.02 * n**2 * (w[2:, 1:-1] + w[:-2, 1:-1] + w[1:-1, 2:] + w[1:-1, :-2] - 4 * w[1:-1, 1:-1])

        return {"u": 1 + u**2 * v - 4.4 * u + spread(u), "v": 3.4 * u - u**2 * v + spread(v)}

    x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")
    return rhs, {"u": jnp.asarray(22 * y * (1 - y) ** 1.5), "v": jnp.asarray(27 * x * (1 - x) ** 1.5)}


def integrated(rhs, start, method, end, **solver):
    root_finder = diffrax.VeryChord(rtol=1e-8, atol=1e-8, **solver)
    control = diffrax.PIDController(rtol=1e-6, atol=1e-6)
    term = diffrax.ODETerm(rhs)
    found = diffrax.diffeqsolve(term, method(root_finder=root_finder), 0.0, end, 0.01, start, stepsize_controller=control)
    return {name: value[-1] for name, value in found.ys.items()}


@cache
def by_its_own_solver():
    """What every engine is compared with."""
    return integrated(*brusselator(4), diffrax.Kvaerno5, 0.1)


@pytest.mark.parametrize("engine", ENGINES)
def test_diffrax(engine):
    ours = integrated(*brusselator(4), diffrax.Kvaerno5, 0.1, linear_solver=SparseLU(engine))
    for name in "uv":
        np.testing.assert_allclose(ours[name], by_its_own_solver()[name], rtol=1e-6)


def test_derivatives_through_diffrax():
    rhs, start = brusselator(3)

    def end(scale, **solver):
        moved = {name: scale * value for name, value in start.items()}
        return integrated(rhs, moved, diffrax.Kvaerno3, 0.02, **solver)["u"].sum()

    slope = jax.grad(lambda scale: end(scale, linear_solver=SparseLU()))(1.0)
    assert float(slope) == pytest.approx(float(end(1 + 1e-4) - end(1 - 1e-4)) / 2e-4, rel=1e-3)


# ---- wrong input --------------------------------------------------------------------------------------------------------
def jacobian_of_pairs():
    return bs.jacobian(to_pairs, format="sparse")(PAIR)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: operator(jnp.ones((2, 2))), r"operator takes a SparseMatrix or a pytree of them, got .*\(2, 2\)"),
        (lambda: operator([]), "operator takes a SparseMatrix or a pytree of them"),
        (lambda: operator(jacobian_of_pairs()), "pass output_structure, which is f"),
        (lambda: operator(jacobian_of_pairs(), {"c": 1.0}), "the matrices do not fit an output of structure"),
        (
            lambda: operator(jacobian_of_pairs(), {"a": np.ones(3), "b": np.ones(3)}),
            r"to \(2, 2\), but the output has shape \(3,\)",
        ),
        (
            lambda: operator(bs.SparseMatrix.from_entries([0], [0], np.array([1]), (1, 1))),
            "one real or complex number an entry, got .* int64",
        ),
        (lambda: SparseLU("lapack"), "unknown engine 'lapack'; use one of 'superlu', 'blocks'"),
        (lambda: SparseLU("cholmod"), "unknown engine 'cholmod'"),
        (
            lambda: lx.linear_solve(lx.MatrixLinearOperator(jnp.ones((2, 3))), jnp.ones(2), SparseLU()),
            "SparseLU solves with square operators, but this one maps 3 numbers to 2",
        ),
        (
            lambda: lx.linear_solve(operator(bs.jacobian(stencil, format="sparse")(jnp.ones(5))), jnp.ones(4), SparseLU()),
            "Vector and operator structures do not match",
        ),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
