"""Models are judged on levels that their fit did not see; the wrong ones are rejected. In simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from harness.capacity import stations
from harness.capacity.choice import Choice, chosen
from harness.capacity.measured import Level, Parts, Setting, cpu_per_request, levels_of, parts_of
from harness.capacity.models import CANDIDATES
from harness.errors import NothingUsable, UsageError
from harness.histogram import Histogram
from tests.capacity.made_server import Place, constant, exponential, level, p99_ms
from tests.made_up import recording

SHARES = (0.2, 0.35, 0.5, 0.7, 0.85)

THREADS = Setting("threads", slots=16, wait_s=0.05)
THREADS_PLACES = (Place(None, constant(0.05)), Place(1, constant(0.0004)))
TASKS = Setting("tasks", wait_s=0.02)
TASKS_PLACES = (Place(None, constant(0.02)), Place(1, constant(0.002)))
POOL = Setting("pool", pool=8, pool_s=0.02, wait_s=0.02)
POOL_PLACES = (Place(8, constant(0.02)), Place(1, constant(0.0002)))
PLAIN = Setting("url")
PLAIN_PLACES = (Place(1, exponential(0.0025)),)


@cache
def measured(
    setting: Setting,
    places: tuple[Place, ...],
    capacity_rps: float,
    cpu_s: float = 0.0,
    shares: tuple[float, ...] = SHARES,
    seconds: float = 30.0,
) -> list[Level]:
    return [
        level(setting, share * capacity_rps, places, seed=number, cpu_s=cpu_s, seconds=seconds)
        for number, share in enumerate(shares, start=1)
    ]


def rejected_for(choice: Choice, name: str) -> str:
    """Why a candidate was rejected; empty when it was not."""
    return next(one.rejected for one in choice.tested if one.name == name)


@pytest.mark.parametrize(
    ("setting", "places", "capacity_rps", "cpu_s", "rejected"),
    [
        (THREADS, THREADS_PLACES, 16 / 0.0504, 0.0004, ("bounds",)),
        (TASKS, TASKS_PLACES, 500, 0.002, ("bounds", "USL")),
        (POOL, POOL_PLACES, 400, 0.0002, ("bounds", "USL", "M/M/c")),
        (PLAIN, PLAIN_PLACES, 400, 0.0, ("bounds", "stations", "MVA")),
    ],
    ids=["slots", "cpu", "pool", "M/M/1"],
)
def test_the_chosen_model_predicts_what_it_did_not_see(
    setting: Setting, places: tuple[Place, ...], capacity_rps: float, cpu_s: float, rejected: tuple[str, ...],
) -> None:  # fmt: skip
    choice = chosen(measured(setting, places, capacity_rps, cpu_s))
    assert choice.model is not None
    best = choice.tested[0]
    assert all(abs(held.throughput_error) <= 0.05 for held in best.held)
    assert all(abs(held.p99_error or 0) <= 0.20 or held.inside for held in best.held)
    assert not [name for name in rejected if not rejected_for(choice, name)]


def test_the_law_of_the_simulation_wins() -> None:
    # with alpha ½ the USL's mean is that of M/M/1: N ÷ (1 + N)
    assert chosen(measured(PLAIN, PLAIN_PLACES, 400)).tested[0].name in ("M/M/c", "M/G/c", "USL")
    assert chosen(measured(POOL, POOL_PLACES, 400, 0.0002)).tested[0].name.startswith("stations")


def test_the_interval_holds_a_new_level() -> None:
    choice = chosen(measured(TASKS, TASKS_PLACES, 500, 0.002))
    assert choice.model is not None
    found = choice.model.predict(420)
    assert found.low_ms is not None
    assert found.high_ms is not None
    assert found.low_ms <= p99_ms(420, TASKS_PLACES, None, seed=77) <= found.high_ms
    assert not found.extrapolated
    assert choice.model.predict(1.31 * 450).extrapolated


@pytest.mark.parametrize("threads", [1, 4, 16, 48])
def test_so_many_threads_that_sleep(threads: int) -> None:
    """T threads predict T ÷ sleep within 3 %, of what was measured with a fifth and a half of that."""
    setting = Setting("threads", slots=threads, wait_s=0.05)
    places = (Place(None, constant(0.05)), Place(1, constant(0.0003)))
    levels = measured(setting, places, threads / 0.0503, 0.0003, (0.2, 0.5), seconds=1000 / threads)
    assert stations.capacity_rps(parts_of(levels)) == pytest.approx(threads / 0.05, rel=0.03)


def test_an_overload_is_asked_its_throughput_only() -> None:
    choice = chosen(measured(THREADS, THREADS_PLACES, 16 / 0.0504, 0.0004, (0.2, 0.4, 0.6, 0.9, 1.15)))
    assert choice.model is not None
    overloaded = choice.tested[0].held[-1]
    assert overloaded.p99_error is None
    assert overloaded.throughput_rps == pytest.approx(16 / 0.0504, rel=0.01)
    assert abs(overloaded.throughput_error) < 0.01
    assert choice.model.predict(400)[4:9] == (None,) * 5


def test_what_fails_first_stands_first() -> None:
    parts = parts_of(measured(THREADS, THREADS_PLACES, 16 / 0.0504, 0.0004, (0.2, 0.5)))
    first, then = stations.ceilings(parts)
    assert (first.name, then.name) == ("slots", "cpu")
    assert first.sentence.startswith("16 slots ÷ 50.")
    crowded = replace(parts, setting=replace(parts.setting, slots=400))
    assert stations.ceilings(crowded)[0].name == "cpu"
    assert stations.capacity_rps(crowded) == pytest.approx(2500, rel=0.02)


def test_a_line_for_the_cpu_inside_the_slots_is_counted_once() -> None:
    """16 slots that only compute are one M/D/1: the line in front of the slots and that inside are the same calls."""
    setting = Setting("cpu", slots=16)
    places = (Place(1, constant(0.01)),)
    levels = measured(setting, places, 100, 0.01, (0.2, 0.5))
    predicted = stations.responses(replace(parts_of(levels), cpu_cv2=0.0), 85)
    assert predicted.p99_s * 1000 == pytest.approx(p99_ms(85, places, 16, seed=5), rel=0.12)


# -- parts -----------------------------------------------------------------------------------------------------------


def given(cpu_cores: float, rate_rps: float) -> Level:
    times = Histogram.of([50_000] * 1000)
    return Level(THREADS, rate_rps, rate_rps, times, times, cpu_cores=cpu_cores)


def test_cpu_a_request_alone_and_under_load() -> None:
    """A request costs 0.2 ms, and 0.1 ms more where it has to wake the CPU."""
    levels = [given(cores, rate) for rate in (200.0, 2500.0) if (cores := rate * 0.0003 / (1 + rate * 0.0001))]
    assert cpu_per_request(levels) == pytest.approx((0.0003, 0.0002), rel=1e-6)
    assert parts_of(levels).contention == pytest.approx(2 / 3)
    assert cpu_per_request(levels[:1]) == pytest.approx((0.000294, 0.000294), rel=0.01)
    assert cpu_per_request([replace(given(0.0, 10.0), cpu_cores=None)]) == (0.0, 0.0)


def test_contention_costs_more_under_load() -> None:
    levels = [given(cores, rate) for rate in (200.0, 2000.0) if (cores := rate * 0.0003 / (1 - rate * 0.0001))]
    alone, busy = cpu_per_request(levels)
    assert (alone, busy) == pytest.approx((0.0003, 0.0004), rel=0.001)
    assert stations.utilisation(parts_of(levels), 2000) == pytest.approx(0.75, rel=0.001)


def test_parts_need_a_served_level_with_enough_samples() -> None:
    with pytest.raises(NothingUsable, match="could not serve"):
        parts_of([replace(given(0.1, 100), throughput_rps=50)])
    with pytest.raises(NothingUsable, match="662"):
        parts_of([replace(given(0.1, 100), service=Histogram.of([1] * 100))])


def test_too_few_levels_judge_nothing() -> None:
    with pytest.raises(NothingUsable, match="20, 40, 60"):
        chosen([given(0.1, 200), given(0.2, 250), given(0.3, 300)])


def test_of_several_overloads_the_lowest_counts() -> None:
    levels = measured(THREADS, THREADS_PLACES, 16 / 0.0504, 0.0004, (0.2, 0.4, 0.6, 0.9, 1.15))
    more = [replace(levels[-1], rate_rps=rate) for rate in (500.0, 900.0)]
    assert chosen([*levels, *more]).held_rps == chosen(levels).held_rps


def test_a_level_with_few_samples_is_no_call_alone() -> None:
    """What a search asks first: a few calls at a low rate."""
    few = replace(given(0.01, 10), service=Histogram.of([90_000] * 20), response=Histogram.of([90_000] * 20))
    assert parts_of([few, given(0.1, 200)]).alone.quantile_us(0.5) == pytest.approx(50_000, rel=0.001)
    few_everywhere = [replace(few, rate_rps=10.0 * n, throughput_rps=10.0 * n) for n in (1, 2, 3, 8, 10)]
    with pytest.raises(NothingUsable, match="662"):
        chosen(few_everywhere)


def test_without_any_model_it_says_so() -> None:
    cliff = [given(0.01 * rate / 100, rate) for rate in (100.0, 150.0, 200.0)]
    cliff += [replace(given(0.04, rate), response=Histogram.of([900_000] * 1000)) for rate in (350.0, 400.0)]
    choice = chosen([replace(one, setting=Setting("cliff")) for one in cliff])
    assert choice.model is None
    assert "no model predicts" in choice.said


@pytest.mark.parametrize("fit", CANDIDATES.values(), ids=CANDIDATES)
def test_every_candidate_refuses_an_overload_alone(fit: Callable[[Sequence[Level]], object]) -> None:
    with pytest.raises(NothingUsable):
        fit([replace(given(0.1, 100.0 * n), throughput_rps=50) for n in range(1, 5)])


def test_levels_of_recordings() -> None:
    options: dict[str, Any] = {"arrivals": "poisson", "variant": "asgi"}
    low = [recording([200] * 6, us=20_000, level=200, repeat=repeat, **options) for repeat in (0, 1)]
    middle = [recording([400] * 6, us=25_000, level=400, repeat=repeat, **options) for repeat in (0, 1)]
    first, second = levels_of([*middle, *low])
    assert (first.rate_rps, first.throughput_rps, first.trials) == (200, 200, 2)
    assert second.in_flight == pytest.approx(10, rel=0.01)
    assert first.ms(0.99) == pytest.approx(20, rel=0.001)
    with pytest.raises(UsageError, match="one variant"):
        levels_of([*low, recording([200] * 6, level=200, arrivals="poisson", variant="wsgi")])
    with pytest.raises(UsageError, match="open"):
        levels_of([recording([200] * 6)])
    with pytest.raises(NothingUsable, match="no usable"):
        levels_of([])


def test_a_rate_is_served_until_the_capacity() -> None:
    parts = Parts(
        Setting("sync", processes=4, slots=4, cores=2, wait_s=0.05), Histogram.of([51_000] * 1000), 0.001, 0.001
    )
    assert parts.setting.lines == 1
    assert stations.capacity_rps(parts) == pytest.approx(4 / 0.051, rel=0.02)
    assert stations.responses(parts, 200) == (math.inf,) * 3
    times = [stations.responses(parts, rate).p99_s for rate in (10, 30, 60, 75)]
    assert times == sorted(times)
