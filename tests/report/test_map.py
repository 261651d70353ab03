"""The map: a cell a point, coloured by its winner; `~` where nothing may be claimed; nothing of what is VOID."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from harness.recording import Run
from harness.report.charts import figures
from harness.report.drawing import GRID, looks
from harness.report.words import THIN

from . import fake


def drawn(run: Run) -> dict[str, Any]:
    """The one panel's data."""
    (figure,) = figures(run)["map"].values()
    whole: dict[str, Any] = json.loads(json.dumps(figure.to_plotly_json(), default=list))
    return whole


def cells(run: Run) -> dict[tuple[int, int], tuple[str, str]]:
    """(column, row) → its lines, and its colour."""
    whole = drawn(run)
    (text,) = [trace for trace in whole["data"] if trace.get("mode") == "text"]
    said = [re.sub("<[^>]*>", "", line.replace("<br>", "|")) for line in text["text"]]
    colours = [shape["fillcolor"] for shape in whole["layout"]["shapes"]]
    return {(x, y): (line, colour) for x, y, line, colour in zip(text["x"], text["y"], said, colours, strict=True)}


def test_a_cell_names_its_winner_and_the_lead_over_the_second() -> None:
    run = fake.grid()
    found = cells(run)
    assert len(found) == 9
    assert found[2, 0][0].startswith("wsgi-gevent|")
    line, colour = found[0, 0]
    assert re.fullmatch(r"asgi\|1\.\d\d ×\|\[1\.\d\d–1\.\d\d\]", line)
    assert colour == looks(run)["asgi"].colour
    axes = drawn(run)["layout"]
    assert axes["xaxis"]["ticktext"] == ["1", f"5{THIN}000", f"20{THIN}000"]
    assert axes["yaxis"]["ticktext"] == ["0 ms", "10 ms", "50 ms"]


def test_where_intervals_overlap_nobody_wins() -> None:
    run = fake.grid(variants=("asgi-h11", "daphne"))
    for line, colour in cells(run).values():
        assert line.startswith("~|")
        assert colour == GRID


def test_where_the_load_sets_the_pace_nobody_wins() -> None:
    line, colour = cells(fake.grid(users=16, variants=("asgi", "wsgi-gevent")))[0, 2]
    assert line == "~|asgi|wsgi-gevent|load's pace"
    assert colour == GRID


def test_one_repeat_supports_no_claim() -> None:
    assert {line for line, _ in cells(fake.grid(repeats=1)).values()} == {"~|one repeat|0 of 4"}


def test_void_cells_are_not_on_it() -> None:
    end = {"notes": ("verdict VOID generator the schedule was not kept",)}
    run, void = fake.grid(), fake.grid(end=end)
    first = void.recordings[0].trial.scenario.name
    mixed = [
        bad if one.trial.variant == "asgi" and one.trial.scenario.name == first else one
        for one, bad in zip(run.recordings, void.recordings, strict=True)
    ]
    line, _ = cells(replace(run, recordings=tuple(mixed)))[0, 0]
    assert line.startswith("wsgi-gevent|")
    assert line.endswith("|3 of 4")
    lost = [
        bad if one.trial.scenario.name == first else one
        for one, bad in zip(run.recordings, void.recordings, strict=True)
    ]
    assert len(cells(replace(run, recordings=tuple(lost)))) == 8


def test_without_a_grid_there_is_no_map() -> None:
    assert "map" not in figures(fake.realistic(repeats=2))
    run = fake.grid()
    row = tuple(one for one in run.recordings if one.trial.scenario.name.startswith("mix/10ms-"))
    assert "map" not in figures(replace(run, recordings=row))
    assert "map" not in figures(Run(run.folder, ()))
