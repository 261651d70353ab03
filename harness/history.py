"""How a variant did from run to run. In: Runs in order of time, and a reference variant. Out: a History a cell.

Raw numbers of different days are not comparable: machines change. What is followed is the variant's ratio to a
reference that was measured in the same blocks, so that what changes for both drops out. Where these ratios change their
level (`harness.changes`), there is a Change, with what it came to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.blocks import METRICS, Cell, Values, without_twins
from harness.changes import RISK, change_points
from harness.compare import WORDS, code, interval, load_of, number, table
from harness.paired import FASTER, SLOWER, UNKNOWN, Ratio, log_ratios, ratio_of, unpaired

LEAST_RUNS = 12  # by ranks, at this risk, not even the clearest step is always seen in fewer


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
    if len(points) < LEAST_RUNS and not changes:
        reason = f"{len(points)} runs are too few to see a change; {LEAST_RUNS} at least"
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


# -- the answer ------------------------------------------------------------------------------------------------------


def verdict_of(one: History) -> str:
    """By its last change: what was slower once and is mended is no news."""
    better = one.changes[-1].better if one.changes else None
    return UNKNOWN if better is None else FASTER if better else SLOWER


def regressions(found: Iterable[History], tolerance: float) -> list[History]:
    """Whose last change was for the worse, by more than the tolerance (0.05: 5 %)."""
    return [
        one
        for one in found
        if verdict_of(one) == SLOWER and abs(one.changes[-1].ratio.mean or 0.0) > math.log1p(tolerance)
    ]


def rows_of(found: Sequence[History], tolerance: float) -> list[dict[str, Any]]:
    """For `--json`: base and new are the first and the last run's ratio to the reference, ratio the last change."""
    worse = regressions(found, tolerance)
    return [
        {
            "variant": one.variant,
            "scenario": one.cell.scenario,
            "endpoint": one.cell.endpoint,
            "metric": one.metric,
            "base": one.points[0].ratio.ratio,
            "new": one.points[-1].ratio.ratio,
            **(_bounds(one.changes[-1].ratio) if one.changes else dict.fromkeys(("ratio", "low", "high"))),
            "verdict": verdict_of(one),
            "level": one.cell.level,
            "arrivals": one.cell.arrivals,
            "lens": one.cell.lens,
            "reference": one.reference,
            "regression": one in worse,
            "reason": one.reason,
            "points": [
                {"run": point.run, **_bounds(point.ratio), "blocks": point.ratio.blocks} for point in one.points
            ],
            "changes": [
                {"run": change.run, **_bounds(change.ratio), "better": change.better} for change in one.changes
            ],
        }
        for one in found
    ]


def _bounds(ratio: Ratio) -> dict[str, float | None]:
    return {"ratio": ratio.ratio, "low": ratio.low, "high": ratio.high}


HEADS = ("scenario", "load", "endpoint", "variant", "metric", "first", "last", "verdict", "why")


def line(one: History) -> tuple[str, ...]:
    """One row under HEADS, as plain text."""
    cell, ends = one.cell, (one.points[0].ratio, one.points[-1].ratio)
    ratios = [f"{number(ratio.ratio)} {interval(ratio.low, ratio.high)}" for ratio in ends]
    names = (cell.scenario, load_of(cell.arrivals, cell.level), cell.endpoint, one.variant, one.metric)
    return (*names, *ratios, WORDS[verdict_of(one)], one.reason)


def markdown(found: Sequence[History], worse: Sequence[History]) -> str:
    """A table for a pull request."""
    said = f"{len(found)} histories as ratios to {code(found[0].reference)}; {len(worse)} with a regression.\n\n"
    lines = [[*map(code, cells[:5]), *cells[5:8], code(cells[8])] for cells in map(line, found)]
    return said + table(HEADS, lines)
