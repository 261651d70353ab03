"""What happened is kept exactly: by intended second, outcome by outcome, within bounded memory."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.histogram import Histogram
from harness.load.recorder import NO_CONNECTION, SLICE, TIMEOUT, UNFINISHED, Recorder
from harness.recording import HUB, Kind, Row

ORIGIN = 1_000.0
OUTCOMES = ("completed", "failed", "timed_out", "unfinished")


class Book:
    """A recorder on a list of lines, and its rows read back."""

    def __init__(self, *, closed: bool = False) -> None:
        self.lines: list[str] = []
        self.recorder = Recorder(ORIGIN, closed=closed, write=self.lines.append)
        self.track = self.recorder.track("ping")

    def call(
        self, at: float, *, late: float = 0.0, blocked: float = 0.0, service: float = 0.01, kind: str = ""
    ) -> None:
        intended = ORIGIN + at
        taken = intended + late
        attempted = taken + blocked
        self.track.offer(intended)
        self.track.settle(kind, intended, taken, attempted, attempted + service)

    def rows(self, name: str = "ping") -> list[Row]:
        text = "".join(self.lines)
        rows = [Row.model_validate(json.loads(line)["row"]) for line in text.splitlines()]
        return [row for row in rows if row.row == name]

    def total(self, what: str, second: int | None = None) -> int:
        return sum(getattr(row, what) for row in self.rows() if second in (None, row.second))

    def histogram(self, kind: Kind, second: int | None = None) -> Histogram:
        chosen = (row.histogram(kind) for row in self.rows() if second in (None, row.second))
        return Histogram.merged(found for found in chosen if found is not None)


spans = st.floats(0, 2.0)
calls = st.lists(
    st.tuples(st.floats(0, 5), spans, spans, spans, st.sampled_from(["", TIMEOUT, UNFINISHED])), min_size=1
)


@given(one=st.tuples(st.floats(0, 5), spans, spans, spans, st.sampled_from(["", TIMEOUT, UNFINISHED])))
@settings(deadline=None, max_examples=60)
def test_lateness_blocked_and_service_are_the_response_exactly(one: tuple[float, float, float, float, str]) -> None:
    at, late, blocked, service, kind = one
    book = Book()
    kept: dict[str, list[int]] = {}
    book.track.add = lambda ticks, kinds: kept.update({name: values.tolist() for name, values in kinds.items()})  # type: ignore[method-assign]
    book.call(at, late=late, blocked=blocked, service=service, kind=kind)
    book.recorder.close()
    assert kept["lateness"][0] + kept["blocked"][0] + kept["service"][0] == kept["response"][0]
    truth = {"lateness": late, "blocked": blocked, "service": service, "response": late + blocked + service}
    assert {name: ticks[0] for name, ticks in kept.items()} == pytest.approx(
        {name: seconds * 1e6 for name, seconds in truth.items()}, abs=1.1
    )


@given(some=calls)
@example(some=[(0.9999997, 0.0, 0.0, 0.01, "")])  # nearer to the next second than a µs
@settings(deadline=None, max_examples=40)
def test_counts_add_up_and_every_sample_stands_in_the_second_of_its_call(some: list[Any]) -> None:
    book = Book()
    for at, late, blocked, service, kind in some:
        book.call(at, late=late, blocked=blocked, service=service, kind=kind)
    book.recorder.close()
    assert book.total("offered") == len(some)
    for second in {row.second for row in book.rows()}:
        settled = sum(book.total(outcome, second) for outcome in OUTCOMES)
        assert book.total("offered", second) == settled
        assert {book.histogram(kind, second).n for kind in ("response", "service", "lateness", "blocked")} == {settled}
    assert book.total("finished") == book.total("completed")


def test_a_call_belongs_to_the_second_it_was_due_and_finishes_in_another() -> None:
    book = Book()
    book.call(0.9, late=0.3, service=2.0)  # due in second 0, done at 3.2
    book.call(1.0)
    book.recorder.close()
    assert {row.second: (row.offered, row.completed, row.finished) for row in book.rows()} == {
        0: (1, 1, 0),
        1: (1, 1, 1),
        3: (0, 0, 1),
    }
    assert book.histogram("response", 0).max_us == pytest.approx(2.3e6, rel=0.001)


def test_what_is_offered_does_not_depend_on_outcomes() -> None:
    book = Book()
    for _ in range(3):
        book.track.offer(ORIGIN + 0.5)
    book.track.offer_all(np.array([ORIGIN, ORIGIN + 1.5, ORIGIN + 1.9]))
    book.track.settle("", *[ORIGIN + 0.5] * 4)
    book.recorder.close()
    assert [book.total("offered", second) for second in (0, 1)] == [4, 2]
    assert book.total("completed") == 1


def test_errors_are_counted_by_kind_and_are_neither_latency_nor_throughput() -> None:
    book = Book()
    for kind in ("reset", "reset", "status 500"):
        book.call(1.2, kind=kind)
    book.call(2.2)
    book.recorder.close()
    assert book.recorder.errors == Counter({"reset": 2, "status 500": 1})
    assert (book.total("failed", 1), book.total("failed", 2)) == (3, 0)
    assert (book.total("completed"), book.total("finished")) == (1, 1)
    assert book.histogram("response").n == book.histogram("service").n == 1


@pytest.mark.parametrize(("kind", "outcome"), [(TIMEOUT, "timed_out"), (UNFINISHED, "unfinished")])
def test_what_never_came_enters_with_its_age(kind: str, outcome: str) -> None:
    book = Book()
    book.call(0.1, late=1.0, blocked=2.0, service=5.0, kind=kind)
    book.recorder.close()
    assert book.total(outcome, 0) == 1
    assert book.total("completed") == book.total("finished") == 0
    ages = [book.histogram(name, 0).max_us for name in ("lateness", "blocked", "service", "response")]
    assert ages == pytest.approx([1e6, 2e6, 5e6, 8e6], rel=0.001)
    assert book.recorder.errors == ({TIMEOUT: 1} if kind == TIMEOUT else {})


def test_who_waited_in_vain_was_blocked_and_never_served() -> None:
    book = Book()
    for _ in range(3):
        book.track.offer(ORIGIN + 0.1)
    book.track.settle_all(NO_CONNECTION, np.full(2, ORIGIN + 0.1), ORIGIN + 5.2, np.full(2, ORIGIN + 0.2))
    book.track.settle_all(UNFINISHED, np.full(1, ORIGIN + 0.1), ORIGIN + 5.2)  # never taken up at all
    book.recorder.close()
    assert (book.total("timed_out", 0), book.total("unfinished", 0)) == (2, 1)
    assert book.recorder.errors == {NO_CONNECTION: 2}
    ages = {name: book.histogram(name, 0) for name in ("lateness", "blocked", "service", "response")}
    assert {name: found.n for name, found in ages.items()} == {"lateness": 3, "blocked": 2, "service": 0, "response": 3}
    assert [ages["lateness"].quantile_us(q) for q in (0.5, 1)] == pytest.approx([1e5, 5.1e6], rel=0.001)
    assert ages["blocked"].max_us == pytest.approx(5e6, rel=0.001)
    assert ages["response"].max_us == pytest.approx(5.1e6, rel=0.001)
    assert book.recorder.started_late == 3


@pytest.mark.parametrize(("late", "counted"), [(0.0499, 0), (0.0501, 1)])
def test_arrivals_taken_up_over_50_ms_late_are_counted(late: float, counted: int) -> None:
    book = Book()
    book.call(0.1, late=late)
    book.recorder.close()
    assert book.recorder.started_late == counted


def test_late_outcomes_make_further_rows_that_add_up() -> None:
    book = Book()
    for moment in (0.1, 0.2, 1.5):
        book.track.offer(ORIGIN + moment)
    book.track.settle("", ORIGIN + 0.1, ORIGIN + 0.1, ORIGIN + 0.1, ORIGIN + 0.2)
    first = book.recorder.close(before=1)
    assert {row["second"] for row in first} == {0}
    book.track.settle(TIMEOUT, ORIGIN + 0.2, ORIGIN + 0.2, ORIGIN + 0.2, ORIGIN + 5.2)
    book.track.settle("", ORIGIN + 1.5, ORIGIN + 1.5, ORIGIN + 1.5, ORIGIN + 1.6)
    book.recorder.close()
    assert [row.second for row in book.rows()] == [0, 0, 1]
    for second, offered in ((0, 2), (1, 1)):
        assert book.total("offered", second) == sum(book.total(outcome, second) for outcome in OUTCOMES) == offered
        assert book.histogram("response", second).n == offered
    assert book.recorder.close() == [], "a second was written twice"


def test_a_closed_load_keeps_service_alone() -> None:
    book = Book(closed=True)
    book.call(0.1, service=0.2)
    book.call(0.1, service=0.2, kind=TIMEOUT)
    book.recorder.close()
    assert {kind for row in book.rows() for kind in row.hist} == {"service"}
    assert book.histogram("service").n == 2


def test_folding_slices_changes_nothing() -> None:
    sliced, whole = Book(), Book()
    rng = np.random.default_rng(1)
    for at, service in zip(rng.uniform(0, 3, 5 * SLICE // 2), rng.exponential(0.01, 5 * SLICE // 2), strict=True):
        for book in (sliced, whole):
            book.call(float(at), service=float(service))
        if rng.random() < 0.01:
            sliced.recorder.fold()
    sliced.recorder.fold()
    for book in (sliced, whole):
        book.recorder.close()
    assert sliced.rows() == whole.rows()


def test_one_fold_is_one_slice() -> None:
    book = Book()
    for _ in range(3 * SLICE):
        book.call(0.5)
    book.recorder.fold()
    assert book.track.counts[0]["completed"] == SLICE


def test_memory_does_not_grow_with_time() -> None:
    book = Book()
    for second in range(200):
        for step in range(10):
            book.call(second + step / 10)
        book.recorder.fold()
        book.recorder.close(before=second)
        book.recorder.lag(ORIGIN + second, [0.001])
        held = [len(track.bins) + len(track.counts) for track in book.recorder.tracks.values()]
        assert max(held) <= 6, f"{held} seconds held at second {second}"
    book.recorder.close()
    assert all(not track.bins and not track.counts for track in book.recorder.tracks.values())
    assert book.total("offered") == book.total("completed") == 2000


def test_the_hubs_lag_stands_in_a_row_of_its_own() -> None:
    book = Book()
    book.recorder.lag(ORIGIN + 2.5, [0.001, 0.002])
    book.recorder.close()
    (row,) = book.rows(HUB)
    lag = row.histogram("lag")
    assert lag is not None
    assert (row.second, lag.n, lag.max_us, row.offered) == (2, 2, 2000, 0)


def test_what_comes_before_the_origin_counts_in_the_first_second() -> None:
    book = Book()
    book.call(-0.001)
    book.recorder.close()
    assert [(row.second, row.offered, row.completed) for row in book.rows()] == [(0, 1, 1)]


def test_each_line_written_is_one_row_of_a_recording() -> None:
    book = Book()
    book.recorder.track("sse").completed(*[ORIGIN + 0.5] * 4)
    book.call(0.5)
    rows = book.recorder.close()
    lines = "".join(book.lines).splitlines()
    assert [json.loads(line)["row"]["row"] for line in lines] == [row["row"] for row in rows] == ["ping", "sse"]
    assert book.recorder.track("sse") is book.recorder.track("sse")
