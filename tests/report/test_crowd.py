"""Twenty variants on one page, what each was given, and what was not the same for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import show
from harness.errors import UsageError
from harness.recording import Run
from harness.report import page, pictures, tables
from harness.report.answers import answers
from harness.report.charts import figures
from harness.report.drawing import PALETTE, looks
from harness.report.words import MOST_NAMED, MOUNT, Given, differences, few, given, listed, setting
from harness.stats import summarise

from . import fake


@pytest.fixture(scope="module")
def crowd() -> Run:
    return fake.crowd(wall_s=900.0)


def small(*names: str, **about: Any) -> Run:
    return Run(Path("run"), tuple(one for name in names for one in fake.plain(name, 900, 2, about=about)))


# -- what each was given ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "shown"),
    [
        ({"processes": 2, "slots": 16, "worker_connections": 1000}, Given("2", "16", "1\u202f000")),
        ({"processes": 4, "slots": 4, "worker_connections": None}, Given("4", "4", "–")),
        ({"processes": 1, "slots": None, "worker_connections": None}, Given("1", "–", "–")),
        ({}, Given("–", "–", "–")),  # a recording need not say
    ],
)
def test_processes_slots_and_connections(budget: dict[str, Any], shown: Given) -> None:
    assert given(fake.subject("asgi").model_copy(update={"budget": budget})) == shown


def test_what_was_not_the_same_for_all_is_said() -> None:
    same = {"processes": 1, "keep_alive_s": 75, "backlog": 2048, "db_connections": 8, "access_log": False}
    asked = {name: fake.subject(name).model_copy(update={"budget": same}) for name in ("a", "b", "c")}
    assert differences(asked) == []
    asked["d"] = asked["a"].model_copy(update={"budget": same | {"keep_alive_s": None, "processes": 4, "slots": 4}})
    asked["e"] = asked["a"].model_copy(update={"budget": same | {"keep_alive_s": 0, "access_log": True}})
    assert differences(asked) == [
        "processes: 4 for d, 1 for the other 4",
        "keep-alive: none for d and e, 75 s for the other 3",
        "access log: yes for e, no for the other 4",
    ]
    assert [setting(value, " s") for value in (None, 0, 2, False, True)] == ["none", "none", "2 s", "no", "yes"]


def test_the_terminal_shows_them_beside_every_number(crowd: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rows = summarise(crowd.recordings)
    show.answers(crowd, rows, tables.answers(crowd, rows))
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if line.startswith("variant ")]
    assert len(heads) == 3
    assert all(line.split()[1:4] == ["processes", "slots", "connections"] for line in heads[:2])
    assert ["MB" in line and "threads" in line for line in heads] == [False, False, True], "streams are about them"
    assert "Not the same for all: keep-alive: none for " in "\n".join(lines)
    for name in fake.CROWD:
        assert any(line.startswith(f"{name} ") for line in lines), "a name is cut"


def test_the_page_shows_them_too(crowd: Run) -> None:
    made = page.render(crowd, "")
    for head in ("processes", "slots", "connections", "MB", "threads"):
        assert made.count(f'<th class="n">{head}</th>') == 3
    assert "Not the same for all: keep-alive: none for" in made
    budgets = made.partition('<section id="budgets">')[2].partition("</section>")[0]
    assert '<th class="differs">keep alive s</th>' in budgets
    assert "<th>backlog</th>" in budgets
    assert budgets.count("<tr><td>") == len(fake.CROWD)
    held = next(one for one in answers(crowd, summarise(crowd.recordings)) if one.endpoint == "sse").parts[-1]
    assert held.startswith("Held in: asgi 46.0 MB and 1 thread; ")


def test_what_is_left_out_has_a_line_a_reason() -> None:
    everything = dict.fromkeys(["ping", "sleep", "db", "cpu", "sse", "ws", "poll"], "no-such-module not installed")
    made = page.render(
        replace(small("asgi"), manifest={"holes": {"b": everything, "c": {"ws": "no", "sse": "no"}}}), ""
    )
    section = made.partition('<section id="holes">')[2].partition("</section>")[0]
    assert section.count("no-such-module") == 1
    assert "<td>all</td>" in section
    assert "<td>ws, sse</td>" in section


# -- readable with many ----------------------------------------------------------------------------------------------


def test_sentences_name_a_few() -> None:
    names = list("abcdefgh")
    assert listed(names[:MOST_NAMED]) == "a, b, c, d, e and f"
    assert listed(names) == "a, b, c, d, e and 3 more"
    assert few(names)[-1] == "3 more"


def test_an_answer_about_twenty_is_still_a_sentence(crowd: Run) -> None:
    told = answers(crowd, summarise(crowd.recordings))
    assert all(len(one.sentence) < 1_000 for one in told)
    assert all(len(one.limits) == len(fake.CROWD) for one in told), "the reasons of all of them stand below"
    sleep = next(one for one in told if one.endpoint == "sleep")
    assert sleep.sentence.startswith(f"{len(fake.CROWD) - 1} of {len(fake.CROWD)} served the 200/s offered. ")


def test_few_have_a_colour_each_and_many_one_a_family(crowd: Run) -> None:
    alone = looks(small("asgi", "wsgi-gevent", "wsgi-sync", "wsgi-threads"))
    assert [look.colour for look in alone.values()] == list(PALETTE[:4])
    many = looks(crowd)
    by_family: dict[str, set[str]] = {}
    for name, look in many.items():
        by_family.setdefault(fake.family(name), set()).add(look.colour)
    assert all(len(colours) == 1 for colours in by_family.values())
    assert len(set().union(*by_family.values())) == len(by_family) == 3
    lines = [(look.shade, look.dash) for look in many.values()]
    assert len(set(lines)) == len(lines), "two curves of one chart look alike"


def test_charts_grow_with_their_rows_and_cut_no_name(crowd: Run) -> None:
    drawn = figures(crowd)
    for name in ("throughput", "latency"):
        layout = drawn[name][""].layout
        assert sorted(text.partition("<br>")[0] for text in layout.yaxis.ticktext) == sorted(fake.CROWD)
        assert layout.height > 3 * 30 * len(fake.CROWD)
        assert {trace.name for trace in drawn[name][""].data} >= {"asgi", "gevent", "wsgi"}, "colours have a legend"
    assert sorted(drawn["resources"][""].layout.yaxis.ticktext) == sorted(fake.CROWD)
    layout = next(iter(drawn["spectrum"].values())).layout
    assert layout.meta["entries"] == len(fake.CROWD)
    assert layout.margin.b >= layout.meta["lines"] * layout.meta["line"]


def test_a_variant_whose_cells_are_all_void_is_missed_by_no_chart(crowd: Run) -> None:
    bad = {"notes": ("verdict VOID generator it was late",), "outcome": "complete"}
    spoilt = [
        replace(one, end=one.end.model_copy(update=bad)) if one.trial.variant == "daphne" else one
        for one in crowd.recordings
    ]
    drawn = figures(replace(crowd, recordings=tuple(spoilt)))
    assert "daphne" not in drawn["resources"][""].layout.yaxis.ticktext
    assert len(drawn["resources"][""].layout.yaxis.ticktext) == len(fake.CROWD) - 1


# -- what a number is not --------------------------------------------------------------------------------------------


def test_charts_of_frameworks_say_what_a_mount_measures() -> None:
    framework, raw = small("asgi", framework="starlette"), small("asgi")
    assert page.render(framework, "").count(MOUNT) == len(figures(framework))
    assert MOUNT not in page.render(raw, "")
    assert MOUNT in pictures.small_print(framework)
    assert MOUNT not in pictures.small_print(raw)


def test_mixed_lenses_are_refused_on_the_page_and_in_pictures(tmp_path: Path) -> None:
    mixed = Run(tmp_path, (*fake.plain("asgi", 900, 2), *fake.plain("b", 500, 2, lens="as-configured")))
    for make in (lambda: page.render(mixed, ""), lambda: pictures.write(mixed, tmp_path, "png")):
        with pytest.raises(UsageError, match=r"different lenses \(as-configured, equal-cpu\)"):
            make()
