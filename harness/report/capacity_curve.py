"""The hockey stick: response times against the offered rate. In: a Run with `capacity.json`. Out: drawings.

Above: the SLO's quantile at each rate, the promise, and the confirmed capacity as a band. Below: what
was completed. The model's forecast is dotted in both, and fainter where it goes beyond what was tested.

Plain data in plotly's words; harness/report/charts.py makes figures of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from harness.capacity import told
from harness.capacity.slo import limits, parsed
from harness.errors import UsageError
from harness.recording import Run
from harness.report.drawing import (
    INK,
    MUTED,
    Look,
    Looks,
    Panels,
    figure,
    key,
    log_axis,
    on,
    plain,
    stacked,
)
from harness.report.words import number
from harness.stats import Summary

HEIGHTS = (330, 190)
FAINT, BAND_OPACITY = 0.45, 0.14


def hockey_stick(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:  # noqa: ARG001  one signature
    """A panel for each scenario and SLO."""
    document = told.document_of(run.manifest)
    panels: dict[str, list[told.Answer]] = {}
    for answer in document.answers if document else ():
        if answer.variant in look and answer.curve:
            panels.setdefault(f"{answer.scenario} · {told.promise(answer.slo)}", []).append(answer)
    return {name: _panel(answers, look) for name, answers in panels.items()}


def _panel(answers: Sequence[told.Answer], look: Looks) -> dict[str, Any]:
    quantile, limit_ms = _promised(answers[0].slo)
    titles = [f"{quantile} of the response time, ms", "completed a second"]
    layout = stacked(titles, HEIGHTS, 54)
    curves = [trace for answer in answers for trace in _curve(answer, look[answer.variant], quantile)]
    rates = [trace | on(2) for answer in answers for trace in _completed(answer, look[answer.variant])]
    measured = [point.ms for answer in answers for point in answer.curve if point.ms]
    layout["yaxis"] |= log_axis([*measured, *([limit_ms] if limit_ms else [])])  # a forecast may leave it
    layout["yaxis2"] |= {"rangemode": "tozero", "nticks": 5}
    most = 1.05 * max(chain.from_iterable((point.rate_rps for point in answer.curve) for answer in answers))
    for axis in ("xaxis", "xaxis2"):
        layout[axis] |= {"range": [0, most], "nticks": 8, "ticksuffix": "/s", "zeroline": False}
    layout["shapes"] = [
        *([_limit(limit_ms)] if limit_ms else []),
        *chain.from_iterable(_confirmed(answer, look[answer.variant]) for answer in answers),
    ]
    keys = [
        key("the promise", line={"color": INK, "width": 1.2, "dash": "dash"}),
        key("confirmed capacity, and its interval", marker={"symbol": "line-ns", "size": 14, "line": {"width": 2}}),
        key("model", line={"color": MUTED, "width": 1.5, "dash": "dot"}),
    ]
    return figure([*curves, *rates, *keys], layout | {"hovermode": "closest"})


def _promised(slo: str) -> tuple[str, float | None]:
    """The farthest quantile of the SLO in words, and its limit."""
    try:
        found = limits(parsed(slo))
    except UsageError:  # another version wrote it
        return "p99", None
    q = max(found, default=0.99)
    return f"p{q * 100:g}", found.get(q)


def _limit(limit_ms: float) -> dict[str, Any]:
    line = {"color": INK, "width": 1.2, "dash": "dash"}
    across = {"xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": limit_ms, "y1": limit_ms}
    return across | {"type": "line", "line": line}


def _confirmed(answer: told.Answer, look: Look) -> list[dict[str, Any]]:
    if answer.sustained_rps is None:
        return []
    low, high = answer.low or answer.sustained_rps, answer.high or answer.sustained_rps
    upright = {"xref": "x", "yref": "y domain", "y0": 0, "y1": 1}
    band = {"type": "rect", "x0": low, "x1": high, "fillcolor": look.colour, "opacity": BAND_OPACITY, "layer": "below"}
    line = {"color": look.colour, "width": 1.6}
    return [
        upright | band | {"line": {"width": 0}},
        upright | {"type": "line", "x0": answer.sustained_rps, "x1": answer.sustained_rps, "line": line},
    ]


def _curve(answer: told.Answer, look: Look, quantile: str) -> list[dict[str, Any]]:
    points = [point for point in answer.curve if point.ms is not None]
    ends = [(point.low_ms or point.ms or 0.0, point.ms or 0.0, point.high_ms or point.ms or 0.0) for point in points]
    hover = [
        f"<b>{plain(answer.variant)}</b><br>{number(point.rate_rps)}/s: {quantile} {number(point.ms)} ms"
        f"<br>{point.trials} trial{'s' * (point.trials != 1)}; {plain(point.verdict)}"
        for point in points
    ]
    traces: list[dict[str, Any]] = [{
        "type": "scatter", "mode": "lines+markers", "name": answer.variant, "legendgroup": answer.variant,
        "x": [point.rate_rps for point in points], "y": [middle for _, middle, _ in ends],
        "line": {"color": look.shade, "width": 1.6},
        "marker": {"symbol": look.symbol, "size": 8, "color": look.colour},
        "error_y": {"type": "data", "array": [high - middle for _, middle, high in ends], "thickness": 1.2, "width": 4,
                    "arrayminus": [middle - low for low, middle, _ in ends], "color": look.colour},
        "text": hover, "hovertemplate": "%{text}<extra></extra>",
    }]  # fmt: skip
    return traces + [_forecast(answer, look, beyond=beyond, of=f"{quantile}_ms") for beyond in (False, True)]


def _completed(answer: told.Answer, look: Look) -> list[dict[str, Any]]:
    steps = sorted((step for step in answer.steps if not step.fault), key=lambda step: step.rate_rps)
    measured = {
        "type": "scatter", "mode": "markers", "legendgroup": answer.variant, "showlegend": False,
        "name": answer.variant, "x": [step.rate_rps for step in steps], "y": [step.completed_rps for step in steps],
        "marker": {"symbol": look.symbol, "size": 7, "color": look.colour},
        "text": [f"{number(step.rate_rps)}/s offered, {number(step.completed_rps)}/s completed" for step in steps],
        "hovertemplate": f"<b>{plain(answer.variant)}</b><br>%{{text}}<extra></extra>",
    }  # fmt: skip
    return [measured, *(_forecast(answer, look, beyond=beyond, of="throughput_rps") for beyond in (False, True))]


def _forecast(answer: told.Answer, look: Look, *, beyond: bool, of: str) -> dict[str, Any]:
    """What the model says. beyond: of rates that are far above what it was fitted to."""
    model = answer.model
    known = model.forecasts if model and of in told.Forecast.model_fields else ()
    some = [one for one in known if one.extrapolated is beyond and getattr(one, of)]
    return {
        "type": "scatter", "mode": "lines", "legendgroup": answer.variant, "showlegend": False,
        "name": f"{answer.variant}, model",
        "x": [one.rate_rps for one in some], "y": [getattr(one, of) for one in some],
        "line": {"color": look.shade, "width": 1.5, "dash": "dot"}, "opacity": FAINT if beyond else 1,
        "hovertemplate": f"<b>{plain(answer.variant)}</b>, {plain(model.name if model else '')}"
        f"{', extrapolated' * beyond}<br>%{{x:.4~g}}/s: %{{y:.3~g}}<extra></extra>",
    }  # fmt: skip
