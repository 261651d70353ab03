"""Overload and recovery, what a request costs: known servers in simulated time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.capacity.efficiency import efficiencies, footprint
from harness.capacity.overload import (
    AFTER,
    OVER,
    is_overload,
    limit_of,
    overload_of,
    overloaded_s,
    scenario_of,
    seconds_of,
)
from harness.scenarios import load
from harness.trial import Part, Scenario, Slo, Trial
from tests.capacity.simulated import lined_up, recording_of

SLO = Slo(p99_ms=200, errors=0.001)
ASKED = Scenario(
    name="quick/sleep",
    question="Who keeps up with that?",
    arrivals="poisson",
    rates=(200.0,),
    mix=(Part(endpoint="sleep", query="ms=50", wait_s=0.05),),
)


def trial_of(scenario: Scenario) -> Trial:
    return Trial(variant="wsgi-threads", scenario=scenario, level=scenario.levels[0], repeat=0, seed=1)


def test_it_is_half_and_then_half_as_much_again_as_the_capacity() -> None:
    scenario = scenario_of(ASKED, 320.0, SLO)
    assert (scenario.name, scenario.arrivals, scenario.rates) == ("overload-quick/sleep", "steps", (480.0,))
    assert scenario.duration_s == 65
    assert overloaded_s(scenario) == (5, 25)
    at = scenario.shape["at"]
    assert isinstance(at, tuple)
    assert max(at) == 1.0
    assert min(at) * OVER == pytest.approx(AFTER)
    assert is_overload(scenario)
    assert not is_overload(ASKED)


def test_a_capacity_of_nothing_has_no_overload() -> None:
    with pytest.raises(ValueError, match="above 0"):
        scenario_of(ASKED, 0.0, SLO)


def test_the_shipped_scenario_is_one() -> None:
    (scenario,) = load(["overload"])
    assert is_overload(scenario)
    assert overloaded_s(scenario) == (5, 25)
    assert scenario.rates == (480,)


def test_a_queue_that_never_sheds_answers_late_and_recovers_when_it_is_empty() -> None:
    """16 slots of 50 ms carry 320/s. 480/s for 20 s leave 3 200 behind, which 160/s of spare work off in 20 s; but
    clients give up after 5 s, though the server works for them all the same."""
    scenario = scenario_of(ASKED, 320.0, SLO)
    recording = recording_of(trial_of(scenario), lambda times: lined_up(times, 16, 0.05), slots=16)
    found = overload_of(recording)
    assert found.capacity_rps == pytest.approx(320)
    assert found.offered_rps == pytest.approx(480, rel=0.001)
    # each second adds half a second of waiting: 200 ms are reached after 0.3 s, the time-out of 5 s after 9.9 s
    assert found.throughput_rps == pytest.approx(480 * 9.9 / 20, rel=0.02)
    assert found.goodput_rps == pytest.approx(480 * 0.3 / 20, rel=0.05)
    assert found.recovered_s == pytest.approx(20, abs=1)
    assert found.watched_s == 40
    assert found.peak_mb == pytest.approx(40 + 8)
    assert found.before_mb is not None
    assert 40 < found.before_mb < 48
    assert "recovered 2" in found.sentence or "recovered 19" in found.sentence
    assert "320/s are held" in found.sentence


def test_a_server_that_sheds_at_once_keeps_its_goodput_and_recovers_at_once() -> None:
    scenario = scenario_of(ASKED, 320.0, SLO)
    recording = recording_of(
        trial_of(scenario), lambda times: times + 0.06, lost=lambda number: number > 800 and number % 3 == 0
    )
    found = overload_of(recording)
    assert found.goodput_rps == pytest.approx(320, rel=0.01)
    assert found.lost == pytest.approx(20 * 160, rel=0.01)
    assert found.recovered_s is None, "it goes on losing a third, so the promise of 0.1 % is broken to the end"
    assert "not recovered 40 s later" in found.sentence
    calm = recording_of(trial_of(scenario), lambda times: times + 0.06)
    assert overload_of(calm).recovered_s == 0
    assert "recovered at once" in overload_of(calm).sentence


@pytest.mark.parametrize(
    ("slo", "limit"),
    [
        (Slo(p99_ms=200, p50_ms=20), (0.99, 200)),
        (Slo(p90_ms=100), (0.9, 100)),
        (Slo(p50_ms=20, errors=0.1), (0.5, 20)),
        (Slo(errors=0.01), (1.0, None)),
    ],
)
def test_in_time_is_what_the_farthest_promise_says(slo: Slo, limit: tuple[float, float | None]) -> None:
    assert limit_of(slo) == limit


def test_each_second_adds_up_and_one_late_answer_is_not_a_broken_promise() -> None:
    scenario = scenario_of(ASKED, 100.0, SLO)

    def one_late(number: int) -> bool:
        return number == 10

    seconds = seconds_of(recording_of(trial_of(scenario), lambda times: times + 0.06, lost=one_late), SLO)
    assert len(seconds) == 65
    assert sum(one.offered for one in seconds) == sum(one.good + one.bad for one in seconds)
    assert sum(one.bad for one in seconds) == 1
    assert all(one.holds for one in seconds)
    assert sum(one.offered for one in seconds) == pytest.approx(20 * 150 + 45 * 50, abs=2)


def at(rate: float, *, slots: int = 16, cpu_s: float = 0.001) -> Trial:
    scenario = ASKED.model_copy(update={"rates": (rate,), "duration_s": 21, "warmup_s": 1})
    return trial_of(scenario)


def test_what_a_request_costs_follows_from_cpu_rate_and_price() -> None:
    recordings = [recording_of(at(rate), lambda times: times + 0.05, cpu_s=0.002) for rate in (40.0, 100.0, 160.0)]
    found = efficiencies(recordings, 200.0, 0.05)
    assert [one.share for one in found] == pytest.approx([0.2, 0.5, 0.8])
    for one in found:
        assert one.cpu_ms_per_request == pytest.approx(2.0, rel=0.01)
        assert one.in_flight == pytest.approx(0.05 * one.rate_rps, rel=0.1)
        assert one.utilisation == pytest.approx(0.002 * one.rate_rps, rel=0.1)
        # a core for an hour makes 3 600 × rate requests, busy or not
        assert one.core_hours_per_million == pytest.approx(1e6 / (3600 * one.rate_rps), rel=0.1)
        assert one.cost_per_million == pytest.approx(0.05 * (one.core_hours_per_million or 0))
    assert all(one.cost_per_million is None for one in efficiencies(recordings, 200.0))
    assert all(one.share is None for one in efficiencies(recordings))


def test_what_is_in_flight_of_an_event_stream_is_a_stream() -> None:
    recording = recording_of(at(100.0), lambda times: times + 0.05)
    parts = tuple(row.model_copy(update={"row": "sleep:event"}) for row in recording.rows)
    assert footprint([replace(recording, rows=recording.rows + parts)]).unit == "stream"


def test_memory_a_slot_is_the_slope_and_not_what_an_idle_server_takes() -> None:
    recordings = [
        recording_of(at(rate), lambda times: times + 0.05, slot_mb=0.8, base_mb=40) for rate in (40.0, 160.0, 320.0)
    ]
    found = footprint(recordings)
    assert found.unit == "slot"
    assert found.base_mb == pytest.approx(40, abs=5)
    assert found.mb_each is not None
    # peaks of what is in flight lie above its mean: 0.8 MB each at the peak
    assert 0.7 <= found.mb_each <= 1.6
    assert footprint(recordings[:1]).mb_each is None
    assert footprint([]).base_mb is None
