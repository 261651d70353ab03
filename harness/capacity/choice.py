"""Which model does a server follow? In: its Levels. Out: the one that best predicts levels which no fit has seen.

Pure. A fit gets the levels up to 60 % of the highest rate and predicts the two highest; how well it fits is never asked
(universal scalability laws look like 2 to 5 % in sample and 7 to 31 % beyond). Then the best is fitted anew to all
levels, and the errors of its predictions become the interval of the next one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.capacity.measured import Level
from harness.capacity.models import CANDIDATES, Fit, Model
from harness.errors import GatebenchError, NothingUsable
from harness.intervals import CONFIDENCE, t_of

FITTED = 0.6  # of the highest rate: up to here a fit sees the levels
HELD_OUT = 2
FEWEST_FITTED = 1  # a law of one number needs no more, and the held-out levels tell whether that was enough
MOST_THROUGHPUT_ERROR, MOST_P99_ERROR = 0.05, 0.20


@dataclass(frozen=True)
class Held:
    """One held-out level: what was measured and what was predicted. p99_ms None: overloaded, so not asked.

    inside: the predicted p99 is in the interval that was measured.
    """

    rate_rps: float
    throughput_rps: float
    predicted_rps: float
    p99_ms: float | None
    predicted_ms: float | None
    inside: bool

    @property
    def throughput_error(self) -> float:
        """Relative: +0.02 is 2 % too high."""
        return self.predicted_rps / self.throughput_rps - 1

    @property
    def p99_error(self) -> float | None:
        """Relative; infinite where a line was predicted that only grows, and there was none."""
        if self.p99_ms is None:
            return None
        return math.inf if self.predicted_ms is None else self.predicted_ms / self.p99_ms - 1

    @property
    def holds(self) -> bool:
        """Throughput within 5 %, p99 within 20 % or inside the measured interval."""
        p99 = abs(self.p99_error or 0.0)
        return abs(self.throughput_error) <= MOST_THROUGHPUT_ERROR and (p99 <= MOST_P99_ERROR or self.inside)


@dataclass(frozen=True)
class Tested:
    """A candidate and its predictions of the held-out levels. rejected: why; empty when it holds."""

    name: str
    held: tuple[Held, ...]
    rejected: str

    @property
    def score(self) -> float:
        """Root mean square of the errors, each in units of what is allowed; infinite without predictions."""
        if not self.held:
            return math.inf
        throughputs = [held.throughput_error / MOST_THROUGHPUT_ERROR for held in self.held]
        p99s = [held.p99_error / MOST_P99_ERROR for held in self.held if held.p99_error is not None]
        return math.sqrt(sum(error * error for error in (*throughputs, *p99s)) / len(self.held))


@dataclass(frozen=True, eq=False)
class Choice:
    """The best model, fitted to all levels; None when every candidate is rejected. tested: all of them, best first."""

    model: Model | None
    tested: tuple[Tested, ...]
    fitted_rps: tuple[float, ...]
    held_rps: tuple[float, ...]

    @property
    def said(self) -> str:
        """The choice in one sentence."""
        best = self.tested[0]
        if self.model is None:
            return f"no model predicts the held-out levels; the nearest, {best.name}: {best.rejected}"
        worst = max((abs(held.p99_error) for held in best.held if held.p99_error is not None), default=0.0)
        throughput = max(abs(held.throughput_error) for held in best.held)
        levels = " and ".join(f"{rate:.4g}/s" for rate in self.held_rps)
        return (
            f"{best.name} ({self.model.said}) predicted {levels}, which it had not seen, within {throughput:.1%} of "
            f"the throughput and {worst:.0%} of p99"
        )


def chosen(levels: Sequence[Level]) -> Choice:
    """The model that predicts the two highest levels best, from those up to 60 % of the highest rate.

    Of several overloads only the lowest counts: they all have the same throughput, and no response time to predict.
    Raises NothingUsable with too few levels for that.
    """
    ordered = sorted(levels, key=lambda level: level.rate_rps)
    while len(ordered) > 1 and not ordered[-2].served:
        ordered.pop()
    fitted = [level for level in ordered if level.rate_rps <= FITTED * ordered[-1].rate_rps]
    held = [level for level in ordered[-HELD_OUT:] if level not in fitted]
    named = [level for level in held if level.served and level.ms(0.99) is not None]
    if len(fitted) < FEWEST_FITTED or len(held) < HELD_OUT or not named:
        raise NothingUsable(
            f"{len(levels)} levels cannot judge a model: {FEWEST_FITTED} or more up to {FITTED:.0%} of the highest "
            f"rate are fitted, {HELD_OUT} above with 662 samples and more are predicted; measure at 20, 40, 60, 80 and "
            "95 % of the capacity"
        )
    tested = [_tested_on(name, fit, fitted, held) for name, fit in CANDIDATES.items()]
    tested.sort(key=lambda one: (bool(one.rejected), one.score))
    model = None if tested[0].rejected else _refitted(tested[0], ordered, held)
    rates = [tuple(level.rate_rps for level in some) for some in (fitted, held)]
    return Choice(model, tuple(tested), rates[0], rates[1])


def _tested_on(name: str, fit: Fit, fitted: Sequence[Level], held: Sequence[Level]) -> Tested:
    try:
        model = fit(fitted)
    except GatebenchError as error:
        return Tested(name, (), str(error))
    seen = tuple(_held(model, level) for level in held)
    return Tested(name, seen, next((_why(one) for one in seen if not one.holds), ""))


def _held(model: Model, level: Level) -> Held:
    found = model.predict(level.rate_rps)
    inside = (
        found.p99_ms is not None
        and level.p99_low_ms is not None
        and level.p99_high_ms is not None
        and level.p99_low_ms <= found.p99_ms <= level.p99_high_ms
    )
    p99_ms = level.ms(0.99) if level.served else None
    return Held(level.rate_rps, level.throughput_rps, found.throughput_rps, p99_ms, found.p99_ms, inside)


def _why(held: Held) -> str:
    """What is wrong with a prediction that does not hold."""
    if abs(held.throughput_error) > MOST_THROUGHPUT_ERROR:
        return f"at {held.rate_rps:.4g}/s it predicts {held.predicted_rps:.4g}/s, measured {held.throughput_rps:.4g}/s"
    predicted = "an endless line" if held.predicted_ms is None else f"p99 {held.predicted_ms:.3g} ms"
    return f"at {held.rate_rps:.4g}/s it predicts {predicted}, measured {held.p99_ms:.3g} ms"


def _refitted(tested: Tested, levels: Sequence[Level], held: Sequence[Level]) -> Model:
    """The model of all levels, with what its predictions were off by as the interval of the next one."""
    measured = [
        math.log(level.p99_high_ms / level.p99_low_ms) / 2 for level in held if level.p99_low_ms and level.p99_high_ms
    ]
    p99s = [math.log1p(one.p99_error) for one in tested.held if one.p99_error is not None]
    throughputs = [math.log1p(one.throughput_error) for one in tested.held]
    return replace(
        CANDIDATES[tested.name](levels),
        p99_doubt=max([_doubt(p99s), *measured]) if p99s else None,
        throughput_doubt=_doubt(throughputs),
    )


def _doubt(errors: Sequence[float]) -> float:
    """Student's t × their root mean square: errors about 0, of which there are few (Geisser, Predictive Inference)."""
    return t_of(CONFIDENCE, len(errors)) * math.sqrt(sum(error * error for error in errors) / len(errors))
