"""Rules for primitives of a user's own, each in a line."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

import backsolve as bs
from backsolve import extend
from backsolve.testing import check_rule
from backsolve.tracing.jaxpr import PRIMITIVES
from tests import reference

from .oracle import assert_same, check, normal

COUNT = itertools.count()
X = normal(3)
A = normal(3, 3)


def primitive(f, shape=lambda *xs, **params: xs[0], **options):
    """A fresh primitive of a user computing f: abstract evaluation, implementation, compilation; no derivative."""
    p = Primitive(f"user_{next(COUNT)}")
    p.multiple_results = options.get("multiple_results", False)
    p.def_impl(f)
    p.def_abstract_eval(shape)
    mlir.register_lowering(p, mlir.lower_fun(f, multiple_results=p.multiple_results))
    return p


def test_elementwise():
    p = primitive(jnp.sin)
    extend.elementwise(p, lambda x, y: jnp.cos(x))
    check_rule(p, X)
    gradient = bs.grad(lambda x: jnp.sum(p.bind(x) * x))(jnp.asarray(X))
    assert_same(gradient, reference.grad(lambda x: jnp.sum(jnp.sin(x) * x))(jnp.asarray(X)))


def test_elementwise_of_two_operands_by_name_under_jit():
    p = primitive(lambda x, y: x * jnp.exp(y))
    extend.elementwise(p.name, lambda x, y, z: jnp.exp(y), lambda x, y, z: z)
    check_rule(p, X, 2 * X)
    f = jax.jit(bs.grad(lambda x: jnp.sum(p.bind(x, x))))
    assert_same(f(X), reference.grad(lambda x: jnp.sum(x * jnp.exp(x)))(X))


def test_elementwise_with_a_number():
    p = primitive(lambda x: 3 * x)
    extend.elementwise(p, lambda x, y: 3.0)
    check_rule(p, X)


def test_linear():
    p = primitive(lambda x: jnp.roll(x, 1))
    ad.deflinear2(p, lambda ct, x: [jnp.roll(ct, -1)])
    extend.linear(p)
    check_rule(p, X)
    check(lambda x: p.bind(x * x), (X,))


def test_linear_in_one_operand():
    p = primitive(lambda a, x: a @ x, lambda a, x: x)
    ad.primitive_transposes[p] = lambda ct, a, x: [None, a.T @ ct]
    extend.linear(p, operands=(1,))
    _, pull = bs.vjp(lambda x: p.bind(jnp.asarray(A), x), jnp.asarray(X))
    assert_same(pull(jnp.ones(3))[0], jnp.asarray(A).T @ jnp.ones(3))


def test_rule_with_a_dense_jacobian():
    p = primitive(lambda a, x: a @ x, lambda a, x: x)

    def edge(eq, k):
        a, x = eq.inputs
        return extend.dense(eq, k, a if k == 1 else jnp.einsum("im,n->imn", jnp.eye(3), x))

    extend.rule(p, edge)
    check_rule(p, A, X)
    a, x = jnp.asarray(A), jnp.asarray(X)
    found = bs.jacobian(lambda a, x: p.bind(a, x), (0, 1))(a, x)
    assert_same(found, reference.jacobian(jnp.matmul, (0, 1))(a, x))


def test_rule_that_reads_parameters_and_gives_zero():
    p = primitive(lambda x, y, *, n: x**n, lambda x, y, n: x)
    extend.rule(p, lambda eq, k: extend.diagonal(eq, k, eq.params["n"] * eq.inputs[0] ** 3) if k == 0 else None)
    check_rule(p, X, X, n=4)
    assert_same(bs.grad(lambda y: jnp.sum(p.bind(y * 0 + 1.0, y, n=4)))(X * 1.0), jnp.zeros(3))


def test_rule_that_leaves_the_work_to_jax():
    p = primitive(jnp.sin)
    ad.defjvp(p, lambda g, x: g * jnp.cos(x))
    extend.rule(p, lambda eq, k: extend.FALLBACK)
    check_rule(p, X)
    check(lambda x: p.bind(x) * x, (X,))


def test_no_rule_at_all_but_jax_s_own():
    p = primitive(jnp.sin)
    ad.defjvp(p, lambda g, x: g * jnp.cos(x))
    check_rule(p, X)
    check(lambda x: p.bind(x) * x, (X,))


def test_no_rule_anywhere():
    p = primitive(jnp.sin)
    with pytest.raises(NotImplementedError, match=rf"(?s){p.name}.*not implemented"):
        bs.grad(lambda x: jnp.sum(p.bind(x)))(jnp.asarray(X))


def test_a_rule_under_vmap_and_hvp():
    p = primitive(jnp.sin)
    ad.defjvp(p, lambda g, x: g * jnp.cos(x))
    extend.elementwise(p, lambda x, y: jnp.cos(x))
    from jax.interpreters import batching

    batching.defvectorized(p)
    found = jax.vmap(bs.grad(lambda x: p.bind(x) ** 2))(jnp.asarray(X))
    assert_same(found, jnp.sin(2 * jnp.asarray(X)))
    second = bs.hvp(lambda x: jnp.sum(p.bind(x)), (jnp.asarray(X),), (jnp.ones(3),))
    assert_same(second, -jnp.sin(jnp.asarray(X)))


def test_a_rule_is_not_replaced():
    p = primitive(jnp.sin)
    extend.elementwise(p, lambda x, y: jnp.cos(x))
    with pytest.raises(ValueError, match=rf"primitive '{p.name}' already has a rule, from an earlier rule"):
        extend.linear(p)
    with pytest.raises(ValueError, match="primitive 'sin' already has a rule, from backsolve itself"):
        extend.elementwise("sin", lambda x, y: y)


def test_too_few_partials():
    p = primitive(lambda x, y: x * y)
    extend.elementwise(p, lambda x, y, z: y)
    with pytest.raises(ValueError, match=rf"the rule of {p.name} has 1 partial derivatives, but .* 2 operands"):
        bs.vjp(lambda x: p.bind(x, x), jnp.asarray(X))


def test_a_dense_jacobian_of_the_wrong_shape():
    p = primitive(lambda x: x[:2], lambda x: ShapedArray((2,), x.dtype))
    extend.rule(p, lambda eq, k: extend.dense(eq, k, np.ones((3, 2))))
    with pytest.raises(ValueError, match=rf"Jacobian of {p.name} by operand 0 must have shape \(2, 3\), got \(3, 2\)"):
        bs.vjp(lambda x: p.bind(x), jnp.asarray(X))


def test_a_primitive_of_which_only_the_kind_is_known_may_be_given_a_rule(monkeypatch):
    monkeypatch.setitem(PRIMITIVES, "clamp", PRIMITIVES["clamp"])  # the table is as it was afterwards
    extend.rule("clamp", lambda eq, k: extend.multiple(eq, k, 5.0))
    assert bs.grad(lambda x: jax.lax.clamp(0.0, x, 1.0))(0.5) == 5.0
    with pytest.raises(ValueError, match="primitive 'clamp' already has a rule, from an earlier rule"):
        extend.rule("clamp", lambda eq, k: None)
