"""Programs as calls of NumPy: their numbers are those of `jax.jit`, whatever they are made of; what is worked out once."""

import re
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from backsolve.tape import numbers, operations
from backsolve.tape.program import NotServed, Tape

pytestmark = pytest.mark.usefixtures("double_precision")
N = 12
X = np.random.default_rng(0).normal(size=N)
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-300, 1e300, 0.5, -2.5, 3.0])


def K():
    """Indices; an array of its own for each trace, as JAX remembers the precision of the one that it has seen."""
    return np.array([3, 0, 7, 7, 11, 2])


def M():
    return np.random.default_rng(1).normal(size=(4, 3))


def taped(*functions, parameters=()):
    """Tape of functions of (x, inputs of their own, parameters), and their jaxprs."""
    tape = Tape(jax.typeof(jnp.asarray(X)), [jax.typeof(jnp.asarray(p)) for p in parameters])
    for function, others in functions:
        closed = jax.make_jaxpr(function)(jnp.asarray(X), *others, *parameters)
        tape.read(closed.jaxpr, closed.consts)
    return tape


def results(tape, number, vectors, parameters=None):
    return tape.run(number, [np.asarray(v) for v in vectors], parameters)


def expected(function, *given):
    return np.concatenate([np.ravel(y) for y in jax.tree.leaves(jax.jit(function)(*given))])


ENTRYWISE = {
    "arithmetic": lambda x: (x + x[::-1], x - 2.0, x * x[::-1], x / x[::-1], -x, x * 1.0, x + 0.0, x / 1.0, x - 0.0),
    "powers": lambda x: (x**2, lax.square(x), x**3, x**7, x**-1, x**-2, x**0, abs(x) ** x[::-1]),
    "roots": lambda x: (jnp.sqrt(x), lax.rsqrt(x), jnp.cbrt(x)),
    "roundings": lambda x: (jnp.abs(x), jnp.sign(x), jnp.floor(x), jnp.ceil(x), lax.rem(x, x[::-1]), lax.stop_gradient(x)),
    "choices": lambda x: (
        jnp.maximum(x, x[::-1]), jnp.minimum(x, 0.3), jnp.clip(x, -0.5, 0.7), jnp.where(x > 0, x, 2 * x),
        jnp.where((x > 0) & ~(x > 1) | (x == x[::-1]), x, 1.0), jnp.where(jnp.isfinite(x), x, 0.0),
        (x >= 0.5).astype(float) + x, jnp.where((x <= 0) ^ (x != 1), x, jnp.where(x < 2, 3.0, x)),
    ),
    "circular": lambda x: (jnp.sin(x), jnp.cos(x), jnp.tan(x), jnp.arctan(x), jnp.arctan2(x, x[::-1])),
    "inverse circular": lambda x: (jnp.arcsin(x), jnp.arccos(x)),
    "hyperbolic": lambda x: (jnp.sinh(x), jnp.cosh(x), jnp.tanh(x), jnp.arcsinh(x), jnp.arccosh(x), jnp.arctanh(x)),
    "exponential": lambda x: (jnp.exp(x), jnp.exp2(x), jnp.expm1(x), jnp.log(x), jnp.log1p(x), jax.nn.sigmoid(x)),
    "called": lambda x: (jax.nn.relu(x), jax.nn.softplus(x), jax.jit(lambda y: jnp.tanh(y) * y)(x), jax.nn.silu(x)),
    "known": lambda x: (jnp.arange(12.0) * jnp.sin(jnp.ones(12)) + x, x * jnp.where(jnp.arange(12) > 4, 0.0, 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRYWISE)
def test_operations_are_those_of_jax_at_special_points_too(name):
    tape = taped((ENTRYWISE[name], ()))
    for x in (X, SPECIAL, np.roll(SPECIAL, 1), 0.9 * np.tanh(X)):
        np.testing.assert_allclose(results(tape, 0, [x]), expected(ENTRYWISE[name], x), rtol=1e-13, atol=1e-300)


MOVED = {
    "slices": lambda x: (x[2:9:3] * 2, x[::-1], x[1:] - x[:-1], x.reshape(3, 4).T[1:3] + 1, jnp.tile(x[:2], 3)),
    "joined": lambda x: (jnp.concatenate([x[3:], jnp.ones(2), x[:1] * 2]), jnp.stack([x, 2 * x], 1), jnp.pad(x, (2, 1))),
    "padded": lambda x: (lax.pad(x, x[0] * 2, [(-2, 3, 1)]), lax.pad(x, 0.0, [(1, -4, 0)]), jnp.roll(x, 5)),
    "picked": lambda x: (x[K()], jnp.outer(x, x)[K(), K()[::-1]], x.reshape(3, 4)[np.array([2, 0])] * 2, x[-1]),
    "placed": lambda x: (x.at[K()[:3]].set(1.0), x.at[K()].add(x[:6]), jnp.zeros(12).at[K()].add(x[:6])),
    "choices picked": lambda x: jnp.where((x > 0)[K()], x[:6], jnp.where(jnp.roll(x < 1, 3)[:6], 2.0, 3.0)),
    "rows": lambda x: (x.reshape(3, 4).at[1].set(7.0), x.reshape(3, 4).at[K()[:3] // 4].add(x[0])),
    "clipped": lambda x: (jnp.take(x, K() + 9, mode="clip"), lax.dynamic_slice(x, (5,), (4,))),
    "overwritten": lambda x: lax.dynamic_update_slice(x, x[:3], (6,)),
    "split": lambda x: [2 * part for part in jnp.split(x, 3)],
    "sums": lambda x: (x.sum(), x.reshape(3, 4).sum(0), x.reshape(3, 2, 2).sum((0, 2)), x[:1].sum(), jnp.mean(x)),
    "extremes": lambda x: (x.reshape(4, 3).prod(1), x.max(), x.reshape(3, 4).min(1), jax.nn.logsumexp(x)),
    "products": lambda x: (x @ x, M() @ x[:3], x[:4] @ M(), jnp.einsum("ij,ik->jk", x.reshape(4, 3), M())),
    "products of a batch": lambda x: (jnp.vecdot(x.reshape(4, 3), M()), jnp.einsum("ij,i->ji", x.reshape(4, 3), M()[:, 0])),
    "a vector": lambda x: x,
    "nothing": lambda x: (x[:0], jnp.ones(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_numbers_are_moved_and_added(name):
    tape = taped((MOVED[name], ()))
    for x in (X, X[::-1].copy()):
        np.testing.assert_allclose(results(tape, 0, [x]), expected(MOVED[name], x), rtol=1e-13, atol=1e-14)


OTHERS = {
    "another function": (lambda x: jax.scipy.special.erf(x), "^erf "),
    "a loop": (lambda x: lax.fori_loop(0, 3, lambda i, y: jnp.sin(y), x), "^scan "),
    "a branch": (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), "^convert_element_type"),
    "single precision": (lambda x: x.astype(np.float32).astype(float), "^convert_element_type"),
    "integers": (lambda x: x.astype(int).astype(float), "^convert_element_type"),
    "complex": (lambda x: jnp.fft.fft(x).real, "^convert_element_type"),
    "an order": (lambda x: jnp.sort(x), "^sort"),
    "an index that is worked out": (lambda x: x[jnp.argmax(x)], "^argmax "),
    "an index out of range": (lambda x: x.at[np.array([3, 40])].get(mode="fill"), "^gather "),
    "truth values": (lambda x: jnp.any(x > 0) * 1.0, "^reduce_or "),
    "truth values as results": (lambda x: x > 0, "results of types .'bool'"),
    "many numbers": (lambda x: jnp.sin(jnp.arange(2.0**numbers.BITS) * x[0]), "more than 1,048,576 numbers"),
    "a long product": (lambda x: jnp.ones((200, 100)) @ jnp.outer(jnp.ones(100), x), "240,000 products of entries"),
    "a sum of nothing": (lambda x: x[:0].sum() + x, "^reduce_sum "),
    "random numbers": (lambda x: x * jax.random.uniform(jax.random.key(0), (12,)), "^random_seed "),
    "an effect": (lambda x: jax.debug.callback(print, x[0]) or x, "^debug_callback "),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_programs_are_not_served(name):
    function, what = OTHERS[name]
    with pytest.raises(NotServed, match=what):
        taped((function, ()))


@pytest.mark.parametrize(
    ("vector", "parameter", "what"),
    [
        ("float16", "float16", "a vector of type float16"),
        ("float64", "int64", "dtype=int64.* beside a vector of float64"),
        ("float64", "float32", "dtype=float32.* beside a vector of float64"),
        ("complex128", "float64", "a vector of type complex128"),
    ],
)
def test_what_is_given_is_of_one_precision(vector, parameter, what):
    with pytest.raises(NotServed, match=what):
        Tape(jax.ShapeDtypeStruct((3,), vector), [jax.ShapeDtypeStruct((), parameter)])


@pytest.mark.parametrize("name", [*ENTRYWISE, *MOVED])
def test_in_single_precision_too(name):
    function = (ENTRYWISE | MOVED)[name]
    with jax.enable_x64(False):
        tape = taped((function, ()))
        for x in (X, 0.9 * np.tanh(X[::-1])):
            found = results(tape, 0, [x.astype(np.float32)])
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected(function, x.astype(np.float32)), rtol=3e-6, atol=1e-6)


PARTLY = {
    "arithmetic": lambda a, b: (a + b, a - b, a * b, a / b, jnp.maximum(a, b), abs(a) ** b, lax.rem(a, b)),
    "comparisons": lambda a, b: ((a < b) * 1.0, (a == b) * 1.0, jnp.isfinite(a) * b),
    "logic": lambda a, b: (((a > 0) & (b > 0)) * 1.0, ((a > 0) | (b > 0)) * 1.0, ((a > 0) ^ (b > 0)) * 1.0),
    "a choice": lambda p, a, b: jnp.where(p > 0.2, a, b),
    "limits": lambda low, a, high: lax.clamp(low, a, high),
}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", PARTLY)
def test_operands_are_known_each_at_its_own_entries(name, together):
    count = PARTLY[name].__code__.co_argcount
    given = np.array([list(np.binary_repr(k, count)) for k in range(1 - together, 2**count)]) == "1"  # a row for each entry
    numbers = np.random.default_rng(3).permutation([0.0, 1.0, -1.5, 0.2, np.inf, 2.0, -0.7, 0.5])[: len(given)]

    def f(x):
        operands = []
        for k, own in enumerate(given.T):
            entries = [x[n] if moved else jnp.asarray(numbers[n - k]) for n, moved in enumerate(own)]
            operands.append(jnp.stack(entries))
        return PARTLY[name](*operands)

    tape = taped((f, ()))
    for x in (X, SPECIAL, SPECIAL[::-1].copy()):
        np.testing.assert_allclose(results(tape, 0, [x]), expected(f, x), rtol=1e-13, atol=1e-300)


# ---- what is worked out once ---------------------------------------------------------------------------------------------
def count(tape):
    tape.prepare()
    return [len(calls) for calls in tape._running._calls]


def test_what_is_there_is_not_worked_out_again():
    def f(x):
        return jnp.sin(x) * x[::-1], x[::-1] * jnp.sin(x) * 1.0 + 0.0

    tape = taped((lambda x: jnp.sin(x) * x[::-1], ()), (lambda x, w: (f(x), jnp.sin(x) + w), (X,)))
    assert count(taped((f, ())))[0] == count(tape)[0]
    assert count(tape)[1] == 1
    np.testing.assert_allclose(results(tape, 1, [X, X]), expected(lambda x: (f(x), jnp.sin(x) + x), X), rtol=1e-14)


def test_what_is_not_needed_is_not_worked_out_and_the_next_program_does_so_itself():
    tape = taped(
        (lambda x: jnp.sin(x)[:2], ()),
        (lambda x, w: jnp.sin(x) * w, (X,)),
    )
    assert [step.place.stop - step.place.start for step in tape._stages[0].steps] == [2]
    for x in (X, 2 * X):
        np.testing.assert_allclose(results(tape, 1, [x, X]), np.sin(x) * X, rtol=1e-14)


def test_the_second_program_runs_the_first_one_where_it_has_not_been():
    tape = taped((jnp.sin, ()), (lambda x, w: jnp.sin(x) * w, (X,)))
    rng = np.random.default_rng(2)
    for number in (1, 0, 1, 1, 0, 0, 1):
        x, w = rng.normal(size=(2, N))
        np.testing.assert_allclose(results(tape, number, [x, w][: number + 1]), np.sin(x) * (w if number else 1), rtol=1e-14)
    twice = taped((lambda x: x * 2.0, ()))
    assert [bool(np.signbit(results(twice, 0, [np.full(N, x)])[0])) for x in (0.0, -0.0, 0.0)] == [False, True, False]


def test_parameters_may_change():
    parameters = {"a": jnp.ones(3), "b": jnp.asarray(2.0)}
    leaves = jax.tree.leaves(parameters)
    tape = taped((lambda x, a, b: x[:3] * a + b, ()), (lambda x, w, a, b: x[:3] * a * w, (X[:3],)), parameters=leaves)
    for a in (1.0, 3.0):
        new = {"a": jnp.full(3, a), "b": jnp.asarray(a)}
        np.testing.assert_allclose(results(tape, 0, [X], new), X[:3] * a + a, rtol=1e-15)
        np.testing.assert_allclose(results(tape, 1, [X, X[:3]], new), X[:3] * a * X[:3], rtol=1e-15)
    np.testing.assert_allclose(results(tape, 1, [X, X[:3]], parameters), X[:3] * X[:3], rtol=1e-15)


def test_after_an_interruption_all_is_worked_out_again():
    class Interrupted:
        def __array__(self, *args, **kwargs):
            raise KeyboardInterrupt("between two parameters")

    old = [jnp.ones(3), jnp.ones(3)]
    tape = taped((lambda x, a, b: x[:3] * a + b, ()), parameters=old)
    results(tape, 0, [X], old)
    with pytest.raises(KeyboardInterrupt, match="between two parameters"):
        results(tape, 0, [X], [2 * old[0], Interrupted()])
    np.testing.assert_array_equal(results(tape, 0, [X], old), X[:3] + 1)


def test_a_program_that_is_not_served_leaves_the_first_one_as_it_is():
    tape = taped((lambda x: jnp.sin(x) + x, ()))
    closed = jax.make_jaxpr(lambda x, w: jnp.sort(jnp.sin(x) * w) + jnp.cos(x))(X, X)
    with pytest.raises(NotServed, match=r"^sort"):
        tape.read(closed.jaxpr, closed.consts)
    np.testing.assert_allclose(results(tape, 0, [X]), np.sin(X) + X, rtol=1e-14)
    closed = jax.make_jaxpr(lambda x, w: jnp.sin(x) * w)(X, X)
    assert tape.read(closed.jaxpr, closed.consts) == 1
    np.testing.assert_allclose(results(tape, 1, [X, X]), np.sin(X) * X, rtol=1e-14)


def test_several_threads_run_it():
    tape = taped((lambda x: jnp.sin(x) * 2, ()), (lambda x, w: jnp.sin(x) * w, (X,)))

    def right(k):
        x = X + k
        found = results(tape, k % 2, [x, x][: 1 + k % 2])
        return np.allclose(found, np.sin(x) * (x if k % 2 else 2), rtol=1e-13)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(400)))


def test_programs_without_results():
    tape = taped((lambda x: (), ()), (lambda x, w: x * w, (X,)), (lambda x, w: (), (X,)))
    assert [results(tape, number, [X, X][: 1 + number % 2]).size for number in (0, 1)] == [0, N]
    np.testing.assert_array_equal(results(tape, 1, [X + 1, X]), (X + 1) * X)
    assert results(tape, 2, [X, X]).size == 0


def test_results_are_new_arrays():
    tape = taped((lambda x: 2 * x, ()))
    first = results(tape, 0, [X])
    second = results(tape, 0, [X + 1])
    np.testing.assert_allclose(first, 2 * X)
    np.testing.assert_allclose(second, 2 * X + 2)


# ---- programs at random --------------------------------------------------------------------------------------------------
WAYS = [
    lambda rng, a, b: a + b,
    lambda rng, a, b: a * b,
    lambda rng, a, b: a - b,
    lambda rng, a, b: jnp.sin(a),
    lambda rng, a, b: -a,
    lambda rng, a, b: jnp.where(a > b, a, b * 0.5),
    lambda rng, a, b: a / (1 + b * b),
    lambda rng, a, b: jnp.zeros(a.size + 2).at[rng.integers(a.size + 2, size=a.size)].add(a),
    lambda rng, a, b: jnp.stack([a.sum(), b[0]]),
    lambda rng, a, b: jnp.concatenate([a, b])[int(rng.integers(2)) :: int(rng.integers(1, 3))] * 0.3,
]


def at_random(seed, size):
    """A program of x and w, of equations on vectors of all lengths that read each other's entries."""

    def f(x, w):
        rng = np.random.default_rng(seed)
        values = [x, w, jnp.asarray(rng.normal(size=7).round(1)), jnp.ones(5), jnp.zeros(4)]
        for _ in range(size):
            n = int(rng.choice([1, 3, 8, 300]))
            a, b = (values[k] for k in rng.integers(len(values), size=2))
            a, b = a[rng.integers(a.size, size=n)], b[rng.integers(b.size, size=n)]
            new = WAYS[rng.integers(len(WAYS))](rng, a, b)
            values.append(new if rng.integers(2) else jnp.tanh(new))
        return [values[k] for k in rng.integers(len(values), size=3)] + values[-2:]

    return f


@pytest.mark.parametrize("seed", range(12))
def test_programs_at_random(seed):
    sizes = np.random.default_rng(seed).integers(2, 40, size=2)

    def first(x):
        return at_random(seed, sizes[0])(x, 2 * x)

    def second(x, w):  # some of it as before
        return first(x), at_random(seed + 100, sizes[1])(x, w)

    tape = taped((first, ()), (second, (X,)))
    for k in range(3):
        x, w = X + k, X[::-1] * (k - 1)
        np.testing.assert_allclose(results(tape, 0, [x]), expected(first, x), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(results(tape, 1, [x, w]), expected(second, x, w), rtol=1e-10, atol=1e-10)


def test_every_operation_is_tried_above():
    programs = [str(jax.make_jaxpr(f)(X)) for f in (*ENTRYWISE.values(), *MOVED.values())]
    names = set(re.findall(r"= (\w+)", " ".join(programs)))
    assert operations.OPERATIONS.keys() - names <= {"add_any"}
