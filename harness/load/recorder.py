"""What happened, kept small. In: the four moments of each call. Out: Rows by second, written as seconds close.

A call's moments are intended, taken up, attempted and ended (DESIGN's words of time), in seconds of the monotonic
clock, kept raw in an array and folded into histograms a slice at a time, so that the hub is never held for long.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.histogram import BUCKETS, Histogram, Ints, bucket_of
from harness.recording import HUB, packed

SLICE = 2048  # samples folded at a time: about 0.1-0.3 ms
TIMEOUT, NO_CONNECTION, UNFINISHED = "timeout", "no free connection", "unfinished"
OVERDUE = {TIMEOUT: "timed_out", NO_CONNECTION: "timed_out", UNFINISHED: "unfinished"}  # have an age instead of an end
INTERRUPTED = "interrupted"  # somebody asked for the end: what was not yet drawn of the schedule was never offered
LATE_S = 0.050  # PROOFS T5: taken up this late is the generator's fault

_PACKED = Struct("=4d").pack
Bins = dict[str, Ints]


class Track:
    """One row: an endpoint, or a part of a stream. `offer` when a call is due, then exactly one outcome."""

    def __init__(self, name: str, recorder: Recorder) -> None:
        self.name = name
        self._whole = ":" not in name or name.endswith(":slow")  # not a part of a stream or socket
        self._recorder = recorder
        self._moments = array("d")
        self._ages = array("d")  # the same of calls that are overdue
        self.offer = (offers := array("d")).append  # of the intended moment; the hot path calls it unbound
        self._offers = offers
        self.counts: dict[int, Counter[str]] = defaultdict(Counter)
        self.bins: dict[int, Bins] = {}

    def completed(self, intended: float, taken: float, attempted: float, ended: float) -> None:
        self._moments.frombytes(_PACKED(intended, taken, attempted, ended))  # half the time of extending by a tuple

    def settle(self, kind: str, intended: float, taken: float, attempted: float, ended: float) -> None:
        """The outcome of one call: '' is a right answer, anything else the kind of its error."""
        if not kind:
            self.completed(intended, taken, attempted, ended)
        elif kind in OVERDUE:
            self._overdue(kind, intended, taken, attempted, ended)
        else:
            self._recorder.started_late += self._whole and taken - intended > LATE_S
            self.failed(intended, kind)

    def settle_all(
        self, kind: str, intended: NDArray[np.float64], ended: float, taken: NDArray[np.float64] | None = None
    ) -> None:
        """The same outcome for many calls of an open load that were never sent, as of `ended`, or when they were due.

        taken: when they were taken up, None = never. No service is recorded of what nobody was asked to serve.
        """
        if not len(intended):
            return
        given_up = np.maximum(intended, ended)
        ticks = self._ticks(np.column_stack([intended, given_up if taken is None else taken, given_up]))
        lateness, blocked = np.diff(ticks).T
        self._notice(lateness)
        if kind in OVERDUE:
            self._count(OVERDUE[kind], intended)
            kinds = {"lateness": lateness, "response": ticks[:, 2] - ticks[:, 0]}
            self.add(ticks[:, 0], kinds if taken is None else kinds | {"blocked": blocked})
        else:
            self._count("failed", intended)
        if kind != UNFINISHED:
            self._recorder.errors[kind] += len(intended)

    def failed(self, intended: float, kind: str) -> None:
        """An error: counted by kind, never throughput, no latency."""
        self.counts[self._recorder.second(intended)]["failed"] += 1
        self._recorder.errors[kind] += 1

    def _overdue(self, kind: str, intended: float, taken: float, attempted: float, now: float) -> None:
        """Enters the percentiles with its age, which is less than the truth."""
        self.counts[self._recorder.second(intended)][OVERDUE[kind]] += 1
        if kind != UNFINISHED:
            self._recorder.errors[kind] += 1
        self._ages.frombytes(_PACKED(intended, taken, attempted, now))

    def fold(self, *, whole: bool) -> None:
        """Moves samples into histograms: at most a slice, or all of them."""
        limit = None if whole else 4 * SLICE
        if self._moments:
            moments = _cut(self._moments, limit)
            self._count("completed", moments[:, 0])
            self._count("finished", moments[:, 3])
            self._fold_moments(moments)
        if self._ages:
            self._fold_moments(_cut(self._ages, limit))
        if self._offers and (whole or len(self._offers) >= SLICE):
            self._count("offered", np.frombuffer(self._offers[:]))
            del self._offers[:]

    def offer_all(self, intended: NDArray[np.float64]) -> None:
        """A whole schedule at once."""
        self._count("offered", intended)

    def _ticks(self, moments: NDArray[np.float64]) -> Ints:
        """Whole µs since the origin."""
        return np.rint((moments - self._recorder.origin) * 1e6).astype(np.int64)

    def _count(self, what: str, moments: NDArray[np.float64]) -> None:
        for second, chosen in _by_second(self._ticks(moments)):
            self.counts[second][what] += len(moments[chosen])

    def _fold_moments(self, moments: NDArray[np.float64]) -> None:
        # whole µs first, then differences: lateness + blocked + service is the response exactly
        ticks = self._ticks(moments)
        lateness, blocked, service = np.maximum(ticks[:, 1:] - ticks[:, :-1], 0).T
        self._notice(lateness)
        kinds = {"service": service}
        if not self._recorder.closed:
            kinds |= {"lateness": lateness, "blocked": blocked, "response": ticks[:, 3] - ticks[:, 0]}
        self.add(ticks[:, 0], kinds)

    def _notice(self, lateness: Ints) -> None:
        """Counts the whole calls that were taken up so late (µs) that it is the generator's fault."""
        if self._whole:
            self._recorder.started_late += int((lateness > LATE_S * 1e6).sum())

    def add(self, ticks: Ints, kinds: dict[str, Ints]) -> None:
        """Counts values (µs) of each kind into the histograms of the seconds of their ticks (µs since the origin)."""
        buckets = dict(zip(kinds, bucket_of(np.stack(list(kinds.values()))), strict=True))
        for second, chosen in _by_second(ticks):
            bins = self.bins.setdefault(second, {})
            for kind, indices in buckets.items():
                if kind not in bins:
                    bins[kind] = np.zeros(BUCKETS, np.int64)
                np.add.at(bins[kind], indices[chosen], 1)

    def close(self, before: float) -> list[dict[str, Any]]:
        """Takes out the seconds that lie before `before`, as rows. What comes later for them makes further rows."""
        rows = []
        for second in sorted(self.counts.keys() | self.bins.keys()):
            if second < before:
                bins = self.bins.pop(second, {})
                row: dict[str, Any] = {"second": second, "row": self.name, **self.counts.pop(second, {})}
                row["hist"] = {kind: packed(Histogram(*_sparse(counts))) for kind, counts in bins.items()}
                rows.append(row)
        return rows


def _cut(kept: array[float], limit: int | None) -> NDArray[np.float64]:
    """Takes the first moments out, a row a call."""
    moments = np.frombuffer(kept[:limit]).reshape(-1, 4)
    del kept[:limit]
    return moments


def _by_second(ticks: Ints) -> Iterator[tuple[int, slice | NDArray[np.bool_]]]:
    """Each second in which there are some, and which they are. What is before the origin belongs to the first."""
    if not len(ticks):
        return
    seconds = ticks // 1_000_000
    first, last = max(int(seconds.min()), 0), max(int(seconds.max()), 0)
    if first == last:
        yield first, slice(None)
        return
    np.maximum(seconds, 0, out=seconds)
    for second in np.unique(seconds).tolist():
        yield second, seconds == second


def _sparse(counts: Ints) -> tuple[Ints, Ints]:
    buckets = np.flatnonzero(counts != 0)  # of truth values it is found four times as fast as of numbers
    return buckets, counts[buckets]


class Recorder:
    """All tracks of one Trial. write: takes the text of closed seconds, a row a line."""

    def __init__(self, origin: float, *, closed: bool, write: Callable[[str], object]) -> None:
        self.origin = origin
        self.closed = closed
        self.errors: Counter[str] = Counter()
        self.started_late = 0
        self.tracks: dict[str, Track] = {}
        self._write = write
        self._hub = self.track(HUB)

    def second(self, moment: float) -> int:
        return max(round((moment - self.origin) * 1e6) // 1_000_000, 0)

    def track(self, name: str) -> Track:
        if name not in self.tracks:
            self.tracks[name] = Track(name, self)
        return self.tracks[name]

    def lag(self, due: float, lags_s: list[float]) -> None:
        """The hub's own ticker: how late it was woken; its samples accuse the generator, not the server."""
        values = np.rint(np.array(lags_s) * 1e6).astype(np.int64)
        self._hub.add(np.full(len(values), self.second(due) * 1_000_000), {"lag": values})

    def fold(self) -> None:
        """One slice of each track; called by the ticker."""
        for track in self.tracks.values():
            track.fold(whole=False)

    def close(self, before: float = math.inf) -> list[dict[str, Any]]:
        """Writes the seconds before `before` (all, unless told) and returns their rows."""
        rows = []
        for track in self.tracks.values():
            track.fold(whole=True)
            rows += track.close(before)
        self._write("".join(json.dumps({"row": row}, separators=(",", ":")) + "\n" for row in rows))
        return rows
