"""PROOFS T12, faults 23 and 24: without data no number and no verdict: "n/a" and exit 4, never 0, never a pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness import show
from harness.errors import NothingUsable
from harness.histogram import Histogram
from harness.load_url import shortened, told
from harness.physics import VOID
from harness.proving import serving
from harness.recording import End, Head, Recording, Row, packed
from harness.stats import summarise
from harness.trial import Part, Scenario, Subject, Trial
from tests.gate import Gate

MARKS = ("p50", "p90", "p99", "p999", "p9999", "max")


def made(completed: int = 0, failed: int = 0, *, seconds: int = 1, duration_s: int = 2, **end: Any) -> Recording:
    """A recording of `load` with so many answers of 1 ms, and failures, in each of so many seconds."""
    scenario = Scenario(
        name="load",
        question="How does it answer?",
        arrivals="constant",
        rates=(100.0,),
        mix=(Part(endpoint="url"),),
        duration_s=duration_s,
        warmup_s=0,
    )
    hist = packed(Histogram.of([1000] * completed))
    hists: Any = (
        {"response": hist, "service": hist, "lateness": packed(Histogram.of([0] * completed))} if completed else {}
    )
    rows = tuple(
        Row(
            second=second,
            row="url",
            offered=completed + failed,
            completed=completed,
            finished=completed,
            failed=failed,
            hist=hists,
        )
        for second in range(seconds)
    )
    subject = Subject(name="url", family="-", interface="-", server="-", framework="-")
    trial = Trial(variant="url", scenario=scenario, level=100, repeat=0, seed=1)
    given = {"outcome": "complete", "loaded_s": 2.0} | end
    return Recording(Head(trial=trial, subject=subject, facts={}, started_at=""), rows, (), End.model_validate(given))


@pytest.mark.parametrize(("completed", "failed"), [(0, 0), (0, 50), (1, 0), (10, 0), (3, 40)])
def test_too_little_is_no_verdict_and_no_percentile(completed: int, failed: int) -> None:
    answer = told(made(completed, failed))
    assert answer["verdict"] == VOID
    assert answer["reason"].startswith("n/a")
    for kind in ("response", "service", "lateness", "blocked"):
        marks = answer[f"{kind}_us"]
        assert all(marks[mark] is None for mark in MARKS if mark != "max")
        assert (marks["max"] is None) == (marks["n"] == 0)


@pytest.mark.parametrize(
    ("n", "named"),
    [(11, 1), (63, 1), (64, 2), (661, 2), (662, 3), (6_635, 3), (6_636, 4), (66_380, 4), (66_381, 5)],
)
def test_a_percentile_is_named_when_it_has_the_samples_and_not_one_before(n: int, named: int) -> None:
    answer = told(made(n))
    marks = [answer["response_us"][mark] for mark in MARKS[:5]]
    assert marks == [1000] * named + [None] * (5 - named)
    assert answer["verdict"] != VOID, answer["reason"]


def test_a_hundred_requests_name_no_p99_and_say_how_many_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    show.load_answer("http://127.0.0.1/", told(made(100)))
    shown = capsys.readouterr().out
    assert "n/a (needs 662)" in shown
    assert "1.000" in shown


def test_a_cell_of_a_run_without_data_has_no_number_either() -> None:
    for recording in (made(), made(failed=20)):
        (row,) = [row for row in summarise([recording]) if row.endpoint == "url"]
        assert (row.verdict, row.throughput_rps, row.p50_ms, row.p99_ms) == (VOID, None, None, None)
    (row,) = summarise([made(1)])
    assert (row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms) == (None, None, None, None)


def test_what_was_interrupted_is_told_for_the_whole_seconds_before() -> None:
    # 100 a second were asked for 10 s; a signal came after 2.4 s, and all that was to come counts as failed
    whole = made(100, seconds=3, duration_s=10, outcome="interrupted", loaded_s=2.4, errors={"interrupted": 640})
    later = tuple(Row(second=second, row="url", offered=100, failed=100) for second in range(3, 10))
    answer = told(shortened(Recording(whole.head, whole.rows + later, (), whole.end)))
    assert (answer["offered"], answer["completed"], answer["failed"]) == (200, 200, 0)
    assert answer["achieved_rps"] == answer["offered_rps"] == 100
    assert answer["outcome"] == "interrupted"
    assert answer["verdict"] != VOID, answer["reason"]
    with pytest.raises(NothingUsable, match="n/a"):
        shortened(made(outcome="interrupted", loaded_s=0.9))


# -- the same through the command -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving("canned") as known:
        yield known.port


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        # the seed's first Poisson arrival at this rate comes after the second that is asked for
        (("--rate", "0.01", "--duration", "1"), 0),
        (("--rate", "1", "--duration", "1", "--arrivals", "constant"), 1),
        (("--rate", "10", "--duration", "1", "--arrivals", "constant"), 10),
    ],
)
def test_the_command_exits_4(gate: Gate, port: int, words: tuple[str, ...], offered: int) -> None:
    ended = gate("load", f"http://127.0.0.1:{port}/", *words, "--json")
    answer = json.loads(ended.out)
    assert (ended.code, answer["offered"], answer["verdict"]) == (4, offered, VOID)
    assert answer["response_us"]["p50"] is None


@pytest.mark.slow
def test_a_dead_target_exits_4(gate: Gate) -> None:
    from harness.serve.process import free_port

    load = ("--rate", "50", "--duration", "1", "--arrivals", "constant", "--json")
    ended = gate("load", f"http://127.0.0.1:{free_port()}/", *load)
    answer = json.loads(ended.out)
    assert (ended.code, answer["offered"], answer["failed"], answer["completed"]) == (4, 50, 50, 0)
    assert answer["errors"] == {"refused": 50}
