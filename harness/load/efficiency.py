"""What splitting the load costs: `python -m harness.load.efficiency`. In: nothing. Out: a table of 1, 2 and 4 workers.

Canned answers come from the servers' CPU, rounds are interleaved, medians shown. On two cores all workers share one:
the CPU a request then tells what the split itself costs; with more, the requests a second tell what it gains. It
imports no Locust: the load processes do.
"""

from __future__ import annotations

import statistics
import sys
from typing import NamedTuple

import psutil

from harness import facts
from harness.load.order import Fleet
from harness.load.process import Generator
from harness.proving import ROW, Prover, scenario, serving

WORKERS = (1, 2, 4)
ROUNDS, SECONDS, USERS, RATE = 3, 4, 32, 6000.0


class Cost(NamedTuple):
    """closed: as fast as 32 users can. open: 6 000/s. CPU is of the whole generator, its master included."""

    closed_rps: float
    closed_cpu_us: float
    open_cpu_us: float
    open_lateness_p99_us: float


def cpu_s(generator: Generator) -> float:
    """CPU time so far of the load process and its workers."""
    times = [process.cpu_times() for process in generator.processes()]
    return sum(each.user + each.system for each in times)


def cost_of(port: int, workers: int) -> Cost:
    with Prover() as prover:
        if workers > 1:
            prover.generator.close()
            _, cpus = facts.cpu_sets(processes=workers)
            prover.generator = Generator(cpus, Fleet(processes=workers))
        prover.generator.ensure()
        spent = [cpu_s(prover.generator)]
        closed = prover.drive(port, scenario("closed", USERS, SECONDS))
        spent.append(cpu_s(prover.generator))
        opened = prover.drive(port, scenario("poisson", RATE, SECONDS))
        spent.append(cpu_s(prover.generator))
    each = [recording.counts(ROW, range(SECONDS)).completed for recording in (closed, opened)]
    lateness = opened.histogram(ROW, "lateness").quantile_us(0.99)
    return Cost(
        each[0] / SECONDS, (spent[1] - spent[0]) / each[0] * 1e6, (spent[2] - spent[1]) / each[1] * 1e6, lateness
    )


def main() -> None:
    found: dict[int, list[Cost]] = {workers: [] for workers in WORKERS}
    with serving("canned") as known:
        for _ in range(ROUNDS):
            for workers in WORKERS:
                found[workers].append(cost_of(known.port, workers))
    out = sys.stdout.write
    out(f"{psutil.cpu_count()} CPUs; {ROUNDS} rounds of {SECONDS} s; closed: {USERS} users; open: {RATE:,.0f}/s\n\n")
    out("| workers | closed, requests/s | of one | µs CPU a request | open, µs CPU a request | lateness p99, µs |\n")
    out("| --- | --- | --- | --- | --- | --- |\n")
    middle = {workers: Cost(*map(statistics.median, zip(*found[workers], strict=True))) for workers in WORKERS}
    for workers, cost in middle.items():
        share = cost.closed_rps / middle[1].closed_rps
        cells = (f"{cost.closed_rps:,.0f}", f"{share:.2f}", *(f"{value:,.0f}" for value in cost[1:]))
        out(f"| {workers} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
