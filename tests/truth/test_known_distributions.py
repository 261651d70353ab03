"""PROOFS T4: what is reported is what the server did, by its own log of the same run, request for request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.proving import ROW, Prover, quantile, scenario, served_s, serving
from harness.trial import Arrivals, Part
from tests.truth.crowd import crowd

if TYPE_CHECKING:  # the plugin itself is imported by pytest, which rewrites its assertions
    from tests.quietness import Quiet

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

QUANTILES = (0.5, 0.9, 0.99, 0.999)
RATE, DURATION_S = 1_200, 6  # enough for p99.9, in so short a time that a shared machine may stay quiet for it
MODELS = [("mm1", (1_800.0,)), ("mdc", (4.0, 2.5)), ("bimodal", (2.0, 50.0, 0.05))]


@pytest.mark.parametrize(("model", "numbers"), MODELS, ids=[model for model, _ in MODELS])
def test_reported_is_logged(model: str, numbers: tuple[float, ...], prover: Prover, quiet: Quiet) -> None:
    """Service against the time in the server: what lies between is the network's and the generator's own."""

    def proof() -> None:
        with serving(model, *numbers, log=True) as known:
            recording = prover.drive(known.port, scenario("poisson", RATE, DURATION_S), seed=7)
            log = known.end()
        counts = recording.counts(ROW)
        assert counts.offered == counts.completed == len(log) == len(served_s(log)) > 6_636  # enough for p99.9
        _close(recording.histogram(ROW, "service").quantile_us, served_s(log))
        _close(recording.histogram(ROW, "response").quantile_us, served_s(log))

    quiet.proved(proof)


def _close(reported_us: object, logged_s: list[float]) -> None:
    assert callable(reported_us)
    for q in QUANTILES:
        truth_ms, told_ms = 1000 * quantile(logged_s, q), reported_us(q) / 1000
        print(f"p{100 * q:g}: {told_ms:.2f} ms, logged {truth_ms:.2f} ms")
        assert abs(told_ms - truth_ms) <= max(2, 0.02 * truth_ms)
        assert told_ms > truth_ms - 0.1, "it can't be answered before the server answered"


@pytest.mark.parametrize(("arrivals", "level"), [("closed", 16), ("constant", 500)])
def test_ten_ms_in_the_server_move_the_median_by_ten(
    arrivals: Arrivals, level: float, prover: Prover, quiet: Quiet
) -> None:
    """PROOFS T6: + 10 ms moves p50 by 10 ± 0.5 ms."""

    def proof() -> None:
        medians = []
        for ms in (5, 15):
            with serving("delay", ms) as known:
                recording = prover.drive(known.port, scenario(arrivals, level, 5, warmup_s=1))
            medians.append(recording.histogram(ROW, "response").quantile_us(0.5) / 1000)
        print(f"p50 with 5 ms: {medians[0]:.3f} ms, with 15 ms: {medians[1]:.3f} ms")
        assert abs(medians[1] - medians[0] - 10) <= 0.5

    quiet.proved(proof)


@pytest.mark.parametrize("endpoint", ["sse", "ws"])
def test_reported_streams_and_sockets_are_logged(endpoint: str, prover: Prover, quiet: Quiet) -> None:
    """Cadence and echoes: each event's lateness, and each round trip, against the moments that the server logged.

    120 conversations of 61 turns, 100 ms apart, each turn held back by an exponential time of 8 ms.
    """
    conversations, turns, interval_s, mean_s = 120, 61, 0.1, 0.008
    query = f"events={turns}&interval_ms={1000 * interval_s:g}"
    part = Part(endpoint=endpoint, query=query, echoes=turns, interval_ms=1000 * interval_s, wait_s=turns * interval_s)
    asked = scenario("constant", conversations / 6, 6).model_copy(update={"mix": (part,)})
    row, whole = {"sse": ("sse:event", conversations * (turns - 1)), "ws": ("ws:echo", conversations * turns)}[endpoint]

    def proof() -> None:
        with crowd(turns, interval_s, mean_s) as known:
            recording = prover.drive(known.port, asked)
            logged = known.end()
        every = range(100)
        assert recording.counts(endpoint, every) == (conversations, conversations, 0, 0, 0), recording.end.errors
        assert recording.counts(row, every) == (whole, whole, 0, 0, 0)
        assert len(logged) == whole > 6_636  # enough for p99.9
        _close(recording.histogram(row, "service", every).quantile_us, [max(held, 0.0) for held in logged])

    quiet.proved(proof)
