"""The highest rate that holds an SLO. In: an SLO, and each asked trial's answer. Out: the next Ask; at the end `Found`.

Pure, without I/O or clock: a search is a generator that yields an `Ask` and is sent a `Seen`. What comes next follows
from the steps so far alone, so that several SLOs share them. In short:

1. *bracket*: short trials at doubled rates until one fails; halved, where the first does;
2. *classify*: a few longer ones between the last that held and the first that failed, and where holes were not seen;
3. *confirm*: independent trials by turns at the likely crossing and at the rate that would be answered, until the
   crossing (`harness.capacity.crossing`) is known as precisely as was asked, or the time is spent.

The answer is the one-sided 95 % lower bound of the crossing, so that it is too high in at most one search of twenty.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from harness.capacity import conclude
from harness.capacity.conclude import Aim, Near, Room
from harness.capacity.slo import per_second
from harness.capacity.steps import Ask, Found, Purpose, Seen, Step, against, bracket
from harness.trial import Slo, derived_seed

__all__ = ["Ask", "Found", "Search", "Seen", "Step", "drive", "search", "search_all"]

SHORT_S, SHORT_WARMUP_S, SHORT_N = 3.0, 1.0, 20  # a bracketing trial; longer where that is too few arrivals
MIDDLE_S = 6.0  # a classifying one
LEAST_RPS = 1.0  # below this, or where hardly two requests meet, an SLO that fails is impossible
CLOSE = 1.25  # a bracket whose ends are as near as this is one that trials near its middle can serve
HOLES = (0.6, 0.8)  # of the bracket: where a trial also looks, as a server may be bad there and good above
LOWEST, AT = 0.97, 1.01  # of the crossing: the lowest rate that is confirmed; the other that is tried by turns
KEPT_UP = 0.9  # of the rate: a server that completes so much does not fail for want of capacity
REPEATS = 3  # a trial that the generator spoilt is tried so often in all

Search = Generator[Ask, Seen, Found]


def search(
    slo: Slo,
    *,
    start_rps: float = 20.0,
    most_rps: float = 20_000.0,
    budget_s: float = 180.0,
    seed: int = 1,
    precision: float = 0.05,
) -> Search:
    """Asks for trials until the highest rate that holds the SLO is known, or the budget is spent.

    budget_s: seconds, compared with the sum of `Seen.seconds`. precision: high − low, as a share of sustained_rps, at
    which it is known well enough. most_rps: the highest rate that may be asked.
    """
    (found,) = yield from search_all(
        [slo], start_rps=start_rps, most_rps=most_rps, budget_s=budget_s, seed=seed, precision=precision
    )
    return found


def search_all(
    slos: Sequence[Slo],
    *,
    start_rps: float = 20.0,
    most_rps: float = 20_000.0,
    budget_s: float = 180.0,
    seed: int = 1,
    precision: float = 0.05,
) -> Generator[Ask, Seen, tuple[Found, ...]]:
    """As `search`, for several SLOs in their order; budget_s is for each. Each trial serves every SLO that it can."""
    aim = Aim(start_rps, most_rps, budget_s, precision)
    steps: list[Step] = []
    answers = []
    for slo in slos:
        before = len(steps)
        while not isinstance(decided := decide(slo, aim, steps, before), Found):
            rate = min(float(f"{decided.rate_rps:.4g}"), most_rps)
            ask = Ask(
                rate, decided.duration_s, decided.warmup_s, derived_seed(seed, "capacity", len(steps)), decided.purpose
            )
            seen = yield ask
            steps.append(Step(ask, seen, seen.fault or against(slo, seen).words))
        answers.append(decided)
    return tuple(answers)


def drive(asking: Search, probe: Callable[[Ask], Seen]) -> Found:
    """Runs a search to its end: each Ask is put to the probe."""
    try:
        ask = next(asking)
        while True:
            ask = asking.send(probe(ask))
    except StopIteration as end:
        found: Found = end.value
        return found


@dataclass(frozen=True)
class Next:
    """What to ask next; its seed follows from its number."""

    rate_rps: float
    duration_s: float
    warmup_s: float
    purpose: Purpose


IMPOSSIBLE = Next(0.0, 0.0, 0.0, "bracket")  # no rate is left to ask


def decide(slo: Slo, aim: Aim, steps: Sequence[Step], before: int = 0) -> Next | Found:
    """What follows from the steps so far, the first `before` of which were asked for other SLOs."""
    usable = [step for step in steps if not step.seen.fault]
    cap, weak = ceiling(aim, steps)
    left_s = aim.budget_s - sum(step.seen.seconds for step in steps[before:])
    if weak and not usable:
        return conclude.without(steps, before, "generator", f"nothing can be offered: {weak}")
    following = _again(steps[before:], cap) or _hole(slo, usable) or _bracketing(slo, aim, usable, cap)
    if following == IMPOSSIBLE:
        return conclude.impossible(slo, steps, before)
    if following is None or following.duration_s > left_s:
        return _confirming(slo, aim, steps, before, Room(cap, weak, left_s))
    return following


def ceiling(aim: Aim, steps: Sequence[Step]) -> tuple[float, str]:
    """The highest rate that may be asked, and, where the generator set it, why: it spoilt a rate three times."""
    spoilt: dict[float, list[str]] = {}
    for step in steps:
        if step.seen.fault:
            spoilt.setdefault(step.ask.rate_rps, []).append(step.seen.fault)
    beyond = [(rate, faults[-1]) for rate, faults in spoilt.items() if len(faults) >= REPEATS]
    if not beyond:
        return aim.most_rps, ""
    rate, fault = min(beyond)
    return min(aim.most_rps, 0.8 * rate), f"at {per_second(rate)} req/s the generator, not the server, failed: {fault}"


def _again(steps: Sequence[Step], cap: float) -> Next | None:
    """The last trial once more, where the generator spoilt it and may not do so the next time."""
    if not steps or not steps[-1].seen.fault or steps[-1].ask.rate_rps > cap:
        return None
    last = steps[-1].ask
    return Next(last.rate_rps, last.duration_s, last.warmup_s, last.purpose)


def _hole(slo: Slo, usable: Sequence[Step]) -> Next | None:
    """Once more where it failed and where it held above, if it was chance in one of them; None: nothing strange."""
    strange = conclude.a_hole(slo, usable, suspected=True)
    if strange is None or conclude.a_hole(slo, usable):
        return None
    asked = [step.ask for step in usable if step.ask.rate_rps in strange]
    rate = min(strange, key=lambda rate: sum(ask.rate_rps == rate for ask in asked))
    longest_s = max(ask.duration_s for ask in asked)
    return Next(rate, longest_s, longest_s // 3, "classify")


def _bracketing(slo: Slo, aim: Aim, usable: Sequence[Step], cap: float) -> Next | None:
    """The next trial that brackets the answer; None once it is bracketed closely, or the cap held."""
    low, high = bracket(slo, usable)
    if usable and usable[-1].ask.purpose == "bracket" and _doubtful(slo, usable, low):
        last = usable[-1].ask
        following: Next | None = Next(last.rate_rps, last.duration_s, last.warmup_s, "bracket")
    elif low is None and high is None:
        following = _short(slo, min(aim.start_rps, cap))
    elif low is None:
        lowest = max(LEAST_RPS, 0.1 / conclude.longest_s(slo))
        assert high is not None
        following = IMPOSSIBLE if high <= lowest else _short(slo, max(high / 2, 0.9 * lowest))
    elif high is None:
        following = None if low >= 0.999 * cap else _short(slo, min(2 * low, cap))
    else:
        following = _classifying(slo, usable, (low, high), cap)
    return following


def _classifying(slo: Slo, usable: Sequence[Step], ends: tuple[float, float], cap: float) -> Next | None:
    """Between the ends of a wide bracket, and below it where nobody looked; None once that is done."""
    low, high = ends
    if sum(conclude.is_long(step.ask) and low <= step.ask.rate_rps <= high for step in usable) >= 3:
        return None
    served = conclude.served_at(usable, high)
    if min(high, 1.05 * served if served > low else high) > CLOSE * low:
        middle = 0.95 * served if 1.05 * low < served < high else (low * high) ** 0.5
        duration_s = max(MIDDLE_S, 8 * conclude.longest_s(slo))
        return Next(min(middle, cap), float(round(duration_s)), float(round(duration_s / 3)), "classify")
    for share in HOLES:
        if not any(0.88 < step.ask.rate_rps / (share * low) < 1.12 for step in usable):
            return _short(slo, share * low)
    return None


def _doubtful(slo: Slo, usable: Sequence[Step], low: float | None) -> bool:
    """Whether the last trial's failure may be chance, or a stall: nothing was left undone, and it is new."""
    rate = usable[-1].ask.rate_rps
    same = [step.seen for step in usable if step.ask.rate_rps == rate]
    points = [against(slo, seen).points or -2 for seen in same]
    if 0 <= sum(points) < 2:
        return True
    first = low is not None or len(usable) == 1
    return first and len(same) == 1 and points[0] == 2 and same[0].completed_rps > KEPT_UP * rate


def _short(slo: Slo, rate_rps: float) -> Next:
    """Long enough for a few arrivals, and for a queue to break the longest promise."""
    least_s = max(SHORT_S, min(SHORT_N / rate_rps, 20.0), 4 * conclude.longest_s(slo))
    return Next(rate_rps, float(round(least_s)), SHORT_WARMUP_S, "bracket")


def _confirming(slo: Slo, aim: Aim, steps: Sequence[Step], before: int, room: Room) -> Next | Found:
    """Trials near the crossing, until it is known or the time is spent."""
    near = conclude.near(slo, steps, room.cap_rps)
    duration_s = conclude.long_s(slo, aim, max(room.left_s - _overhead_s(steps), 0))
    if duration_s is None or _known(near, aim, room.cap_rps):
        return conclude.found(slo, aim, steps, before, near, room)
    if near is None:
        low, high = bracket(slo, [step for step in steps if not step.seen.fault])
        at_least = low or room.cap_rps
        rate = (at_least * min(high or room.cap_rps, 1.1 * at_least)) ** 0.5
        return Next(min(rate, room.cap_rps), duration_s, duration_s // 4, "classify")
    candidate = max(near.crossing.sustained_rps, LOWEST * near.crossing.rate_rps)
    to_confirm = near.trials % 2 == 1
    rate = min(candidate if to_confirm else AT * near.crossing.rate_rps, room.cap_rps)
    return Next(rate, duration_s, duration_s // 4, "confirm" if to_confirm else "classify")


def _overhead_s(steps: Sequence[Step]) -> float:
    """What a trial takes besides its own duration."""
    extra = [step.seen.seconds - step.ask.duration_s for step in steps if not step.seen.growing]
    return max(0.0, sum(extra) / len(extra)) if extra else 0.0


def _known(near: Near | None, aim: Aim, cap: float) -> bool:
    """Whether the crossing is known as well as was asked, from enough trials, or is above all that may be asked."""
    if near is None:
        return False
    one = near.crossing
    if one.sustained_rps >= cap:
        return near.trials >= 3
    return near.trials >= 8 and near.confirmed and one.high_rps - one.low_rps <= aim.precision * one.sustained_rps
