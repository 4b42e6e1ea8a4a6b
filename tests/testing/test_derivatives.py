"""The public checkers, on derivatives that are right and on derivatives that are wrong on purpose."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad

from backsolve import extend
from backsolve.operators import Einsum, linear_map
from backsolve.testing import check_grad, check_rule

pytestmark = pytest.mark.usefixtures("double_precision")

COUNT = itertools.count()
X = np.array([0.3, -1.2, 2.0])


def primitive(f, shape=lambda x: x):
    """A fresh primitive computing f, whose abstract value is shape(operands)."""
    p = Primitive(f"check_{next(COUNT)}")
    p.def_impl(f)
    p.def_abstract_eval(shape)
    return p


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (lambda x: jnp.sum(jnp.sin(x) * x), (X,)),
        (lambda x, y: {"a": jnp.outer(x, y), "b": (x @ x,)}, (X, X[:2])),
        (lambda tree, n: tree["w"] * n, ({"w": X}, 3)),
        (lambda z: z * jnp.conj(z) * 2j, (X + 1j,)),
        (lambda x: jax.scipy.special.betainc(2.0, 3.0, x), (np.array([0.2, 0.7]),)),
        (lambda x: jnp.where(x > 0, jnp.sqrt(jnp.abs(x)), 0.0), (np.float32(2.0),)),
    ],
)
def test_check_grad_accepts_what_is_right(f, args):
    check_grad(f, args)


def test_check_grad_refuses_a_wrong_custom_jvp():
    @jax.custom_jvp
    def wrong(x):
        return jnp.sin(x)

    wrong.defjvp(lambda p, t: (wrong(*p), jnp.cos(p[0]) * t[0] * 1.001))
    with pytest.raises(AssertionError, match=r"wrong: forward mode is wrong in direction 0: ⟨g, J t⟩ = .* differences"):
        check_grad(wrong, (X,))


def test_check_grad_refuses_a_wrong_transpose_only():
    def wrong(x):
        return jax.custom_derivatives.linear_call(lambda r, v: v * 2, lambda r, ct: ct * 3, (), x)

    with pytest.raises(AssertionError, match="reverse mode is wrong in direction 0"):
        check_grad(wrong, (X,))


def test_check_rule_accepts_every_rule_of_a_function():
    check_rule(lambda x, y: jnp.tanh(x) @ y, X, X)
    check_rule(jax.lax.sin_p, X, accuracy=None)
    check_rule(lambda x, n: x * n, X, 3)


def test_check_rule_finds_a_wrong_value_without_jax():
    p = primitive(np.sin)
    extend.elementwise(p, lambda x, y: jnp.cos(x) + 0.01)
    with pytest.raises(AssertionError, match=r"check_\d+: the value is wrong: .* by central differences"):
        check_rule(p, X)


def test_check_rule_finds_a_wrong_value_with_jax():
    p = primitive(np.sin)
    ad.defjvp(p, lambda g, x: g * jnp.cos(x))
    extend.elementwise(p, lambda x, y: jnp.sin(x))
    with pytest.raises(AssertionError, match=r"check_\d+: the value is wrong: .* by jax.linearize"):
        check_rule(p, X)


def test_check_rule_finds_a_wrong_transpose():
    p = primitive(lambda x: 2 * x)
    extend.rule(p, lambda eq, k: linear_map(lambda t: 2 * t, lambda g: 3 * g, (3,), (3,)))
    with pytest.raises(AssertionError, match=r"check_\d+: the transpose is wrong: ⟨g, J t⟩ = .*, but ⟨Jᵀ g, t⟩ = "):
        check_rule(p, X)


def test_check_rule_finds_a_wrong_shape():
    p = primitive(lambda x: 2 * x)
    sizes = {0: 2, 1: 3}
    extend.rule(p, lambda eq, k: Einsum((), (0,), (1,), sizes, 1, (eq.dtype, eq.dtype)))
    with pytest.raises(AssertionError, match=r"(?s)wrong shape: .*2.*3|wrong shape: .*3.*2"):
        check_rule(p, X)


def test_check_rule_finds_a_dense_jacobian_of_the_wrong_shape():
    p = primitive(lambda x: 2 * x)
    extend.rule(p, lambda eq, k: extend.dense(eq, k, jnp.ones((3, 2))))
    with pytest.raises(AssertionError, match=r"must have shape \(3, 3\), got \(3, 2\)"):
        check_rule(p, X)


def test_check_rule_wants_a_primitive_or_a_function():
    with pytest.raises(TypeError, match=r"primitive or a function, got 'sin' of type str"):
        check_rule("sin", X)


def test_the_checkers_import_jax_only_when_asked():
    code = (
        "import sys, backsolve.testing as t; assert 'jax' not in sys.modules; "
        "t.check_grad; assert 'jax' in sys.modules; t.nothing"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "module 'backsolve.testing' has no attribute 'nothing'" in run.stderr
