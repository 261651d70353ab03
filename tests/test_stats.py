"""Summaries: pooled percentiles, intervals from the spread between Trials, and nothing said that isn't known."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from harness.histogram import Histogram
from harness.intervals import quantile_ms
from harness.physics import SUSPECT, VALID, VOID, Verdict
from harness.recording import End, Head, Outcome, Recording, Row, Sample, packed
from harness.stats import Summary, columns, combined, summarise
from harness.trial import Arrivals, Part, Scenario, Subject, Trial
from tests.made_up import recording

FALLS = "falls steadily, by 67% within 22 s"

# DESIGN.md, "Exported columns, in this order"
COLUMNS = """variant, scenario, endpoint, arrivals, level, lens, repeats, n, offered_rps, users, offered, completed,
failed, timed_out, unfinished, throughput_rps, throughput_low_rps, throughput_high_rps, p50_ms, p90_ms, p99_ms,
p99_low_ms, p99_high_ms, p999_ms, service_p99_ms, lateness_p99_ms, cpu_ms_per_request, rss_mb, threads, verdict,
limited_by, reason"""
MEASURED = [
    name for name in COLUMNS.replace("\n", " ").split(", ") if name.startswith(("throughput", "p50", "p9", "service"))
]


def trial(
    us: list[int] | int = 10_000,
    *,
    n: int = 1000,
    variant: str = "asgi",
    endpoint: str = "ping",
    repeat: int = 0,
    level: float = 500,
    arrivals: Arrivals = "constant",
    outcome: Outcome = "complete",
    mix: tuple[str, ...] = (),
    rows: tuple[Row, ...] | None = None,
    samples: tuple[Sample, ...] = (),
    **counts: int,
) -> Recording:
    """2 s measured after 1 s of warm-up; n calls of `us` µs in each second."""
    closed = arrivals == "closed"
    scenario = Scenario(
        name="s",
        question="How many a second?",
        arrivals=arrivals,
        mix=tuple(Part(endpoint=name) for name in mix or (endpoint,)),
        users=(int(level),) if closed else (),
        rates=() if closed else (level,),
        duration_s=3,
    )
    values = np.resize(np.asarray(us), n)
    hist = {kind: packed(Histogram.of(values)) for kind in ("response", "service")}
    hist["lateness"] = packed(Histogram.of(np.full(n, 50)))
    some = {"offered": n, "completed": n, "finished": n} | counts
    made = tuple(
        Row.model_validate({"second": second, "row": name, "hist": hist} | some)
        for second in range(3)
        for name in mix or (endpoint,)
    )
    subject = Subject(name=variant, family="asgi", interface="ASGI", server="uvicorn", framework="raw")
    asked = Trial(variant=variant, scenario=scenario, level=level, repeat=repeat, seed=1)
    head = Head(trial=asked, subject=subject, facts={}, started_at=f"{repeat:03}")
    return Recording(
        head, made if rows is None else rows, samples, End(outcome=outcome, reason="it died" * (outcome != "complete"))
    )


def one(*recordings: Recording) -> Summary:
    (summary,) = summarise(recordings)
    return summary


# -- percentiles -----------------------------------------------------------------------------------------------------


def test_percentiles_are_of_the_pool_and_no_average() -> None:
    # half of the calls of one trial took 100 ms, none of the other's: the averages of p90 and p99 would be 55 ms
    summary = one(trial(10_000, repeat=0), trial([10_000, 100_000], repeat=1))
    assert summary.p50_ms == pytest.approx(10, rel=0.001)
    assert summary.p90_ms == pytest.approx(100, rel=0.001)
    assert summary.p99_ms == pytest.approx(100, rel=0.001)
    assert summary.n == 4000


def test_trials_weigh_by_their_samples() -> None:
    # 1 % of 4 200 is 42 of the 200 slow ones; per trial the p90s would be 10 and 100
    summary = one(trial(10_000, n=2000), trial(100_000, n=100, repeat=1))
    assert (summary.p90_ms, summary.p99_ms) == pytest.approx((10, 100), rel=0.001)


def test_the_warm_up_is_cut() -> None:
    first = trial(10_000)
    cold = trial(900_000, n=5000).rows[0]
    summary = one(Recording(first.head, (cold, *first.rows[1:]), (), first.end))
    assert (summary.n, summary.offered) == (2000, 2000)
    assert summary.p999_ms is None
    assert summary.p99_ms == pytest.approx(10, rel=0.001)


@pytest.mark.parametrize(
    ("n", "there"),
    [
        (5, set()),
        (6, {0.5}),
        (330, {0.5, 0.9}),
        (331, {0.5, 0.9, 0.99}),
        (3317, {0.5, 0.9, 0.99}),
        (3318, {0.5, 0.9, 0.99, 0.999}),
    ],
)
def test_a_percentile_is_named_from_its_floor_on(n: int, there: set[float]) -> None:
    summary = one(trial(n=n, level=n))  # in each of two seconds
    found = {0.5: summary.p50_ms, 0.9: summary.p90_ms, 0.99: summary.p99_ms, 0.999: summary.p999_ms}
    assert {q for q, value in found.items() if value is not None} == there
    assert (summary.service_p99_ms is None) == (0.99 not in there) == (summary.lateness_p99_ms is None)


def test_the_floor_is_of_the_cell_not_of_each_trial() -> None:
    summary = one(*(trial([9_000, 10_000 + repeat], n=100, level=100, repeat=repeat) for repeat in range(4)))
    assert summary.n == 800
    assert summary.p99_ms is not None
    assert summary.p99_low_ms is not None


def test_quantile_ms_is_in_ms_or_nothing() -> None:
    assert quantile_ms(Histogram.of([2_000] * 662), 0.99) == pytest.approx(2.0, rel=0.001)
    assert quantile_ms(Histogram.of([2_000] * 661), 0.99) is None
    assert quantile_ms(Histogram.of([]), 0.5) is None


# -- intervals -------------------------------------------------------------------------------------------------------


def test_one_trial_has_no_interval() -> None:
    summary = one(trial())
    assert summary.throughput_rps == 1000
    assert (summary.throughput_low_rps, summary.throughput_high_rps) == (None, None)
    assert summary.p99_ms is not None
    assert (summary.p99_low_ms, summary.p99_high_ms) == (None, None)


def test_throughputs_interval_comes_from_the_spread_between_trials() -> None:
    summary = one(trial(n=990), trial(n=1000, repeat=1), trial(n=1010, repeat=2))
    half = 4.30265 * 10 / math.sqrt(3)
    found = (summary.throughput_rps, summary.throughput_low_rps, summary.throughput_high_rps)
    assert found == pytest.approx((1000, 1000 - half, 1000 + half), rel=1e-4)


def test_p99s_interval_lies_around_the_pooled_quantile() -> None:
    rng = np.random.default_rng(3)
    summary = one(*(trial(rng.exponential(10_000, 1000).astype(int).tolist(), repeat=repeat) for repeat in range(5)))
    assert summary.p99_ms == pytest.approx(46, rel=0.1)
    assert summary.p99_ms is not None
    assert summary.p99_low_ms is not None
    assert summary.p99_high_ms is not None
    assert summary.p99_low_ms < summary.p99_ms < summary.p99_high_ms
    # on the logarithmic scale: as many times below as above
    assert summary.p99_ms / summary.p99_low_ms == pytest.approx(summary.p99_high_ms / summary.p99_ms)


def test_an_interval_wider_than_an_order_of_magnitude_is_none() -> None:
    summary = one(trial(10_000), trial(10_000, repeat=1), trial(400_000, repeat=2))
    assert summary.p99_ms is not None
    assert (summary.p99_low_ms, summary.p99_high_ms) == (None, None)


# -- steadiness ------------------------------------------------------------------------------------------------------


def long(rates: list[int], repeat: int = 0, **more: Any) -> Recording:
    return recording(rates, us=[round(16e6 / rate) for rate in rates], repeat=repeat, **more)


def test_most_trials_that_are_not_steady_make_a_cell_suspect() -> None:
    even, falling = [300] * 30, [300 - 6 * second for second in range(30)]
    calm = one(*(long(even, repeat) for repeat in range(3)))
    assert "steady" not in calm.reason
    few = one(long(even), long(even, 1), long(falling, 2))
    assert (few.verdict, few.reason.partition("; ")[2]) == (calm.verdict, "not steady in 1 of 3 trials: " + FALLS)
    most = one(long(even), long(falling, 1), long(falling, 2))
    assert most.verdict == SUSPECT
    assert most.reason.endswith(f"; not steady in 2 of 3 trials: {FALLS}")


# -- verdicts --------------------------------------------------------------------------------------------------------


def test_void_trials_are_left_out_and_counted() -> None:
    died = trial(900_000, repeat=1, outcome="server_died")
    summary = one(trial(), died, trial(repeat=2))
    assert (summary.repeats, summary.n, summary.offered) == (2, 4000, 4000)
    assert (summary.throughput_rps, summary.p99_ms) == pytest.approx((1000, 10), rel=0.001)
    assert summary.verdict == VALID
    assert summary.reason.endswith("(1 of 3 trials VOID, left out)")


def test_a_cell_of_void_trials_shows_no_number_that_was_measured() -> None:
    samples = (Sample(second=1, who="server", cpu_s=0.5, rss_mb=3.0, threads=4),)
    summary = one(*(trial(repeat=repeat, outcome="server_died", samples=samples) for repeat in range(2)))
    assert (summary.verdict, summary.limited_by, summary.repeats) == (VOID, "none", 0)
    assert summary.reason.startswith("it died")
    assert {name: getattr(summary, name) for name in MEASURED} == dict.fromkeys(MEASURED)
    assert summary.cpu_ms_per_request is None
    assert summary.offered == summary.completed == 4000, "what happened is still counted"


def test_a_cell_of_which_nothing_was_recorded_is_not_passed_over() -> None:
    found = summarise([trial(mix=("ping", "sleep"), rows=(), outcome="server_died")])
    assert [(row.endpoint, row.verdict, row.n, row.offered) for row in found] == [
        ("ping", VOID, 0, 0),
        ("sleep", VOID, 0, 0),
    ]
    assert found[0].offered_rps == 0
    assert found[0].p50_ms is None


def test_all_failed_is_void_and_not_zero() -> None:
    rows = tuple(Row(second=second, row="ping", offered=9, failed=9) for second in range(3))
    summary = one(trial(rows=rows))
    assert (summary.verdict, summary.failed, summary.throughput_rps, summary.p50_ms) == (VOID, 18, None, None)
    assert "n/a" in summary.reason


def test_errors_are_never_throughput() -> None:
    summary = one(trial(offered=1200, completed=1000, failed=150, timed_out=40, unfinished=10))
    assert summary.throughput_rps == 1000
    assert summary.offered_rps == 1200
    found = (summary.offered, summary.completed, summary.failed, summary.timed_out, summary.unfinished)
    assert found == (2400, 2000, 300, 80, 20)


@pytest.mark.parametrize(
    ("given", "name", "limited_by", "reason"),
    [
        (["V slots a", "V slots b"], VALID, "slots", "a"),
        (["V slots a", "V cpu b", "V cpu c"], VALID, "cpu", "b"),
        (["V slots a", "S generator b", "V slots c"], SUSPECT, "slots", "a; 1 of 3 trials SUSPECT: b"),
        (["S generator a", "S generator b"], SUSPECT, "generator", "a"),
        (
            ["X none a", "S none b", "V cpu c"],
            SUSPECT,
            "cpu",
            "c; 1 of 2 trials SUSPECT: b (1 of 3 trials VOID, left out)",
        ),
        (["X none a", "X generator b"], VOID, "none", "a"),
    ],
)
def test_the_verdict_of_a_cell(given: list[str], name: str, limited_by: str, reason: str) -> None:
    names = {"V": VALID, "S": SUSPECT, "X": VOID}
    verdicts = [Verdict(names[letter], word, why) for letter, word, why in map(str.split, given)]
    assert combined(verdicts) == (name, limited_by, reason)


# -- resources and columns -------------------------------------------------------------------------------------------


def test_cpu_a_request_is_of_completions_in_the_window() -> None:
    samples = tuple(
        Sample(second=second, who="server", cpu_s=cpu_s, rss_mb=30.0 + second, threads=4 + second)
        for second, cpu_s in ((0, 9.0), (1, 0.5), (2, 0.3))
    )
    summary = one(trial(samples=samples))
    assert summary.cpu_ms_per_request == pytest.approx(0.8 * 1000 / 2000)
    assert (summary.rss_mb, summary.threads) == (32.0, 6)


def test_the_cpu_of_a_mix_is_nobodys() -> None:
    samples = (Sample(second=1, who="server", cpu_s=0.5),)
    found = summarise([trial(mix=("ping", "sleep"), samples=samples)])
    assert [row.cpu_ms_per_request for row in found] == [None, None]


def test_what_was_not_sampled_is_not_zero() -> None:
    summary = one(trial())
    assert (summary.cpu_ms_per_request, summary.rss_mb, summary.threads) == (None, None, None)


def test_cells_are_told_apart_and_ordered() -> None:
    recordings = [
        trial(variant=variant, level=level, repeat=repeat)
        for repeat in range(2)
        for variant in ("b", "a")
        for level in (1000, 20)
    ]
    found = [(row.level, row.variant, row.repeats) for row in summarise(recordings)]
    assert found == [(20, "a", 2), (20, "b", 2), (1000, "a", 2), (1000, "b", 2)]
    assert summarise([]) == []
    assert summarise(recordings) == summarise(recordings[::-1])


def test_users_belong_to_a_closed_load_alone() -> None:
    assert one(trial(arrivals="closed", level=12)).users == 12
    assert one(trial()).users is None


def test_columns_come_in_the_order_of_design() -> None:
    wanted = COLUMNS.replace("\n", " ").split(", ")
    assert [one.name for one in fields(Summary)] == wanted
    row: dict[str, Any] = columns(one(trial()))
    assert list(row) == wanted
    assert row["variant"] == "asgi"
    assert row["arrivals"] == "constant"
    assert row["lens"] == "equal-cpu"
