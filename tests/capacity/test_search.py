"""The search as a machine: what it asks, and how it ends on servers that are unlike a queue."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest

from harness.capacity.curve import curve
from harness.capacity.search import Ask, Found, Seen, drive, search, search_all
from harness.capacity.slo import limits, parsed, said, thresholds
from harness.capacity.steps import Step, against, bracket
from harness.errors import UsageError
from harness.trial import Slo
from tests.capacity import known
from tests.capacity.known import Probe

SLO = parsed("p99<200ms,errors<0.1%")


def constant(ask: Ask, response_s: float, slo: Slo = SLO) -> Seen:
    """Everybody is served in the same time, or, if that is infinite, nobody is."""
    arrivals = np.arange(0, ask.duration_s, 1 / ask.rate_rps)
    return known.seen(ask, arrivals, np.full(len(arrivals), response_s), [slo])


# -- the SLO's words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p99<200ms,errors<0.1%", Slo(p99_ms=200, errors=0.001)),
        ("p99=200ms", Slo(p99_ms=200)),
        ("p50<20ms, p99 < 0.2s", Slo(p50_ms=20, p99_ms=200)),
        ("P90<=1.5s", Slo(p90_ms=1500)),
        ("errors<0.001", Slo(errors=0.001)),
        ("errors<0", Slo(errors=0)),
    ],
)
def test_an_slo_is_read_and_said_again(text: str, slo: Slo) -> None:
    assert parsed(text) == slo
    assert parsed(said(slo)) == slo


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no promise"),
        ("fast", "no promise"),
        ("p99<200", "needs its unit"),
        ("p99<200%", "needs its unit"),
        ("p99.9<200ms", "there are p50, p90, p99, errors"),
        ("p99>200ms", "no promise"),
        ("p99<0ms", "more than 0"),
        ("errors<5ms", "no share"),
        ("errors<200%", "no share"),
        ("p99<1ms,p99<2ms", "second time"),
        ("p99<" + "9" * 400 + "ms", "more than 0"),
    ],
)
def test_what_is_no_slo_is_refused_in_one_line(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word) as error:
        parsed(text)
    assert "\n" not in str(error.value)


def test_a_trial_tells_the_shares_above_parts_of_each_limit() -> None:
    assert limits(parsed("p50<20ms,p99<200ms")) == {0.5: 20.0, 0.99: 200.0}
    assert thresholds([parsed("p99<200ms"), parsed("p99<100ms")]) == (25, 50, 75, 100, 150, 200)


# -- one trial -------------------------------------------------------------------------------------------------------


def a_seen(**changed: object) -> Seen:
    plain = Seen(100.0, 1000, 0, {50: 0, 100: 0, 150: 0, 200: 0}, {0.5: 5, 0.9: 9, 0.99: 20}, 1000, False, 100.0, 10.0)
    return replace(plain, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "points", "words"),
    [
        ({}, 0, "holds p99<200ms,errors<0.1%"),
        ({"over": {200: 0.012}}, 0, "holds"),  # 12 of 1000 where 10 may: chance
        ({"over": {200: 0.03}}, 1, "3.00% took longer than 200 ms, where 1% may"),
        ({"over": {200: 0.7}}, 2, "70.00% took longer"),
        ({"growing": True}, 2, "queue grew"),
        ({"bad": 4}, 0, "holds"),  # one may, two more are chance
        ({"bad": 5}, 2, "5 of 1000 requests were lost, where 0.100% may"),
    ],
)
def test_what_one_trial_says_against_an_slo(changed: dict[str, object], points: int, words: str) -> None:
    found = against(SLO, a_seen(**changed))
    assert found.points == points
    assert words in found.words


def a_step(rate: float, over: float) -> Step:
    return Step(Ask(rate, 10, 2, 1, "classify"), a_seen(rate_rps=rate, over={200: over}), "")


@pytest.mark.parametrize(
    ("levels", "ends"),
    [
        ([], (None, None)),
        ([(10, 0.0)], (10, None)),
        ([(10, 0.9)], (None, 10)),
        ([(10, 0.03)], (None, None)),  # a doubt is no failure
        ([(10, 0.03), (10, 0.03)], (None, 10)),
        ([(10, 0.03), (10, 0.0)], (10, None)),
        ([(10, 0.0), (20, 0.0), (40, 0.9)], (20, 40)),
        ([(10, 0.0), (20, 0.9), (40, 0.0)], (10, 20)),  # above a failure nothing counts
    ],
)
def test_the_bracket(levels: list[tuple[float, float]], ends: tuple[float | None, float | None]) -> None:
    assert bracket(SLO, [a_step(*level) for level in levels]) == ends


# -- whole searches --------------------------------------------------------------------------------------------------


def test_a_search_brackets_classifies_and_confirms_and_repeats_itself_exactly() -> None:
    asks: list[Ask] = []
    inner = known.probe(known.exponential(400), [SLO])

    def probe(ask: Ask) -> Seen:
        asks.append(ask)
        return inner(ask)

    found = drive(search(SLO, seed=7), probe)
    first = [ask.rate_rps for ask in asks[:6]]
    assert first == [20, 40, 80, 160, 320, 640]
    assert {ask.purpose for ask in asks} == {"bracket", "classify", "confirm"}
    assert len({ask.seed for ask in asks}) == len(asks)
    assert all(ask.duration_s == int(ask.duration_s) > ask.warmup_s == int(ask.warmup_s) for ask in asks)
    assert [step.ask for step in found.steps] == asks
    assert found.low is not None
    assert found.sustained_rps is not None
    assert found.high is not None
    assert found.low <= found.sustained_rps <= found.high
    assert found.limited_by == "cpu"
    assert found.seconds == sum(ask.duration_s for ask in asks) <= 180
    assert drive(search(SLO, seed=7), inner) == found


def test_a_server_that_is_too_slow_at_any_rate_is_impossible() -> None:
    found = drive(search(SLO), lambda ask: constant(ask, 0.3))
    assert (found.outcome, found.sustained_rps) == ("impossible", None)
    assert found.reason.startswith("no rate holds p99<200ms,errors<0.1%: at ")
    assert "p99 300 ms" in found.reason
    assert found.seconds < 90


def test_a_dead_server_is_impossible_too() -> None:
    found = drive(search(SLO), lambda ask: constant(ask, np.inf))
    assert found.outcome == "impossible"
    assert "were lost" in found.reason


def test_a_server_that_never_fails_holds_all_that_may_be_asked() -> None:
    found = drive(search(SLO, most_rps=500), lambda ask: constant(ask, 0.001))
    assert (found.outcome, found.sustained_rps, found.high) == ("at-most-asked", 500, None)
    assert max(step.ask.rate_rps for step in found.steps) == 500


def test_a_weak_generator_is_named_and_what_it_could_offer_is_answered() -> None:
    inner = known.probe(known.exponential(2000), [SLO])
    found = drive(search(SLO, budget_s=240), known.weak(inner, 700))
    assert found.outcome == "generator"
    assert "the generator, not the server, failed: its lateness p99 was 40 ms" in found.reason
    assert found.sustained_rps is not None
    assert 400 <= found.sustained_rps <= 700


def test_a_generator_that_offers_nothing_is_named() -> None:
    found = drive(search(SLO), lambda ask: replace(constant(ask, 0.001), fault="VOID: the clock stood still"))
    assert (found.outcome, found.sustained_rps) == ("generator", None)
    assert "the clock stood still" in found.reason
    assert len(found.steps) == 3


def test_one_spoilt_trial_is_only_repeated() -> None:
    inner, count = known.probe(known.exponential(400), [SLO]), iter(range(1000))
    found = drive(search(SLO), lambda ask: replace(inner(ask), fault="a stall" if next(count) == 7 else ""))
    assert found.outcome == "found"
    spoilt = found.steps[7]
    assert spoilt.concluded == "a stall"
    assert found.steps[8].ask.rate_rps == spoilt.ask.rate_rps
    assert found.steps[8].ask.seed != spoilt.ask.seed


def test_one_stall_of_the_server_does_not_end_the_bracket() -> None:
    inner, count = known.probe(known.exponential(400), [SLO]), iter(range(1000))
    stalled = dict.fromkeys(thresholds([SLO]), 0.6)
    found = drive(search(SLO), lambda ask: replace(inner(ask), over=stalled) if next(count) == 3 else inner(ask))
    assert [step.ask.rate_rps for step in found.steps[:7]] == [20, 40, 80, 160, 160, 160, 320]
    assert (found.sustained_rps or 0) > 350


def collapsing(most_rps: float, slo: Slo = SLO) -> Probe:
    """Serves fast up to a rate; beyond it, one request of twenty."""

    def probe(ask: Ask) -> Seen:
        if ask.rate_rps <= most_rps:
            return constant(ask, 0.005, slo)
        seen = constant(ask, np.inf, slo)
        return replace(seen, completed_rps=ask.rate_rps / 20)

    return probe


def test_a_server_that_collapses_is_a_cliff_and_its_edge_is_answered() -> None:
    found = drive(search(SLO), collapsing(300))
    assert found.outcome == "cliff"
    assert "collapses rather than queues" in found.reason
    assert found.sustained_rps is not None
    assert 0.93 * 300 <= found.sustained_rps <= 300


def test_a_hole_below_the_bracket_is_looked_for() -> None:
    def probe(ask: Ask) -> Seen:
        return constant(ask, 0.9 if 180 < ask.rate_rps < 250 or ask.rate_rps > 400 else 0.005)

    found = drive(search(SLO), probe)
    assert found.outcome == "cliff"
    assert found.sustained_rps is not None
    assert found.sustained_rps <= 180


def test_errors_alone_bound_a_server_that_stays_fast() -> None:
    def probe(ask: Ask) -> Seen:
        seen = constant(ask, 0.005)
        return replace(seen, bad=seen.offered // 20 if ask.rate_rps > 250 else 0)

    found = drive(search(SLO), probe)
    assert found.sustained_rps is not None
    assert 0.93 * 250 <= found.sustained_rps <= 250


def test_too_short_a_budget_ends_with_what_is_known() -> None:
    found = drive(search(SLO, budget_s=12), known.probe(known.exponential(400), [SLO]))
    assert (found.outcome, found.sustained_rps) == ("budget", None)
    assert "above 160 req/s" in found.reason
    assert found.seconds <= 12


def test_several_slos_share_their_trials() -> None:
    slos = [parsed("p99<200ms"), parsed("p99<100ms"), parsed("p50<20ms")]
    inner, asks = known.probe(known.exponential(400), slos), list[Ask]()

    def all_found(searching: Generator[Ask, Seen, tuple[Found, ...]]) -> tuple[Found, ...]:
        ask = next(searching)
        try:
            while True:
                asks.append(ask)
                ask = searching.send(inner(ask))
        except StopIteration as end:
            return tuple(end.value)

    loose, strict, median = all_found(search_all(slos))
    for found, truth in ((loose, 376.97), (strict, 353.95), (median, 400 - np.log(2) / 0.02)):
        assert 0.93 * truth <= (found.sustained_rps or 0) <= 1.01 * truth
    assert sum(ask.rate_rps in (20, 40, 80, 160) for ask in asks) <= 6  # asked once, for all
    assert strict.seconds < loose.seconds + 1


def test_the_curve_is_the_hockey_stick() -> None:
    found = drive(search(SLO), known.probe(known.exponential(400), [SLO]))
    rows = curve(found.steps, SLO)
    assert [row.rate_rps for row in rows] == sorted(row.rate_rps for row in rows)
    assert sum(row.trials for row in rows) == len(found.steps)
    assert rows[0].verdict == "holds"
    assert rows[-1].verdict == "fails"
    assert rows[0].ms < 50
    assert rows[-1].ms > 200
    assert all((row.low_ms is None) == (row.trials == 1) for row in rows)
    assert all(row.low_ms is None or row.low_ms <= row.ms <= (row.high_ms or 0) for row in rows)
