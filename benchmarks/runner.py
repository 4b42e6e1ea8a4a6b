"""The runner: contestants in one process, in turn, after a warm-up; their answers checked; medians and ratios.

A sample is the time of one call, or of as many calls as make a few milliseconds, after an untimed call of the same
contestant: caches, the memory allocator and thread pools are then as its own repetition leaves them, not as the
contestant before did. In every round each contestant gives one sample, and the round's ratio is ours / theirs, so that
a slow moment of the machine strikes both. What is reported are the medians over the rounds. Python's garbage collector
stays on, as it is for users.
"""

from __future__ import annotations

import importlib
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

Contestant = Callable[[], Any]
MINIMUM_SAMPLE = 0.003  # seconds; well above the clock's resolution and a thread pool's wake-up
SETTLE = 0.25  # seconds; a longer call settles things by itself, and gets no untimed one before it
PAUSE = 0.005  # seconds before a sample, for the threads of the contestant before to go to sleep


class DisagreementError(Exception):
    """Two contestants gave different answers, so their times cannot be compared."""


@dataclass(frozen=True)
class Target:
    """A bound on ours / theirs for the fastest of the named peers, or on our seconds where none is named."""

    limit: float
    peers: tuple[str, ...] = ()


@dataclass
class Row:
    """One contest. `seconds` and `ratios` are medians, None where a contestant is absent; the first one is ours."""

    name: str
    seconds: dict[str, float | None]
    ratios: dict[str, float | None]
    differences: dict[str, float | None]
    rounds: int
    limit: float | None = None
    limit_peers: list[str] = field(default_factory=list)
    series: str | None = None
    size: int | None = None

    @property
    def target_value(self) -> float | None:
        """The number that the target bounds: our seconds, or the largest ratio to the peers that it names."""
        if not self.limit_peers:
            return next(iter(self.seconds.values()))
        ratios = [ratio for peer in self.limit_peers if (ratio := self.ratios[peer]) is not None]
        return max(ratios, default=None)

    def beside_best(self, *left_out: str) -> float:
        """Ours / the best of the others that are present, but for those left out."""
        return max(ratio for key, ratio in self.ratios.items() if ratio is not None and key not in left_out)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target, or where the peer is absent."""
        value = self.target_value
        return None if self.limit is None or value is None else value <= self.limit


@dataclass
class Ratios:
    """One quantity as ours / theirs, by row, with the bounds on each ratio and on their geometric mean."""

    name: str
    values: dict[str, float]
    each: float | None = None
    mean: float | None = None

    @property
    def geometric_mean(self) -> float:
        """The geometric mean of the ratios."""
        return math.exp(sum(math.log(value) for value in self.values.values()) / len(self.values))

    @property
    def missed(self) -> list[str]:
        """The rows that miss the bound on each, and "mean" where the mean misses its own. A NaN misses."""
        rows = [name for name, value in self.values.items() if self.each is not None and not value <= self.each]
        return rows + (["mean"] if self.mean is not None and not self.geometric_mean <= self.mean else [])


@dataclass
class Section:
    """What a case reports. Rows with a `series` and a `size` are also drawn as time per unit of size."""

    name: str
    title: str
    text: str
    rows: list[Row]
    unit: str = ""
    slope_limit: float | None = None
    machine: str = ""
    ratios: list[Ratios] = field(default_factory=list)


def optional(name: str) -> Any:
    """The module, or None if it is not installed, which makes its contestant absent."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def relative_difference(ours: Any, theirs: Any) -> float:
    """The largest ‖ours − theirs‖ / ‖theirs‖ over the arrays of two answers, each an array or a list of arrays."""
    if not isinstance(ours, (list, tuple)):
        ours, theirs = [ours], [theirs]
    if len(ours) != len(theirs):
        raise DisagreementError(f"one answer has {len(ours)} arrays, the other {len(theirs)}")
    differences = []
    for a, b in zip(ours, theirs):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape:
            raise DisagreementError(f"one answer has shape {a.shape}, the other {b.shape}")
        norm = np.linalg.norm(b)
        differences.append(np.linalg.norm(a - b) / (norm if norm else 1))
    return float(np.max(differences))  # unlike Python's max, a NaN wins


@dataclass
class Runner:
    """Runs contests. `quick` means small sizes and two rounds of single calls: a test of the benchmarks, not a measurement.

    `rounds` overrules the number of rounds; `only` asks a case for the rows whose name contains it.
    """

    quick: bool = False
    rounds: int | None = None
    only: str = ""

    def contest(
        self,
        name: str,
        contestants: Mapping[str, Contestant | None],
        *,
        tolerance: float,
        rounds: int = 31,
        target: Target | None = None,
        difference: Callable[[Any, Any], float] = relative_difference,
        seconds: Callable[[Any], float] | None = None,
        series: str | None = None,
        size: int | None = None,
    ) -> Row:
        """Measure the contestants, the first being ours, and return the medians.

        A contestant that is None is absent. `difference(ours, theirs)` of their answers may not exceed `tolerance`,
        otherwise `DisagreementError` is raised. `seconds` reads the time off an answer, for what is measured elsewhere.
        """
        present = {key: call for key, call in contestants.items() if call is not None}
        ours = next(iter(contestants))
        if ours not in present:
            raise ValueError(f"{name}: the first contestant, {ours!r}, is ours and cannot be absent")
        settle, least = (0.0, 0.0) if self.quick else (SETTLE, MINIMUM_SAMPLE)
        differences, durations = _warm_up(name, present, ours, tolerance, difference, settle)
        counts = {key: max(1, math.ceil(least / max(durations[key], 1e-9))) for key in present}
        samples: dict[str, list[float]] = {key: [] for key in present}
        rounds = self.rounds or (2 if self.quick else rounds)
        for i in tqdm(range(rounds), desc=name, unit="round", leave=False, disable=None):
            for key in random.Random(i).sample(
                list(present), len(present)
            ):  # who comes before has warmed caches and threads
                time.sleep(PAUSE)
                if seconds is None and durations[key] < settle:
                    present[key]()
                samples[key].append(_sample(present[key], counts[key], seconds))
        mine = samples[ours]
        return Row(
            name=name,
            seconds={key: median(samples[key]) if key in present else None for key in contestants},
            ratios={
                key: median(a / b for a, b in zip(mine, samples[key])) if key in present else None
                for key in contestants
                if key != ours
            },
            differences={key: differences.get(key) for key in contestants if key != ours},
            rounds=rounds,
            limit=target.limit if target else None,
            limit_peers=list(target.peers) if target else [],
            series=series,
            size=size,
        )

    def preparation(self, name: str, contestants: Mapping[str, Contestant | None], rounds: int) -> Row:
        """Measure what has no answers to compare (a function traced or compiled), or answers that are compared elsewhere."""
        return self.contest(name, contestants, tolerance=0.0, rounds=rounds, difference=lambda ours, theirs: 0.0)


def _warm_up(
    name: str,
    present: Mapping[str, Contestant],
    ours: str,
    tolerance: float,
    difference: Callable[[Any, Any], float],
    settle: float,
) -> tuple[dict[str, float], dict[str, float]]:
    """Run every contestant once or twice; return how far its answer is from ours, and about how long it takes."""
    answer: Any = None
    differences: dict[str, float] = {}
    durations: dict[str, float] = {}
    for key in [ours, *(key for key in present if key != ours)]:
        start = time.perf_counter()
        theirs = present[key]()
        durations[key] = time.perf_counter() - start
        if durations[key] < settle:  # a first call may be slow for its own reasons
            durations[key] = _sample(present[key], 1, None)
        if key == ours:
            answer = theirs
            continue
        differences[key] = difference(answer, theirs)
        if not differences[key] <= tolerance:  # a NaN disagrees
            raise DisagreementError(
                f"{name}: the answers of {ours!r} and {key!r} differ by {differences[key]:.2g}, "
                f"more than the {tolerance:.2g} allowed"
            )
    return differences, durations


def _sample(call: Contestant, count: int, seconds: Callable[[Any], float] | None) -> float:
    if seconds is not None:
        return seconds(call())
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def seconds_text(seconds: float) -> str:
    """A time with three digits and a fitting unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}" if seconds < 999.5 * factor else f"{seconds / factor:.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The exponent p of the fit seconds ≈ c · sizeᵖ: 1 is linear. Needs two different sizes."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
