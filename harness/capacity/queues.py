"""Waiting lines with known answers. In: a rate, a service time, servers. Out: waits: means, survivals, quantiles.

Pure. Arrivals are Poisson, the line is first come, first served. All times in seconds, rates a second, loads (rate ×
service time) in erlangs. A line that cannot keep up waits for ever: its mean is infinite, its survival function 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded
from scipy.special import gammaln, lambertw

Times = NDArray[np.float64]
Survival = Callable[[Times], Times]  # times → the share of calls that wait longer

DENSE = 0.99  # beyond this utilisation the exact M/D/c would need too many states
CROWD = 128  # servers, beyond which the exponential is within 3 % of the exact p99
RARE = 1e-4  # the share of calls that wait, below which nobody asks how long
LEVELS = np.linspace(0.0, -25.0, 251)  # of log survival, where two distributions are mixed
BINS = 4096  # of a sum of waits
REST = 1e-4  # of a distribution that a sum may leave out


def erlang_c(servers: int, load: float) -> float:
    """P(an arrival has to wait) in M/M/c; 1 at saturation (Erlang, 1917; by the recursion of Erlang's B)."""
    if load >= servers:
        return 1.0
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mmc_wait_mean_s(rate_rps: float, service_s: float, servers: int) -> float:
    """The mean wait of M/M/c: C ÷ (cμ - λ)."""
    spare_rps = servers / service_s - rate_rps
    return erlang_c(servers, rate_rps * service_s) / spare_rps if spare_rps > 0 else math.inf


def mmc_wait_quantile_s(q: float, rate_rps: float, service_s: float, servers: int) -> float:
    """The q-quantile of M/M/c's wait, from P(W > t) = C·exp(-(cμ - λ)t)."""
    spare_rps = servers / service_s - rate_rps
    if spare_rps <= 0:
        return math.inf
    return max(math.log(max(erlang_c(servers, rate_rps * service_s), 1e-300) / (1 - q)), 0.0) / spare_rps


def mgc_wait_mean_s(
    rate_rps: float, service_s: float, servers: int, service_cv2: float, arrivals_cv2: float = 1.0
) -> float:
    """Allen–Cunneen: M/M/c's mean wait × (ca² + cs²) ÷ 2 (Allen, Probability, Statistics and Queueing Theory, 1990)."""
    return mmc_wait_mean_s(rate_rps, service_s, servers) * (arrivals_cv2 + service_cv2) / 2


def mdc_wait(rate_rps: float, service_s: float, servers: int) -> Survival:
    """M/D/c exactly: every service takes the same time, as a sleep does (Franx, Oper. Res. Lett. 29, 2001)."""
    if rate_rps * service_s >= servers:
        return _forever
    grid, logs = _deterministic(servers, rate_rps * service_s)
    return _from_logs(grid * service_s, logs)


def mgc_wait(rate_rps: float, service_s: float, servers: int, service_cv2: float) -> Survival:
    """M/G/c by two moments: the percentiles lie between those of M/D/c and M/M/c as cs² does between 0 and 1 (Tijms, A
    First Course in Stochastic Models, 2003, §9.6). Beyond 1: an exponential with the mean of Allen and Cunneen."""
    load = rate_rps * service_s
    if load >= servers:
        return _forever
    if load <= 0:
        return _never
    spare_rps = servers / service_s - rate_rps
    waiting = max(erlang_c(servers, load), 1e-300)
    if service_cv2 >= 1:
        decay = spare_rps * 2 / (1 + service_cv2)
        return lambda times: waiting * np.exp(-decay * times)
    grid, logs = _deterministic(servers, load)
    always = np.interp(-LEVELS, logs[0] - logs, grid * service_s)  # of those who wait: M/D/c …
    never = -LEVELS / spare_rps  # … and M/M/c
    share = (1 - service_cv2) * logs[0] + service_cv2 * math.log(waiting)
    return _from_logs((1 - service_cv2) * always + service_cv2 * never, share + LEVELS)


def quantile_s(survival: Survival, q: float) -> float:
    """Where a survival function falls to 1 - q; 0 when it starts below, infinite when it never gets there."""

    def above(time_s: float) -> bool:
        return float(survival(np.array([time_s]))[0]) > 1 - q

    if not above(0.0):
        return 0.0
    low, high = 0.0, 1e-6
    while above(high):
        low, high = high, 2 * high
        if high > 1e6:
            return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high


def sum_quantiles_s(
    values_s: Sequence[float] | Times, weights: Sequence[float] | Times, waits: Sequence[Survival], qs: Sequence[float]
) -> tuple[float, ...]:
    """Quantiles of a sum of independent times: one that is known by its values, and waits known by their survival.

    Numerical convolution on BINS bins; infinite when a wait is.
    """
    values, shares = np.asarray(values_s, float), np.asarray(weights, float)
    reaches = [quantile_s(wait, 1 - REST) for wait in waits]
    horizon = float(values.max()) + sum(reaches)
    if not math.isfinite(horizon):
        return (math.inf,) * len(qs)
    width = max(horizon, 1e-9) / (BINS - 1)
    first = np.bincount(np.rint(values / width).astype(int), shares / shares.sum(), BINS)
    spectrum: NDArray[np.complexfloating[Any, Any]] = np.fft.rfft(first, 2 * BINS)
    edges = np.asarray((np.arange(BINS) + 0.5) * width, np.float64)
    for wait in waits:
        spectrum = np.multiply(spectrum, np.fft.rfft(-np.diff(wait(edges), prepend=1.0), 2 * BINS))
    mass = np.cumsum(np.fft.irfft(spectrum, 2 * BINS))
    mass = np.maximum.accumulate(mass / mass[-1])
    return tuple(float(np.interp(q, mass, (np.arange(2 * BINS) + 0.5) * width)) for q in qs)


# -- the exact M/D/c -------------------------------------------------------------------------------------------------


def _decay(utilisation: float) -> float:
    """τ > 1 with ln τ = u·(τ - 1) at utilisation u: the line of M/D/c falls like τ⁻ⁿ for all c (Tijms, 2003, §9.6)."""
    return float(-lambertw(-utilisation * math.exp(-utilisation), -1).real / utilisation)


@lru_cache(maxsize=512)
def _deterministic(servers: int, load: float) -> tuple[Times, Times]:
    """Times in units of the service, and the logarithm of the wait's survival there. Linear between and beyond."""
    tau = _decay(load / servers)
    decay = load * (tau - 1)
    grid, waits = np.array([0.0]), np.array([max(erlang_c(servers, load), 1e-300)])
    # else exponential with the exact rate of decay: the limit in heavy traffic, and near to it where servers are many
    if load / servers <= DENSE and servers <= CROWD and waits[0] > RARE:
        few = np.cumsum(_stationary(servers, load, tau))
        end = 18 / decay + 1
        fine = np.unique(np.concatenate([np.linspace(0, min(end, 2.0), 60), np.linspace(0, end, 100)]))
        exact = np.array([1 - _served_by(time, servers, load, few) for time in fine])
        if known := int(np.count_nonzero(np.logical_and.accumulate(exact > 1e-9))):  # beyond, only rounding is left
            grid, waits = fine[:known], exact[:known]
    logs = np.log(waits)
    return np.append(grid, grid[-1] + 30 / decay), np.append(logs, logs[-1] - 30.0)


def _stationary(servers: int, load: float, tau: float) -> Times:
    """How many are in the system: what is there one service later is what was not being served, and who came.

    The balance of all states but the likeliest, which is set to 1 and scaled afterwards; a banded system.
    """
    width = math.ceil(load + 12 * math.sqrt(load)) + 12
    size = servers + width + math.ceil(26 / math.log(tau))
    came = np.zeros(size + servers)
    came[:width] = np.exp(np.arange(width) * math.log(load) - load - gammaln(np.arange(width) + 1))
    bands = np.zeros((width + servers + 1, size))  # [servers + to - from, from], as LAPACK keeps them
    for there in range(servers):
        bands[servers - there : servers - there + width, there] = came[:width]
    bands[:, servers:] = came[: width + servers + 1, None]
    bands[servers] -= 1
    known = int(load)
    columns = np.arange(max(known - width, 0), min(known + servers + 1, size))
    bands[servers + known - columns, columns] = 0.0
    bands[servers, known] = 1.0
    right = np.zeros(size)
    right[known] = 1.0
    found = np.maximum(solve_banded((width, servers), bands, right), 0.0)
    return np.asarray(found / found.sum())


def _served_by(time: float, servers: int, load: float, few: Times) -> float:
    """P(W ≤ time), Franx's formula; few: the distribution function of the number in the system."""
    after = math.floor(time) + 1
    left = load * (after - time)
    j = np.arange(after * servers)
    came = np.exp(j * math.log(left) - left - gammaln(j + 1))
    queued = np.minimum(servers + after * servers - 1 - j, len(few) - 1)
    return float(came @ few[queued])


def _from_logs(grid: Times, logs: Times) -> Survival:
    slope = (logs[-1] - logs[-2]) / (grid[-1] - grid[-2])

    def survival(times: Times) -> Times:
        inside = np.interp(times, grid, logs)
        return np.asarray(np.exp(np.where(times > grid[-1], logs[-1] + slope * (times - grid[-1]), inside)))

    return survival


def _forever(times: Times) -> Times:
    return np.ones_like(times)


def _never(times: Times) -> Times:
    return np.zeros_like(times)
