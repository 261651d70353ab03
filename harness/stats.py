"""From Recordings to the answer's cells. In: Recordings. Out: Summaries: pooled percentiles, intervals, verdicts.

Percentiles are of merged histograms, never averages of percentiles. Intervals (`harness.intervals`) come from the
spread between independent Trials (samples inside one are correlated); one Trial has none, and so supports no claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from harness.evidence import evidence
from harness.histogram import Histogram
from harness.intervals import mean_interval, quantile_interval, quantile_ms
from harness.physics import SUSPECT, VALID, VOID, Verdict, judge, served
from harness.recording import Counts, Recording
from harness.warmup import over_trials


@dataclass(frozen=True)
class Summary:
    """One cell of the answer: the exported columns, in their order. None = not available, never 0."""

    variant: str
    scenario: str
    endpoint: str
    arrivals: str
    level: float
    lens: str
    repeats: int  # usable Trials; those that were VOID are not among them
    n: int  # samples behind the percentiles
    offered_rps: float
    users: int | None
    offered: int
    completed: int
    failed: int
    timed_out: int
    unfinished: int
    throughput_rps: float | None
    throughput_low_rps: float | None
    throughput_high_rps: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p99_low_ms: float | None
    p99_high_ms: float | None
    p999_ms: float | None
    service_p99_ms: float | None
    lateness_p99_ms: float | None
    cpu_ms_per_request: float | None
    rss_mb: float | None
    threads: int | None
    verdict: str
    limited_by: str
    reason: str


def columns(summary: Summary) -> dict[str, Any]:
    """One row of an export."""
    return asdict(summary)


def summarise(recordings: Iterable[Recording]) -> list[Summary]:
    """One Summary a (variant, scenario, level, endpoint), in order of scenario, level, endpoint, variant."""

    def cell(recording: Recording) -> tuple[str, float, str, str]:
        trial = recording.trial
        return trial.scenario.name, trial.level, trial.variant, trial.lens

    ordered = sorted(recordings, key=cell)
    rows = [summary for _, trials in groupby(ordered, key=cell) for summary in _cell(list(trials))]
    return sorted(rows, key=lambda row: (row.scenario, row.level, row.endpoint, row.variant))


def _cell(trials: list[Recording]) -> list[Summary]:
    verdicts = [judge(trial) for trial in trials]
    usable = [trial for trial, verdict in zip(trials, verdicts, strict=True) if verdict.name != VOID]
    verdict = combined(verdicts)
    shown = usable or trials
    asked = [part.row for part in trials[0].trial.scenario.mix]  # a cell without a row is still a cell
    names = dict.fromkeys([*(name for trial in shown for name in trial.names), *asked])
    return [
        _row(name, shown, _steady(name, shown, verdict) if usable else verdict, usable=bool(usable)) for name in names
    ]


def _steady(name: str, trials: list[Recording], verdict: Verdict) -> Verdict:
    """The verdict, with a sentence where Trials of this row were not steady (PROOFS T9): SUSPECT when most were not.

    A queue that an open load makes grow is never steady: that is a finding, and only said.
    """
    if ":" in name:
        return verdict
    found = over_trials(trials, name)
    if not found.unsteady:
        return verdict
    overloaded = trials[0].trial.scenario.arrivals != "closed" and not any(served(evidence(one)) for one in trials)
    doubtful = found.mostly_unsteady and not overloaded
    return Verdict(SUSPECT if doubtful else verdict.name, verdict.limited_by, f"{verdict.reason}; {found.sentence}")


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a cell: VOID only when every Trial is, else SUSPECT when any is.

    What limited it is the most frequent limit of the Trials that are beyond doubt, where there are any.
    """
    usable = [verdict for verdict in verdicts if verdict.name != VOID]
    if not usable:
        return verdicts[0]
    doubtful = [verdict for verdict in usable if verdict.name == SUSPECT]
    telling = [verdict for verdict in usable if verdict.name == VALID] or doubtful
    limit = Counter(verdict.limited_by for verdict in telling).most_common(1)[0][0]
    chosen = next(verdict for verdict in telling if verdict.limited_by == limit)
    reason = chosen.reason
    if doubtful and len(doubtful) < len(usable):
        doubt = doubtful[0].reason.removeprefix(f"{chosen.reason}; ")
        reason += f"; {len(doubtful)} of {len(usable)} trials SUSPECT: {doubt}"
    if voided := len(verdicts) - len(usable):
        reason += f" ({voided} of {len(verdicts)} trials VOID, left out)"
    return Verdict(SUSPECT if doubtful else VALID, chosen.limited_by, reason)


def _row(name: str, trials: list[Recording], verdict: Verdict, *, usable: bool) -> Summary:
    trial = trials[0].trial
    responses = [recording.histogram(name, "response") for recording in trials]
    pooled = Histogram.merged(responses)
    counts = Counts(*map(sum, zip(*(recording.counts(name) for recording in trials), strict=True)))
    p99 = quantile_interval(responses, 0.99) if usable else None
    throughput = mean_interval([recording.throughput_rps(name) for recording in trials]) if usable else None
    lateness = Histogram.merged(recording.histogram(name, "lateness") for recording in trials)
    resources = _resources(name, trials, usable)
    closed = trial.scenario.arrivals == "closed"
    return Summary(
        variant=trial.variant,
        scenario=trial.scenario.name,
        endpoint=name,
        arrivals=trial.scenario.arrivals,
        level=trial.level,
        lens=trial.lens,
        repeats=len(trials) if usable else 0,
        n=pooled.n,
        offered_rps=counts.offered / sum(len(recording.window) for recording in trials),
        users=int(trial.level) if closed else None,
        **counts._asdict(),
        throughput_rps=throughput and throughput.centre,
        throughput_low_rps=throughput and throughput.low,
        throughput_high_rps=throughput and throughput.high,
        p50_ms=quantile_ms(pooled, 0.5) if usable else None,
        p90_ms=quantile_ms(pooled, 0.9) if usable else None,
        p99_ms=p99 and p99.centre,
        p99_low_ms=p99 and p99.low,
        p99_high_ms=p99 and p99.high,
        p999_ms=quantile_ms(pooled, 0.999) if usable else None,
        service_p99_ms=_service_p99(name, trials) if usable else None,
        lateness_p99_ms=quantile_ms(lateness, 0.99),
        **resources,
        verdict=verdict.name,
        limited_by=verdict.limited_by,
        reason=verdict.reason,
    )


def _service_p99(name: str, trials: list[Recording]) -> float | None:
    return quantile_ms(Histogram.merged(recording.histogram(name, "service") for recording in trials), 0.99)


def _resources(name: str, trials: list[Recording], usable: bool) -> dict[str, Any]:
    """The server's CPU a completed request, its peak memory and threads; None where nothing was sampled."""
    samples = [sample for recording in trials for sample in recording.of("server")]
    memory = [sample.rss_mb for sample in samples if sample.rss_mb is not None]
    threads = [sample.threads for sample in samples if sample.threads is not None]
    requests = sum(row.finished for recording in trials for row in recording.within(name))
    # a mix shares the CPU among its endpoints: it cannot be told apart from outside
    alone = len({part.row for part in trials[0].trial.scenario.mix}) == 1 and ":" not in name
    cpu_s = sum(sample.cpu_s for sample in samples)
    return {
        "cpu_ms_per_request": cpu_s * 1000 / requests if samples and requests and alone and usable else None,
        "rss_mb": max(memory, default=None),
        "threads": max(threads, default=None),
    }
