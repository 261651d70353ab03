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

TWIN = "/aa"  # a variant of this ending is the same one measured once more: what differs between both is noise


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


def values_of(recordings: Iterable[Recording], metrics: Iterable[str] = METRICS) -> Values:
    """Every cell's values. Whole calls only: parts of streams and sockets follow from them.

    A quantile is left out where the whole cell has too few samples to name it.
    """
    trials: dict[Cell, dict[str, dict[int, Recording]]] = {}
    for recording in usable(recordings):
        trial = recording.trial
        for name in dict.fromkeys(part.row for part in trial.scenario.mix):
            cell = Cell(trial.scenario.name, trial.scenario.arrivals, trial.level, trial.lens, name)
            trials.setdefault(cell, {}).setdefault(trial.variant, {})[trial.repeat] = recording
    return {
        (cell, metric): {variant: _measured(METRICS[metric], blocks, cell.endpoint) for variant, blocks in some.items()}
        for cell, some in sorted(trials.items())
        for metric in metrics
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
    return noise_floor(
        [
            (variants[name.removesuffix(TWIN)].blocks, each.blocks)
            for name, each in variants.items()
            if name.endswith(TWIN) and name.removesuffix(TWIN) in variants
        ]
    )


def without_twins(variants: Mapping[str, Measured]) -> dict[str, Measured]:
    """The variants that were asked for."""
    return {name: each for name, each in variants.items() if not name.endswith(TWIN)}


def series_of(values: Values) -> dict[str, list[float]]:
    """What `paired.enough` looks at: name → logarithms by block. Of a closed load throughputs, of an open one medians;
    each variant's ratio to the first of its cell, or where it is alone, its own values."""
    found: dict[str, list[float]] = {}
    for (cell, metric), variants in values.items():
        if metric != ("throughput_rps" if cell.arrivals == "closed" else "p50_ms"):
            continue
        (first, base), *others = without_twins(variants).items()
        where = f"{cell.scenario} at {cell.level:g}, {cell.endpoint}"
        for name, each in others:
            found[f"{name} ÷ {first} ({where})"] = log_ratios(base.blocks, each.blocks)
        if not others:
            found[f"{first} ({where})"] = [math.log(value) for value in base.blocks.values() if value > 0]
    return found
