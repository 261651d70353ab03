"""The answers in words. In: a Run and its Summaries. Out: an Answer a question: who wins, by how much, and why.

Rules: VOID cells take no part; without intervals there is no claim; two cells differ only when their 95 % intervals do
not overlap (stricter than a test at 5 %); and where the load itself set the pace of both, it cannot tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from harness.physics import SERVED, SUSPECT, VOID, evidence, served
from harness.recording import Run
from harness.report.words import (
    MOST_NAMED,
    TIMES,
    facets,
    few,
    interval,
    is_primary,
    listed,
    load,
    lost,
    number,
    quantile,
    rate,
    throughput,
    whole_of,
)
from harness.stats import Summary
from harness.trial import Scenario

NO_CLAIM = "One repeat: supports no claim."
# Closed users who wait for nothing but the declared wait complete users ÷ wait; nearer to it than this, differences are
# those of the load, not of the servers.
PACED = 0.95

KeptUp = Callable[[Summary], bool]


@dataclass(frozen=True)
class Answer:
    """One question's answer. parts: what streams and sockets are made of; limits: why each was not faster;
    left_out: who is missing, and why."""

    scenario: str
    load: str
    endpoint: str
    question: str
    sentence: str
    parts: tuple[str, ...]
    limited: str
    limits: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join([f"{self.scenario} ({self.load}): {self.sentence}", *self.parts, self.limited, *self.left_out])


def answers(run: Run, summaries: Iterable[Summary]) -> list[Answer]:
    """One for each scenario, level, lens and endpoint of its mix."""
    scenarios = {recording.trial.scenario.name: recording.trial.scenario for recording in run.recordings}
    everything = facets(summaries, void=True, parts=True)
    kept_up = _kept_up(run)

    def parts_of(row: Summary) -> list[list[Summary]]:
        cell = (row.scenario, row.level, row.lens)
        others = [rows for rows in everything if (rows[0].scenario, rows[0].level, rows[0].lens) == cell]
        return [
            rows for rows in others if not is_primary(rows[0].endpoint) and whole_of(rows[0].endpoint) == row.endpoint
        ]

    return [
        Answer(
            scenario=rows[0].scenario,
            load=load(rows[0]),
            endpoint=rows[0].endpoint,
            question=scenarios[rows[0].scenario].question,
            sentence=sentence(rows, pace_of(scenarios[rows[0].scenario], rows[0].level), kept_up),
            parts=(*(_part(part) for part in parts_of(rows[0])), *_held(rows, parts_of(rows[0]))),
            limited=_limited(rows),
            limits=tuple(f"{row.variant}, {row.limited_by}: {row.reason}" for row in rows if row.verdict != VOID),
            left_out=tuple(chain(_voided(rows), _holes(run, rows))),
        )
        for rows in everything
        if is_primary(rows[0].endpoint)
    ]


def pace_of(scenario: Scenario, level: float) -> float | None:
    """The throughput at which closed users only wait the declared wait; None where there is no such thing."""
    alone = scenario.arrivals == "closed" and len(scenario.mix) == 1
    return level / scenario.wait_s if alone and scenario.wait_s else None


def _limited(rows: Sequence[Summary]) -> str:
    """Each limit in a word, and whom it held."""
    held: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict != VOID:
            held.setdefault(row.limited_by, []).append(row.variant)
    return f"Limited by: {'; '.join(f'{limit} ({listed(names)})' for limit, names in held.items())}." if held else ""


def _voided(rows: Sequence[Summary]) -> list[str]:
    return [f"{row.variant} is VOID: {row.reason}" for row in rows if row.verdict == VOID]


def _holes(run: Run, rows: Sequence[Summary]) -> list[str]:
    return [
        f"{variant} cannot serve {rows[0].endpoint}: {reasons[rows[0].endpoint]}"
        for variant, reasons in holes(run).items()
        if rows[0].endpoint in reasons and variant not in {row.variant for row in rows}
    ]


def holes(run: Run) -> dict[str, dict[str, str]]:
    """variant → endpoint → why it cannot serve it, for what the manifest says; ill-formed parts are dropped."""
    given = run.manifest.get("holes")
    if not isinstance(given, dict):
        return {}
    return {
        str(variant): {str(endpoint): str(reason) for endpoint, reason in reasons.items()}
        for variant, reasons in given.items()
        if isinstance(reasons, dict) and reasons
    }


def sentence(rows: Sequence[Summary], pace: float | None = None, kept_up: KeptUp | None = None) -> str:
    """The answer to one question, of rows that may be compared.

    pace: the most that the load itself allows. kept_up: whether an open cell served what was offered.
    """
    usable = [row for row in rows if row.verdict != VOID]
    if not usable:
        return "No usable cell: every one is VOID."
    told = _closed(usable, pace) if usable[0].arrivals == "closed" else _open(usable, kept_up or served_all)
    return " ".join([told, *_reservations(usable)])


def _reservations(rows: Sequence[Summary]) -> list[str]:
    suspects = [row.variant for row in rows if row.verdict == SUSPECT]
    losses = [f"{row.variant} {number(lost(row))} of {number(row.offered)}" for row in rows if lost(row)]
    lost_by = f"Not completed: {'; '.join(few(losses))}."
    return [f"SUSPECT: {listed(suspects)}."] * bool(suspects) + [lost_by] * bool(losses)


class Scored(NamedTuple):
    """One contestant. text: its number in words. paced: the load, not the server, set its number."""

    row: Summary
    centre: float
    low: float
    high: float
    text: str
    paced: bool = False


def contestants(rows: Iterable[Summary], pace: float | None) -> list[Scored]:
    """Those of a closed load that have an interval, by their throughputs, the highest first."""
    scored = [
        Scored(row, rps, low, high, throughput(row), bool(pace and rps >= PACED * pace))
        for row in rows
        if (rps := row.throughput_rps) is not None
        and (low := row.throughput_low_rps) is not None
        and (high := row.throughput_high_rps) is not None
    ]
    return sorted(scored, key=lambda one: -one.centre)


def _closed(rows: Sequence[Summary], pace: float | None) -> str:
    scored = contestants(rows, pace)
    if not scored:
        return f"{NO_CLAIM} Seen: {'; '.join(few([f'{row.variant} {number(row.throughput_rps)}/s' for row in rows]))}."
    return _compared(scored, "completes the most", lower_wins=False) + _unclaimed(rows, scored)


def _open(rows: Sequence[Summary], kept_up: KeptUp) -> str:
    keeping = [row for row in rows if kept_up(row)]
    short = [row for row in rows if row not in keeping]
    behind = [f"{row.variant} {throughput(row)} ({row.limited_by})" for row in short]
    failed = f" Did not serve all of it: {'; '.join(few(behind))}." if short else ""
    offered = f"the {rate(rows[0].level)}/s offered"
    if all(row.repeats < 2 for row in rows):
        seen = _seen(keeping) or "none served all of it"
        return f"{NO_CLAIM} Seen at {offered}: {seen}.{failed}"
    if not keeping:
        return f"None served all of {offered}.{failed}"
    scored = _by_p99(keeping)
    names = [row.variant for row in keeping]
    who = "All" if not short else f"{len(names)} of {len(rows)}" if len(names) > MOST_NAMED else listed(names)
    told = _fastest(keeping, scored) if scored else "Too few samples to compare a p99."
    return f"{who} served {offered}. {told}{failed}"


def _part(rows: Sequence[Summary]) -> str:
    """A part of a stream or socket: its throughput follows from the whole's, so only its time is compared."""
    usable = [row for row in rows if row.verdict != VOID]
    if not usable:
        told = "no usable cell."
    elif all(row.repeats < 2 for row in usable):
        told = f"{NO_CLAIM} Seen: {_seen(usable)}."
    else:
        scored = _by_p99(usable)
        told = _fastest(usable, scored) if scored else "too few samples to compare a p99."
    return f"{rows[0].endpoint}: {told}"


def _held(rows: Sequence[Summary], parts: Sequence[Sequence[Summary]]) -> list[str]:
    """What streams and sockets took of each server at the most, where there are any."""
    known = [row for row in rows if parts and row.verdict != VOID and row.rss_mb is not None]
    taken = [
        f"{row.variant} {number(row.rss_mb)} MB and {number(row.threads)} thread{'s' * (row.threads != 1)}"
        for row in known
    ]
    return [f"Held in: {'; '.join(few(taken))}."] * bool(taken)


def _seen(rows: Sequence[Summary]) -> str:
    unit = {row.variant: "" if row.p99_ms is None else " ms" for row in rows}
    return "; ".join(few([f"{row.variant} p99 {quantile(row.p99_ms, 0.99, row.n)}{unit[row.variant]}" for row in rows]))


def _by_p99(rows: Sequence[Summary]) -> list[Scored]:
    scored = [
        Scored(row, centre, low, high, f"{number(centre)} ms {interval(low, high)}")
        for row in rows
        if (centre := row.p99_ms) is not None
        and (low := row.p99_low_ms) is not None
        and (high := row.p99_high_ms) is not None
    ]
    return sorted(scored, key=lambda one: one.centre)


def _fastest(rows: Sequence[Summary], scored: Sequence[Scored]) -> str:
    return _compared(scored, "has the lowest p99", lower_wins=True) + _unclaimed(rows, scored)


def _kept_up(run: Run) -> KeptUp:
    """The rule of harness.physics, for most of a cell's usable Trials."""
    trials: dict[tuple[object, ...], list[bool]] = {}
    for recording in run.recordings:
        trial = recording.trial
        if trial.scenario.arrivals != "closed" and recording.end.outcome == "complete":
            cell = (trial.variant, trial.scenario.name, trial.level, trial.lens)
            trials.setdefault(cell, []).append(served(evidence(recording)))

    def kept_up(row: Summary) -> bool:
        votes = trials.get((row.variant, row.scenario, row.level, row.lens))
        return served_all(row) if votes is None else 2 * sum(votes) > len(votes)

    return kept_up


def served_all(row: Summary) -> bool:
    """The same of a Summary alone, which does not know the edges of its windows."""
    return (row.throughput_rps or 0.0) >= SERVED * row.offered_rps and lost(row) < (1 - SERVED) * row.offered


def _unclaimed(rows: Sequence[Summary], scored: Sequence[Scored]) -> str:
    named = {one.row.variant for one in scored}
    silent = [row.variant for row in rows if row.variant not in named]
    return f" No claim for {listed(silent)}: too few repeats or samples." if silent else ""


def _compared(scored: Sequence[Scored], does: str, *, lower_wins: bool) -> str:
    """scored: the best first, each with its interval."""
    best, *others = scored
    if not others:
        return f"{best.row.variant}: {best.text}; nothing to compare it with."
    level = [other for other in others if alike(best, other)]
    behind = [
        f"{other.row.variant} {ratio(best, other, lower_wins=lower_wins)}" for other in others if other not in level
    ]
    if level:
        names = listed([one.row.variant for one in (best, *level)])
        values = "; ".join(few([f"{one.row.variant} {one.text}" for one in (best, *level)]))
        why = "the load set their pace" if all(one.paced for one in (best, *level)) else "their intervals overlap"
        rest = f" {best.row.variant} is ahead of {listed(behind)}." if behind else ""
        return f"~ cannot tell which of {names} {does}: {why} ({values}).{rest}"
    bound = " (at least: the load set its pace)" if best.paced else ""
    return f"{best.row.variant} {does}: {best.text}{bound}, ahead of {listed(behind)}."


def alike(one: Scored, other: Scored) -> bool:
    """Whether they cannot be told apart."""
    return (one.paced and other.paced) or (one.low <= other.high and other.low <= one.high)


def ratio(best: Scored, other: Scored, *, lower_wins: bool) -> str:
    """How many times better, with the widest bounds that both intervals allow: conservative, and assumes nothing."""
    more, less = (other, best) if lower_wins else (best, other)
    centre = more.centre / less.centre if less.centre else math.inf
    high = more.high / less.low if less.low else math.inf
    return f"by {number(centre)} {TIMES} {interval(more.low / less.high, high)}"
