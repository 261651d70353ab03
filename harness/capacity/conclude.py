"""What a search's steps say. In: an SLO and the steps. Out: the crossing that they show, and the `Found`. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.capacity.crossing import Crossing, Promise, Tail, crossing
from harness.capacity.slo import PARTS, limits, per_second, said
from harness.capacity.steps import Ask, Found, Outcome, Seen, Step, against, bracket, broken, tally
from harness.trial import Slo

LONG_S, SHORTEST_S, TRIALS = 12.0, 6.0, 11  # a confirming trial; how many the budget should hold at least
ERRORS_LIMIT_S = 0.2  # where only errors are promised: the scale on which a server goes over its edge
REACH = 1.3  # how far beyond its bracket a crossing is sought
HOLE = 1.15  # so far above a rate that failed a queue hardly ever holds
BESIDE = 0.03  # trials as near as this below the answer confirm it
COLLAPSED = 0.7  # a server that completes less of what it carried, just beyond its edge, collapses


@dataclass(frozen=True)
class Aim:
    """What a search was told: rates, seconds, and the precision asked."""

    start_rps: float
    most_rps: float
    budget_s: float
    precision: float


class Room(NamedTuple):
    """What is left: the highest rate that may be asked, why where the generator set it, and seconds."""

    cap_rps: float
    weak: str
    left_s: float


class Near(NamedTuple):
    """What the trials near the crossing say. confirmed: those at the answer held the SLO, taken together."""

    crossing: Crossing
    trials: int
    confirmed: bool


def longest_s(slo: Slo) -> float:
    """The longest response time that the SLO names, in seconds."""
    return max(limits(slo).values(), default=1000 * ERRORS_LIMIT_S) / 1000


def is_long(ask: Ask) -> bool:
    """Whether a trial is long enough to show the tail of a queue, and no mere bracket."""
    return ask.purpose != "bracket" and ask.duration_s >= SHORTEST_S


def long_s(slo: Slo, aim: Aim, left_s: float) -> float | None:
    """How long the next confirming trial is; None: there is no time for one. Whole seconds."""
    wanted = max(min(LONG_S, aim.budget_s // TRIALS), SHORTEST_S)
    wanted = max(wanted, min(math.ceil(20 * longest_s(slo)), aim.budget_s // 6))
    fits = min(wanted, left_s // 1)
    return float(fits) if fits >= SHORTEST_S else None


def served_at(steps: Sequence[Step], rate_rps: float) -> float:
    """The most that was completed a second at a rate that failed."""
    return max((step.seen.completed_rps for step in steps if step.ask.rate_rps == rate_rps), default=0.0)


def near(slo: Slo, steps: Sequence[Step], cap: float) -> Near | None:
    """The crossing of the promise that is broken first; None: no long trial yet."""
    usable = [step for step in steps if not step.seen.fault]
    long_ones = [step for step in usable if is_long(step.ask)]
    low, high = bracket(slo, usable)
    if not long_ones or (low is None and high is None):
        return None
    bounds = (low or high or cap) / REACH, (high or 1.5 * cap) * REACH
    within = [step for step in usable if bounds[0] <= step.ask.rate_rps <= bounds[1]]
    if hole := a_hole(slo, usable):  # what holds beyond it says nothing about its edge
        within = [step for step in within if step.ask.rate_rps <= HOLE * hole[0]]
    if not within:
        return None
    idle_ms = floor_ms(min(usable, key=lambda step: step.ask.rate_rps).seen)
    promises = limits(slo) or {0.99: 1000 * ERRORS_LIMIT_S}
    found = [_crossing(slo, within, promise, idle_ms, bounds) for promise in promises.items()]
    first = min(found, key=lambda one: one.sustained_rps)
    return Near(first, len(long_ones), confirmed(slo, long_ones, first))


def floor_ms(idle: Seen) -> float:
    """What a request takes at least, by the p50 and p90 of an idle server: of the shifted exponential that has both.

    What is exponential in a service time is part of the tail; what is constant is not.
    """
    half, most = idle.quantiles_ms[0.5], idle.quantiles_ms[0.9]
    if not math.isfinite(most):
        return 0.0
    return max(0.0, half - (most - half) * math.log(2) / math.log(5))


def _crossing(
    slo: Slo, steps: Sequence[Step], promise: tuple[float, float], idle_ms: float, bounds: tuple[float, float]
) -> Crossing:
    """Of one promise (quantile, limit in ms)."""
    quantile, limit_ms = promise
    promised = Promise(quantile, limit_ms / 1000, min(idle_ms / limit_ms, 0.8))
    tails = [_tail(slo, step, limit_ms) for step in steps]
    return crossing(tails, promised, low_rps=bounds[0], high_rps=bounds[1])


def _tail(slo: Slo, step: Step, limit_ms: float) -> Tail:
    """A trial whose errors break their promise is one in which nobody was served in time."""
    over = tuple(step.seen.over.get(limit_ms * part, 0.0) for part in PARTS)
    if broken(slo, step.seen):
        over = tuple(1.0 for _ in PARTS)
    return Tail(step.ask.rate_rps, step.ask.duration_s, step.ask.warmup_s, over)


def confirmed(slo: Slo, steps: Sequence[Step], one: Crossing) -> bool:
    """Whether two trials or more at the answer, or up to halfway to the crossing, held every promise, taken as one."""
    least, most = (1 - BESIDE) * one.sustained_rps, (one.sustained_rps + one.rate_rps) / 2
    beside = [step.seen for step in steps if least <= step.ask.rate_rps <= most]
    offered = sum(seen.offered for seen in beside)
    if len(beside) < 2 or not offered:
        return False
    if slo.errors is not None and sum(seen.bad for seen in beside) > slo.errors * offered:
        return False
    return all(
        sum(seen.over[limit_ms] * seen.offered for seen in beside) <= (1 - quantile) * offered
        for quantile, limit_ms in limits(slo).items()
    )


# -- the answers -----------------------------------------------------------------------------------------------------


def without(steps: Sequence[Step], before: int, outcome: Outcome, reason: str) -> Found:
    """No rate can be answered."""
    seconds = sum(step.seen.seconds for step in steps[before:])
    return Found(None, None, None, None, outcome, reason, limited_by(steps, 0.0), seconds, tuple(steps))


def unfinished(slo: Slo, steps: Sequence[Step], before: int) -> Found:
    """The time was spent before any rate was confirmed: the bracket is what is known."""
    low, high = bracket(slo, [step for step in steps if not step.seen.fault])
    least = per_second(low or 0)
    lies = f"between {least} and {per_second(high)} req/s" if high else f"above {least} req/s"
    reason = f"the time was spent when short trials had shown the answer {lies}; give it a longer budget"
    answer = without(steps, before, "budget", reason)
    return Found(**{**vars(answer), "low": low, "high": high, "smallest_failed_rps": high})


def impossible(slo: Slo, steps: Sequence[Step], before: int) -> Found:
    """It failed at a rate at which requests hardly ever meet, so no rate holds it."""
    lowest = min((step for step in steps if not step.seen.fault), key=lambda step: step.ask.rate_rps)
    words = against(slo, lowest.seen).words.removeprefix("fails: ")
    times = ", ".join(f"p{100 * quantile:g} {ms:,.0f} ms" for quantile, ms in sorted(lowest.seen.quantiles_ms.items()))
    reason = f"no rate holds {said(slo)}: at {lowest.ask.rate_rps:.3g} req/s already {words} ({times})"
    answer = without(steps, before, "impossible", reason)
    return Found(**{**vars(answer), "smallest_failed_rps": lowest.ask.rate_rps})


def found(slo: Slo, aim: Aim, steps: Sequence[Step], before: int, near_: Near | None, room: Room) -> Found:
    """The answer of a search that has come to the crossing, or to the highest rate that may be asked."""
    if near_ is None:
        return unfinished(slo, steps, before)
    cap, weak = room.cap_rps, room.weak
    seconds = sum(step.seen.seconds for step in steps[before:])
    usable = [step for step in steps if not step.seen.fault]
    one = near_.crossing
    above: float | None = one.high_rps
    outcome: Outcome = "found"
    reason = _precision(one, aim, near_.trials, seconds)
    sustained = one.sustained_rps
    if sustained >= cap:
        sustained, above, lower = cap, None, min(one.low_rps, cap)
        outcome = "generator" if weak else "at-most-asked"
        reason = f"it holds at {per_second(cap)} req/s, the most that may be asked"
        if weak:
            reason = f"{weak}; up to {per_second(cap)} req/s the SLO holds"
    else:
        lower = one.low_rps
        if hole := _cliff(slo, usable, sustained):
            outcome, reason = "cliff", hole
        elif not near_.confirmed:
            reason += "; the trials at that rate alone do not confirm it"
    return Found(
        sustained_rps=sustained,
        low=lower,
        high=above,
        smallest_failed_rps=_failed(slo, usable, sustained),
        outcome=outcome,
        reason=reason,
        limited_by=limited_by(steps, sustained),
        seconds=seconds,
        steps=tuple(steps),
        likely_rps=one.rate_rps if above is not None else None,
    )


def _precision(one: Crossing, aim: Aim, trials: int, seconds: float) -> str:
    """How well it is known; and how long it would take to know it as well as was asked (∝ 1 ÷ width², as a mean)."""
    width = (one.high_rps - one.low_rps) / one.sustained_rps
    text = f"{trials} trials near it put the highest rate at {per_second(one.rate_rps)} req/s, ±{width / 2:.1%}"
    if width > aim.precision:
        text += f"; ±{aim.precision / 2:.1%} would take about {seconds * (width / aim.precision) ** 2:,.0f} s"
    return text


def _failed(slo: Slo, steps: Sequence[Step], above_rps: float) -> float | None:
    failed = (step.ask.rate_rps for step in steps if against(slo, step.seen).points and step.ask.rate_rps > above_rps)
    return min(failed, default=None)


def a_hole(slo: Slo, steps: Sequence[Step], *, suspected: bool = False) -> tuple[float, float] | None:
    """(a rate that fails, a far higher one that holds), each seen twice, or, if only suspected, once; None: none."""
    points, least = tally(slo, steps), 2 if suspected else 4
    fails = [rate for rate, against_ in points.items() if against_ >= least]
    holds = [rate for rate, against_ in points.items() if against_ <= -least]
    if not fails or not holds or max(holds) <= HOLE * min(fails):
        return None
    return min(fails), max(holds)


def _cliff(slo: Slo, steps: Sequence[Step], sustained: float) -> str:
    """Why the server is one that does not just queue: it holds above a rate at which it fails, or it collapses."""
    if hole := a_hole(slo, steps):
        fails, holds = map(per_second, hole)
        return f"it fails at {fails} req/s and yet holds at {holds}: only what is below both is answered"
    best = max((step.seen.completed_rps for step in steps if step.ask.rate_rps <= 1.02 * sustained), default=0.0)
    worse = [step for step in steps if sustained < step.ask.rate_rps <= 2 * sustained]
    collapsed = [step for step in worse if step.seen.completed_rps < COLLAPSED * min(best, sustained)]
    if not collapsed:
        return ""
    edge = min(collapsed, key=lambda step: step.ask.rate_rps)
    return (
        f"beyond {per_second(sustained)} req/s it collapses rather than queues: "
        f"at {per_second(edge.ask.rate_rps)} it completes {per_second(edge.seen.completed_rps)} a second"
    )


def limited_by(steps: Sequence[Step], above_rps: float) -> str:
    """What the verdicts name most often where the SLO failed, else anywhere; "none" where none names anything."""
    named = [step for step in steps if step.seen.limited_by != "none" and not step.seen.fault]
    beyond = [step.seen.limited_by for step in named if step.ask.rate_rps > above_rps]
    counted = Counter(beyond or [step.seen.limited_by for step in named]).most_common(1)
    return counted[0][0] if counted else "none"
