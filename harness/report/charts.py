"""Charts: a question in words and a function from Summaries to figures. In: a Run. Out: plotly figures, as data.

The only place that imports plotly. Charts draw usable cells only: `figures()` takes the VOID ones away beforehand. A
chart's function returns panels, name → drawing; none: there is nothing to draw. CHARTS, the table at the end, is all of
them: to add one, add a function and its row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from harness.physics import VOID, judge
from harness.recording import Run
from harness.report.by_cell import latency, resources, throughput
from harness.report.by_trial import spectrum, timeline
from harness.report.capacity_curve import hockey_stick
from harness.report.capacity_overload import overload
from harness.report.drawing import Drawing, Looks, Panels, looks
from harness.report.the_map import the_map
from harness.report.where_the_time_went import where_the_time_went
from harness.report.words import TIMES
from harness.stats import Summary, summarise


@dataclass(frozen=True)
class Chart:
    """question: what it answers. beyond: what it does not show or measure. panels: draws it."""

    name: str
    title: str
    question: str
    beyond: str
    panels: Callable[[Run, Sequence[Summary], Looks], Panels]


def figures(run: Run) -> dict[str, dict[str, go.Figure]]:
    """Chart → its panels, of usable cells. Looks are those of all variants, so they stay when a variant is VOID."""
    usable = replace(run, recordings=tuple(one for one in run.recordings if judge(one).name != VOID))
    summaries = summarise(usable.recordings)
    drawn = {chart.name: chart.panels(usable, summaries, looks(run)) for chart in CHARTS.values()}
    return {name: {panel: as_figure(one) for panel, one in panels.items()} for name, panels in drawn.items() if panels}


def as_figure(drawing: Drawing) -> go.Figure:
    # an empty template: plotly's own would be a third of the page's data, in colours that no theme could exchange
    return go.Figure(drawing, layout_template=go.layout.Template())


def as_json(figure: go.Figure) -> str:
    """Floats to 6 digits: the last bits of a sum depend on the machine."""
    return json.dumps(_short(figure.to_plotly_json()), separators=(",", ":"), sort_keys=True)


def _short(value: Any) -> Any:
    match value:
        case dict():
            return {key: _short(item) for key, item in value.items()}
        case list() | tuple():
            return [_short(item) for item in value]
        case float():
            return float(f"{value:.6g}") if math.isfinite(value) else None
        case _:
            return value


def plotly_js() -> str:
    text: str = get_plotlyjs()
    return text


CHARTS: dict[str, Chart] = {
    chart.name: chart
    for chart in (
        Chart(
            "capacity",
            "Capacity",
            "How do response times grow with the offered rate, and up to which rate does the promise hold?",
            "Arrivals are an open Poisson process. Points are medians of the trials that the search made, whiskers the "
            "least and the greatest; the band is the 95 % interval of the confirmed capacity. A model is drawn faintly "
            "beyond 1.3 times what was tested: extrapolated.",
            hockey_stick,
        ),
        Chart(
            "overload",
            "Overload and recovery",
            "When 150 % of the capacity arrives for 20 s, what is still answered in time, and how soon is it over?",
            "One trial a variant, an example without an interval. In time: within the promise, by the second in which "
            "the request was due. Clients give up when the time-out is over, so no backlog outlives it by much.",
            overload,
        ),
        Chart(
            "throughput",
            "Throughput",
            "How many requests a second did each variant complete, and what stops it from doing more?",
            "Bars are completed requests only; whiskers are 95 % intervals over the repeats. A ceiling is computed "
            "from the variant's own budget or CPU, not measured. A closed load slows down with its server, and so "
            "shows no backlog.",
            throughput,
        ),
        Chart(
            "latency",
            "Response times",
            "How long did users wait, and how much of it was the server's service?",
            "Percentiles are of all samples of all repeats together; one that too few samples support is left out. In "
            "closed mode response is service: the waiting that an open schedule would have caused is not in it.",
            latency,
        ),
        Chart(
            "spectrum",
            "Every percentile",
            "What do the slowest requests look like?",
            "Each nine takes the same room. A curve ends where the samples no longer support it: it has no maximum.",
            spectrum,
        ),
        Chart(
            "timeline",
            "One trial, second by second",
            "Was it steady, or did it drift, stall or fail on the way?",
            "The repeat with the middle throughput: one trial is an example and carries no interval. Response times "
            "belong to the second in which the request was due; a second's p99 is what was seen in it, from 100 "
            "samples up. In closed mode that is service.",
            timeline,
        ),
        Chart(
            "resources",
            "What it costs",
            "How much CPU, memory and how many threads does each variant take?",
            "The server's whole process tree, and nothing of the clients or a database beside it. Memory that "
            "processes share counts in each of them. No intervals: peaks over all repeats, and CPU as a mean.",
            resources,
        ),
        Chart(
            "time",
            "Where the time went",
            "Of a response, how much passed before the application, in it and after it, and who served how many?",
            "Means of answered requests that were stamped in the application (`--trace`); they add up to the response. "
            "Greenlets share a thread, so its CPU cannot be told apart from their waiting. Stamping takes some CPU "
            "itself. Shares: of each process, or of each thread of the only one, the busiest first, as means over the "
            "repeats; imbalance is the busiest one's share ÷ the mean of all, 1 where all did alike.",
            where_the_time_went,
        ),
        Chart(
            "map",
            f"Wait {TIMES} CPU",
            "As requests wait longer and compute more, who completes the most, and how far ahead of the second?",
            "A cell names the variant with the highest throughput and how many times that of the second it is, with "
            "the bounds of paired blocks. ~ claims nothing: the blocks cannot tell, or the load set the pace. VOID "
            "cells take no part; 3 of 4: so many of the variants were compared.",
            the_map,
        ),
    )
}
