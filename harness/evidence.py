"""What a Trial's laws speak of. In: a Recording. Out: Evidence, the few numbers of its window.

Pure. Times in seconds, rates a second. `harness.physics` holds the laws themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.histogram import Histogram, samples_needed
from harness.recording import HUB, Recording
from harness.trial import Part


@dataclass(frozen=True)
class Evidence:
    """The numbers of one Trial's window. Times in seconds, rates a second; None = not measured."""

    closed: bool
    warm: bool  # the window has a warm-up before it
    level: float
    window_s: float
    throughput_rps: float
    offered: int
    completed: int
    failed: int
    timed_out: int
    unfinished: int
    response_mean_s: float | None
    response: dict[float, float]  # quantile → seconds; only those that have enough samples to be printed
    service_min_s: float | None
    lateness: dict[float, float]
    lag: dict[float, float]
    started_late: int
    not_started: int
    all_offered: int
    blocked_p50_s: float
    slots: int | None
    wait_s: float
    pool: int | None
    pool_s: float
    connections: int
    errors: dict[str, int]
    server_cores: int
    server_cpu_cores: float | None
    generator_cpu_cores: float | None
    shared_cpus: bool  # server and generator had no CPUs apart
    other_cpu_cores: float | None  # used by anybody else, on the CPUs of the server and the generator
    steal_cores: float | None
    listen_overflows: int
    outcome: str
    outcome_reason: str
    counts_add_up: bool
    generator_waited: float | None = None  # seconds a second for a CPU that others held
    intruders: float | None = None  # of each of the generator's CPUs, used by anybody else
    stalled_s: float | None = None  # the longest time for which the generator's CPU was not there at all
    declared_s: float | None = None  # of the row that `service_min_s` is of; None: `wait_s`
    restarts: int = 0
    ceiling_rps: float | None = None  # the instrument's own, of this arrival model, as its certificate says
    database_cores: int = 0
    database_cpu_cores: float | None = None
    beside: bool = False  # the database shares the generator's CPU
    uncounted: tuple[str, ...] = ()
    finished: int | None = None  # completions that happened in the window, whatever second they were due in
    all_completed: int = 0  # of all seconds
    spread: dict[float, float] = field(default_factory=dict)  # of all whole calls: quantile → seconds; 1.0: the maximum
    clusters: dict[float, int] = field(default_factory=dict)  # seconds above the others → calls
    acknowledged_late: float = 0.0  # the share of calls that took just 40 ms more than they were to wait
    syn_retransmits: int = 0

    @property
    def cpu_s_per_request(self) -> float:
        if self.server_cpu_cores is None or not self.throughput_rps:
            return 0.0
        return self.server_cpu_cores / self.throughput_rps

    @property
    def bad_share(self) -> float:
        return (self.failed + self.timed_out + self.unfinished) / self.offered if self.offered else 0.0


QUANTILES = (0.5, 0.9, 0.99)
SYN_AGAIN_S, SYN_AGAIN_LINEAR_S = (
    (1.0, 3.0, 7.0),
    (1.0, 2.0, 3.0, 4.0, 5.0, 7.0),
)  # after the first (Linux, tcp_timer.c)
FEW = 5  # calls that make no cluster
DELAYED_ACK_S = 0.040  # Linux's least (TCP_DELACK_MIN)
OURS = ("server", "generator", "database")


def evidence(recording: Recording) -> Evidence:
    """Reduces a Recording to what the laws speak of. Only whole calls count: the rows of the mix's parts."""
    trial, scenario = recording.trial, recording.trial.scenario
    primary = list(dict.fromkeys(part.row for part in scenario.mix))
    # the generator is held against the calls that are not slow by themselves, if there are any
    brisk = list(dict.fromkeys(part.row for part in scenario.mix if not part.slow_s)) or primary
    counts = [recording.counts(name) for name in primary]
    whole = Histogram.merged(recording.histogram(name, "response") for name in primary)
    judged = Histogram.merged(recording.histogram(name, "response") for name in brisk)
    lateness = Histogram.merged(recording.histogram(name, "lateness") for name in brisk)
    blocked = Histogram.merged(recording.histogram(name, "blocked") for name in primary)
    lag = recording.histogram(HUB, "lag")
    every = range(scenario.duration_s)
    budget = recording.head.subject.budget
    pool = budget.get("db_connections")
    finished = {name: recording.throughput_rps(name) for name in primary}
    pool_s = _mean(scenario.mix, finished, "pool_s")
    service_min_s, declared_s = _soonest(recording)
    service = Histogram.merged(recording.histogram(name, "service") for name in primary)
    return Evidence(
        closed=scenario.arrivals == "closed",
        warm=scenario.warmup_s > 0,
        level=trial.level,
        window_s=len(recording.window),
        throughput_rps=sum(finished.values()),
        offered=sum(count.offered for count in counts),
        completed=sum(count.completed for count in counts),
        failed=sum(count.failed for count in counts),
        timed_out=sum(count.timed_out for count in counts),
        unfinished=sum(count.unfinished for count in counts),
        response_mean_s=whole.mean_us / 1e6 if whole.n else None,
        response={q: value for q, value in _quantiles_s(judged).items() if judged.n >= samples_needed(q)},
        service_min_s=service_min_s,
        declared_s=declared_s,
        lateness=_quantiles_s(lateness),
        lag={q: value for q, value in _quantiles_s(lag).items() if lag.n >= samples_needed(q)},
        started_late=recording.end.started_late,
        not_started=recording.end.not_started,
        all_offered=sum(recording.counts(name, every).offered for name in primary),
        blocked_p50_s=blocked.quantile_us(0.5) / 1e6 if blocked.n else 0.0,
        slots=recording.head.subject.slots,
        wait_s=_mean(scenario.mix, finished, "wait_s"),
        pool=int(pool) if isinstance(pool, int | float) and pool_s else None,
        pool_s=pool_s,
        connections=scenario.connections,
        errors=recording.end.errors,
        server_cores=max(len(recording.head.server_cpus), 1),
        server_cpu_cores=_cores(recording, "server"),
        generator_cpu_cores=_of_each(_cores(recording, "generator"), recording.head.generator_cpus),
        shared_cpus=bool(set(recording.head.server_cpus) & set(recording.head.generator_cpus)),
        other_cpu_cores=_others(recording),
        steal_cores=_per_second([sample.steal_s or 0.0 for sample in recording.of("machine")]),
        listen_overflows=recording.end.kernel.get("ListenOverflows", 0),
        outcome=recording.end.outcome,
        outcome_reason=recording.end.reason,
        restarts=recording.end.restarts,
        counts_add_up=all(recording.counts(name, every).add_up for name in recording.names),
        stalled_s=max((sample.stalled_s or 0.0 for sample in recording.of("machine")), default=None),
        intruders=_intruders(recording),
        generator_waited=_per_second([sample.waited_s or 0.0 for sample in recording.of("generator")]),
        ceiling_rps=recording.head.ceilings.get("closed" if scenario.arrivals == "closed" else "open"),
        database_cores=len(recording.head.database_cpus),
        database_cpu_cores=_cores(recording, "database"),
        beside=bool(set(recording.head.database_cpus) & set(recording.head.generator_cpus)),
        uncounted=recording.end.uncounted,
        finished=sum(row.finished for name in primary for row in recording.within(name)),
        all_completed=sum(recording.counts(name, every).completed for name in primary),
        spread=_quantiles_s(whole) | ({1.0: whole.max_us / 1e6} if whole.n else {}),
        clusters=_clusters(service, _syn_again(recording.head.facts)),
        acknowledged_late=_acknowledged_late(recording),
        syn_retransmits=recording.end.kernel.get("TCPSynRetrans", 0),
    )


def _mean(mix: Sequence[Part], finished: Mapping[str, float], cost: Literal["wait_s", "pool_s"]) -> float:
    """What a call waits, or holds a connection for, on average. Of a mix that gets through in part, that part counts:
    a slot law with the waits of calls that nobody answered would speak of other slots."""
    known = any(finished.values())
    of_row = Counter({part.row: 0 for part in mix})
    for part in mix:
        of_row[part.row] += part.weight
    shares = [part.weight * (finished[part.row] / of_row[part.row] if known else 1) for part in mix]
    costs = [part.wait_s if cost == "wait_s" else part.pool_s for part in mix]
    return sum(share * each for share, each in zip(shares, costs, strict=True)) / sum(shares)


def _soonest(recording: Recording) -> tuple[float | None, float | None]:
    """The fastest service, and the wait that was declared, of the row that came the soonest against its wait."""
    declared: dict[str, float] = {}
    for part in recording.trial.scenario.mix:
        declared[part.row] = min(declared.get(part.row, math.inf), part.soonest_s)
    service = {name: recording.histogram(name, "service") for name in declared}
    found = [(int(one.values_us[0]) / 1e6, declared[name]) for name, one in service.items() if one.n]
    return min(found, key=lambda pair: pair[0] - pair[1], default=(None, None))


def _syn_again(facts: Mapping[str, object]) -> Sequence[float]:
    """When this kernel sends a SYN again that nobody answered."""
    linear = str(facts.get("tcp_syn_linear_timeouts") or "0")
    return SYN_AGAIN_LINEAR_S if linear.isdigit() and int(linear) else SYN_AGAIN_S


def _clusters(service: Histogram, places_s: Iterable[float]) -> dict[float, int]:
    """Where calls cluster far above the others: FEW at least, and four times as many as just before that place."""
    if not service.n or (usual_s := service.quantile_us(0.5) / 1e6) > 0.4:
        return {}
    width_s, found = 0.1 + usual_s, {}
    for place_s in places_s:
        inside = _between(service, place_s - 0.005, place_s + width_s)
        if inside >= max(FEW, 4 * _between(service, place_s - 0.005 - width_s, place_s - 0.005)):
            found[place_s] = inside
    return found


def _acknowledged_late(recording: Recording) -> float:
    """Of the row that has most of them: the share of calls within 38 to 48 ms above the wait; 0 where as many took
    20 ms less, or more."""
    share = 0.0
    for part in recording.trial.scenario.mix:
        service, due_s = recording.histogram(part.row, "service"), part.soonest_s + DELAYED_ACK_S
        inside, *beside = (_between(service, due_s + by - 0.002, due_s + by + 0.008) for by in (0.0, -0.02, 0.02))
        if inside > max(FEW, 4 * max(beside)):
            share = max(share, inside / service.n)
    return share


def _between(histogram: Histogram, low_s: float, high_s: float) -> int:
    values = histogram.values_us
    return int(histogram.counts[(values >= low_s * 1e6) & (values < high_s * 1e6)].sum())


def _quantiles_s(histogram: Histogram) -> dict[float, float]:
    return {q: histogram.quantile_us(q) / 1e6 for q in QUANTILES} if histogram.n else {}


def _cores(recording: Recording, who: str) -> float | None:
    return _per_second([sample.cpu_s for sample in recording.of(who)])


def _of_each(cores: float | None, cpus: tuple[int, ...]) -> float | None:
    """How busy each of several CPUs was on average: a fleet of load workers has one each."""
    return None if cores is None else cores / max(len(cpus), 1)


def _per_second(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _others(recording: Recording) -> float | None:
    machine, ours = _cores(recording, "machine"), [_cores(recording, who) or 0.0 for who in OURS]
    return None if machine is None else max(machine - sum(ours), 0.0)


def _intruders(recording: Recording) -> float | None:
    busy = _per_second(
        [sample.generator_cpu_s for sample in recording.of("machine") if sample.generator_cpu_s is not None]
    )
    cpus, own = recording.head.generator_cpus, _cores(recording, "generator")
    if own is not None and set(cpus) & set(recording.head.database_cpus):
        own += _cores(recording, "database") or 0.0
    return None if busy is None or own is None else max(_of_each(busy - own, cpus) or 0.0, 0.0)
