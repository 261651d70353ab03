"""HDR histograms of whole microseconds. In: arrays of values. Out: counts by bucket, merged and read without loss.

The layout is HdrHistogram's with three significant digits (Gil Tene, hdrhistogram.org): 2 048 buckets of 1 µs, then for
each doubling 1 024 buckets twice as wide. So a value is never more than 1/1024 below the value that is read back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LIMIT_US = 1 << 36  # 19 hours; a larger value is counted in the last bucket
_SUB_BITS = 11
BUCKETS = ((36 - _SUB_BITS) << (_SUB_BITS - 1)) + (1 << _SUB_BITS)


def bucket_of(values_us: Ints) -> Ints:
    """The bucket of each value; negative ones count as 0, those beyond LIMIT_US as the last bucket."""
    clipped = np.clip(values_us, 0, LIMIT_US - 1)
    # frexp gives the bit length exactly: 36 bits are far within a double's 53
    doublings = np.maximum(np.frexp(clipped.astype(np.float64))[1] - _SUB_BITS, 0).astype(np.int64)
    buckets: Ints = (doublings << (_SUB_BITS - 1)) + (clipped >> doublings)
    return buckets


def highest_in(bucket: Ints) -> Ints:
    """The highest value of each bucket, in µs: what HdrHistogram reports, so nothing is ever understated."""
    doublings = np.maximum((bucket >> (_SUB_BITS - 1)) - 1, 0)
    lowest = (bucket - (doublings << (_SUB_BITS - 1))) << doublings
    highest: Ints = lowest + (np.int64(1) << doublings) - 1
    return highest


@cache
def samples_needed(q: float, confidence: float = 0.99) -> int:
    """The fewest samples whose second largest is an upper bound of the q-quantile: p99 662, p99.9 6 636.

    P(at most one of n above the quantile) = qⁿ + n(1-q)qⁿ⁻¹ ≤ 1 - confidence (David & Nagaraja, §7.1).
    """
    n = 2
    while q**n + n * (1 - q) * q ** (n - 1) > 1 - confidence:
        n += 1
    return n


@dataclass(frozen=True, eq=False)
class Histogram:
    """Sparse: `buckets` ascending, `counts` beside them, both whole numbers of the same length."""

    buckets: Ints
    counts: Ints

    @staticmethod
    def of(values_us: Iterable[int] | Ints) -> Histogram:
        values = np.asarray(values_us if isinstance(values_us, np.ndarray) else list(values_us), dtype=np.int64)
        return Histogram(*np.unique(bucket_of(values), return_counts=True))

    @staticmethod
    def merged(parts: Iterable[Histogram]) -> Histogram:
        """The histogram of all samples together: percentiles are only ever taken of this, never averaged."""
        some = [part for part in parts if len(part.buckets)]
        if not some:
            return Histogram(np.empty(0, np.int64), np.empty(0, np.int64))
        buckets, inverse = np.unique(np.concatenate([part.buckets for part in some]), return_inverse=True)
        counts = np.zeros(len(buckets), np.int64)
        np.add.at(counts, inverse, np.concatenate([part.counts for part in some]))
        return Histogram(buckets, counts)

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def values_us(self) -> Ints:
        return highest_in(self.buckets)

    @property
    def max_us(self) -> int:
        return int(self.values_us[-1])

    @property
    def mean_us(self) -> float:
        return float(self.values_us @ self.counts) / self.n if self.n else math.nan

    def quantile_us(self, q: float) -> int:
        """The value at nearest rank, ⌈q·n⌉ counted from the smallest, in µs. Raises ValueError when empty."""
        if not self.n:
            raise ValueError("no samples, no quantile")
        # rounding guards against 0.99 · 100 = 99.00000000000001
        rank = min(max(math.ceil(round(q * self.n, 6)), 1), self.n)
        return int(self.values_us[int(np.searchsorted(np.cumsum(self.counts), rank))])

    def share_above(self, limit_us: float) -> float:
        """The share of samples above a limit; 0 when empty."""
        return float(self.counts[self.values_us > limit_us].sum()) / self.n if self.n else 0.0
