"""What comparisons are made of. In: Recordings. Out: each cell's values by variant and block.

A block is one repeat of a plan: there every variant met the same schedule, so values of one block may be paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.histogram import Histogram, samples_needed
from harness.paired import log_ratios
from harness.physics import VOID, judge
from harness.ranking import noise_floor
from harness.recording import Recording
from harness.trial import TWIN, is_twin


class Cell(NamedTuple):
    """What was asked. Variants may be compared inside one only: one scenario, load, lens and endpoint."""

    scenario: str
    arrivals: str
    level: float
    lens: str
    endpoint: str


class Metric(NamedTuple):
    """of: the pooled value of some Trials; None when they cannot give it. needs: samples of the whole cell."""

    higher_is_better: bool
    of: Callable[[Sequence[Recording], str], float | None]
    needs: int = 1


class Measured(NamedTuple):
    """One variant in one cell, by one metric: each block's own value, and that of all blocks pooled."""

    blocks: Mapping[int, float]
    pooled: float | None


Values = Mapping[tuple[Cell, str], Mapping[str, Measured]]  # (cell, metric) → variant → values


def _throughput(trials: Sequence[Recording], name: str) -> float | None:
    return sum(trial.throughput_rps(name) for trial in trials) / len(trials) if trials else None


def _quantile(q: float) -> Metric:
    def of(trials: Sequence[Recording], name: str) -> float | None:
        pool = Histogram.merged(trial.histogram(name, "response") for trial in trials)
        return pool.quantile_us(q) / 1000 if pool.n else None

    return Metric(False, of, samples_needed(q))


METRICS: Mapping[str, Metric] = {
    "throughput_rps": Metric(True, _throughput),
    "p50_ms": _quantile(0.5),
    "p99_ms": _quantile(0.99),
}


def usable(recordings: Iterable[Recording]) -> list[Recording]:
    """Those that are not VOID; of several attempts at one Trial, the last."""
    kept = [recording for recording in recordings if judge(recording).name != VOID]
    kept.sort(key=lambda recording: recording.head.attempt)
    last = {(recording.trial.lens, recording.trial.key): recording for recording in kept}
    return list(last.values())


def values_of(
    recordings: Iterable[Recording], metrics: Iterable[str] = tuple(METRICS), *, parts: bool = False
) -> Values:
    """Every cell's values, variants by name. Whole calls only; parts: those of streams and sockets, too.

    A quantile is left out where the whole cell has too few samples to name it.
    """
    trials: dict[Cell, dict[str, dict[int, Recording]]] = {}
    for recording in usable(recordings):
        trial = recording.trial
        asked = [part.row for part in trial.scenario.mix]
        for name in dict.fromkeys([*asked, *(recording.names if parts else ())]):
            cell = Cell(trial.scenario.name, trial.scenario.arrivals, trial.level, trial.lens, name)
            trials.setdefault(cell, {}).setdefault(trial.variant, {})[trial.repeat] = recording
    return {
        (cell, metric): {
            variant: _measured(METRICS[metric], blocks, cell.endpoint) for variant, blocks in sorted(some.items())
        }
        for cell, some in sorted(trials.items())
        for metric in metrics
    }


def together(many: Iterable[Values]) -> Values:
    """Values of different blocks of one Run as one, without those pooled over all blocks: for `series_of`."""
    found: dict[tuple[Cell, str], dict[str, dict[int, float]]] = {}
    for values in many:
        for key, variants in values.items():
            for name, measured in variants.items():
                found.setdefault(key, {}).setdefault(name, {}).update(measured.blocks)
    return {
        key: {name: Measured(blocks, None) for name, blocks in sorted(variants.items())}
        for key, variants in sorted(found.items())
    }


def _measured(metric: Metric, trials: Mapping[int, Recording], name: str) -> Measured:
    every = list(trials.values())
    samples = sum(trial.histogram(name, "response").n for trial in every) if metric.needs > 1 else metric.needs
    if samples < metric.needs:
        return Measured({}, None)
    each = {block: metric.of([trial], name) for block, trial in sorted(trials.items())}
    return Measured({block: value for block, value in each.items() if value is not None}, metric.of(every, name))


def floor_of(variants: Mapping[str, Measured]) -> float:
    """How far apart the identical pairs of a cell were, as a logarithm; 0 where there is none."""
    return noise_floor([(one.blocks, twin.blocks) for one, twin in _pairs(variants)])


def floors_of(values: Values) -> dict[tuple[Cell, str], float]:
    """The noise floor of every cell by every metric: that of its own identical pair; where it has none, the largest of
    the session's, of the same metric and kind of load; 0 where the session has none."""
    session: dict[tuple[bool, str], float] = {}
    for (cell, metric), variants in values.items():
        kind = (cell.arrivals == "closed", metric)
        session[kind] = max(session.get(kind, 0.0), floor_of(variants))
    return {
        (cell, metric): floor_of(variants) if _pairs(variants) else session[cell.arrivals == "closed", metric]
        for (cell, metric), variants in values.items()
    }


def noise_of(values: Values) -> dict[str, float]:
    """Metric → how far apart identical servers were at the most, as a share (0.02: 2 %); of metrics with a pair."""
    found: dict[str, float] = {}
    for (_, metric), variants in values.items():
        if any(len(log_ratios(one.blocks, twin.blocks)) > 1 for one, twin in _pairs(variants)):
            found[metric] = max(found.get(metric, 0.0), math.expm1(floor_of(variants)))
    return found


def twins_of(values: Values) -> list[str]:
    """The variants that were measured twice."""
    return sorted({name.removesuffix(TWIN) for some in values.values() for name in some if is_twin(name)})


def _pairs(variants: Mapping[str, Measured]) -> list[tuple[Measured, Measured]]:
    return [
        (variants[name.removesuffix(TWIN)], each)
        for name, each in variants.items()
        if is_twin(name) and name.removesuffix(TWIN) in variants
    ]


def without_twins(variants: Mapping[str, Measured]) -> dict[str, Measured]:
    """The variants that were asked for."""
    return {name: each for name, each in variants.items() if not is_twin(name)}


def series_of(values: Values) -> dict[str, list[float]]:
    """What `paired.enough` looks at: name → logarithms by block. Of a closed load throughputs, of an open one medians;
    each variant's ratio to the first of its cell, or where it is alone, its own values."""
    found: dict[str, list[float]] = {}
    for (cell, metric), variants in values.items():
        if metric != ("throughput_rps" if cell.arrivals == "closed" else "p50_ms"):
            continue
        if not (asked := without_twins(variants)):
            continue
        (first, base), *others = asked.items()
        where = f"{cell.scenario} at {cell.level:g}, {cell.endpoint}"
        for name, each in others:
            found[f"{name} ÷ {first} ({where})"] = log_ratios(base.blocks, each.blocks)
        if not others:
            found[f"{first} ({where})"] = [math.log(value) for value in base.blocks.values() if value > 0]
    return found
