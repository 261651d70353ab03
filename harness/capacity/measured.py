"""What a server is made of. In: Recordings at a low and a middle rate. Out: Levels, and the Parts that models use.

Pure. A Level is all trials at one rate; Parts are what the levels say together: slots, waits, CPU a request, memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from harness.capacity import laws
from harness.capacity.efficiency import Footprint, footprint
from harness.capacity.queues import mgc_wait_mean_s
from harness.errors import NothingUsable, UsageError
from harness.evidence import evidence
from harness.histogram import Histogram, samples_needed
from harness.intervals import quantile_interval, quantile_ms
from harness.physics import SERVED, VOID, judge
from harness.recording import Recording

EXTRAPOLATED = 1.3  # × the highest rate that was tested
LEAST_SPREAD = 0.1  # of utilisations, to tell two costs apart
LEAST_SHARE = 0.3  # of the CPU a request that was measured may be left of it at full load


@dataclass(frozen=True)
class Setting:
    """What a server was given, and what its requests declare. slots: over all processes; None: as many as calls come.

    pool: database connections over all processes; pool_s: for how long a call holds one; wait_s: what a call waits.
    """

    variant: str
    processes: int = 1
    slots: int | None = None
    cores: int = 1
    wait_s: float = 0.0
    pool: int | None = None
    pool_s: float = 0.0

    @property
    def cpus(self) -> int:
        """How many CPUs it can keep busy: one interpreter lock a process."""
        return max(min(self.processes, self.cores), 1)

    @property
    def lines(self) -> int:
        """How many lines for slots there are: one a process, but sync workers share the kernel's."""
        return 1 if self.slots is None or self.slots <= self.processes else self.processes


@dataclass(frozen=True, eq=False)
class Level:
    """One rate: its trials together. rate_rps: what was offered; cpu_cores: kept busy by the server, None: unknown."""

    setting: Setting
    rate_rps: float
    throughput_rps: float
    response: Histogram
    service: Histogram
    cpu_cores: float | None = None
    bad_share: float = 0.0
    trials: int = 1
    p99_low_ms: float | None = None
    p99_high_ms: float | None = None

    @property
    def served(self) -> bool:
        """False of an overload: its response times say how long it lasted, not how fast the server is."""
        return self.throughput_rps >= SERVED * self.rate_rps

    @property
    def mean_s(self) -> float:
        return self.response.mean_us / 1e6

    @property
    def in_flight(self) -> float:
        """How many calls, on average."""
        return laws.in_flight(self.throughput_rps, self.mean_s)

    def ms(self, q: float) -> float | None:
        """A quantile of the response time; None with too few samples to name it."""
        return quantile_ms(self.response, q)


@dataclass(frozen=True, eq=False)
class Parts:
    """What one variant is made of. CPU a request: when little else is there, and when the CPU is never idle.

    alone: the service times of calls that had the server to themselves. base_mb: of a process; slot_mb: of a
    call in flight. tested_rps: the highest rate that was served in a trial. cpu_cv2, slots_cv2: the squared
    coefficients of variation of the CPU's work and of the time for which a slot is held.
    """

    setting: Setting
    alone: Histogram
    cpu_alone_s: float = 0.0
    cpu_s: float = 0.0
    cpu_cv2: float = 1.0
    slots_cv2: float = 0.0
    base_mb: float = 0.0
    slot_mb: float = 0.0
    bad_share: float = 0.0
    tested_rps: float = 0.0

    @property
    def contention(self) -> float:
        """What load makes of the CPU a request: above 1 calls hinder each other, below they share wake-ups."""
        return self.cpu_s / self.cpu_alone_s if self.cpu_alone_s else 1.0

    @property
    def alone_s(self) -> float:
        """The mean time that a call takes alone."""
        return self.alone.mean_us / 1e6


def levels_of(recordings: Iterable[Recording]) -> list[Level]:
    """The levels of one variant in one open scenario, by rate; VOID trials are left out.

    Raises UsageError for recordings of several variants or scenarios, or of a closed one, NothingUsable when no trial
    is left.
    """
    usable = [one for one in recordings if judge(one).name != VOID]
    if not usable:
        raise NothingUsable("no usable trial to make a model of; look at each one's reason with `gatebench report`")
    asked = {(one.trial.variant, one.trial.scenario.name) for one in usable}
    if len(asked) > 1:
        raise UsageError(f"a model is of one variant in one scenario; these are {', '.join(map(str, sorted(asked)))}")
    if usable[0].trial.scenario.arrivals == "closed":
        raise UsageError("a model needs an open scenario: closed users hide how long others would have waited")
    usable.sort(key=lambda one: one.trial.level)
    return [_level(list(trials)) for _, trials in groupby(usable, key=lambda one: one.trial.level)]


def _level(trials: Sequence[Recording]) -> Level:
    seen = [evidence(trial) for trial in trials]
    rows = list(dict.fromkeys(part.row for part in trials[0].trial.scenario.mix))
    responses = [Histogram.merged(trial.histogram(row, "response") for row in rows) for trial in trials]
    services = [trial.histogram(row, "service") for trial in trials for row in rows]
    interval = quantile_interval(responses, 0.99)
    cpu = [one.server_cpu_cores for one in seen if one.server_cpu_cores is not None]
    processes = trials[0].head.subject.budget.get("processes")
    return Level(
        setting=Setting(
            variant=trials[0].trial.variant,
            processes=int(processes) if isinstance(processes, int | float) else 1,
            slots=seen[0].slots,
            cores=seen[0].server_cores,
            wait_s=seen[0].wait_s,
            pool=seen[0].pool,
            pool_s=seen[0].pool_s,
        ),
        rate_rps=sum(one.offered / one.window_s for one in seen) / len(seen),
        throughput_rps=sum(one.throughput_rps for one in seen) / len(seen),
        response=Histogram.merged(responses),
        service=Histogram.merged(services),
        cpu_cores=sum(cpu) / len(cpu) if cpu else None,
        bad_share=sum(one.failed + one.timed_out + one.unfinished for one in seen) / sum(one.offered for one in seen),
        trials=len(trials),
        p99_low_ms=interval.low if interval else None,
        p99_high_ms=interval.high if interval else None,
    )


def parts_from(recordings: Sequence[Recording]) -> Parts:
    """The Parts of one variant, from its trials at a low and a middle rate (more rates are better)."""
    return parts_of(levels_of(recordings), footprint(recordings))


def parts_of(levels: Sequence[Level], memory: Footprint | None = None) -> Parts:
    """The Parts that some levels show; those that were overloaded only tell the CPU a request.

    Raises NothingUsable when none was served, or none has samples enough.
    """
    lowest = lowest_of(levels)
    alone_s, busy_s = cpu_per_request(levels)
    setting, alone = lowest.setting, without_lines(lowest, alone_s)
    base_mb = memory.base_mb if memory and memory.base_mb else 0.0
    return Parts(
        setting=setting,
        alone=alone,
        cpu_alone_s=alone_s,
        cpu_s=busy_s,
        slots_cv2=min(_cv2(alone), 1.0),
        base_mb=base_mb / setting.processes,
        slot_mb=memory.mb_each if memory and memory.mb_each else 0.0,
        bad_share=max(level.bad_share for level in levels if level.served),
        tested_rps=max(level.throughput_rps for level in levels),
    )


def lowest_of(levels: Sequence[Level]) -> Level:
    """The lowest level that was served and has samples enough to show how long a call takes."""
    served = sorted((level for level in levels if level.served), key=lambda level: level.rate_rps)
    if not served:
        raise NothingUsable("the server could not serve any rate that was tried; try a lower one")
    needed = samples_needed(0.99)
    found = next((level for level in served if level.service.n >= needed), None)
    if found is None:
        most = max(level.service.n for level in served)
        raise NothingUsable(
            f"{most} calls at a rate do not show how long one takes: {needed} are needed, so go on longer"
        )
    return found


def without_lines(level: Level, cpu_s: float) -> Histogram:
    """The service times of a low level, as they were without the lines that even a low rate has.

    What slots, pool and CPU make calls wait on average (Allen and Cunneen) is taken off by leaving out the longest
    calls: those that waited.
    """
    setting, mean_s = level.setting, level.service.mean_us / 1e6
    alone_s = mean_s
    if cpu_s:
        alone_s -= _line_s(level.rate_rps, cpu_s, setting.cpus, setting.cpus)
    if setting.pool and setting.pool_s:
        alone_s -= _line_s(level.rate_rps, setting.pool_s, setting.pool, min(setting.lines, setting.pool))
    if setting.slots is not None:
        low, high = 0.0, alone_s
        for _ in range(40):
            middle = (low + high) / 2
            waits_s = _line_s(level.rate_rps, middle, setting.slots, setting.lines)
            low, high = (middle, high) if middle + waits_s < alone_s else (low, middle)
        alone_s = low
    return _shortened(level.service, max(alone_s, setting.wait_s) * 1e6)


def _line_s(rate_rps: float, each_s: float, servers: int, many: int) -> float:
    """The mean wait for so many servers in so many lines, of work that does not vary."""
    return mgc_wait_mean_s(rate_rps / many, each_s, max(servers // many, 1), 0.0)


def _shortened(histogram: Histogram, mean_us: float) -> Histogram:
    """The shortest calls of a histogram, as many as have this mean; all when theirs is less."""
    calls = np.cumsum(histogram.counts)
    means = np.cumsum(histogram.values_us * histogram.counts) / calls
    kept = max(int(np.searchsorted(means, mean_us, side="right")), 1)
    return Histogram(histogram.buckets[:kept], histogram.counts[:kept])


def cpu_per_request(levels: Sequence[Level]) -> tuple[float, float]:
    """CPU seconds a request: when the CPU is idle otherwise, and when it never is. (0, 0) where none was measured.

    A request that finds the CPU idle also pays for waking it: at utilisation u a request costs busy + wake·(1 - u).
    With contention `wake` is below 0. Two numbers, by least squares over the levels, each with the weight of the CPU
    time that it has seen; one level cannot tell them apart, and neither can levels that are nearly one: a line through
    costs of ± 5 % whose utilisations lie 6 % apart said 3.4 ms where each level had measured less than 1.
    """
    known = [(level.cpu_cores, level) for level in levels if level.cpu_cores and level.throughput_rps]
    if not known:
        return 0.0, 0.0
    costs = np.array([cores / level.throughput_rps for cores, level in known])
    cpus = known[0][1].setting.cpus
    idle = np.array([max(1 - cores / cpus, 0.0) for cores, _ in known])
    weights = np.array([cores for cores, _ in known])
    if np.ptp(idle) < LEAST_SPREAD:
        mean = float(np.average(costs, weights=weights))
        return mean, mean
    wake, busy = np.polyfit(idle, costs, 1, w=np.sqrt(weights))
    busy = max(float(busy), LEAST_SHARE * float(costs.min()))
    return max(busy + float(wake), LEAST_SHARE * float(costs.min())), busy


def _cv2(histogram: Histogram) -> float:
    """The squared coefficient of variation, without the longest hundredth: one stall is no property of the work."""
    kept = histogram.values_us <= histogram.quantile_us(0.99)
    values, counts = histogram.values_us[kept], histogram.counts[kept]
    mean = float(values @ counts) / float(counts.sum())
    return float((values - mean) ** 2 @ counts) / float(counts.sum()) / mean**2
