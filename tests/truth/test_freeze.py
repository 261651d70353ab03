"""PROOFS T1 and fault 5: a server that froze for a second is reported as it was, and as no generator that waits can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import evidence
from harness.load import schedule
from harness.physics import judge
from harness.proving import ROW, Freeze, Prover, frozen_responses, quantile, scenario, serving
from harness.recording import Recording
from harness.trial import Arrivals

if TYPE_CHECKING:  # the plugin itself is imported by pytest, which rewrites its assertions
    from tests.quietness import Quiet

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

RATE, DURATION_S, DELAY_S, AT_S, FOR_S = 500, 30, 0.005, 12.3, 1.0


def frozen(prover: Prover, arrivals: Arrivals, level: float, duration_s: int = DURATION_S) -> tuple[Recording, Freeze]:
    with serving("delay", 1000 * DELAY_S) as known:
        freeze = Freeze(known.process.pid, AT_S if duration_s == DURATION_S else 3.3, FOR_S)
        recording = prover.drive(known.port, scenario(arrivals, level, duration_s), started=freeze.begin)
    return recording, freeze.join()


def test_the_p99_of_a_freeze_is_the_computed_one(prover: Prover, quiet: Quiet) -> None:
    """The expectation comes from the schedule and the logged moments of STOP and CONT: about 706 ms."""

    def proof() -> None:
        recording, freeze = frozen(prover, "constant", RATE)
        times = schedule.draw("constant", RATE, DURATION_S, 1)
        truth = frozen_responses(times, DELAY_S, freeze.stopped, freeze.continued)
        expected_ms = 1000 * quantile(truth, 0.99)
        response = recording.histogram(ROW, "response")
        p50_ms, p99_ms = (response.quantile_us(q) / 1000 for q in (0.5, 0.99))
        print(f"p99 {p99_ms:.1f} ms, computed {expected_ms:.1f} ms; p50 {p50_ms:.2f} ms")
        assert 700 < expected_ms < 716
        assert abs(p99_ms - expected_ms) <= 5
        assert p50_ms < 15
        counts = recording.counts(ROW)
        assert counts == (RATE * DURATION_S, RATE * DURATION_S, 0, 0, 0)
        _visible(recording, freeze)
        assert judge(recording).limited_by != "generator", judge(recording).reason

    quiet.proved(proof)


def _visible(recording: Recording, freeze: Freeze) -> None:
    """By the second: nothing is answered while it is stopped, all that came meanwhile afterwards."""
    finished = dict.fromkeys(range(DURATION_S + 2), 0)
    worst = dict.fromkeys(range(DURATION_S), 0)
    for row in recording.rows:
        if row.row == ROW:
            finished[row.second] += row.finished
            if (response := row.histogram("response")) is not None:
                worst[row.second] = max(worst[row.second], response.max_us)
    stopped, continued = int(freeze.stopped), int(freeze.continued)
    assert continued == stopped + 1
    assert finished[stopped] == pytest.approx(RATE * (freeze.stopped - stopped), abs=10)
    assert finished[continued] == pytest.approx(RATE * (2 - freeze.stopped + stopped), abs=10)
    assert worst[stopped] > 950_000
    assert worst[continued] > 250_000
    assert all(us < 100_000 for second, us in worst.items() if second not in (stopped, continued)), worst


def test_a_closed_loop_hides_the_freeze_and_says_what_it_omitted(prover: Prover, quiet: Quiet) -> None:
    """20 users: 20 of some 20 000 calls see it, so p99 can't; the arrivals that never came are counted instead."""

    def proof() -> None:
        recording, freeze = frozen(prover, "closed", 20, duration_s=8)
        assert evidence(recording).closed
        response = recording.histogram(ROW, "response")
        assert response.quantile_us(0.99) < 50_000
        assert response.max_us == pytest.approx(1e6 * (freeze.continued - freeze.stopped), rel=0.03)
        best = max(row.finished for row in recording.rows if row.row == ROW)
        print(f"omitted {recording.end.omitted}, the best second {best}")
        assert recording.end.omitted >= 0.95 * best, "about one second's worth was never asked"

    quiet.proved(proof)
