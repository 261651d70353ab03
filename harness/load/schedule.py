"""When arrivals are due. In: a pattern, a rate, a duration, a seed. Out: ascending times in seconds from the start.

Pure, no clock: the whole schedule is drawn before a Trial, so neither the server nor the generator can shift it.
ARRIVALS, the table at the end, holds every pattern; adding one is a function and its row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def constant(rate: float, duration_s: float, rng: np.random.Generator) -> Times:  # noqa: ARG001  one signature for all
    """Evenly spaced: ⌈rate · duration⌉ arrivals, the first at 0."""
    return np.arange(int(np.ceil(round(rate * duration_s, 9)))) / rate


def poisson(rate: float, duration_s: float, rng: np.random.Generator) -> Times:
    """Independent exponential gaps of mean 1/rate, as from very many independent users (Palm-Khintchine)."""
    mean = rate * duration_s
    times: Times = np.empty(0, np.float64)
    while not len(times) or times[-1] < duration_s:
        more = int(mean + 6 * np.sqrt(mean) + 16)
        gaps = rng.exponential(1 / rate, more)
        begin = float(times[-1]) if len(times) else 0.0
        times = np.concatenate([times, begin + np.cumsum(gaps)])
    return times[: int(np.searchsorted(times, duration_s))]


def parts(weights: Sequence[int], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which part of the mix each of n arrivals asks for, by weight."""
    if len(weights) == 1:
        return np.zeros(n, np.int64)
    share = np.asarray(weights, float)
    return rng.choice(len(weights), size=n, p=share / share.sum()).astype(np.int64)


def stagger(users: int, over_s: float) -> Times:
    """When each closed user begins: evenly over one expected wait, so that they do not march in step."""
    return np.linspace(0.0, over_s, users, endpoint=False)


def draw(pattern: str, rate: float, duration_s: float, seed: int) -> Times:
    """The schedule of one Trial: the same seed gives the same schedule."""
    return ARRIVALS[pattern](rate, duration_s, np.random.default_rng(seed))


ARRIVALS: dict[str, Callable[[float, float, np.random.Generator], Times]] = {
    "constant": constant,
    "poisson": poisson,
}
