"""The generator alone. In: a URL of this machine and a load. Out: counts, percentiles and a verdict, as plain data."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness import facts
from harness.errors import EnvironmentFault, UsageError
from harness.histogram import Histogram
from harness.load.order import Order, Progress
from harness.load.process import Generator
from harness.physics import judge
from harness.recording import End, Head, Kind, Recording, Row
from harness.targets import Target, parse
from harness.trial import Part, Scenario, Subject, Trial

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999, "max": 1.0}
KINDS: tuple[Kind, ...] = ("response", "service", "lateness", "blocked")


def load(
    url: str,
    *,
    rate: float | None,
    users: int | None,
    duration: int,
    arrivals: Literal["poisson", "constant"],
    timeout: float,
    connections: int,
    seed: int,
) -> dict[str, Any]:
    """Drives the URL and answers what `--json` prints. Raises UsageError for a target that may not be loaded."""
    if rate is not None and users is not None:
        raise UsageError("--rate is an open load and --users a closed one; give one of them")
    target = parse(url)
    scenario = Scenario(
        name="load",
        question=f"How does {target.host}:{target.port} answer?",
        arrivals="closed" if rate is None else arrivals,
        mix=(Part(endpoint=target.row, query=target.query[:512]),),
        users=(users or 32,) if rate is None else (),
        rates=() if rate is None else (rate,),
        duration_s=duration,
        warmup_s=min(1, duration - 1),
        timeout_s=timeout,
        connections=connections,
    )
    trial = Trial(variant="url", scenario=scenario, level=scenario.levels[0], repeat=0, seed=seed)
    return told(_drive(trial, target))


def _drive(trial: Trial, target: Target) -> Recording:
    _, generator_cpus = facts.cpu_sets()
    subject = Subject(name="url", family="unknown", interface="unknown", server="unknown", framework="unknown")
    with tempfile.TemporaryDirectory(prefix="gatebench-") as scratch, Generator(generator_cpus) as generator:
        rows = Path(scratch) / "rows.jsonl"
        order = Order(
            scenario=trial.scenario,
            level=trial.level,
            seed=trial.seed,
            host=target.host,
            port=target.port,
            targets=(target.path,),
            expected=(None,),
            rows=str(rows),
        )
        started_at = datetime.now(UTC).isoformat()
        generator.send(order)
        last = _follow(generator, trial.scenario)
        recorded = tuple(Row.model_validate(json.loads(line)["row"]) for line in rows.read_text().splitlines())
    end = End(
        outcome="complete",
        loaded_s=last.loaded_s,
        errors=last.errors,
        started_late=last.started_late,
        not_started=last.not_started,
    )
    head = Head(trial=trial, subject=subject, facts={}, started_at=started_at, generator_cpus=tuple(generator_cpus))
    return Recording(head, recorded, (), end)


def _follow(generator: Generator, scenario: Scenario) -> Progress:
    deadline = time.monotonic() + scenario.duration_s + scenario.timeout_s + 5
    while time.monotonic() < deadline:
        progress = generator.progress(0.2)
        if progress is not None and progress.state == "done":
            return progress
        if progress is not None and progress.state == "failed":
            raise EnvironmentFault(f"the load process failed: {progress.reason.strip().splitlines()[-1]}")
    raise EnvironmentFault("the load process did not end in time")


def told(recording: Recording) -> dict[str, Any]:
    """What `load --json` prints: rates, counts, percentiles in whole µs (None = no samples), errors, verdict."""
    name = recording.trial.scenario.mix[0].endpoint
    counts = recording.counts(name)
    verdict = judge(recording)
    return {
        "offered_rps": counts.offered / len(recording.window),
        "achieved_rps": recording.throughput_rps(name),
        **counts._asdict(),
        **{f"{kind}_us": _marks(recording.histogram(name, kind)) for kind in KINDS},
        "errors": recording.end.errors,
        "arrivals": recording.trial.scenario.arrivals,
        "verdict": verdict.name,
        "limited_by": verdict.limited_by,
        "reason": verdict.reason,
    }


def _marks(histogram: Histogram) -> dict[str, int | None]:
    marks: dict[str, int | None] = {
        mark: histogram.quantile_us(q) if histogram.n else None for mark, q in QUANTILES.items()
    }
    return marks | {"n": histogram.n}
