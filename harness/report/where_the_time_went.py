"""Where the time of a request went, and who did the work. In: a Run whose requests were traced. Out: drawings.

Bars are means: of all that could be said of several portions, only means add up to the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from harness.recording import Portion, Recording, Run, Trace
from harness.report.drawing import (
    MUTED,
    PAPER,
    Looks,
    Panels,
    facet_title,
    figure,
    key,
    left_of,
    number_of,
    on,
    plain,
    stacked,
    trials_of,
    variants_axis,
)
from harness.report.words import facets, load, number
from harness.stats import Summary
from harness.trial import Subject

# In the order in which a request meets them: what it is called, its colour and pattern.
PORTIONS: dict[Portion, tuple[str, str, str]] = {
    "lateness": ("generator late", "#cc79a7", ""),
    "blocked": ("no connection free", "#e69f00", "/"),
    "before": ("connect, backlog, queue", "#e69f00", ""),
    "wait": ("application, waiting", "#56b4e9", ""),
    "cpu": ("application, CPU", "#0072b2", ""),
    "inside": ("application", "#56b4e9", "/"),
    "write": ("write, to the last byte", "#009e73", ""),
}
BAR, PLOT = 0.5, 46  # of a row's height; pixels of a row
WORDS = 22  # letters that leave room for the small type below a name


class Split(NamedTuple):
    """One cell. mean_ms: of each portion; shares: of each worker, the busiest first, as a mean over the repeats."""

    n: int
    missing: int
    mean_ms: dict[Portion, float]
    unit: str
    shares: tuple[float, ...]

    @property
    def imbalance(self) -> float:
        return imbalance(self.shares)


def imbalance(shares: Sequence[float]) -> float:
    """How unevenly requests were shared: the busiest worker's share ÷ the mean of all (max ÷ mean).

    From 1, where all did alike, to their number, where one did everything.
    """
    return max(shares) * len(shares) / sum(shares)


def split_of(run: Run, row: Summary) -> Split | None:
    """None where nothing was traced."""
    pairs = [(one, trace) for one in trials_of(run, row) for trace in one.traces if trace.row == row.endpoint]
    traces = [trace for _, trace in pairs if trace.n]
    if not traces:
        return None
    n = sum(trace.n for trace in traces)
    kinds = [kind for kind in PORTIONS if any(kind in trace.sums for trace in traces)]
    mean_ms = {kind: sum(trace.sums.get(kind, 0) for trace in traces) / n / 1000 for kind in kinds}
    counted = [_shares(one, trace) for one, trace in pairs if trace.n]
    shares = tuple(sum(ranked) / len(counted) for ranked in zip_longest(*counted, fillvalue=0.0))
    unit = "processes" if _by_process(pairs[0][0].head.subject) else "threads"
    return Split(n, sum(trace.missing for _, trace in pairs), mean_ms, unit, shares)


def _by_process(subject: Subject) -> bool:
    return int(subject.budget.get("processes") or 1) > 1


def _shares(one: Recording, trace: Trace) -> list[float]:
    """Of each worker, the busiest first: of its processes, or of the threads of the only one; also of the idle."""
    subject = one.head.subject
    done: Counter[int] = Counter()
    for process, thread, count in trace.workers:
        done[process if _by_process(subject) else thread] += count
    expected = 1
    if _by_process(subject):
        expected = int(subject.budget.get("processes") or 1)
    elif subject.interface == "wsgi":  # where slots are threads that applications run in
        expected = subject.slots or 1
    ranked = sorted((count / trace.n for count in done.values()), reverse=True)
    return ranked + [0.0] * (expected - len(ranked))


def where_the_time_went(run: Run, summaries: Sequence[Summary], look: Looks) -> Panels:
    found = [[(row, split) for row in rows if (split := split_of(run, row))] for rows in facets(summaries)]
    times = [cells for cells in found if cells]
    if not times:
        return {}
    shared = [some for cells in times if (some := [cell for cell in cells if len(cell[1].shares) > 1])]
    plots = [*times, *shared]
    titles = [facet_title([row for row, _ in cells]) for cells in times]
    titles += [f"{facet_title([row for row, _ in cells])}  who served it" for cells in shared]
    left = left_of([[row for row, _ in cells] for cells in plots], least=WORDS)
    layout = stacked(titles, [PLOT * len(cells) for cells in plots], left)
    layout |= {"barmode": "stack"}
    layout["legend"] |= {"traceorder": "normal"}
    kinds = [kind for kind in PORTIONS if any(kind in split.mean_ms for cells in times for _, split in cells)]
    traces = [_key(kind) for kind in kinds]
    for place, cells in enumerate(times, 1):
        notes = [f"{number(sum(split.mean_ms.values()))} ms{_missing(split)}" for _, split in cells]
        layout[f"yaxis{number_of(place)}"] |= variants_axis([row for row, _ in cells], notes)
        layout[f"xaxis{number_of(place)}"] |= {"rangemode": "tozero", "ticksuffix": " ms", "nticks": 6}
        traces += [_portion(kind, cells) | on(place) for kind in kinds]
    for place, cells in enumerate(shared, len(times) + 1):
        notes = [f"{len(one.shares)} {one.unit}, imbalance {one.imbalance:.2f}" for _, one in cells]
        layout[f"yaxis{number_of(place)}"] |= variants_axis([row for row, _ in cells], notes)
        layout[f"xaxis{number_of(place)}"] |= {"range": [0, 100], "ticksuffix": " %", "nticks": 6}
        traces += [trace | on(place) for trace in _workers(cells, look)]
    return {"": figure(traces, layout)}


Cells = Sequence[tuple[Summary, Split]]


def _missing(split: Split) -> str:
    return f", {number(split.missing)} unseen" if split.missing else ""


def _filled(colour: str, pattern: str) -> dict[str, Any]:
    return {
        "color": colour,
        "line": {"width": 0},
        "pattern": {"shape": pattern, "bgcolor": colour, "fgcolor": PAPER, "fgopacity": 0.6},
    }


def _key(kind: Portion) -> dict[str, Any]:
    label, colour, pattern = PORTIONS[kind]
    return key(label, marker={"symbol": "square-open" if pattern else "square", "size": 11, "color": colour})


def _portion(kind: Portion, cells: Cells) -> dict[str, Any]:
    label, colour, pattern = PORTIONS[kind]
    values = [split.mean_ms.get(kind, 0.0) for _, split in cells]
    hover = [
        f"<b>{plain(row.variant)}</b>, {label}<br>{number(value)} ms, "
        f"{value / (sum(split.mean_ms.values()) or 1):.0%} of its response<br>{load(row)}; n = {number(split.n)}"
        for (row, split), value in zip(cells, values, strict=True)
    ]
    return {
        "type": "bar", "orientation": "h", "x": values, "y": list(range(len(cells))), "width": BAR, "name": label,
        "marker": _filled(colour, pattern), "showlegend": False, "text": hover, "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _workers(cells: Cells, look: Looks) -> list[dict[str, Any]]:
    """A trace a rank: the busiest worker of each cell, the second busiest …"""
    traces = []
    for rank in range(max(len(split.shares) for _, split in cells)):
        own = [(i, row, split) for i, (row, split) in enumerate(cells) if rank < len(split.shares)]
        traces.append({
            "type": "bar", "orientation": "h", "x": [100 * split.shares[rank] for _, _, split in own],
            "y": [i for i, *_ in own], "width": BAR, "showlegend": False, "textposition": "none",
            "marker": {"color": [look[row.variant].colour for _, row, _ in own],
                       "line": {"width": 1.5, "color": PAPER}},
            "text": [f"<b>{plain(row.variant)}</b>, {rank + 1} of {len(split.shares)} {split.unit}<br>"
                     f"{split.shares[rank]:.1%} of {number(split.n)} requests" for _, row, split in own],
            "hovertemplate": "%{text}<extra></extra>", "hoverlabel": {"bordercolor": MUTED},
        })  # fmt: skip
    return traces
