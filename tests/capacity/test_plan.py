"""Plans that hold when they are run, and fail with a tenth fewer slots. In simulated time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.capacity.measured import Parts, Setting, parts_of
from harness.capacity.plan import HEADS, Machine, cells, memory_mb, peak_rps, plan, resized, table
from harness.capacity.slo import parsed
from harness.errors import UsageError
from harness.histogram import Histogram
from tests.capacity.made_server import Place, constant, level, p99_ms

SLO = parsed("p99<200ms")
ONE = Machine(cores=1, memory_mb=8192, price_per_hour=0.17)


def made(variant: str, *, wait_ms: float = 50, cpu_ms: float = 0.4, **setting: int | None) -> Parts:
    """Parts without noise: a call waits and then computes."""
    alone = Histogram.of([round((wait_ms + cpu_ms) * 1000)] * 1000)
    given = Setting(variant, wait_s=wait_ms / 1000, **setting)  # type: ignore[arg-type]
    return Parts(given, alone, cpu_ms / 1000, cpu_ms / 1000, base_mb=40, slot_mb=0.2, tested_rps=300)


THREADS, TASKS, SYNC = made("threads", slots=16), made("tasks"), made("sync", slots=4, processes=4)


@pytest.mark.parametrize(("wait_ms", "cpu_ms"), [(50, 0.4), (20, 0.5)], ids=["sleep", "mix"])
def test_900_a_second_hold_and_fail_with_a_tenth_fewer_slots(wait_ms: float, cpu_ms: float) -> None:
    places = (Place(None, constant(wait_ms / 1000)), Place(1, constant(cpu_ms / 1000)))
    setting = Setting("threads", slots=16, wait_s=wait_ms / 1000)
    most = 16 / (wait_ms + cpu_ms) * 1000
    parts = parts_of([level(setting, share * most, places, seed=9, cpu_s=cpu_ms / 1000) for share in (0.2, 0.5)])
    (row,) = plan(900, SLO, {"threads": replace(parts, cpu_cv2=0.0)}, ONE, spare_machines=0)
    assert row.holds
    assert (row.machines, row.processes) == (1, 1)
    assert row.slots is not None
    assert row.p99_ms is not None
    planned = p99_ms(900, places, row.slots, seed=1)
    assert planned < 200
    assert planned == pytest.approx(row.p99_ms, rel=0.2)
    assert p99_ms(900, places, math.floor(0.9 * row.slots), seed=1) > 200
    assert row.limited_by == "slots"


def test_a_machine_may_be_lost() -> None:
    rows = {row.variant: row for row in plan(3000, SLO, {"threads": THREADS, "tasks": TASKS}, ONE)}
    tasks = rows["tasks"]
    assert tasks.holds
    assert tasks.machines is not None
    assert tasks.machines == 3  # one carries 2 500/s at most, so two are needed, and one is to spare
    assert tasks.each_rps == pytest.approx(1000)
    assert tasks.each_lost_rps == pytest.approx(1500)
    assert tasks.utilisation == pytest.approx(0.4, rel=0.01)
    assert tasks.headroom is not None
    assert 0.5 < tasks.headroom < 0.67  # 2 × nearly 2 500 ÷ 3 000
    assert tasks.slots is None
    assert tasks.in_flight == pytest.approx(1500 * 0.051 + 3 * math.sqrt(76), rel=0.03)
    assert tasks.price_per_hour == pytest.approx(0.51)
    assert tasks.price_per_million == pytest.approx(0.51 / (3000 * 3600) * 1e6)
    assert tasks.extrapolated.startswith("extrapolated: 1,500/s a machine, tested up to 300/s")
    assert rows["threads"].holds
    assert "CPU a request" in tasks.fails_first


def test_processes_are_taken_when_one_core_is_not_enough() -> None:
    (row,) = plan(6000, SLO, {"tasks": TASKS}, Machine(cores=4, memory_mb=8192), spare_machines=0)
    assert (row.machines, row.processes) == (1, 3)
    assert row.memory_mb == pytest.approx(3 * 40 + 0.2 * (row.in_flight or 0))
    assert row.price_per_hour is None


def test_sync_workers_are_the_slots_and_memory_bounds_them() -> None:
    (row,) = plan(300, SLO, {"sync": SYNC}, ONE, spare_machines=0)
    assert row.holds
    assert row.processes == row.slots
    assert row.processes is not None
    assert 16 <= row.processes <= 20  # 300/s × 50.4 ms = 15.1 busy
    (row,) = plan(300, SLO, {"sync": SYNC}, replace(ONE, memory_mb=410), spare_machines=0)
    assert row.machines == 2
    assert row.processes is not None
    assert row.processes <= 10


def test_no_machine_has_more_processes_than_database_connections() -> None:
    pooled = made("sync", slots=4, processes=4, pool=8)
    pooled = replace(pooled, setting=replace(pooled.setting, pool_s=0.01))
    (row,) = plan(300, SLO, {"sync": pooled}, ONE, spare_machines=0)
    assert row.machines == 3  # each with 8 of the 16 to 20 that are needed, at less than all of their time
    assert row.processes is not None
    assert row.processes <= 8


def test_what_cannot_be_held_says_why() -> None:
    (row,) = plan(900, parsed("p99<40ms"), {"threads": THREADS}, ONE)
    assert not row.holds
    assert row.reason.startswith("impossible: a call alone takes 50.4 ms at p99, above 40 ms")
    (row,) = plan(900, parsed("p99<200ms,errors<0.1%"), {"threads": replace(THREADS, bad_share=0.02)}, ONE)
    assert "2.00% of the calls failed" in row.reason
    (row,) = plan(900, SLO, {"threads": THREADS}, replace(ONE, memory_mb=32))
    assert "40 MB" in row.reason
    assert cells(row)[:3] == ("threads", "no", "~")


def test_rows_that_hold_come_first() -> None:
    rows = plan(900, parsed("p99<200ms"), {"slow": made("slow", wait_ms=300), "tasks": TASKS}, ONE)
    assert [row.variant for row in rows] == ["tasks", "slow"]
    assert len(cells(rows[0])) == len(HEADS)
    assert table(rows)[0] == HEADS


def test_a_column_that_says_nothing_is_left_out() -> None:
    heads, lines = table(plan(900, SLO, {"tasks": TASKS}, replace(ONE, price_per_hour=None), spare_machines=0))
    assert set(HEADS) - set(heads) == {"price/h", "price/million", "p99 ms, one lost"}
    assert [len(line) for line in lines] == [len(heads)]


def test_doubt_buys_room() -> None:
    (sure,) = plan(900, parsed("p99<60ms"), {"threads": THREADS}, ONE, spare_machines=0)
    (unsure,) = plan(900, parsed("p99<60ms"), {"threads": THREADS}, ONE, spare_machines=0, doubts={"threads": 0.1})
    assert sure.slots is not None
    assert unsure.slots is not None
    assert unsure.slots > sure.slots
    assert unsure.p99_lost_high_ms is not None
    assert unsure.p99_lost_high_ms <= 60


def test_peaks_of_a_day() -> None:
    assert peak_rps(500_000, 4) == pytest.approx(23.15, abs=0.01)
    for day, factor in ((0, 2), (1000, 0.5), (math.nan, 1)):
        with pytest.raises(UsageError, match="peak-factor"):
            peak_rps(day, factor)


def test_questions_without_an_answer() -> None:
    with pytest.raises(UsageError, match="above 0"):
        plan(0, SLO, {"tasks": TASKS}, ONE)
    with pytest.raises(UsageError, match="response time"):
        plan(10, parsed("errors<1%"), {"tasks": TASKS}, ONE)
    assert plan(10, SLO, {}, ONE) == []


def test_memory_of_threads_is_that_of_all_of_them() -> None:
    assert memory_mb(resized(THREADS, ONE, 2, 32), 5) == pytest.approx(2 * 40 + 32 * 0.2)
    assert memory_mb(SYNC, 4) == pytest.approx(4 * 40)
