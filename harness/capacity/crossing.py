"""At which rate does a quantile cross its limit? In: trials' tails at several rates. Out: it and its bounds. Pure.

**Model.** Near its capacity a server's waiting has an exponential tail whose decay falls linearly to 0 at capacity
(Kingman, The single server queue in heavy traffic, 1961; for several servers Köllerström 1974). So, for a rate r,

    ln P(response > x) = −z(r) · depth,   z(r) = ln 1/(1−q) + steep · (1 − r / crossing),
    depth = (x − floor) / (limit − floor)

where `crossing` is the rate sought: there the limit is passed by just the share 1 − q. For M/M/1 this is exact, with
floor = 0 and steep = crossing · limit; a cliff is a very steep one. A trial begins with an empty queue, which is why
that tail is reached only with time: by reflected Brownian motion (Harrison, Brownian Motion and Stochastic Flow
Systems, 1985, §1.8), with t in units of limit − floor and b = steep + ln 1/(1−q),

    P(> x after t) = Φ(−c − a) + exp(−z · depth) · Φ(a − c),   c = depth · √(b/2t), a = z · √(t/2b)

and above the capacity, where z < 0, the same law tells how the queue grows.

It matters to read the tail at parts of the limit, not only beyond it: what lies beyond comes in few long clusters (of
M/M/1 with 400/s, at the rate of p99 = 200 ms, one each 70 s).

**Likelihood.** A trial is a multinomial of *looks*, not of requests: neighbours in a queue wait together. Their sum on
a grid of (crossing, steep, floor) is the quasi-posterior. How far each trial alone moves its mean gives the spread
between independent trials (the infinitesimal jackknife: Jaeckel 1972; Giordano and Broderick 2023). The two variances
are pooled by their degrees of freedom, as a few trials would now and then agree by chance (moderated variance: Smyth
2004). Who saw no cluster sees too little spread and too high a crossing, so the one-sided 95 % bound is taken where
Student's t has 96.5 %: simulated searches of known servers then over-promise in fewer than one case of twenty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from harness.capacity.slo import PARTS

Array = NDArray[np.float64]

LOOKS = 0.4  # in the time that a queue needs to forget, see `_looks`
ONE_SIDED = 0.965  # see above
PRIOR_TRIALS = 20.0  # degrees of freedom of the variance that the looks alone tell
STEP, SNAP = 0.005, 0.1  # of ln crossing: the grid's steps, and where it may begin and end
STEEPS = np.array([0.35, 0.6, 1.0, 1.7, 3.0, 6.0, 20.0])  # of crossing · limit: 2 ÷ (1 + cv²) for one server
FLOORS = np.array([-0.08, -0.04, 0.0, 0.04, 0.08])  # of the limit, about the response of an idle server
FLOOR_SD = 0.04  # of the limit
MOMENTS = (0.25, 0.75)  # of the time read: where the transient law is evaluated
CLEAR = 0.2  # of the limit: nearer to the floor who did not wait at all counts, which is no tail
LEAST = 1e-6  # no bin is impossible: one stray request must not forbid a model
STEEPEST = 40.0  # −z at most: a rate far beyond capacity, where exp would overflow


class Tail(NamedTuple):
    """One trial: the shares of its requests that took longer than each of PARTS of the limit."""

    rate_rps: float
    duration_s: float
    warmup_s: float
    over: tuple[float, ...]


@dataclass(frozen=True)
class Promise:
    """That `quantile` of the responses are below limit_s. floor: an idle server's response, as a share of the limit."""

    quantile: float
    limit_s: float
    floor: float

    @property
    def at_limit(self) -> float:
        return -math.log(1 - self.quantile)


class Crossing(NamedTuple):
    """The rate at which the promise is just held, and its one-sided 95 % and two-sided 95 % bounds."""

    rate_rps: float
    sustained_rps: float
    low_rps: float
    high_rps: float


def crossing(tails: Sequence[Tail], promise: Promise, *, low_rps: float, high_rps: float) -> Crossing:
    """The rate at which the promise is just held, sought between two rates."""
    ends = math.floor(math.log(low_rps) / SNAP) * SNAP, math.ceil(math.log(high_rps) / SNAP) * SNAP
    mean, sd = _fitted(tails, promise, ends)
    freedom = PRIOR_TRIALS + len(tails) - 1
    one, two = float(stdtrit(freedom, ONE_SIDED)) * sd, float(stdtrit(freedom, 0.975)) * sd
    return Crossing(math.exp(mean), math.exp(mean - one), math.exp(mean - two), math.exp(mean + two))


def _fitted(tails: Sequence[Tail], promise: Promise, ends: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of ln crossing, between two ends."""
    rows = np.stack([_log_likelihood(tail, promise, ends) for tail in tails])
    posterior = rows.sum(axis=0) + _prior()
    weight = np.exp(posterior - posterior.max())
    weight /= weight.sum()
    logs = _lattice(ends)
    mean = float(weight.sum(axis=(1, 2)) @ logs)
    off = weight * (logs - mean)[:, None, None]
    variance = float(off.sum(axis=(1, 2)) @ (logs - mean))
    k = len(tails)
    if k > 1:
        moved = (rows * off).sum(axis=(1, 2, 3))  # by each trial: the covariance of its log-likelihood and ln crossing
        variance = (PRIOR_TRIALS * variance + k**2 * float(moved.var())) / (PRIOR_TRIALS + k - 1)
    return mean, math.sqrt(variance)


def _lattice(ends: tuple[float, float]) -> Array:
    return np.linspace(*ends, round((ends[1] - ends[0]) / STEP) + 1)


@lru_cache(maxsize=512)  # a search asks for the same trials again after each new one
def _log_likelihood(tail: Tail, promise: Promise, ends: tuple[float, float]) -> Array:
    """Of one trial, over the grid (crossing, steep, floor)."""
    grid = np.exp(_lattice(ends))
    floors = np.clip(promise.floor + FLOORS, -0.3, 0.9)
    parts = [at for at, part in enumerate(PARTS) if part >= min(promise.floor + CLEAR, 1.0)]
    over = _over(tail, promise, grid[:, None], floors, np.array(PARTS)[parts])
    bins = -np.diff(over, axis=-1, prepend=1.0, append=0.0)
    seen = -np.diff(np.array([1.0, *(tail.over[at] for at in parts), 0.0]))
    return np.asarray(np.log(np.maximum(bins, LEAST)) @ np.maximum(seen, 0) * _looks(tail, promise), dtype=np.float64)


def _over(tail: Tail, promise: Promise, rates: Array, floors: Array, parts: Array) -> Array:
    """P(response > part of the limit) while the trial was read: rates × steeps × floors × parts."""
    steep = np.maximum(rates * promise.limit_s * STEEPS, 2.0)
    z = np.maximum(promise.at_limit + steep * (1 - tail.rate_rps / rates), -STEEPEST)[:, :, None, None]
    b = (steep + promise.at_limit)[:, :, None, None]
    depth = np.maximum((parts - floors[:, None]) / (1 - floors[:, None]), 0)
    found = np.zeros((*steep.shape, *depth.shape))
    for moment in MOMENTS:
        t_s = tail.warmup_s + moment * (tail.duration_s - tail.warmup_s)
        t = t_s / (promise.limit_s * (1 - floors[:, None]))
        c, a = depth * np.sqrt(b / (2 * t)), z * np.sqrt(t / (2 * b))
        found += ndtr(-c - a) + np.exp(-z * depth) * ndtr(a - c)
    return found / len(MOMENTS)


def _looks(tail: Tail, promise: Promise) -> float:
    """How many independent looks at the queue a trial is.

    A queue forgets in about σ² ÷ θ² seconds (drift −θ, variance σ² a second), which is 2 · limit · b ÷ z² above.
    """
    forgets_s = 2 * promise.limit_s * (1.3 * tail.rate_rps * promise.limit_s) / promise.at_limit**2
    return LOOKS * (tail.duration_s - tail.warmup_s) / forgets_s


def _prior() -> Array:
    """Flat in ln crossing; log-normal about cv² = 0.5 for steep, or anything; normal about the idle response."""
    steep = np.logaddexp(-0.5 * (np.log(STEEPS / 1.3) / 0.5) ** 2, -4.0)
    floors = -0.5 * (FLOORS / FLOOR_SD) ** 2
    return np.asarray(steep[None, :, None] + floors[None, None, :], dtype=np.float64)
