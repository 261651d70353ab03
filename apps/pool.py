"""The embedded connection pool. In: a size. Out: `with pool:` holds one connection; first come, first served.

A freed connection is handed to the longest waiter instead of being put back for anybody to grab.
`threading.Semaphore` does the latter and starves: 40 threads on 2 connections of 1 ms wait up to a second
(p99), with the hand-off 24 ms, and the benchmark would blame the threads for it.

A waiter that is cancelled or killed leaks nothing, even when its turn came in the very moment of its death.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from types import TracebackType


def share() -> int:
    """The connections of this process: an even part of the variant's total, dealt out by `python -m apps`."""
    return int(os.environ.get("GATEBENCH_DB_CONNECTIONS", "8"))


class Pool:
    """For threads; and, as it is built of `threading.Lock` alone, for greenlets once gevent has patched that."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[threading.Lock] = deque()
        self._guard = threading.Lock()

    def __enter__(self) -> None:
        with self._guard:
            if self._free:  # never while somebody waits: a connection is freed only when nobody does
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()  # until a leaver hands its connection over by releasing it
        except BaseException:
            self._withdraw(turn)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _withdraw(self, turn: threading.Lock) -> None:
        with self._guard:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self.__exit__(None, None, None)  # the turn had come already: pass the connection on


class AsyncPool:
    """The same for asyncio, where one thread needs no guard."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():  # the turn had come already: pass the connection on
                self._pass_on()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # a cancelled waiter stays in the line until its task runs again
                turn.set_result(None)
                return
        self._free += 1
