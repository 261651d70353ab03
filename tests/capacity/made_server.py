"""A server of places in simulated time. In: a rate, a seed. Out: when calls came and left; Levels as a run has them.

Calls come as a Poisson process, take a slot, pass the places in order (so many servers each, first come, first served)
and give the slot back.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.capacity.measured import Level, Setting
from harness.histogram import Histogram
from harness.intervals import quantile_interval

Times = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Times]


def constant(seconds: float) -> Draw:
    return lambda _, n: np.full(n, seconds)


def exponential(seconds: float) -> Draw:
    return lambda rng, n: rng.exponential(seconds, n)


@dataclass(frozen=True)
class Place:
    """servers: how many calls it works on at a time; None: all of them."""

    servers: int | None
    takes: Draw


def calls(rate_rps: float, n: int, seed: int, places: Sequence[Place], slots: int | None = None) -> tuple[Times, Times]:
    """When each of n calls came and left, in seconds."""
    rng = np.random.default_rng(seed)
    came = np.cumsum(rng.exponential(1 / rate_rps, n))
    takes = [place.takes(rng, n).tolist() for place in places]
    left = np.zeros(n)
    free = [math.inf if place.servers is None else place.servers for place in places]
    lines: list[deque[int]] = [deque() for _ in places]
    free_slots: float = math.inf if slots is None else slots
    outside: deque[int] = deque()
    events = [(time, -1, call) for call, time in enumerate(came.tolist())]

    def go(place: int, call: int, now: float) -> None:
        if free[place] > 0:
            free[place] -= 1
            heapq.heappush(events, (now + takes[place][call], place, call))
        else:
            lines[place].append(call)

    while events:
        now, place, call = heapq.heappop(events)
        if place < 0:
            if free_slots > 0:
                free_slots -= 1
                go(0, call, now)
            else:
                outside.append(call)
            continue
        free[place] += 1
        if lines[place]:
            go(place, lines[place].popleft(), now)
        if place + 1 < len(places):
            go(place + 1, call, now)
            continue
        left[call] = now
        if outside:
            go(0, outside.popleft(), now)
        else:
            free_slots += 1
    return came, left


def level(
    setting: Setting,
    rate_rps: float,
    places: Sequence[Place],
    *,
    seed: int,
    cpu_s: float = 0.0,
    trials: int = 4,
    seconds: float = 30.0,
) -> Level:
    """One rate, measured in several trials. cpu_s: the mean CPU a request."""
    responses, finished, offered = [], [], []
    for trial in range(trials):
        n = int(rate_rps * seconds * 1.25)
        came, left = calls(rate_rps, n, 1000 * seed + trial, places, setting.slots)
        inside = (came >= 0.1 * seconds) & (came < 1.1 * seconds)
        responses.append(Histogram.of(np.rint((left - came)[inside] * 1e6).astype(np.int64)))
        offered.append(np.count_nonzero(inside) / seconds)
        finished.append(np.count_nonzero((left >= 0.1 * seconds) & (left < 1.1 * seconds)) / seconds)
    interval = quantile_interval(responses, 0.99)
    rps = float(np.mean(finished))
    pool = Histogram.merged(responses)
    return Level(
        setting=setting,
        rate_rps=float(np.mean(offered)),
        throughput_rps=rps,
        response=pool,
        service=pool,
        cpu_cores=rps * cpu_s if cpu_s else None,
        trials=trials,
        p99_low_ms=interval.low if interval else None,
        p99_high_ms=interval.high if interval else None,
    )


def p99_ms(rate_rps: float, places: Sequence[Place], slots: int | None, *, seed: int, n: int = 40_000) -> float:
    """The p99 of one long simulation, without its start."""
    came, left = calls(rate_rps, n, seed, places, slots)
    return float(np.quantile((left - came)[n // 10 :], 0.99)) * 1000
