"""The machine's facts: what a reader needs to know, and what must be equal for two runs to be compared. Linux."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

MOST_CPUS = 8191  # of the kernel (CONFIG_NR_CPUS)
ROOT = Path(__file__).resolve().parents[1]
# of what is installed these measure nothing: they read and draw what was measured
READERS = ("click", "jinja2", "kaleido", "pandas", "plotly", "rich", "scipy", "setuptools")
PACKAGES = ("gevent", "greenlet", "gunicorn", "httptools", "locust", "numpy", "uvicorn", "uvloop", "wsproto")


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _cpu_model() -> str | None:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _source() -> str | None:
    """The commit, with + when files differ from it; None outside a checkout."""
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def packages() -> list[str]:
    """What measures, and every server and framework that can be measured, under their packages' names."""
    try:
        wanted = [one for one in metadata.requires("gatebench") or () if not re.search("extra == .dev", one)]
        named = [re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0] for one in wanted]
    except metadata.PackageNotFoundError:
        named = []
    return sorted({*PACKAGES, *named} - set(READERS))


def _versions() -> dict[str, str]:
    found = {name: _version(name) for name in packages()}
    return {name: version for name, version in found.items() if version is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _memory_limit_mb() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(path)
        if text and text.isdigit() and int(text) < psutil.virtual_memory().total:
            return int(text) >> 20
    return None


FACTS: dict[str, Callable[[], Any]] = {
    "cpu": _cpu_model,
    "cpus": os.cpu_count,
    "allowed_cpus": lambda: sorted(os.sched_getaffinity(0)),
    "memory_mb": lambda: psutil.virtual_memory().total >> 20,
    "memory_limit_mb": _memory_limit_mb,
    "kernel": platform.release,
    "system": lambda: (
        platform.freedesktop_os_release().get("PRETTY_NAME", "") if sys.platform == "linux" else sys.platform
    ),
    "python": platform.python_version,
    "versions": _versions,
    "source": _source,
    "governor": lambda: _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    "clocksource": lambda: _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    "somaxconn": lambda: _read("/proc/sys/net/core/somaxconn"),
    "port_range": lambda: _read("/proc/sys/net/ipv4/ip_local_port_range"),
    "tcp_syn_linear_timeouts": lambda: _read("/proc/sys/net/ipv4/tcp_syn_linear_timeouts"),
    "descriptors": lambda: list(resource.getrlimit(resource.RLIMIT_NOFILE)),
}


def collect() -> dict[str, Any]:
    """All facts by name; None where the machine does not say."""
    return {name: find() for name, find in FACTS.items()}


def kernel_counters(*processes: str) -> dict[str, int]:
    """Listen overflows and retransmits so far, of the whole network namespaces of these processes (ours unless told);
    empty where the kernel does not say."""
    counters: Counter[str] = Counter()
    for process in processes or ("self",):
        for name in ("netstat", "snmp"):
            lines = (_read(f"/proc/{process}/net/{name}") or "").splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=False):
                counters.update(dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=False)))
    wanted = ("ListenOverflows", "ListenDrops", "RetransSegs", "TCPSynRetrans")
    return {name: counters[name] for name in wanted if name in counters}


def cpu_sets(
    server_cpus: str | None = None, processes: int = 1, generator_cpus: str | None = None
) -> tuple[frozenset[int], frozenset[int]]:
    """(server, generator): disjoint where there are two CPUs at least; the same one otherwise, or what was asked for.

    One CPU for the server unless told otherwise, which makes "equal CPU" the default comparison; the generator, one
    process of one thread, takes the last CPU that is no hyper-thread sibling of the server's, where there is one; of
    several processes, each takes one more as long as there are any.
    """
    allowed = sorted(os.sched_getaffinity(0))
    generator = frozenset(_parse_cpus(generator_cpus)) if generator_cpus else frozenset()
    free = [cpu for cpu in allowed if cpu not in generator] or allowed
    server = frozenset(_parse_cpus(server_cpus)) if server_cpus else frozenset(free[:1])
    siblings = {cpu for one in server for cpu in _siblings(one)}
    others = [cpu for cpu in allowed if cpu not in server]
    apart = [cpu for cpu in others if cpu not in siblings] or others
    return server, generator or frozenset(apart[-processes:] or allowed[-1:])


def _siblings(cpu: int) -> set[int]:
    return set(_parse_cpus(_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)))


def _parse_cpus(text: str) -> list[int]:
    """`0-2,5` as numbers. Raises ValueError."""
    cpus: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        first, last = int(low), int(high or low)
        if not first <= last <= MOST_CPUS:
            raise ValueError(f"{part} is no range of CPUs")
        cpus += range(first, last + 1)
    return cpus
