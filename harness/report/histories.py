"""The chart of a history: each variant's ratio to the reference, run by run. In: Histories. Out: a page or a picture.

Each panel is one cell by one metric; arms are 95 % intervals over the blocks of a run; a diamond is where a new level
begins. Ratios to a reference, never raw numbers: what the machine does to both drops out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.compare import interval, load_of
from harness.errors import UsageError
from harness.history import History
from harness.recording import write_whole
from harness.report import pictures
from harness.report.charts import as_figure, as_json, plotly_js
from harness.report.drawing import (
    DASHES,
    INK,
    MUTED,
    PALETTE,
    SYMBOLS,
    THEME,
    Drawing,
    Panels,
    arms,
    figure,
    plain,
    stacked,
)
from harness.report.page import TEMPLATES, embedded, hash_of, templates

IMAGES = (".png", ".svg", ".pdf")
HEIGHT, LEFT = 380, 54


def write(found: Sequence[History], runs: Sequence[str], path: Path) -> Path:
    """A page, or by its ending a picture of the first panel that changed. Raises UsageError for another ending."""
    if path.suffix not in (".html", *IMAGES):
        raise UsageError(f"--to {path}: it ends with .html, {', '.join(IMAGES)}")
    if not path.parent.is_dir():
        raise UsageError(f"--to {path}: there is no folder {path.parent}")
    drawn = panels(found, runs)
    if path.suffix == ".html":
        write_whole(path, render(found, drawn, plotly_js()).encode())
    else:
        titled = {name: _titled(drawing, name) for name, drawing in drawn.items()}
        several = len(titled) > 1
        numbered = {
            path.with_stem(f"{path.stem}-{place}") if several else path: as_figure(drawing).to_plotly_json()
            for place, drawing in enumerate(titled.values(), 1)
        }
        pictures.draw(numbered, path.suffix.removeprefix("."))
        path = next(iter(numbered))
    return path


def panels(found: Sequence[History], runs: Sequence[str]) -> Panels:
    """One for each cell and metric; those with a change first."""
    cells: dict[str, list[History]] = {}
    for one in found:
        load = load_of(one.cell.arrivals, one.cell.level)
        cells.setdefault(f"{one.cell.scenario} · {load} · {one.cell.endpoint} · {one.metric}", []).append(one)
    ordered = sorted(cells, key=lambda name: not any(one.changes for one in cells[name]))
    return {name: _panel(cells[name], runs) for name in ordered}


def _panel(found: Sequence[History], runs: Sequence[str]) -> Drawing:
    traces = [trace for place, one in enumerate(found) for trace in _line(one, place, runs)]
    layout = stacked([f"ratio to {plain(found[0].reference)}, run by run"], [HEIGHT], LEFT)
    layout["yaxis"] |= _axis(found)
    ticks = range(0, len(runs), -(-len(runs) // 12))
    layout["xaxis"] |= {
        "range": [-0.5, len(runs) - 0.5],
        "tickvals": list(ticks),
        "ticktext": [plain(runs[tick])[:24] for tick in ticks],
        "tickangle": -30 if len(runs) > 6 else 0,
        "automargin": True,
    }
    return figure(traces, layout)


def _axis(found: Sequence[History]) -> dict[str, Any]:
    """Just the ratios and their intervals, so that a step of some per cent can be seen, and noise below 1 % can't."""
    every = [point.ratio for one in found for point in one.points]
    low = min(bound for ratio in every if (bound := ratio.low or ratio.ratio))
    high = max(bound for ratio in every if (bound := ratio.high or ratio.ratio))
    spare = max(0.1 * (high - low), 0.02 * high)
    return {"range": [max(low - spare, 0.0), high + spare], "nticks": 7, "zeroline": False}


def _line(one: History, place: int, runs: Sequence[str]) -> list[dict[str, Any]]:
    colour, symbol = PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)]
    points = [(runs.index(point.run), point) for point in one.points]
    bars = [arms(point.ratio.ratio, point.ratio.low, point.ratio.high) for _, point in points]
    name = plain(one.variant)
    made: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines+markers", "name": name, "legendgroup": name,
            "x": [x for x, _ in points], "y": [point.ratio.ratio for _, point in points],
            "error_y": {"type": "data", "array": [up for up, _ in bars], "arrayminus": [down for _, down in bars],
                        "color": MUTED, "thickness": 1.1, "width": 3},
            "line": {"color": colour, "width": 2, "dash": DASHES[place // len(PALETTE) % len(DASHES)]},
            "marker": {"symbol": symbol, "size": 7, "color": colour},
            "text": [f"{plain(point.run)}: {point.ratio.ratio or 0:.3f} {interval(point.ratio.low, point.ratio.high)}"
                     for _, point in points],
            "hovertemplate": f"<b>{name}</b> %{{text}}<extra></extra>",
        }
    ]  # fmt: skip
    at = {point.run: (x, point.ratio.ratio) for x, point in points}
    if one.changes:
        moved = [f"{(change.ratio.ratio or 1) - 1:+.1%} from {plain(change.run)} on" for change in one.changes]
        made.append({
            "type": "scatter", "mode": "markers", "name": f"{name}: new level", "legendgroup": name,
            "x": [at[change.run][0] for change in one.changes], "y": [at[change.run][1] for change in one.changes],
            "marker": {"symbol": "diamond-open", "size": 16, "color": INK, "line": {"width": 2, "color": INK}},
            "text": moved, "hovertemplate": f"<b>{name}</b> %{{text}}<extra></extra>",
        })  # fmt: skip
    return made


def _titled(drawing: Drawing, name: str) -> Drawing:
    """A picture travels alone: it says what it shows."""
    layout = drawing["layout"]
    above = 40
    title = {"text": plain(name), "x": 0, "xref": "container", "xanchor": "left", "y": 0.98, "yanchor": "top"}
    margin = layout["margin"] | {"t": layout["margin"]["t"] + above}
    more = {
        "height": layout["height"] + above,
        "margin": margin,
        "title": title | {"font": {"size": 15}, "pad": {"l": 4}},
    }
    legend = layout["legend"] | {"y": 1 - above / (layout["height"] + above)}
    return drawing | {"layout": layout | more | {"legend": legend}}


def render(found: Sequence[History], drawn: Panels, plotly_js: str) -> str:
    """The page, with the given source of plotly.js inside; it fetches nothing."""
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    figures = [as_figure(drawing) for drawing in drawn.values()]
    return (
        templates()
        .get_template("history.html")
        .render(
            reference=found[0].reference,
            names=list(drawn),
            height=max(one.layout.height for one in figures),
            data=embedded(f"[{','.join(map(as_json, figures))}]"),
            said=[
                f"{one.variant} ({one.cell.scenario}, {one.cell.endpoint}, {one.metric}): {one.reason}" for one in found
            ],
            plotly_js=plotly_js,
            script=script,
            css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
            theme=embedded(json.dumps(THEME)),
            hashes=" ".join(hash_of(source) for source in (plotly_js, script)),
        )
    )
