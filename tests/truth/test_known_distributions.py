"""PROOFS T4: what is reported is what the server did, by its own log of the same run, request for request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.proving import ROW, Prover, quantile, scenario, served_s, serving
from harness.trial import Arrivals

if TYPE_CHECKING:  # the plugin itself is imported by pytest, which rewrites its assertions
    from tests.quietness import Quiet

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

QUANTILES = (0.5, 0.9, 0.99, 0.999)
MODELS = [
    ("mm1", (500.0,), 350.0),
    ("mdc", (4.0, 10.0), 300.0),
    ("bimodal", (2.0, 50.0, 0.05), 300.0),
]


@pytest.mark.parametrize(("model", "numbers", "rate"), MODELS, ids=[model for model, _, _ in MODELS])
def test_reported_is_logged(model: str, numbers: tuple[float, ...], rate: float, prover: Prover, quiet: Quiet) -> None:
    """Service against the time in the server: what lies between is the network's and the generator's own."""

    def proof() -> None:
        with serving(model, *numbers, log=True) as known:
            recording = prover.drive(known.port, scenario("poisson", rate, 24), seed=7)
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
