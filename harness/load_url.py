"""The generator alone. In: a URL of this machine and a load. Out: counts, percentiles and a verdict, as plain data."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from harness import facts
from harness.errors import EnvironmentFault, Interrupted, NothingUsable, UsageError
from harness.hgrm import bars, hgrm
from harness.histogram import Histogram, samples_needed
from harness.limits import check_descriptors
from harness.load import schedule
from harness.load.order import Fleet, Order, Progress
from harness.load.process import Generator, fleet_of
from harness.physics import VOID, Verdict, judge
from harness.recording import End, Head, Kind, Outcome, Recording, read_rows, write_whole
from harness.run import signals
from harness.targets import Target, parse
from harness.trial import Part, Scenario, Subject, Trial

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999, "max": 1.0}
LAST_WORDS_S = 2.0  # how long the generator may take to end a load that was interrupted
KINDS: tuple[Kind, ...] = ("response", "service", "lateness", "blocked")


class Driven(NamedTuple):
    """What was recorded. stopped: the exit code of the signal that ended it early, 0 = none did."""

    recording: Recording
    stopped: int


def load(url: str, **asked: Any) -> dict[str, Any]:
    """Drives the URL and answers what `--json` prints; see `drive`."""
    return told(drive(url, **asked).recording)


def drive(
    url: str,
    *,
    rate: float | None,
    users: int | None,
    duration: int,
    arrivals: str,
    timeout: float,
    connections: int,
    seed: int,
    shape: Sequence[str] = (),
    processes: int = 1,
    workers: int = 0,
    bind: str | None = None,
) -> Driven:
    """Drives the URL. Raises UsageError for a target that may not be loaded, or a shape that `arrivals` does not have.

    shape: what a scenario file says in `shape`, as `key=value`; see `harness.load.schedule.shape_of`.
    processes, workers, bind: who makes the load, see `harness.load.order.Fleet`.

    A signal ends it: what was measured until then is kept, as if it had been asked for that long.
    """
    if rate is not None and users is not None:
        raise UsageError("--rate is an open load and --users a closed one; give one of them")
    target = parse(url)
    pattern = "closed" if rate is None else arrivals
    scenario = Scenario(
        name="load",
        question=f"How does {target.host}:{target.port} answer?",
        arrivals=pattern,
        shape=_shape(pattern, shape),
        mix=(Part(endpoint=target.row, query=target.query[:512]),),
        users=(users or 32,) if rate is None else (),
        rates=() if rate is None else (rate,),
        duration_s=duration,
        warmup_s=min(1, duration - 1),
        timeout_s=timeout,
        connections=connections,
    )
    check_descriptors([scenario])
    trial = Trial(variant="url", scenario=scenario, level=scenario.levels[0], repeat=0, seed=seed)
    return _drive(trial, target, fleet_of(processes, workers, bind))


def _shape(pattern: str, words: Sequence[str]) -> schedule.Shape:
    try:
        shape = schedule.shape_of(words)
        if shape and pattern == "closed":
            raise ValueError("arrivals = 'closed' takes no shape; --rate makes it open")
        if pattern != "closed":
            schedule.check(pattern, shape)
    except ValueError as error:
        raise UsageError(f"--shape: {error}") from None
    return shape


def _drive(trial: Trial, target: Target, fleet: Fleet) -> Driven:
    _, generator_cpus = facts.cpu_sets(processes=fleet.processes)
    with Generator(generator_cpus, fleet) as generator:
        found = driven(trial, target, generator, generator_cpus)
    return found._replace(recording=shortened(found.recording)) if found.stopped else found


def driven(
    trial: Trial,
    target: Target,
    generator: Generator,
    generator_cpus: frozenset[int],
    machine: Mapping[str, Any] = MappingProxyType({}),
) -> Driven:
    """One Trial against the URL, by a generator that runs. machine: the facts that its Recording is to keep.

    An interrupted one is whole: what never came is in it as failed. Raises EnvironmentFault for a broken generator.
    """
    subject = Subject(name="url", family="unknown", interface="unknown", server="unknown", framework="unknown")
    with tempfile.TemporaryDirectory(prefix="gatebench-") as scratch:
        rows = Path(scratch) / "rows.jsonl"
        order = Order(
            scenario=trial.scenario,
            level=trial.level,
            seed=trial.seed,
            host=target.host,
            name=target.name,
            port=target.port,
            targets=(target.path,),
            expected=(None,),
            rows=str(rows),
        )
        started_at = datetime.now(UTC).isoformat()
        generator.send(order)
        last, interrupted = _follow(generator, trial.scenario)
        recorded = tuple(read_rows(rows))
    outcome: Outcome = "interrupted" if interrupted else "generator_failed" if last.spoilt else "complete"
    end = End(
        outcome=outcome,
        reason=str(interrupted or last.spoilt),
        loaded_s=max(last.loaded_s, 0.0),
        errors=last.errors,
        started_late=last.started_late,
        not_started=last.not_started,
        notes=last.notes,
    )
    cpus = tuple(generator_cpus)
    head = Head(trial=trial, subject=subject, facts=dict(machine), started_at=started_at, generator_cpus=cpus)
    return Driven(Recording(head, recorded, (), end), interrupted.exit_code if interrupted else 0)


def shortened(recording: Recording) -> Recording:
    """One that was interrupted, as if it had been asked for the whole seconds that passed: the others never came."""
    seconds = int(recording.end.loaded_s)
    if seconds < 1:
        raise NothingUsable("interrupted before a second had passed: n/a")
    trial, end = recording.trial, recording.end
    update = {"duration_s": seconds, "warmup_s": min(trial.scenario.warmup_s, seconds - 1)}
    trial = trial.model_copy(update={"scenario": trial.scenario.model_copy(update=update)})
    kept = tuple(row for row in recording.rows if row.second < seconds)
    later = [row for row in recording.rows if row.second >= seconds]
    cut = Counter(interrupted=sum(row.failed for row in later))
    end = end.model_copy(
        update={
            "errors": dict(Counter(end.errors) - cut),
            "not_started": max(end.not_started - sum(row.offered for row in later), 0),
        }
    )
    return replace(recording, head=recording.head.model_copy(update={"trial": trial}), rows=kept, end=end)


def _follow(generator: Generator, scenario: Scenario) -> tuple[Progress, Interrupted | None]:
    """To its end, or to the end that a signal asked for."""
    deadline = time.monotonic() + scenario.given_up_s
    stopped: Interrupted | None = None
    with signals():
        while time.monotonic() < deadline:
            try:
                progress = generator.progress(0.2)
            except Interrupted as interrupted:
                stopped, deadline = interrupted, time.monotonic() + LAST_WORDS_S
                generator.stop("interrupted")
                continue
            if progress is not None and progress.state in ("done", "failed"):
                return _last(progress), stopped
    raise EnvironmentFault("the load process did not end in time")


def _last(progress: Progress) -> Progress:
    if progress.refused:
        raise UsageError(progress.reason)
    if progress.state == "failed":
        raise EnvironmentFault(f"the load process failed: {progress.reason.strip().splitlines()[-1]}")
    return progress


def told(recording: Recording) -> dict[str, Any]:
    """What `load --json` prints: rates, counts, percentiles in whole µs (None = no samples), errors, verdict."""
    name = recording.trial.scenario.mix[0].endpoint
    counts = recording.counts(name)
    verdict = verdict_of(recording)
    return {
        "offered_rps": counts.offered / len(recording.window),
        "achieved_rps": recording.throughput_rps(name),
        **counts._asdict(),
        **{f"{kind}_us": _marks(recording.histogram(name, kind)) for kind in KINDS},
        "response_histogram_us": [list(bar) for bar in bars(responses(recording))],
        "errors": recording.end.errors,
        "arrivals": recording.trial.scenario.arrivals,
        "outcome": recording.end.outcome,
        "verdict": verdict.name,
        "limited_by": verdict.limited_by,
        "reason": verdict.reason,
    }


def responses(recording: Recording) -> Histogram:
    """The response times of whole calls."""
    return recording.histogram(recording.trial.scenario.mix[0].endpoint, "response")


def write_hgrm(recording: Recording, path: Path) -> None:
    """Response times as HdrHistogram's plotters read them. Raises EnvironmentFault when the disk does not take it."""
    write_whole(path, hgrm(responses(recording)).encode())


def verdict_of(recording: Recording) -> Verdict:
    """PROOFS T12: no verdict without data. One that was interrupted is judged by what it has."""
    judged = recording
    if recording.end.outcome == "interrupted":
        judged = replace(recording, end=recording.end.model_copy(update={"outcome": "complete", "reason": ""}))
    verdict, n = judge(judged), responses(recording).n
    if verdict.name != VOID and n < samples_needed(0.5):
        return Verdict(VOID, "none", f"n/a: {n} answers name no percentile; a median needs {samples_needed(0.5)}")
    return verdict


def _marks(histogram: Histogram) -> dict[str, int | None]:
    """Percentiles, None where there are too few samples to name one."""
    enough = {mark: histogram.n >= samples_needed(q) if q < 1 else histogram.n > 0 for mark, q in QUANTILES.items()}
    marks = {mark: histogram.quantile_us(q) if enough[mark] else None for mark, q in QUANTILES.items()}
    return marks | {"n": histogram.n}
