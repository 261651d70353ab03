"""Can anyone's published table be true? In: its Rows. Out: a Finding a row: possible, suspect or impossible.

LAWS, the table, holds every law, one function and one row each. A law speaks where its columns are there, and says no
more than it knows: figures are rounded, so a row is impossible only if nothing that rounds to it is possible; suspect,
if something has to be true that the table does not say. Possible is not proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from harness.histogram import samples_needed
from harness.published import Number, Row

POSSIBLE, SUSPECT, IMPOSSIBLE = "possible", "suspect", "impossible"
SEVERITY = (IMPOSSIBLE, SUSPECT, POSSIBLE)
NO_LAW = "none"  # the law of a row that breaks none

TOLERANCE = 0.05  # of ceilings and of Little's law: calls at the edges of the window
WAIT_TOLERANCE_MS = 2.0
NEAR_CEILING = 0.95
MOST_ERRORS = 0.01  # of all calls; more of them make it matter whether a throughput counts them
P99_NEEDS = samples_needed(0.99)


class Broken(NamedTuple):
    """What a law says of a row. verdict POSSIBLE: only a hint."""

    verdict: str
    reason: str


class Finding(NamedTuple):
    """The answer for one row, 1 the first below the headings: the gravest law, and the others' sentences."""

    row: int
    verdict: str
    law: str
    reason: str
    name: str
    also: tuple[str, ...] = ()


class Law(NamedTuple):
    """needs: sets of columns; it speaks where one of them is there."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    says: Callable[[Row], Broken | None]

    def speaks_of(self, row: Row) -> bool:
        return any(all(getattr(row, column) is not None for column in columns) for columns in self.needs)


# -- laws ------------------------------------------------------------------------------------------------------------


def order(row: Row) -> Broken | None:
    """p50 ≤ p99 ≤ maximum, mean ≤ maximum."""
    for below, above in (("p50_ms", "p99_ms"), ("p99_ms", "max_ms"), ("p50_ms", "max_ms"), ("mean_ms", "max_ms")):
        less, more = getattr(row, below), getattr(row, above)
        if less and more and less.low > more.high:
            return Broken(IMPOSSIBLE, f"{_word(below)} {_ms(less)} is above {_word(above)} {_ms(more)}")
    return None


def mean(row: Row) -> Broken | None:
    """mean ≤ 0.99 · p99 + 0.01 · max; where p50 is known, mean ≤ 0.5 · p50 + 0.49 · p99 + 0.01 · max."""
    if row.mean_ms is None or row.p99_ms is None:
        return None
    said = _needs_maximum(row.mean_ms.value, row.p99_ms, row)
    most = _most_mean(row)
    if most is not None and row.max_ms and row.mean_ms.low > most:
        return Broken(IMPOSSIBLE, f"{said}; printed is {_ms(row.max_ms)}")
    if most is None and row.mean_ms.low > row.p99_ms.high:
        return Broken(SUSPECT, f"{said}; none is printed")
    return None


def least_mean(row: Row) -> Broken | None:
    """mean ≥ 0.49 · p50 + 0.01 · p99: half of the calls took p50 or more, and no time is below 0."""
    if row.mean_ms is None or row.mean_ms.high >= (least := _least_mean(row)):
        return None
    taken = f"half of the calls took {_ms(row.p50_ms)} or more" if row.p50_ms else f"p99 is {_ms(row.p99_ms)}"
    return Broken(
        IMPOSSIBLE, f"a mean of {_ms(row.mean_ms)} is too low: {taken}, which makes it {least:.3g} ms or more"
    )


def _needs_maximum(mean_ms: float, p99: Number, row: Row) -> str:
    """The law, solved for the maximum."""
    if row.p50_ms is None:
        below, words = 0.99 * p99.value, f"0.99 × {p99.value:g}"
    else:
        below, words = 0.5 * row.p50_ms.value + 0.49 * p99.value, f"0.5 × {row.p50_ms.value:g} - 0.49 × {p99.value:g}"
    needed = f"({mean_ms:g} - {words}) ÷ 0.01 = {(mean_ms - below) / 0.01:,.0f} ms"
    return f"a mean of {mean_ms:g} ms beside a p99 of {_ms(p99)} needs a maximum of {needed} at least"


def _least_mean(row: Row) -> float:
    """What the percentiles alone make the mean, as all times are above 0."""
    p50, p99 = row.p50_ms, row.p99_ms
    if p50 is None:
        return 0.01 * p99.low if p99 else 0.0
    return 0.49 * p50.low + 0.01 * p99.low if p99 else 0.5 * p50.low


def _most_mean(row: Row) -> float | None:
    p50, p99, most = row.p50_ms or row.p99_ms, row.p99_ms, row.max_ms
    if p50 is None or p99 is None or most is None:
        return None
    return 0.5 * min(p50.high, p99.high) + 0.49 * p99.high + 0.01 * most.high


def slots(row: Row) -> Broken | None:
    """X ≤ slots ÷ W (Little, 1961): a slot that waits serves nobody else."""
    return _ceiling(row, row.slots, "slot")


def client(row: Row) -> Broken | None:
    """X ≤ clients ÷ W: a client that waits for its answer asks nothing else."""
    return _ceiling(row, row.concurrency, "client")


def _ceiling(row: Row, many: Number | None, thing: str) -> Broken | None:
    if many is None or row.wait_ms is None or row.throughput_rps is None or not row.wait_ms.value:
        return None
    most = many.value / row.wait_ms.value * 1000
    edge = many.value / row.duration_s.low if row.duration_s and row.duration_s.low else 0.0
    if row.throughput_rps.low <= (1 + TOLERANCE) * most + edge:
        return None
    said = f"{_rate(row.throughput_rps.value)} is impossible: {_bound(many, thing, row.wait_ms, most)}"
    answers = _answers_rps(row)
    if row.errors is None:
        said += "; errors counted as throughput would explain it, or waits that were not made"
    elif answers is not None and answers <= (1 + TOLERANCE) * most + edge:
        said += f"; without its {row.errors.value:,.0f} errors it is {_rate(answers)}: it counts errors, as it seems"
    return Broken(IMPOSSIBLE, said)


def _bound(many: Number, thing: str, wait_ms: Number, most: float) -> str:
    return f"{many.value:,.0f} {thing}{'s' * (many.value != 1)} ÷ {wait_ms.value:g} ms = {_rate(most)} at most"


def _answers_rps(row: Row) -> float | None:
    """The throughput without the errors, if it counts them."""
    if row.errors is None or row.duration_s is None or row.throughput_rps is None:
        return None
    return max(row.throughput_rps.value - row.errors.value / row.duration_s.value, 0.0)


def wait(row: Row) -> Broken | None:
    """R ≥ the declared wait, less 2 ms."""
    if row.wait_ms is None:
        return None
    for column in ("p50_ms", "mean_ms", "p99_ms", "max_ms"):
        time = getattr(row, column)
        if time and time.high < row.wait_ms.value - WAIT_TOLERANCE_MS:
            said = f"{_word(column)} {_ms(time)} is below the wait of {_ms(row.wait_ms)} that each call is said to make"
            if row.errors and row.errors.value:
                return Broken(SUSPECT, f"{said}: errors among the times would explain it")
            return Broken(IMPOSSIBLE, said)
    return None


def little(row: Row) -> Broken | None:
    """Little's law (Oper. Res. 9, 1961): X · R calls are in flight, and no more of them than there are clients."""
    least, inside = _in_flight(row, row.mean_ms.low if row.mean_ms else _least_mean(row), "at least")
    if row.concurrency is None or row.throughput_rps is None or least is None:
        return None
    if row.throughput_rps.low * least / 1000 <= (1 + TOLERANCE) * row.concurrency.value:
        return None
    return Broken(IMPOSSIBLE, f"{inside}, but there are {row.concurrency.value:,.0f} clients")


def idle(row: Row) -> Broken | None:
    """Little's law the other way: clients who always wait for an answer are all in flight."""
    most, inside = _in_flight(row, row.mean_ms.high if row.mean_ms else _most_mean(row), "at most")
    if row.concurrency is None or row.throughput_rps is None or most is None:
        return None
    if row.throughput_rps.high * most / 1000 >= (1 - TOLERANCE) * row.concurrency.value:
        return None
    return Broken(
        SUSPECT,
        f"{inside}, of {row.concurrency.value:,.0f} clients: they paused, or the times leave out some of what calls "
        "waited",
    )


def _in_flight(row: Row, mean_ms: float | None, bound: str) -> tuple[float | None, str]:
    """The mean that is to be used, and the product in words."""
    if row.throughput_rps is None or mean_ms is None:
        return None, ""
    told_ms = row.mean_ms.value if row.mean_ms else mean_ms
    mean_of = f"a mean of {told_ms:g} ms" if row.mean_ms else f"a mean of {bound} {told_ms:.3g} ms, by the percentiles,"
    inside = row.throughput_rps.value * told_ms / 1000
    return mean_ms, f"{_rate(row.throughput_rps.value)} × {mean_of} = {inside:,.4g} calls in flight"


def implied_mean(row: Row) -> Broken | None:
    """Little's law gives clients who never pause a mean of clients ÷ X, to be held against p99 as a printed one."""
    if row.concurrency is None or row.throughput_rps is None or row.p99_ms is None or not row.throughput_rps.value:
        return None
    if row.mean_ms or row.max_ms or row.concurrency.value / row.throughput_rps.high * 950 <= row.p99_ms.high:
        return None  # 950: ms, less the tolerance
    implied_ms = float(f"{row.concurrency.value / row.throughput_rps.value * 1000:.3g}")
    return Broken(
        SUSPECT,
        f"{row.concurrency.value:,.0f} clients ÷ {_rate(row.throughput_rps.value)} is a mean of {implied_ms:g} ms, "
        f"unless they paused: {_needs_maximum(implied_ms, row.p99_ms, row)}; none is printed",
    )


def goodput(row: Row) -> Broken | None:
    """Errors are no throughput; whether a table counts them, only it can say."""
    if row.errors is None or row.throughput_rps is None or row.duration_s is None or not row.errors.value:
        return None
    most, calls = row.throughput_rps.high * row.duration_s.high, row.throughput_rps.value * row.duration_s.value
    if row.errors.value <= MOST_ERRORS * most:
        return None
    if row.errors.value > most:
        return Broken(SUSPECT, f"{row.errors.value:,.0f} errors are more than the {calls:,.0f} calls of its throughput")
    return Broken(
        SUSPECT,
        f"{row.errors.value:,.0f} of about {calls:,.0f} calls were errors: if its throughput counts them, only "
        f"{_rate(_answers_rps(row) or 0.0)} were answers",
    )


def samples(row: Row) -> Broken | None:
    """A p99 of few calls says nothing: 662 are needed for 99 % confidence."""
    if row.p99_ms is None or row.throughput_rps is None or row.duration_s is None:
        return None
    calls = row.throughput_rps.high * row.duration_s.high
    if calls >= P99_NEEDS:
        return None
    return Broken(SUSPECT, f"its p99 is of about {calls:,.0f} calls; {P99_NEEDS} are needed to name one")


def retransmits(row: Row) -> Broken | None:
    """Kernels send a lost SYN again after 1, 3, 7 s, some after 1, 2, 3, 4, 5 s: a sign of a full listen queue."""
    for column in ("p99_ms", "max_ms"):
        time = getattr(row, column)
        if time and row.p50_ms and row.p50_ms.value < time.value / 5:
            for second in (1, 2, 3, 4, 5, 7):
                if 0 <= time.value - second * 1000 <= 50:
                    return Broken(
                        POSSIBLE,
                        f"{_word(column)} {_ms(time)} is where a kernel sends a lost SYN again ({second} s): a listen "
                        "queue may have overflowed",
                    )
    return None


def delayed_ack(row: Row) -> Broken | None:
    """40 ms is what Nagle's algorithm and a delayed ACK cost together."""
    for column in ("p50_ms", "p99_ms"):
        time, declared = getattr(row, column), row.wait_ms
        if time and declared and 39.5 <= time.value - declared.value <= 44:
            return Broken(POSSIBLE, f"{_word(column)} is 40 ms above the wait, as Nagle and a delayed ACK make it")
    return None


IN_FLIGHT = tuple(("throughput_rps", "concurrency", time) for time in ("mean_ms", "p50_ms", "p99_ms"))
LAWS: tuple[Law, ...] = (
    Law("percentiles in order", (*combinations(("p50_ms", "p99_ms", "max_ms"), 2), ("mean_ms", "max_ms")), order),
    Law("mean", (("mean_ms", "p99_ms"),), mean),
    Law("least mean", (("mean_ms", "p50_ms"), ("mean_ms", "p99_ms")), least_mean),
    Law("slots", (("throughput_rps", "slots", "wait_ms"),), slots),
    Law("client", (("throughput_rps", "concurrency", "wait_ms"),), client),
    Law("wait", tuple(("wait_ms", time) for time in ("p50_ms", "mean_ms", "p99_ms", "max_ms")), wait),
    Law("Little", IN_FLIGHT, little),
    Law("idle clients", (("throughput_rps", "concurrency", "mean_ms"), (*IN_FLIGHT[2], "max_ms")), idle),
    Law("implied mean", (IN_FLIGHT[2],), implied_mean),
    Law("goodput", (("throughput_rps", "errors", "duration_s"),), goodput),
    Law("samples", (("throughput_rps", "duration_s", "p99_ms"),), samples),
    Law("retransmits", (("p50_ms", "p99_ms"), ("p50_ms", "max_ms")), retransmits),
    Law("delayed ACK", (("wait_ms", "p50_ms"), ("wait_ms", "p99_ms")), delayed_ack),
)


# -- of several rows -------------------------------------------------------------------------------------------------


def alike(rows: Sequence[Row]) -> dict[int, Broken]:
    """Row number → rows that one shared ceiling limits, so that the table cannot tell them apart."""
    found: dict[int, Broken] = {}
    for thing, of in (("slot", "slots"), ("client", "concurrency")):  # the clients' word stands, where both do
        near: dict[tuple[float, float], list[Row]] = {}
        for row in rows:
            many, most = getattr(row, of), _most_rps(row, of)
            if many and row.wait_ms and most and NEAR_CEILING * most <= _rps(row) <= (1 + TOLERANCE) * most:
                near.setdefault((many.value, row.wait_ms.value), []).append(row)
        for same in near.values():
            if len(same) > 1:
                found |= dict.fromkeys((row.number for row in same), Broken(SUSPECT, _all_near(same, thing, of)))
    return found


def _all_near(rows: Sequence[Row], thing: str, of: str) -> str:
    most = _most_rps(rows[0], of) or 1.0
    shares = sorted(_rps(row) / most for row in rows)
    many, wait_ms = getattr(rows[0], of), rows[0].wait_ms
    assert wait_ms is not None
    return (
        f"{len(rows)} rows are at {shares[0]:.1%} to {shares[-1]:.1%} of the same ceiling, "
        f"{_bound(many, thing, wait_ms, most)}: it limits them all, so their order says nothing of the servers"
    )


def _most_rps(row: Row, of: str) -> float | None:
    many = getattr(row, of)
    return many.value / row.wait_ms.value * 1000 if many and row.wait_ms and row.wait_ms.value else None


def _rps(row: Row) -> float:
    return row.throughput_rps.value if row.throughput_rps else 0.0


# -- the answer ------------------------------------------------------------------------------------------------------


def audit(rows: Sequence[Row]) -> list[Finding]:
    """One Finding a row, in their order."""
    shared = alike(rows)
    return [_finding(row, shared.get(row.number)) for row in rows]


def _finding(row: Row, shared: Broken | None) -> Finding:
    speaking = [law for law in LAWS if law.speaks_of(row)]
    broken = [(law.name, said) for law in speaking if (said := law.says(row))]
    if shared:
        broken.append(("alike", shared))
    broken.sort(key=lambda one: SEVERITY.index(one[1].verdict))
    if broken:
        (law, worst), *others = broken
        also = tuple(f"{name}: {said.reason}" for name, said in others)
        return Finding(row.number, worst.verdict, law, worst.reason, row.name, also)
    if not speaking:
        return Finding(row.number, POSSIBLE, NO_LAW, "too few columns for any law to speak of it", row.name)
    held = ", ".join(law.name for law in speaking)
    return Finding(row.number, POSSIBLE, NO_LAW, f"breaks no law that speaks of it ({held})", row.name)


def rows_of(found: Iterable[Finding]) -> list[dict[str, Any]]:
    """For `--json`."""
    return [finding._asdict() | {"also": list(finding.also)} for finding in found]


def _word(column: str) -> str:
    return {"max_ms": "the maximum", "mean_ms": "the mean"}.get(column, column.removesuffix("_ms"))


def _ms(number: Number | None) -> str:
    return f"{number.value:,g} ms" if number else "n/a"


def _rate(rps: float) -> str:
    return f"{rps:,.0f}/s" if rps >= 100 else f"{rps:.3g}/s"
