"""Numbers and loads in words, and which cells may stand side by side. In: Summaries. Out: text, groups of Summaries.

Whatever prints for people uses these, so that a number looks the same on the page, in a picture and in a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.physics import VOID
from harness.stats import Summary, samples_needed

THIN = "\N{NARROW NO-BREAK SPACE}"
TIMES = "\N{MULTIPLICATION SIGN}"
TO = "\N{EN DASH}"


def number(value: float | None) -> str:
    """Three significant digits, or the whole number from 100 up; thousands set apart."""
    if value is None:
        return "n/a"
    if not math.isfinite(value):
        return "∞" if value > 0 else "n/a"
    if isinstance(value, int) or value == 0 or abs(value) >= 99.95:
        return f"{value:,.0f}".replace(",", THIN)
    return f"{value:.{min(max(2 - math.floor(math.log10(abs(value))), 0), 6)}f}"


def interval(low: float | None, high: float | None) -> str:
    """`[low-high]`; `~` where independent repeats are too few to give one."""
    return "~" if low is None or high is None else f"[{number(low)}{TO}{number(high)}]"


def throughput(row: Summary) -> str:
    return f"{number(row.throughput_rps)}/s {interval(row.throughput_low_rps, row.throughput_high_rps)}"


def quantile(value_ms: float | None, q: float, n: int) -> str:
    """A percentile, or how many samples it would have needed."""
    if value_ms is not None:
        return number(value_ms)
    return f"n/a (needs {number(samples_needed(q))})" if n < samples_needed(q) else "n/a"


def load(row: Summary) -> str:
    """The arrival model and its level: no number may stand without them."""
    if row.arrivals == "closed":
        return f"closed, {rate(row.level)} users"
    return f"open ({row.arrivals}), {rate(row.level)}/s"


def rate(level: float) -> str:
    """A level as it was asked, not rounded."""
    return f"{level:,g}".replace(",", THIN)


def is_primary(name: str) -> bool:
    """Whether a row is a whole (`sse`), not a part of one (`sse:first`)."""
    return ":" not in name


def lost(row: Summary) -> int:
    """Arrivals that were not completed."""
    return row.failed + row.timed_out + row.unfinished


def whole_of(name: str) -> str:
    """`sse` of `sse:first`."""
    return name.partition(":")[0]


def facets(summaries: Iterable[Summary], *, void: bool = False, parts: bool = False) -> list[list[Summary]]:
    """The rows that may be compared with each other: one scenario, level, lens and endpoint each.

    Cells under different lenses or loads never meet. void: also those that must not be ranked or drawn. parts: also the
    parts of streams and sockets, each after its whole.
    """
    groups: dict[tuple[str, float, str, tuple[str, ...]], list[Summary]] = {}
    for row in summaries:
        if (parts or is_primary(row.endpoint)) and (void or row.verdict != VOID):
            groups.setdefault((row.scenario, row.level, row.lens, tuple(row.endpoint.split(":"))), []).append(row)
    return [groups[key] for key in sorted(groups)]
