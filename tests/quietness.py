"""Real time needs a quiet machine. In: a test that measures. Out: it runs, or skips with the noise.

A plugin of pytest with two fixtures: `quiet` and `prover`. Noise is looked at for a second before each attempt: stolen
time, what others use, how late a ticker wakes on the generator's CPU. A failure stands unless noise came into every
attempt; then it is a skip that prints the noise. Numbers are never loosened.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import psutil
import pytest

from harness import facts
from harness.proving import Prover
from harness.serve.witness import Witness

LOOK_S, TICK_S = 1.0, 0.005
ATTEMPTS = 3
Result = TypeVar("Result")
WAITS_S = 20.0  # for a noisy machine to become quiet, in all


class Noise(NamedTuple):
    """Stolen and used cores over about a second, how late a 5 ms sleep wakes at p99, and the longest stall, in ms."""

    steal: float
    used: float
    late_ms: float
    stalled_ms: float

    @property
    def quiet(self) -> bool:
        return self.steal < 0.02 and self.used < 0.15 and self.late_ms < 1.0 and self.stalled_ms < 10.0

    def __str__(self) -> str:
        return (
            f"steal {self.steal:.1%}, others {self.used:.0%} of a core, a ticker's p99 {self.late_ms:.2f} ms late, "
            f"the machine stood still for up to {self.stalled_ms:.0f} ms"
        )


def times() -> tuple[float, float]:
    """Busy and stolen CPU seconds of the whole machine so far."""
    found = psutil.cpu_times()
    return sum(found) - found.idle - found.iowait - found.steal - found.guest - found.guest_nice, found.steal


def listen() -> Noise:
    """The noise of one second, heard on the generator's CPU."""
    before, allowed, late = times(), os.sched_getaffinity(0), []
    begin = time.monotonic()
    os.sched_setaffinity(0, facts.cpu_sets()[1])
    try:
        while time.monotonic() < begin + LOOK_S:
            asleep = time.monotonic()
            time.sleep(TICK_S)
            late.append(time.monotonic() - asleep - TICK_S)
    finally:
        os.sched_setaffinity(0, allowed)
    after, passed = times(), time.monotonic() - begin
    late_ms = [1000 * each for each in sorted(late)]
    steal, used = (after[1] - before[1]) / passed, (after[0] - before[0]) / passed
    return Noise(steal, used, late_ms[-len(late) // 100 - 1], late_ms[-1])


def ours() -> float:
    """CPU seconds so far of this process and all that it started, ended or not."""
    spent = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            spent += sum(child.cpu_times()[:2])
    return spent


class Meanwhile:
    """What others took of the machine since it was made: of each second the most."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._witness = Witness(facts.cpu_sets()[1])
        self._steal = self._used = self._stalled_ms = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        begin, before, mine = time.monotonic(), times(), ours()
        while not self._ended.wait(1.0):
            now, after, spent = time.monotonic(), times(), ours()
            busy, stolen = (later - earlier for later, earlier in zip(after, before, strict=True))
            self._steal = max(self._steal, stolen / (now - begin))
            self._used = max(self._used, (busy - (spent - mine)) / (now - begin))
            begin, before, mine = now, after, spent

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._stalled_ms = max(self._stalled_ms, 1000 * self._witness.close())

    def noise(self) -> Noise:
        """The same, with a second's look at the ticker afterwards."""
        self.close()
        after = listen()
        return Noise(max(self._steal, after.steal), max(self._used, after.used), after.late_ms, self._stalled_ms)


class Quiet:
    """Calls a proof while the machine is quiet."""

    def wait(self) -> None:
        """Until it is quiet; skips, with the noise that was heard, when that takes too long."""
        deadline = time.monotonic() + WAITS_S
        while not (noise := listen()).quiet:
            print(f"noise: {noise}")
            if time.monotonic() > deadline:
                pytest.skip(f"no quiet machine in {WAITS_S:.0f} s: {noise}")

    def heard(self, call: Callable[[], Result]) -> tuple[Result, Noise]:
        """What the call gave, and the noise that came meanwhile."""
        self.wait()
        meanwhile = Meanwhile()
        try:
            return call(), meanwhile.noise()
        finally:
            meanwhile.close()

    def proved(self, proof: Callable[[], None]) -> None:
        """Runs the proof, up to three times. Its failure stands unless noise came into every attempt."""
        disturbed = []
        for attempt in range(1, ATTEMPTS + 1):
            self.wait()
            meanwhile = Meanwhile()
            try:
                return proof()
            except AssertionError as failure:
                noise = meanwhile.noise()
                disturbed.append(not noise.quiet)
                print(f"attempt {attempt}: {noise}: {failure}"[:2000])
                if attempt == ATTEMPTS and not all(disturbed):
                    raise
            finally:
                meanwhile.close()
        pytest.skip(f"noise in each of {ATTEMPTS} attempts, the last: {noise}")


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


@pytest.fixture(scope="module")
def prover() -> Iterator[Prover]:
    """A load process that the tests of a module share."""
    with Prover() as prover:
        yield prover
