"""From Recordings to values by block: what counts, what is left out, and the noise floor of identical pairs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.blocks import (
    METRICS,
    Cell,
    floor_of,
    floors_of,
    noise_of,
    series_of,
    together,
    twins_of,
    usable,
    values_of,
    without_twins,
)
from harness.trial import TWIN
from tests.made_up import blocks, recording

CELL = Cell("s", "closed", 16, "equal-cpu", "sleep")


def test_each_block_has_its_own_value_and_the_cell_its_pooled_one() -> None:
    values = values_of(blocks({"asgi": [400, 420, 410], "wsgi": [200, 210, 190]}))
    assert set(values) == {(CELL, metric) for metric in METRICS}
    throughput = values[CELL, "throughput_rps"]
    assert throughput["asgi"].blocks == {0: 400, 1: 420, 2: 410}
    assert throughput["wsgi"].pooled == 200
    assert values[CELL, "p50_ms"]["asgi"].blocks == pytest.approx({0: 40, 1: 38.095, 2: 39.024}, rel=0.001)
    assert values[CELL, "p50_ms"]["asgi"].pooled == pytest.approx(39.024, rel=0.001)


def test_a_quantile_needs_enough_samples_of_the_whole_cell() -> None:
    values = values_of(blocks({"few": [100] * 3, "enough": [120] * 3}))  # 2 s measured: 600 and 720 samples
    assert values[CELL, "p99_ms"]["few"] == ({}, None)
    assert set(values[CELL, "p99_ms"]["enough"].blocks) == {0, 1, 2}
    assert values[CELL, "p50_ms"]["few"].pooled is not None


def test_void_trials_are_left_out_and_of_attempts_the_last_counts() -> None:
    first = recording([100] * 3, us=160_000)
    again = recording([120] * 3, us=133_000, attempt=1)
    died = recording([500] * 3, repeat=1, outcome="server_died")
    assert usable([again, first, died]) == [again]
    assert values_of([first, again, died])[CELL, "throughput_rps"]["asgi"].blocks == {0: 120}


def test_cells_are_told_apart() -> None:
    some = [
        recording([100] * 3, level=level, lens=lens) for level in (8, 16) for lens in ("equal-cpu", "as-configured")
    ]
    assert len({cell for cell, _ in values_of(some)}) == 4
    assert values_of([]) == {}


def test_a_block_without_an_answer_has_no_quantile() -> None:
    assert METRICS["p50_ms"].of([], "sleep") is None
    assert METRICS["throughput_rps"].of([], "sleep") is None


def test_the_noise_floor_is_that_of_the_identical_pairs() -> None:
    speeds = {"asgi": [400, 400], f"asgi{TWIN}": [420, 420], "wsgi": [200, 200], f"gone{TWIN}": [1, 1]}
    variants = values_of(blocks(speeds))[CELL, "throughput_rps"]
    assert floor_of(variants) == pytest.approx(math.log(1.05))
    assert set(without_twins(variants)) == {"asgi", "wsgi"}
    assert floor_of(without_twins(variants)) == 0


def test_a_cell_without_a_pair_has_the_floor_of_its_session() -> None:
    with_pair = blocks({"asgi": [400, 400], f"asgi{TWIN}": [420, 420], "wsgi": [200, 200]})
    values = values_of(
        [*with_pair, *blocks({"asgi": [400, 400]}, level=64), *blocks({"asgi": [9, 9]}, arrivals="poisson", level=9)]
    )
    floors = floors_of(values)
    apart = pytest.approx(math.log(1.05), rel=0.01)
    assert floors[CELL, "throughput_rps"] == floors[CELL._replace(level=64), "throughput_rps"] == apart
    assert floors[CELL._replace(arrivals="poisson", level=9), "throughput_rps"] == 0, "another kind of load"
    assert noise_of(values)["throughput_rps"] == pytest.approx(0.05, rel=0.01)
    assert twins_of(values) == ["asgi"]
    assert noise_of(values_of(blocks({"asgi": [400, 400]}))) == {}


def test_blocks_that_came_one_by_one_are_as_those_that_came_at_once() -> None:
    speeds = {"wsgi": [200, 210, 190], "asgi": [400, 420, 410]}
    each = [values_of(one for one in blocks(speeds) if one.trial.repeat == repeat) for repeat in range(3)]
    assert series_of(together(each)) == series_of(values_of(blocks(speeds)))
    assert series_of(values_of(blocks({f"asgi{TWIN}": [400, 400]}))) == {}, "a twin alone is nobody"


def test_parts_are_left_out_unless_they_are_asked_for() -> None:
    whole = recording([100] * 3, endpoint="sse")
    part = whole.rows[1].model_copy(update={"row": "sse:event"})
    both = replace(whole, rows=(*whole.rows, part))
    assert {cell.endpoint for cell, _ in values_of([both])} == {"sse"}
    assert {cell.endpoint for cell, _ in values_of([both], parts=True)} == {"sse", "sse:event"}


def test_what_decides_about_more_blocks() -> None:
    speeds = {"asgi": [400, 440], f"asgi{TWIN}": [400, 400], "wsgi": [200, 200]}
    closed = series_of(values_of(blocks(speeds)))
    assert closed == {"wsgi ÷ asgi (s at 16, sleep)": pytest.approx([math.log(200 / 400), math.log(200 / 440)])}
    alone = series_of(values_of(blocks({"asgi": [400, 440]}, arrivals="poisson", level=300)))
    assert alone == {"asgi (s at 300, sleep)": pytest.approx([math.log(40), math.log(36.36)], abs=0.001)}
    assert series_of({}) == {}
