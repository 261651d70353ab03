"""The generator against wrk and stock Locust. In: this machine, some minutes. Out: a table: what, target, measured.

`python -m harness.bench_generator [--rounds N]`. One core for the server, one for the generator; contestants take turns
in rounds, and medians over the rounds are compared, so that drift of the machine falls on all alike. What a machine
does to a single moment (a hypervisor that takes the CPU away for 50 ms) falls on single seconds: lateness is looked at
by the second, the median second is compared, and the worst one is shown beside it.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from apps.variants import VARIANTS
from harness import show
from harness.load import schedule
from harness.proving import ROW, Freeze, Prover, frozen_responses, quantile, scenario, served_s, serving, wrk_rps
from harness.recording import Kind
from harness.selftest import LATENESS_MS, USERS, highest, lateness_at, ms
from harness.serve.process import serve, spawn, stop

SECONDS = 4
KINDS: tuple[Kind, Kind] = ("lateness", "response")
STOCK = Path(__file__).parent / "load" / "stock.py"


class Line(NamedTuple):
    """One row of the table. ok: None = could not be measured."""

    what: str
    target: str
    measured: str
    ok: bool | None


def stock_rps(port: int, cpus: frozenset[int]) -> float:
    """Completed requests a second of FastHttpUser, by Locust's own statistics, over its steady seconds."""
    argv = [sys.executable, "-m", "locust", "-f", str(STOCK), "--headless", "--json", "--loglevel", "ERROR"]
    argv += ["-u", str(USERS), "-r", str(USERS), "-t", f"{SECONDS + 1}s", "--host", f"http://127.0.0.1:{port}"]
    process = spawn(argv, cpus, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        text = process.communicate(timeout=SECONDS + 40)[0]
    finally:
        stop(process)
    counts = sorted(json.loads(text)[0]["num_reqs_per_sec"].items())
    steady = [count for _, count in counts[1:-1]]  # the first and the last second are not whole
    return float(statistics.mean(steady))


def closed(prover: Prover, rounds: int, say: Callable[[str], None]) -> Iterator[Line]:
    """Canned bytes and the real `asgi` on /ping, each round: gatebench, wrk, stock Locust."""
    found: dict[str, list[float]] = defaultdict(list)
    asked = scenario("closed", USERS, SECONDS, warmup_s=1)

    def compare(name: str, port: int) -> None:
        contestants: dict[str, Callable[[], float | None]] = {
            "gatebench": lambda: prover.drive(port, asked).throughput_rps(ROW),
            "wrk": lambda: wrk_rps(port, seconds=SECONDS - 1, connections=USERS),
        }
        if name == "canned":
            contestants["stock"] = lambda: stock_rps(port, prover.generator_cpus)
        for who, rps in contestants.items():
            if (measured := rps()) is not None:
                found[f"{name} {who}"].append(measured)
                say(f"  {name}, {who}: {measured:,.0f}/s")

    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        with serving("canned") as known:
            compare("canned", known.port)
        with (
            tempfile.TemporaryDirectory(prefix="gatebench-") as scratch,
            serve(VARIANTS["asgi"], cpus=prover.server_cpus, folder=Path(scratch)) as server,
        ):
            compare("asgi", server.address[1])
    medians = {name: statistics.median(values) for name, values in found.items()}
    yield _ratio("closed, 32 connections, asgi /ping: ÷ wrk", 0.95, medians, "asgi gatebench", "asgi wrk")
    yield _ratio("closed, 32 connections, canned bytes: ÷ wrk", 0.60, medians, "canned gatebench", "canned wrk")
    yield _ratio("same: ÷ stock FastHttpUser", 5, medians, "canned gatebench", "canned stock")


def _ratio(what: str, least: float, medians: dict[str, float], ours: str, theirs: str) -> Line:
    if theirs not in medians:
        return Line(what, f"≥ {least:g}", f"not measured: {theirs.split()[1]} is not installed", None)
    ratio = medians[ours] / medians[theirs]
    return Line(what, f"≥ {least:g}", f"{ratio:.2f} ({medians[ours]:,.0f} ÷ {medians[theirs]:,.0f}/s)", ratio >= least)


def opened(prover: Prover, rounds: int, say: Callable[[str], None]) -> Iterator[Line]:
    """The open ceiling, and what half of it looks like, against the server's own log."""
    ceilings: list[float] = []
    for _ in range(rounds):
        with serving("canned") as known:
            ceilings.append(highest(functools.partial(lateness_at, prover, known.port)))
        say(f"  open ceiling: {ceilings[-1]:,.0f}/s")
    ceiling = statistics.median(ceilings)
    yield Line("open ceiling", "≥ 20,000/s", f"{ceiling:,.0f}/s", ceiling >= 20_000)
    seconds = [second for _ in range(rounds) for second in _half(prover, ceiling / 2, say)]
    typical = Second(*map(statistics.median, zip(*seconds, strict=True)))
    worst = Second(*map(max, zip(*seconds, strict=True)))

    def line(what: str, field: str, limit: float) -> Line:
        measured, extreme = getattr(typical, field), getattr(worst, field)
        return Line(what, f"≤ {limit:.2g} ms", f"{measured:.3f} ms (worst {extreme:.3f})", measured <= limit)

    yield line(f"at 50 % of it, the median of {len(seconds)} seconds: lateness p50", "late_p50", 0.1)
    yield line("same: lateness p99", "late_p99", 0.5)
    yield line("same: response p50 less the server's log", "off_p50", 0.2)
    yield line("same: response p99 less the server's log", "off_p99", max(1.0, 0.02 * typical.logged_p99))


class Second(NamedTuple):
    """One second of an open load, in ms: how late it was, and how far its responses are off the server's own log."""

    late_p50: float
    late_p99: float
    off_p50: float
    off_p99: float
    logged_p99: float


def _half(prover: Prover, rate: float, say: Callable[[str], None]) -> Iterator[Second]:
    with serving("canned", log=True) as known:
        recording = prover.drive(known.port, scenario("poisson", rate, SECONDS + 1, warmup_s=1))
        logged = served_s(known.end())
    counted = [recording.counts(ROW, [second]).offered for second in range(SECONDS + 1)]
    for second in recording.window:
        late, response = (recording.histogram(ROW, kind, [second]) for kind in KINDS)
        begin = sum(counted[:second])  # the log is in the order of arrival
        truth = logged[begin : begin + counted[second]]
        late_p50, late_p99 = (late.quantile_us(q) / 1000 for q in (0.5, 0.99))
        true_p50, true_p99 = (1000 * quantile(truth, q) for q in (0.5, 0.99))
        off_p50 = abs(response.quantile_us(0.5) / 1000 - true_p50)
        off_p99 = abs(response.quantile_us(0.99) / 1000 - true_p99)
        say(f"  {rate:,.0f}/s: lateness {late_p50:.3f}, {late_p99:.3f} ms; off the log {off_p50:.3f}, {off_p99:.3f} ms")
        yield Second(late_p50, late_p99, off_p50, off_p99, true_p99)


def frozen(prover: Prover, rounds: int, say: Callable[[str], None]) -> Iterator[Line]:
    """500/s for 10 s, the server stopped for 1 s."""
    pairs = []
    for _ in range(rounds):
        with serving("delay", 5) as known:
            freeze = Freeze(known.process.pid, 4.0, 1.0)
            recording = prover.drive(known.port, scenario("constant", 500, 10), started=freeze.begin)
            freeze.join()
        times = schedule.draw("constant", 500, 10, 1)
        truth = 1000 * quantile(frozen_responses(times, 0.005, freeze.stopped, freeze.continued), 0.99)
        pairs.append((ms(recording, "response", 0.99) - truth, truth))
        say(f"  freeze: p99 is {pairs[-1][0]:+.1f} ms off {truth:.1f} ms")
    off = statistics.median(pair[0] for pair in pairs)
    computed = statistics.median(pair[1] for pair in pairs)
    yield Line("freeze test p99", f"{computed:.1f} ± 5 ms", f"{computed + off:.1f} ms", abs(off) <= 5)


PARTS = (closed, opened, frozen)


def main() -> None:
    parser = argparse.ArgumentParser(prog="harness.bench_generator", description="gatebench, wrk and stock Locust.")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    with Prover() as prover:
        lines = [line for part in PARTS for line in part(prover, rounds, say)]
    marks = {True: "ok", False: "!!", None: "–"}
    rows = [(marks[line.ok], line.what, line.target, line.measured) for line in lines]
    show.table(("", f"medians of {rounds} rounds", "target", "measured"), rows)
    sys.stdout.write(
        "÷ wrk: with the same headers on both sides; open ceiling: the highest Poisson rate with lateness p99 ≤ "
        f"{LATENESS_MS:g} ms; here nothing is measured of 10 000 streams and of memory over hours: those are tests\n"
    )


if __name__ == "__main__":
    main()
