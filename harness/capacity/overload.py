"""Overload and recovery. In: a capacity, or a Recording of such a load. Out: the load; what it did. Pure.

Half the capacity for a moment, then 150 % of it, then half of it again. Goodput is what users got in time: what was
answered later than the SLO allows was work for nobody. A server has recovered once every further second holds the SLO.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from harness.capacity.told import OVERLOADED
from harness.histogram import Histogram
from harness.recording import Recording
from harness.trial import Scenario, Slo

OVER, AFTER = 1.5, 0.5  # of capacity
PIECE_S, BEFORE, DURING, REST = 5, 1, 4, 8  # pieces of 5 s: 5 s, 20 s and 40 s
NAME = "overload"


@dataclass(frozen=True)
class Overload:
    """What became of one variant. Rates in arrivals a second, over the seconds of the overload.

    limit_ms: later than this is no goodput; None where the SLO names no time, and every answer counts. recovered_s:
    after the end of the overload; None: not within watched_s. mb: resident memory of the whole server, before and at
    most; None where it could not be seen.
    """

    variant: str
    scenario: str
    capacity_rps: float
    begin_s: int
    end_s: int
    limit_ms: float | None
    offered_rps: float
    throughput_rps: float
    goodput_rps: float
    lost: int
    before_mb: float | None
    peak_mb: float | None
    recovered_s: int | None
    watched_s: int

    @property
    def sentence(self) -> str:
        """What a reader wants to know, in a line."""
        seconds = self.end_s - self.begin_s
        told = f"{self.variant}, {self.offered_rps:,.0f}/s for {seconds} s where {self.capacity_rps:,.0f}/s are held: "
        told += f"{self.goodput_rps:,.0f}/s in time ({self.goodput_rps / self.capacity_rps:.0%} of the capacity)"
        if self.before_mb is not None and self.peak_mb is not None:
            told += f", memory {self.before_mb:,.0f} MB, at most {self.peak_mb:,.0f} MB"
        if self.recovered_s is None:
            return f"{told}; not recovered {self.watched_s} s later"
        return f"{told}; recovered {self.recovered_s} s after it" if self.recovered_s else f"{told}; recovered at once"


@dataclass(frozen=True)
class Second:
    """One second of arrivals: how many, how many of them were answered at all and in time, completions meanwhile."""

    second: int
    offered: int
    good: int
    bad: int
    finished: int
    holds: bool


def scenario_of(asked: Scenario, capacity_rps: float, slo: Slo) -> Scenario:
    """The same work as an overload of a server whose capacity is known. Raises ValueError for a capacity of nothing."""
    if not capacity_rps > 0:
        raise ValueError("an overload is a share of a capacity above 0")
    low = AFTER / OVER
    shape = (low,) * BEFORE + (1.0,) * DURING + (low,) * REST
    words = asked.model_dump(exclude={"users", "rates", "shape", "mix"})
    words |= {
        "name": f"{OVERLOADED}{asked.name}"[:64],
        "question": f"{OVER:.0%} of what {asked.name} holds for {PIECE_S * DURING} s: what is lost, and for how long?",
        "arrivals": "steps",
        "mix": asked.mix,
        "rates": (OVER * capacity_rps,),
        "shape": {"at": shape},
        "duration_s": PIECE_S * len(shape),
        "warmup_s": 1,
        "timeout_s": min(asked.timeout_s, 5.0),  # nobody waits for ever, and who waits holds a connection
        "slo": slo,
    }
    return Scenario.model_validate(words)


def is_overload(scenario: Scenario) -> bool:
    """Whether a scenario is one of these: `scenarios/overload.toml`, or made of another by `scenario_of`."""
    named = scenario.name.startswith(OVERLOADED) or scenario.name.partition("/")[0] == NAME
    return named and scenario.arrivals == "steps" and isinstance(scenario.shape.get("at"), Sequence)


def overloaded_s(scenario: Scenario) -> tuple[int, int]:
    """The seconds [begin, end) in which the highest rate of the steps is sent; the first such piece in a row."""
    at = scenario.shape.get("at")
    shares = list(at) if isinstance(at, Sequence) else [1.0]
    place = 0
    for share, pieces in groupby(shares):
        count = len(list(pieces))
        if share == max(shares):
            piece_s = scenario.duration_s / len(shares)
            return round(place * piece_s), round((place + count) * piece_s)
        place += count
    raise AssertionError("a maximum is one of its numbers")


def limit_of(slo: Slo) -> tuple[float, float | None]:
    """The quantile that the SLO speaks of, the farthest out, and its limit in ms; None where it names no time."""
    promised = ((0.99, slo.p99_ms), (0.9, slo.p90_ms), (0.5, slo.p50_ms))
    return next(((q, ms) for q, ms in promised if ms is not None), (1.0, None))


def seconds_of(recording: Recording, slo: Slo) -> list[Second]:
    """Each second of arrivals of the whole load, its warm-up included."""
    names = list(dict.fromkeys(part.row for part in recording.trial.scenario.mix))
    return [_second(recording, slo, names, second) for second in range(recording.trial.scenario.duration_s)]


def _second(recording: Recording, slo: Slo, names: Collection[str], second: int) -> Second:
    counts = [recording.counts(name, (second,)) for name in names]
    offered, completed = sum(one.offered for one in counts), sum(one.completed for one in counts)
    times = Histogram.merged(recording.histogram(name, "response", (second,)) for name in names)
    _, limit_ms = limit_of(slo)
    # what never came has the age at which it was given up among the times, which is above any limit worth keeping
    good = completed if limit_ms is None else min(completed, _within(times, limit_ms))
    bad = offered - completed
    promised = ((0.5, slo.p50_ms), (0.9, slo.p90_ms), (0.99, slo.p99_ms))
    late = all(_few(offered - _within(times, ms), 1 - q, offered) for q, ms in promised if ms is not None)
    finished = sum(row.finished for name in names for row in recording.within(name, (second,)))
    return Second(second, offered, good, bad, finished, late and _few(bad, slo.errors or 0.0, offered))


def _within(times: Histogram, limit_ms: float) -> int:
    return round(times.n * (1 - times.share_above(limit_ms * 1000)))


def _few(count: int, share: float, of: int) -> bool:
    """One is always too few to speak of a share: a second has some hundred arrivals."""
    return count <= max(1.0, share * of)


def overload_of(recording: Recording) -> Overload:
    """What the overload did. The capacity follows from the load, which is 150 % of it; the SLO is the scenario's."""
    trial, scenario = recording.trial, recording.trial.scenario
    begin, end = overloaded_s(scenario)
    seconds = seconds_of(recording, scenario.slo)
    during = seconds[begin:end]
    broken = [one.second for one in seconds[end:] if not one.holds]
    recovered = broken[-1] + 1 - end if broken else 0
    watched = scenario.duration_s - end
    memory = {one.second: one.rss_mb for one in recording.samples if one.who == "server" and one.rss_mb is not None}
    before = [mb for second, mb in memory.items() if second < begin]
    length = max(end - begin, 1)
    return Overload(
        variant=trial.variant,
        scenario=scenario.name,
        capacity_rps=trial.level / OVER,
        begin_s=begin,
        end_s=end,
        limit_ms=limit_of(scenario.slo)[1],
        offered_rps=sum(one.offered for one in during) / length,
        throughput_rps=sum(one.finished for one in during) / length,
        goodput_rps=sum(one.good for one in during) / length,
        lost=sum(one.bad for one in during),
        before_mb=max(before, default=None),
        peak_mb=max(memory.values(), default=None),
        recovered_s=recovered if recovered < watched else None,
        watched_s=watched,
    )
