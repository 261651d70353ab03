"""How a variant did from run to run. In: Runs in order of time, and a reference variant. Out: a History a cell.

Raw numbers of different days are not comparable: machines change. What is followed is the variant's ratio to a
reference that was measured in the same blocks, so that what changes for both drops out. Where these ratios change their
level (`harness.changes`), there is a Change, with what it came to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.blocks import METRICS, Cell, Values, without_twins
from harness.changes import LEAST, RISK, change_points
from harness.paired import Ratio, log_ratios, ratio_of, unpaired


class Point(NamedTuple):
    """One run: variant ÷ reference."""

    run: str
    ratio: Ratio


class Change(NamedTuple):
    """A new level from this run on. ratio: new level ÷ old one. better: None where its interval includes 1."""

    run: str
    ratio: Ratio
    better: bool | None


class History(NamedTuple):
    """One cell's variant over all runs that have it. reason: what may be said, in a sentence."""

    cell: Cell
    metric: str
    variant: str
    reference: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    reason: str


def histories(runs: Sequence[tuple[str, Values]], reference: str, risk: float = RISK) -> list[History]:
    """One History for each cell, metric and variant that stands beside the reference in two runs at least.

    runs: names and values, the oldest first. A run in which a block or the reference is missing gives no point.
    """
    points: dict[tuple[Cell, str, str], list[Point]] = {}
    for run, values in runs:
        for (cell, metric), variants in values.items():
            if reference not in variants:
                continue
            base = variants[reference].blocks
            for variant, measured in without_twins(variants).items():
                logs = log_ratios(base, measured.blocks)
                if variant != reference and logs:
                    points.setdefault((cell, metric, variant), []).append(Point(run, ratio_of(logs)))
    return [
        _history(cell, metric, variant, reference, some, risk)
        for (cell, metric, variant), some in sorted(points.items())
        if len(some) > 1
    ]


def _history(cell: Cell, metric: str, variant: str, reference: str, points: list[Point], risk: float) -> History:
    ratios = [point.ratio.ratio or math.nan for point in points]
    found = changes_of(ratios, risk)
    higher = METRICS[metric].higher_is_better
    changes = tuple(Change(points[at].run, ratio, _better(ratio, higher)) for at, ratio in found.items())
    if len(points) < 2 * LEAST:
        reason = f"{len(points)} runs are too few to see a change; {2 * LEAST} at least"
    elif changes:
        moved = ", ".join(f"{(change.ratio.ratio or 1) - 1:+.1%} from {change.run} on" for change in changes)
        reason = f"changed against {reference}: {moved}"
    else:
        reason = f"no change against {reference} in {len(points)} runs"
    return History(cell, metric, variant, reference, tuple(points), changes, reason)


def changes_of(ratios: Sequence[float], risk: float = RISK) -> Mapping[int, Ratio]:
    """Where a series of ratios changes its level, and by what factor."""
    logs = [math.log(ratio) for ratio in ratios]
    edges = [0, *change_points(logs, risk), len(logs)]
    return {
        at: unpaired(ratios[before:at], ratios[at:after])
        for before, at, after in zip(edges[:-2], edges[1:-1], edges[2:], strict=True)
    }


def _better(ratio: Ratio, higher_is_better: bool) -> bool | None:
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return None
    return (ratio.low > 1) == higher_is_better
