"""What a model makes of a search's own Trials. In: its Recordings. Out: the model and its curve, as data. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.capacity.choice import Choice, chosen
from harness.capacity.measured import EXTRAPOLATED, levels_of
from harness.capacity.models import Model
from harness.capacity.told import Forecast, Modelled
from harness.errors import GatebenchError
from harness.recording import Recording

POINTS = 48  # of a curve
NONE = "none"


def modelled(recordings: Sequence[Recording], upto_rps: float | None) -> Modelled | None:
    """The model that predicts best what its fit did not see, and its curve, a little beyond what was tested.

    upto_rps: rates above it are left out: overloads say how long they lasted. None where too few levels were tried.
    """
    try:
        choice = chosen(levels_of(one for one in recordings if upto_rps is None or one.trial.level <= upto_rps))
    except GatebenchError:
        return None
    return told_of(choice)


def told_of(choice: Choice) -> Modelled:
    """A choice of models as data."""
    if choice.model is None:
        return Modelled(name=NONE, why=choice.said[:2000], fitted_rps=choice.fitted_rps)
    rates = (*choice.fitted_rps, *choice.held_rps)
    return Modelled(
        name=choice.model.name,
        why=choice.said[:2000],
        fitted_rps=choice.fitted_rps,
        forecasts=forecasts(choice.model, min(rates), 1.1 * EXTRAPOLATED * max(rates)),
    )


def forecasts(model: Model, low_rps: float, high_rps: float) -> tuple[Forecast, ...]:
    """What it says of rates between two, evenly apart."""
    return tuple(_forecast(model, float(rate)) for rate in np.linspace(low_rps, high_rps, POINTS))


def _forecast(model: Model, rate_rps: float) -> Forecast:
    found = model.predict(rate_rps)
    return Forecast(
        rate_rps=rate_rps,
        throughput_rps=found.throughput_rps,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        low_ms=found.low_ms,
        high_ms=found.high_ms,
        extrapolated=found.extrapolated,
    )
