"""One Trial from start to end. In: a Trial, a running server, the generator. Out: its Recording."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apps.endpoints import BYTES, ENDPOINTS, expected_body
from harness import conformance
from harness.conformance import written
from harness.errors import Interrupted, ServerFailed
from harness.facts import kernel_counters
from harness.load.order import Order, Progress
from harness.load.process import Generator
from harness.recording import End, Head, Model, Outcome, Recording, Row, Sample, read_rows
from harness.serve.backends import Server, at_rest, claimed, epitaph, networks, runs_as, watched
from harness.serve.postgres import Database, claims, differences
from harness.serve.sampler import Sampler, unique_mb
from harness.traces import Tracer
from harness.trial import Part, Subject, Trial

POLL_S = 0.1
LAST_WORDS_S = 2.0  # how long the generator may take to end a Trial that was stopped


@dataclass(frozen=True)
class Bench:
    """What all Trials of a Run share: the machine's facts, who runs where, whom to tell of each passed second."""

    facts: Mapping[str, Any]
    server_cpus: frozenset[int]
    generator_cpus: frozenset[int]
    tick: Callable[[], None]
    ceilings: Mapping[Model, float] = field(default_factory=dict)  # the generator's own, by its certificate
    database: Database | None = None
    tracer: Tracer | None = None


def subject_of(server: Server) -> Subject:
    """The variant's row, copied into the Recording, with the command that really ran but for its port."""
    variant = server.variant
    return Subject(
        name=variant.name,
        family=variant.family,
        interface=variant.interface,
        server=variant.server,
        framework=variant.framework,
        command=runs_as(server),
        budget=asdict(variant.budget),
    )


def target(part: Part) -> str:
    path = ENDPOINTS[part.endpoint].path
    return f"{path}?{part.query}" if part.query else path


def expected_of(part: Part) -> str | None:
    """The right body of a reply or a download; None where none is known: documents differ from framework to framework,
    event streams and sockets are checked as they go, and a method of one's own may be answered anyhow."""
    row = ENDPOINTS[part.endpoint]
    known = row.kind == "reply" or (row.kind == "stream" and row.content_type == BYTES)
    asked_right = part.method == row.method or (part.method, row.method) == ("HEAD", "GET")
    return expected_body(part.endpoint, part.query, part.body.encode()).decode() if known and asked_right else None


def _expected_from(server: Server, part: Part) -> str | None:
    """`expected_of`; of a document the bytes of this very server, once they have been found equal in value and type."""
    row = ENDPOINTS[part.endpoint]
    if row.kind == "document" and part.method == row.method:
        return written(server.address, target(part)).decode()
    return expected_of(part)


def order_of(trial: Trial, server: Server, rows: Path, tracer: Tracer | None = None) -> Order:
    """The Trial as the load process is told it, with the right body of every reply that has one."""
    traced: dict[str, Any] = {"trace": str(tracer.folder), "first_id": tracer.first_id()} if tracer else {}
    return Order(
        scenario=trial.scenario,
        level=trial.level,
        seed=trial.seed,
        host=server.address[0],
        port=server.address[1],
        targets=tuple(map(target, trial.scenario.mix)),
        expected=tuple(_expected_from(server, part) for part in trial.scenario.mix),
        rows=str(rows),
        **traced,
    )


def measure(trial: Trial, server: Server, generator: Generator, bench: Bench, attempt: int = 0) -> Recording:
    """Measures one Trial. A server's death, an interrupt and a dead generator end it early and stand in its `end`."""
    generator.ensure()
    started_at, before = datetime.now(UTC).isoformat(), kernel_counters(*networks(server))
    counted = bench.database.counts() if bench.database else None
    with tempfile.TemporaryDirectory(prefix="gatebench-") as scratch:
        rows = Path(scratch) / "rows.jsonl"
        order = order_of(trial, server, rows, bench.tracer)
        generator.send(order)
        end, samples, origin = _watch(trial, server, generator, bench)
        recorded = tuple(read_rows(rows))
    after = kernel_counters(*networks(server))
    head = Head(
        trial=trial,
        subject=subject_of(server),
        facts=bench.facts,
        started_at=started_at,
        server_cpus=tuple(sorted(bench.server_cpus)),
        generator_cpus=tuple(sorted(bench.generator_cpus)),
        attempt=attempt,
        ceilings=dict(bench.ceilings),
        database_cpus=tuple(sorted(bench.database.cpus)) if bench.database else (),
    )
    end = end.model_copy(
        update={
            "kernel": {name: after[name] - before[name] for name in after if after[name] > before.get(name, 0)},
            "omitted": omitted(trial, recorded),
        }
    )
    traces = bench.tracer.traces(trial, order.first_id, origin) if bench.tracer else ()
    recording = Recording(head, recorded, tuple(samples), end, traces)
    if bench.database is None or counted is None or not (asked := claims(recording)):
        return recording
    found = differences(counted, bench.database.counts(), asked)
    return replace(recording, end=end.model_copy(update={"uncounted": tuple(found)}))


def omitted(trial: Trial, rows: tuple[Row, ...]) -> int:
    """Arrivals that an open schedule, at the pace of the closed loop's best second, would have sent besides."""
    if trial.scenario.arrivals != "closed":
        return 0
    names = {part.row for part in trial.scenario.mix}
    seconds = range(trial.scenario.warmup_s, trial.scenario.duration_s)
    finished = dict.fromkeys(seconds, 0)
    for row in rows:
        if row.row in names and row.second in finished:
            finished[row.second] += row.finished
    return max(finished.values()) * len(finished) - sum(finished.values())


def _watch(trial: Trial, server: Server, generator: Generator, bench: Bench) -> tuple[End, list[Sample], float]:
    """Follows a Trial to its end, second by second; says why it ended, and when its first arrival was due."""
    scenario = trial.scenario
    # PROOFS, fault 6: whatever hangs, it ends by then
    deadline = time.monotonic() + scenario.given_up_s
    outcome: Outcome = "complete"
    reason = ""
    sampler: Sampler | None = None
    last: Progress | None = None
    uss: float | None = None
    origin = 0.0
    while last is None or last.state not in ("done", "failed"):
        try:
            last = generator.progress(POLL_S)
            if last is not None and last.state == "started":
                origin = last.origin
                sampler = _sampler(server, generator, bench, origin)
            elif last is not None and last.state == "second":
                bench.tick()
                uss = unique_mb(server.descendants()) if last.second == scenario.duration_s else uss
            if outcome == "complete" and not server.alive():
                outcome, reason = "server_died", epitaph(server, "it was measured")
                generator.stop("server died")
                deadline = time.monotonic() + LAST_WORDS_S
            if time.monotonic() > deadline:
                generator.close()
                last = Progress(state="failed", reason="the load process did not end in time")
        except Interrupted as interrupted:
            outcome, reason = "interrupted", str(interrupted)
            generator.stop("unfinished")
            deadline = time.monotonic() + LAST_WORDS_S
    if last.state == "failed" and outcome == "complete":
        outcome, reason = "generator_failed", last.reason
    elif last.spoilt and outcome == "complete":
        outcome, reason = "generator_failed", last.spoilt
    samples = sampler.close() if sampler else []
    end = End(
        outcome=outcome,
        reason=reason,
        loaded_s=max(last.loaded_s, 0.0),
        errors=last.errors,
        started_late=last.started_late,
        not_started=last.not_started,
        uss_mb=uss or None,
        restarts=sampler.restarts if sampler else 0,
        notes=last.notes,
    )
    return end, samples, origin


def _sampler(server: Server, generator: Generator, bench: Bench, origin: float) -> Sampler:
    finders = {
        "server": watched(server),
        "generator": generator.processes,
        "database": bench.database.watched if bench.database else None,
    }
    trees = {who: find for who, find in finders.items() if find is not None}
    return Sampler(trees, bench.server_cpus, bench.generator_cpus, origin, server.descendants)


def conforming(server: Server, name: str, *, full: bool) -> list[str]:
    """What a server that conforms was asked and answered. Raises ServerFailed for one that does not, or has ended."""
    findings = conformance.check(server.address, *claimed(server), full=full)
    if not server.alive():  # which its answers cannot tell: an end by the kernel looks like a hang-up
        raise ServerFailed(epitaph(server, "it was asked whether it conforms"))
    if refused := conformance.refusals(findings):
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise ServerFailed(f"{name} does not conform: {refused[0].sentence}{more}")
    return [finding.sentence for finding in findings]


def settled(server: Server, within_s: float = 1.5) -> bool:
    """Whether the server has done with the last Trial: nothing lives in it, and two probes are answered fast."""
    deadline = time.monotonic() + within_s
    fast = 0
    while fast < 2:
        begin = time.monotonic()
        try:
            idle = at_rest(server, within_s)
        except (OSError, ValueError, KeyError):
            idle = False
        if time.monotonic() > deadline:
            return False
        fast = fast + 1 if idle and time.monotonic() - begin < 0.03 else 0
        if not fast:
            time.sleep(0.02)
    return True
