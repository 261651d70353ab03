"""What a server will do at a rate, by each law that it may follow. In: its Levels. Out: a Model, which predicts.

Pure. CANDIDATES, the table at the end, holds every model: its name and a function from Levels to a Model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares, minimize_scalar
from scipy.special import gammaincc

from harness.capacity.laws import fitted_usl
from harness.capacity.measured import EXTRAPOLATED, Level, Parts, lowest_of, parts_of
from harness.capacity.queues import Survival, mgc_wait, mgc_wait_mean_s, sum_quantiles_s
from harness.capacity.stations import NEVER, QUANTILES, Responses, capacity_rps, ceilings, responses
from harness.errors import NothingUsable

FULL = 0.999  # of a capacity, the most that a fit may assume
PRIOR = 0.1  # the weight of what is known to some 20 % beside means that are known to some 2 %


class Prediction(NamedTuple):
    """What a model expects at a rate; None: the line only grows, or the bounds are not known. low, high: of p99."""

    rate_rps: float
    throughput_rps: float
    throughput_low_rps: float | None
    throughput_high_rps: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    low_ms: float | None
    high_ms: float | None
    extrapolated: bool


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted law. doubts: half widths of the intervals of logarithms, as held-out levels showed them; None: unknown.

    parts: where the law has some; a plan for other numbers of slots and machines needs them.
    """

    name: str
    said: str
    capacity_rps: float
    tested_rps: float
    responses: Callable[[float], Responses]
    parts: Parts | None = None
    p99_doubt: float | None = None
    throughput_doubt: float | None = None

    def predict(self, rate_rps: float) -> Prediction:
        """Throughput and response times under Poisson arrivals; `extrapolated` beyond 1.3 × the tested rate."""
        times = self.responses(rate_rps) if rate_rps < self.capacity_rps else NEVER
        p50, p90, p99 = (time * 1000 if math.isfinite(time) else None for time in times)
        throughput = min(rate_rps, self.capacity_rps)
        low, high = _around(p99, self.p99_doubt)
        x_low, x_high = _around(throughput, self.throughput_doubt)
        return Prediction(
            rate_rps=rate_rps,
            throughput_rps=throughput,
            throughput_low_rps=x_low,
            throughput_high_rps=None if x_high is None else min(x_high, rate_rps),
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            low_ms=low,
            high_ms=high,
            extrapolated=rate_rps > EXTRAPOLATED * self.tested_rps,
        )


# -- candidates ------------------------------------------------------------------------------------------------------


def bounds(levels: Sequence[Level]) -> Model:
    """Asymptotic bounds (Denning & Buzen, 1978): no line up to the tightest ceiling, none served beyond it."""
    parts = parts_of(levels)
    tightest = next(iter(ceilings(parts)), None)
    alone = Responses(*(parts.alone.quantile_us(q) / 1e6 for q in QUANTILES))
    said = tightest.sentence if tightest else "nothing is known to bound it"
    return Model("bounds", said, tightest.rps if tightest else math.inf, _tested(levels), lambda _: alone)


def mmc(levels: Sequence[Level]) -> Model:
    """M/M/c, its service time by the measured percentiles; without slots, a declared wait is but a delay."""
    servers, delay_s = _servers(levels)
    served = _served(levels)
    most_s = FULL * servers / max(level.rate_rps for level in served)

    def times(rate_rps: float, service_s: float) -> Responses:
        line = mgc_wait(rate_rps, service_s, servers, 1.0)
        spread: Survival = lambda time: np.exp(-time / service_s)  # noqa: E731
        return Responses(*sum_quantiles_s([delay_s], [1.0], [line, spread], QUANTILES))

    def off(log_s: float) -> float:
        errors = (_off(level, times(level.rate_rps, math.exp(log_s))) for level in served)
        return sum(level.response.n * error for level, error in zip(served, errors, strict=True))

    found = minimize_scalar(off, bounds=(math.log(most_s) - 12, math.log(most_s)), method="bounded")
    service_s = math.exp(float(found.x))
    said = f"{servers} server{'s' * (servers != 1)} of {service_s * 1000:.3g} ms, exponential"
    return Model("M/M/c", said, servers / service_s, _tested(levels), lambda rate: times(rate, service_s))


def mgc(levels: Sequence[Level]) -> Model:
    """M/G/c after Allen and Cunneen: mean and variation of the service from how the mean response grows with rates."""
    servers, delay_s = _servers(levels)
    served = _served(levels)
    most_s = FULL * servers / max(level.rate_rps for level in served)
    alone = lowest_of(levels).service
    values, counts = alone.values_us / 1e6 - delay_s, alone.counts / alone.n
    weights = np.sqrt([level.response.n for level in served])
    weights /= weights.max()
    mean = max(float(values @ counts), 1e-6)
    first = min(max(float((values - mean) ** 2 @ counts) / mean**2, 0.01), 4.0)

    def off(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
        service_s, cv2 = math.exp(numbers[0]), math.exp(numbers[1])
        means = [delay_s + service_s + mgc_wait_mean_s(level.rate_rps, service_s, servers, cv2) for level in served]
        errors = [math.log(each / level.mean_s) for each, level in zip(means, served, strict=True)]
        return [*(weights * errors), PRIOR * (numbers[1] - math.log(first))]

    start = (math.log(min(mean, 0.9 * most_s)), math.log(first))
    edges = ((math.log(most_s) - 12, math.log(0.001)), (math.log(most_s), math.log(20.0)))
    service_s, cv2 = (math.exp(float(number)) for number in least_squares(off, start, bounds=edges).x)

    def times(rate_rps: float) -> Responses:
        line = mgc_wait(rate_rps, service_s, servers, cv2)
        spread: Survival = lambda time: np.asarray(gammaincc(1 / cv2, time / (service_s * cv2)), float)  # noqa: E731
        return Responses(*sum_quantiles_s([delay_s], [1.0], [line, spread], QUANTILES))

    said = f"{servers} server{'s' * (servers != 1)} of {service_s * 1000:.3g} ms, squared variation {cv2:.2g}"
    return Model("M/G/c", said, servers / service_s, _tested(levels), times)


def stations(levels: Sequence[Level]) -> Model:
    """Slots, pool and CPU, of measured Parts: slots are held, and the CPU works, for as long as was measured."""
    return _of_parts("stations", replace(parts_of(levels), cpu_cv2=0.0), levels)


def shared_cpu(levels: Sequence[Level]) -> Model:
    """The same where calls take turns at the CPU, as threads do: their mean wait is that of exponential work, whatever
    the work is (processor sharing; Kleinrock, J. ACM 14:2, 1967)."""
    return _of_parts("stations, shared CPU", replace(parts_of(levels), cpu_cv2=1.0), levels)


def product_form(levels: Sequence[Level]) -> Model:
    """Slots, pool and CPU with exponential times throughout, as exact MVA has them (Reiser & Lavenberg, 1980)."""
    return _of_parts("MVA", replace(parts_of(levels), cpu_cv2=1.0, slots_cv2=1.0), levels)


def usl(levels: Sequence[Level]) -> Model:
    """Gunther's universal scalability law, of calls in flight; percentiles keep their ratio to the mean."""
    law = fitted_usl([level.in_flight for level in levels], [level.throughput_rps for level in levels])
    last = _served(levels)[-1]
    ratios = [last.response.quantile_us(q) / 1e6 / last.mean_s for q in QUANTILES]

    def times(rate_rps: float) -> Responses:
        mean_s = law.users_at(rate_rps) / rate_rps
        return Responses(*(ratio * mean_s for ratio in ratios))

    said = f"gamma {law.gamma_rps:.4g}/s, alpha {law.alpha:.3g}, beta {law.beta:.3g}"
    return Model("USL", said, law.peak_rps, _tested(levels), times)


def _of_parts(name: str, parts: Parts, levels: Sequence[Level]) -> Model:
    said = "; ".join(ceiling.sentence for ceiling in ceilings(parts)) or "nothing is known to bound it"
    return Model(name, said, capacity_rps(parts), _tested(levels), lambda rate: responses(parts, rate), parts)


def _served(levels: Sequence[Level]) -> list[Level]:
    """The levels that were no overload, by rate."""
    served = sorted((level for level in levels if level.served), key=lambda level: level.rate_rps)
    if not served:
        raise NothingUsable("the server could not serve any rate that was tried; try a lower one")
    return served


def _servers(levels: Sequence[Level]) -> tuple[int, float]:
    """How many calls are served at a time, and what they wait without being served."""
    setting = levels[0].setting
    if setting.slots is not None:
        return setting.slots, 0.0
    return setting.cpus, setting.wait_s


def _tested(levels: Sequence[Level]) -> float:
    return max(level.throughput_rps for level in levels)


def _off(level: Level, times: Responses) -> float:
    """Squared errors of the logarithms of the percentiles, where a level names them."""
    pairs = [(level.ms(q), time) for q, time in zip(QUANTILES, times, strict=True)]
    return sum(math.log(time * 1000 / ms) ** 2 if math.isfinite(time) else 1e6 for ms, time in pairs if ms)


def _around(value: float | None, doubt: float | None) -> tuple[float | None, float | None]:
    return (None, None) if value is None or doubt is None else (value * math.exp(-doubt), value * math.exp(doubt))


Fit = Callable[[Sequence[Level]], Model]
CANDIDATES: dict[str, Fit] = {
    "bounds": bounds,
    "M/M/c": mmc,
    "M/G/c": mgc,
    "stations": stations,
    "stations, shared CPU": shared_cpu,
    "MVA": product_form,
    "USL": usl,
}
