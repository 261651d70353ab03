"""What counts as a worker that died and was replaced, and what does not. With made-up processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple, cast

import psutil
import pytest

from apps.variants import VARIANTS
from harness.serve.process import wait_for_all
from harness.serve.sampler import Workers


class Process(NamedTuple):
    """What is looked at of one."""

    pid: int
    parent: int

    def ppid(self) -> int:
        return self.parent


TOP, ONE, TWO, NEW, NEWER = Process(1, 0), Process(2, 1), Process(3, 1), Process(4, 1), Process(5, 1)
HELPER = Process(6, 2)  # of a worker


def restarts(*looks: tuple[Process, ...]) -> int:
    workers = Workers()
    for look in looks:
        workers.look(cast("tuple[psutil.Process, ...]", look))
    return workers.restarts


def test_a_worker_that_died_and_was_replaced_is_counted_once_and_its_replacement_again() -> None:
    assert restarts((TOP, ONE, TWO), (TOP, ONE, NEW), (TOP, ONE, NEW)) == 1
    assert restarts((TOP, ONE, TWO), (TOP, ONE), (TOP, ONE, NEW)) == 1, "it took its time"
    assert restarts((TOP, ONE, TWO), (TOP, ONE, NEW), (TOP, ONE, NEWER)) == 2
    assert restarts((TOP, ONE, TWO), (TOP, NEW, NEWER)) == 2


def test_what_a_server_starts_and_ends_besides_is_not() -> None:
    assert restarts() == restarts((TOP, ONE, TWO), (TOP, ONE, TWO)) == 0
    assert restarts((TOP, ONE), (TOP, ONE, TWO), (TOP, ONE)) == 0, "a helper for a while"
    assert restarts((TOP, ONE), (TOP, ONE, TWO), (TOP, ONE, NEW), (TOP, ONE, NEWER)) == 0, "one helper after another"
    assert restarts((TOP, ONE, TWO), (TOP, ONE)) == 0, "nobody came in its place"
    assert restarts((TOP, ONE, TWO), (TOP, ONE, HELPER)) == 0, "another parent's"
    assert restarts((TOP, ONE), ()) == 0, "the server is gone: another law speaks"


# -- whether all of them have begun ----------------------------------------------------------------------------------


class Begun:
    """A server whose processes have used so much CPU at each look."""

    variant = VARIANTS["wsgi-sync"]

    def __init__(self, *used_s: float, lives: int = 99) -> None:
        self.looks, self._lives = 0, lives
        self._used_s = used_s

    def alive(self) -> bool:
        return self.looks < self._lives

    def descendants(self) -> list[psutil.Process]:
        used_s = self._used_s[min(self.looks, len(self._used_s) - 1)]
        self.looks += 1
        return [cast("psutil.Process", SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=used_s, system=0.0)))]


@pytest.mark.parametrize(
    ("used_s", "looks"),
    [((0.1, 0.1), 2), ((0.1, 0.3, 0.5, 0.52), 4), ((0.0, 0.01), 2), (tuple(range(20)), 9), ((), 1)],
    ids=["still", "begins", "idle", "dies", "no time"],
)
def test_a_server_is_waited_for_while_its_processes_begin(used_s: tuple[float, ...], looks: int) -> None:
    begun = Begun(*used_s or (0.0,), lives=9)
    wait_for_all(begun, frozenset({0}), 5.0 if used_s else 0.0)
    assert begun.looks == looks
