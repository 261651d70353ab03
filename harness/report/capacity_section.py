"""Capacity in words and tables. In: a Run with `capacity.json`. Out: answers, and tables for the page. Pure.

What can be computed from Recordings is: what a request costs, what a slot takes, what an overload did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.capacity import told
from harness.capacity.efficiency import efficiencies, footprint
from harness.capacity.overload import is_overload, overload_of
from harness.physics import VOID, judge
from harness.recording import Recording, Run
from harness.report.answers import Answer
from harness.report.words import listed, number

WORDS = 2  # columns of words at the left of a table; the others hold numbers


class Table(NamedTuple):
    """One table of the page. lines: sentences below it. words: how many columns at the left are not numbers."""

    title: str
    about: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...] = ()
    words: int = WORDS


def capacity_answers(run: Run) -> list[Answer]:
    """A question for each scenario and SLO; each variant's answer is a part of it."""
    document = told.document_of(run.manifest)
    groups: dict[tuple[str, str], list[told.Answer]] = {}
    for answer in document.answers if document else ():
        groups.setdefault((answer.scenario, answer.slo), []).append(answer)
    return [_answer(scenario, slo, answers) for (scenario, slo), answers in groups.items()]


def _answer(scenario: str, slo: str, answers: Sequence[told.Answer]) -> Answer:
    ordered = sorted(answers, key=lambda one: -(one.sustained_rps or 0.0))
    limits: dict[str, list[str]] = {}
    for answer in ordered:
        limits.setdefault(answer.limited_by, []).append(answer.variant)
    told_limits = "; ".join(f"{limit} ({listed(names)})" for limit, names in limits.items())
    return Answer(
        scenario=scenario,
        load="open (poisson), the highest rate",
        endpoint=scenario.rpartition("/")[2],
        question=f"Up to which rate of {scenario} does each hold {told.promise(slo)}?",
        sentence=f"{told.sentence(ordered[0])}.",
        parts=tuple(f"{told.sentence(one)}." for one in ordered[1:]),
        limited=f"Limited by: {told_limits}.",
        limits=(),
        left_out=(),
    )


def besides(run: Run) -> list[Table]:
    """What was measured besides the search, if it was: costs, and overloads."""
    usable = [one for one in run.recordings if judge(one).name != VOID]
    made = (_costs(usable, told.document_of(run.manifest) or told.Document()), _overloads(usable), _voided(run, usable))
    return [table for table in made if table.rows or table.lines]


def tables(run: Run) -> list[Table]:
    """Every table that this run has something for."""
    document = told.document_of(run.manifest)
    if document is None and "capacity" in run.manifest:
        return [Table("How much each carries", "", (), (), ("capacity.json is damaged, or of another version.",))]
    document = document or told.Document()
    usable = [one for one in run.recordings if judge(one).name != VOID]
    made = (
        _found(document),
        _models(document),
        _costs(usable, document),
        _overloads(usable),
        _plan(document),
        _voided(run, usable),
    )
    return [table for table in made if table.rows or table.lines]


def _found(document: told.Document) -> Table:
    rows = [
        (
            one.variant,
            f"{one.scenario} · {told.promise(one.slo)}",
            number(one.sustained_rps),
            told.bounds(one),
            number(one.smallest_failed_rps),
            one.outcome,
            one.limited_by,
            number(len(one.steps)),
            number(one.seconds),
        )
        for one in document.answers
    ]
    heads = ("variant", "SLO", "sustains/s", "95 %", "failed at/s", "outcome", "limited by", "trials", "seconds")
    about = (
        "The highest open Poisson rate that holds the SLO, so chosen that it is too high in at most 5 of 100 searches; "
        "its interval, and the lowest rate that was seen to fail."
    )
    lines = [f"{one.variant}, {told.promise(one.slo)}: {one.reason}." for one in document.answers if one.reason]
    return Table("How much each carries", about, heads, tuple(rows), tuple(lines))


def _models(document: told.Document) -> Table:
    rows = [(one.variant, one.model.name, one.model.why) for one in document.answers if one.model is not None]
    about = (
        "Chosen by what each predicts of levels that its fit did not see. A model that none of them fits is not drawn."
    )
    return Table("Model against measurement", about, ("variant", "model", "why"), tuple(dict.fromkeys(rows)), words=3)


def _costs(recordings: Sequence[Recording], document: told.Document) -> Table:
    held = {one.variant: one.sustained_rps for one in reversed(document.answers)}
    mine = [one for one in recordings if one.trial.scenario.name.startswith(told.EFFICIENCY)]
    rows, lines = [], []
    for variant in dict.fromkeys(one.trial.variant for one in mine):
        own = [one for one in mine if one.trial.variant == variant]
        for cost in efficiencies(own, held.get(variant), document.price_per_core_hour):
            share = "" if cost.share is None else f"{cost.share:.0%} of capacity"
            numbers = (cost.rate_rps, cost.cpu_ms_per_request, cost.in_flight, cost.rss_mb)
            hours, money = cost.core_hours_per_million, cost.cost_per_million
            rows.append((variant, share, *map(number, numbers), number(hours), number(money)))
        memory = footprint([*own, *_probes(recordings, variant)])
        if memory.base_mb is not None and memory.mb_each is not None:
            lines.append(
                f"{variant}: {number(memory.base_mb)} MB at rest, {number(memory.mb_each)} MB a {memory.unit}."
            )
    heads = (
        "variant",
        "load",
        "rate/s",
        "CPU ms a request",
        "in flight",
        "MB",
        "core-hours a million",
        "cost a million",
    )
    about = (
        "What a request costs at shares of the capacity. Core-hours are of the CPUs that the server was given, idle or "
        "not: that is what is paid for. No intervals: one trial each."
    )
    return Table("What it costs at work", about, heads, tuple(rows), tuple(lines))


def _probes(recordings: Sequence[Recording], variant: str) -> list[Recording]:
    """The search's own Trials: more levels for the slope of memory."""
    mine = [one for one in recordings if one.trial.variant == variant]
    return [one for one in mine if one.trial.scenario.name.startswith(told.PROBES)]


def _overloads(recordings: Sequence[Recording]) -> Table:
    lines = [overload_of(one).sentence for one in recordings if is_overload(one.trial.scenario)]
    about = "150 % of the capacity for 20 s, then half of it. In time: within the SLO's limit."
    return Table("Overload and recovery", about, (), (), tuple(f"{line}." for line in lines))


def _voided(run: Run, usable: Sequence[Recording]) -> Table:
    """What was measured besides a search, and has no usable Trial: the search itself says what was spoilt."""
    words = (told.EFFICIENCY, told.OVERLOADED, told.PLANNED)
    known = {one.trial.cell for one in usable}
    lost = [one for one in run.recordings if one.trial.scenario.name.startswith(words) and one.trial.cell not in known]
    lines = {f"{one.trial.variant}, {one.trial.scenario.name}, {number(one.trial.level)}/s": judge(one) for one in lost}
    return Table("What is VOID", "", (), (), tuple(f"{name}: {verdict.reason}." for name, verdict in lines.items()))


def _plan(document: told.Document) -> Table:
    rows = tuple(row.cells for row in document.plan)
    return Table("The plan", document.plan_question, document.plan_heads, rows, document.confirmations, words=1)
