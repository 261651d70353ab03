"""What charts are drawn with: colours, axes, stacked layouts. In: names and numbers. Out: plain data in plotly's words.

Figures are in light colours; THEME says what each becomes on a dark page, where templates/report.js exchanges them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.recording import Recording, Run
from harness.report.words import THIN, load
from harness.stats import Summary
from harness.trial import is_twin

# Each colour has one meaning, so that exchanging the text is enough.
INK, MUTED, GRID, PAPER, BAND = "#1d2330", "#667085", "#e4e7ec", "#fdfdfc", "#f1f2f4"
THEME = {INK: "#e8eaee", MUTED: "#98a1b2", GRID: "#2c313b", PAPER: "#14161b", BAND: "#1d2027", "#0072b2": "#3f9fdc"}
# Okabe & Ito (2008), distinct under every common colour blindness; black and yellow do not carry on both backgrounds.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
# Of families, where variants are many: two tones each, which differ in lightness.
TONES = {"asgi": ("#0072b2", "#56b4e9"), "wsgi": ("#d55e00", "#e69f00"), "gevent": ("#009e73",)}
OTHER_TONES = ("#cc79a7",)
# The other lists are longer or shorter than the palette, so that where a colour comes round, the rest differs.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
PATTERNS = ("", "/", "x", ".", "\\", "-", "+")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
ABOVE, BELOW, TOP, BOTTOM = 32, 34, 34, 8  # pixels around each plot of a stack, and around the stack
LINE, KEY, WIDE = 19, 42, 880  # pixels of a legend's line, of the mark beside a name, and of a chart that is not narrow
LONGEST = 32  # characters of a label

QUANTILES = (
    (0.5, "p50", "circle"),
    (0.9, "p90", "square"),
    (0.99, "p99", "diamond"),
    (0.999, "p99.9", "triangle-right"),
)

Drawing = dict[str, Any]  # data and layout, as plotly.js takes them
Panels = dict[str, Drawing]


@dataclass(frozen=True)
class Look:
    """How a variant looks, the same in every chart of a Run. shade: of its lines, where they cross those of others."""

    colour: str
    shade: str
    symbol: str
    pattern: str
    dash: str


Looks = Mapping[str, Look]


def looks(run: Run) -> Looks:
    """By sorted name; where they are many, by family: colours for twenty can't be told apart, those for three can."""
    families = {
        recording.trial.variant: recording.head.subject.family
        for recording in run.recordings
        if not is_twin(recording.trial.variant)
    }
    names = sorted(families)
    if not many(names):
        tables = (PALETTE, PALETTE, SYMBOLS, PATTERNS, DASHES)
        return {name: Look(*(table[i % len(table)] for table in tables)) for i, name in enumerate(names)}
    found: dict[str, Look] = {}
    for family in sorted(set(families.values())):
        tones = TONES.get(family, OTHER_TONES)
        for i, name in enumerate(name for name in names if families[name] == family):
            symbol, dash = SYMBOLS[i % len(SYMBOLS)], DASHES[i // len(tones) % len(DASHES)]
            found[name] = Look(tones[0], tones[i % len(tones)], symbol, "", dash)
    return {name: found[name] for name in names}


def many(things: Collection[object]) -> bool:
    """Whether these variants are too many for a colour, and an entry in a legend above the chart, each."""
    return len(things) > len(PALETTE)


def family_keys(run: Run, look: Looks) -> list[dict[str, Any]]:
    """The legend's entries for families, where these set the colours."""
    families = {
        recording.head.subject.family: recording.trial.variant
        for recording in reversed(run.recordings)
        if recording.trial.variant in look
    }
    shown = sorted(families) if many(look) else []
    return [key(plain(name), marker=_square(look[families[name]].colour)) for name in shown]


def _square(colour: str) -> dict[str, Any]:
    return {"symbol": "square", "size": 11, "color": colour}


def plain(text: object) -> str:
    """Text from outside for plotly, which reads pseudo-HTML and, in hovers, %{…}: without their characters."""
    return str(text).translate(dict.fromkeys(map(ord, "<>{}")))


def trials_of(run: Run, row: Summary) -> list[Recording]:
    """The recordings behind a cell."""
    cell = (row.variant, row.scenario, row.level)
    return [one for one in run.recordings if one.trial.cell == cell and one.trial.lens == row.lens]


def figure(traces: Iterable[dict[str, Any]], layout: dict[str, Any]) -> Drawing:
    return {"data": list(traces), "layout": layout}


def layout(height: int, **more: Any) -> dict[str, Any]:
    return {
        "height": height,
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "hoverlabel": {"bgcolor": BAND, "bordercolor": GRID, "font": {"color": INK, "family": FONT}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container"}
        | {"yanchor": "top"},
        "separators": f".{THIN}",
        "dragmode": False,
        **more,
    }


def stacked(titles: Sequence[str], heights: Sequence[int], left: int, named: Collection[str] = ()) -> dict[str, Any]:
    """Plots one below another, sizes in pixels, each with its own axes and a title at the left edge.

    named: what stands in a legend that is too long to stand above them, so it stands below.
    """
    total = sum(heights) + (ABOVE + BELOW) * len(heights)
    notes, axes, edge = [], {}, 0
    for i, (title, height) in enumerate(zip(titles, heights, strict=True), 1):
        upper, lower = 1 - (edge + ABOVE) / total, 1 - (edge + ABOVE + height) / total
        edge += ABOVE + height + BELOW
        axes[f"yaxis{number_of(i)}"] = axis(anchor=f"x{number_of(i)}", domain=[lower, upper])
        axes[f"xaxis{number_of(i)}"] = axis(anchor=f"y{number_of(i)}")
        notes.append(
            {"text": title, "x": 0, "y": upper, "xref": "paper", "yref": "paper", "xanchor": "left"}
            | {"yanchor": "bottom", "xshift": 4 - left, "yshift": 5, "showarrow": False, "align": "left"}
            | {"font": {"size": 13, "color": INK}}
        )
    margin = {"l": left, "r": 16, "t": TOP, "b": BOTTOM}
    made = layout(total + TOP + BOTTOM, margin=margin, annotations=notes, **axes)
    return _legend_below(made, named) if named else made


def _legend_below(made: dict[str, Any], named: Collection[str]) -> dict[str, Any]:
    """With room for its lines in a wide chart; `meta` tells templates/report.js what a narrow one needs instead."""
    entry = 7 * max(map(len, named))
    lines = math.ceil(len(named) / (WIDE // (entry + KEY)))
    bottom = BOTTOM + LINE * (lines + 1)
    made["height"] += bottom - BOTTOM - TOP + BOTTOM
    made["margin"] |= {"t": BOTTOM, "b": bottom}
    made["legend"] |= {"y": bottom / made["height"], "entrywidth": entry, "tracegroupgap": 0, "maxheight": 1}
    made["meta"] = {"entries": len(named), "entry": entry + KEY, "line": LINE, "lines": lines}
    return made


def number_of(place: int) -> str:
    """Plotly's first axis has no number."""
    return "" if place == 1 else str(place)


def on(place: int) -> dict[str, str]:
    """The axes of a trace in the given plot of a stack."""
    return {"xaxis": f"x{number_of(place)}", "yaxis": f"y{number_of(place)}"}


def axis(**more: Any) -> dict[str, Any]:
    colours = {"gridcolor": GRID, "linecolor": GRID, "zerolinecolor": GRID, "tickfont": {"color": MUTED}}
    return colours | {"fixedrange": True, "ticks": ""} | more


def facet_title(rows: Sequence[Summary]) -> str:
    row = rows[0]
    name = row.scenario if row.scenario.split("/")[-1] == row.endpoint else f"{row.scenario} · {row.endpoint}"
    return f"<b>{plain(name)}</b>  <span style='color:{MUTED}'>{load(row)}</span>"


def variants_axis(rows: Sequence[Summary], notes: Sequence[str]) -> dict[str, Any]:
    """Numbered from the top; under each name a note in small type."""
    small = [f"<br><span style='font-size:10px;color:{MUTED}'>{plain(note)}</span>" if note else "" for note in notes]
    labels = [f"{plain(cut(row.variant))}{note}" for row, note in zip(rows, small, strict=True)]
    ticks = {"tickvals": list(range(len(rows))), "ticktext": labels, "tickfont": {"color": INK}}
    return ticks | {"range": [len(rows) - 0.4, -0.6], "showgrid": False, "zeroline": False}


def cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def left_of(facets: Iterable[Sequence[Summary]], least: int = 14) -> int:
    """The pixels that the variants' names need."""
    return 12 + 7 * max([least, *(len(cut(row.variant)) for facet in facets for row in facet)])


def log_axis(values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis over the values, never so narrow that noise fills it, labelled with plain numbers."""
    some = [value for value in values if value > 0] or [1.0]
    low, high = math.log10(min(some)) - 0.12, math.log10(max(some)) + 0.12
    spare = max(0.8 - (high - low), 0) / 2
    low, high = low - spare, high + spare
    steps = (1, 2, 5) if high - low <= 2.2 else (1,)
    ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    inside = [tick for tick in ticks if low <= math.log10(tick) <= high]
    return {"type": "log", "range": [low, high], "tickvals": inside, "ticktext": [f"{tick:g}" for tick in inside]}


def key(name: str, **style: Any) -> dict[str, Any]:
    """An entry of the legend that belongs to no single variant."""
    nowhere = {"type": "scatter", "x": [None], "y": [None], "hoverinfo": "skip", "showlegend": True, "name": name}
    return nowhere | {"mode": "lines" if "line" in style else "markers"} | style


def arms(centre: float | None, low: float | None, high: float | None) -> tuple[float, float]:
    """The lengths of an error bar's arms, up and down; nothing where there is no interval."""
    return (0.0, 0.0) if centre is None or low is None or high is None else (high - centre, centre - low)
