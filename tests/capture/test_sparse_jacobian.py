"""`format="sparse"` and `sparsity` against JAX's dense derivatives, and their patterns against the true ones."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax import lax

import backsolve as bs
from benchmarks.models import sparse_models as models
from tests import reference

from .oracle import as_jax, assert_close, compiled, dtype_of, normal, positive
from .test_adbench import assert_published, numbers, published
from .test_primitives import CASES
from .test_random_programs import FAMILIES, PROGRAMS, programs

MODELS = [
    models.burgers(20),
    models.brusselator(4),
    models.arrow(30),
    models.bundle(3, 5, 12),
    models.collocation(5),
    models.mesh(20),
    models.rosenbrock(20),
    models.separable(150),
]
EXACT = [m for m in MODELS if not m.name.startswith("bundle")]
MODEL = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)


@pytest.fixture(autouse=True)
def _small_may_be_dense():
    """Most programs here are small and full, which is worth a warning to users."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* is dense: ")
        yield


def sparse(model):
    return (bs.hessian if model.second else bs.jacobian)(model.function, format="sparse")


def dense(model):
    return (jax.hessian if model.second else jax.jacobian)(model.function)


def leaves(tree):
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, bs.SparseMatrix))


def is_real(x):
    return jnp.issubdtype(dtype_of(x), np.floating)


def real_outputs(f):
    """f with its real and imaginary parts as a list of outputs."""

    def parts(*args):
        found = []
        for leaf in jax.tree.leaves(f(*args)):
            if is_real(leaf):
                found.append(leaf)
            elif jnp.issubdtype(dtype_of(leaf), np.complexfloating):
                found += [jnp.real(leaf), jnp.imag(leaf)]
        return found

    return parts


def assert_sorted(A):
    keys = A.rows.astype(np.int64) * A.shape[1] + A.cols
    assert np.all(np.diff(keys) > 0)
    assert A.data.shape == (A.nnz,)


def assert_same(got, expected, rtol=None):
    """Sparse matrices equal to dense arrays, where the dense ones are finite."""
    expected = jax.tree.leaves(expected)
    assert len(leaves(got)) == len(expected)
    for A, B in zip(leaves(got), expected, strict=True):
        assert_sorted(A)
        C = A.todense()
        assert (C.shape, C.dtype) == (B.shape, B.dtype)
        finite = np.isfinite(np.asarray(B, float))
        assert_close(np.where(finite, C, 0), np.where(finite, B, 0), rtol)


# ---- values ------------------------------------------------------------------------------------------------------------
@MODEL
def test_models(model):
    x = jnp.asarray(model.point)
    got, expected = compiled(lambda x: (sparse(model)(x), dense(model)(x)))(x)
    assert_same(got, expected)
    if model.by_hand is not None:
        np.testing.assert_allclose(np.sort(got.data), np.sort(model.by_hand(x)), rtol=1e-12, atol=1e-12)


@MODEL
def test_models_in_casadi_are_the_same_functions(model):
    casadi = pytest.importorskip("casadi")
    z = casadi.SX.sym("z", len(model.point))
    theirs = casadi.Function("f", [z], [model.of_casadi(casadi, z)])(model.point)
    ours = np.ravel(model.function(jnp.asarray(model.point)))
    np.testing.assert_allclose(theirs.full().ravel(), ours, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", EXACT, ids=lambda m: m.name)
def test_the_pattern_of_a_model_is_the_true_one(model):
    n = len(model.point)
    J = compiled(dense(model))
    true = np.zeros(J(model.point).shape, bool)
    for seed in range(20):
        true |= np.asarray(J(positive(n, seed=seed))) != 0
    A = sparse(model)(jnp.asarray(model.point))
    found = np.zeros(true.shape, bool)
    found[A.rows, A.cols] = True
    np.testing.assert_array_equal(found, true)


def test_the_pattern_of_a_bundle_adjustment_contains_the_true_one():
    """Of it a few entries are zero whatever the point, but only because two terms cancel."""
    model = models.bundle(3, 5, 12)
    A = sparse(model)(jnp.asarray(model.point))
    found = np.zeros(A.shape, bool)
    found[A.rows, A.cols] = True
    J = compiled(dense(model))
    true = np.zeros(A.shape, bool)
    for seed in range(20):
        true |= np.asarray(J(positive(len(model.point), seed=seed))) != 0
    assert not (true & ~found).any()
    assert found.sum() <= 1.1 * true.sum()


# A scatter-max past the end: JAX promises itself that no index is, and its two modes then differ.
PRIMITIVES = [p for p in CASES if p.values[1].adjoint and p.id not in ("scatter-max-0", "scatter-min-0")]


@pytest.mark.parametrize(("name", "c"), PRIMITIVES)
def test_every_primitive(name, c):
    args = as_jax(c.args)
    numbers = [k for k, a in enumerate(args) if jax.tree.leaves(a) and all(map(is_real, jax.tree.leaves(a)))]
    if not numbers:
        pytest.skip("no real argument")
    f = real_outputs(c.f)

    def both(*args):
        try:
            expected = (jax.jacrev if c.vjp else jax.jacfwd)(f, argnums=numbers)(*args)
        except (NotImplementedError, ValueError):
            pytest.skip("JAX gives no Jacobian")
        return bs.jacobian(f, argnums=numbers, format="sparse")(*args), expected

    assert_same(*compiled(both)(*args), c.rtol)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_programs(family):
    @settings(max_examples=PROGRAMS // 10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(programs(family))
    def same_as_jax(program):
        args = as_jax(program.arguments)
        numbers = tuple(range(len(args)))
        ours, theirs = bs.jacobian(program, argnums=numbers, format="sparse"), jax.jacobian(program, argnums=numbers)
        assert_same(*compiled(lambda *xs: (ours(*xs), theirs(*xs)))(*args))

    same_as_jax()


@pytest.mark.parametrize("order", ["forward", "reverse", "markowitz", "auto"])
def test_orders(order):
    for model in MODELS[:6]:
        x = jnp.asarray(model.point)
        J = bs.jacobian(model.function, format="sparse", order=order)
        assert_same(J(x), compiled(dense(model))(x))


def test_a_plan_and_a_sequence_serve():
    f, x = MODELS[0].function, jnp.asarray(MODELS[0].point)
    plan = bs.plan(f, x, order="reverse", format="operator")
    for order in (plan, plan.order):
        assert_same(bs.jacobian(f, format="sparse", order=order)(x), reference.jacobian(f)(x))
    with pytest.raises(ValueError, match="unknown order 'backwards'"):
        bs.jacobian(f, format="sparse", order="backwards")(x)


def test_of_a_system():
    x = jnp.asarray(MODELS[0].point)
    assert_same(bs.linearize(MODELS[0].function, x).jacobian(format="sparse"), reference.jacobian(MODELS[0].function)(x))


# ---- trees, arguments, transformations ------------------------------------------------------------------------------------
def mixed(p, scale, *, shift=0.0):
    a, (b, _) = p["a"], p["b"]
    return {"sum": jnp.sum(a) * b, "far": (a[::-1] * scale + shift, jnp.float32(1.0) * a.astype(jnp.float32))}


POINT = {"a": normal(2, 3), "b": (np.float64(0.5), normal(2))}


def test_trees_in_and_out():
    args = as_jax((POINT, 3.0))
    got = bs.jacobian(mixed, argnums=(0, 1), format="sparse")(*args)
    expected = reference.jacobian(mixed, argnums=(0, 1))(*args)
    assert jax.tree.structure(expected) == jax.tree.structure(got, is_leaf=lambda x: isinstance(x, bs.SparseMatrix))
    assert_same(got, expected)
    assert got["far"][0][0]["a"].nnz == 6
    assert got["far"][0][0]["b"][1].nnz == 0


def test_keywords_static_arguments_and_auxiliary_data():
    def f(x, kind, *, power):
        return (getattr(jnp, kind)(x) ** power, {"sum": jnp.sum(x)})

    x = jnp.asarray(normal(5))
    J = bs.jacobian(f, has_aux=True, format="sparse")
    for kind in ("sin", "cos", "sin"):
        got, aux = J(x, kind, power=2)
        expected, other = jax.jacobian(f, has_aux=True)(x, kind, power=2)
        assert_same(got, expected)
        assert_close(aux["sum"], other["sum"])


def test_a_point_changes_without_tracing_again():
    traces = []

    def f(x, t):
        traces.append(None)
        return jnp.sin(x) * t

    J = bs.jacobian(f, format="sparse")
    for t in (0.5, 1.5, np.float64(2.5)):
        np.testing.assert_allclose(J(np.ones(4), t).data, np.cos(1.0) * t)
    assert len(traces) == 2  # a Python number and a NumPy one


@MODEL
def test_under_vmap(model):
    X = jnp.asarray(np.stack([model.point, positive(len(model.point))]))
    A = jax.vmap(sparse(model))(X)
    assert A.data.shape == (2, A.nnz)
    for k in range(2):
        assert_close(A.data[k], sparse(model)(X[k]).data)


@pytest.mark.parametrize("model", [MODELS[1], MODELS[2], MODELS[6]], ids=lambda m: m.name)
def test_gradient_through(model):
    x = jnp.asarray(model.point)
    weights = jnp.asarray(normal(len(x), len(x)))
    got = jax.grad(lambda x: jnp.sum(jnp.sin(sparse(model)(x) @ weights)))(x)
    assert_close(got, reference.grad(lambda x: jnp.sum(jnp.sin(dense(model)(x) @ weights)))(x))


# ---- Hessians ----------------------------------------------------------------------------------------------------------
@jax.custom_jvp
def _bent(x):
    return jnp.where(x > 0, x, 0.1 * x)


_bent.defjvp(lambda p, t: (jnp.where(p[0] > 0, p[0], 0.1 * p[0]), jnp.where(p[0] > 0, 1.0, 0.2) * t[0]))


@jax.custom_vjp
def _slowed(x):
    return x * 1.0


_slowed.defvjp(lambda x: (x * 1.0, None), lambda _, g: (0.7 * g,))


_through = jax.custom_jvp(jax.nn.relu)  # a rule of one's own for a function of JAX's
_through.defjvp(lambda p, t: (jnp.maximum(p[0], 0), t[0] * jnp.where(p[0] > 0, 1.0, 0.3)))


@pytest.mark.parametrize("u", [jax.nn.relu, jax.nn.softplus, jax.nn.silu, jnp.sinc])
def test_a_hessian_through_rules_of_jax_is_symmetric(u):
    H = bs.hessian(lambda x: jnp.sum(u(jnp.roll(u(x), 1) * x)) * jnp.sum(u(x)), format="sparse")(jnp.linspace(-1.0, 0.8, 5))
    np.testing.assert_array_equal(H.todense(), H.todense().T)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.sum(_bent(jnp.sin(x)) ** 2) * jnp.sum(jax.jit(_bent)(x) ** 3 * x),
        lambda x: jnp.sum(_slowed(jnp.sin(_bent(x)))) * jnp.sum(jax.lax.scan(lambda c, v: (c, _bent(v) * v), 0.0, x)[1]),
        lambda x: jnp.sum(_through(jnp.sin(_through(x))) * jnp.roll(_through(x), 1)),
    ],
    ids=["custom_jvp", "custom_vjp, inside a scan", "for a function of JAX's"],
)
@pytest.mark.parametrize("order", ["auto", "reverse", "markowitz"])
def test_a_hessian_by_rules_that_are_no_derivatives_is_not_symmetric(f, order):
    x = jnp.linspace(-1.0, 0.8, 5)
    expected = np.asarray(reference.jacrev(jax.grad(f))(x))
    assert np.abs(expected - expected.T).max() > 1e-3
    found = bs.hessian(f, format="sparse", order=order)(x).todense()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_hessian_is_exactly_symmetric():
    for model in MODELS[6:]:
        H = sparse(model)(jnp.asarray(model.point))
        T = H.T
        assert H.pattern == T.pattern
        np.testing.assert_array_equal(H.data, T.data)


def test_the_hessian_of_a_tree():
    def f(p, q):
        return jnp.sum(p["a"][:, 0] * p["b"] ** 2 * q) + jnp.sum(p["a"] ** 3)

    args = as_jax(({"a": normal(4, 2), "b": normal(4)}, normal(4)))
    got = bs.hessian(f, argnums=(0, 1), format="sparse")(*args)
    assert_same(got, reference.hessian(f, argnums=(0, 1))(*args))
    assert got[0]["a"][0]["a"].nnz == 8
    assert got[0]["a"][0]["b"].pattern == got[0]["b"][0]["a"].T.pattern
    assert got[1][1].nnz == 0


def products(f, x):
    """How many numbers are multiplied with numbers."""
    (call,) = jax.make_jaxpr(lambda x: f(x).data)(x).eqns
    return sum(eqn.outvars[0].aval.size for eqn in call.params["jaxpr"].eqns if eqn.primitive.name == "mul")


def test_each_pair_of_a_hessian_once():
    model = models.separable(1_000)
    x = jnp.asarray(model.point)
    both = bs.jacobian(bs.grad(model.function), format="sparse")
    assert products(sparse(model), x) < products(both, x)


# ---- control flow and opaque edges ----------------------------------------------------------------------------------------
def opaque(kind):
    @jax.custom_vjp
    def own(x):
        return jnp.sin(x) * x[::-1]

    own.defvjp(lambda x: (own(x), x), lambda x, g: (jnp.cos(x) * x[::-1] * g + (jnp.sin(x) * g)[::-1],))
    return {
        "scan": lambda x: lax.scan(lambda c, w: (jnp.sin(c) + w, c), x, jnp.arange(3.0))[0],
        "while": lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1],
        "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
        "custom_vjp": own,
        "fft": lambda x: jnp.abs(jnp.fft.fft(x)),
        "solve": lambda x: jnp.linalg.solve(jnp.diag(x + 3.0), x),
    }[kind]


@pytest.mark.parametrize("kind", ["scan", "while", "cond", "custom_vjp", "fft", "solve"])
def test_opaque_edges(kind):
    g, x = opaque(kind), jnp.asarray(normal(4))
    derivative = jax.jacfwd if kind == "while" else jax.jacrev
    for f in (g, lambda x: g(x * x[0])[1:] * x[:-1], lambda x: jnp.concatenate([g(x[:4]), jnp.sin(x)])):
        assert_same(bs.jacobian(f, format="sparse")(x), derivative(f)(x))


def test_an_opaque_edge_takes_the_narrowest_block():
    """Between two columns and many rows, two columns are pushed: what they do not touch stays zero."""
    mix = jnp.asarray(normal(100, 100))

    def f(x):
        mixed = lax.scan(lambda c, w: (jnp.sin(mix @ c) + w, None), jnp.tile(x[:2], 50), jnp.arange(3.0))[0]
        return jnp.concatenate([mixed, x[2:] ** 2])

    A = bs.jacobian(f, format="sparse")(jnp.asarray(normal(300)))
    assert A.nnz == 100 * 2 + 298


# ---- ADBench -----------------------------------------------------------------------------------------------------------
def test_bundle_adjustment_against_published_values():
    """The whole sparse Jacobian of ADBench's test, rows of 15 numbers an observation and one of each weight."""
    values = numbers("ba_test")
    cameras, points, observations = values[:3].astype(int)
    camera, point, weight, feature = np.split(values[3:], [11, 14, 15])
    seen = np.arange(observations)

    def residuals(c, p, w):
        errors = w[:, None] * (models.projected(c[seen % cameras], p[seen % points]) - feature)
        return errors, 1 - w**2

    args = np.tile(camera, (cameras, 1)), np.tile(point, (points, 1)), np.repeat(weight, observations)
    (by_camera, by_point, by_weight), rest = bs.jacobian(residuals, argnums=(0, 1, 2), format="sparse")(*args)
    assert [A.nnz // (2 * observations) for A in (by_camera, by_point, by_weight)] == [10, 3, 1]  # one zero is published
    where = zip((by_camera, by_point, by_weight), (seen % cameras, seen % points, seen), strict=True)
    rows = [np.asarray(A.todense())[seen, :, k].reshape(2 * observations, -1) for A, k in where]
    got = np.concatenate([np.ravel(np.concatenate(rows, axis=1)), rest[2].data])
    assert_published(got, published("ba_test")["jacobian"])
    assert (rest[0].nnz, rest[1].nnz) == (0, 0)
