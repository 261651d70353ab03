"""Is the new one faster than the old? In: two Runs, or variants of one. Out: a Difference a cell, metric and variant.

Variants of one Run met the same schedule in the same blocks, so their values are paired. Two Runs were measured at
different times: their Trials are compared as independent samples, and as ratios to a reference variant, where one is
named, which takes out what changed for both. All differences by one metric are one family (`harness.paired`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.blocks import METRICS, Cell, Measured, Values, floors_of, without_twins
from harness.errors import UsageError
from harness.lenses import the_one_of
from harness.paired import BAND, FASTER, SAME, SLOWER, UNKNOWN, Claim, Ratio, claims, log_ratios, paired, unpaired
from harness.recording import Recording

BY_NATURE = ("source",)  # the facts that two runs are compared for; every other one has to be the same
# of a scenario: what may differ between two runs that asked the same at one level
NO_QUESTION = {"question", "repeats", "variants", "users", "rates", "slo", "aa"}
NO_REFERENCE = "measured at different times: what changed on the machine meanwhile is part of the difference"


@dataclass(frozen=True)
class Difference:
    """One row of a comparison. ratio: new ÷ base, with its bounds, over blocks; None = not available."""

    variant: str
    scenario: str
    endpoint: str
    metric: str
    base: float | None
    new: float | None
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str
    level: float
    arrivals: str
    lens: str
    blocks: int
    regression: bool
    reason: str


@dataclass(frozen=True)
class Pair:
    """What is to be compared: a variant's values in one cell by one metric, and their ratio."""

    cell: Cell
    metric: str
    variant: str
    base: Measured | None
    new: Measured | None
    ratio: Ratio
    floor: float = 0.0
    note: str = ""


# -- may they be compared? -------------------------------------------------------------------------------------------


def obstacles(base: Iterable[Recording], new: Iterable[Recording]) -> list[str]:
    """The facts of the machines that differ, each with both values; none: the Runs may be compared."""
    old, fresh = _facts(base), _facts(new)
    return [
        f"{name}: {_shown(old.get(name))} → {_shown(fresh.get(name))}"
        for name in sorted(old.keys() | fresh.keys(), key=str.lower)
        if name not in BY_NATURE and (old.get(name) != fresh.get(name) or len(old.get(name, ())) > 1)
    ]


def _facts(recordings: Iterable[Recording]) -> dict[str, frozenset[str]]:
    """Each fact's values over a Run: more than one when the machine changed in between. Packages one by one."""
    found: dict[str, set[str]] = {}
    for recording in recordings:
        head = recording.head
        facts = {name: value for name, value in head.facts.items() if name != "versions"}
        versions = head.facts.get("versions")
        facts |= {
            f"version of {name}": value for name, value in (versions if isinstance(versions, dict) else {}).items()
        }
        facts |= {"CPUs of the server": list(head.server_cpus), "CPUs of the generator": list(head.generator_cpus)}
        for name, value in facts.items():
            found.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    return {name: frozenset(values) for name, values in found.items()}


def _shown(values: Iterable[str] | None) -> str:
    return " and ".join(sorted(value[:60] for value in values)) if values else "not known"


def check(base: Sequence[Recording], new: Sequence[Recording], *, across_machines: bool = False) -> list[str]:
    """The facts that differ. Raises UsageError, which names them, where numbers do not stand side by side for them."""
    asked: dict[tuple[str, float], set[str]] = {}
    for recording in (*base, *new):
        trial = recording.trial
        question = trial.scenario.model_dump_json(
            exclude={"question", "repeats", "variants", "users", "rates", "slo", "aa"}
        )
        asked.setdefault((trial.scenario.name, trial.level), set()).add(question)
    the_one_of(recording.trial.lens for recording in (*base, *new))
    if changed := sorted({name for (name, _), questions in asked.items() if len(questions) > 1}):
        raise UsageError(f"the runs asked different things under one name: {', '.join(changed)}; measure again")
    found = obstacles(base, new)
    if found and not across_machines:
        raise UsageError(f"the runs differ in facts: {'; '.join(found)} (--across-machines compares them all the same)")
    return found


# -- what is compared with what --------------------------------------------------------------------------------------


def of_variants(values: Values, base: str, new: Iterable[str]) -> list[Pair]:
    """Variants of one Run against one of them, in the same blocks."""
    wanted = list(new)
    pairs, floors = [], floors_of(values)
    for (cell, metric), variants in values.items():
        floor = floors[cell, metric]
        for name in wanted:
            old, fresh = variants.get(base), variants.get(name)
            if old or fresh:
                note = _absent(old, base) or _absent(fresh, name)
                ratio = paired(old.blocks, fresh.blocks) if old and fresh else Ratio(0)
                pairs.append(Pair(cell, metric, name, old, fresh, ratio, floor, note))
    return pairs


def of_runs(base: Values, new: Values, reference: str | None = None) -> list[Pair]:
    """Each variant of two Runs against itself; where a reference is named, by its ratio to that."""
    pairs, old_floors, new_floors = [], floors_of(base), floors_of(new)
    for cell, metric in sorted(base.keys() | new.keys()):
        before, after = base.get((cell, metric), {}), new.get((cell, metric), {})
        floor = max(old_floors.get((cell, metric), 0.0), new_floors.get((cell, metric), 0.0))
        for name in sorted(without_twins(before).keys() | without_twins(after).keys()):
            old, fresh = before.get(name), after.get(name)
            note = _absent(old, "the base run") or _absent(fresh, "the new run")
            ratio = Ratio(0)
            if old and fresh and reference in (None, name):
                ratio = unpaired(list(old.blocks.values()), list(fresh.blocks.values()))
            elif old and fresh:
                ratio = unpaired(_to(reference, before, old), _to(reference, after, fresh))
            pairs.append(Pair(cell, metric, name, old, fresh, ratio, floor, note))
    return pairs


def caveat(reference: str | None) -> str:
    """What all the differences of two Runs have in common."""
    if reference is None:
        return f"The runs were {NO_REFERENCE}."
    return f"As ratios to {reference} of the same run; {reference} itself was {NO_REFERENCE}."


def _absent(measured: Measured | None, where: str) -> str:
    if measured is None:
        return f"no usable trial in {where}"
    return "" if measured.blocks else f"too few samples in {where}"


def _to(reference: str | None, variants: Mapping[str, Measured], measured: Measured) -> list[float]:
    """Block by block, the ratio to the reference; nothing where that is not there."""
    beside = variants.get(reference or "")
    return [math.exp(log) for log in log_ratios(beside.blocks, measured.blocks)] if beside else []


# -- the answer ------------------------------------------------------------------------------------------------------


def differences(pairs: Iterable[Pair], *, tolerance: float = 0.0, band: float = BAND) -> list[Difference]:
    """The rows, in order of scenario, load, endpoint, variant and metric.

    A regression is a claim, "slower", whose size is beyond the tolerance (0.05: 5 %); so is an answer that is gone:
    the base had a usable cell, and the new one has none.
    """
    families: dict[str, list[Pair]] = {}
    for pair in pairs:
        families.setdefault(pair.metric, []).append(pair)
    rows = []
    for metric, family in families.items():
        made = claims(
            [pair.ratio for pair in family],
            higher_is_better=METRICS[metric].higher_is_better,
            band=band,
            floors=[pair.floor for pair in family],
        )
        rows += [_row(pair, claim, tolerance) for pair, claim in zip(family, made, strict=True)]
    order = list(METRICS)
    return sorted(rows, key=lambda row: (row.scenario, row.level, row.endpoint, row.variant, order.index(row.metric)))


def _row(pair: Pair, claim: Claim, tolerance: float) -> Difference:
    cell, ratio = pair.cell, claim.ratio
    slower = claim.verdict == SLOWER and abs(ratio.mean or 0.0) > math.log1p(tolerance)
    gone = bool(pair.base and pair.base.pooled is not None and (pair.new is None or pair.new.pooled is None))
    said = pair.note if ratio.mean is None else "; ".join(filter(None, (claim.reason, pair.note)))
    return Difference(
        variant=pair.variant,
        scenario=cell.scenario,
        endpoint=cell.endpoint,
        metric=pair.metric,
        base=pair.base.pooled if pair.base else None,
        new=pair.new.pooled if pair.new else None,
        ratio=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        verdict=claim.verdict,
        level=cell.level,
        arrivals=cell.arrivals,
        lens=cell.lens,
        blocks=ratio.blocks,
        regression=slower or gone,
        reason=said or claim.reason,
    )


def rows_of(found: Iterable[Difference]) -> list[dict[str, Any]]:
    """For `--json`."""
    return [asdict(row) for row in found]


def regressions(found: Iterable[Difference]) -> list[Difference]:
    return [row for row in found if row.regression]


WORDS = {FASTER: "faster", SLOWER: "slower", SAME: "same", UNKNOWN: "~"}


HEADS = ("scenario", "load", "endpoint", "variant", "metric", "base", "new", "new ÷ base", "verdict")


def summary(found: Iterable[Difference]) -> str:
    """How many are what, in one sentence."""
    rows = list(found)
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in WORDS}
    worse = len(regressions(rows))
    said = ", ".join(f"{count} {'not known' if verdict == UNKNOWN else verdict}" for verdict, count in counts.items())
    return f"{len(rows)} comparisons: {said}. {worse} regression{'s' * (worse != 1)}."


def markdown(found: Iterable[Difference], title: str = "") -> str:
    """A table for a pull request: what changed first, in one sentence, then every row; `~` where it can't tell."""
    rows = list(found)
    return "".join(
        [
            f"### {code(title)}\n\n" if title else "",
            f"{summary(rows)}\n\n",
            table(HEADS, map(_line, rows)),
            "\nRatios with 95 % intervals, by Holm's correction wider where there are many; "
            "no interval, no claim (`~`).\n",
        ]
    )


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, ["---"] * len(heads), *lines))


def _line(row: Difference) -> list[str]:
    """Names as code; a slower one stands out."""
    cells = line(row)
    verdict = cells[8].replace(SLOWER, f"**{SLOWER}**")
    return [*map(code, cells[:5]), *cells[5:8], verdict]


def line(row: Difference) -> tuple[str, ...]:
    """One row under HEADS, as plain text."""
    bounds = interval(row.low, row.high)
    ratio = "n/a" if row.ratio is None else f"{row.ratio:.3f} {bounds}"
    verdict = WORDS[row.verdict] + (" ⚠" if row.regression else "")
    names = (row.scenario, load_of(row.arrivals, row.level), row.endpoint, row.variant, row.metric)
    return (*names, number(row.base), number(row.new), ratio, verdict)


def load_of(arrivals: str, level: float) -> str:
    return f"{level:,g} users" if arrivals == "closed" else f"{level:,g}/s {arrivals}"


def interval(low: float | None, high: float | None) -> str:
    """Of a ratio."""
    return "~" if low is None or high is None else f"[{low:.3f} – {high:.3f}]"


def number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"


def code(text: str) -> str:
    """As code, in which Markdown runs nothing; what would end the code or the cell is taken out."""
    return f"`{plain(text)[:100]}`"


def plain(text: str) -> str:
    """Without what Markdown or HTML would run."""
    return " ".join(re.sub(r"[`|\\<>\[\]]", " ", text).split())
