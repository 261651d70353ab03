"""Models against simulated servers of known law: predictions of levels that no fit has seen, and their intervals.

Five levels of 4 × 20 s each, up to 85 % of the capacity; models are fitted up to half of it, and predict the rest. Then
the chosen one predicts 80 %, among the levels, and 92 %, beyond them all; half a simulated hour says what is true.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

import pytest

from harness.capacity.choice import chosen
from harness.capacity.measured import Level, Setting
from tests.capacity.made_server import Draw, Place, constant, exponential, level, p99_ms

SEEDS = 8
ASKED = (0.8, 0.92)
SHARES = (0.2, 0.35, 0.5, 0.7, 0.85)


class Server(NamedTuple):
    """What is told of it, what it is, and the two numbers that follow."""

    setting: Setting
    places: tuple[Place, ...]
    capacity_rps: float
    cpu_s: float = 0.0


def waits_and_computes(setting: Setting, capacity_rps: float, cpu_s: float, draw: Callable[[float], Draw]) -> Server:
    return Server(setting, (Place(None, constant(setting.wait_s)), Place(1, draw(cpu_s))), capacity_rps, cpu_s)


POOL = (Place(8, constant(0.02)), Place(1, constant(0.0002)))
SERVERS = {
    "16 threads, a wait": waits_and_computes(Setting("t", slots=16, wait_s=0.05), 16 / 0.0504, 0.0004, constant),
    "16 threads, varied CPU": waits_and_computes(Setting("t", slots=16, wait_s=0.02), 760, 0.0008, exponential),
    "tasks, a wait and CPU": waits_and_computes(Setting("a", wait_s=0.02), 500, 0.002, constant),
    "tasks, varied CPU": waits_and_computes(Setting("a", wait_s=0.02), 500, 0.002, exponential),
    "a pool of 8": Server(Setting("p", pool=8, pool_s=0.02, wait_s=0.02), POOL, 400, 0.0002),
    "M/M/1, of which nothing is told": Server(Setting("u"), (Place(1, exponential(0.0025)),), 400),
    "4 sync workers": waits_and_computes(Setting("s", processes=4, slots=4, wait_s=0.02), 4 / 0.022, 0.002, constant),
}


@pytest.mark.slow
def test_held_out_levels_are_predicted(told: Callable[[str], None]) -> None:
    held = asked = 0
    covered = dict.fromkeys(ASKED, 0)
    for name, server in SERVERS.items():
        rates = {share: share * server.capacity_rps for share in ASKED}
        true_ms = {
            share: p99_ms(rate, server.places, server.setting.slots, seed=5, n=int(rate * 1800))
            for share, rate in rates.items()
        }
        errors: dict[float, list[float]] = {share: [] for share in ASKED}
        for seed in range(SEEDS):
            choice = chosen(levels(server, seed))
            asked += 1
            assert all(abs(one.throughput_error) < 0.05 for one in choice.tested[0].held)
            if choice.model is None:
                continue
            held += 1
            for share, rate in rates.items():
                found = choice.model.predict(rate)
                low, high = found.low_ms or math.inf, found.high_ms or 0.0
                covered[share] += low <= true_ms[share] <= high
                errors[share].append(abs((found.p99_ms or math.inf) / true_ms[share] - 1))
        middle, worst = ({share: pick(each) for share, each in errors.items()} for pick in (statistics.median, max))
        told(
            f"{name}: p99 off in the median by "
            + ", ".join(f"{middle[share]:.1%} ({worst[share]:.1%} at most) at {share:.0%}" for share in ASKED)
        )
        assert middle[0.8] < 0.20
    told(
        f"models: {held} of {asked} choices hold on levels not seen; of their intervals "
        + ", ".join(f"{n} hold the truth at {share:.0%}" for share, n in covered.items())
    )
    assert held >= 0.9 * asked
    assert covered[0.8] >= 0.9 * held
    assert covered[0.92] >= 0.8 * held


def levels(server: Server, seed: int) -> list[Level]:
    return [
        level(
            server.setting,
            share * server.capacity_rps,
            server.places,
            seed=100 * seed + n,
            cpu_s=server.cpu_s,
            seconds=20,
        )
        for n, share in enumerate(SHARES)
    ]
