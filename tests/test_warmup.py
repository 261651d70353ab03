"""When it is warm, what is not steady, and how Recordings are read; on series without chance. Rates: tests/truth."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.warmup import LEAST_S, MOST_VALUES, by_second, of_recording, over_trials, steadiness, warm_from
from tests.made_up import recording

SECONDS = np.arange(40)
NOISE = np.random.default_rng(4).normal(0, 0.02, 40)


def told(series: NDArray[np.floating[Any]]) -> tuple[int | None, bool | None, str]:
    return steadiness(series.tolist())


def test_a_server_that_doubles_its_speed() -> None:
    assert told(np.where(SECONDS < 8, 500, 1000) * (1 + NOISE)) == (8, True, "steady from second 8 on")


def test_a_latency_that_halves() -> None:
    assert told(np.where(SECONDS < 8, 20, 10) * (1 + NOISE))[:2] == (8, True)


def test_a_steady_one() -> None:
    assert told(1000 * (1 + NOISE)) == (0, True, "steady from the start")
    assert told(np.full(40, 1000.0)) == (0, True, "steady from the start")


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (1000 * (1 - SECONDS / 100), "falls steadily, by "),
        (1000 * (1 + SECONDS / 100), "rises steadily, by "),
        (1000 * (1 + 0.2 * np.sin(SECONDS * 2 * math.pi / 7)), r"oscillates by ± (19|20)% every 7.0 s"),
        (1000 * (1 - 0.2 * (SECONDS >= 30)), r"changes its level by -20%, 30 s after it was warm"),
        (np.where(SECONDS < 19, 500, 1000) + SECONDS * 50.0, "rises steadily, by "),
        (np.exp(SECONDS / 3), "rises steadily, by |changes its level by "),
    ],
)
def test_what_is_not_steady_is_named(series: NDArray[np.floating[Any]], reason: str) -> None:
    found = told(series * (1 + NOISE / 10))
    assert found[1] is False
    assert re.match(reason, found[2])


def test_what_is_too_small_to_matter_is_not() -> None:
    assert told(1000 * (1 - SECONDS / 2000))[1] is True
    assert told(1000 * (1 + 0.02 * np.sin(SECONDS)))[1] is True
    assert told(1000 * (1 + 0.03 * (SECONDS > 20)))[1] is True


def test_still_warming_up_at_half_time() -> None:
    series = np.where(SECONDS < 35, 500 + (SECONDS % 2) * 300, 1000)
    assert steadiness(series[:38].tolist())[1] is False


def test_too_few_seconds_to_tell() -> None:
    assert steadiness([1.0] * (LEAST_S - 1)) == (
        None,
        None,
        f"{LEAST_S - 1} s are too few to tell; {LEAST_S} s at least",
    )
    found = told(np.where(SECONDS < 7, 500, 1000)[:16] * 1.0)
    assert found == (7, None, "warm after 7 s; the 9 s since are too few to tell")


def test_nothing_served_is_not_steady() -> None:
    assert steadiness([0.0] * 20) == (None, None, "too little was served to tell it by")
    assert steadiness([math.nan] * 20).steady is None
    assert steadiness([100.0] * 12 + [0.0] * 8).steady is False
    assert steadiness([100.0] * 11 + [0.0] * 9 + [50.0]).reason == "it stops in the second half"


def test_the_end_of_the_warm_up_is_never_after_half_time() -> None:
    assert warm_from(np.exp(SECONDS / 2.0).tolist()) <= 20


def test_a_closed_load_is_told_by_throughput_an_open_one_by_the_median() -> None:
    rates, us = [100, 200, 0, 200], [20_000, 10_000, 10_000, 10_000]
    assert by_second(recording(rates, us=us), "sleep") == [100, 200, 0, 200]
    found = by_second(recording(rates, us=us, arrivals="poisson", level=100), "sleep")
    assert found == pytest.approx([20, 10, 0, 10], rel=0.001)


def test_a_warm_up_that_was_too_short_is_told() -> None:
    rates = [*[50] * 8, *[100] * 22]
    short, enough = recording(rates, warmup_s=1), recording(rates, warmup_s=8)
    assert of_recording(short, "sleep") == (
        8,
        False,
        "warm after 8 s only, the warm-up is 1 s: steady from second 8 on",
    )
    assert of_recording(enough, "sleep") == (8, True, "steady from second 8 on")


def test_what_changes_by_itself_or_comes_in_waves_is_not_told() -> None:
    ramp = recording([*range(20, 50)], arrivals="ramp", level=50)
    assert of_recording(ramp, "sleep") == (None, None, "ramp arrivals change by themselves")
    whole = recording([100] * 30)
    part = whole.trial.scenario.mix[0].model_copy(update={"wait_s": 2.0})
    scenario = whole.trial.scenario.model_copy(update={"mix": (part,)})
    head = whole.head.model_copy(update={"trial": whole.trial.model_copy(update={"scenario": scenario})})
    told_of = of_recording(replace(whole, head=head), "sleep")
    assert told_of == (None, None, "calls of 2 s and more are too long to tell by the second")


def test_a_long_trial_is_looked_at_in_coarser_steps() -> None:
    seconds = 4 * MOST_VALUES
    found = of_recording(recording([50] * 160 + [100] * (seconds - 160), warmup_s=10), "sleep")
    assert (found.warm_s, found.steady) == (160, False)
    assert found.reason.startswith("warm after 160 s only, the warm-up is 10 s")


def test_the_trials_of_a_cell_together() -> None:
    even, falling = recording([100] * 30), recording([*range(100, 40, -2)], repeat=1)
    assert over_trials([even, even], "sleep") == (2, 0, 0, "steady from the start")
    found = over_trials([even, falling, even], "sleep")
    assert (found.told, found.unsteady, found.mostly_unsteady) == (3, 1, False)
    assert found.sentence.startswith("not steady in 1 of 3 trials: falls steadily, by ")
    assert over_trials([falling], "sleep").mostly_unsteady
    assert over_trials([recording([100] * 3)], "sleep") == (0, 0, None, "3 s are too few to tell; 10 s at least")
    assert over_trials([], "sleep").sentence == "no usable trial"
