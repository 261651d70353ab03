"""Servers of known truth, without a clock. In: how long a request takes. Out: a probe that answers an Ask at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from harness.capacity.search import Ask, Seen
from harness.capacity.slo import limits, thresholds
from harness.trial import Slo

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]
Probe = Callable[[Ask], Seen]


def exponential(rate: float) -> Draw:
    return lambda random, n: random.exponential(1 / rate, n)


def fixed(service_s: float) -> Draw:
    return lambda random, n: np.full(n, service_s)


def waits(arrivals: Array, services: Array) -> Array:
    """Responses of one FIFO server (Lindley 1952): the last departure is the worst of all that came before."""
    done = np.cumsum(services)
    return np.asarray(done + np.maximum.accumulate(arrivals - (done - services)) - arrivals)


def served(arrivals: Array, services: Array, slots: int) -> Array:
    """The same with several slots. Exact for one slot, and for services that are all alike: then slots take turns."""
    found = np.empty_like(arrivals)
    for slot in range(slots):
        found[slot::slots] = waits(arrivals[slot::slots], services[slot::slots])
    return found


def probe(draw: Draw, slos: Sequence[Slo], *, slots: int = 1) -> Probe:
    """A server that serves in the order of arrival; each Ask is a new server, empty at first."""

    def answer(ask: Ask) -> Seen:
        random = np.random.default_rng(ask.seed)
        n = random.poisson(ask.rate_rps * ask.duration_s)
        arrivals = np.sort(random.uniform(0, ask.duration_s, n))
        return seen(ask, arrivals, served(arrivals, draw(random, n), slots), slos)

    return answer


def seen(ask: Ask, arrivals: Array, responses: Array, slos: Sequence[Slo]) -> Seen:
    """What a probe tells of these requests; an infinite response is a lost request."""
    read = arrivals >= ask.warmup_s
    times, n = responses[read], int(read.sum())
    ends = np.where(np.isinf(responses), arrivals, arrivals + responses)
    inside = [int(((arrivals < at) & (ends > at)).sum()) for at in (ask.warmup_s, ask.duration_s)]
    longest_s = max(limit for slo in slos for limit in limits(slo).values()) / 1000
    grew = inside[1] - inside[0] > max(0.1 * n, ask.rate_rps * longest_s, inside[0])
    answered = (ends >= ask.warmup_s) & (ends < ask.duration_s) & np.isfinite(responses)
    return Seen(
        rate_rps=ask.rate_rps,
        offered=n,
        bad=int(np.isinf(times).sum()),
        over={limit: float((times > limit / 1000).mean()) if n else 0.0 for limit in thresholds(slos)},
        quantiles_ms={q: 1000 * _quantile(times, q) for q in (0.5, 0.9, 0.99)},
        tail=n,
        growing=grew,
        completed_rps=float(answered.sum()) / (ask.duration_s - ask.warmup_s),
        seconds=ask.duration_s,
        limited_by="cpu" if grew else "none",
    )


def _quantile(times: Array, q: float) -> float:
    return float(np.partition(times, at := math.ceil(q * len(times)) - 1)[at]) if len(times) else 0.0


def weak(inner: Probe, most_rps: float) -> Probe:
    """The same server, behind a generator that can't offer more than this."""
    fault = "its lateness p99 was 40 ms"
    return lambda ask: replace(inner(ask), fault=fault if ask.rate_rps > most_rps else "")


# -- truths ----------------------------------------------------------------------------------------------------------


def mm1(rate: float, quantile: float, limit_s: float) -> float:
    """λ* of M/M/1: P(response > x) = exp(−(μ − λ) x)."""
    return rate + math.log(1 - quantile) / limit_s


def md1(service_s: float, quantile: float, limit_s: float) -> float:
    """λ* of M/D/1, by bisection of its exact waiting times."""
    low, high = 0.0, 1 / service_s
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if _md1_within(middle, service_s, limit_s) >= quantile else (low, middle)
    return low


def _md1_within(rate: float, service_s: float, limit_s: float) -> float:
    """P(response ≤ limit) of M/D/1 (Erlang 1909; Crommelin 1932). Its terms alternate and are huge: 120 digits."""
    with localcontext() as context:
        context.prec = 120
        lam, wait = Decimal(rate), Decimal(limit_s) - Decimal(service_s)
        total, factorial = Decimal(0), Decimal(1)
        for k in range(int(wait / Decimal(service_s)) + 1):
            factorial *= k or 1
            gap = lam * (k * Decimal(service_s) - wait)
            total += gap**k / factorial * (-gap).exp() if k else (-gap).exp()
        return float((1 - lam * Decimal(service_s)) * total)
