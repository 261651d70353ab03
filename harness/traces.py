"""Where the time of a Trial went. In: what clients and applications noted of each request. Out: a Trace a row.

Both note moments of the monotonic clock, which all processes of one host share, and the number that the request
carried; so they are joined by that number, and the moments subtracted. `joined` is pure; a Tracer reads the files.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.trace import STAMP, SUFFIX, UNKNOWN
from harness.histogram import Histogram, Ints
from harness.load.order import SENT
from harness.recording import Portion, Trace, packed
from harness.trial import Trial

Table = NDArray[Any]  # of records
SENT_AS = np.dtype(
    [("id", "<u8"), ("intended", "<f8"), ("taken", "<f8"), ("attempted", "<f8"), ("ended", "<f8"), ("part", "<u2")]
)
STAMP_AS = np.dtype([("id", "<u8"), ("entry", "<u8"), ("left", "<u8"), ("spent", "<i8"), ("thread", "<u8")])
STAMPED_AS = np.dtype([*STAMP_AS.descr, ("process", "<u8")])
WRITTEN_S = 2.5  # applications write each second; one that was just stopped may be late
LOOK_S = 0.1
TOLD_APART = 256  # threads of a Trial, at most: a server may have one for each connection
assert (SENT_AS.itemsize, STAMP_AS.itemsize) == (SENT.size, STAMP.size)


class Tracer:
    """A folder that takes the notes of a Run's Trials, one Trial after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._firsts = itertools.count(1 << 40, 1 << 40)
        self._read: Counter[Path] = Counter()  # bytes of each file so far

    def first_id(self) -> int:
        """Of the next Trial's calls. No other Trial has any of those up to the next one's first."""
        return next(self._firsts)

    def traces(self, trial: Trial, first_id: int, origin: float) -> tuple[Trace, ...]:
        """Of the Trial that has just ended; waits until the applications have written, at most WRITTEN_S."""
        sent = self._sent()
        found = [self._stamped()]
        deadline = time.monotonic() + WRITTEN_S
        while sum(map(len, found)) < len(sent) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
            found.append(self._stamped())
        stamped = np.concatenate(found)
        own = (stamped["id"] >= first_id) & (stamped["id"] < first_id + (1 << 40))
        return joined(sent, stamped[own], trial, origin)

    def _sent(self) -> Table:
        """What all load processes have noted; their files are gone afterwards."""
        paths = sorted(self.folder.glob("*.sent"))
        tables = [_records(path.read_bytes(), SENT_AS) for path in paths]
        for path in paths:
            path.unlink()
        return np.concatenate(tables) if tables else np.empty(0, SENT_AS)

    def _stamped(self) -> Table:
        """What all applications have written since the last look."""
        tables = [np.empty(0, STAMPED_AS)]
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            with path.open("rb") as source:
                source.seek(self._read[path])
                records = _records(source.read(), STAMP_AS)
            self._read[path] += records.nbytes
            table = np.zeros(len(records), STAMPED_AS)
            for name in STAMP_AS.names or ():
                table[name] = records[name]
            table["process"] = int(path.stem)
            tables.append(table)
        return np.concatenate(tables)


def _records(data: bytes, kind: np.dtype[Any]) -> Table:
    """Whole records; what is being written comes with the next look."""
    return np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)


def joined(sent: Table, stamped: Table, trial: Trial, origin: float) -> tuple[Trace, ...]:
    """What the measured window came to, a Trace a row of the mix. origin: when the first arrival was due.

    A request that passed two stamped applications counts as it passed the outer one, which it came into first.
    """
    scenario = trial.scenario
    second = np.floor(sent["intended"] - origin)
    window = sent[(second >= scenario.warmup_s) & (second < scenario.duration_s)]
    stamped = stamped[np.lexsort((stamped["entry"], stamped["id"]))]
    ids, firsts = np.unique(stamped["id"], return_index=True)
    places = np.searchsorted(ids, window["id"])
    both = places < len(ids)
    both[both] = ids[places[both]] == window["id"][both]
    met = stamped[firsts[places[both]]]
    names = [part.row for part in scenario.mix]
    found = []
    for name in dict.fromkeys(names):
        of_row = np.isin(window["part"], [i for i, row in enumerate(names) if row == name])
        if of_row.any():
            chosen = of_row & both
            kinds = portions(window[chosen], met[of_row[both]], closed=scenario.arrivals == "closed")
            found.append(_trace(name, kinds, met[of_row[both]], int((of_row & ~both).sum())))
    return tuple(found)


def portions(sent: Table, met: Table, *, closed: bool) -> dict[Portion, Ints]:
    """The portions of each request, in whole µs, which add up to its response: rounded moments are subtracted.

    An answer may be with its client before the application has left: then there is nothing to write.
    """
    moments: list[Ints] = [np.rint(sent[name] * 1e6).astype(np.int64) for name in ("intended", "taken", "attempted")]
    ended = np.rint(sent["ended"] * 1e6).astype(np.int64)
    left = np.minimum((met["left"] // 1000).astype(np.int64), ended)
    entry = np.clip((met["entry"] // 1000).astype(np.int64), moments[2], np.maximum(left, moments[2]))
    left = np.maximum(left, entry)
    inside = left - entry
    kinds: dict[Portion, Ints] = {"before": entry - moments[2]}
    if (met["spent"] == UNKNOWN).any():
        kinds |= {"inside": inside}
    else:
        cpu = np.clip(met["spent"] // 1000, 0, inside)
        kinds |= {"wait": inside - cpu, "cpu": cpu}
    kinds |= {"write": np.maximum(ended - left, 0)}
    if closed:  # no intended time: response is service
        return kinds
    return {"lateness": moments[1] - moments[0], "blocked": moments[2] - moments[1], **kinds}


def _trace(name: str, kinds: dict[Portion, Ints], met: Table, missing: int) -> Trace:
    workers = Counter(zip(met["process"].tolist(), met["thread"].tolist(), strict=True))
    if len(workers) > TOLD_APART:
        workers = Counter((process, 0) for process in met["process"].tolist())
    return Trace(
        row=name,
        n=len(met),
        missing=missing,
        sums={kind: int(values.sum()) for kind, values in kinds.items()},
        hist={kind: packed(Histogram.of(values)) for kind, values in kinds.items()},
        workers=tuple((*who, count) for who, count in sorted(workers.items())),
    )
