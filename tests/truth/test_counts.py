"""PROOFS T11: nothing is dropped in silence. 5 % resets, 5 % 500s, 2 % hangs planned by request: the counts match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from harness.proving import Prover, scenario, serving
from harness.recording import Recording
from harness.truth import ERROR, HANG, OK, RESET, Entry

TIMEOUT_S = 1.0
SERVICE_MS = 5


@pytest.fixture(scope="module")
def prover() -> Iterator[Prover]:
    with Prover() as prover:
        yield prover


def driven(prover: Prover, arrivals: str, level: float, duration_s: int, **more: bool) -> tuple[Recording, list[Entry]]:
    """What the load process told of a faulty server, and what the server knows. wait_s: there is time for the last."""
    asked = scenario(arrivals, level, duration_s, timeout_s=TIMEOUT_S, wait_s=SERVICE_MS / 1000 + 0.2, **more)
    with serving("faulty", SERVICE_MS, log=True) as server:
        recording = prover.drive(server.port, asked)
        return recording, server.end()


def check(recording: Recording, log: list[Entry], late_hangs: int) -> None:
    """late_hangs: how many may have been cut short by the end instead of by their time-out."""
    duration_s = recording.trial.scenario.duration_s
    counts = recording.counts("ping", range(duration_s))
    planned = Counter(entry.outcome for entry in log)
    assert counts.offered == len(log) > 500
    assert min(planned[outcome] for outcome in (ERROR, RESET, HANG)) > 5, "the plan was not carried out"
    assert counts.completed == planned[OK]
    assert counts.failed == planned[ERROR] + planned[RESET]
    assert counts.timed_out + counts.unfinished == planned[HANG]
    assert counts.unfinished <= late_hangs
    errors = {"status 500": planned[ERROR], "reset": planned[RESET], "timeout": counts.timed_out}
    assert recording.end.errors == errors
    # errors are never throughput, and have no latency; time-outs enter with the limit at least
    assert sum(row.finished for row in recording.rows if row.row == "ping") == planned[OK]
    service = recording.histogram("ping", "service", range(duration_s))
    assert service.n == planned[OK] + planned[HANG]
    overdue = int(service.counts[service.values_us >= TIMEOUT_S * 1e6 * 0.999].sum())  # a histogram's own precision
    assert overdue >= counts.timed_out
    assert int(service.counts[service.values_us < SERVICE_MS * 1000 * 0.999].sum()) == 0


def test_open_every_count_is_the_plans(prover: Prover) -> None:
    recording, log = driven(prover, "constant", 500, 2)
    assert len(log) == 1000
    assert Counter(entry.outcome for entry in log) == {OK: 880, ERROR: 50, RESET: 50, HANG: 20}
    check(recording, log, late_hangs=0)


def test_closed_every_count_is_the_plans(prover: Prover) -> None:
    recording, log = driven(prover, "closed", 16, 3)
    last = max(entry.arrived for entry in log)
    check(recording, log, late_hangs=sum(entry.outcome == HANG and entry.arrived > last - 0.2 for entry in log))


def test_without_keep_alive_every_count_is_the_plans(prover: Prover) -> None:
    recording, log = driven(prover, "constant", 500, 2, keep_alive=False)
    check(recording, log, late_hangs=0)


def test_a_server_without_faults_has_none(prover: Prover) -> None:
    """The control: a server without faults has none, and no request too many."""
    with serving("delay", SERVICE_MS, log=True) as server:
        recording = prover.drive(server.port, scenario("constant", 600, 1, timeout_s=TIMEOUT_S))
        log = server.end()
    assert recording.counts("ping", range(1)) == (600, 600, 0, 0, 0)
    assert len(log) == 600
    assert recording.end.errors == {}
