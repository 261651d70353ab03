"""Numbers, loads and budgets in words, and which cells may stand side by side. In: Summaries. Out: text, groups.

Whatever prints for people uses these, so that a number looks the same on the page, in a picture and in a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, groupby
from typing import NamedTuple

from harness.capacity.told import is_probe
from harness.histogram import samples_needed
from harness.physics import VOID
from harness.recording import Run
from harness.stats import Summary
from harness.trial import Subject, is_twin

THIN = "\N{NARROW NO-BREAK SPACE}"
TIMES = "\N{MULTIPLICATION SIGN}"
TO = "\N{EN DASH}"
NONE = "\N{EN DASH}"  # of a limit: it has none of its own
MOST_NAMED = 6  # variants in a sentence
MOUNT = "A mount measures routing and request and response objects; not validation or JSON."
# What a server is told that is no model of its own: where it differs, a comparison has to say so.
KNOBS = {
    "processes": ("processes", ""),
    "keep_alive_s": ("keep-alive", " s"),
    "backlog": ("backlog", ""),
    "db_connections": ("database connections", ""),
    "access_log": ("access log", ""),
}


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


def facets(
    summaries: Iterable[Summary], *, void: bool = False, parts: bool = False, twins: bool = False
) -> list[list[Summary]]:
    """The rows that may be compared with each other: one scenario, level, lens and endpoint each.

    Cells under different lenses or loads never meet. void: also those that must not be ranked or drawn. parts: also the
    parts of streams and sockets, each after its whole. twins: also variants measured once more to tell what noise is.
    What a search for capacity asked is never a cell.
    """
    groups: dict[tuple[str, float, str, tuple[str, ...]], list[Summary]] = {}
    for row in summaries:
        if (is_twin(row.variant) and not twins) or is_probe(row.scenario):
            continue
        if (parts or is_primary(row.endpoint)) and (void or row.verdict != VOID):
            groups.setdefault((row.scenario, row.level, row.lens, tuple(row.endpoint.split(":"))), []).append(row)
    return [groups[key] for key in sorted(groups)]


def sections(summaries: Iterable[Summary]) -> list[list[Summary]]:
    """All cells in pieces that share a load: wholes first, each with its parts below it."""
    ordered = chain.from_iterable(facets(summaries, void=True, parts=True, twins=True))
    return [list(rows) for _, rows in groupby(ordered, key=lambda row: (row.scenario, row.level, row.lens))]


def panel_of(rows: Sequence[Summary]) -> str:
    """A panel's name: what sets its cells apart from those of the others."""
    row = rows[0]
    part = "" if row.scenario.split("/")[-1] == row.endpoint else f" · {row.endpoint}"
    return f"{row.scenario}{part} · {load(row)}"


def holds_connections(rows: Iterable[Summary]) -> bool:
    """Whether cells are of streams or sockets, which are about memory and threads as well."""
    return any(not is_primary(row.endpoint) for row in rows)


class Given(NamedTuple):
    """What a variant may use, for the columns of a table."""

    processes: str
    slots: str  # calls at a time
    connections: str  # of each process


def subjects(run: Run) -> dict[str, Subject]:
    """Each variant as it was asked, by name; where it was asked differently, as it was first."""
    found = {one.trial.variant: one.head.subject for one in reversed(run.recordings)}
    return {name: found[name] for name in sorted(found)}


def asked_for(subjects: Mapping[str, Subject]) -> dict[str, Subject]:
    """Without the twins, which are given what their variants are."""
    return {name: subject for name, subject in subjects.items() if not is_twin(name)}


def frameworks(run: Run) -> list[str]:
    """Those that were measured, besides the raw interfaces."""
    return sorted({one.head.subject.framework for one in run.recordings} - {"raw", ""})


def given(subject: Subject) -> Given:
    counts = (subject.budget.get("processes"), subject.slots, subject.budget.get("worker_connections"))
    return Given(*(number(count) if isinstance(count, int) else NONE for count in counts))


def differences(asked: Mapping[str, Subject]) -> list[str]:
    """What was not the same for all: `keep-alive: none for wsgi-sync, 75 s for the other 3`."""
    told = []
    for knob, (name, unit) in KNOBS.items():
        by_value: dict[str, list[str]] = {}
        for variant, subject in asked.items():
            if knob in subject.budget:
                by_value.setdefault(setting(subject.budget[knob], unit), []).append(variant)
        groups = sorted(by_value.items(), key=lambda group: len(group[1]))
        if len(groups) > 1:
            rare = [f"{value} for {listed(variants)}" for value, variants in groups[:-1]]
            told.append(f"{name}: {', '.join(rare)}, {groups[-1][0]} for the other {len(groups[-1][1])}")
    return told


def setting(value: object, unit: str = "") -> str:
    """One number of a budget. No keep-alive is 0 s or none at all: the connection is closed after each answer."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or (unit and not value) else f"{value}{unit}"


def few(names: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are: a sentence can't hold twenty."""
    return (
        list(names) if len(names) <= MOST_NAMED else [*names[: MOST_NAMED - 1], f"{len(names) - MOST_NAMED + 1} more"]
    )


def listed(names: Sequence[str]) -> str:
    """Some of them where they are many."""
    names = few(names)
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
