"""What a Trial's numbers must obey. In: a Recording. Out: a Verdict: VALID, SUSPECT or VOID, and what limited it.

Pure. `evidence()` reduces a Recording to the few numbers that the laws speak of; CEILINGS and LAWS, the tables at the
end, hold every law and gate, one function and one row each. An overloaded server is a finding, never VOID: only a
broken instrument, a broken law or a dead server is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.histogram import Histogram, samples_needed
from harness.recording import HUB, Recording
from harness.trial import Part

VALID, SUSPECT, VOID = "VALID", "SUSPECT", "VOID"

AT_LIMIT = 0.85  # a ceiling explains a throughput that comes this near
SERVED = 0.98  # an open load is served when this share of what was offered completes in the window
WAIT_TOLERANCE_S = 0.002  # PROOFS: R ≥ the declared wait, tolerance 2 ms
LATE_S = 0.050
TICK_S = 0.010  # of the hub's own ticker
STALL_S = 0.020  # beyond what the harness's own threads can cost its witness
MOST_WAITING = 0.2  # of the time; a generator with a CPU of its own waits less than 0.01
MOST_TAKEN = 0.5  # of its core; the harness itself takes about 0.02
NEAR_CEILING = 0.7


class Verdict(NamedTuple):
    """name: VALID, SUSPECT or VOID. limited_by: one of DESIGN's nine words. reason: the sentence."""

    name: str
    limited_by: str
    reason: str


class Ceiling(NamedTuple):
    """An upper bound of the throughput, and the law behind it in one sentence. name: the word for `limited_by`."""

    name: str
    rps: float
    sentence: str


class Violation(NamedTuple):
    """A law that does not hold, or a gate that closed."""

    verdict: str
    limited_by: str
    sentence: str


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

    @property
    def cpu_s_per_request(self) -> float:
        if self.server_cpu_cores is None or not self.throughput_rps:
            return 0.0
        return self.server_cpu_cores / self.throughput_rps

    @property
    def bad_share(self) -> float:
        return (self.failed + self.timed_out + self.unfinished) / self.offered if self.offered else 0.0


QUANTILES = (0.5, 0.9, 0.99)


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
    machine, ours = _cores(recording, "machine"), [_cores(recording, who) or 0.0 for who in ("server", "generator")]
    return None if machine is None else max(machine - sum(ours), 0.0)


def _intruders(recording: Recording) -> float | None:
    busy = _per_second(
        [sample.generator_cpu_s for sample in recording.of("machine") if sample.generator_cpu_s is not None]
    )
    cpus, own = recording.head.generator_cpus, _cores(recording, "generator")
    return None if busy is None or own is None else max(_of_each(busy - own, cpus) or 0.0, 0.0)


# -- ceilings: what could limit the throughput -----------------------------------------------------------------------


def slots(e: Evidence) -> Ceiling | None:
    """Slot law: X ≤ slots ÷ W (Little, 1961). CPU inside a slot overlaps with other slots' waits: the wait bounds."""
    return _bound("slots", e.slots, "slot", e.wait_s) if e.slots is not None and e.wait_s else None


def pool(e: Evidence) -> Ceiling | None:
    """The same law for the database connections: X ≤ connections ÷ time held."""
    return _bound("pool", e.pool, "database connection", e.pool_s) if e.pool is not None else None


def cpu(e: Evidence) -> Ceiling | None:
    """Utilisation law: X ≤ cores ÷ CPU a request (Denning & Buzen, 1978)."""
    return _bound("cpu", e.server_cores, "core", e.cpu_s_per_request, " CPU a request") if e.cpu_s_per_request else None


def client(e: Evidence) -> Ceiling | None:
    """Closed loop: X ≤ users ÷ W; without a declared wait the users are not what limits."""
    return _bound("client", int(e.level), "user", e.wait_s) if e.closed and e.wait_s else None


def _bound(name: str, count: int, thing: str, each_s: float, spent: str = "") -> Ceiling:
    """count ÷ seconds each, and the sentence that says so."""
    rps = count / each_s
    things = f"{count} {thing}{'s' * (count != 1)}"
    return Ceiling(name, rps, f"{things} ÷ {_ms(each_s)}{spent} = {f'{rps:,.0f}' if rps >= 10 else f'{rps:.2g}'}/s")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


# -- laws and gates: what makes a Trial SUSPECT or VOID --------------------------------------------------------------


def outcome(e: Evidence) -> Violation | None:
    limits = {"server_died": "none", "interrupted": "none", "generator_failed": "generator"}
    if e.outcome in limits:
        return Violation(VOID, limits[e.outcome], e.outcome_reason or e.outcome)
    return None


def nothing(e: Evidence) -> Violation | None:
    """Where calls end that began before the window, there is a throughput: an overload that answers nobody in time."""
    if not e.completed and not e.throughput_rps:
        return Violation(VOID, "none", f"n/a: none of {e.offered} requests completed")
    return None


def sums(e: Evidence) -> Violation | None:
    if not e.counts_add_up:
        return Violation(
            VOID, "generator", "offered is not completed + failed + timed out + unfinished: requests were lost"
        )
    return None


def started(e: Evidence) -> Violation | None:
    """PROOFS T5: fewer than 99 % of the scheduled arrivals started."""
    if e.not_started > 0.01 * e.all_offered:
        return Violation(VOID, "generator", f"the generator never started {e.not_started} of {e.all_offered} arrivals")
    return None


def late(e: Evidence) -> Violation | None:
    """PROOFS T5: more than 0.1 % of the arrivals started more than 50 ms late."""
    if e.started_late > 0.001 * e.all_offered:
        share = e.started_late / max(e.all_offered, 1)
        sentence = f"the generator took up {share:.1%} of the arrivals more than 50 ms late"
        return Violation(VOID, "generator", sentence + _cause(e))
    return None


def lateness(e: Evidence) -> Violation | None:
    """PROOFS T5: lateness, or the hub's lag, against the very percentiles that are printed.

    Response contains lateness, so "above the printed percentile's own value" can only mean: above the rest of it. Below
    1 ms, what an open ceiling allows, it is a doubt. A closed load has the lag only, which enters few of its responses:
    it has to be above the printed value, and longer than the ticker's own 10 ms.
    """
    found = [
        (name, q, own[q], own[q] / max(e.response[q], 1e-6))
        for name, own in (("lateness", e.lateness), ("lag", e.lag))
        for q in QUANTILES
        if q in own and q in e.response
    ]
    for name, q, value_s, share in found:
        if name == "lateness" and share > 0.5 and value_s > 0.001:
            sentence = f"lateness p{q * 100:g} is {share:.0%} of the response: the schedule was not kept"
            return Violation(VOID, "generator", sentence + _cause(e))
        if name == "lag" and e.closed and share > 1 and value_s > TICK_S:
            sentence = f"the generator was held up: its lag p{q * 100:g} is {_ms(value_s)}, above the printed one"
            return Violation(VOID, "generator", sentence + _cause(e))
    for name, q, _, share in found:
        if share > 0.2:
            return Violation(SUSPECT, "generator", f"the generator's {name} is {share:.0%} of the printed p{q * 100:g}")
    return None


def starved(e: Evidence) -> Violation | None:
    """The generator's own word is not needed where the kernel says that its CPU was not its own."""
    if e.generator_waited is not None and e.generator_waited > MOST_WAITING:
        return Violation(VOID, "generator", f"the generator was kept waiting{_cause(e)}")
    if e.intruders is not None and e.intruders > MOST_TAKEN and not e.shared_cpus:
        return Violation(VOID, "generator", f"others held its CPU: they used {e.intruders:.0%} of the generator's core")
    return None


def _cause(e: Evidence) -> str:
    """Why a generator was late, as far as the machine says."""
    if e.generator_waited is not None and e.generator_waited > 0.05:
        return f": others held its CPU for {e.generator_waited:.0%} of the time"
    if e.generator_cpu_cores is not None and e.generator_cpu_cores > 0.9:
        return ": its core was busy, it was asked for more than it can"
    if e.steal_cores is not None and e.steal_cores > 0.15:
        return f": the hypervisor took {e.steal_cores:.0%} of a core"
    worst_s = max(e.lag.values(), default=0.0)
    if e.stalled_s is not None and e.stalled_s > max(STALL_S, worst_s / 2):
        return f": the machine itself stood still for up to {_ms(e.stalled_s)}, and nothing ran"
    if worst_s > 5 * TICK_S:
        return ": it was stopped, or its CPU time is limited (a quota)"
    return ""


def exhausted(e: Evidence) -> Violation | None:
    """PROOFS T5: descriptors and ports are the generator's own."""
    for kind, remedy in (("no descriptors", "ulimit -n 20000"), ("no ports", "fewer connections, or keep them alive")):
        if e.errors.get(kind):
            return Violation(VOID, "generator", f"the generator ran out: {kind}, {e.errors[kind]} times; {remedy}")
    return None


def generator_core(e: Evidence) -> Violation | None:
    if e.generator_cpu_cores is not None and e.generator_cpu_cores > 0.9:
        return Violation(
            SUSPECT, "generator", f"the generator's core was {e.generator_cpu_cores:.0%} busy: it may be the limit"
        )
    return None


def instrument(e: Evidence) -> Violation | None:
    """PROOFS T6: above 70 % of the instrument's own ceiling, closed or open, it may be the limit itself."""
    rate, model = (e.throughput_rps, "closed") if e.closed else (e.offered / e.window_s, "open")
    if e.ceiling_rps is not None and rate > NEAR_CEILING * e.ceiling_rps:
        share = f"{rate / e.ceiling_rps:.0%}" if e.ceiling_rps else "all"
        sentence = f"{rate:,.0f}/s is {share} of what the generator itself manages, {e.ceiling_rps:,.0f}/s {model}"
        return Violation(SUSPECT, "generator", f"{sentence} (`gatebench selftest`)")
    return None


def shared(e: Evidence) -> Violation | None:
    """Server and generator on one CPU take time from each other."""
    if e.shared_cpus:
        return Violation(SUSPECT, "generator", "server and generator shared a CPU: a machine with two keeps them apart")
    return None


def disturbed(e: Evidence) -> Violation | None:
    """Others on our CPUs. The harness itself takes about 2 %; below 15 % of a core it is in the intervals' noise."""
    for what, cores in (("other processes used", e.other_cpu_cores), ("the hypervisor took", e.steal_cores)):
        if cores is not None and cores > 0.15:
            return Violation(
                SUSPECT, "none", f"{what} {cores:.0%} of a core meanwhile: `gatebench doctor` says who runs"
            )
    return None


def restarted(e: Evidence) -> Violation | None:
    """PROOFS, fault 7: the numbers are those of fewer workers for a while, and of cold ones."""
    if e.restarts:
        times = f"{e.restarts} time{'s' * (e.restarts != 1)}"
        return Violation(SUSPECT, "none", f"one of its workers died and was restarted {times} meanwhile")
    return None


def wait(e: Evidence) -> Violation | None:
    """R ≥ the declared wait."""
    declared_s = e.wait_s if e.declared_s is None else e.declared_s
    if e.service_min_s is not None and e.service_min_s < declared_s - WAIT_TOLERANCE_S and not e.bad_share:
        return Violation(
            VOID, "none", f"a reply came after {_ms(e.service_min_s)}, before the declared wait of {_ms(declared_s)}"
        )
    return None


def impossible(e: Evidence) -> Violation | None:
    """No throughput beyond a ceiling that follows from the budget alone; 5 % for the edges of the window."""
    for ceiling in filter(None, (slots(e), pool(e), client(e))):
        edge = e.slots or e.pool or e.level  # calls that began before the window and ended in it
        if e.throughput_rps > 1.05 * ceiling.rps + edge / e.window_s:
            return Violation(
                VOID, ceiling.name, f"impossible: {e.throughput_rps:,.0f}/s measured, but {ceiling.sentence}"
            )
    return None


def little(e: Evidence) -> Violation | None:
    """Little's law, closed: users ≈ X·R within 5 %; only where the window holds many turns and all calls end."""
    if not e.closed or e.response_mean_s is None or e.bad_share > 0.001:
        return None
    inside = e.throughput_rps * e.response_mean_s
    edge = 1 / max(e.throughput_rps * e.window_s / e.level, 1)  # one turn at the edge of the window
    if abs(inside - e.level) > (0.05 + edge) * e.level:
        return Violation(
            SUSPECT, "none", f"Little's law is off: {e.level:.0f} users, but throughput × response time = {inside:.1f}"
        )
    return None


CEILINGS: tuple[Callable[[Evidence], Ceiling | None], ...] = (slots, pool, cpu, client)
LAWS: tuple[Callable[[Evidence], Violation | None], ...] = (
    outcome,
    nothing,
    sums,
    started,
    late,
    lateness,
    starved,
    exhausted,
    wait,
    impossible,
    restarted,
    generator_core,
    instrument,
    shared,
    disturbed,
    little,
)

# -- the verdict -----------------------------------------------------------------------------------------------------


def ceilings(recording: Recording) -> list[Ceiling]:
    """Every ceiling that can be named for this Trial, the lowest first."""
    return _ceilings(evidence(recording))


def _ceilings(e: Evidence) -> list[Ceiling]:
    found = filter(None, (ceiling(e) for ceiling in CEILINGS))
    # where as many users as slots ask, more slots would change nothing
    return sorted(found, key=lambda ceiling: (ceiling.rps, ceiling.name != "client"))


def judge(recording: Recording) -> Verdict:
    return weigh(evidence(recording))


def weigh(e: Evidence) -> Verdict:
    """The first VOID law, else the first SUSPECT one, else VALID with what limited it."""
    broken = [violation for violation in (law(e) for law in LAWS) if violation]
    for violation in sorted(broken, key=lambda violation: violation.verdict != VOID):
        return Verdict(violation.verdict, violation.limited_by, violation.sentence)
    limited_by, sentence = limit(e)
    return Verdict(VALID, limited_by, sentence)


def served(e: Evidence) -> bool:
    """Whether an open load was served: nearly all of it was answered, and as fast as it came.

    What comes in shortly before an edge of the window completes beyond it: λW calls, which cancel but for their
    scatter (three deviations of a Poisson number at each edge), or, where the window has no warm-up before it, do not.
    """
    inside = e.offered / e.window_s * (e.wait_s + 0.005)
    edges = 3 * (2 * inside) ** 0.5 + (0 if e.warm else inside)
    finished = e.throughput_rps * e.window_s
    return not e.closed and e.bad_share < 1 - SERVED and finished >= SERVED * e.offered - edges


def limit(e: Evidence) -> tuple[str, str]:
    """What limited the throughput: the nearest ceiling that explains it, in a word and a sentence."""
    if served(e):
        return "none", "served what was offered"
    errors = f"; {e.bad_share:.1%} of {e.offered} arrivals not answered" if e.bad_share > 0.001 else ""
    if e.blocked_p50_s > 0.001:
        return "connections", f"arrivals waited for one of the {e.connections} connections{errors}"
    for ceiling in _ceilings(e)[:1]:
        if e.throughput_rps >= AT_LIMIT * ceiling.rps:
            return ceiling.name, ceiling.sentence + errors
    if e.listen_overflows:
        return "backlog", f"the listen queue overflowed {e.listen_overflows} times{errors}"
    if e.closed and e.response_mean_s:
        return "client", f"{e.level:.0f} users, each answered after {_ms(e.response_mean_s)} on average{errors}"
    return "none", f"nothing measured was at its limit{errors}"
