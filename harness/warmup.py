"""When a server is warm, and whether it then stays as it is. In: one value a second. Out: a Steadiness.

The end of the warm-up is by MSER (White, Simulation 69, 1997; White, Cobb & Spratt, WSC 2000): cut so much from the
front that the standard error of the mean of the rest is least. A second is a batch of many calls already, which is what
MSER-5 makes batches of five for. What is left must pass three tests: no trend (Mann, Econometrica 13, 1945; Kendall),
no change of level (`harness.changes`), no oscillation (after Fisher, Proc. Roy. Soc. A 125, 1929); and what they find
has to be large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from harness.changes import change_points
from harness.recording import Recording

Floats = NDArray[np.float64]

LEAST_S = 10  # of steady state: shorter ones show neither a trend nor an oscillation
RISK = 0.005  # of each of the three tests, in a series that is steady
MATTERS = 0.05  # of the level: what changes by less spoils no comparison that the intervals don't already blur
OVERSAMPLED = 4  # frequencies between two whole numbers of cycles
SIMULATED = 4_000
EVEN = ("closed", "constant", "poisson")  # loads that ask the same of every second
LONG_CALL_S = 1.0
MOST_VALUES = 300
NEAR_LEAST = 1.5  # the least error is itself random; the earliest second that comes this near is the end of the warm-up


class Steadiness(NamedTuple):
    """warm_s: seconds until it is warm; None when it never is. steady: None when there are too few seconds to tell."""

    warm_s: int | None
    steady: bool | None
    reason: str


def warm_from(series: Sequence[float]) -> int:
    """The second from which on the mean is known best, by MSER; never later than half of the series.

    Where the noise hides a step from it, the test for changes of level may still see one.
    """
    values = np.asarray(series, dtype=float)
    half = len(values) // 2
    errors = np.array([np.var(values[cut:]) / (len(values) - cut) for cut in range(half + 1)])
    by_mean = int(np.argmax(errors <= NEAR_LEAST * errors.min()))
    before, after = np.median(values[:by_mean]) if by_mean else 0.0, np.median(values[by_mean:])
    if by_mean and abs(before - after) < MATTERS * after:
        by_mean = 0  # what would be cut is like the rest
    step = _step(values[by_mean:])
    if step is None or abs(step.moved) < MATTERS or by_mean + step.at > half:
        return by_mean
    return by_mean + step.at if step.left < _line(values[by_mean:]).left else by_mean


def steadiness(series: Sequence[float]) -> Steadiness:
    """series: throughput or a median, second by second, from the very first second under load."""
    values = np.asarray(series, dtype=float)
    if untold := _untold(values):
        return untold
    warm_s = warm_from(series)
    rest = values[warm_s:]
    if warm_s >= len(values) // 2:
        return Steadiness(None, False, _trend(values) or f"still warming up after {warm_s} of {len(values)} s")
    if len(rest) < LEAST_S:
        return Steadiness(warm_s, None, f"warm after {warm_s} s; the {len(rest)} s since are too few to tell")
    why = next(filter(None, (test(rest) for test in TESTS)), None)
    return Steadiness(
        warm_s, not why, why or (f"steady from second {warm_s} on" if warm_s else "steady from the start")
    )


def _untold(values: Floats) -> Steadiness | None:
    """Where no test is of use."""
    if len(values) < LEAST_S:
        return Steadiness(None, None, f"{len(values)} s are too few to tell; {LEAST_S} s at least")
    if not (np.isfinite(values).all() and np.median(values) > 0):
        return Steadiness(None, None, "too little was served to tell it by")
    if not np.median(values[len(values) // 2 :]) > 0:
        return Steadiness(None, False, "it stops in the second half")
    return None


class _Found(NamedTuple):
    """How a stretch moves: by so much of its level, at a second, and what that leaves unexplained."""

    moved: float
    at: int
    left: float


def _line(values: Floats) -> _Found:
    """Theil and Sen's (Sen, JASA 63, 1968), which a few wild seconds do not bend."""
    seconds = np.arange(len(values))
    line = scipy_stats.theilslopes(values, seconds)
    moved = float(line.slope) * (len(values) - 1) / float(np.median(values))
    return _Found(moved, 0, float(np.abs(values - line.intercept - line.slope * seconds).sum()))


def _step(values: Floats) -> _Found | None:
    """The largest change of level."""
    found = []
    for at in change_points(values.tolist(), RISK):
        before, after = values[:at], values[at:]
        moved = float(np.median(after) / np.median(before)) - 1 if np.median(before) else math.inf
        left = float(sum(np.abs(part - np.median(part)).sum() for part in (before, after)))
        found.append(_Found(moved, at, left))
    return max(found, key=lambda one: abs(one.moved), default=None)


def _trend(values: Floats) -> str | None:
    """Kendall's τ against time. A step makes a trend too: it is left to its own test where it tells more."""
    if np.ptp(values) == 0 or scipy_stats.kendalltau(np.arange(len(values)), values).pvalue > RISK:
        return None
    line, step = _line(values), _step(values)
    if abs(line.moved) < MATTERS or (step and step.left < line.left):
        return None
    return f"{'rises' if line.moved > 0 else 'falls'} steadily, by {abs(line.moved):.0%} within {len(values)} s"


def _shift(values: Floats) -> str | None:
    """A change of level within what should be one."""
    step = _step(values)
    if step is None or abs(step.moved) < MATTERS:
        return None
    return f"changes its level by {step.moved:+.0%}, {step.at} s after it was warm"


def _oscillation(values: Floats) -> str | None:
    """The strongest of all periods that fit in twice at least: its share of all variation, against white noise."""
    n = len(values)
    flat = _level(values[np.newaxis])[0]
    if np.ptp(flat) <= 1e-9 * np.median(values):
        return None
    powers = _powers(flat)
    strongest = int(np.argmax(powers))
    swing = 2 * math.sqrt(powers[strongest]) / n / float(np.median(values))
    if powers[strongest] <= _most_power(n) * (flat @ flat) or swing < MATTERS:
        return None
    return f"oscillates by ± {swing:.0%} every {OVERSAMPLED * n / (strongest + 2 * OVERSAMPLED):.1f} s"


def _level(rows: Floats) -> Floats:
    """Each row without its straight line of least squares."""
    seconds = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    level: Floats = rows - rows.mean(axis=1, keepdims=True)
    level -= np.outer(level @ seconds / (seconds @ seconds), seconds)
    return level


def _powers(series: Floats) -> Floats:
    """The periodogram from two cycles on, also between whole numbers of cycles."""
    powers: Floats = np.abs(np.fft.rfft(series, OVERSAMPLED * series.shape[-1], axis=-1)) ** 2
    return powers[..., 2 * OVERSAMPLED :]


@cache
def _most_power(n: int) -> float:
    """The share that the strongest period of white noise exceeds with RISK. Fisher's formula is for whole numbers of
    cycles only, so it is simulated, with a seed; wild values spread over all periods, and make the test but milder."""
    noise = _level(np.random.default_rng(n).normal(size=(SIMULATED, n)))
    return float(np.quantile(_powers(noise).max(axis=1) / (noise**2).sum(axis=1), 1 - RISK))


TESTS: tuple[Callable[[Floats], str | None], ...] = (_trend, _shift, _oscillation)


# -- of Recordings ---------------------------------------------------------------------------------------------------


def by_second(recording: Recording, name: str) -> list[float]:
    """What tells whether it is warm, from the first second on: of a closed load its throughput, of an open one, whose
    throughput is given, the median response of each second (0 where there was none)."""
    seconds = range(recording.trial.scenario.duration_s)
    if recording.trial.scenario.arrivals == "closed":
        finished = dict.fromkeys(seconds, 0.0)
        for row in recording.within(name, seconds):
            finished[row.second] += row.finished
        return list(finished.values())
    responses = [recording.histogram(name, "response", (second,)) for second in seconds]
    return [one.quantile_us(0.5) / 1000 if one.n else 0.0 for one in responses]


def of_recording(recording: Recording, name: str) -> Steadiness:
    """The steadiness of one row of a Trial; says so when the scenario's warm-up is too short.

    Not told: of arrivals that change by themselves; of calls so long that a second holds waves of them.
    """
    scenario = recording.trial.scenario
    if scenario.arrivals not in EVEN:
        return Steadiness(None, None, f"{scenario.arrivals} arrivals change by themselves")
    if scenario.longest_s >= LONG_CALL_S:
        return Steadiness(None, None, f"calls of {scenario.longest_s:g} s and more are too long to tell by the second")
    series, step = _coarse(by_second(recording, name))
    found, given_s = steadiness(series), scenario.warmup_s
    if found.warm_s is None:
        return found
    warm_s = found.warm_s * step
    if warm_s > given_s and found.steady is not False:
        return Steadiness(warm_s, False, f"warm after {warm_s} s only, the warm-up is {given_s} s: {found.reason}")
    return found._replace(warm_s=warm_s)


def _coarse(series: list[float]) -> tuple[list[float], int]:
    """At most MOST_VALUES of them, each the mean of so many seconds: the tests' work grows with their square."""
    step = -(-len(series) // MOST_VALUES)
    whole = len(series) // step * step
    return (np.asarray(series[:whole]).reshape(-1, step).mean(axis=1).tolist(), step) if step > 1 else (series, 1)


class OverTrials(NamedTuple):
    """What the Trials of a cell say together. told: how many could tell; unsteady: how many of these were not."""

    told: int
    unsteady: int
    warm_s: int | None  # the latest end of a warm-up, of those that were steady
    sentence: str

    @property
    def mostly_unsteady(self) -> bool:
        return 2 * self.unsteady > self.told


def over_trials(trials: Sequence[Recording], name: str) -> OverTrials:
    """The steadiness of one row over the Trials of its cell. A steady Trial is flagged in up to 3 of 100, so one alone
    is only told."""
    found = [of_recording(trial, name) for trial in trials]
    able = [one for one in found if one.steady is not None]
    if not able:
        return OverTrials(0, 0, None, found[0].reason if found else "no usable trial")
    not_steady = [one for one in able if not one.steady]
    warm_s = max((one.warm_s for one in able if one.steady and one.warm_s is not None), default=None)
    if not_steady:
        sentence = f"not steady in {len(not_steady)} of {len(able)} trials: {not_steady[0].reason}"
    else:
        sentence = f"steady from second {warm_s} on" if warm_s else "steady from the start"
    return OverTrials(len(able), len(not_steady), warm_s, sentence)
