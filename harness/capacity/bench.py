"""`make bench-capacity`: are the models right? In: three real variants. Out: their errors on levels no fit has seen.

Of each variant: levels up to 55 % of the nearest ceiling, which models are fitted to; two above, several trials each,
which they predict; and a confirming run between. Then threads: T of them that wait must complete T ÷ wait.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import show
from harness.capacity.asking import Asked, asked_of, probed
from harness.capacity.choice import MOST_P99_ERROR, MOST_THROUGHPUT_ERROR, Choice, chosen
from harness.capacity.measured import levels_of
from harness.capacity.places import Place, Served
from harness.capacity.probing import Laboratory, abandoned, settled_record, worked
from harness.capacity.slo import per_second
from harness.capacity.told import PROBES
from harness.errors import GatebenchError, NothingUsable
from harness.evidence import evidence
from harness.histogram import samples_needed
from harness.physics import VOID, judge
from harness.recording import Recording
from harness.trial import Scenario, derived_seed

VARIANTS = ("wsgi-threads", "wsgi-gevent", "asgi")
WORK = "mix?ms=20&n=2000"
FITTED, HELD, CONFIRMED = (0.15, 0.3, 0.42, 0.54), (0.8, 0.9), 0.7  # of the nearest ceiling
FITTED_S, HELD_S, HELD_TRIALS, WARMUP_S = 9, 16, 4, 1
FIRST_RPS, FIRST_SHARE = 100.0, 0.3
THREADS, SLEEP_MS, MOST_SLEEP_ERROR = (4, 16, 32), 100, 0.03
MISSED = 3


@dataclass
class Outcome:
    """What the bench has come to. rows: of the table; missed: predictions that do not hold, in words; void: what the
    generator spoilt, so that nothing is known."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


HEADS = ("variant", "what", "rate/s", "completed/s", "predicted/s", "off", "p99 ms", "predicted ms", "off ", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it all; 0 when every error is within its bound, 3 when one is not."""
    parser = argparse.ArgumentParser(prog="python -m harness.capacity.bench", description="Are the models right?")
    parser.add_argument("variants", nargs="*", default=VARIANTS)
    parser.add_argument("--scenario", default=WORK, help="what they are asked")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--no-threads", action="store_true", help="leave out the threads that only wait")
    words = parser.parse_args(arguments)
    command = shlex.join(["python", "-m", "harness.capacity.bench", *sys.argv[1:]])
    try:
        asked = asked_of(
            words.variants, scenario=words.scenario, slo=["p99<200ms"], url=None, command=command, results=words.results
        )
        outcome = Outcome()

        def work(laboratory: Laboratory) -> None:
            for name in asked.variants:
                with abandoned(laboratory, name), closing(laboratory.place(name)) as place:
                    _models(laboratory, name, place, outcome)
            for threads in () if words.no_threads else THREADS:
                with abandoned(laboratory, "wsgi-threads"):
                    _waiting(laboratory, threads, outcome)

        folder, _, code = worked(asked, lambda line: print(line, file=sys.stderr), work)  # noqa: T201  its purpose
    except GatebenchError as error:
        print(f"bench-capacity: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    _print(outcome, folder)
    return code or (MISSED if outcome.missed else NothingUsable.exit_code if outcome.void else 0)


def _print(outcome: Outcome, folder: Path) -> None:
    show.table(HEADS, outcome.rows, right=set(HEADS) - {"variant", "what", ""})
    bounds = (
        f"throughput within {MOST_THROUGHPUT_ERROR:.0%}, p99 within {MOST_P99_ERROR:.0%} or inside what was measured"
    )
    lines = [*outcome.said, f"wanted: {bounds}; threads that wait within {MOST_SLEEP_ERROR:.0%}"]
    lines += [f"VOID: {one}" for one in outcome.void] + [f"MISSED: {one}" for one in outcome.missed]
    lines += ["every prediction holds"] * (not outcome.void and not outcome.missed)
    print("\n".join(["", *lines, f"run: {folder}"]))  # noqa: T201


def _models(laboratory: Laboratory, name: str, place: Place, outcome: Outcome) -> None:
    """Fits, predicts, compares, confirms."""
    most, recordings = _first(laboratory, name, place)
    for share in FITTED:
        recordings.append(_level(laboratory, name, place, share * most, FITTED_S, 0))
    for trial in range(HELD_TRIALS):
        recordings += [_level(laboratory, name, place, share * most, HELD_S, trial) for share in HELD]
    try:
        choice = chosen(levels_of(recordings))
    except GatebenchError as error:
        outcome.void.append(f"{name}: {error}")
        return
    outcome.said.append(f"{name}: {choice.said}")
    _held(name, choice, outcome)
    if choice.model is None:
        outcome.missed.append(f"{name}: {choice.said}")
        return
    rate = CONFIRMED * most
    found = choice.model.predict(rate)
    try:
        (level,) = levels_of([_level(laboratory, name, place, rate, HELD_S, 99)])
    except GatebenchError as error:
        outcome.void.append(f"{name}, confirming run: {error}")
        return
    p99 = level.ms(0.99)
    off = found.p99_ms / p99 - 1 if p99 and found.p99_ms else math.nan
    numbers = (level.throughput_rps, found.throughput_rps, found.throughput_rps / level.throughput_rps - 1)
    outcome.rows.append(_row(name, "confirming run", rate, *numbers, p99, found.p99_ms, off, ""))


def _held(name: str, choice: Choice, outcome: Outcome) -> None:
    best = choice.tested[0]
    for one in best.held:
        inside = "inside the interval" if one.inside else ""
        numbers = (one.throughput_rps, one.predicted_rps, one.throughput_error)
        times = (one.p99_ms, one.predicted_ms, one.p99_error)
        outcome.rows.append(_row(name, f"{best.name}, not seen", one.rate_rps, *numbers, *times, inside))


def _row(
    name: str,
    what: str,
    rate: float,
    measured_rps: float,
    predicted_rps: float,
    off_rps: float,
    measured_ms: float | None,
    predicted_ms: float | None,
    off_ms: float | None,
    remark: str,
) -> tuple[str, ...]:
    times = ["n/a" if ms is None else f"{ms:.4g}" for ms in (measured_ms, predicted_ms)]
    off = "n/a" if off_ms is None or math.isnan(off_ms) else f"{off_ms:+.0%}"
    rates = (f"{one:.4g}" for one in (rate, measured_rps, predicted_rps))
    return (name, what, *rates, f"{off_rps:+.1%}", *times, off, remark)


def _first(laboratory: Laboratory, name: str, place: Place) -> tuple[float, list[Recording]]:
    """The nearest ceiling, as a Trial far below it shows; with that Trial."""
    asked = laboratory.asked
    slots, wait_s = asked.variants[name].budget.slots, asked.scenario.wait_s
    most = slots / wait_s if slots is not None and wait_s else math.inf
    rate = min(FIRST_RPS, FIRST_SHARE * most)
    seconds = math.ceil(1.1 * samples_needed(0.99) / rate) + WARMUP_S
    recording = _level(laboratory, name, place, rate, seconds, 0)
    each_s = evidence(recording).cpu_s_per_request
    return min(most, len(laboratory.bench.server_cpus) / each_s if each_s else math.inf), [recording]


def _level(laboratory: Laboratory, name: str, place: Place, rate: float, seconds: int, trial: int) -> Recording:
    laboratory.say(f"  {name} at {per_second(rate)}/s for {seconds} s")
    changed = {"rates": (rate,), "duration_s": seconds, "warmup_s": WARMUP_S}
    scenario = probed(laboratory.asked.scenario, laboratory.asked.slos).model_copy(update=changed)
    return settled_record(laboratory, place, scenario, name, derived_seed(1, "bench", rate, trial))


def _waiting(laboratory: Laboratory, threads: int, outcome: Outcome) -> None:
    """T threads under 2·T users of a sleep: T ÷ sleep (Little, 1961)."""
    asked = asked_of(
        ["wsgi-threads"], scenario=f"sleep?ms={SLEEP_MS}", slo=["p99<5s"], url=None, command="", results=Path()
    )
    laboratory.say(f"  wsgi-threads, {threads} threads that wait {SLEEP_MS} ms")
    place = _served(laboratory, asked, threads)
    closed = Scenario(
        name=f"{PROBES}threads",
        question=f"How many a second do {threads} threads complete?",
        arrivals="closed",
        users=(2 * threads,),
        mix=asked.scenario.mix,
        duration_s=FITTED_S,
        warmup_s=WARMUP_S,
    )
    with closing(place):
        recording = settled_record(laboratory, place, closed, "wsgi-threads", 1)
    verdict = judge(recording)
    if verdict.name == VOID:
        outcome.void.append(f"{threads} threads: {verdict.reason}")
        return
    measured, predicted = evidence(recording).throughput_rps, 1000 * threads / SLEEP_MS
    off = predicted / measured - 1 if measured else math.inf
    what = f"{threads} threads ÷ {SLEEP_MS} ms"
    outcome.rows.append(_row("wsgi-threads", what, measured, measured, predicted, off, None, None, None, "closed"))
    if abs(off) > MOST_SLEEP_ERROR:
        outcome.missed.append(f"{what} = {predicted:.4g}/s, measured {measured:.4g}/s: {off:+.1%}")


def _served(laboratory: Laboratory, asked: Asked, threads: int) -> Served:
    variant = asked.variants["wsgi-threads"]
    variant = replace(variant, budget=replace(variant.budget, slots=threads))
    logs = laboratory.folder / "logs"
    return Served(variant, laboratory.bench, laboratory.generator, laboratory.serve, logs, laboratory.caught)


if __name__ == "__main__":
    sys.exit(main())
