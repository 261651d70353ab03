"""Overload and recovery, second by second. In: a Run's usable Recordings of `overload` scenarios. Out: drawings.

Plain data in plotly's words; harness/report/charts.py makes figures of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from harness.capacity.overload import Overload, Second, is_overload, limit_of, overload_of, seconds_of
from harness.recording import Recording, Run
from harness.report.drawing import (
    BAND,
    INK,
    MUTED,
    Drawing,
    Look,
    Looks,
    Panels,
    figure,
    key,
    log_axis,
    number_of,
    on,
    plain,
    stacked,
)
from harness.report.words import number
from harness.stats import Summary

ROWS = ("in time, a second of arrivals", "response time, ms   p99", "memory, MB   resident, the whole server")
HEIGHTS = (230, 190, 150)


def overload(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:  # noqa: ARG001  one signature
    """A panel a scenario: of each variant the trial with the middle goodput."""
    panels: dict[str, dict[str, list[Recording]]] = {}
    for one in run.recordings:
        if is_overload(one.trial.scenario) and one.trial.variant in look:
            panels.setdefault(one.trial.scenario.name, {}).setdefault(one.trial.variant, []).append(one)
    return {name: _panel([_middle(trials) for trials in variants.values()], look) for name, variants in panels.items()}


def _middle(trials: Sequence[Recording]) -> Recording:
    return sorted(trials, key=lambda one: overload_of(one).goodput_rps)[(len(trials) - 1) // 2]


def _panel(trials: Sequence[Recording], look: Looks) -> Drawing:
    found = [(one, overload_of(one), seconds_of(one, one.trial.scenario.slo)) for one in trials]
    good = [_good(told, seconds, look[told.variant]) for _, told, seconds in found]
    offered = [_offered(told, seconds, look[told.variant]) for _, told, seconds in found]
    times = [_times(one, look[told.variant]) | on(2) for one, told, _ in found]
    memory = [trace for one, told, _ in found for trace in _memory(one, look[told.variant])]
    rows = 2 + bool(memory)
    layout = stacked(ROWS[:rows], HEIGHTS[:rows], 60)
    layout["yaxis"] |= {"rangemode": "tozero", "nticks": 5}
    limit_ms = found[0][1].limit_ms
    shown = [*chain.from_iterable(trace["y"] for trace in times), *([limit_ms] if limit_ms else [])]
    layout["yaxis2"] |= log_axis(shown)
    duration = max(one.trial.scenario.duration_s for one in trials)
    for place in range(1, rows + 1):
        layout[f"xaxis{number_of(place)}"] |= {"range": [-0.5, duration - 0.5], "ticksuffix": " s", "zeroline": False}
    layout["shapes"] = [_overloaded(found[0][1], number_of(place)) for place in range(1, rows + 1)]
    layout["shapes"] += [_limit(limit_ms)] if limit_ms else []
    keys = [key("offered", line={"color": MUTED, "width": 1.2, "dash": "dot"})]
    keys += [key("the promise", line={"color": INK, "width": 1.2, "dash": "dash"})] if limit_ms else []
    return figure([*good, *offered, *times, *memory, *keys], layout)


def _overloaded(told: Overload, axis: str) -> dict[str, Any]:
    """The seconds of the overload."""
    place = {"xref": f"x{axis}", "yref": f"y{axis} domain", "x0": told.begin_s - 0.5, "x1": told.end_s - 0.5}
    label = {"text": "" if axis else "overload", "textposition": "top left", "font": {"size": 10, "color": MUTED}}
    shape = {"type": "rect", "layer": "below", "line": {"width": 0}, "fillcolor": BAND, "label": label}
    return place | {"y0": 0, "y1": 1} | shape


def _limit(limit_ms: float) -> dict[str, Any]:
    line = {"color": INK, "width": 1.2, "dash": "dash"}
    place = {"xref": "x2 domain", "x0": 0, "x1": 1, "yref": "y2", "y0": limit_ms, "y1": limit_ms}
    return place | {"type": "line", "line": line}


def _good(told: Overload, seconds: Sequence[Second], look: Look) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines+markers", "name": told.variant, "legendgroup": told.variant,
        "x": [one.second for one in seconds], "y": [one.good for one in seconds],
        "line": {"color": look.shade, "width": 2, "dash": look.dash}, "marker": {"symbol": look.symbol, "size": 6},
        "text": [f"{one.good} in time of {one.offered}; {one.finished} completed, {one.bad} lost" for one in seconds],
        "hovertemplate": f"<b>{plain(told.variant)}</b><br>second %{{x}}: %{{text}}<extra></extra>",
    }  # fmt: skip


def _offered(told: Overload, seconds: Sequence[Second], look: Look) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "showlegend": False, "legendgroup": told.variant, "hoverinfo": "skip",
        "name": f"{told.variant}, offered", "x": [one.second for one in seconds],
        "y": [one.offered for one in seconds], "line": {"color": look.shade, "width": 1.2, "dash": "dot"},
    }  # fmt: skip


def _times(trial: Recording, look: Look) -> dict[str, Any]:
    names = list(dict.fromkeys(part.row for part in trial.trial.scenario.mix))
    q = min(limit_of(trial.trial.scenario.slo)[0], 0.99)
    by_second = [(s, max((h.quantile_us(q) / 1000 for h in _of(trial, names, s)), default=None))
                 for s in range(trial.trial.scenario.duration_s)]  # fmt: skip
    some = [(second, ms) for second, ms in by_second if ms is not None]
    return {
        "type": "scatter", "mode": "lines", "showlegend": False, "legendgroup": trial.trial.variant,
        "name": trial.trial.variant, "x": [second for second, _ in some], "y": [ms for _, ms in some],
        "line": {"color": look.shade, "width": 2, "dash": look.dash},
        "hovertemplate": f"<b>{plain(trial.trial.variant)}</b><br>second %{{x}}: %{{y:.3~g}} ms<extra></extra>",
    }  # fmt: skip


def _of(trial: Recording, names: Sequence[str], second: int) -> list[Any]:
    return [one for name in names if (one := trial.histogram(name, "response", (second,))).n]


def _memory(trial: Recording, look: Look) -> list[dict[str, Any]]:
    some = [(one.second, one.rss_mb) for one in trial.samples if one.who == "server" and one.rss_mb is not None]
    trace = {
        "type": "scatter", "mode": "lines", "showlegend": False, "legendgroup": trial.trial.variant,
        "name": trial.trial.variant, "x": [second for second, _ in some], "y": [mb for _, mb in some],
        "line": {"color": look.shade, "width": 2, "dash": look.dash},
        "text": [number(mb) for _, mb in some],
        "hovertemplate": f"<b>{plain(trial.trial.variant)}</b><br>second %{{x}}: %{{text}} MB<extra></extra>",
    }  # fmt: skip
    return [trace | on(3)] if some else []
