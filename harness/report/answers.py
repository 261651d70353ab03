"""The answers in words. In: a Run and its Summaries. Out: an Answer a question: who wins, by how much, and why.

Rules: VOID cells take no part; without intervals there is no claim; two variants differ only where their paired blocks
say so, with Holm's correction over all pairs (harness/report/standings.py); and where something shared limits several,
it cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from harness.physics import SUSPECT, VOID
from harness.recording import Run
from harness.report.standings import Line, Standing, Standings, kept_up, lines, standings
from harness.report.words import (
    MOST_NAMED,
    facets,
    few,
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

NO_CLAIM = "One repeat: supports no claim."

KeptUp = Callable[[Summary], bool]


@dataclass(frozen=True)
class Answer:
    """One question's answer. parts: what streams and sockets are made of; limits: why each was not faster;
    left_out: who is missing, and why. places: who comes where, in groups; by: the number that says so."""

    scenario: str
    load: str
    endpoint: str
    question: str
    sentence: str
    parts: tuple[str, ...]
    limited: str
    limits: tuple[str, ...]
    left_out: tuple[str, ...]
    places: tuple[Line, ...] = ()
    by: str = ""

    def __str__(self) -> str:
        return " ".join([f"{self.scenario} ({self.load}): {self.sentence}", *self.parts, self.limited, *self.left_out])


def answers(run: Run, summaries: Iterable[Summary], found: Standings | None = None) -> list[Answer]:
    """One for each scenario, level, lens and endpoint of its mix. found: `standings(run)`, where it is known."""
    scenarios = {recording.trial.scenario.name: recording.trial.scenario for recording in run.recordings}
    everything = facets(summaries, void=True, parts=True)
    found = found or standings(run)
    keeps = kept_up(found)

    def parts_of(row: Summary) -> list[list[Summary]]:
        cell = (row.scenario, row.level, row.lens)
        others = [rows for rows in everything if (rows[0].scenario, rows[0].level, rows[0].lens) == cell]
        return [
            rows for rows in others if not is_primary(rows[0].endpoint) and whole_of(rows[0].endpoint) == row.endpoint
        ]

    return [
        _answer(run, rows, parts_of(rows[0]), scenarios[rows[0].scenario].question, found, keeps)
        for rows in everything
        if is_primary(rows[0].endpoint)
    ]


def _answer(
    run: Run, rows: list[Summary], parts: list[list[Summary]], question: str, found: Standings, keeps: KeptUp
) -> Answer:
    usable = [row for row in rows if row.verdict != VOID]
    closed = rows[0].arrivals == "closed"
    standing = found.of(usable, (lambda _: True) if closed else keeps) if usable else None
    ranked = standing if standing is not None and len(standing.places) > 1 else None
    return Answer(
        scenario=rows[0].scenario,
        load=load(rows[0]),
        endpoint=rows[0].endpoint,
        question=question,
        sentence=sentence(usable, standing, keeps),
        parts=(*(_part(part, found) for part in parts), *_held(rows, parts)),
        limited=_limited(rows),
        limits=tuple(f"{row.variant}, {row.limited_by}: {row.reason}" for row in rows if row.verdict != VOID),
        left_out=tuple(chain(_voided(rows), _holes(run, rows))),
        places=tuple(lines(ranked)) if ranked else (),
        by=("requests/s" if closed else "p99 of the response") if ranked else "",
    )


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


def sentence(usable: Sequence[Summary], standing: Standing | None, keeps: KeptUp) -> str:
    """The answer to one question, of rows that may be compared and are not VOID."""
    if standing is None:
        return "No usable cell: every one is VOID."
    told = _closed(usable, standing) if usable[0].arrivals == "closed" else _open(usable, standing, keeps)
    return " ".join([told, *_reservations(usable)])


def _reservations(rows: Sequence[Summary]) -> list[str]:
    suspects = [row.variant for row in rows if row.verdict == SUSPECT]
    losses = [f"{row.variant} {number(lost(row))} of {number(row.offered)}" for row in rows if lost(row)]
    lost_by = f"Not completed: {'; '.join(few(losses))}."
    return [f"SUSPECT: {listed(suspects)}."] * bool(suspects) + [lost_by] * bool(losses)


def _closed(rows: Sequence[Summary], standing: Standing) -> str:
    if not standing.places:
        return f"{NO_CLAIM} Seen: {'; '.join(few([f'{row.variant} {number(row.throughput_rps)}/s' for row in rows]))}."
    return _compared(standing, "completes the most")


def _open(rows: Sequence[Summary], standing: Standing, keeps: KeptUp) -> str:
    keeping = [row for row in rows if keeps(row)]
    short = [row for row in rows if row not in keeping]
    behind = [f"{row.variant} {throughput(row)} ({row.limited_by})" for row in short]
    failed = f" Did not serve all of it: {'; '.join(few(behind))}." if short else ""
    offered = f"the {rate(rows[0].level)}/s offered"
    if all(row.repeats < 2 for row in rows):
        seen = _seen(keeping) or "none served all of it"
        return f"{NO_CLAIM} Seen at {offered}: {seen}.{failed}"
    if not keeping:
        return f"None served all of {offered}.{failed}"
    names = [row.variant for row in keeping]
    who = "All" if not short else f"{len(names)} of {len(rows)}" if len(names) > MOST_NAMED else listed(names)
    told = _compared(standing, "has the lowest p99") if standing.places else "Too few samples to compare a p99."
    return f"{who} served {offered}. {told}{failed}"


def _part(rows: Sequence[Summary], found: Standings) -> str:
    """A part of a stream or socket: its throughput follows from the whole's, so only its time is compared."""
    usable = [row for row in rows if row.verdict != VOID]
    standing = found.of(usable) if usable else None
    if standing is None:
        told = "no usable cell."
    elif all(row.repeats < 2 for row in usable):
        told = f"{NO_CLAIM} Seen: {_seen(usable)}."
    else:
        told = _compared(standing, "has the lowest p99") if standing.places else "too few samples to compare a p99."
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


def _compared(standing: Standing, does: str) -> str:
    """standing: of one contestant at least."""
    best = standing.best or ""
    silent = f" No claim for {listed(standing.silent)}: too few repeats or samples." if standing.silent else ""
    if len(standing.places) == 1:
        return f"{best}: {standing.value(best)}; nothing to compare it with.{silent}"
    behind = [f"{name} {standing.lead(name)}" for name in standing.behind]
    if len(standing.level) > 1:
        values = "; ".join(few([f"{name} {standing.value(name)}" for name in standing.level]))
        rest = f" {best} is ahead of {listed(behind)}." if behind else ""
        return f"~ cannot tell which of {listed(standing.level)} {does}: {_why(standing)} ({values}).{rest}{silent}"
    paced = standing.shared is not None and standing.shared.limit == "client" and best in standing.shared.names
    bound = " (at least: the load set its pace)" if paced else ""
    return f"{best} {does}: {standing.value(best)}{bound}, ahead of {listed(behind)}.{silent}"


def _why(standing: Standing) -> str:
    """Why the best cannot be told from those beside it."""
    if standing.paced and standing.shared:
        return f"they are at {standing.shared.sentence}"
    blocks = min(place.blocks for place in standing.places)
    return f"{blocks} paired blocks cannot tell them apart"
