"""PROOFS, fault 22: ten hours at 10 000 requests a second need no more memory than a minute.

The clock is simulated: a recorder is driven second by second as the load process drives it (arrivals offered, moments
folded, seconds closed). The 36 000 seconds of ten hours are run in full, at 200 requests a second, which takes
some 20 s where 10 000 would take minutes; that the rate does not matter is proved beside it.
"""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.histogram import LIMIT_US
from harness.load import schedule
from harness.load.recorder import TIMEOUT, Recorder

MB = 1 << 20
MINUTE_S, TEN_HOURS_S = 60, 36_000


def simulated(recorder: Recorder, rate: int, seconds: range, rng: np.random.Generator) -> None:
    """What the load process does in these seconds, at so many requests each."""
    track, hub = recorder.track("ping"), [0.0001] * 20
    for second in seconds:
        intended = recorder.origin + second + np.sort(rng.random(rate))
        track.offer_all(intended)
        late, service = rng.exponential(5e-5, rate), rng.exponential(0.02, rate)
        moments = np.column_stack([intended, intended + late, intended + late, intended + late + service])
        track._moments.frombytes(moments[1:].tobytes())
        recorder.fold()
        track.settle(TIMEOUT, *moments[0].tolist())
        for tenth in range(5):
            recorder.lag(recorder.origin + second + tenth / 5, hub)
        recorder.close(before=second - 1)


def held_after(rate: int, seconds: int) -> float:
    """MB that Python and numpy hold after so many simulated seconds."""
    gc.collect()
    tracemalloc.start()
    try:
        recorder = Recorder(1000.0, closed=False, write=lambda _text: None)
        simulated(recorder, rate, range(seconds), np.random.default_rng(1))
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / MB
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_ten_hours_hold_no_more_than_a_minute(tmp_path: Path) -> None:
    process, rng = psutil.Process(), np.random.default_rng(1)
    rows = tmp_path / "rows.jsonl"
    with rows.open("w", encoding="utf-8") as sink:
        recorder = Recorder(1000.0, closed=False, write=sink.write)
        simulated(recorder, 200, range(MINUTE_S), rng)
        gc.collect()
        minute = process.memory_info().rss / MB
        simulated(recorder, 200, range(MINUTE_S, TEN_HOURS_S), rng)
        gc.collect()
        grown = process.memory_info().rss / MB - minute
        track = recorder.track("ping")
        assert max(len(track.bins), len(track.counts)) <= 4, "seconds that were closed are still held"
    print(f"resident after ten hours: {grown:+.1f} MB; rows: {rows.stat().st_size / MB:.0f} MB on disk")
    assert grown <= 10


@pytest.mark.slow
def test_memory_does_not_depend_on_requests_a_second() -> None:
    held = {rate: held_after(rate, 20) for rate in (500, 10_000, 40_000)}
    print({rate: f"{mb:.2f} MB" for rate, mb in held.items()})
    assert max(held.values()) <= 10
    # a second's raw moments, 32 bytes a request, are all that grows with the rate; they are folded within 10 ms
    assert held[40_000] - held[500] <= 2


def test_a_schedule_of_ten_hours_is_never_held_whole() -> None:
    tracemalloc.start()
    try:
        drawn = schedule.calls(schedule.blocks("poisson", 10_000, TEN_HOURS_S, 1), [1, 2], 2)
        before = tracemalloc.get_traced_memory()[0]
        count, last = 0, 0.0
        for times, _ in drawn:
            count, last = count + len(times), float(times[-1])
            if last > MINUTE_S:
                break
        grown = (tracemalloc.get_traced_memory()[1] - before) / MB
    finally:
        tracemalloc.stop()
    assert count == pytest.approx(600_000, rel=0.01)
    assert grown < 1, "360 million arrivals would be 2.9 GB"


def test_out_of_range_values_are_counted_in_the_last_bucket() -> None:
    lines: list[str] = []
    recorder = Recorder(0.0, closed=False, write=lines.append)
    track = recorder.track("ping")
    for service_s in (1e-9, 3 * LIMIT_US / 1e6, -1.0):
        track.offer(0.5)
        track.settle("", 0.5, 0.5, 0.5, 0.5 + service_s)
    (row, *_) = [row for row in recorder.close() if row["second"] == 0]
    assert row["offered"] == row["completed"] == 3
    for kind in ("service", "response"):
        assert sum(row["hist"][kind][1]) == 3, f"a {kind} time was dropped"
