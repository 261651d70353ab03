"""Rankings as groups: who is told apart, why not, noise floors, and what a page says of steadiness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.recording import Recording, Run
from harness.report import page
from harness.report.answers import Answer, answers
from harness.report.standings import kept_up, lines, standings
from harness.report.steady import steady
from harness.report.words import THIN, facets
from harness.stats import summarise
from harness.trial import TWIN

from . import fake


def run_of(*recordings: list[Recording]) -> Run:
    return Run(Path("run"), tuple(one for some in recordings for one in some))


def groups(run: Run) -> dict[str, tuple[str, str]]:
    """variant → its letters and places, of the first question."""
    (found,) = [standings(run).of(rows) for rows in facets(summarise(run.recordings))]
    return {line.variant: (line.letters, line.ranks) for line in lines(found)}


def twin_of(recordings: list[Recording], faster: float) -> list[Recording]:
    """The same variant once more, by so much faster in each block."""
    made = []
    for one in recordings:
        trial = one.trial.model_copy(update={"variant": f"{one.trial.variant}{TWIN}"})
        rows = tuple(row.model_copy(update={"finished": round(row.finished * faster)}) for row in one.rows)
        made.append(replace(one, head=one.head.model_copy(update={"trial": trial}), rows=rows))
    return made


def test_who_shares_a_letter_could_not_be_told_apart() -> None:
    run = run_of(fake.plain("asgi", 1000), fake.plain("wsgi-gevent", 1001), fake.plain("wsgi-sync", 500))
    assert groups(run) == {"wsgi-gevent": ("a", "1–2"), "asgi": ("a", "1–2"), "wsgi-sync": ("b", "3")}


def test_one_repeat_has_no_places() -> None:
    run = run_of(fake.plain("asgi", 1000, 1), fake.plain("wsgi-sync", 500, 1))
    assert groups(run) == {}
    assert "Groups by" not in page.render(run, "")


def test_a_lead_of_a_percent_shows_the_digit_that_decides() -> None:
    told = first(run_of(fake.plain("asgi", 1060), fake.plain("wsgi-sync", 1000)))
    assert ", ahead of wsgi-sync by 1.060 × [1.0" in told.sentence


def first(run: Run) -> Answer:
    return answers(run, summarise(run.recordings))[0]


def test_a_twin_tells_what_noise_is_and_takes_no_place() -> None:
    slower, faster = fake.plain("wsgi-sync", 1000), fake.plain("asgi", 1060)
    run = run_of(slower, faster, twin_of(slower, 1.08))
    assert groups(run) == {"asgi": ("a", "1–2"), "wsgi-sync": ("a", "1–2")}, "8 % are noise here"
    said = "Identical servers (wsgi-sync, measured twice in each block) differed by up to 8 % in requests/s"
    assert str(standings(run).noise).startswith(said)
    made = page.render(run, "")
    assert said in made
    assert "2 variants, 1 question" in made
    assert made.count("wsgi-sync/aa") == 1, "its own row in the table, and no place, colour or budget"
    calm = run_of(slower, faster, twin_of(slower, 1.001))
    assert groups(calm) == {"asgi": ("a", "1"), "wsgi-sync": ("b", "2")}
    assert str(standings(run_of(slower)).noise) == ""


def test_what_the_load_limits_is_one_group() -> None:
    asked = fake.scenario("quick/sleep", level=50, endpoint="sleep", wait_s=0.1)
    run = run_of(fake.plain("asgi", 499, asked=asked), fake.plain("wsgi-gevent", 490, asked=asked))
    assert {letters for letters, _ in groups(run).values()} == {"a"}
    (line,) = lines(standings(run).of(facets(summarise(run.recordings))[0]))[1:]
    assert line.lead == "~ something shared limits both"


def test_under_an_open_load_only_who_kept_up_is_ranked() -> None:
    run = fake.realistic()
    found, summaries = standings(run), summarise(run.recordings)
    (rows,) = (rows for rows in facets(summaries) if rows[0].scenario == "quick/sleep")
    ranked = found.of(rows, kept_up(found))
    assert {place.name for place in ranked.places} == {"asgi", "wsgi-gevent", "wsgi-threads"}
    assert ranked.metric == "p99_ms"
    told = next(one for one in answers(run, summaries) if one.scenario == "quick/sleep")
    assert told.places[0].variant == "asgi"
    assert told.by == "p99 of the response"


def test_the_page_says_how_a_run_that_repeats_by_itself_ended() -> None:
    run = fake.realistic(repeats=2, auto={"reason": "time budget reached: all of it"})
    assert "Repeats: time budget reached: all of it." in page.render(run, "")
    assert "Repeats:" not in page.render(fake.realistic(repeats=2), "")


@pytest.mark.parametrize(
    ("slope", "said"), [(0, "asgi steady from the start."), (8, "asgi not steady in 4 of 4 trials: falls")]
)
def test_steadiness_is_told_where_there_are_seconds_enough(slope: int, said: str) -> None:
    asked = fake.scenario("quick/ping").model_copy(update={"duration_s": 40})
    made = []
    for one in fake.plain("asgi", 900, asked=asked):
        rows = tuple(row.model_copy(update={"finished": row.finished - slope * row.second}) for row in one.rows)
        made.append(replace(one, rows=rows))
    run = run_of(made)
    ((_, told),) = steady(run, summarise(run.recordings)).items()
    assert told.replace(THIN, "").startswith(said)
    assert "Warm and steady? " in page.render(run, "")
    ((_, short),) = steady(run_of(fake.plain("asgi", 900)), summarise(fake.plain("asgi", 900))).items()
    assert short == "Not told: 3 s are too few to tell; 10 s at least."
