"""What clients and applications noted, joined: portions add up to the response, and what is missing is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.trace import STAMP, UNKNOWN
from harness.load.order import SENT
from harness.recording import Trace, read, save
from harness.traces import SENT_AS, STAMPED_AS, Tracer, joined, portions
from harness.trial import Part, Scenario, Trial
from tests.report import fake

ORIGIN, FIRST = 100.0, 1 << 40


def trial(arrivals: str = "poisson", *rows: str) -> Trial:
    levels: dict[str, Any] = {"users": (16,)} if arrivals == "closed" else {"rates": (10.0,)}
    asked = Scenario(
        name="t",
        question="Where does the time go?",
        arrivals=arrivals,
        mix=tuple(Part(endpoint=row) for row in rows or ("sleep",)),
        duration_s=4,
        warmup_s=1,
        **levels,
    )
    return Trial(variant="v", scenario=asked, level=asked.levels[0], repeat=0, seed=1)


def sent(*rows: tuple[Any, ...]) -> Any:
    """Rows of (number, intended, taken, attempted, ended, part), in ms after the origin."""
    moments = [(FIRST + n, *(ORIGIN + ms / 1000 for ms in times), part) for n, *times, part in rows]
    return np.array(moments, SENT_AS)


def stamped(*rows: tuple[int, float, float, float, int, int]) -> Any:
    """Rows of (number, entry, left, CPU, thread, process), in ms after the origin."""
    whole = [
        (FIRST + n, round((ORIGIN * 1000 + entry) * 1e6), round((ORIGIN * 1000 + left) * 1e6), int(cpu * 1e6), t, p)
        for n, entry, left, cpu, t, p in rows
    ]
    return np.array(whole, STAMPED_AS)


def test_each_portion_is_between_two_moments() -> None:
    (one,) = joined(
        sent((0, 1500, 1501, 1503, 1910, 0)),
        stamped((0, 1800, 1906, 2.5, 11, 21)),
        trial(),
        ORIGIN,
    )
    assert one.sums == {
        "lateness": 1000, "blocked": 2000, "before": 297_000, "wait": 103_500, "cpu": 2500, "write": 4000,
    }  # fmt: skip
    assert sum(one.sums.values()) == 410_000
    assert (one.row, one.n, one.missing, one.workers) == ("sleep", 1, 0, ((21, 11, 1),))


def test_a_closed_load_has_no_intended_time_and_greenlets_no_cpu() -> None:
    (one,) = joined(sent((0, 1500, 1500, 1500, 1910, 0)), stamped((0, 1800, 1906, 0, 1, 2)), trial("closed"), ORIGIN)
    assert set(one.sums) == {"before", "wait", "cpu", "write"}
    unknown = stamped((0, 1800, 1906, 0, 1, 2))
    unknown["spent"] = UNKNOWN
    (one,) = joined(sent((0, 1500, 1500, 1500, 1910, 0)), unknown, trial("closed"), ORIGIN)
    assert one.sums == {"before": 300_000, "inside": 106_000, "write": 4000}


def test_only_the_window_counts_row_by_row_and_what_no_application_saw_is_missing() -> None:
    requests = sent(
        (0, 999, 999, 999, 1100, 0),  # of the warm-up
        (1, 1000, 1000, 1000, 1100, 0),
        (2, 1200, 1200, 1200, 1300, 1),
        (3, 1300, 1300, 1300, 1400, 2),  # of the same row as part 0
        (4, 3999, 3999, 3999, 4100, 0),
        (5, 4000, 4000, 4000, 4100, 0),  # beyond
    )
    seen = stamped(*((n, 1000, 1010, 0, 1, 1 + n % 2) for n in (0, 1, 3, 5)))
    ping, sleep = joined(requests, seen, trial("poisson", "ping", "sleep", "ping"), ORIGIN)
    assert (ping.row, ping.n, ping.missing, ping.workers) == ("ping", 2, 1, ((2, 1, 2),))
    assert (sleep.row, sleep.n, sleep.missing) == ("sleep", 0, 1)
    assert joined(requests[:0], seen, trial(), ORIGIN) == ()
    assert joined(requests, seen[:0], trial("poisson", "ping", "sleep"), ORIGIN)[0].missing == 2


def test_of_two_applications_that_stamp_a_request_the_outer_one_counts() -> None:
    twice = stamped((0, 1700, 1750, 1, 7, 3), (0, 1600, 1800, 1, 8, 3))
    (one,) = joined(sent((0, 1500, 1500, 1500, 1900, 0)), twice, trial(), ORIGIN)
    assert (one.sums["before"], one.workers) == (100_000, ((3, 8, 1),))


def test_threads_without_number_are_told_apart_by_their_process_only() -> None:
    requests = sent(*((n, 1500, 1500, 1500, 1600, 0) for n in range(300)))
    (one,) = joined(requests, stamped(*((n, 1510, 1590, 0, n + 1, 9) for n in range(300))), trial(), ORIGIN)
    assert one.workers == ((9, 0, 300),)


@given(
    moments=st.lists(st.integers(0, 10**7), min_size=4, max_size=4).map(sorted),
    entry=st.integers(-(10**6), 11**7),
    inside=st.integers(0, 10**7),
    spent=st.integers(-1, 10**7),
)
def test_portions_are_never_negative_and_add_up(moments: list[int], entry: int, inside: int, spent: int) -> None:
    table = np.array([(1, *(ORIGIN + us / 1e6 for us in moments), 0)], SENT_AS)
    met = np.zeros(1, STAMPED_AS)
    met["entry"], met["left"] = (ORIGIN * 1e6 + entry) * 1000, (ORIGIN * 1e6 + entry + inside) * 1000
    met["spent"] = spent * 1000 if spent >= 0 else UNKNOWN
    parts = portions(table, met, closed=False)
    assert all(values.min() >= 0 for values in parts.values())
    assert sum(int(values.sum()) for values in parts.values()) == moments[3] - moments[0]


def test_files_are_read_once_as_they_grow(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path)
    first, second = tracer.first_id(), tracer.first_id()
    assert second - first == 1 << 40
    asked = trial("closed")
    log, requests = tmp_path / "77.trace", tmp_path / f"{first}.sent"
    requests.write_bytes(SENT.pack(first, 101.5, 101.5, 101.5, 101.9, 0))
    stamp = STAMP.pack(first, 101_600_000_000, 101_800_000_000, 0, 5)
    log.write_bytes(stamp + STAMP.pack(second, 1, 2, 3, 4)[:20])
    (one,) = tracer.traces(asked, first, ORIGIN)
    assert (one.n, one.sums["before"], one.workers) == (1, 100_000, ((77, 5, 1),))
    assert not requests.exists()
    requests.write_bytes(SENT.pack(second, 101.5, 101.5, 101.5, 101.9, 0))
    log.write_bytes(stamp + STAMP.pack(second, 101_700_000_000, 101_800_000_000, 0, 5))
    (one,) = tracer.traces(asked, second, ORIGIN)
    assert (one.n, one.sums["before"]) == (1, 200_000)
    assert tracer.traces(asked, tracer.first_id(), ORIGIN) == ()


def test_a_recording_keeps_its_traces_and_one_without_reads_as_before(tmp_path: Path) -> None:
    (plain,) = fake.plain("asgi", 100, 1)
    assert read(save(plain, tmp_path)).traces == ()
    one = Trace(row="ping", n=3, missing=1, sums={"before": 30}, hist={"before": ([10], [3])}, workers=((1, 2, 3),))
    from dataclasses import replace

    assert read(save(replace(plain, traces=(one,)), tmp_path)).traces == (one,)


@pytest.mark.parametrize("line", ['{"trace": {"row": "x"}}', '{"trace": {"row": "x", "n": 1, "sums": {"magic": 1}}}'])
def test_a_trace_of_another_make_is_refused(tmp_path: Path, line: str) -> None:
    import gzip

    from harness.errors import UsageError

    (plain,) = fake.plain("asgi", 100, 1)
    path = save(plain, tmp_path)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress("\n".join([*lines[:-1], line, lines[-1], ""]).encode()))
    with pytest.raises(UsageError, match="not a recording of format 1"):
        read(path)
