"""Latency against offered rate: the hockey stick. In: a search's steps and its SLO. Out: rows by rate. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from harness.capacity.slo import limits
from harness.capacity.steps import Step, broken, certainly
from harness.trial import Slo

SAME = 1.01  # rates as near as this are one point


@dataclass(frozen=True)
class Row:
    """One rate. ms: the median over its trials of the promised quantile; low, high: the least and the greatest.

    These are no confidence bounds, but where six trials or more stand behind them: then, of the median, 97 %
    (order statistics: David and Nagaraja 2003, §7.1). None: one trial only. verdict: of all its trials as one.
    """

    rate_rps: float
    trials: int
    quantile: float
    ms: float
    low_ms: float | None
    high_ms: float | None
    verdict: Literal["holds", "fails", "unclear"]


def curve(steps: Sequence[Step], slo: Slo) -> tuple[Row, ...]:
    """Rows by rate, of the highest quantile that the SLO names (p99 where it names none), without spoilt trials."""
    quantile = max(limits(slo), default=0.99)
    rows: list[list[Step]] = []
    for step in sorted((step for step in steps if not step.seen.fault), key=lambda step: step.ask.rate_rps):
        if rows and step.ask.rate_rps <= SAME * rows[-1][0].ask.rate_rps:
            rows[-1].append(step)
        else:
            rows.append([step])
    return tuple(_row(row, slo, quantile) for row in rows)


def _row(steps: Sequence[Step], slo: Slo, quantile: float) -> Row:
    times = [step.seen.quantiles_ms[quantile] for step in steps]
    alone = len(times) == 1
    return Row(
        rate_rps=fmean(step.ask.rate_rps for step in steps),
        trials=len(times),
        quantile=quantile,
        ms=median(times),
        low_ms=None if alone else min(times),
        high_ms=None if alone else max(times),
        verdict=_verdict(steps, slo),
    )


def _verdict(steps: Sequence[Step], slo: Slo) -> Literal["holds", "fails", "unclear"]:
    """Of all arrivals as one: unclear is a share above the promised one that chance alone would still give."""
    offered = sum(step.seen.offered for step in steps)
    if any(step.seen.growing or broken(slo, step.seen) for step in steps):
        return "fails"
    verdict: Literal["holds", "unclear"] = "holds"
    for quantile, limit_ms in limits(slo).items():
        late = sum(step.seen.over[limit_ms] * step.seen.offered for step in steps)
        if late > certainly((1 - quantile) * offered):
            return "fails"
        if late > (1 - quantile) * offered:
            verdict = "unclear"
    return verdict
