"""The map of wait and CPU: who completes the most where. In: usable Summaries of a grid. Out: drawings.

A grid: scenarios of one file, closed, of one part each, whose queries give a wait (`ms`) and arithmetic (`n`). A cell
claims no more than its answer in words does, for it is compared by the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from harness.physics import SUSPECT
from harness.recording import Run
from harness.report.drawing import (
    GRID,
    INK,
    MUTED,
    Drawing,
    Looks,
    Panels,
    axis,
    family_keys,
    figure,
    key,
    layout,
    plain,
)
from harness.report.standings import Standing, standings
from harness.report.words import facets, load, number, rate
from harness.stats import Summary
from harness.trial import Scenario

CELL, LEFT, ABOVE, BELOW = 104, 62, 46, 46  # pixels: a cell's height, and what lies around the cells
NARROW = 12  # characters that a cell holds side by side on a telephone
TINT, EDGE = 0.3, 0.04  # how much of its colour a cell is filled with; the gap at each of its sides

Point = tuple[float, float]  # the wait in ms, the rounds of arithmetic


class Cell(NamedTuple):
    """One point of the grid, and who comes where in it."""

    rows: Sequence[Summary]
    standing: Standing

    @property
    def won(self) -> bool:
        return len(self.standing.level) == 1 < len(self.standing.places)


def the_map(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:
    grids = _grids(run, summaries)
    return {name: _drawing(run, grid, look) for name, grid in grids.items()}


def _grids(run: Run, summaries: Sequence[Summary]) -> dict[str, dict[Point, Cell]]:
    """Of each file, level and lens the points; only where both waits and CPU differ."""
    scenarios = {one.trial.scenario.name: one.trial.scenario for one in run.recordings}
    grids: dict[str, dict[Point, Cell]] = {}
    found = standings(run) if any(map(point_of, scenarios.values())) else None
    for rows in facets(summaries):
        first, scenario = rows[0], scenarios[rows[0].scenario]
        if found and (point := point_of(scenario)) and any(row.throughput_rps is not None for row in rows):
            cell = Cell(rows, found.of(rows))
            file = first.scenario.rpartition("/")[0] or first.scenario
            grids.setdefault(f"{plain(file)} · {load(first)} · {first.lens}", {})[point] = cell
    return {
        name: grid
        for name, grid in grids.items()
        if len({wait for wait, _ in grid}) > 1 and len({cpu for _, cpu in grid}) > 1
    }


def point_of(scenario: Scenario) -> Point | None:
    """Where it lies on the map; None where its load or its query says nothing of the kind."""
    if scenario.arrivals != "closed" or len(scenario.mix) != 1:
        return None
    given = dict(parse_qsl(scenario.mix[0].query))
    try:
        return float(given["ms"]), float(given["n"])
    except (KeyError, ValueError):
        return None


def _drawing(run: Run, grid: Mapping[Point, Cell], look: Looks) -> Drawing:
    waits, cpus = sorted({wait for wait, _ in grid}), sorted({cpu for _, cpu in grid})
    asked = {row.variant for cell in grid.values() for row in cell.rows}
    places = {point: (cpus.index(point[1]), waits.index(point[0])) for point in grid}
    height = ABOVE + CELL * len(waits) + BELOW
    winners = sorted({cell.standing.best or "" for cell in grid.values() if cell.won})
    keys = family_keys(run, look) or [
        key(plain(name), marker={"symbol": "square", "size": 11, "color": look[name].colour}) for name in winners
    ]
    keys.append(key("~ no winner", marker={"symbol": "square-open", "size": 11, "color": MUTED}))
    text = {
        "type": "scatter", "mode": "text", "x": [x for x, _ in places.values()], "y": [y for _, y in places.values()],
        "text": ["<br>".join(_said(cell, asked)) for cell in grid.values()], "showlegend": False,
        "textfont": {"color": INK, "size": 12},
        "hovertext": [_hover(point, cell) for point, cell in grid.items()],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }  # fmt: skip
    return figure(
        [*keys, text],
        layout(
            height,
            margin={"l": LEFT, "r": 16, "t": ABOVE, "b": BELOW},
            shapes=[_box(cell, *places[point], look) for point, cell in grid.items()],
            xaxis=_scale("CPU: rounds of arithmetic", cpus, ""),
            yaxis=_scale("wait", waits, " ms"),
        ),
    )


def _scale(title: str, values: Sequence[float], unit: str) -> dict[str, Any]:
    ticks = {"tickvals": list(range(len(values))), "ticktext": [f"{rate(value)}{unit}" for value in values]}
    frame = {"range": [-0.5, len(values) - 0.5], "showgrid": False, "zeroline": False}
    return axis(title={"text": title, "font": {"color": MUTED}, "standoff": 8}, **ticks, **frame)


def _box(cell: Cell, x: int, y: int, look: Looks) -> dict[str, Any]:
    colour = look[cell.standing.best or ""].colour if cell.won else None
    return {
        "type": "rect", "layer": "below", "x0": x - 0.5 + EDGE, "x1": x + 0.5 - EDGE, "y0": y - 0.5 + EDGE,
        "y1": y + 0.5 - EDGE, "fillcolor": colour or GRID, "opacity": TINT, "line": {"width": 1, "color": MUTED},
    }  # fmt: skip


def _said(cell: Cell, asked: set[str]) -> Iterator[str]:
    """The lines in a cell: the winner and its lead over the second; else who shares the place, and why."""
    standing = cell.standing
    names = standing.level
    if cell.won:
        yield from (f"<b>{plain(line)}</b>" for line in wrap(names[0], NARROW))
        lead, _, bounds = standing.lead(standing.places[1].name).removeprefix("by ").rpartition(" ")
        yield lead
        yield _small(bounds)
    else:
        yield "<b>~</b>"
        yield from map(_small, names if len(names) <= 2 else [f"{len(names)} alike"])
        if not standing.places:
            yield _small("one repeat")
        elif standing.paced:
            yield _small("load's pace" if standing.shared and standing.shared.limit == "client" else "same limit")
    if any(row.verdict == SUSPECT for row in cell.rows):
        yield _small("SUSPECT")
    if len(standing.places) < len(asked):
        yield _small(f"{len(standing.places)} of {len(asked)}")


def _small(text: str) -> str:
    return f"<span style='font-size:10px'>{plain(text)}</span>"


def _hover(point: Point, cell: Cell) -> str:
    """All that were compared: their throughputs, and what limited them."""
    ranked = sorted(cell.rows, key=lambda row: -(row.throughput_rps or 0.0))
    named = {place.name for place in cell.standing.places}
    lines = [
        f"{plain(row.variant)}: "
        f"{cell.standing.value(row.variant) if row.variant in named else f'{number(row.throughput_rps)}/s'}, "
        f"{row.verdict}, limited by {plain(row.limited_by)}"
        for row in ranked
    ]
    return "<br>".join([f"<b>wait {rate(point[0])} ms, {rate(point[1])} rounds</b>", load(ranked[0]), *lines])
