"""One Trial as a search sees it. In: its Recording. Out: a `Seen`. Pure.

Whatever was lost counts as slower than any limit, and enters the quantiles as the longest that anybody waits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from harness.capacity.search import Seen
from harness.capacity.slo import limits, thresholds
from harness.evidence import Evidence, evidence
from harness.histogram import Histogram
from harness.physics import VOID, Verdict, ceilings, weigh
from harness.recording import Counts, Recording
from harness.trial import Slo

QUANTILES = (0.5, 0.9, 0.99)
NEAR = 0.6  # of a ceiling: what is this near to it waits for it, in a random order of arrivals
GREW = 0.1  # of the arrivals are still in the queue: more than the scatter of any that keeps up
GENERATOR_BUSY, NEAR_CEILING = 0.9, 0.7  # as the gates of physics have it


def seen_of(recording: Recording, slos: Sequence[Slo], seconds: float, *, given_up: bool = False) -> Seen:
    """What the search is told. seconds: what it took of the budget; given_up: it was ended early as a queue grew."""
    evident = evidence(recording)
    verdict = weigh(evident)
    names = list(dict.fromkeys(part.row for part in recording.trial.scenario.mix))
    times = Histogram.merged(recording.histogram(name, "response") for name in names)
    counts = Counts(*map(sum, zip(*(recording.counts(name) for name in names), strict=True)))
    over = {ms: share_over(times, counts, ms, recording.trial.scenario.drain_s * 1000) for ms in thresholds(slos)}
    longest_ms = recording.trial.scenario.timeout_s * 1000
    limited_by, reason = limit(recording, verdict)
    seen = Seen(
        rate_rps=recording.trial.level,
        offered=counts.offered,
        bad=counts.offered - counts.completed,
        over=over,
        quantiles_ms={q: quantile_ms(times, counts, q, longest_ms) for q in QUANTILES},
        tail=times.n,
        growing=given_up or growing(recording, slos),
        completed_rps=evident.throughput_rps,
        seconds=seconds,
        limited_by=limited_by,
        reason=reason,
    )
    return replace(seen, fault=fault(evident, verdict, holds=all(held(seen, slo) for slo in slos)))


def share_over(times: Histogram, counts: Counts, limit_ms: float, drain_ms: float) -> float:
    """The share of the arrivals that were not answered within the limit.

    What was given up unfinished stands among the times with its age; where that may be below the limit (longer than
    the drain), it is taken for slow, as nobody knows.
    """
    within = times.n - round(times.n * times.share_above(limit_ms * 1000))
    within -= counts.unfinished if limit_ms >= drain_ms else 0
    return 1 - min(max(within, 0), counts.completed) / counts.offered if counts.offered else 0.0


def quantile_ms(times: Histogram, counts: Counts, q: float, longest_ms: float) -> float:
    """At nearest rank among all arrivals; what failed has no time, and counts as the longest. Nothing offered: 0."""
    lost = counts.offered - times.n
    rank = math.ceil(round(q * counts.offered, 6))
    if not counts.offered:
        return 0.0
    if rank > counts.offered - max(lost, 0) or not times.n:
        return max(longest_ms, times.max_us / 1000 if times.n else 0.0)
    return times.quantile_us(min(rank / times.n, 1.0)) / 1000


def held(seen: Seen, slo: Slo) -> bool:
    """Whether this Trial alone held the SLO, without any doubt."""
    bad = seen.bad / seen.offered if seen.offered else 1.0
    in_time = all(seen.over[ms] <= 1 - q for q, ms in limits(slo).items())
    return in_time and (slo.errors is None or bad <= slo.errors)


def backlog(recording: Recording) -> list[int]:
    """Arrivals that have not ended by the end of each second: due until then, without those answered or lost by it."""
    names = list(dict.fromkeys(part.row for part in recording.trial.scenario.mix))
    found, inside = [], 0
    for second in range(recording.trial.scenario.duration_s):
        rows = [row for name in names for row in recording.within(name, (second,))]
        inside += sum(row.offered - row.finished - row.failed for row in rows)
        found.append(inside)
    return found


def growing(recording: Recording, slos: Sequence[Slo]) -> bool:
    """Whether the queue grew all through the measured seconds, and by their end alone broke every promise."""
    queue, window = backlog(recording), recording.window
    begin, end = queue[window.start - 1] if window.start else 0, queue[-1]
    arrivals = recording.trial.level * len(window)
    shortest_s = min((ms for slo in slos for ms in limits(slo).values()), default=1000.0) / 1000
    too_long = recording.trial.level * (shortest_s + recording.trial.scenario.wait_s)
    return end - begin > GREW * arrivals and end > too_long and end > 2 * begin


def limit(recording: Recording, verdict: Verdict) -> tuple[str, str]:
    """What limits the server near this rate, in a word and a sentence: what the verdict says, or the nearest ceiling.

    A queue misses a promise before its server is full: so a ceiling is named from 60 % of it on.
    """
    if verdict.limited_by not in ("none", "generator"):
        return verdict.limited_by, verdict.reason
    found = [one for one in ceilings(recording) if one.name != "client"]
    if found and recording.trial.level >= NEAR * found[0].rps:
        return found[0].name, found[0].sentence
    return verdict.limited_by, verdict.reason


def fault(evident: Evidence, verdict: Verdict, *, holds: bool) -> str:
    """Why this Trial says nothing about the server; empty where it does.

    A generator near its own limit spoils only what failed: its lateness can make a response longer, never shorter.
    """
    if verdict.name == VOID:
        nothing_came = verdict.limited_by == "none" and not evident.completed and not evident.throughput_rps
        return "" if nothing_came else verdict.reason
    if holds or verdict.limited_by != "generator":
        return ""
    busy = evident.generator_cpu_cores is not None and evident.generator_cpu_cores > GENERATOR_BUSY
    asked = evident.offered / evident.window_s
    beyond = evident.ceiling_rps is not None and asked > NEAR_CEILING * evident.ceiling_rps
    return verdict.reason if busy or beyond else ""
