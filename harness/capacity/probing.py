"""A search for capacity, measured. In: an Asked. Out: a run's folder with its Recordings and `capacity.json`; a code.

One variant after another: a server, a search whose every Ask becomes a Trial, and what was wanted besides: what a
request costs at 20, 50 and 80 % of the capacity, and an overload of 150 %. What was found is kept after each variant.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import certificate, facts
from harness.capacity import overload, told
from harness.capacity.asking import Asked, probed
from harness.capacity.curve import curve
from harness.capacity.efficiency import SHARES
from harness.capacity.forecasts import modelled
from harness.capacity.keeping import Progressing, note
from harness.capacity.places import AtUrl, Patient, Place, Served
from harness.capacity.search import Ask, Found, Seen, search_all
from harness.capacity.seen import seen_of
from harness.capacity.slo import limits, per_second, said
from harness.errors import GatebenchError, Interrupted, ServerFailed, UsageError
from harness.limits import check_descriptors
from harness.measure import Bench
from harness.physics import VOID, judge
from harness.recording import Recording, save
from harness.request import Request
from harness.run import RETRIES, folder_for, locked, make, signals
from harness.serve.backends import BACKENDS, Serve, Wishes, facts_of
from harness.trial import Scenario, Slo, Trial, derived_seed

MOST_RPS = 20_000.0  # asked for where no certificate says what the generator manages
START_SHARE, START_RPS = 0.25, 20.0  # of the slots' own ceiling; and where there is none
AROUND_S = 12.0  # of a variant's budget: to start and check it, and to end
COST_S, COST_WARMUP_S = 6, 1  # a Trial of what a request costs

Say = Callable[[str], None]
now = time.monotonic


@dataclass(frozen=True)
class Laboratory:
    """What all Trials of a search share: the folder, the machine, the generator, how to serve, whom to tell."""

    asked: Asked
    folder: Path
    bench: Bench
    generator: Patient
    serve: Serve
    caught: Sequence[int]
    state: Progressing
    say: Say
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def place(self, name: str) -> Place:
        if self.asked.target is not None:
            return AtUrl(self.asked.target, self.bench, self.generator)
        variant = self.asked.variants[name]
        return Served(variant, self.bench, self.generator, self.serve, self.folder / "logs", self.caught)


def predicted_s(asked: Asked) -> float:
    """How long it will take at most, in seconds."""
    each = asked.budget_s * len(asked.slos)
    each += len(SHARES) * (COST_S + 1.0) if asked.efficiency else 0.0
    each += overload.PIECE_S * (overload.BEFORE + overload.DURING + overload.REST) + 3.0 if asked.overload else 0.0
    return each * len(asked.names)


def find(asked: Asked, say: Say) -> tuple[Path, told.Document, int]:
    """Searches for every variant's capacity. Answers the folder, what was found, and the exit code so far.

    Raises GatebenchError before the first load. A variant whose server fails is abandoned, the rest goes on.
    """
    return worked(asked, say, _search_all)


def _search_all(laboratory: Laboratory) -> None:
    for name in laboratory.asked.names:
        with abandoned(laboratory, name):
            _one(laboratory, name)


def worked(asked: Asked, say: Say, work: Callable[[Laboratory], None]) -> tuple[Path, told.Document, int]:
    """Whatever is to be measured, in a folder of its own, and its end noted."""
    check_descriptors([probed(asked.scenario, asked.slos)])
    if asked.name and (asked.results / asked.name).exists():
        raise UsageError(f"{asked.results / asked.name} exists; choose another --name")
    folder = folder_for(Request((), {}, {}, asked.results, asked.command, asked.seed, name=asked.name))
    state = Progressing(told.Document(price_per_core_hour=asked.price_per_core_hour))
    with locked(asked.results), signals() as caught:
        make(folder / "trials")
        note(asked, folder, state)
        try:
            with laboratory_of(asked, folder, state, say, caught) as laboratory:
                work(laboratory)
            state.outcome = "partial" if state.failures else "complete"
        except Interrupted as interrupted:
            state.outcome, state.reason = "interrupted", str(interrupted)
            return folder, state.document, interrupted.exit_code
        except GatebenchError as error:
            state.outcome, state.reason = "failed", str(error)
            raise
        finally:
            note(asked, folder, state)
    return folder, state.document, ServerFailed.exit_code if state.failures else 0


@contextmanager
def laboratory_of(
    asked: Asked, folder: Path, state: Progressing, say: Say, caught: Sequence[int]
) -> Iterator[Laboratory]:
    """The generator and the backend, for as long as they are needed."""
    server_cpus, generator_cpus = facts.cpu_sets(asked.server_cpus)
    kept = certificate.kept()
    ceilings = kept.ceilings if kept else {}
    elsewhere = asked.target is not None
    with ExitStack() as stack:
        backend = stack.enter_context(BACKENDS["process"](Wishes(folder / "logs", asked.variants)))
        known = facts.collect() | ({"backend": "url"} if elsewhere else facts_of("process", backend))
        bench = Bench(known, frozenset() if elsewhere else server_cpus, generator_cpus, lambda: None, ceilings)
        generator = Patient(generator_cpus)
        generator.limit_s = max(ms for slo in asked.slos for ms in limits(slo).values()) / 1000
        stack.enter_context(generator)
        yield Laboratory(asked, folder, bench, generator, backend.serve, caught, state, say)


@contextmanager
def abandoned(laboratory: Laboratory, name: str) -> Iterator[None]:
    """A server's failure ends its variant, not the run."""
    try:
        yield
    except ServerFailed as failure:
        laboratory.state.failures[name] = str(failure)
        laboratory.say(f"{name} abandoned: {failure}")


# -- one variant -----------------------------------------------------------------------------------------------------


def _one(laboratory: Laboratory, name: str) -> None:
    """Its capacity under each SLO, and what was wanted besides; kept as soon as it is known."""
    asked, state = laboratory.asked, laboratory.state
    place = laboratory.place(name)
    recordings: list[Recording] = []
    try:
        found = drive(_searching(laboratory, name), prober(laboratory, name, place, recordings))
        answers = [_answer(name, asked, slo, one, recordings) for slo, one in zip(asked.slos, found, strict=True)]
        state.document = state.document.model_copy(update={"answers": (*state.document.answers, *answers)})
        note(asked, laboratory.folder, state)
        for answer in answers:
            laboratory.say(f"  {name} {told.promise(answer.slo)}: {answer.outcome}, {len(answer.steps)} trials")
        pairs = zip(asked.slos, answers, strict=True)
        slo, held = next(((slo, one.sustained_rps) for slo, one in pairs if one.sustained_rps), (None, 0.0))
        if slo and held and asked.efficiency:
            _costs(laboratory, name, place, held)
        if slo and held and asked.overload:
            _overloaded(laboratory, name, place, slo, held)
    finally:
        place.close()
        if isinstance(place, Served):
            state.conformance[name] = place.conformance


def _searching(laboratory: Laboratory, name: str) -> Generator[Ask, Seen, tuple[Found, ...]]:
    asked = laboratory.asked
    variant = asked.variants.get(name)
    slots, wait_s = variant.budget.slots if variant else None, asked.scenario.wait_s
    start = START_SHARE * slots / wait_s if slots and wait_s else START_RPS
    most = min(laboratory.bench.ceilings.get("open", MOST_RPS), MOST_RPS)
    return search_all(
        asked.slos,
        start_rps=start,
        most_rps=most,
        budget_s=asked.budget_s - AROUND_S,
        seed=derived_seed(asked.seed, name, asked.scenario.name),
        precision=asked.precision,
    )


def drive(asking: Generator[Ask, Seen, tuple[Found, ...]], probe: Callable[[Ask], Seen]) -> tuple[Found, ...]:
    """Runs a search of several SLOs to its end."""
    try:
        ask = next(asking)
        while True:
            ask = asking.send(probe(ask))
    except StopIteration as end:
        found: tuple[Found, ...] = end.value
        return found


def prober(laboratory: Laboratory, name: str, place: Place, recordings: list[Recording]) -> Callable[[Ask], Seen]:
    """Turns each Ask into a saved Trial, and tells what was seen; also adds it to `recordings`."""
    scenario = probed(laboratory.asked.scenario, laboratory.asked.slos)

    def probe(ask: Ask) -> Seen:
        begin = now()
        recording = record(laboratory, place, _asked_for(scenario, ask), name, ask.seed)
        recordings.append(recording)
        given_up = any(note.startswith("ended after") for note in recording.end.notes)
        seen = seen_of(recording, laboratory.asked.slos, now() - begin, given_up=given_up)
        laboratory.say(
            f"  {name} {ask.purpose} {per_second(ask.rate_rps)}/s: p99 {seen.quantiles_ms[0.99]:,.0f} ms, "
            f"{seen.bad} of {seen.offered} lost{', the queue grows' * seen.growing}"
            + (f": {seen.fault}" if seen.fault else "")
        )
        return seen

    return probe


def _asked_for(scenario: Scenario, ask: Ask) -> Scenario:
    duration = max(math.ceil(ask.duration_s), 1)
    return scenario.model_copy(
        update={
            "rates": (ask.rate_rps,),
            "duration_s": duration,
            "warmup_s": min(math.ceil(ask.warmup_s), duration - 1),
        }
    )


def record(
    laboratory: Laboratory, place: Place, scenario: Scenario, name: str, seed: int, *, patient: bool = False
) -> Recording:
    """One Trial at a place, saved; its level is the one of its scenario."""
    number = next(laboratory.numbers)
    trial = Trial(variant=name, scenario=scenario, level=scenario.levels[0], repeat=number, seed=seed)
    recording = place.record(trial, patient=patient)
    save(recording, laboratory.folder / "trials")
    laboratory.state.loaded_s += recording.end.loaded_s
    return recording


def settled_record(laboratory: Laboratory, place: Place, scenario: Scenario, name: str, seed: int) -> Recording:
    """One patient Trial that stands by itself: what the generator spoilt is repeated, at most twice."""
    for attempt in range(1 + RETRIES):
        recording = record(laboratory, place, scenario, name, seed, patient=True)
        verdict = judge(recording)
        if attempt == RETRIES or (verdict.name, verdict.limited_by) != (VOID, "generator"):
            break
        laboratory.say(f"    again, as it is VOID: {verdict.reason}")
    return recording


def _answer(name: str, asked: Asked, slo: Slo, found: Found, recordings: Sequence[Recording]) -> told.Answer:
    rows = curve(found.steps, slo)
    points = [
        told.Point(
            rate_rps=row.rate_rps,
            trials=row.trials,
            ms=row.ms,
            low_ms=row.low_ms,
            high_ms=row.high_ms,
            verdict=row.verdict,
        )
        for row in rows
    ]
    model = modelled(recordings, found.high or found.smallest_failed_rps)
    return told.answer_of(name, asked.scenario.name, said(slo), found, points, model)


def _costs(laboratory: Laboratory, name: str, place: Place, held_rps: float) -> None:
    """What a request costs at shares of the capacity; what is drawn of it is computed from these Recordings."""
    scenario = probed(laboratory.asked.scenario, laboratory.asked.slos)
    changed = {"name": f"{told.EFFICIENCY}{laboratory.asked.scenario.name}"[:64]}
    scenario = scenario.model_copy(update=changed | {"duration_s": COST_S, "warmup_s": COST_WARMUP_S})
    for share in SHARES:
        rate = share * held_rps
        seed = derived_seed(laboratory.asked.seed, "efficiency", share)
        laboratory.say(f"  {name} efficiency at {share:.0%}: {per_second(rate)}/s")
        asked = scenario.model_copy(update={"rates": (rate,)})
        settled_record(laboratory, place, asked, name, seed)


def _overloaded(laboratory: Laboratory, name: str, place: Place, slo: Slo, held_rps: float) -> None:
    """150 % of what is held under the first SLO that has a rate; what is drawn of it is computed from its Recording."""
    scenario = overload.scenario_of(laboratory.asked.scenario, held_rps, slo)
    seconds = overload.PIECE_S * overload.DURING
    laboratory.say(f"  {name} overload: {per_second(scenario.rates[0])}/s for {seconds} s")
    seed = derived_seed(laboratory.asked.seed, "overload")
    recording = settled_record(laboratory, place, scenario, name, seed)
    laboratory.say(f"  {overload.overload_of(recording).sentence}")
