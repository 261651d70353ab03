"""What users were promised, as text and back. In: "p99<200ms,errors<0.1%". Out: an `Slo`. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from harness.errors import UsageError
from harness.trial import Slo

PROMISE = re.compile(r"\s*([a-z0-9.]+)\s*(?:<=|<|=|≤)\s*([0-9]*\.?[0-9]+)\s*(ms|s|%|)\s*", re.IGNORECASE)
FIELDS = {"p50": "p50_ms", "p90": "p90_ms", "p99": "p99_ms", "errors": "errors"}
QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
HOW = "write it like p99<200ms,errors<0.1%"
PARTS = (0.25, 0.5, 0.75, 1.0)  # of a limit: how the tail falls towards it tells more than its last hundredth


def parsed(text: str) -> Slo:
    """An SLO from words like "p99<200ms,errors<0.1%".

    A percentile (p50, p90 or p99 of the response time) is given in ms or s; errors as a share of the arrivals, "0.001"
    or "0.1%". "<" and "=" mean the same: at most. UsageError: what is wrong, in one line.
    """
    promised: dict[str, float] = {}
    for part in text.split(","):
        field, limit = _promise(part)
        if field in promised:
            raise UsageError(f"--slo {text!r}: {part.strip()!r} is promised a second time; keep one of them")
        promised[field] = limit
    return Slo.model_validate(promised)


def _promise(part: str) -> tuple[str, float]:
    """One promise: the field of an `Slo`, and its limit in that field's unit."""
    match = PROMISE.fullmatch(part)
    if match is None:
        raise UsageError(f"--slo: {part.strip()!r} is no promise; {HOW}")
    name, number, unit = match[1].lower(), float(match[2]), match[3].lower()
    field = FIELDS.get(name)
    if field is None:
        raise UsageError(f"--slo: {name!r} can't be promised; there are {', '.join(FIELDS)}")
    if field == "errors":
        share = number / 100 if unit == "%" else number
        if unit not in ("", "%") or share > 1:
            raise UsageError(f"--slo: {part.strip()!r} is no share of the requests; write errors<0.1% or errors<0.001")
        return field, share
    if unit not in ("ms", "s"):
        raise UsageError(f"--slo: {part.strip()!r} needs its unit; write {name}<{number:g}ms or {name}<{number:g}s")
    limit_ms = number * 1000 if unit == "s" else number
    if not 0 < limit_ms < math.inf:
        raise UsageError(f"--slo: {part.strip()!r}: no request is answered in {number:g} {unit}; ask for more than 0")
    return field, limit_ms


def said(slo: Slo) -> str:
    """The SLO in its canonical words, which `parsed` reads back; an empty one promises nothing."""
    words = [f"{name}<{limit:.12g}ms" for name, limit in zip(("p50", "p90", "p99"), _limits(slo), strict=True) if limit]
    if slo.errors is not None:
        words.append(f"errors<{slo.errors * 100:.12g}%")
    return ",".join(words) or "nothing promised"


def limits(slo: Slo) -> dict[float, float]:
    """Quantile, as a share (0.99) → the response time that it may have at most, in ms."""
    return {quantile: limit for quantile, limit in zip(QUANTILES.values(), _limits(slo), strict=True) if limit}


def thresholds(slos: Sequence[Slo]) -> tuple[float, ...]:
    """The response times, in ms, of which a trial tells the share of its requests above each: the limits and parts."""
    return tuple(sorted({limit * part for slo in slos for limit in limits(slo).values() for part in PARTS}))


def _limits(slo: Slo) -> tuple[float | None, float | None, float | None]:
    return slo.p50_ms, slo.p90_ms, slo.p99_ms


def per_second(value: float) -> str:
    """A rate with the digits that are worth saying."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
