"""`--repeats auto` from made-up blocks: it ends when it is precise, or when the time is over, and says which."""

from __future__ import annotations

import numpy as np

from harness.paired import LEAST_BLOCKS
from harness.recording import Recording
from harness.repeats import Auto, Blocks
from tests.made_up import blocks


def noisy(noise: float, n: int = 40) -> dict[str, list[float]]:
    rng = np.random.default_rng(4)
    return {name: list(speed * (1 + rng.normal(0, noise, n))) for name, speed in (("asgi", 400), ("wsgi", 200))}


def until_it_ends(noise: float, wanted: Auto, each_s: float = 10.0) -> tuple[int, str]:
    """Block by block, as a run does it."""
    whole = blocks(noisy(noise))
    so_far, n = Blocks(wanted), 0
    while (decision := so_far.decision(n * each_s)).go_on:
        so_far.add(of_block(whole, n))
        n += 1
    return n, decision.reason


def of_block(whole: list[Recording], block: int) -> list[Recording]:
    return [one for one in whole if one.trial.repeat == block]


def test_it_ends_when_everything_is_known_well_enough() -> None:
    n, reason = until_it_ends(0.005, Auto(0.03, 3600))
    assert n == LEAST_BLOCKS
    assert reason.startswith("precision reached: wsgi ÷ asgi (s at 16, sleep) is known to ± ")
    more, _ = until_it_ends(0.05, Auto(0.03, 3600))
    assert 10 < more < 40, "more noise takes more blocks"


def test_it_ends_when_the_time_is_over() -> None:
    n, reason = until_it_ends(0.05, Auto(0.01, 120))
    assert n == 12
    assert reason.startswith("time budget reached: wsgi ÷ asgi (s at 16, sleep) is known to ± ")
    assert "would take about" in reason
    assert until_it_ends(0.05, Auto(0.01, 15)) == (1, "the time budget allows no second block")


def test_what_a_resumed_run_has_measured_counts() -> None:
    whole = blocks(noisy(0.005))
    resumed = Blocks(Auto(0.03, 3600))
    resumed.add(one for one in whole if one.trial.repeat < LEAST_BLOCKS)
    assert not resumed.decision(60).go_on


def test_a_variant_that_was_abandoned_is_not_waited_for() -> None:
    speeds = noisy(0.005, 8)
    speeds["gone"] = [100.0]
    so_far = Blocks(Auto(0.03, 3600))
    so_far.add(blocks(speeds))
    assert so_far.decision(60).go_on, "one block has no interval"
    assert not so_far.decision(60, {"gone"}).go_on


def test_a_run_of_which_nothing_is_usable_ends_with_its_time() -> None:
    so_far = Blocks(Auto(0.03, 60))
    so_far.add(blocks({"asgi": [400, 400]}, outcome="server_died"))
    assert so_far.decision(10).go_on
