"""What a server of given Parts does at a rate. In: Parts, a rate. Out: its ceilings, its capacity, its response times.

Pure. A call passes three places, and the response time is what it takes alone and what it waits at each (Lazowska et
al., Quantitative System Performance, 1984): for a slot, for one of the pool's connections, for the CPU. Processes that
hold several slots each have a line of their own, of the connections that came to them; sync workers share one.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from harness.capacity.laws import mva, of_many, response_s
from harness.capacity.measured import Parts
from harness.capacity.queues import Survival, mgc_wait, mgc_wait_mean_s, sum_quantiles_s
from harness.capacity.slo import per_second
from harness.physics import Ceiling

QUANTILES = (0.5, 0.9, 0.99)
ROUNDS = 12  # of the search for a capacity at which the CPU a request is that of the capacity


class Responses(NamedTuple):
    """Response times in seconds; infinite where the line only grows."""

    p50_s: float
    p90_s: float
    p99_s: float


NEVER = Responses(math.inf, math.inf, math.inf)


def utilisation(parts: Parts, rate_rps: float) -> float:
    """Of its CPUs: u = x·alone ÷ (1 + x·(alone - busy)) at x calls a second and CPU; may exceed 1, then it is none."""
    each = rate_rps / parts.setting.cpus
    divisor = 1 + each * (parts.cpu_alone_s - parts.cpu_s)
    return each * parts.cpu_alone_s / divisor if divisor > 0 else math.inf


def cpu_s(parts: Parts, rate_rps: float) -> float:
    """CPU seconds a request at a rate: as alone where the CPU is idle, as under load where it never is."""
    idle = max(1 - utilisation(parts, rate_rps), 0.0)
    return parts.cpu_s + (parts.cpu_alone_s - parts.cpu_s) * idle


def held_s(parts: Parts, rate_rps: float) -> float:
    """For how long a call holds its slot where it waits for nobody: what it takes alone, at this rate's CPU."""
    return max(parts.alone_s - parts.cpu_alone_s, parts.setting.wait_s) + cpu_s(parts, rate_rps)


def ceilings(parts: Parts) -> list[Ceiling]:
    """Upper bounds of the throughput, the tightest first: what fails first stands there, with its law as a sentence."""
    setting, most = parts.setting, capacity_rps(parts)
    found = []
    if setting.slots is not None:
        found.append(_ceiling("slots", setting.slots, "slot", held_s(parts, most)))
    if setting.pool is not None and setting.pool_s:
        found.append(_ceiling("pool", setting.pool, "database connection", setting.pool_s))
    if parts.cpu_s:
        found.append(_ceiling("cpu", parts.setting.cpus, "core", parts.cpu_s, " CPU a request"))
    return sorted(found, key=lambda ceiling: ceiling.rps)


def _ceiling(name: str, count: int, thing: str, each_s: float, spent: str = "") -> Ceiling:
    rps = count / each_s
    sentence = f"{count} {thing}{'s' * (count != 1)} ÷ {each_s * 1000:.3g} ms{spent} = {per_second(rps)}/s"
    return Ceiling(name, rps, sentence)


@lru_cache(maxsize=256)
def capacity_rps(parts: Parts) -> float:
    """The highest throughput: of the CPU, of the pool, of all slots busy. Infinite where nothing bounds it."""
    setting = parts.setting
    bounds = [parts.setting.cpus / parts.cpu_s] if parts.cpu_s else []
    if setting.pool is not None and setting.pool_s:
        bounds.append(setting.pool / setting.pool_s)
    most = min(bounds, default=math.inf)
    if setting.slots is None:
        return most
    low, high = 0.0, min(most, setting.slots / max(held_s(parts, 0.0), setting.wait_s, 1e-9) * 2)
    for _ in range(ROUNDS):  # throughput falls with the CPU a request, which depends on the throughput
        middle = (low + high) / 2
        low, high = (middle, high) if setting.slots / busy_s(parts, middle) >= middle else (low, middle)
    return min(most, setting.slots / busy_s(parts, low))


def busy_s(parts: Parts, rate_rps: float) -> float:
    """For how long a call holds its slot when all slots are busy: by exact MVA, as users who never think.

    MVA's waits are those of exponential work. Constant work falls into step and waits for nobody: it meets the bounds.
    """
    setting, many = parts.setting, parts.setting.lines
    assert setting.slots is not None
    each_s, alone_s = cpu_s(parts, rate_rps), held_s(parts, rate_rps)
    users = max(setting.slots // many, 1)
    queueing, delay_s = of_many(each_s, parts.setting.cpus / many)
    demands = [queueing]
    if setting.pool is not None and setting.pool_s:
        pool, rest_s = of_many(setting.pool_s, setting.pool / many)
        demands, delay_s = [queueing, pool], delay_s + rest_s - setting.pool_s
    own_s = max(alone_s - each_s + delay_s, 0.0)
    waited_s = response_s(users, mva(users, demands, own_s)[-1], own_s) - sum(demands)
    return alone_s + max(waited_s, 0.0) * min(parts.cpu_cv2, 1.0)


def responses(parts: Parts, rate_rps: float) -> Responses:
    """The response times at an offered Poisson rate; NEVER at and beyond the capacity."""
    if rate_rps >= capacity_rps(parts):
        return NEVER
    grown_s = cpu_s(parts, rate_rps) - parts.cpu_alone_s
    values = np.maximum(parts.alone.values_us / 1e6 + grown_s, 0.0)
    weights = parts.alone.counts.astype(float)
    return Responses(*sum_quantiles_s(values, weights, waits(parts, rate_rps), QUANTILES))


def waits(parts: Parts, rate_rps: float) -> list[Survival]:
    """What a call waits for the CPU, for the pool, and for a slot, which is held while it waits for the other two.

    Where slots are many, a line for the CPU stands inside them; where they are few, in front of them; never in both.
    """
    setting, found, inside_s = parts.setting, [], 0.0
    if parts.cpu_s:
        line = (rate_rps / parts.setting.cpus, cpu_s(parts, rate_rps), 1, parts.cpu_cv2)
        inside_s += mgc_wait_mean_s(*line)
        found.append(mgc_wait(*line))
    if setting.pool is not None and setting.pool_s:
        many = min(setting.lines, setting.pool)
        line = (rate_rps / many, setting.pool_s, setting.pool // many, 0.0)
        inside_s += mgc_wait_mean_s(*line)
        found.append(mgc_wait(*line))
    if setting.slots is not None:
        many = parts.setting.lines
        hold_s = min(held_s(parts, rate_rps) + inside_s, busy_s(parts, rate_rps))
        found.append(mgc_wait(rate_rps / many, hold_s, max(setting.slots // many, 1), parts.slots_cv2))
    return found
