"""The generator against wrk and stock Locust. In: this machine, some minutes. Out: a table: what, target, measured.

`python -m harness.bench_generator [--rounds N]`. One core for the server, one for the generator; contestants take turns
in rounds, and medians over the rounds are compared, so that drift of the machine falls on all alike.
"""

from __future__ import annotations

import argparse
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
from harness.recording import Recording
from harness.selftest import LATENESS_MS, USERS, highest, ms
from harness.serve.process import serve, spawn, stop

SECONDS = 4
LOGGED_RPS = 12_000.0  # a server that logs each request is itself far from idle beyond this
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
            "wrk": lambda: wrk_rps(port, path="/ping", seconds=SECONDS - 1, connections=USERS),
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
            ceilings.append(highest(lambda rate, port=known.port: _late_ms(prover, port, rate)))  # type: ignore[misc]
        say(f"  open ceiling: {ceilings[-1]:,.0f}/s")
    ceiling = statistics.median(ceilings)
    yield Line("open ceiling", "≥ 20,000/s", f"{ceiling:,.0f}/s", ceiling >= 20_000)
    halves = [_half(prover, ceiling / 2, say) for _ in range(rounds)]
    p50, p99, off50, off99, allowed = (statistics.median(values) for values in zip(*halves, strict=True))
    yield Line("at 50 % of it: lateness p50", "≤ 0.1 ms", f"{p50:.3f} ms", p50 <= 0.1)
    yield Line("same: lateness p99", "≤ 0.5 ms", f"{p99:.3f} ms", p99 <= 0.5)
    at = f"at {min(ceiling / 2, LOGGED_RPS):,.0f}/s"
    yield Line(f"{at}: response p50 less the log's", "≤ 0.2 ms", f"{off50:.3f} ms", off50 <= 0.2)
    yield Line(f"{at}: response p99 less the log's", f"≤ {allowed:.2g} ms", f"{off99:.3f} ms", off99 <= allowed)


def _late_ms(prover: Prover, port: int, rate: float) -> float:
    return ms(prover.drive(port, scenario("poisson", rate, 2, warmup_s=1, timeout_s=1.0)), "lateness", 0.99)


def _half(prover: Prover, rate: float, say: Callable[[str], None]) -> tuple[float, float, float, float, float]:
    """Lateness p50 and p99, how far response p50 and p99 are off the log, and how far p99 may be; in ms."""
    with serving("canned") as known:
        unlogged = prover.drive(known.port, scenario("poisson", rate, SECONDS, warmup_s=1))
    with serving("canned", log=True) as known:
        recording: Recording = prover.drive(known.port, scenario("poisson", min(rate, LOGGED_RPS), SECONDS))
        logged = served_s(known.end())
    late = [ms(unlogged, "lateness", q) for q in (0.5, 0.99)]
    truth = [1000 * quantile(logged, q) for q in (0.5, 0.99)]
    off = [abs(ms(recording, "response", q) - true) for q, true in zip((0.5, 0.99), truth, strict=True)]
    say(f"  {rate:,.0f}/s: lateness {late[0]:.3f} and {late[1]:.3f} ms; off the log {off[0]:.3f} and {off[1]:.3f} ms")
    return late[0], late[1], off[0], off[1], max(1.0, 0.02 * truth[1])


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
        f"open ceiling: the highest Poisson rate with lateness p99 ≤ {LATENESS_MS:g} ms; here nothing is measured of "
        "10 000 streams and of memory over hours: those are tests\n"
    )


if __name__ == "__main__":
    main()
