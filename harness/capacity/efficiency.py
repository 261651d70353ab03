"""What a request costs. In: Recordings of a variant at several rates. Out: CPU, memory, money a unit of work. Pure.

CPU a request by the utilisation law, what is in flight by Little's; memory a slot is the slope of resident memory over
what is in flight, so that what the server takes when it is idle is no part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.evidence import Evidence, evidence
from harness.physics import served
from harness.recording import Recording

SHARES = (0.2, 0.5, 0.8)  # of capacity
LEAST_SPREAD = 2.0  # calls in flight between the lowest and the highest level, below which a slope is noise
HOUR_S = 3600
MILLION = 1e6


@dataclass(frozen=True)
class Efficiency:
    """One variant at one rate. core_hours: of the CPUs that the server was given, busy or not, for a million requests.

    cost: the same in money; None where no price is known. None elsewhere: could not be seen, or not told apart.
    """

    variant: str
    scenario: str
    rate_rps: float
    share: float | None  # of the capacity
    cpu_ms_per_request: float | None
    utilisation: float | None  # of the server's CPUs
    in_flight: float | None
    rss_mb: float | None
    core_hours_per_million: float | None
    cost_per_million: float | None


@dataclass(frozen=True)
class Footprint:
    """Resident memory: at rest, and for each call in flight. unit: `slot`, or `stream` where calls are streams."""

    base_mb: float | None
    mb_each: float | None
    unit: str


def efficiencies(
    recordings: Iterable[Recording], capacity_rps: float | None = None, price_per_core_hour: float | None = None
) -> list[Efficiency]:
    """One for each Recording that has a throughput, by rate."""
    found = [_of(recording, capacity_rps, price_per_core_hour) for recording in recordings]
    return sorted((one for one in found if one is not None), key=lambda one: (one.variant, one.rate_rps))


def _of(recording: Recording, capacity_rps: float | None, price: float | None) -> Efficiency | None:
    seen = evidence(recording)
    if not seen.throughput_rps:
        return None
    cpu_s = seen.cpu_s_per_request if seen.server_cpu_cores is not None else None
    hours = None
    if seen.server_cpu_cores is not None:  # of a server elsewhere nobody knows the CPUs
        hours = seen.server_cores * MILLION / (seen.throughput_rps * HOUR_S)
    level = recording.trial.level
    return Efficiency(
        variant=recording.trial.variant,
        scenario=recording.trial.scenario.name,
        rate_rps=level,
        share=level / capacity_rps if capacity_rps else None,
        cpu_ms_per_request=None if cpu_s is None else 1000 * cpu_s,
        utilisation=None if seen.server_cpu_cores is None else seen.server_cpu_cores / seen.server_cores,
        in_flight=in_flight(seen),
        rss_mb=peak_mb(recording),
        core_hours_per_million=hours,
        cost_per_million=None if hours is None or price is None else hours * price,
    )


def in_flight(seen: Evidence) -> float | None:
    """Calls in the system on average: N = X·R (Little, 1961)."""
    return None if seen.response_mean_s is None else seen.throughput_rps * seen.response_mean_s


def peak_mb(recording: Recording) -> float | None:
    """The most resident memory of the whole server in the measured seconds."""
    return max((one.rss_mb for one in recording.of("server") if one.rss_mb is not None), default=None)


def footprint(recordings: Sequence[Recording]) -> Footprint:
    """Memory at rest and a call in flight, by least squares over those levels of one variant that it served.

    None for the slope where the levels' calls in flight are too near to each other; a server whose memory only falls
    has a slope of 0. An overload is left out: its calls wait in the kernel, where they are nobody's memory.
    """
    seen = [(evidence(one), peak_mb(one)) for one in recordings]
    points = [(in_flight(evident), mb) for evident, mb in seen if served(evident)]
    known = [(calls, mb) for calls, mb in points if calls is not None and mb is not None]
    streams = any(":" in name for one in recordings for name in one.names if not name.endswith(":slow"))
    unit = "stream" if streams else "slot"
    if not known:
        return Footprint(None, None, unit)
    calls, mb = np.array(known).T
    if len(known) < 2 or calls.max() - calls.min() < LEAST_SPREAD:
        return Footprint(float(mb.min()), None, unit)
    slope, base = np.polyfit(calls, mb, 1)
    return Footprint(float(max(base, 0.0)), float(max(slope, 0.0)), unit)
