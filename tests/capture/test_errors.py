"""What is said when the input is wrong: the function, both shapes, the remedy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs

X = np.array([1.0, 2.0, 3.0])


def square(x):
    return x * x


def energy(x):
    return jnp.sum(x * x)


def total(x, y):
    return jnp.sum(x * y)


# ---- the output ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("derivative", [bs.grad, bs.value_and_grad])
def test_grad_of_a_vector(derivative):
    with pytest.raises(TypeError, match=r"scalar output, but square returns shape \(3,\); reduce it .* backsolve.jacobian"):
        derivative(square)(X)


def test_grad_of_a_pytree():
    def pair(x):
        return (jnp.sum(x), jnp.sum(x))

    with pytest.raises(TypeError, match=r"one scalar output, but pair returns a pytree: PyTreeDef\(\(\*, \*\)\)"):
        bs.grad(pair)(X)


def test_grad_of_an_integer_output():
    def count(x):
        return jnp.sum(x > 0)

    with pytest.raises(TypeError, match=r"count returns dtype int64, which has no derivatives"):
        bs.grad(count)(X)
    with pytest.raises(TypeError, match=r"count returns dtype int64, which has no derivatives"):
        bs.jacobian(count)(X)


def test_grad_of_a_complex_output():
    def spiral(x):
        return jnp.sum(jnp.exp(1j * x))

    with pytest.raises(TypeError, match=r"spiral returns dtype complex128; pass holomorphic=True"):
        bs.grad(spiral)(X)


def test_holomorphic_wants_complex_inputs_and_outputs():
    with pytest.raises(TypeError, match=r"holomorphic=True needs complex inputs, but leaf 0 has dtype float64"):
        bs.grad(energy, holomorphic=True)(X)

    def absolute(z):
        return jnp.sum(jnp.abs(z))

    with pytest.raises(TypeError, match=r"with holomorphic=True absolute must return complex values, got dtype float64"):
        bs.grad(absolute, holomorphic=True)(X + 0j)


def test_output_that_is_no_array():
    def word(x):
        return "seven"

    with pytest.raises(TypeError, match=r"function word .* returned a value of type <class 'str'>.* not a valid JAX type"):
        bs.grad(word)(X)


def test_has_aux_wants_a_pair():
    with pytest.raises(TypeError, match=r"with has_aux, energy must return a pair \(output, auxiliary data\), got"):
        bs.grad(energy, has_aux=True)(X)


# ---- the inputs ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("x", [3, np.arange(3), np.array([True]), True])
@pytest.mark.parametrize(
    ("derivative", "remedy"),
    [
        (bs.grad, "or pass allow_int=True"),
        (bs.value_and_grad, "or pass allow_int=True"),
        (bs.jacobian, "or pass allow_int=True"),
        (bs.hessian, "or choose other argnums"),
        (lambda f: functools.partial(bs.sparsity, f), "or choose other argnums"),
    ],
)
def test_integers_are_refused(derivative, remedy, x):
    """With a remedy that the function has."""
    message = rf"needs real or complex inputs, but leaf 0 .* dtype (int64|bool).*\.astype\(float\).*{remedy}\."
    with pytest.raises(TypeError, match=message):
        derivative(energy)(x)


@pytest.mark.parametrize("x", ["text", None.__class__, object(), {"a": "text"}])
def test_an_argument_that_is_no_array(x):
    with pytest.raises(
        TypeError, match=r"argument 0 of energy, leaf 0, is .* not an array; .*other arguments, or close over"
    ):
        bs.grad(energy)(x)


@pytest.mark.parametrize("argnums", [2, -3, (0, 2), (0, -3)])
def test_argnums_out_of_range(argnums):
    with pytest.raises(ValueError, match=r"argnums -?\d is out of range: total is called with 2 positional arguments"):
        bs.grad(total, argnums)(X, X)


def test_argnums_out_of_range_because_of_a_keyword():
    with pytest.raises(ValueError, match=r"argnums 1 is out of range: total is called with 1 positional argument\."):
        bs.grad(total, 1)(X, y=X)


@pytest.mark.parametrize("argnums", ["x", 1.5, ("x",), None])
def test_argnums_that_are_no_integers(argnums):
    with pytest.raises(TypeError, match=r"argnums must be an int or a sequence of ints, got"):
        bs.grad(total, argnums)(X, X)


@pytest.mark.parametrize("thing", [3, "f", None, X])
@pytest.mark.parametrize("derivative", [bs.grad, bs.value_and_grad, bs.jacobian, bs.hessian])
def test_not_a_function(derivative, thing):
    with pytest.raises(TypeError, match=r"expected a function of JAX arrays, got .* of type"):
        derivative(thing)(X)


def test_not_a_function_for_vjp_jvp_and_linearize():
    for call in (lambda: bs.vjp(3, X), lambda: bs.jvp(3, (X,), (X,)), lambda: bs.linearize(3, X)):
        with pytest.raises(TypeError, match=r"expected a function of JAX arrays, got 3 of type int"):
            call()


# ---- functions that JAX cannot trace -------------------------------------------------------------------------------------
def test_numpy_on_a_tracer():
    def by_numpy(x):
        return np.sin(np.asarray(x)).sum()

    with pytest.raises(jax.errors.TracerArrayConversionError, match="by_numpy"):
        bs.grad(by_numpy)(X)


def test_a_branch_on_a_value():
    def branching(x):
        return x if x > 0 else -x

    with pytest.raises(jax.errors.TracerBoolConversionError, match="branching"):
        jax.jit(bs.grad(branching))(1.0)


def test_a_leaked_tracer():
    kept = []

    def leaking(x):
        kept.append(x * 2)
        return jnp.sum(x)

    bs.grad(leaking)(X)
    with pytest.raises(jax.errors.UnexpectedTracerError, match=r"leaking"):
        kept[0] + 1


def test_an_error_of_the_function_itself_comes_through():
    def failing(x):
        raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        bs.grad(failing)(X)


def test_reverse_mode_through_while_is_refused_by_jax_with_our_place_added():
    def looped(x):
        return jnp.sum(jax.lax.while_loop(lambda c: jnp.sum(c) < 100, lambda c: c * 2, x))

    with pytest.raises(
        ValueError, match=r"(?s)Reverse-mode differentiation does not work.*backsolve: in reverse mode"
    ) as info:
        bs.grad(looped)(X)
    assert "test_errors.py" in "\n".join(info.value.__notes__)


def test_forward_mode_through_custom_vjp_is_refused_as_by_jax():
    @jax.custom_vjp
    def f(x):
        return x

    f.defvjp(lambda x: (x, None), lambda r, g: (g,))
    with pytest.raises(TypeError, match=r"can't apply forward-mode autodiff \(jvp\) to a custom_vjp"):
        bs.jvp(f, (X,), (X,))


# ---- tangents and cotangents ---------------------------------------------------------------------------------------------
def test_cotangent_of_the_wrong_shape():
    _, pull = bs.vjp(square, X)
    with pytest.raises(
        ValueError, match=r"cotangents for square, leaf 0: shape \(2,\) does not match the leaf's shape \(3,\)"
    ):
        pull(np.ones(2))


def test_cotangent_of_the_wrong_dtype():
    _, pull = bs.vjp(square, X)
    with pytest.raises(TypeError, match=r"cotangents for square, leaf 0: dtype float32 .* dtype float64; .*astype"):
        pull(np.ones(3, np.float32))


def test_cotangent_of_the_wrong_tree():
    _, pull = bs.vjp(square, X)
    with pytest.raises(
        TypeError, match=r"cotangents for square must have the tree PyTreeDef\(\*\), got PyTreeDef\(\(\*,\)\)"
    ):
        pull((X,))


def test_tangent_of_the_wrong_shape_dtype_or_tree():
    with pytest.raises(ValueError, match=r"tangents for square, leaf 0: shape \(2,\) does not match .* \(3,\)"):
        bs.jvp(square, (X,), (X[:2],))
    with pytest.raises(TypeError, match=r"tangents for square, leaf 0: dtype float32 does not match .* float64"):
        bs.jvp(square, (X,), (X.astype(np.float32),))
    with pytest.raises(TypeError, match=r"tangents for square must have the tree .*, got"):
        bs.jvp(square, (X,), (X, X))
    with pytest.raises(TypeError, match="primals and tangents of jvp must be tuples or lists, got ndarray and ndarray"):
        bs.jvp(square, X, X)


def test_tangent_of_an_integer_leaf():
    with pytest.raises(TypeError, match=r"tangents for <lambda>, leaf 1: .* dtype int64, whose tangents have dtype float0"):
        bs.jvp(lambda x, n: x * n, (1.0, 3), (1.0, 1.0))


# ---- options -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["sideways", "", None])
def test_unknown_order(order):
    expected = rf"unknown order {order!r}; use one of 'auto', 'forward', 'reverse', 'markowitz', a sequence"
    with pytest.raises(ValueError, match=expected):
        bs.jacobian(square, order=order)(X)


def test_unknown_option_names_are_refused():
    with pytest.raises(TypeError, match="ordr"):
        bs.jacobian(square, ordr="auto")


def test_hvp_of_a_vector_function():
    with pytest.raises(TypeError, match=r"scalar output, but square returns shape \(3,\)"):
        bs.hvp(square, (X,), (X,))


def test_a_partial_and_a_callable_object_are_named_by_their_type():
    class Net:
        def __call__(self, x):
            return x

    with pytest.raises(TypeError, match=r"but Net returns shape \(3,\)"):
        bs.grad(Net())(X)
    with pytest.raises(TypeError, match=r"but partial returns shape \(3,\)|but square returns shape \(3,\)"):
        bs.grad(functools.partial(square))(X)


def test_a_static_argument_under_jit_must_still_be_hashable_as_in_jax():
    f = jax.jit(bs.grad(lambda x, n: x**n), static_argnums=1)
    assert f(2.0, 3) == 12.0
    with pytest.raises(ValueError, match="Non-hashable"):
        f(2.0, [3])
