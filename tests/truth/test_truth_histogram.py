"""PROOFS T2 through the whole instrument: schedule, recorder, rows on disk, a Recording, its percentiles."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.histogram import Histogram
from harness.load import schedule
from harness.load.recorder import NO_CONNECTION, TIMEOUT, UNFINISHED, Recorder
from harness.recording import End, Head, Kind, Recording, Row
from harness.trial import Part, Scenario, Subject, Trial


def recording(recorder: Recorder, lines: list[str], duration_s: int) -> Recording:
    """What the harness reads of what the recorder wrote."""
    recorder.close()
    rows = tuple(Row.model_validate(json.loads(line)["row"]) for text in lines for line in text.splitlines())
    scenario = Scenario(
        name="paused",
        question="What did users feel?",
        arrivals="constant",
        rates=(100.0,),
        mix=(Part(endpoint="ping"),),
        duration_s=duration_s,
        warmup_s=0,
    )
    subject = Subject(name="one", family="-", interface="-", server="-", framework="-")
    head = Head(
        trial=Trial(variant="one", scenario=scenario, level=100, repeat=0, seed=1),
        subject=subject,
        facts={},
        started_at="",
    )
    end = End(outcome="complete", errors=dict(recorder.errors), started_late=recorder.started_late)
    return Recording(head, rows, (), end)


def test_a_pause_of_100_s_is_reported_as_it_was_felt() -> None:
    # 100/s for 200 s; the server answers within 1 ms for 100 s, then is silent for 100 s and answers all at once
    lines: list[str] = []
    recorder = Recorder(50.0, closed=False, write=lines.append)
    track = recorder.track("ping")
    due = schedule.draw("constant", 100, 200, 1)
    track.offer_all(due + 50)
    for number, intended in enumerate((due + 50).tolist()):
        ended = intended + 0.001 if intended < 150 else 250.0
        track.settle("", intended, intended, intended, ended)
        if number % 1000 == 999:
            recorder.fold()
            recorder.close(before=intended - 50 - 1)
    read = recording(recorder, lines, 200)
    assert read.counts("ping") == (20_000, 20_000, 0, 0, 0)
    response = read.histogram("ping", "response")
    assert response.n == 20_000
    for q, truth_us in ((0.5, 1_000), (0.75, 50e6), (0.9, 80e6), (0.99, 98e6)):
        assert response.quantile_us(q) == pytest.approx(truth_us, rel=0.001)
    assert response.max_us == pytest.approx(100e6, rel=0.001)


calls = st.tuples(
    st.floats(0, 8),
    st.floats(0, 0.2),
    st.floats(0, 3.0),
    st.sampled_from(["", "", "", TIMEOUT, UNFINISHED, "reset", "status 500"]),
)


@given(some=st.lists(calls, min_size=1, max_size=60), closes=st.lists(st.floats(0, 9), max_size=4))
@settings(deadline=None, max_examples=40)
def test_however_seconds_are_closed_nothing_is_lost_or_counted_twice(some: list[Any], closes: list[float]) -> None:
    lines: list[str] = []
    recorder = Recorder(0.0, closed=False, write=lines.append)
    track = recorder.track("ping")
    pending = sorted(closes)
    for at, late, service, kind in sorted(some):
        while pending and pending[0] < at:
            recorder.close(before=pending.pop(0))
        track.offer(at)
        track.settle(kind, at, at + late, at + late, at + late + service)
    read = recording(recorder, lines, 9)
    counts = read.counts("ping")
    assert counts.add_up
    assert counts.offered == len(some)
    assert counts.failed == sum(kind in ("reset", "status 500") for *_, kind in some)
    assert (counts.timed_out, counts.unfinished) == tuple(
        sum(kind == one for *_, kind in some) for one in (TIMEOUT, UNFINISHED)
    )
    with_age = [(late, service) for _, late, service, kind in some if kind in ("", TIMEOUT, UNFINISHED)]
    wanted: dict[Kind, list[float]] = {
        "response": [late + service for late, service in with_age],
        "service": [service for _, service in with_age],
        "lateness": [late for late, _ in with_age],
    }
    for name, seconds in wanted.items():
        found, exact = read.histogram("ping", name), sorted(seconds)
        assert found.n == len(exact)
        for rank, truth in enumerate(exact, 1):
            assert found.quantile_us(rank / len(exact)) == pytest.approx(truth * 1e6, rel=0.001, abs=2)


@given(
    kind=st.sampled_from([TIMEOUT, NO_CONNECTION, UNFINISHED, "server died"]),
    due=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 0.2)), min_size=1, max_size=40),
    ended=st.floats(0, 6),
    taken_up=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_many_settled_at_once_are_as_each_settled_alone(
    kind: str, due: list[tuple[float, float]], ended: float, taken_up: bool
) -> None:
    """But for the service of who was never sent: nobody was asked for it, so there is none, not one of 0."""
    told = []
    for at_once in (True, False):
        lines: list[str] = []
        recorder = Recorder(0.0, closed=False, write=lines.append)
        track = recorder.track("ping")
        intended, late = np.array(due).T
        ends = np.maximum(intended, ended)
        taken = np.minimum(intended + late, ends)
        track.offer_all(intended)
        if at_once:
            track.settle_all(kind, intended, ended, taken if taken_up else None)
        else:
            for was_due, was_taken, end in zip(intended.tolist(), taken.tolist(), ends.tolist(), strict=True):
                track.settle(kind, was_due, was_taken if taken_up else end, end, end)
        read = recording(recorder, lines, 7)
        assert read.counts("ping").add_up
        parts: set[Kind] = {"lateness", "blocked"} if taken_up else {"lateness"}
        if at_once:
            kinds = {name for row in read.rows for name in row.hist}
            assert kinds == (set() if kind == "server died" else {*parts, "response"})
        rows = [
            (row.second, row.failed, row.timed_out, row.unfinished, {name: row.hist.get(name) for name in parts})
            for row in read.rows
        ]
        told.append((rows, [row.hist.get("response") for row in read.rows], read.end))
    assert told[0] == told[1]


def test_percentiles_of_seconds_are_merged_never_averaged() -> None:
    # one second of 1 ms, then one of 1 s: the mean of the two medians would be half a second
    lines: list[str] = []
    recorder = Recorder(0.0, closed=False, write=lines.append)
    track = recorder.track("ping")
    for at, service in [(0.5, 0.001)] * 60 + [(1.5, 1.0)] * 40:
        track.offer(at)
        track.settle("", at, at, at, at + service)
    response = recording(recorder, lines, 2).histogram("ping", "response")
    assert response.quantile_us(0.5) == 1000
    assert response.quantile_us(0.6) == 1000
    assert response.quantile_us(0.61) == pytest.approx(1e6, rel=0.001)
    assert response.n == Histogram.of([1000] * 60 + [10**6] * 40).n
