"""What a search and a plan have found, as data and in words. In: `Found`s. Out: `capacity.json`, sentences. Pure.

A folder of results keeps this beside its Recordings, so a report can be drawn from it anywhere. What can be computed
from the Recordings themselves (efficiency, overload) is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from harness.capacity import search
from harness.capacity.slo import per_second
from harness.trial import Data

# What the scenarios of such Trials are called by.
PROBES, EFFICIENCY, PLANNED, OVERLOADED = "capacity-", "efficiency-", "plan-", "overload-"
LIMITS = {"cpu": "CPU", "none": "nothing that was seen"}

Text = Annotated[str, Field(max_length=2000)]
Word = Annotated[str, Field(max_length=128)]
Rate = Annotated[float, Field(ge=0)]


class Step(Data):
    """One Trial of a search: what was asked, what came, what follows. Times in ms, of responses."""

    rate_rps: Rate
    duration_s: Rate
    purpose: Word
    offered: int
    bad: int
    completed_rps: Rate
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    growing: bool = False
    fault: Text = ""
    concluded: Text = ""


class Point(Data):
    """Of the curve: one rate, the median of its trials' quantile, the least and the greatest, and what they mean."""

    rate_rps: Rate
    trials: int
    ms: float | None
    low_ms: float | None = None
    high_ms: float | None = None
    verdict: Word = ""


class Forecast(Data):
    """What a model says of one rate; the interval is of its p99."""

    rate_rps: Rate
    throughput_rps: Rate
    p50_ms: float | None = None
    p99_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    extrapolated: bool = False


class Modelled(Data):
    """A model of one variant, and the rates that it was fitted to. why: how it was chosen, in words."""

    name: Word
    why: Text = ""
    fitted_rps: tuple[Rate, ...] = ()
    forecasts: Annotated[tuple[Forecast, ...], Field(max_length=200)] = ()


class Answer(Data):
    """How much one variant carries under one SLO: what `gatebench capacity --json` prints of it."""

    variant: Word
    scenario: Word
    slo: Word
    sustained_rps: Rate | None
    low: Rate | None
    high: Rate | None
    smallest_failed_rps: Rate | None
    limited_by: Word
    reason: Text
    seconds: Rate
    steps: Annotated[tuple[Step, ...], Field(max_length=2000)]
    outcome: Literal["found", "impossible", "generator", "cliff", "budget", "at-most-asked"]
    law: Text = ""  # of what limits it, in a sentence
    curve: Annotated[tuple[Point, ...], Field(max_length=2000)] = ()
    model: Modelled | None = None
    likely_rps: Rate | None = None  # the best guess; `sustained_rps` is below it, so as not to promise too much


class Row(Data):
    """One row of a plan: heads in `Document.plan_heads`."""

    cells: Annotated[tuple[Text, ...], Field(max_length=40)]


class Document(Data):
    """`capacity.json`. plan: its table, as text; confirmations: a line a run at a planned point."""

    format: Literal[1] = 1
    answers: Annotated[tuple[Answer, ...], Field(max_length=500)] = ()
    price_per_core_hour: Rate | None = None
    plan_question: Text = ""
    plan_heads: Annotated[tuple[Word, ...], Field(max_length=40)] = ()
    plan: Annotated[tuple[Row, ...], Field(max_length=500)] = ()
    confirmations: Annotated[tuple[Text, ...], Field(max_length=500)] = ()


def document_of(manifest: Mapping[str, Any]) -> Document | None:
    """What a run's manifest holds of a capacity search; None where there was none, or it can't be read."""
    try:
        return Document.model_validate(manifest["capacity"])
    except (KeyError, ValidationError):
        return None


def is_probe(scenario: str) -> bool:
    """Whether Trials of this scenario were asked by a search, so that their levels are no cells of a comparison."""
    return scenario.startswith((PROBES, EFFICIENCY, PLANNED, OVERLOADED))


def answer_of(
    variant: str,
    scenario: str,
    slo: str,
    found: search.Found,
    curve: Sequence[Point] = (),
    model: Modelled | None = None,
) -> Answer:
    """A search's end as data."""
    return Answer(
        variant=variant,
        scenario=scenario,
        slo=slo,
        sustained_rps=found.sustained_rps,
        low=found.low,
        high=found.high,
        smallest_failed_rps=found.smallest_failed_rps,
        limited_by=found.limited_by,
        reason=found.reason[:2000],
        seconds=round(found.seconds, 1),
        steps=tuple(map(_step, found.steps)),
        outcome=found.outcome,
        law=next((one.seen.reason for one in reversed(found.steps) if _tells(found, one)), "")[:2000],
        curve=tuple(curve),
        model=model,
        likely_rps=found.likely_rps,
    )


def _tells(found: search.Found, step: search.Step) -> bool:
    """Whether a Trial names what limits the server, near the rate that is answered."""
    near = found.sustained_rps is None or step.ask.rate_rps >= 0.8 * found.sustained_rps
    return near and found.limited_by not in ("none", "generator") and step.seen.limited_by == found.limited_by


def _step(step: search.Step) -> Step:
    ask, seen = step.ask, step.seen
    times = {f"p{q * 100:g}_ms": round(ms, 3) for q, ms in seen.quantiles_ms.items() if q in (0.5, 0.9, 0.99)}
    return Step.model_validate(
        {
            "rate_rps": ask.rate_rps,
            "duration_s": ask.duration_s,
            "purpose": ask.purpose,
            "offered": seen.offered,
            "bad": seen.bad,
            "completed_rps": seen.completed_rps,
            "growing": seen.growing,
            "fault": seen.fault[:2000],
            "concluded": step.concluded[:2000],
            **times,
        }
    )


def json_rows(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """What `--json` prints."""
    return [answer.model_dump(mode="json") for answer in answers]


# -- in words --------------------------------------------------------------------------------------------------------


def promise(slo: str) -> str:
    """`p99<200ms,errors<0.1%` as people write it: p99 < 200 ms and errors < 0.1 %."""
    shown = slo.replace("<", " < ").replace("ms", " ms").replace("%", " %")
    return " and ".join(part.strip() for part in shown.split(","))


def sentence(answer: Answer) -> str:
    """The answer in a line: `sustains 412 [398, 431] req/s at p99 < 200 ms, limited by CPU: …`."""
    slo, why = promise(answer.slo), f": {answer.reason}" if answer.reason else ""
    if answer.sustained_rps is None:
        told = {
            "impossible": f"holds {slo} at no rate",
            "generator": f"can't be told at {slo}, as the generator was not up to it",
            "budget": f"can't be told at {slo} in the time that was given",
        }
        return f"{answer.variant} {told.get(answer.outcome, f'has no sustained rate at {slo}')}{why}"
    told_rate = f"{answer.variant} sustains {per_second(answer.sustained_rps)} {bounds(answer)} req/s at {slo}"
    limit = LIMITS.get(answer.limited_by, answer.limited_by)
    match answer.outcome:
        case "found":
            return f"{told_rate}, limited by {limit}" + (f": {answer.law}" if answer.law else "")
        case "at-most-asked":
            return f"{told_rate}, and more was not asked for{why}"
        case "cliff":
            return f"{told_rate}, and falls off a cliff above it{why}"
        case "generator":
            return f"{told_rate}, and more can't be told, as the generator was not up to it{why}"
        case _:
            return f"{told_rate}, less closely than asked{why}"


def bounds(answer: Answer) -> str:
    """The interval of the sustained rate; ~ where there is none."""
    known = answer.low is not None and answer.high is not None
    return f"[{per_second(answer.low or 0)}, {per_second(answer.high or 0)}]" if known else "~"


def spent(answer: Answer) -> str:
    """Time and trials that an answer took, and what it rests on."""
    took = f"{answer.seconds:.0f} s, {len(answer.steps)} trial{'s' * (len(answer.steps) != 1)}"
    return f"{took}: {answer.reason}" if answer.outcome == "found" and answer.reason else took
