"""Charts of cells: throughput, response times, resources. In: usable Summaries. Out: drawings.

Plain data in plotly's words; harness/report/charts.py makes figures of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

from harness.histogram import Histogram
from harness.intervals import quantile_ms
from harness.physics import Ceiling, ceilings
from harness.recording import Recording, Run
from harness.report.drawing import (
    INK,
    MUTED,
    PAPER,
    QUANTILES,
    SYMBOLS,
    Drawing,
    Look,
    Looks,
    Panels,
    arms,
    facet_title,
    family_keys,
    figure,
    key,
    left_of,
    log_axis,
    many,
    number_of,
    on,
    plain,
    stacked,
    trials_of,
    variants_axis,
)
from harness.report.words import facets, interval, load, number
from harness.stats import Summary

# -- throughput ------------------------------------------------------------------------------------------------------


def throughput(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:
    shown = facets(summaries)
    if not shown:
        return {}
    if many(look):
        shown = [sorted(rows, key=_fastest_first) for rows in shown]
    left = left_of(shown)
    heights = [(34 if many(rows) else 40) * len(rows) for rows in shown]
    layout = stacked([facet_title(rows) for rows in shown], heights, left)
    traces = [
        *family_keys(run, look),
        key("nearest ceiling", marker={"symbol": "line-ns", "size": 14, "line": {"width": 3, "color": INK}}),
        key("ceiling beyond the axis", marker={"symbol": "triangle-right", "size": 9, "color": INK}),
        key("offered", line={"color": MUTED, "width": 1.5, "dash": "dot"}),
    ]
    for place, rows in enumerate(shown, 1):
        notes = [f"{number(row.throughput_rps)}/s · {row.limited_by}" for row in rows]
        layout[f"yaxis{number_of(place)}"] |= variants_axis(rows, notes)
        tops = [row.throughput_high_rps or row.throughput_rps or 0.0 for row in rows]
        edge = 1.3 * max([*tops, *(row.offered_rps for row in rows if row.arrivals != "closed")]) or 1.0
        layout[f"xaxis{number_of(place)}"] |= {
            "range": [0, edge],
            "nticks": 4 if many(rows) else 6,
            "tickformat": ",~r" if edge < 10 else ",.0f",
        }
        traces += [_bar(i, row, look[row.variant]) | on(place) for i, row in enumerate(rows)]
        traces += [trace | on(place) for trace in _limits(run, rows, edge)]
    return {"": figure(traces, layout)}


def _fastest_first(row: Summary) -> float:
    """Of a closed load: where the load sets the pace, the order of throughputs would be one of noise."""
    return -(row.throughput_rps or 0.0) if row.arrivals == "closed" else 0.0


def _bar(i: int, row: Summary, look: Look) -> dict[str, Any]:
    up, down = arms(row.throughput_rps, row.throughput_low_rps, row.throughput_high_rps)
    hover = (
        f"<b>{plain(row.variant)}</b><br>{number(row.throughput_rps)}/s "
        f"{interval(row.throughput_low_rps, row.throughput_high_rps)}"
        f"<br>{load(row)}; {row.repeats} repeats, n = {number(row.n)}"
        f"<br>{row.verdict}, limited by {plain(row.limited_by)}<br>{plain(row.reason)}<extra></extra>"
    )
    return {
        "type": "bar", "orientation": "h", "x": [row.throughput_rps], "y": [i], "width": 0.5, "showlegend": False,
        "marker": {"color": look.colour, "line": {"width": 0},
                   "pattern": {"shape": look.pattern, "bgcolor": look.colour, "fgcolor": PAPER, "fgopacity": 0.4}},
        "error_x": {"type": "data", "array": [up], "arrayminus": [down], "color": INK, "thickness": 1.4, "width": 5},
        "hovertemplate": hover, "name": row.variant,
    }  # fmt: skip


def _limits(run: Run, rows: Sequence[Summary], edge: float) -> list[dict[str, Any]]:
    """The nearest ceiling of each, and the rate that was offered. A mix has none: they are of its sum."""
    nearest = [(i, _nearest_ceiling(trials_of(run, row))) for i, row in enumerate(rows)]
    given = [(i, one) for i, one in nearest if one]
    traces = []
    for inside, symbol, size in ((True, "line-ns", 24), (False, "triangle-right", 9)):
        some = [(i, one) for i, one in given if (one.rps <= edge) is inside]
        traces.append({
            "type": "scatter", "mode": "markers", "y": [i for i, _ in some], "showlegend": False, "cliponaxis": False,
            "x": [min(one.rps, edge) for _, one in some],
            "marker": {"symbol": symbol, "size": size, "color": INK, "line": {"width": 3 * inside, "color": INK}},
            "text": [f"<b>ceiling: {plain(one.name)}</b><br>{plain(one.sentence)}" for _, one in some],
            "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
    if rows[0].arrivals != "closed":
        offered = rows[0].level
        traces.append({
            "type": "scatter", "mode": "lines", "x": [offered, offered], "y": [-0.6, len(rows) - 0.4],
            "line": {"color": MUTED, "width": 1.5, "dash": "dot"}, "showlegend": False,
            "hovertemplate": f"offered: {number(offered)}/s<extra></extra>",
        })  # fmt: skip
    return [trace for trace in traces if trace["x"]]


def _nearest_ceiling(trials: Sequence[Recording]) -> Ceiling | None:
    """Of each law the middle one of the repeats, and of these the lowest."""
    if not trials or len({part.row for part in trials[0].trial.scenario.mix}) > 1:
        return None
    laws: dict[str, list[Ceiling]] = {}
    for ceiling in chain.from_iterable(ceilings(trial) for trial in trials):
        laws.setdefault(ceiling.name, []).append(ceiling)
    middle = [sorted(law, key=lambda one: one.rps)[(len(law) - 1) // 2] for law in laws.values()]
    return min(middle, key=lambda one: one.rps, default=None)


# -- response times --------------------------------------------------------------------------------------------------


def latency(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:
    shown = [rows for rows in facets(summaries, parts=True) if any(row.p50_ms for row in rows)]
    if not shown:
        return {}
    if many(look):
        shown = [sorted(rows, key=lambda row: row.p99_ms or row.p90_ms or row.p50_ms or math.inf) for rows in shown]
    heights = [(38 if many(rows) else 44) * len(rows) for rows in shown]
    layout = stacked([facet_title(rows) for rows in shown], heights, left_of(shown))
    traces = family_keys(run, look)
    traces += [key(name, marker={"symbol": symbol, "size": 9, "color": MUTED}) for _, name, symbol in QUANTILES]
    traces.append(key("service (hollow)", marker={"symbol": "circle-open", "size": 8, "color": MUTED}))
    for place, rows in enumerate(shown, 1):
        notes = [f"p99 {number(row.p99_ms)} ms" if row.p99_ms else f"p99 n/a (n={number(row.n)})" for row in rows]
        layout[f"yaxis{number_of(place)}"] |= variants_axis(rows, notes)
        drawn = [trace for i, row in enumerate(rows) for trace in _dots(run, i, row, look[row.variant])]
        drawn = [trace for trace in drawn if trace["x"]]
        layout[f"xaxis{number_of(place)}"] |= log_axis(chain.from_iterable(trace["x"] for trace in drawn)) | {
            "ticksuffix": " ms"
        }
        traces += [trace | on(place) for trace in drawn]
    return {"": figure(traces, layout)}


def _dots(run: Run, i: int, row: Summary, look: Look) -> list[dict[str, Any]]:
    """One variant: its response percentiles on a line; below them, where they can differ, those of service."""
    response = [
        (q, name, symbol, value) for (q, name, symbol), value in zip(QUANTILES, _printed(row), strict=True) if value
    ]
    up, down = arms(row.p99_ms, row.p99_low_ms, row.p99_high_ms)
    error = {
        "array": [up * (q == 0.99) for q, *_ in response],
        "arrayminus": [down * (q == 0.99) for q, *_ in response],
    }
    dots = [
        _line_of(i, row, look, response, "response")
        | {"error_x": error | {"type": "data", "color": INK, "thickness": 1.2}}
    ]
    if row.arrivals != "closed":
        pooled = Histogram.merged(trial.histogram(row.endpoint, "service") for trial in trials_of(run, row))
        service = [(q, name, f"{symbol}-open", quantile_ms(pooled, q)) for q, name, symbol in QUANTILES]
        dots.append(_line_of(i + 0.24, row, look, [one for one in service if one[3]], "service"))
    return dots


def _printed(row: Summary) -> tuple[float | None, ...]:
    return row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms


def _line_of(y: float, row: Summary, look: Look, points: Sequence[Any], kind: str) -> dict[str, Any]:
    thin = kind == "service"
    hover = [
        f"<b>{plain(row.variant)}</b>, {kind}<br>{name} {number(value)} ms"
        + (f" {interval(row.p99_low_ms, row.p99_high_ms)}" if name == "p99" and not thin else "")
        + f"<br>{load(row)}; {row.repeats} repeats, n = {number(row.n)}"
        for _, name, _, value in points
    ]
    return {
        "type": "scatter", "mode": "lines+markers", "x": [value for *_, value in points], "y": [y] * len(points),
        "line": {"color": look.colour, "width": 1 if thin else 2}, "showlegend": False, "name": row.variant,
        "marker": {"symbol": [symbol for _, _, symbol, _ in points], "size": 7 if thin else 10, "color": look.colour},
        "text": hover, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


# -- resources -------------------------------------------------------------------------------------------------------

Resource = tuple[str, str, bool]  # its title, its column, whether its axis is logarithmic
RESOURCES: Sequence[Resource] = (
    ("CPU a request, ms (the whole server)", "cpu_ms_per_request", True),
    ("memory, MB (peak resident, the whole server)", "rss_mb", False),
    ("threads (most, the whole server)", "threads", False),
)


def resources(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:
    shown = facets(summaries)
    some = [one for one in RESOURCES if any(getattr(row, one[1]) is not None for rows in shown for row in rows)]
    if not some:
        return {}
    return {"": _resource_rows(run, shown, some, look) if many(look) else _resource_columns(shown, some, look)}


def _resource_columns(shown: Sequence[Sequence[Summary]], some: Sequence[Resource], look: Looks) -> Drawing:
    """A column a cell, a mark a variant."""
    layout = stacked([title for title, *_ in some], [190] * len(some), 56) | {"scattermode": "group", "scattergap": 0.4}
    labels = _labels(shown)
    cells = [(label, row) for label, rows in zip(labels, shown, strict=True) for row in rows]
    traces = []
    for place, (_, field, logarithmic) in enumerate(some, 1):
        drawn = [_resource(cells, field, variant, look[variant]) | on(place) for variant in look]
        drawn = [trace | {"showlegend": place == 1} for trace in drawn if trace["x"]]
        layout[f"yaxis{number_of(place)}"] |= _amount(drawn, "y", logarithmic=logarithmic)
        layout[f"xaxis{number_of(place)}"] |= {
            "categoryorder": "array",
            "categoryarray": labels,
            "tickfont": {"color": INK},
        }
        traces += drawn
    return figure(traces, layout)


def _resource_rows(run: Run, shown: Sequence[Sequence[Summary]], some: Sequence[Resource], look: Looks) -> Drawing:
    """A row a variant, a mark a cell."""
    found = {row.variant: row for rows in shown for row in rows}
    names = [name for name in look if name in found]
    one_each = [found[name] for name in names]
    layout = stacked([title for title, *_ in some], [24 * len(names)] * len(some), left_of([one_each]))
    traces = family_keys(run, look)
    traces += [
        key(label, marker={"symbol": f"{SYMBOLS[i % len(SYMBOLS)]}-open", "size": 9, "color": MUTED})
        for i, label in enumerate(_labels(shown))
    ]
    for place, (_, field, logarithmic) in enumerate(some, 1):
        drawn = [
            _resource_marks(rows, field, names, look, SYMBOLS[i % len(SYMBOLS)]) | on(place)
            for i, rows in enumerate(shown)
        ]
        drawn = [trace for trace in drawn if trace["x"]]
        layout[f"xaxis{number_of(place)}"] |= _amount(drawn, "x", logarithmic=logarithmic)
        layout[f"yaxis{number_of(place)}"] |= variants_axis(one_each, [""] * len(names)) | {"showgrid": True}
        traces += drawn
    return figure(traces, layout)


def _amount(drawn: Sequence[dict[str, Any]], along: str, *, logarithmic: bool) -> dict[str, Any]:
    if logarithmic:
        return log_axis(chain.from_iterable(trace[along] for trace in drawn))
    return {"rangemode": "tozero", "nticks": 5}


def _resource_marks(
    rows: Sequence[Summary], field: str, names: Sequence[str], look: Looks, symbol: str
) -> dict[str, Any]:
    some = [(row, value) for row in rows if (value := getattr(row, field)) is not None]
    return {
        "type": "scatter", "mode": "markers", "x": [value for _, value in some], "showlegend": False,
        "y": [names.index(row.variant) for row, _ in some],
        "marker": {"color": [look[row.variant].colour for row, _ in some], "symbol": symbol, "size": 9},
        "text": [f"<b>{plain(row.variant)}</b> {number(value)}<br>{plain(row.scenario)}, {load(row)}"
                 for row, value in some],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _labels(shown: Sequence[Sequence[Summary]]) -> list[str]:
    """Short names of facets; with what tells them apart where the endpoint alone does not."""
    short = [plain(rows[0].endpoint) for rows in shown]
    long = [plain(f"{rows[0].scenario} {rows[0].endpoint} {number(rows[0].level)} {rows[0].lens}") for rows in shown]
    return [long[i] if short.count(name) > 1 else name for i, name in enumerate(short)]


def _resource(cells: Sequence[tuple[str, Summary]], field: str, variant: str, look: Look) -> dict[str, Any]:
    own = [(label, row) for label, row in cells if row.variant == variant]
    some = [(label, row, value) for label, row in own if (value := getattr(row, field)) is not None]
    return {
        "type": "scatter", "mode": "markers", "x": [label for label, *_ in some], "y": [value for *_, value in some],
        "name": variant, "legendgroup": variant, "offsetgroup": variant,
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 10},
        "text": [f"{number(value)}<br>{plain(row.scenario)}, {load(row)}" for _, row, value in some],
        "hovertemplate": f"<b>{plain(variant)}</b> %{{text}}<extra></extra>",
    }  # fmt: skip
