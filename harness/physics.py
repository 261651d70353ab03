"""What a Trial's numbers must obey. In: a Recording. Out: a Verdict: VALID, SUSPECT or VOID, and what limited it.

Pure. `harness.evidence` reduces a Recording to the few numbers that the laws speak of; CEILINGS and LAWS, the tables at
the end, hold every law and gate, SIGNS what is told beside a verdict: one function and one row each. An overloaded
server is a finding, never VOID: only a broken instrument, a broken law or a dead server is.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from harness.evidence import QUANTILES, Evidence, evidence
from harness.recording import Recording

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
BESIDE = 0.2  # of the ceiling: a database may share the generator's CPU up to here


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


def database(e: Evidence) -> Ceiling | None:
    """The utilisation law of the database's own CPUs."""
    if not e.database_cores or not e.database_cpu_cores or not e.throughput_rps:
        return None
    each_s = e.database_cpu_cores / e.throughput_rps
    return _bound("database", e.database_cores, "core", each_s, " CPU of the database a request")


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


def uncounted(e: Evidence) -> Violation | None:
    """Each query that was answered is found in the database, and no other."""
    return Violation(VOID, "none", "; ".join(e.uncounted)) if e.uncounted else None


def neighbours(e: Evidence) -> Violation | None:
    """A database on the generator's core: marked, and only where the load is a small part of what the generator can."""
    if not e.beside or not e.ceiling_rps:
        return None
    rate = e.throughput_rps if e.closed else e.offered / e.window_s
    if rate > BESIDE * e.ceiling_rps:
        sentence = f"the database shared the generator's CPU at {rate:,.0f}/s, above {BESIDE:.0%} of its ceiling"
        return Violation(SUSPECT, "generator", sentence)
    return None


def goodput(e: Evidence) -> Violation | None:
    """Errors are no throughput: no more calls can have been counted for it than completed, in the warm-up included."""
    if e.finished is not None and e.finished > e.all_completed:
        return Violation(VOID, "generator", f"{e.finished} calls count as throughput, but {e.all_completed} completed")
    return None


def order(e: Evidence) -> Violation | None:
    """p50 ≤ p90 ≤ p99 ≤ maximum."""
    ordered = sorted(e.spread.items())
    for (low, lower_s), (high, higher_s) in pairwise(ordered):
        if lower_s > higher_s:
            sentence = f"p{low * 100:g} {_ms(lower_s)} is above p{high * 100:g} {_ms(higher_s)}"
            return Violation(VOID, "generator", sentence.replace("p100", "the maximum"))
    return None


def mean(e: Evidence) -> Violation | None:
    """mean ≤ 0.99 · p99 + 0.01 · maximum; 0.5 % for the width of buckets."""
    if e.response_mean_s is None or not {0.99, 1.0} <= e.spread.keys():
        return None
    most_s = 0.99 * e.spread[0.99] + 0.01 * e.spread[1.0]
    if e.response_mean_s > 1.005 * most_s:
        sentence = f"the mean is {_ms(e.response_mean_s)}, but 0.99 × p99 + 0.01 × the maximum are {_ms(most_s)}"
        return Violation(VOID, "generator", sentence)
    return None


def cores(e: Evidence) -> Violation | None:
    """CPU a request × X ≤ cores; 10 % for the edges of the samples."""
    if e.server_cpu_cores is not None and e.server_cpu_cores > 1.1 * e.server_cores + 0.05:
        sentence = f"the server used {e.server_cpu_cores:.2g} cores of its {e.server_cores}: it was not held to them"
        return Violation(SUSPECT, "cpu", sentence)
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


CEILINGS: tuple[Callable[[Evidence], Ceiling | None], ...] = (slots, pool, cpu, database, client)
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
    uncounted,
    neighbours,
    goodput,
    order,
    mean,
    cores,
    little,
)


# -- signs: what is told beside a verdict, and changes none ------------------------------------------------------------


def overflows(e: Evidence) -> str | None:
    """PROOFS T5: annotated, never VOID. Where it is the limit, the limit's sentence says it."""
    if not e.listen_overflows or limit(e)[0] == "backlog":
        return None
    return f"the listen queue overflowed {e.listen_overflows} times"


def retransmits(e: Evidence) -> str | None:
    """A full listen queue drops SYNs, and the kernel sends them again after 1 s, 3 s and so on (RFC 6298, §2)."""
    if not e.clusters or not (e.listen_overflows or e.syn_retransmits):
        return None
    places = " and ".join(f"{place_s:g} s" for place_s in e.clusters)
    return f"{sum(e.clusters.values())} calls took {places} more: lost SYNs were sent again, so the backlog was full"


def delayed_ack(e: Evidence) -> str | None:
    """Nagle's algorithm holds a small packet until a delayed ACK comes, 40 ms later (RFC 896; RFC 1122, §4.2.3.2)."""
    busy = e.server_cpu_cores is not None and e.server_cpu_cores > 0.5 * e.server_cores
    at_limit = any(e.throughput_rps >= AT_LIMIT * ceiling.rps for ceiling in ceilings_of(e) if ceiling.name != "client")
    if e.acknowledged_late < 0.05 or busy or at_limit:
        return None
    return (
        f"{e.acknowledged_late:.0%} of the calls took 40 ms above their wait, as Nagle's algorithm and a delayed ACK "
        "make them (TCP_NODELAY)"
    )


SIGNS: tuple[Callable[[Evidence], str | None], ...] = (overflows, retransmits, delayed_ack)


# -- the verdict -----------------------------------------------------------------------------------------------------


def ceilings(recording: Recording) -> list[Ceiling]:
    """Every ceiling that can be named for this Trial, the lowest first."""
    return ceilings_of(evidence(recording))


def ceilings_of(e: Evidence) -> list[Ceiling]:
    found = filter(None, (ceiling(e) for ceiling in CEILINGS))
    # where as many users as slots ask, more slots would change nothing
    return sorted(found, key=lambda ceiling: (ceiling.rps, ceiling.name != "client"))


def judge(recording: Recording) -> Verdict:
    return weigh(evidence(recording))


def weigh(e: Evidence) -> Verdict:
    """The first VOID law, else the first SUSPECT one, else VALID with what limited it."""
    broken = [violation for violation in (law(e) for law in LAWS) if violation]
    limited_by, sentence = limit(e)
    for violation in sorted(broken, key=lambda violation: violation.verdict != VOID):
        if violation.verdict == VOID:
            return Verdict(VOID, violation.limited_by, violation.sentence)
        doubt = [violation.sentence, *signs(e)]
        if violation.limited_by == "none" != limited_by:  # a doubt about the moment takes no ceiling away
            return Verdict(violation.verdict, limited_by, "; ".join((sentence, *doubt)))
        return Verdict(violation.verdict, violation.limited_by, "; ".join(doubt))
    return Verdict(VALID, limited_by, "; ".join((sentence, *signs(e))))


def signs(e: Evidence) -> list[str]:
    return [said for said in (sign(e) for sign in SIGNS) if said]


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
    for ceiling in ceilings_of(e)[:1]:
        if e.throughput_rps >= AT_LIMIT * ceiling.rps:
            return ceiling.name, ceiling.sentence + errors
    if e.listen_overflows:
        return "backlog", f"the listen queue overflowed {e.listen_overflows} times{errors}"
    if e.closed and e.response_mean_s:
        return "client", f"{e.level:.0f} users, each answered after {_ms(e.response_mean_s)} on average{errors}"
    return "none", f"nothing measured was at its limit{errors}"
