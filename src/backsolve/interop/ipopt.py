"""IPOPT: the callbacks of a nonlinear program, sparse and exact, from JAX functions; and a call of the solver itself.

The callbacks need no library; `Problem.solve` takes cyipopt where that is installed, and else ipyopt.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.elements import short
from backsolve.capture.linearized import flat
from backsolve.interop.compiled import Compiled
from backsolve.interop.vectors import value_and_gradient_of, value_and_jacobian_of
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import has_own_rules
from backsolve.xla.inline import inline
from backsolve.xla.packed import packed

__all__ = ["Iterate", "Problem", "Result"]

Array = np.ndarray[Any, Any]
T = TypeVar("T")

SOLVED = (0, 1, 6)  # to the tolerance, to the acceptable one, a square system
STOPPED = 5
MESSAGES = {
    0: "solved",
    1: "solved to the acceptable tolerance only",
    2: "converged to a point of local infeasibility; the constraints may contradict each other",
    3: "the search direction has become too small",
    4: "the iterates diverge; the objective may be unbounded below",
    5: "stopped by the callback",
    6: "a feasible point of a square system was found",
    -1: "the maximum number of iterations was reached (option max_iter)",
    -2: "the restoration phase failed",
    -3: "no step could be computed",
    -4: "the maximum processor time was reached (option max_cpu_time)",
    -5: "the maximum time was reached (option max_wall_time)",
    -10: "there are fewer unknowns than equality constraints",
    -11: "IPOPT finds the problem's definition inconsistent",
    -12: "an option has a value that IPOPT refuses, or needs a linear solver that it was built without",
    -13: "f, g or a derivative is NaN or infinite; move x0 or the bounds away from there",
    -102: "there is not enough memory",
}


class Iterate(NamedTuple):
    """What IPOPT tells of one iteration: a row of the table that it prints."""

    mode: int
    iteration: int
    objective: float
    infeasibility: float
    dual_infeasibility: float
    barrier: float
    step: float
    regularization: float
    dual_step_length: float
    step_length: float
    trials: int


@dataclass(frozen=True)
class Result:
    """Where IPOPT has stopped: ``x``, ``objective`` f(x) and ``constraints`` g(x), and whether that is a solution.

    With ``multipliers`` λ of g and ``lower_multipliers`` z, ``upper_multipliers`` w of the bounds (z, w ≥ 0) a solution has
    ∇f + Jᵀλ − z + w = 0.  ``converged`` says whether IPOPT is satisfied, ``message`` why it stopped, ``status`` is its own
    number for that.  ``history`` has an `Iterate` for each iteration.
    """

    x: Array
    objective: float
    constraints: Array
    multipliers: Array
    lower_multipliers: Array
    upper_multipliers: Array
    status: int
    history: tuple[Iterate, ...]

    @property
    def converged(self) -> bool:
        """Whether IPOPT has found what it calls a solution."""
        return self.status in SOLVED

    @property
    def message(self) -> str:
        """Why IPOPT stopped."""
        return MESSAGES.get(self.status, f"IPOPT stopped with status {self.status}")

    @property
    def steps(self) -> int:
        """Number of iterations."""
        return max((row.iteration for row in self.history), default=0)

    def __repr__(self) -> str:
        return f"IPOPT: {self.message}, {self.steps} steps, objective {self.objective:.10g}"


class Problem:
    """The nonlinear program  min f(x)  where  cl ≤ g(x) ≤ cu  and  lb ≤ x ≤ ub,  as IPOPT asks for it.

    f(x) is a scalar and g(x) any pytree of arrays, flattened to m numbers; x is a vector of n.  With ``parameters``, any
    pytree of arrays, they are called as f(x, parameters) and g(x, parameters); set ``problem.parameters`` to others of the
    same shapes, or pass them to `solve`, and nothing is compiled again.  Bounds are numbers, arrays, or lists in which None
    is no bound; ``lb`` and ``ub`` are infinite unless given, and so is ``cl`` or ``cu`` if the other one is given.  Without
    both the constraints are g(x) = 0.

    The methods `objective`, `gradient`, `constraints`, `jacobian`, `jacobianstructure`, `hessian`, `hessianstructure` are
    those that cyipopt asks for: ``cyipopt.Problem(n=p.n, m=p.m, problem_obj=p, lb=p.lb, ub=p.ub, cl=p.cl, cu=p.cu)``.  The
    Jacobian of g and the lower triangle of the Hessian of  σ f + λ·g  are exact, and sparse: their structure is worked out
    once, while tracing, and holds for every x.  All is computed in double precision, whether JAX is set to it or not; arrays
    that f closes over keep their own.
    Raises `TypeError` and `ValueError` where f is no scalar, where bounds have another shape or exclude each other, or
    where parameters have other shapes than at first.
    Cost: tracing f, g and their derivatives to two programs, each when it is first asked for: one gives f, g and their
    first derivatives at a point, so that what is asked for at the same x as before costs nothing; one the Hessian.  Programs
    of operations on numbers, moves and sums are calls of NumPy, and nothing is compiled (`backsolve.tape`).
    Others are: on a CPU without LLVM's optimisation first, and with it, in another thread, once they have been
    evaluated so often that it pays (some thousand times, fewer of long vectors; at once with a loop inside).  When that is
    depends on the evaluations and not on the clock; from there on results may differ in their last bits.
    Source: Wächter and Biegler, *On the implementation of an interior-point filter line-search algorithm for large-scale
    nonlinear programming*, 2006.

    Example:
        >>> import jax.numpy as jnp
        >>> from backsolve.interop.ipopt import Problem
        >>> p = Problem(lambda x: jnp.sum(x**2), lambda x: x[0] * x[1], n=3, cl=1.0)
        >>> p
        Problem of 3 unknowns and 1 constraints: 2 non-zeros in the Jacobian, 4 in the lower triangle of the Hessian
        >>> p.jacobianstructure()[1], p.jacobian([2.0, 3.0, 0.0])
        (array([0, 1], dtype=int32), array([3., 2.]))
    """

    def __init__(
        self,
        f: Callable[..., Any],
        g: Callable[..., Any] | None = None,
        *,
        n: int,
        lb: Any = None,
        ub: Any = None,
        cl: Any = None,
        cu: Any = None,
        parameters: Any = None,
    ) -> None:
        functions: tuple[tuple[str, Any], ...] = (("f", f), ("g", g))
        for name, function in functions:
            if not callable(function) and (function is not None or name == "f"):
                raise TypeError(f"{name} must be a function of JAX arrays, got {short(function)}.")
        count: Any = n
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise TypeError(f"n must be the number of unknowns, a whole number of 1 or more, got {n!r}.")
        if g is None and (cl is not None or cu is not None):
            raise ValueError("cl and cu are bounds of the constraints, but there is no g. Bounds of x are lb and ub.")
        self.n = int(n)
        self._f, self._g = f, g
        with jax.enable_x64(True):
            self._parameters = jax.tree_util.tree_map(lambda p: jnp.asarray(p, np.asarray(p).dtype), parameters)
        self.m = self._first.sizes[1]
        self.lb, self.ub = _bounds("lb", "ub", lb, ub, self.n, "unknowns")
        cl, cu = (0.0, 0.0) if cl is None and cu is None else (cl, cu)
        self.cl, self.cu = _bounds("cl", "cu", cl, cu, self.m, "entries of g")
        self._last: tuple[bytes, Any, Sequence[Array]] | None = None  # point, parameters and result of the last call

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled: a copy traces and compiles again."""
        return {**{k: v for k, v in self.__dict__.items() if k not in ("_traced", "_first", "_curvature")}, "_last": None}

    def __repr__(self) -> str:
        (rows, _), (low, _) = self.jacobianstructure(), self.hessianstructure()
        return (
            f"Problem of {self.n:,} unknowns and {self.m:,} constraints: {rows.size:,} non-zeros in the Jacobian, "
            f"{low.size:,} in the lower triangle of the Hessian"
        )

    @property
    def parameters(self) -> Any:
        """What f and g get besides x; others of the same structure and shapes may be set, and nothing is compiled."""
        return self._parameters

    @parameters.setter
    def parameters(self, new: Any) -> None:
        old = jax.tree_util.tree_leaves(self._parameters)
        tree: Any = jax.tree_util.tree_structure(self._parameters)
        leaves, other = jax.tree_util.tree_flatten(new)
        if tree != other:
            raise ValueError(f"parameters have the structure {tree}, got {other}. Make another Problem for other ones.")
        for i, (a, b) in enumerate(zip(old, leaves, strict=True)):
            if np.shape(a) != np.shape(b):
                raise ValueError(
                    f"leaf {i} of the parameters has shape {np.shape(a)}, got {np.shape(b)}. Make another Problem for other "
                    "shapes."
                )
            if not np.can_cast(np.asarray(b).dtype, a.dtype, "same_kind"):
                raise TypeError(
                    f"leaf {i} of the parameters has dtype {a.dtype}, got {np.asarray(b).dtype}. Make the Problem with "
                    "parameters of that dtype."
                )
        with jax.enable_x64(True):
            cast = [jnp.asarray(b, a.dtype) for a, b in zip(old, leaves, strict=True)]
            self._parameters = jax.tree_util.tree_unflatten(tree, cast)

    # ---- what IPOPT asks for ------------------------------------------------------------------------------------------
    def objective(self, x: Any) -> float:
        """f(x)."""
        return float(self._parts(x)[0][0])

    def gradient(self, x: Any) -> Array:
        """∇f(x), of shape (n,)."""
        return self._parts(x)[2].copy()

    def constraints(self, x: Any) -> Array:
        """g(x), of shape (m,)."""
        return self._parts(x)[1].copy()

    def jacobian(self, x: Any) -> Array:
        """The numbers of the Jacobian of g at x, in the order of `jacobianstructure`."""
        return self._parts(x)[3].copy()

    def jacobianstructure(self) -> tuple[Array, Array]:
        """Rows and columns where the Jacobian of g may be non-zero."""
        return self._first.places

    def hessian(self, x: Any, lagrange: Any, obj_factor: float) -> Array:
        """The numbers of the lower half of the Hessian of  obj_factor · f + lagrange · g,  in its structure's order."""
        weights = _vector("the multipliers", lagrange, self.m)
        with jax.enable_x64(True):
            return self._curved(_vector("x", x, self.n), weights, obj_factor).copy()

    def hessianstructure(self) -> tuple[Array, Array]:
        """Rows and columns of the lower triangle where the Hessian of  σ f + λ·g  may be non-zero."""
        return self._curvature.places

    # ---- compiled once ------------------------------------------------------------------------------------------------
    @cached_property
    def _traced(self) -> tuple[Any, Any]:
        """The programs of f and g, of x and the leaves of the parameters; None without a g."""
        x = jax.ShapeDtypeStruct((self.n,), np.float64)  # type: ignore[no-untyped-call]

        def program(function: Callable[..., Any]) -> Any:
            closed = jax.make_jaxpr(function)(x, self._parameters)
            return packed(closed.jaxpr, closed.consts) or closed

        return program(self._objective), None if self._g is None else program(self._constraints)

    @cached_property
    def _first(self) -> Compiled:
        """f, g, the gradient of f and the numbers of the Jacobian of g: one program, for all are asked for at a point."""

        def first(x: Any, parameters: Any) -> Any:
            (f, g), given = self._traced, jax.tree_util.tree_leaves(parameters)
            value, slope = value_and_gradient_of(lambda x: jx.evaluated(f, [x, *given])[0], x)
            if g is None:
                return (value, jnp.zeros(0), slope, jnp.zeros(0)), None
            constraints, J = value_and_jacobian_of(lambda x: jx.evaluated(g, [x, *given])[0], x)
            return (value, constraints, slope, J.data), J

        return Compiled(first, [self.n], self._parameters)

    @cached_property
    def _curvature(self) -> Compiled:
        """The lower half of the Hessian of  factor · f + weights · g;  the factor is the last of the weights."""
        programs = [program for program in self._traced if program is not None]
        symmetric = not any(has_own_rules(program.jaxpr) for program in programs)

        def curvature(x: Any, weights: Any, parameters: Any) -> Any:
            given = jax.tree_util.tree_leaves(parameters)

            def lagrangian(x: Any) -> Any:
                f, *g = (jx.evaluated(program, [x, *given])[0] for program in programs)
                return weights[-1] * f + sum(jnp.sum(weights[:-1] * values) for values in g)

            _, H = value_and_jacobian_of(lambda x: value_and_gradient_of(lagrangian, x)[1], x, lower=symmetric)
            low = H.lower()
            return (low.data,), low

        return Compiled(curvature, [self.n, self.m + 1], self._parameters, self._first)

    def _objective(self, x: Any, parameters: Any) -> Any:
        value = self._f(x) if parameters is None else self._f(x, parameters)
        if not jax.tree_util.all_leaves([value]) or jnp.shape(value) != ():
            got = jax.tree_util.tree_map(jnp.shape, value)
            raise TypeError(f"the objective must be a scalar, but f returns shape {got}; reduce it (jnp.sum).")
        return _doubled("f", value)

    def _constraints(self, x: Any, parameters: Any) -> Any:
        value = self._g(x) if parameters is None else self._g(x, parameters)  # type: ignore[misc]  # there is one
        return _doubled("g", flat(value))

    def _parts(self, x: Any) -> Sequence[Array]:
        with jax.enable_x64(True):
            return self._at(_vector("x", x, self.n))

    def _at(self, x: Array) -> Sequence[Array]:
        """f, g, gradient and Jacobian at x: callers ask for them one after the other, at the same x."""
        at, parameters, there = x.tobytes(), self._parameters, self._last
        if there is not None and there[1] is parameters and there[0] == at:
            return there[2]
        values = self._first(x, parameters)
        self._last = at, parameters, values
        return values

    def _curved(self, x: Array, weights: Array, factor: Any) -> Array:
        """The lower half of the Hessian of  factor · f + weights · g  at x."""
        both = np.empty(self.m + 1)
        both[:-1], both[-1] = weights, factor
        return self._curvature(x, both, self._parameters)[0]

    def _compile(self, *, second: bool) -> bool:
        """Compile what `solve` needs, and whether that is anything; one program in a thread while the other is traced."""
        if not self._first.is_compiled:
            if second and self._curvature.is_compiled:
                self._curvature.compile(self._curvature.lowered)
            self._first.prepare()
            return second and self._curvature.is_compiled
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(self._first.compile, self._first.lowered)
            if second:
                self._curvature.compile(self._curvature.lowered)
            first.result()
        return True

    # ---- the solver ---------------------------------------------------------------------------------------------------
    def solve(
        self,
        x0: Any,
        *,
        parameters: Any = None,
        start: Result | None = None,
        callback: Callable[[Iterate], Any] | None = None,
        options: Mapping[str, Any] | None = None,
        library: str | None = None,
        **more: Any,
    ) -> Result:
        """Call IPOPT from x0 on, which prints its own progress, and return a `Result`.

        ``parameters`` are set before.  ``options``, and all further keywords, go to IPOPT (``tol=1e-10``,
        ``print_level=0``, ``hessian_approximation="limited-memory"``; True and False are its "yes" and "no").  With
        ``start``, the result of a similar problem, its multipliers are taken for a warm start.  ``callback(iterate)`` is
        called in every iteration and ends it by returning False.  ``library`` is "cyipopt" or "ipyopt", by default the
        first that is installed.
        What has not converged is returned too: look at ``converged`` and ``message``.
        Raises `ImportError` without one of the libraries, `ValueError` for options that IPOPT refuses, and x0 of another
        shape or not finite; what f, g or the callback raise is raised.
        Cost: what IPOPT needs.

        Example:
            >>> import jax.numpy as jnp
            >>> from backsolve.interop.ipopt import Problem
            >>> p = Problem(lambda x: x[0] + x[1], lambda x: x[0] ** 2 + x[1] ** 2, n=2, cu=2.0)
            >>> p.solve([0.5, 0.0], print_level=0, sb="yes").x.round(6)
            array([-1., -1.])
        """
        call = _library(library)
        if parameters is not None:
            if self._parameters is None:
                raise ValueError("this Problem was made without parameters; pass parameters= when it is made.")
            self.parameters = parameters
        x0 = np.array(_vector("x0", x0, self.n))
        if not np.isfinite(x0).all():
            raise ValueError("x0 must be finite, but has entries that are NaN or infinite.")
        options = {**(options or {}), **more}
        multipliers = None
        if start is not None:
            if not isinstance(start, Result):
                raise TypeError(f"start must be the Result of a similar problem, got {short(start)}.")
            multipliers = tuple(
                _vector(name, value, size).copy()
                for name, value, size in (
                    ("the multipliers of start", start.multipliers, self.m),
                    ("the lower_multipliers of start", start.lower_multipliers, self.n),
                    ("the upper_multipliers of start", start.upper_multipliers, self.n),
                )
            )
            options = {"warm_start_init_point": "yes", **options}
        guarded = _Guarded(self, callback)
        compiled = self._compile(second=options.get("hessian_approximation") != "limited-memory")
        within = inline if compiled else _at_once
        with jax.enable_x64(True):
            x, multipliers, status = within(lambda: call(self, guarded, x0, multipliers, options))
        if guarded.error is not None:
            raise guarded.error
        return Result(x, self.objective(x), self.constraints(x), *multipliers, int(status), tuple(guarded.history))


def _at_once(function: Callable[[], T]) -> T:
    return function()


def _doubled(name: str, value: Any) -> Any:
    if jnp.iscomplexobj(value):
        raise TypeError(f"{name} has complex values; return real and imaginary parts.")
    return jnp.asarray(value, np.float64)


def _real(what: str, x: Any) -> Array:
    given = np.asarray(x)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"{what} must be real numbers, got {short(x)} of dtype {given.dtype}.")
    return given.astype(np.float64, copy=False)


def _vector(what: str, x: Any, size: int) -> Array:
    given = _real(what, x)
    if given.shape != (size,):
        raise ValueError(f"{what} must have shape ({size},), got {given.shape}.")
    return given


def _bounds(low: str, high: str, below: Any, above: Any, size: int, what: str) -> tuple[Array, Array]:
    """Both bounds as arrays of this size; infinite where they are None."""
    both = []
    for name, bound, none in ((low, below, -np.inf), (high, above, np.inf)):
        listed = isinstance(bound, list | tuple)
        given = _real(name, none if bound is None else [none if b is None else b for b in bound] if listed else bound)
        if given.ndim and given.shape != (size,):
            raise ValueError(f"{name} must be a number or of shape ({size},), for the {size} {what}, got {given.shape}.")
        if np.isnan(given).any():
            raise ValueError(f"{name} has entries that are NaN; where there is no bound take infinity.")
        both.append(np.array(np.broadcast_to(given, (size,))))
    wrong = np.flatnonzero((both[0] > both[1]) | (both[0] == np.inf) | (both[1] == -np.inf))
    if wrong.size:
        k = int(wrong[0])
        raise ValueError(f"no number is between the bounds of entry {k}: {low} is {both[0][k]}, {high} is {both[1][k]}.")
    return both[0], both[1]


# ---- the libraries ----------------------------------------------------------------------------------------------------
class _Guarded:
    """The callbacks as both libraries may have them: none of them raises, since that goes through compiled code.

    After an error all is NaN, so that IPOPT stops soon; `Problem.solve` raises it then.  What IPOPT gives is not looked at,
    and what it gets is not copied, since the libraries do; JAX is set to double precision, but for the user's callback.
    """

    def __init__(self, problem: Problem, callback: Callable[[Iterate], Any] | None) -> None:
        self._problem = problem
        self._callback = callback
        self._double = jax.config.jax_enable_x64  # type: ignore[attr-defined]  # the caller's
        self.error: BaseException | None = None
        self.history: list[Iterate] = []

    def _called(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.error is None:
            try:
                return function(*arguments)
            except BaseException as error:  # noqa: BLE001  (raised again by solve, an interruption too)
                self.error = error
        return None

    def _part(self, number: int, x: Array) -> Array:
        values = self._called(self._problem._at, x)
        return np.full(self._problem._first.sizes[number], np.nan) if values is None else values[number]

    def objective(self, x: Array) -> float:
        return float(self._part(0, x)[0])

    def constraints(self, x: Array) -> Array:
        return self._part(1, x)

    def gradient(self, x: Array) -> Array:
        return self._part(2, x)

    def jacobian(self, x: Array) -> Array:
        return self._part(3, x)

    def jacobianstructure(self) -> tuple[Array, Array]:
        return self._problem.jacobianstructure()

    def hessian(self, x: Array, multipliers: Array, factor: float) -> Array:
        entries = self._called(self._problem._curved, x, multipliers, factor)
        return np.full(self._problem._curvature.sizes, np.nan) if entries is None else entries

    def hessianstructure(self) -> tuple[Array, Array]:
        return self._problem.hessianstructure()

    def intermediate(self, *numbers: Any) -> bool:
        """Keep the iteration; False ends IPOPT."""
        row = Iterate(*numbers)
        self.history.append(row)
        if self._callback is None:
            return self.error is None
        with jax.enable_x64(self._double):
            return self._called(self._callback, row) is not False and self.error is None


Call = Callable[[Problem, _Guarded, Array, Any, Mapping[str, Any]], tuple[Array, tuple[Array, Array, Array], int]]


def _library(name: str | None) -> Call:
    """The call of IPOPT by the library of this name, or by the first that is installed."""
    if name is not None and name not in LIBRARIES:
        raise ValueError(f"unknown library {name!r}; use one of {', '.join(map(repr, LIBRARIES))}.")
    for candidate in LIBRARIES if name is None else (name,):
        if importlib.util.find_spec(candidate) is not None:
            return LIBRARIES[candidate]
    raise ImportError(
        f"IPOPT is called by {' or '.join(LIBRARIES) if name is None else name}, which is not installed: "
        "pip install 'backsolve[ipopt]' brings ipyopt, whose wheels hold IPOPT."
    )


def _by_cyipopt(problem: Problem, guarded: _Guarded, x0: Array, multipliers: Any, options: Mapping[str, Any]) -> Any:
    import cyipopt

    bounds = {"lb": problem.lb, "ub": problem.ub, "cl": problem.cl, "cu": problem.cu}
    solver = cyipopt.Problem(n=problem.n, m=problem.m, problem_obj=guarded, **bounds)
    _set(solver.add_option, options, TypeError)
    given = {} if multipliers is None else dict(zip(("lagrange", "zl", "zu"), map(list, multipliers), strict=True))
    x, told = solver.solve(x0, **given)
    dual = tuple(np.asarray(told[name]) for name in ("mult_g", "mult_x_L", "mult_x_U"))
    return np.asarray(x), dual, told["status"]


def _by_ipyopt(problem: Problem, guarded: _Guarded, x0: Array, multipliers: Any, options: Mapping[str, Any]) -> Any:
    import ipyopt

    def into(function: Callable[..., Array]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            arguments[-1][...] = function(*arguments[:-1])

        return call

    solver = ipyopt.Problem(
        problem.n,
        problem.lb,
        problem.ub,
        problem.m,
        problem.cl,
        problem.cu,
        problem.jacobianstructure(),
        problem.hessianstructure() if options.get("hessian_approximation") != "limited-memory" else _NOWHERE,
        guarded.objective,
        into(guarded.gradient),
        into(guarded.constraints),
        into(guarded.jacobian),
        into(guarded.hessian),
        guarded.intermediate,
    )
    _set(lambda name, value: solver.set(**{name: value}), options, ValueError)
    start = multipliers or (np.zeros(problem.m), np.zeros(problem.n), np.zeros(problem.n))
    x, _, status = solver.solve(x0, mult_g=start[0], mult_x_L=start[1], mult_x_U=start[2])
    return x, start, status


_NOWHERE = np.zeros(0, np.int64), np.zeros(0, np.int64)
LIBRARIES: dict[str, Call] = {"cyipopt": _by_cyipopt, "ipyopt": _by_ipyopt}  # the first that is installed


def _set(put: Callable[[str, Any], Any], options: Mapping[str, Any], refusal: type[Exception]) -> None:
    """Give IPOPT its options; whole numbers are taken for real ones where those are asked for."""
    for name, value in options.items():
        plain = ("no", "yes")[value] if isinstance(value, bool) else value
        plain = plain.item() if isinstance(plain, np.generic) else plain
        tried = [plain, float(plain)] if isinstance(plain, int) else [plain]
        for last, one in zip([False] * (len(tried) - 1) + [True], tried):
            try:
                put(name, one)
                break
            except refusal as error:
                if last:
                    raise ValueError(
                        f"IPOPT refuses the option {name}={value!r}: it knows none of that name, or takes another kind of "
                        "value. IPOPT's own documentation lists them."
                    ) from error
