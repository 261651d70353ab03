"""Searches on simulated servers whose capacity is known exactly: how often, and by how much, is it over-promised?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.capacity.search import Ask, Found, Seen, drive, search
from harness.capacity.slo import parsed
from tests.capacity import known
from tests.capacity.known import Probe

SLO = parsed("p99<200ms")
Told = Callable[[str], None]


def searched(probe: Probe, count: int, *, seed: int, budget_s: float = 180.0) -> list[Found]:
    return [drive(search(SLO, budget_s=budget_s, seed=seed + n), probe) for n in range(count)]


def errors(found: list[Found], truth: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([(one.sustained_rps or 0.0) / truth - 1 for one in found])


def tell(told: Told, name: str, found: list[Found], truth: float) -> None:
    wrong = errors(found, truth)
    inside = np.mean([(one.low or 0) <= truth <= (one.high or 0) for one in found])
    told(
        f"{name}: λ* = {truth:.2f}/s, {len(found)} searches: over {np.mean(wrong > 0):.2%}, mean {wrong.mean():+.2%}, "
        f"sd {wrong.std(ddof=1):.2%}, worst {wrong.max():+.2%}; interval holds λ* in {inside:.1%}; "
        f"{np.mean([one.seconds for one in found]):.0f} s each"
    )


@pytest.mark.slow
def test_at_most_one_search_of_twenty_over_promises(told: Told) -> None:
    truth = known.mm1(400, 0.99, 0.2)
    found = searched(known.probe(known.exponential(400), [SLO]), 400, seed=1)
    tell(told, "M/M/1, μ = 400/s", found, truth)
    wrong = errors(found, truth)
    assert {one.outcome for one in found} == {"found"}
    assert max(one.seconds for one in found) <= 180
    assert np.mean(wrong > 0) <= 0.05
    assert -0.03 <= wrong.mean() <= 0
    assert wrong.std(ddof=1) <= 0.02
    assert np.mean([(one.low or 0) <= truth <= (one.high or 0) for one in found]) >= 0.93


def test_a_few_searches_hold_what_they_promise(told: Told) -> None:
    truth = known.mm1(400, 0.99, 0.2)
    found = searched(known.probe(known.exponential(400), [SLO]), 16, seed=10_000)
    tell(told, "M/M/1, μ = 400/s", found, truth)
    wrong = errors(found, truth)
    assert np.sum(wrong > 0) <= 3  # of 16 at 5 % each: more comes once in 140 times
    assert -0.04 <= wrong.mean() <= 0


@pytest.mark.slow
def test_a_slower_server_is_answered_more_widely_and_the_time_needed_is_said(told: Told) -> None:
    truth = known.mm1(100, 0.99, 0.2)
    found = searched(known.probe(known.exponential(100), [SLO]), 200, seed=2)
    tell(told, "M/M/1, μ = 100/s", found, truth)
    assert np.mean(errors(found, truth) > 0) <= 0.05
    wide = [one for one in found if (one.high or 0) - (one.low or 0) > 0.05 * (one.sustained_rps or 0)]
    assert all("would take about" in one.reason for one in wide)
    assert np.mean([(one.low or 0) <= truth <= (one.high or 0) for one in found]) >= 0.93


@pytest.mark.slow
def test_a_token_bucket_is_found_within_two_percent(told: Told) -> None:
    truth = known.md1(1 / 400, 0.99, 0.2)
    assert truth == pytest.approx(0.9713 * 400, rel=1e-4)
    found = searched(known.probe(known.fixed(1 / 400), [SLO]), 100, seed=3)
    tell(told, "M/D/1, R = 400/s", found, truth)
    wrong = errors(found, truth)
    assert np.mean(wrong > 0) <= 0.05
    assert -0.03 <= wrong.mean() <= 0
    likely = np.array([(one.likely_rps or 0) / truth - 1 for one in found])
    told(f"M/D/1, R = 400/s: the likely rate is within 2 % of λ* in {np.mean(np.abs(likely) <= 0.02):.1%}")
    assert np.mean(np.abs(likely) <= 0.02) >= 0.95


@pytest.mark.slow
def test_more_time_brings_the_answer_nearer(told: Told) -> None:
    truth = known.md1(1 / 400, 0.99, 0.2)
    probe = known.probe(known.fixed(1 / 400), [SLO])
    found = [drive(search(SLO, budget_s=900, precision=0.02, seed=500 + n), probe) for n in range(30)]
    tell(told, "M/D/1, R = 400/s, to ±1 %", found, truth)
    assert np.mean(np.abs(errors(found, truth)) <= 0.02) >= 0.95
    assert np.mean([one.seconds for one in found]) <= 900


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "extra_s", "truth", "worst"), [(0.008, 0.25, 368.97, 0.025), (0.05, 0.1, 374.69, 0.0)]
)
def test_what_is_slow_at_any_rate(share: float, extra_s: float, truth: float, worst: float, told: Told) -> None:
    """Which the law of a queue does not know; λ* from (1 − s) exp(−(μ − λ) T) + s exp(−(μ − λ) max(T − extra, 0))."""

    def probe(ask: Ask) -> Seen:
        random = np.random.default_rng(ask.seed)
        n = random.poisson(ask.rate_rps * ask.duration_s)
        arrivals = np.sort(random.uniform(0, ask.duration_s, n))
        responses = known.waits(arrivals, random.exponential(1 / 400, n))
        return known.seen(ask, arrivals, responses + np.where(random.random(n) < share, extra_s, 0), [SLO])

    found = searched(probe, 40, seed=1)
    tell(told, f"M/M/1, μ = 400/s, {share:.1%} take {1000 * extra_s:g} ms more", found, truth)
    assert errors(found, truth).max() <= worst


@pytest.mark.slow
def test_slots_that_wait_are_found_too(told: Told) -> None:
    probe = known.probe(known.fixed(0.05), [SLO], slots=16)
    found = searched(probe, 60, seed=4)
    truth = 305.2  # of 320/s: in 18 000 s at 304/s, 0.74 % took longer than 200 ms, at 306/s 1.26 %
    tell(told, "M/D/16, 16 slots of 50 ms", found, truth)
    wrong = errors(found, truth)
    assert np.mean(wrong > 0) <= 0.05
    assert wrong.mean() > -0.04
