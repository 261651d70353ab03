"""What a search asks and sees. In: an SLO and a trial's answer. Out: what the trial says against the SLO. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.capacity.slo import limits, said
from harness.trial import Slo

Purpose = Literal["bracket", "classify", "confirm"]
Outcome = Literal["found", "impossible", "generator", "cliff", "budget", "at-most-asked"]


@dataclass(frozen=True)
class Ask:
    """One trial to run: Poisson arrivals at a rate. duration_s is all of it, warmup_s its unread start; both whole."""

    rate_rps: float
    duration_s: float
    warmup_s: float
    seed: int
    purpose: Purpose


@dataclass(frozen=True)
class Seen:
    """One trial's answer, of the arrivals after its warm-up.

    over: for each response time of `slo.thresholds`, in ms, the share of `offered` that took longer, lost requests
    included. Shares add up over trials, where quantiles do not; so they are what the search reads.
    """

    rate_rps: float
    offered: int
    bad: int  # failed + timed out + unfinished
    over: Mapping[float, float]  # ms → share of the arrivals that took longer or were lost
    quantiles_ms: Mapping[float, float]  # 0.5, 0.9, 0.99 → response, lost requests as at least their age
    tail: int  # samples behind the quantiles
    growing: bool  # the queue grew through the trial: the backlog at its end is much longer than at its start
    completed_rps: float
    seconds: float  # what it took of the budget, with everything around it
    fault: str = ""  # the generator, not the server, spoilt it (too weak, VOID): why, in words
    limited_by: str = "none"  # of the verdict's words
    reason: str = ""


@dataclass(frozen=True)
class Step:
    """One trial as asked and answered, and what was concluded from it."""

    ask: Ask
    seen: Seen
    concluded: str


@dataclass(frozen=True)
class Found:
    """The answer. sustained_rps: with 95 % confidence the server carries at least this.

    low, high: 95 % bounds of the highest rate that holds the SLO, where sustained_rps lies between them.
    smallest_failed_rps: the lowest rate above it at which a trial failed. seconds: what this search's trials took.
    """

    sustained_rps: float | None
    low: float | None
    high: float | None
    smallest_failed_rps: float | None
    outcome: Outcome
    reason: str
    limited_by: str
    seconds: float
    steps: tuple[Step, ...]
    likely_rps: float | None = None  # the best single estimate of that highest rate: as often too high as too low


class Against(NamedTuple):
    """What one trial alone says against an SLO. points: 2 = it fails for certain, 1 = perhaps, 0 = nothing."""

    points: int
    words: str


def certainly(expected: float) -> float:
    """A count above this is not chance, where `expected` was to come: two standard deviations of Poisson's law."""
    return expected + 2 * math.sqrt(expected) + 1


def against(slo: Slo, seen: Seen) -> Against:
    """What this trial alone says against the SLO, in words that a step can be told in."""
    if seen.growing:
        return Against(2, "fails: the queue grew as long as the load lasted")
    if errors := broken(slo, seen):
        return Against(2, errors)
    for quantile, limit_ms in limits(slo).items():
        share, allowed = seen.over[limit_ms], 1 - quantile
        if share * seen.offered > certainly(allowed * seen.offered):
            points = 2 if share > (1 + allowed) / 2 else 1
            return Against(points, f"fails: {share:.2%} took longer than {limit_ms:g} ms, where {allowed:.0%} may")
    return Against(0, f"holds {said(slo)}")


def broken(slo: Slo, seen: Seen) -> str:
    """How the trial breaks the promise about errors; "" where it does not."""
    if slo.errors is None or seen.bad <= certainly(slo.errors * seen.offered):
        return ""
    return f"fails: {seen.bad} of {seen.offered} requests were lost, where {slo.errors:.3%} may"


def tally(slo: Slo, steps: Sequence[Step]) -> dict[float, int]:
    """Rate → points against it: 2 for a certain failure, 1 for a doubtful one, −2 for a trial that held."""
    points: dict[float, int] = {}
    for step in steps:
        found = against(slo, step.seen).points
        points[step.ask.rate_rps] = points.get(step.ask.rate_rps, 0) + (found or -2)
    return points


def bracket(slo: Slo, steps: Sequence[Step]) -> tuple[float | None, float | None]:
    """(the highest rate that held below every failure, the lowest rate that failed); None = none yet.

    A rate fails by one certain failure or by two doubtful ones; a trial that holds takes two doubts away.
    """
    points = tally(slo, steps)
    high = min((rate for rate, sum_ in points.items() if sum_ >= 2), default=None)
    held = (rate for rate, sum_ in points.items() if sum_ < 0 and (high is None or rate < high))
    return max(held, default=None), high
