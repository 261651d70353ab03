"""A histogram as text. In: a Histogram. Out: the .hgrm file that HdrHistogram's plotters read; bars for a terminal.

The .hgrm format is that of `AbstractHistogram.outputPercentileDistribution` (Gil Tene, HdrHistogram): a line for each
step of a percentile axis that takes five steps to halve what is left to 100 %, values in ms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from harness.histogram import LIMIT_US, Histogram

TICKS = 5  # steps a half distance, as HdrHistogram's own tools write
SUB_BUCKETS = 2048
DOUBLINGS = LIMIT_US.bit_length() - SUB_BUCKETS.bit_length() + 1  # HdrHistogram counts these as its buckets
HEAD = f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}\n\n"


class Line(NamedTuple):
    """So many samples, that share of all, are at most this value."""

    value_us: int
    share: float
    samples: int


def lines(histogram: Histogram, ticks: int = TICKS) -> Iterator[Line]:
    """The steps of the percentile axis (HdrHistogram's PercentileIterator); nothing for an empty histogram."""
    if not histogram.n:
        return
    values, below = histogram.values_us.tolist(), np.cumsum(histogram.counts).tolist()
    percent, index = 0.0, 0
    while True:
        while 100 * below[index] / histogram.n < percent:
            index += 1
        yield Line(values[index], percent / 100, below[index])
        if below[index] == histogram.n:
            break
        halvings = math.floor(math.log2(100 / (100 - percent))) + 1
        percent += 100 / (ticks * 2**halvings)
    yield Line(values[-1], 1.0, histogram.n)


def hgrm(histogram: Histogram) -> str:
    """The whole file."""
    body = "".join(map(_row, lines(histogram)))
    mean, deviation, most = _moments_ms(histogram)
    return (
        HEAD
        + body
        + f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]\n"
        + f"#[Max     = {most:12.3f}, Total count    = {histogram.n:12d}]\n"
        + f"#[Buckets = {DOUBLINGS:12d}, SubBuckets     = {SUB_BUCKETS:12d}]\n"
    )


def _row(line: Line) -> str:
    start = f"{line.value_us / 1000:12.3f} {line.share:2.12f} {line.samples:10d}"
    return f"{start} {1 / (1 - line.share):14.2f}\n" if line.share < 1 else f"{start}\n"


def _moments_ms(histogram: Histogram) -> tuple[float, float, float]:
    if not histogram.n:
        return 0.0, 0.0, 0.0
    values = histogram.values_us / 1000
    mean = float(values @ histogram.counts) / histogram.n
    variance = float((values - mean) ** 2 @ histogram.counts) / histogram.n
    return mean, math.sqrt(variance), histogram.max_us / 1000


class Bar(NamedTuple):
    """So many samples are above the bar before and at most this."""

    upto_us: int
    samples: int


def bars(histogram: Histogram, most: int = 16) -> list[Bar]:
    """Few bars: each 1, 2 or 5 times a power of ten, or evenly apart where the values lie close together."""
    if not histogram.n:
        return []
    values, counts = histogram.values_us, histogram.counts
    low, high = int(values[0]), int(values[-1])
    edges = [edge for edge in _steps(high) if edge >= low]
    if len(edges) > most:  # over more than five decades: whole decades
        edges = [edge for edge in edges if str(edge)[0] == "1" or edge == edges[-1]]
    if len(edges) < 5:
        *_, width = _steps((high - low) // 10 + 1)
        edges = list(range(-(-low // width) * width, high + width, width))
    places = np.searchsorted(np.asarray(edges), values)
    return [Bar(edge, int(counts[places == place].sum())) for place, edge in enumerate(edges)]


def _steps(high: int) -> Iterator[int]:
    """1, 2, 5, 10, 20, … up to the first that is not below `high`."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            yield digit * power
            if digit * power >= high:
                return
        power *= 10
