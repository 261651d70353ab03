"""Operational laws. In: demands, users, measured points. Out: throughputs, response times, fitted USLs.

Pure. A demand is what one request asks of one place, in seconds (visits × service); a place serves one at a time.
Denning & Buzen, ACM Comp. Surveys 10:3, 1978; Lazowska et al., Quantitative System Performance, 1984; Gunther,
Guerrilla Capacity Planning, 2007.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from harness.errors import UsageError

FEWEST = 3  # points for the three numbers of a USL


def in_flight(throughput_rps: float, response_s: float) -> float:
    """Little's law: N = X·R (Oper. Res. 9, 1961)."""
    return throughput_rps * response_s


def response_s(users: float, throughput_rps: float, think_s: float) -> float:
    """The response time law of a closed system: R = N ÷ X - Z."""
    return users / throughput_rps - think_s


def mva(users: int, demands_s: Sequence[float], think_s: float = 0.0) -> list[float]:
    """The throughput with 1, 2, …, `users` in a closed system, by exact mean value analysis.

    Reiser & Lavenberg, J. ACM 27:2, 1980: who arrives sees the system as it is with one user less.
    """
    demands = np.asarray(demands_s, float)
    queued = np.zeros_like(demands)
    found = []
    for n in range(1, users + 1):
        times = demands * (1 + queued)
        total = float(times.sum()) + think_s
        throughput = n / total if total > 0 else math.inf
        queued = throughput * times if math.isfinite(throughput) else queued
        found.append(throughput)
    return found


def of_many(demand_s: float, servers: float) -> tuple[float, float]:
    """A place of several servers as one, for MVA: its demand D ÷ k, and a delay of D·(k - 1) ÷ k.

    Seidmann, Schweitzer & Shalev-Oren, Large Scale Systems 12, 1987. Fewer than one server: a share of one.
    """
    queueing = demand_s / servers
    return queueing, max(demand_s - queueing, 0.0)


# -- the universal scalability law -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usl:
    """X(N) = gamma·N ÷ (1 + alpha·(N - 1) + beta·N·(N - 1)): contention, coherency (Gunther, 2007)."""

    gamma_rps: float
    alpha: float
    beta: float

    def throughput_rps(self, users: float) -> float:
        return self.gamma_rps * users / (1 + self.alpha * (users - 1) + self.beta * users * (users - 1))

    @property
    def peak_users(self) -> float:
        """√((1 - alpha) ÷ beta); infinite without coherency."""
        return math.sqrt(max(1 - self.alpha, 0.0) / self.beta) if self.beta > 0 else math.inf

    @property
    def peak_rps(self) -> float:
        """The highest throughput; without coherency gamma ÷ alpha, which it only approaches."""
        if math.isfinite(self.peak_users):
            return self.throughput_rps(max(self.peak_users, 1.0))
        return self.gamma_rps / self.alpha if self.alpha > 0 else math.inf

    def users_at(self, throughput_rps: float) -> float:
        """The fewest users that reach a throughput: the smaller root of X(N) = X. Infinite beyond the peak."""
        square = throughput_rps * self.beta
        line = throughput_rps * (self.alpha - self.beta) - self.gamma_rps
        rest = throughput_rps * (1 - self.alpha)
        root = line * line - 4 * square * rest
        if line >= 0 or root < 0:
            return math.inf
        return 2 * rest / (-line + math.sqrt(root))  # the form that does not cancel when β is near 0


def fitted_usl(users: Sequence[float], throughputs_rps: Sequence[float]) -> Usl:
    """The USL of least squares through measured points. Raises UsageError with fewer points than FEWEST."""
    if len(users) < FEWEST:
        raise UsageError(f"a USL has three numbers and needs {FEWEST} levels at least; there are {len(users)}")
    many, rps = np.asarray(users, float), np.asarray(throughputs_rps, float)
    first = float((rps / many).max())

    def off(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        gamma, alpha, beta = numbers
        return np.asarray(gamma * first * many / (1 + alpha * (many - 1) + beta * many * (many - 1)) - rps)

    found = least_squares(off, (1.0, 0.01, 1e-4), bounds=([1e-3, 0, 0], [1e3, 1, np.inf]), x_scale=(1, 0.01, 1e-4))
    gamma, alpha, beta = (float(number) for number in found.x)
    return Usl(gamma * first, alpha, beta if beta > 1e-12 else 0.0)
