"""The wording of answers: a table of situations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.recording import Recording, Run
from harness.report.answers import NO_CLAIM, Answer, answers
from harness.report.words import THIN
from harness.stats import summarise

from . import fake


def answer(*recordings: list[Recording], **manifest: Any) -> Answer:
    run = Run(Path("run"), tuple(one for some in recordings for one in some), manifest)
    return answers(run, summarise(run.recordings))[0]


def verdict(name: str, limit: str, reason: str) -> dict[str, Any]:
    return {"end": {"notes": (f"verdict {name} {limit} {reason}",)}}


def test_a_winner_comes_with_its_interval_and_its_lead() -> None:
    told = answer(fake.plain("asgi", 1000), fake.plain("wsgi-sync", 500))
    assert told.sentence.startswith(
        f"asgi completes the most: 1{THIN}000/s [998–1{THIN}002], ahead of wsgi-sync by 2.00 × ["
    )
    assert told.limited == "Limited by: cpu (asgi and wsgi-sync)."


def test_what_paired_blocks_cannot_tell_is_a_tie() -> None:
    told = answer(fake.plain("asgi", 1000), fake.plain("wsgi-gevent", 1001), fake.plain("wsgi-sync", 500)).sentence
    assert told.startswith(
        "~ cannot tell which of wsgi-gevent and asgi completes the most: 4 paired blocks cannot tell"
    )
    assert told.endswith("wsgi-gevent is ahead of wsgi-sync by 2.00 × [2.00–2.01].")


def test_where_the_load_sets_the_pace_nobody_wins() -> None:
    asked = fake.scenario("quick/sleep", level=50, endpoint="sleep", wait_s=0.1)
    told = answer(fake.plain("asgi", 499, asked=asked), fake.plain("wsgi-gevent", 490, asked=asked)).sentence
    assert told.startswith("~ cannot tell which of asgi and wsgi-gevent completes the most: they are at ")
    assert " 97.8% to 99.6% of 50 users ÷ 100 ms = 500/s: it limits them all (asgi 499/s " in told


def test_one_repeat_supports_no_claim() -> None:
    told = answer(fake.plain("asgi", 1000, 1), fake.plain("wsgi-sync", 500, 1)).sentence
    assert told.startswith(NO_CLAIM)
    assert "most" not in told


def test_void_cells_are_named_and_never_ranked() -> None:
    told = answer(fake.plain("asgi", 9000, **verdict("VOID", "generator", "it was late")), fake.plain("wsgi-sync", 500))
    assert "asgi" not in told.sentence
    assert told.left_out == ("asgi is VOID: it was late",)
    assert (
        answer(fake.plain("asgi", 9, **verdict("VOID", "none", "dead"))).sentence
        == "No usable cell: every one is VOID."
    )


def test_suspects_are_named() -> None:
    told = answer(fake.plain("asgi", 900, **verdict("SUSPECT", "generator", "its core was busy")), fake.plain("b", 500))
    assert told.sentence.endswith("SUSPECT: asgi.")


def test_holes_are_named() -> None:
    told = answer(fake.plain("asgi", 900), holes={"wsgi-sync": {"ping": "cannot"}, "bad": None})
    assert told.left_out == ("wsgi-sync cannot serve ping: cannot",)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("quick/sleep", "asgi, wsgi-gevent and wsgi-threads served the 200/s offered. asgi has the lowest p99: "),
        (
            "quick/sleep",
            "Did not serve all of it: wsgi-sync 20.0/s [20.0–20.0] (cpu). Not completed: wsgi-sync 1440 of 1600.",
        ),
        (
            "quick/db",
            "~ cannot tell which of asgi, wsgi-gevent and wsgi-threads has the lowest p99: 4 paired blocks cannot tell",
        ),
        ("quick/sse", "sse:event: asgi has the lowest p99: "),
    ],
)
def test_open_loads_compare_the_response_of_those_that_served_them(question: str, expected: str) -> None:
    run = fake.realistic()
    told = next(one for one in answers(run, summarise(run.recordings)) if one.scenario == question)
    assert expected in str(told).replace(THIN, "")


def test_lenses_never_mix() -> None:
    run = Run(Path("run"), (*fake.plain("asgi", 900), *fake.plain("b", 500, lens="as-configured")))
    told = answers(run, summarise(run.recordings))
    assert [one.sentence.endswith("nothing to compare it with.") for one in told] == [True, True]
