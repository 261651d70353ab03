"""Stalls that no counter shows. In: the CPUs of the generator. Out: the longest time they were not there at all.

A hypervisor may stop a whole machine for 50 ms and more without counting it as stolen; only who is stopped can notice.
A thread of the harness wakes on the generator's CPU every 5 ms: it does next to nothing, so the kernel lets it in at
once whatever the generator does, and what delays it for longer delays the generator too, and is not its fault.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable

TICK_S = 0.005


class Witness:
    """Listens from its making until it is closed."""

    def __init__(self, cpus: Iterable[int]) -> None:
        self._cpus = frozenset(cpus)
        self._longest_s = 0.0
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)
        self._thread.start()

    def take(self) -> float:
        """The longest stall since the last call, in seconds."""
        longest_s, self._longest_s = self._longest_s, 0.0
        return longest_s

    def close(self) -> float:
        self._ended = True
        self._thread.join()
        return self.take()

    def _run(self) -> None:
        os.sched_setaffinity(0, self._cpus)  # of this thread alone
        while not self._ended:
            asleep = time.monotonic()
            time.sleep(TICK_S)
            self._longest_s = max(self._longest_s, time.monotonic() - asleep - TICK_S)
