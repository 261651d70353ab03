"""Charts inside cells: every percentile, every second. In: a Run's usable Recordings. Out: drawings.

Plain data in plotly's words; harness/report/charts.py makes figures of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

from harness.histogram import Histogram, samples_needed
from harness.recording import Kind, Recording, Row, Run
from harness.report.drawing import (
    BAND,
    MUTED,
    Look,
    Looks,
    Panels,
    figure,
    log_axis,
    many,
    number_of,
    on,
    plain,
    stacked,
    trials_of,
)
from harness.report.words import TIMES, facets, number, panel_of
from harness.stats import Summary

SECOND_SAMPLES = 100  # fewer in a second, and its 99th percentile is its maximum
SPECTRUM = tuple(round(1 - 10 ** (-step / 16), 7) for step in range(1, 16 * 5 + 1))


def spectrum(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:
    """Every percentile that the samples allow, as HdrHistogram plots it: each nine takes the same room."""
    panels = {}
    for rows in facets(summaries, parts=True):
        curves = list(chain.from_iterable(_curves(run, row, look[row.variant]) for row in rows))
        if not any(curve["x"] for curve in curves):
            continue
        ends = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
        far = max(x for curve in curves for x in curve["x"])
        across = {"type": "log", "range": [0, math.log10(far) + 0.05], "tickvals": [1 / (1 - q) for q in ends],
                  "ticktext": [f"{q * 100:g} %" for q in ends]}  # fmt: skip
        named = [curve["name"] for curve in curves if curve["x"]] if many(look) else []
        layout = stacked(["response time, ms, at each percentile"], [420 if named else 330], 54, named)
        layout["xaxis"] |= across
        layout["yaxis"] |= log_axis(chain.from_iterable(curve["y"] for curve in curves))
        panels[panel_of(rows)] = figure(curves, layout | {"hovermode": "closest"})
    return panels


def _curves(run: Run, row: Summary, look: Look) -> list[dict[str, Any]]:
    curves = []
    kinds: tuple[Kind, ...] = ("response",) if row.arrivals == "closed" else ("response", "service")
    for kind in kinds:
        pooled = Histogram.merged(trial.histogram(row.endpoint, kind) for trial in trials_of(run, row))
        points = [(1 / (1 - q), pooled.quantile_us(q) / 1000) for q in SPECTRUM if pooled.n >= samples_needed(q)]
        curves.append({
            "type": "scatter", "mode": "lines", "x": [x for x, _ in points], "y": [y for _, y in points],
            "name": row.variant if kind == "response" else f"{row.variant}, service", "legendgroup": row.variant,
            "line": {"color": look.shade, "width": 2.2 if kind == "response" else 1.2,
                     "dash": look.dash if kind == "response" else "dot"},
            "text": [f"{100 - 100 / x:.4g} % within {number(y)} ms" for x, y in points],
            "hovertemplate": f"<b>{plain(row.variant)}</b>, {kind}<br>%{{text}}<extra></extra>",
        })  # fmt: skip
    return curves


def timeline(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:
    """One Trial a variant, second by second: the one whose throughput is the middle one of its repeats."""
    panels = {}
    for rows in facets(summaries):
        middle = [(row, _middle(trials_of(run, row), row.endpoint)) for row in rows]
        rates = list(chain.from_iterable(_rates(row, trial, look[row.variant]) for row, trial in middle))
        times = list(chain.from_iterable(_times(row, trial, look[row.variant]) for row, trial in middle))
        # so many medians between so many 99th percentiles could not be read
        times = [trace for trace in times if not many(look) or trace["name"].endswith("p99")]
        second = "response time, ms   " + ("p99" if many(look) else "thick p99, thin p50")
        titles = [f"completions a second   <b>{TIMES}</b> lost", second][: 1 + bool(times)]
        heights = [260 if many(look) else 190] * len(titles)
        layout = stacked(titles, heights, 54, [row.variant for row in rows] if many(look) else [])
        layout["yaxis"] |= {"rangemode": "tozero", "nticks": 6}
        scenario = middle[0][1].trial.scenario
        across = {
            "range": [-0.5, scenario.duration_s - 0.5],
            "ticksuffix": " s",
            "zeroline": False,
            "nticks": 12,
            "tick0": 0,
        }
        across |= {"dtick": 1} if scenario.duration_s <= 12 else {}
        for place in range(1, 2 + bool(times)):
            layout[f"xaxis{number_of(place)}"] |= across
        if times:
            layout["yaxis2"] |= log_axis(chain.from_iterable(trace["y"] for trace in times))
        layout["shapes"] = [_warm_up(axis, scenario.warmup_s) for axis in ("", "2")[: 1 + bool(times)]]
        panels[panel_of(rows)] = figure([*rates, *(trace | on(2) for trace in times)], layout)
    return panels


def _middle(trials: Sequence[Recording], name: str) -> Recording:
    ordered = sorted(trials, key=lambda one: (one.throughput_rps(name), one.trial.repeat))
    return ordered[(len(ordered) - 1) // 2]


def _warm_up(axis: str, until_s: int) -> dict[str, Any]:
    """The seconds that no number counts."""
    place = {"xref": f"x{axis}", "yref": f"y{axis} domain", "x0": -0.5, "x1": until_s - 0.5, "y0": 0, "y1": 1}
    label = {"text": "" if axis else "warm-up", "textposition": "bottom left", "font": {"size": 10, "color": MUTED}}
    return place | {"type": "rect", "layer": "below", "line": {"width": 0}, "fillcolor": BAND, "label": label}


def _seconds(trial: Recording, name: str) -> dict[int, list[Row]]:
    seconds: dict[int, list[Row]] = {second: [] for second in range(trial.trial.scenario.duration_s)}
    for row in trial.rows:
        if row.row == name and row.second in seconds:
            seconds[row.second].append(row)
    return seconds


def _rates(row: Summary, trial: Recording, look: Look) -> list[dict[str, Any]]:
    seconds = _seconds(trial, row.endpoint)
    lost = {
        second: sum(one.failed + one.timed_out + one.unfinished for one in rows) for second, rows in seconds.items()
    }
    failing = {second: count for second, count in lost.items() if count}
    hover = f"<b>{plain(row.variant)}</b>, repeat {trial.trial.repeat + 1}<br>second %{{x}}: %{{y}}"
    common = {"type": "scatter", "legendgroup": row.variant}
    traces: list[dict[str, Any]] = [
        common | {
            "mode": "lines+markers", "name": row.variant, "x": list(seconds),
            "hovertemplate": f"{hover} completed<extra></extra>",
            "y": [sum(one.finished for one in rows) for rows in seconds.values()],
            "line": {"color": look.shade, "width": 2, "dash": look.dash}, "marker": {"symbol": look.symbol, "size": 7},
        },
        common | {
            "mode": "markers", "name": f"{row.variant}, lost", "x": list(failing), "y": list(failing.values()),
            "marker": {"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": look.shade}}, "showlegend": False,
            "hovertemplate": f"{hover} lost<extra></extra>",
        },
    ]  # fmt: skip
    return [trace for trace in traces if trace["x"]]


def _times(row: Summary, trial: Recording, look: Look) -> list[dict[str, Any]]:
    kind: Kind = "service" if row.arrivals == "closed" else "response"
    pooled = {
        second: Histogram.merged(filter(None, (one.histogram(kind) for one in rows)))
        for second, rows in _seconds(trial, row.endpoint).items()
    }
    traces = []
    for q, name, least in ((0.99, "p99", SECOND_SAMPLES), (0.5, "p50", 1)):
        some = {second: one.quantile_us(q) / 1000 for second, one in pooled.items() if one.n >= least}
        thick = name == "p99"
        traces.append({
            "type": "scatter", "mode": "lines+markers", "x": list(some), "y": list(some.values()), "showlegend": False,
            "legendgroup": row.variant, "line": {"color": look.shade, "width": 2 if thick else 1, "dash": look.dash},
            "marker": {"symbol": look.symbol, "size": 7 if thick else 4}, "name": f"{row.variant}, {name}",
            "hovertemplate": f"<b>{plain(row.variant)}</b>, {name}<br>second %{{x}}: %{{y:.3~g}} ms<extra></extra>",
        })  # fmt: skip
    return [trace for trace in traces if trace["x"]]
