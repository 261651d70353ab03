"""How many machines, processes and slots does a rate need? In: a rate, an SLO, each variant's Parts. Out: a Row each.

Pure. A plan holds the SLO while `spare_machines` are lost, at 3 % more than the rate that was asked. On each machine
it takes the fewest processes, and then the fewest slots, that do so: the configuration can be run and proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.capacity.measured import EXTRAPOLATED, Parts
from harness.capacity.slo import limits, per_second, said
from harness.capacity.stations import QUANTILES, Responses, capacity_rps, ceilings, responses
from harness.errors import UsageError
from harness.trial import Slo

MARGIN = 1.03  # on the rate: the parts themselves are known to a few per cent
MOST_SLOTS = 512  # a process; more threads are no answer
MOST_PROCESSES = 256  # of sync workers, on one machine
MOST_MACHINES = 10_000
DAY_S, HOUR_S, MILLION = 86_400, 3600, 1e6
DEVIATIONS = 3  # above the mean number of calls in flight, which is a Poisson variable


@dataclass(frozen=True)
class Machine:
    """What one machine has, and costs an hour; None: no price is known."""

    cores: int = 1
    memory_mb: float = 2048.0
    price_per_hour: float | None = None


@dataclass(frozen=True)
class Row:
    """The plan of one variant. processes, slots, memory_mb: of each machine; machines: the spare ones included.

    slots: threads or sync workers; None where calls get a greenlet or a task each, at most about `in_flight`.
    Utilisation and p99 are given for all machines up, and (`_lost`) for the spare ones lost. headroom: how much more
    than the asked rate is held then, as a share. extrapolated: empty, or why the numbers are.
    """

    variant: str
    holds: bool
    reason: str
    machines: int | None = None
    processes: int | None = None
    slots: int | None = None
    in_flight: int | None = None
    each_rps: float | None = None
    each_lost_rps: float | None = None
    utilisation: float | None = None
    utilisation_lost: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    p99_lost_ms: float | None = None
    p99_lost_high_ms: float | None = None
    memory_mb: float | None = None
    price_per_hour: float | None = None
    price_per_million: float | None = None
    limited_by: str = "none"
    fails_first: str = ""
    headroom: float | None = None
    extrapolated: str = ""


def peak_rps(requests_per_day: float, peak_factor: float = 1.0) -> float:
    """The rate at the peak: the day's mean × how much busier the peak is."""
    if not requests_per_day > 0 or not peak_factor >= 1:
        raise UsageError("--requests-per-day must be above 0, and --peak-factor 1 or more")
    return requests_per_day / DAY_S * peak_factor


def plan(
    rate_rps: float,
    slo: Slo,
    parts: Mapping[str, Parts],
    machine: Machine,
    *,
    spare_machines: int = 1,
    doubts: Mapping[str, float] | None = None,
) -> list[Row]:
    """One Row a variant: those that hold the SLO first, the fewest machines first, then the least memory.

    doubts: variant → the half width of the interval of log p99; its upper end has to hold the SLO.
    """
    if not rate_rps > 0 or spare_machines < 0:
        raise UsageError("a plan needs a rate above 0, and no fewer than 0 spare machines")
    if not limits(slo):
        raise UsageError("a plan needs a response time in its SLO, as in p99<200ms")
    wanted = {name: Wanted(rate_rps, slo, machine, spare_machines, (doubts or {}).get(name, 0.0)) for name in parts}
    rows = [_row(wanted[name], one) for name, one in parts.items()]
    return sorted(rows, key=lambda row: (not row.holds, row.machines or 0, row.memory_mb or 0.0, row.variant))


# -- of one variant --------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """What a plan has to hold, and what with."""

    rate_rps: float
    slo: Slo
    machine: Machine
    spare: int
    doubt: float


def _row(wanted: Wanted, parts: Parts) -> Row:
    variant = parts.setting.variant
    if refused := _impossible(parts, wanted):
        return Row(variant, False, refused)
    largest = _largest(parts, wanted.machine)
    if largest is None:
        return Row(variant, False, f"a process takes {parts.base_mb:.0f} MB, more than a machine has")
    most = held_rps(largest, wanted.slo, wanted.doubt) / MARGIN
    needed = max(math.ceil(wanted.rate_rps / most), 1) if most > 0 else MOST_MACHINES + 1
    if needed > MOST_MACHINES:
        return Row(variant, False, f"even {MOST_MACHINES:,} machines would not hold {said(wanted.slo)}")
    sized = _least(parts, wanted, wanted.rate_rps / needed * MARGIN, largest)
    return _told(wanted, sized, needed)


def _told(wanted: Wanted, sized: Parts, needed: int) -> Row:
    """The Row of a configuration, with what it will do."""
    machine, setting = wanted.machine, sized.setting
    lost_rps, up_rps = wanted.rate_rps / needed, wanted.rate_rps / (needed + wanted.spare)
    lost, up = responses(sized, lost_rps), responses(sized, up_rps)
    flying = lost_rps * max(lost.p50_s, sized.alone.mean_us / 1e6)
    peak = math.ceil(flying + DEVIATIONS * math.sqrt(flying))
    slots = setting.slots
    tightest = ceilings(sized)
    most = held_rps(sized, wanted.slo, wanted.doubt)
    price = None if machine.price_per_hour is None else machine.price_per_hour * (needed + wanted.spare)
    return Row(
        variant=setting.variant,
        holds=True,
        reason=_reason(wanted, needed, lost),
        machines=needed + wanted.spare,
        processes=setting.processes,
        slots=slots,
        in_flight=peak,
        each_rps=up_rps,
        each_lost_rps=lost_rps,
        utilisation=up_rps / capacity_rps(sized),
        utilisation_lost=lost_rps / capacity_rps(sized),
        p50_ms=up.p50_s * 1000,
        p99_ms=up.p99_s * 1000,
        p99_lost_ms=lost.p99_s * 1000,
        p99_lost_high_ms=lost.p99_s * 1000 * math.exp(wanted.doubt),
        memory_mb=memory_mb(sized, peak) if sized.base_mb else None,
        price_per_hour=price,
        price_per_million=None if price is None else price / (wanted.rate_rps * HOUR_S) * MILLION,
        limited_by=tightest[0].name if tightest else "none",
        fails_first=tightest[0].sentence if tightest else "nothing that was measured",
        headroom=most * needed / wanted.rate_rps - 1 if math.isfinite(most) else None,
        extrapolated=_beyond(sized, lost_rps),
    )


def _impossible(parts: Parts, wanted: Wanted) -> str:
    """Why no number of machines can help; empty when one may."""
    for q, most_ms in limits(wanted.slo).items():
        alone_ms = parts.alone.quantile_us(q) / 1000
        if alone_ms >= most_ms:
            return f"impossible: a call alone takes {alone_ms:.3g} ms at p{q * 100:g}, above {most_ms:g} ms"
    if wanted.slo.errors is not None and parts.bad_share > wanted.slo.errors:
        return f"{parts.bad_share:.2%} of the calls failed at rates that it served; more machines do not mend that"
    return ""


def _reason(wanted: Wanted, needed: int, lost: Responses) -> str:
    with_lost = f" with {wanted.spare} machine{'s' * (wanted.spare != 1)} lost" if wanted.spare else ""
    of = f"on {needed}" if needed > 1 else "on 1"
    return f"holds {said(wanted.slo)}{with_lost}: p99 {lost.p99_s * 1000:.3g} ms {of}"


def _beyond(parts: Parts, rate_rps: float) -> str:
    """Empty, or how far a machine's load lies beyond what was tested."""
    if rate_rps <= EXTRAPOLATED * parts.tested_rps:
        return ""
    return (
        f"extrapolated: {per_second(rate_rps)}/s a machine, tested up to {per_second(parts.tested_rps)}/s, "
        f"{EXTRAPOLATED} × that is trusted"
    )


# -- sizes -----------------------------------------------------------------------------------------------------------


def is_sync(parts: Parts) -> bool:
    """One call a process at a time: then processes are the slots, and may be more than the cores."""
    return parts.setting.slots is not None and parts.setting.slots <= parts.setting.processes


def memory_mb(parts: Parts, in_flight: float) -> float:
    """Of a machine: its processes, and each slot, or each call in flight where there are none."""
    slots = parts.setting.slots if parts.setting.slots is not None and not is_sync(parts) else in_flight
    return parts.base_mb * parts.setting.processes + parts.slot_mb * (0.0 if is_sync(parts) else slots)


def resized(parts: Parts, machine: Machine, processes: int, slots: int | None) -> Parts:
    """The same variant with other numbers, on another machine."""
    return replace(parts, setting=replace(parts.setting, processes=processes, slots=slots, cores=machine.cores))


def _processes(parts: Parts, machine: Machine) -> int:
    """How many processes a machine's memory, cores and database connections allow."""
    setting = parts.setting
    most = MOST_PROCESSES if is_sync(parts) else machine.cores
    if setting.pool is not None and setting.pool_s:  # each needs one
        most = min(most, setting.pool)
    return min(most, int(machine.memory_mb / parts.base_mb)) if parts.base_mb else most


def _slots(parts: Parts, machine: Machine, processes: int) -> int:
    """How many threads a process may have beside so many others."""
    if not parts.slot_mb:
        return MOST_SLOTS
    return max(min(MOST_SLOTS, int((machine.memory_mb / processes - parts.base_mb) / parts.slot_mb)), 1)


def _largest(parts: Parts, machine: Machine) -> Parts | None:
    """The most that a machine can be given; None where not even one process fits."""
    processes = _processes(parts, machine)
    if processes < 1:
        return None
    if is_sync(parts):
        return resized(parts, machine, processes, processes)
    slots = None if parts.setting.slots is None else processes * _slots(parts, machine, processes)
    return resized(parts, machine, processes, slots)


def _least(parts: Parts, wanted: Wanted, rate_rps: float, largest: Parts) -> Parts:
    """The fewest processes, and then the fewest slots of each, that hold the SLO on one machine."""
    machine = wanted.machine

    def enough(sized: Parts) -> bool:
        return _holds(sized, rate_rps, wanted.slo, wanted.doubt)

    if is_sync(parts):
        workers = _fewest(largest.setting.processes, lambda n: enough(resized(parts, machine, n, n)))
        return resized(parts, machine, workers, workers)
    most = largest.setting.processes
    threads = None if parts.setting.slots is None else {n: _slots(parts, machine, n) for n in range(1, most + 1)}

    def given(processes: int, each: int | None) -> Parts:
        return resized(parts, machine, processes, None if each is None else processes * each)

    tried = ((n, given(n, threads[n] if threads else None)) for n in range(1, most))
    processes = next((n for n, sized in tried if enough(sized)), most)
    if threads is None:
        return given(processes, None)
    return given(processes, _fewest(threads[processes], lambda n: enough(given(processes, n))))


def _fewest(most: int, enough: Callable[[int], bool]) -> int:
    """The smallest number that is enough, where `most` is."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _holds(parts: Parts, rate_rps: float, slo: Slo, doubt: float) -> bool:
    if rate_rps >= capacity_rps(parts):
        return False
    times = dict(zip(QUANTILES, responses(parts, rate_rps), strict=True))
    return all(times[q] * 1000 * math.exp(doubt) <= most_ms for q, most_ms in limits(slo).items())


def held_rps(parts: Parts, slo: Slo, doubt: float = 0.0) -> float:
    """The highest rate at which given Parts hold an SLO; 0 where none does. Infinite where nothing bounds them."""
    low, high = 0.0, capacity_rps(parts)
    if math.isinf(high):
        return high if _holds(parts, max(parts.tested_rps, 1.0), slo, doubt) else 0.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if _holds(parts, middle, slo, doubt) else (low, middle)
    return low


# -- in words --------------------------------------------------------------------------------------------------------


HEADS = (
    "variant", "holds", "machines", "processes", "slots", "req/s each", "used", "p99 ms", "p99 ms, one lost",
    "MB", "price/h", "price/million", "fails first", "headroom", "remark",
)  # fmt: skip


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and lines, without the columns that say nothing: of a price nobody told, of no machine to be lost."""
    lines, same = [cells(row) for row in rows], all(row.p99_ms == row.p99_lost_ms for row in rows)
    silent = {head for head, *column in zip(HEADS, *lines, strict=True) if set(column) <= {"~", ""}}
    silent |= {"p99 ms, one lost"} if same else set()
    kept = [place for place, head in enumerate(HEADS) if head not in silent]
    return tuple(HEADS[place] for place in kept), [tuple(line[place] for place in kept) for line in lines]


def cells(row: Row) -> tuple[str, ...]:
    """A Row as text, under HEADS; ~ where there is nothing to say."""
    slots = "~" if row.in_flight is None else f"about {row.in_flight}" if row.slots is None else str(row.slots)
    remark = "; ".join(part for part in ("" if row.holds else row.reason, row.extrapolated) if part)
    return (
        row.variant,
        "yes" if row.holds else "no",
        _number(row.machines),
        _number(row.processes),
        slots,
        _number(row.each_rps, ".4g"),
        _number(row.utilisation, ".0%"),
        _number(row.p99_ms, ".3g"),
        _number(row.p99_lost_ms, ".3g"),
        _number(row.memory_mb, ".0f"),
        _number(row.price_per_hour, ".4g"),
        _number(row.price_per_million, ".3g"),
        row.fails_first or "~",
        _number(row.headroom, ".0%"),
        remark,
    )


def _number(value: float | None, form: str = "d") -> str:
    return "~" if value is None else format(value, form)
