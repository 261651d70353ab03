"""When it is warm, what is not steady, and how Recordings are read; on series without chance. Rates: tests/truth."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.warmup import LEAST_S, by_second, of_recording, steadiness, warm_from
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
