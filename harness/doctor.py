"""What on this machine would spoil a measurement. In: nothing. Out: Checks, each with its remedy; leftovers ended.

CHECKS, the table at the end, holds one function each.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness import certificate, facts
from harness.serve import compose
from harness.serve.reaper import kill_group

BACKLOG = 2048
DESCRIPTORS = 8192
LISTENS_S, STALL_S = 2.0, 0.005


@dataclass(frozen=True)
class Check:
    """ok: nothing to do. remedy: what to do otherwise, in a sentence."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def cpus() -> Check:
    server, generator = facts.cpu_sets()
    apart = server.isdisjoint(generator)
    return Check(
        "cpus", apart, f"server on {sorted(server)}, generator on {sorted(generator)}", "a second CPU keeps them apart"
    )


def busy() -> Check:
    before = psutil.cpu_times()
    time.sleep(0.5)
    after = psutil.cpu_times()
    used = (sum(after) - after.idle - after.iowait - (sum(before) - before.idle - before.iowait)) / 0.5
    return Check("other load", used < 0.15, f"{used:.0%} of a core is busy", "end what runs beside a measurement")


def steal() -> Check:
    times = psutil.cpu_times()
    share = getattr(times, "steal", 0.0) / max(sum(times), 1)
    return Check(
        "steal", share < 0.01, f"{share:.1%} since boot", "use a machine that is not shared, or repeat more often"
    )


def stalls() -> Check:
    """What no counter shows: a hypervisor that stops a CPU is seen only by who is stopped."""
    allowed, gaps = os.sched_getaffinity(0), []
    os.sched_setaffinity(0, facts.cpu_sets()[1])
    try:
        last = begin = time.monotonic()
        while last < begin + LISTENS_S:
            moment = time.monotonic()
            gaps.append(moment - last)
            last = moment
    finally:
        os.sched_setaffinity(0, allowed)
    longest, many = 1000 * max(gaps), sum(gap > STALL_S for gap in gaps)
    return Check(
        "stalls",
        many == 0,
        f"the generator's CPU was taken away {many} times for more than {1000 * STALL_S:.0f} ms in {LISTENS_S:.0f} s, "
        f"at most {longest:.1f} ms",
        "end what runs beside a measurement; if it is a virtual machine's host, repeat more often",
    )


def governor() -> Check:
    found = facts.FACTS["governor"]()
    return Check(
        "governor", found in (None, "performance"), found or "not shown", "cpupower frequency-set -g performance"
    )


def clock() -> Check:
    found = str(facts.FACTS["clocksource"]() or "not shown")
    return Check(
        "clock",
        found not in ("hpet", "acpi_pm"),
        found,
        "a slow clock source costs µs a call: prefer tsc or kvm-clock",
    )


def backlog() -> Check:
    found = int(facts.FACTS["somaxconn"]() or 0)
    return Check(
        "backlog",
        found >= BACKLOG,
        f"somaxconn {found}",
        f"sysctl -w net.core.somaxconn={BACKLOG}: it cuts every backlog in silence",
    )


def descriptors() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Check("descriptors", soft >= DESCRIPTORS, f"{soft} (at most {hard})", f"ulimit -n {DESCRIPTORS}")


def ports() -> Check:
    low, high = map(int, str(facts.FACTS["port_range"]() or "32768 60999").split())
    return Check(
        "ports",
        high - low >= 16_000,
        f"{high - low + 1} for outgoing connections",
        "sysctl -w net.ipv4.ip_local_port_range='16384 60999'",
    )


def disk() -> Check:
    free_mb = shutil.disk_usage(facts.ROOT).free >> 20
    return Check("disk", free_mb >= 256, f"{free_mb} MB free", "free some space")


def chromium() -> Check:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return Check(
        "chromium", found is not None, found or "not found", "apt-get install chromium (only for `gatebench charts`)"
    )


def instrument() -> Check:
    """Whether the generator has been proved on this machine, in this boot, as it is."""
    found = certificate.kept()
    if found is None:
        return Check("certificate", ok=False, found="none", remedy="gatebench selftest: it takes a minute")
    ceilings = f"closed {found.closed_ceiling_rps:,.0f}/s, open {found.open_ceiling_rps:,.0f}/s"
    failed = [check.name for check in found.checks if not check.ok]
    return Check(
        "certificate",
        found.ok,
        f"{ceilings}; {', '.join(failed) or 'every check'} {'failed' if failed else 'passed'}",
        "gatebench selftest says what to do",
    )


def leftovers() -> Check:
    found = [process.pid for process in _left()] + [path.name for path in _scratch()]
    found += [f"containers of run {run}" for run in compose.orphans()]
    return Check("leftovers", not found, f"of earlier runs: {found or 'none'}", "gatebench doctor --clean")


def _left() -> list[psutil.Process]:
    """Servers and load processes whose harness has gone: leaders of their groups, adopted by another process."""
    found = []
    for process in psutil.process_iter(["pid", "ppid", "cmdline", "cwd"]):
        command = " ".join(process.info["cmdline"] or ())
        ours = process.info["cwd"] == str(facts.ROOT) and ("apps." in command or "harness.load" in command)
        if ours and process.info["ppid"] == 1 and os.getpgid(process.pid) == process.pid:
            found.append(process)
    return found


def _scratch() -> list[Path]:
    """Scratch folders of Trials that never ended, older than any Trial that could still run."""
    old = time.time() - 86_400
    return [path for path in Path(tempfile.gettempdir()).glob("gatebench-*") if path.stat().st_mtime < old]


def clean() -> list[str]:
    """Ends and removes what earlier runs left behind; says what."""
    said = []
    for process in _left():
        kill_group(process.pid)
        said.append(f"ended process {process.pid}")
    for path in _scratch():
        shutil.rmtree(path, ignore_errors=True)
        said.append(f"removed {path}")
    return said + compose.clean()


def examine() -> list[Check]:
    return [check() for check in CHECKS]


CHECKS: tuple[Callable[[], Check], ...] = (
    cpus,
    busy,
    steal,
    stalls,
    governor,
    clock,
    backlog,
    descriptors,
    ports,
    disk,
    chromium,
    instrument,
    leftovers,
)
