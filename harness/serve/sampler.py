"""Resources by second. In: how to find the server's and the generator's processes. Out: Samples of whole trees.

A thread of its own, of low priority (niceness is a thread's on Linux), so that sampling never delays what it watches.
Context switches are summed over all tasks: the process-wide figure shows the main thread only.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from harness.recording import Sample
from harness.serve.compose import Usage
from harness.serve.witness import Witness

Found = Iterable[psutil.Process] | Usage | None  # a tree; what a container counts itself; None: it has gone
Trees = Mapping[str, Callable[[], Found]]


class Workers:
    """A server's processes, looked at time after time. restarts: those that died and were replaced by their parent.

    Only who was there at the first look, or came in place of one who was, is a worker: what a server starts besides,
    and what ends without being replaced, is its own business.
    """

    def __init__(self) -> None:
        self.restarts = 0
        self._parents: dict[psutil.Process, int] = {}  # of each worker
        self._missing: Counter[int] = Counter()  # parent → workers that died and are not replaced yet
        self._others: set[psutil.Process] = set()

    def look(self, processes: Iterable[psutil.Process]) -> None:
        first, there = not self._parents, set(processes)
        for gone in self._parents.keys() - there:
            self._missing[self._parents.pop(gone)] += 1
        for new in there - self._parents.keys() - self._others:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = new.ppid()
                if first or self._missing[parent]:
                    self._parents[new] = parent
                    self.restarts += not first
                    self._missing[parent] -= not first
                else:
                    self._others.add(new)


class Sampler:
    """Samples each full second from `origin` on, until closed. samples: what it saw, in order.

    restarts: how many of the server's workers died meanwhile and were replaced.
    """

    def __init__(
        self,
        trees: Trees,
        server_cpus: frozenset[int],
        generator_cpus: frozenset[int],
        origin: float,
        workers: Callable[[], Iterable[psutil.Process]] = tuple,
    ) -> None:
        self._find_workers = workers  # the server's processes, as far as they are seen from here
        self.samples: list[Sample] = []
        self._trees = trees
        self._cpus = server_cpus | generator_cpus
        self._generator_cpus = generator_cpus
        self._witness = Witness(generator_cpus)
        self._workers = Workers()
        self._origin = origin
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    def close(self) -> list[Sample]:
        self._ended.set()
        self._thread.join()
        self._witness.close()
        self._workers.look(self._find_workers())
        return self.samples

    @property
    def restarts(self) -> int:
        return self._workers.restarts

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        before: dict[str, dict[str, float]] = {}
        second = 0
        while not self._ended.wait(max(self._origin + second - time.monotonic(), 0)):
            for who, find in self._trees.items():
                if (found := find()) is None:
                    continue
                totals, held = _container(found) if isinstance(found, Usage) else _tree(found)
                if who in before and second:
                    self._add(second - 1, who, held | _since(before[who], totals))
                before[who] = totals
            self._workers.look(self._find_workers())
            totals = _machine(self._cpus, self._generator_cpus)
            if "machine" in before and second:
                self._add(
                    second - 1, "machine", {"stalled_s": self._witness.take()} | _since(before["machine"], totals)
                )
            before["machine"] = totals
            second += 1

    def _add(self, second: int, who: str, found: Mapping[str, float | None]) -> None:
        self.samples.append(Sample.model_validate({"second": second, "who": who, **found}))


def _since(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float | None]:
    """What was added to totals."""
    return {name: max(total - before[name], 0) for name, total in now.items()}


def _container(usage: Usage) -> tuple[dict[str, float], dict[str, float | None]]:
    """`_tree` of what a container counts itself."""
    held = {"rss_mb": usage.rss_mb, "threads": usage.threads, "processes": usage.processes}
    return {"cpu_s": usage.cpu_s, "throttled_s": usage.throttled_s}, held


def _tree(processes: Iterable[psutil.Process]) -> tuple[dict[str, float], dict[str, float | None]]:
    """Totals so far (CPU seconds, switches, seconds of waiting for a CPU) and what the tree holds now."""
    cpu_s, switches, waited_s, rss, threads, descriptors, count = 0.0, 0, 0.0, 0, 0, 0, 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
            times = process.cpu_times()
            cpu_s += times.user + times.system
            rss += process.memory_info().rss
            threads += process.num_threads()
            descriptors += _descriptors(process)
            switches += _switches(process.pid)
            waited_s += _waited_s(process.pid)
            count += 1
    held = {"rss_mb": rss / 1e6, "threads": threads, "descriptors": descriptors, "processes": count}
    return {"cpu_s": cpu_s, "switches": switches, "waited_s": waited_s}, dict(held)


def _descriptors(process: psutil.Process) -> int:
    """How many are open. To list 5 000 of them takes up to 0.5 s of a CPU; since Linux 6.2 the folder says how many."""
    try:
        return os.stat(f"/proc/{process.pid}/fd").st_size or process.num_fds()
    except OSError as error:
        raise psutil.NoSuchProcess(process.pid) from error


def _waited_s(pid: int) -> float:
    """How long a process's main thread could have run, but others did (Linux, Documentation/scheduler/sched-stats)."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # not every kernel counts it
        return 0.0


def _switches(pid: int) -> int:
    """Context switches of all tasks of a process so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            lines = task.read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return total


def _machine(cpus: frozenset[int], generator_cpus: frozenset[int]) -> dict[str, float]:
    """Busy seconds of these CPUs so far, whoever used them, and stolen ones; busy seconds of the generator's."""
    every = dict(enumerate(psutil.cpu_times(percpu=True)))
    # interrupts are nobody's: most of them carry our own loopback traffic
    busy = {cpu: times.user + times.system + times.nice for cpu, times in every.items()}
    steal = sum(every[cpu].steal for cpu in cpus if cpu in every)
    near = sum(busy.get(cpu, 0) for cpu in generator_cpus)
    return {"cpu_s": sum(busy.get(cpu, 0) for cpu in cpus), "steal_s": steal, "generator_cpu_s": near}


def unique_mb(processes: Iterable[psutil.Process]) -> float | None:
    """Memory that would be freed if the tree ended (USS), in MB; it costs some ms, so once a Trial."""
    try:
        return sum(process.memory_full_info().uss for process in processes) / 1e6
    except psutil.Error:
        return None
