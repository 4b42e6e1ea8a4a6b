"""Quick compilation: the numbers are those of `jax.jit`, also where XLA does not know the option; when what is optimised."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve.xla import quick
from tests.quick import compilation


def f(x):
    return jnp.concatenate([jnp.sin(x[1:]) * x[:-1], jnp.cumsum(x**2)])[::2]


@pytest.mark.parametrize("options", [quick._OPTIONS, {"xla_no_such_option": True}])
def test_what_is_compiled_is_the_program(options, monkeypatch):
    monkeypatch.setattr(quick, "_OPTIONS", options)
    x = jnp.linspace(0.0, 3.0, 50)
    run = quick.quickly_compiled(jax.jit(f).lower(x))
    np.testing.assert_allclose(run(x), f(x), rtol=1e-5)
    np.testing.assert_allclose(run(-x), jax.jit(f)(-x), rtol=1e-5)


def test_what_does_not_compile_raises_its_own_error():
    def broken(x):
        return jax.lax.custom_linear_solve(lambda x: x, x, lambda f, b: jax.ffi.ffi_call("no_such_target", b)(b))

    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_target"):
        quick.quickly_compiled(jax.jit(broken).lower(jnp.ones(3)))


class Compiler:
    """In place of XLA: programs that return which of them they are, the optimised one made when ``ready`` is set."""

    def __init__(self, monkeypatch):
        self.made = []
        self.ready = threading.Event()
        monkeypatch.setattr(quick, "quickly_compiled", self)

    def __call__(self, lowered, options=quick._OPTIONS):
        self.made.append(options)
        if options == quick._OPTIONS and len(self.made) > 1:
            assert self.ready.wait(60)
        if lowered == "broken" and options == quick._OPTIONS:
            raise MemoryError("no more")
        return lambda: "optimized" if options == quick._OPTIONS else "quick"


def test_optimising_begins_and_takes_over_by_counts(monkeypatch):
    compiler = Compiler(monkeypatch)
    run = quick.OptimizedLater("program", after=3)
    assert [run(), run()] == ["quick"] * 2
    assert compiler.made == [quick._UNOPTIMIZED]
    assert [run(), run(), run()] == ["quick"] * 3  # nobody waits
    compiler.ready.set()
    assert [run() for _ in range(9)] == ["optimized"] * 9
    assert compiler.made == [quick._UNOPTIMIZED, quick._OPTIONS]


def test_where_it_takes_longer_the_last_evaluation_waits(monkeypatch):
    compiler = Compiler(monkeypatch)
    run = quick.OptimizedLater("program", after=1)
    assert run() == "quick"
    later = threading.Timer(0.05, compiler.ready.set)
    later.start()
    assert run() == "optimized"
    later.join()


def test_what_is_worth_it_at_once_is_optimised_at_once(monkeypatch):
    compiler = Compiler(monkeypatch)
    run = quick.OptimizedLater("program", after=0)
    assert [run(), run()] == ["optimized"] * 2
    assert compiler.made == [quick._OPTIONS]


def test_several_threads_optimise_once(monkeypatch):
    compiler = Compiler(monkeypatch)
    compiler.ready.set()
    run = quick.OptimizedLater("program", after=50)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: run(), range(400)))
    assert results.count("quick") >= 99
    assert run() == "optimized"
    assert compiler.made == [quick._UNOPTIMIZED, quick._OPTIONS]


def test_an_error_of_optimising_is_raised(monkeypatch):
    compiler = Compiler(monkeypatch)
    compiler.ready.set()
    run = quick.OptimizedLater("broken", after=2)
    assert [run(), run(), run()] == ["quick"] * 3
    with pytest.raises(MemoryError, match="no more"):
        run()


def test_both_programs_have_the_same_numbers():
    x = jnp.linspace(0.0, 3.0, 50)
    run = quick.OptimizedLater(jax.jit(f).lower(x), after=2)
    for k in range(6):
        np.testing.assert_allclose(run(x + k), f(x + k), rtol=1e-5)


def test_long_vectors_and_loops_are_optimised_earlier():
    def after(f, *shape):
        return quick.evaluations_before_optimizing(jax.make_jaxpr(f)(jnp.zeros(shape)).jaxpr)

    assert after(jnp.sin) == 1_000_000
    assert after(jnp.sin, 1000) == after(jax.jit(lambda x: jnp.cos(jnp.sin(x))), 1000) == 1000
    assert after(jnp.sin, 3000, 1000) == 0
    assert after(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x), x), 2) == 0
    assert after(lambda x: jax.jit(lambda x: jax.lax.while_loop(lambda x: x < 3, lambda x: x + 1, x))(x)) == 0
    assert after(lambda x: x) == 0


# ---- tests/quick.py: how tests compile ------------------------------------------------------------------------------------
def executable(f, *args):
    return jax.jit(f).lower(*args).compile().runtime_executable()


def test_tests_compile_equal_programs_once():
    x = jnp.ones(7)
    with compilation(quick=True):
        first = executable(lambda x: jnp.cos(x) + 2, x)
        assert executable(lambda y: jnp.cos(y) + 2, x) is first
        assert executable(lambda x: jnp.cos(x) + 3, x) is not first
        assert executable(lambda x: jnp.cos(x) + 2, jnp.ones(8)) is not first
    with compilation(quick=False):
        assert executable(lambda x: jnp.cos(x) + 2, x) is not first


def test_tests_compile_what_calls_back_each_time():
    def calling(number):
        return jax.jit(lambda x: jax.pure_callback(lambda x: x + number, x, x, vmap_method="sequential"))

    with compilation(quick=True):
        assert [float(calling(number)(jnp.float32(1.0))) for number in (1, 2, 3)] == [2.0, 3.0, 4.0]
