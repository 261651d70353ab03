"""What counts as a worker that died and was replaced, and what does not. With made-up processes."""

from __future__ import annotations

from typing import NamedTuple, cast

import psutil

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
