"""The instrument proves itself. In: this machine, about 50 s. Out: a Certificate: two ceilings, and what must be true.

Everything is held against servers of known truth (harness.truth), on the servers' CPU, with the generator on its own.
A check of time that fails is looked at once more, and says so: the machine's hiccup is not the instrument's fault, a
failure twice is. CHECKUPS, the table at the end, holds the parts in their order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from harness.certificate import Certificate, Check
from harness.load import schedule
from harness.physics import STALL_S
from harness.proving import (
    ROW,
    Freeze,
    Prover,
    frozen_responses,
    quantile,
    scenario,
    served_s,
    serving,
    wrk_rps,
)
from harness.recording import Kind, Recording
from harness.truth import ERROR, HANG, OK, RESET

USERS = 32
LATENESS_MS = 1.0  # DESIGN: the open ceiling is the highest Poisson rate with lateness p99 ≤ 1 ms
FIRST_RPS, LEAST_RPS, MOST_RPS, NEAR = 16_000.0, 500.0, 128_000.0, 1.12
LOOKS_AGAIN_S = 40.0  # no second look that would end after this: the whole is to end within a minute
# Below these it is no better than what it is to replace: stock Locust's own ceiling, closed (FACTS §11)
CLOSED_LEAST, OPEN_LEAST = 10_000.0, 4_000.0
BUSY = "something else uses its CPU: end it (`gatebench doctor`), or take a machine that is not shared"
STOOD_STILL = "the machine itself stood still for up to {:.0f} ms, as virtual ones do: repeat it, or take another one"
WRONG = "a bug: please report it with this table; until then trust no number of this instrument"


@dataclass
class Found:
    """What the parts have found so far, and whom to tell how it goes."""

    prover: Prover
    say: Callable[[str], None]
    closed_rps: float = 0.0
    open_rps: float = 0.0
    wrk: float | None = None
    checks: list[Check] = field(default_factory=list)


def certify(say: Callable[[str], None] = lambda _line: None) -> Certificate:
    """Measures all of it, in about 50 s."""
    begin = time.monotonic()
    with Prover() as prover:
        found = Found(prover, say)
        for checkup in CHECKUPS:
            say(f"{time.monotonic() - begin:2.0f} s  {checkup.__doc__}")
            found.checks += _twice(checkup, found, begin + LOOKS_AGAIN_S)
    return Certificate(
        closed_ceiling_rps=round(found.closed_rps),
        open_ceiling_rps=round(found.open_rps),
        wrk_rps=found.wrk,
        checks=tuple(found.checks),
        ok=all(check.ok for check in found.checks),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begin, 1),
    )


Checkup = Callable[[Found], Iterator[Check]]


def _twice(checkup: Checkup, found: Found, deadline: float) -> list[Check]:
    """The part's checks; from a second look, if it would end before the deadline, where the first found fault."""
    begin = time.monotonic()
    checks = _looked_at(checkup, found)
    if all(check.ok for check in checks) or 2 * time.monotonic() - begin > deadline:
        return checks
    found.say(f"  once more: {'; '.join(check.name for check in checks if not check.ok)}")
    return [check.model_copy(update={"tries": 2}) for check in _looked_at(checkup, found)]


def _looked_at(checkup: Checkup, found: Found) -> list[Check]:
    """The part's checks; those of time that failed while the machine stood still say so."""
    found.prover.take_stall()
    checks = list(checkup(found))
    stalled_s = found.prover.take_stall()
    if stalled_s < STALL_S:
        return checks
    remedy = STOOD_STILL.format(1000 * stalled_s)
    return [check.model_copy(update={"remedy": remedy}) if check.remedy == BUSY else check for check in checks]


def _check(name: str, expected: str, measured: float, unit: str, remedy: str, *, ok: bool) -> Check:
    """Infinite is what has no sample: it is shown as not measured."""
    shown = round(measured, 3) if math.isfinite(measured) else None
    return Check(name=name, expected=expected, measured=shown, unit=unit, ok=ok, remedy=remedy)


def below(name: str, limit: float, measured: float, unit: str = "ms") -> Check:
    return _check(name, f"≤ {limit:g}", measured, unit, BUSY, ok=measured <= limit)


def least(name: str, limit: float, measured: float, unit: str = "/s") -> Check:
    return _check(name, f"≥ {limit:g}", measured, unit, BUSY, ok=measured >= limit)


def near(name: str, expected: float, measured: float, within: float, unit: str = "ms") -> Check:
    return _check(name, f"{expected:.2f} ± {within:.2g}", measured, unit, BUSY, ok=abs(measured - expected) <= within)


def same(name: str, expected: int, measured: int) -> Check:
    return _check(name, str(expected), measured, "requests", WRONG, ok=expected == measured)


def ms(recording: Recording, kind: Kind, q: float) -> float:
    histogram = recording.histogram(ROW, kind)
    return histogram.quantile_us(q) / 1000 if histogram.n else math.inf


# -- the parts -------------------------------------------------------------------------------------------------------


def closed_ceiling(found: Found) -> Iterator[Check]:
    """closed ceiling: 32 connections, as fast as they can"""
    with serving("canned") as known:
        recording = found.prover.drive(known.port, scenario("closed", USERS, 3, warmup_s=1))
        found.wrk = wrk_rps(known.port)
    found.closed_rps = max(found.closed_rps, recording.throughput_rps(ROW))
    yield least("closed ceiling", CLOSED_LEAST, found.closed_rps)


def open_ceiling(found: Found) -> Iterator[Check]:
    """open ceiling: the highest Poisson rate with lateness p99 ≤ 1 ms"""
    with serving("canned") as known:

        def late(rate: float) -> Late:
            late = lateness_at(found.prover, known.port, rate)
            found.say(f"  {rate:,.0f}/s: lateness p99 {late.p99_ms:.2f} ms")
            return late

        found.open_rps = max(found.open_rps, highest(late))
    yield least("open ceiling", OPEN_LEAST, found.open_rps)


class Late(NamedTuple):
    """How late a generator was at one rate; infinite where nothing was sent."""

    p50_ms: float
    p99_ms: float


def lateness_at(prover: Prover, port: int, rate: float) -> Late:
    recording = prover.drive(port, scenario("poisson", rate, 2, warmup_s=1, timeout_s=1.0))
    return Late(ms(recording, "lateness", 0.5), ms(recording, "lateness", 0.99))


def highest(late: Callable[[float], Late]) -> float:
    """The highest rate that is kept on time: doubled or halved, then bisected until 12 % apart; 0 where none is.

    A rate at which only the tail is late is asked once more: a machine that takes the CPU away for 50 ms is no ceiling
    of the generator; one that is overloaded is late at the median, too.
    """

    def holds(rate: float) -> bool:
        first = late(rate)
        return first.p99_ms <= LATENESS_MS or (first.p50_ms <= LATENESS_MS and late(rate).p99_ms <= LATENESS_MS)

    low, high = 0.0, FIRST_RPS
    if holds(high):
        while high < MOST_RPS and (not low or holds(high)):
            low, high = high, 2 * high
    else:
        low = high / 2
        while not holds(low):
            low, high = low / 2, low
            if low < LEAST_RPS:
                return 0.0
    while high / low > NEAR:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def floor(found: Found) -> Iterator[Check]:
    """floor latency: one user"""
    with serving("canned") as known:
        recording = found.prover.drive(known.port, scenario("closed", 1, 2, warmup_s=1))
    yield below("floor latency p50", 0.5, ms(recording, "service", 0.5))


def lateness(found: Found) -> Iterator[Check]:
    """lateness at 20, 50 and 70 % of the open ceiling"""
    with serving("canned") as known:
        for share, p50, p99 in ((0.2, 0.2, 0.5), (0.5, 0.2, 0.5), (0.7, 0.2, LATENESS_MS)):
            rate = max(share * found.open_rps, 100)
            recording = found.prover.drive(known.port, scenario("poisson", rate, 2, warmup_s=1))
            yield below(f"lateness p50 at {share:.0%}", p50, ms(recording, "lateness", 0.5))
            yield below(f"lateness p99 at {share:.0%}", p99, ms(recording, "lateness", 0.99))


def freeze(found: Found) -> Iterator[Check]:
    """freeze: 10 s at 500/s, the server stopped for 1 s"""
    rate, duration_s, delay_ms = 500, 10, 5
    with serving("delay", delay_ms) as known:
        stop = Freeze(known.process.pid, 4.0, 1.0)
        recording = found.prover.drive(known.port, scenario("constant", rate, duration_s), started=stop.begin)
        stop.join()
    times = schedule.draw("constant", rate, duration_s, 1)
    truth = frozen_responses(times, delay_ms / 1000, stop.stopped, stop.continued)
    yield near("freeze p99", 1000 * quantile(truth, 0.99), ms(recording, "response", 0.99), 5)
    yield near("freeze p50", 1000 * quantile(truth, 0.5), ms(recording, "response", 0.5), 2)


def distributions(found: Found) -> Iterator[Check]:
    """two known distributions, against the server's own log of the same run"""
    for model, numbers in (("mm1", (500.0,)), ("bimodal", (2.0, 40.0, 0.05))):
        with serving(model, *numbers, log=True) as known:
            recording = found.prover.drive(known.port, scenario("poisson", 300, 3))
            log = known.end()
        times = served_s(log)
        for q in (0.5, 0.99):
            truth = 1000 * quantile(times, q)
            yield near(f"{model} p{100 * q:g}", truth, ms(recording, "service", q), max(2, 0.02 * truth))
        yield same(f"{model} requests", len(log), recording.counts(ROW).offered)


def planned_errors(found: Found) -> Iterator[Check]:
    """counts exact under planned errors"""
    asked = scenario("constant", 500, 2, timeout_s=0.5, warmup_s=0)
    with serving("faulty", 2.0, log=True) as known:
        recording = found.prover.drive(known.port, asked)
        outcomes = [entry.outcome for entry in known.end()]
    counts, errors = recording.counts(ROW), recording.end.errors
    yield same("answered", outcomes.count(OK), counts.completed)
    yield same("status 500", outcomes.count(ERROR), errors.get("status 500", 0))
    yield same("resets", outcomes.count(RESET), errors.get("reset", 0))
    yield same("never answered", outcomes.count(HANG), counts.timed_out + counts.unfinished)
    yield same("sum of all", schedule.draw("constant", 500, 2, 1).size, sum(counts[1:]))


CHECKUPS: tuple[Checkup, ...] = (
    closed_ceiling,
    open_ceiling,
    floor,
    lateness,
    freeze,
    distributions,
    planned_errors,
)
