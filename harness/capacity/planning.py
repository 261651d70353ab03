"""A plan, measured. In: an Asked, a rate, a machine. Out: a Row a variant, and what came when it was run. Does the I/O.

The parts of each variant come from three short Trials, far below its limits; `plan` computes the rest; then the planned
configuration is served on this machine, where it can be, with the load of one of its machines.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace

from harness.capacity import told
from harness.capacity.asking import Asked, probed
from harness.capacity.measured import Parts, parts_from
from harness.capacity.places import Place, Served
from harness.capacity.plan import Machine, Row, plan, table
from harness.capacity.probing import Laboratory, abandoned, settled_record
from harness.capacity.seen import held, seen_of
from harness.capacity.slo import per_second, said
from harness.errors import NothingUsable
from harness.evidence import evidence
from harness.histogram import samples_needed
from harness.physics import VOID, judge
from harness.recording import Recording
from harness.trial import Scenario, derived_seed

FIRST_RPS, FIRST_SHARE = 100.0, 0.3  # what a server is asked first, or this share of what its slots allow
SHARES = (0.5, 0.75)  # of the nearest ceiling that the first Trial shows
LEVEL_S, WARMUP_S, LONGEST_S = 6, 1, 60
CONFIRM_S = 20
FEWER = 0.9  # of the planned slots: too few, if the plan is right


@dataclass(frozen=True)
class Wanted:
    """What is to be planned. confirm: `first`, `all` or `none` of the rows that hold; fewer: also with fewer slots."""

    rate_rps: float
    machine: Machine
    spare_machines: int = 1
    confirm: str = "first"
    fewer: bool = False


@dataclass(frozen=True)
class Confirmed:
    """One run of a planned configuration. error: of the predicted p99, relative; None where none was predicted."""

    variant: str
    slots: int | None
    processes: int
    rate_rps: float
    predicted_ms: float | None
    measured_ms: float
    holds: bool
    fewer: bool

    @property
    def error(self) -> float | None:
        return None if self.predicted_ms is None else self.predicted_ms / self.measured_ms - 1

    @property
    def sentence(self) -> str:
        """What was run, what was predicted, what came."""
        slots = f" of {self.slots} slots" if self.slots is not None else ""
        processes = f"{self.processes} process{'es' * (self.processes != 1)}"
        run = f"{self.variant}, {processes}{slots}, {per_second(self.rate_rps)}/s: "
        came = f"p99 {self.measured_ms:,.4g} ms, {'holds' if self.holds else 'misses'} the promise"
        if self.fewer:
            return f"{run}with 10 % fewer slots {came}"
        error = "" if self.error is None else f"; predicted {self.predicted_ms:,.4g} ms, {self.error:+.0%}"
        return run + came + error


@dataclass
class Planned:
    """What planning has come to."""

    rows: list[Row] = field(default_factory=list)
    confirmed: list[Confirmed] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def predicted_s(asked: Asked, wanted: Wanted) -> float:
    """About how long it will take, in seconds."""
    each = 2 * LEVEL_S + 10 + 6
    confirming = {"first": 1, "all": len(asked.variants), "none": 0}[wanted.confirm] * (1 + wanted.fewer)
    return each * len(asked.variants) + confirming * (CONFIRM_S + 5)


def planned(laboratory: Laboratory, wanted: Wanted) -> Planned:
    """Measures the parts of every variant, plans, and runs what was planned. Raises NothingUsable without any parts."""
    made, parts = Planned(), {}
    for name in laboratory.asked.variants:
        with abandoned(laboratory, name):
            place = laboratory.place(name)
            try:
                parts[name] = _parts(laboratory, name, place)
            except NothingUsable as nothing:
                made.left_out.append(f"{name}: {nothing}")
                laboratory.say(f"{name} left out: {nothing}")
            finally:
                place.close()
    if not parts:
        raise NothingUsable("; ".join(made.left_out) or "no server could be measured; see each one's reason above")
    slo = laboratory.asked.slos[0]
    made.rows = plan(wanted.rate_rps, slo, parts, wanted.machine, spare_machines=wanted.spare_machines)
    _keep(laboratory, wanted, made)
    holding = [row for row in made.rows if row.holds]
    for row in holding[: {"first": 1, "all": len(holding), "none": 0}[wanted.confirm]]:
        with abandoned(laboratory, row.variant):
            _confirm(laboratory, wanted, made, row)
            _keep(laboratory, wanted, made)
    return made


def _keep(laboratory: Laboratory, wanted: Wanted, made: Planned) -> None:
    asked, machine = laboratory.asked, wanted.machine
    price = "" if machine.price_per_hour is None else f", {machine.price_per_hour:g} an hour"
    heads, lines = table(made.rows)
    laboratory.state.document = laboratory.state.document.model_copy(
        update={
            "plan_question": f"What holds {per_second(wanted.rate_rps)}/s of {asked.scenario.name} at "
            f"{told.promise(said(asked.slos[0]))}, on machines of {machine.cores} "
            f"core{'s' * (machine.cores != 1)} and {machine.memory_mb:,.0f} MB{price}, "
            f"with {wanted.spare_machines} to spare?",
            "plan_heads": heads,
            "plan": tuple(told.Row(cells=line) for line in lines),
            "confirmations": tuple(f"{one.sentence}." for one in made.confirmed),
        }
    )


# -- the parts -------------------------------------------------------------------------------------------------------


def _parts(laboratory: Laboratory, name: str, place: Place) -> Parts:
    """From a Trial in which calls are nearly alone, and from levels in the middle."""
    asked = laboratory.asked
    slots, wait_s = asked.variants[name].budget.slots, asked.scenario.wait_s
    most = slots / wait_s if slots is not None and wait_s else math.inf
    first = min(FIRST_RPS, FIRST_SHARE * most)
    lengthy = math.ceil(1.1 * samples_needed(0.99) / first) + WARMUP_S
    recordings = [_level(laboratory, place, name, first, max(min(lengthy, LONGEST_S), LEVEL_S))]
    each_s = evidence(recordings[0]).cpu_s_per_request
    cores = min(asked.variants[name].budget.processes, len(laboratory.bench.server_cpus))
    most = min(most, cores / each_s if each_s else math.inf)
    if math.isfinite(most):
        rates = [share * most for share in SHARES if share * most > first]
        recordings += [_level(laboratory, place, name, rate, LEVEL_S) for rate in rates]
    verdicts = [judge(one) for one in recordings]
    if all(verdict.name == VOID for verdict in verdicts):
        raise NothingUsable(f"each trial was VOID: {verdicts[-1].reason}")
    return parts_from(recordings)


def _level(laboratory: Laboratory, place: Place, name: str, rate: float, duration_s: int) -> Recording:
    laboratory.say(f"  {name} at {per_second(rate)}/s for {duration_s} s")
    scenario = _scenario(laboratory.asked, rate, duration_s)
    return settled_record(laboratory, place, scenario, name, derived_seed(laboratory.asked.seed, "plan", rate))


def _scenario(asked: Asked, rate: float, duration_s: int) -> Scenario:
    changed = {"name": f"{told.PLANNED}{asked.scenario.name}"[:64], "rates": (rate,)}
    return probed(asked.scenario, asked.slos).model_copy(
        update=changed | {"duration_s": duration_s, "warmup_s": WARMUP_S}
    )


# -- the proof -------------------------------------------------------------------------------------------------------


def _confirm(laboratory: Laboratory, wanted: Wanted, made: Planned, row: Row) -> None:
    """Runs one of the planned machines, as it is loaded when the spare ones are lost, on this one."""
    needed = min(row.processes or 1, wanted.machine.cores)
    allowed = sorted(os.sched_getaffinity(0))
    if needed > max(len(allowed) - 1, 1):
        laboratory.say(
            f"  {row.variant} not run: it needs {needed} CPUs and one for the generator, here are {len(allowed)}"
        )
        return
    free = [cpu for cpu in allowed if cpu not in laboratory.bench.generator_cpus] or allowed
    there = replace(laboratory, bench=replace(laboratory.bench, server_cpus=frozenset(free[:needed])))
    made.confirmed.append(_run(there, row, row.slots, fewer=False))
    if wanted.fewer and row.slots is not None:
        made.confirmed.append(_run(there, row, math.floor(FEWER * row.slots), fewer=True))
    for one in made.confirmed[-2:]:
        if one.variant == row.variant:
            laboratory.say(f"  {one.sentence}")


def _run(laboratory: Laboratory, row: Row, slots: int | None, *, fewer: bool) -> Confirmed:
    asked = laboratory.asked
    variant, processes = asked.variants[row.variant], row.processes or 1
    if slots is not None:
        processes = min(processes, slots)  # of sync workers there are fewer, then
        slots -= slots % processes
    budget = variant.budget.with_processes(processes, slots=slots)
    rate = row.each_lost_rps or 0.0
    place = Served(
        replace(variant, budget=budget),
        laboratory.bench,
        laboratory.generator,
        laboratory.serve,
        laboratory.folder / "logs",
        laboratory.caught,
    )
    try:
        scenario = _scenario(asked, rate, CONFIRM_S)
        seed = derived_seed(asked.seed, "confirm", row.variant, slots)
        recording = settled_record(laboratory, place, scenario, row.variant, seed)
    finally:
        place.close()
    seen = seen_of(recording, asked.slos[:1], 0.0)
    return Confirmed(
        variant=row.variant,
        slots=slots,
        processes=processes,
        rate_rps=rate,
        predicted_ms=None if fewer else row.p99_lost_ms,
        measured_ms=seen.quantiles_ms[0.99],
        holds=held(seen, asked.slos[0]),
        fewer=fewer,
    )
