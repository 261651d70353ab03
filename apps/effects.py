"""What an endpoint may ask for, and how it is performed. In: a program. Out: its body (push) or its items (pull).

A program is a generator without I/O: it yields effects and returns its body. The blocking table serves threads
and gevent (whose patched `time` and `threading` make it cooperative), the awaiting one asyncio. Variants differ
in nothing else.

Rule 1: what a performer raises (cancellation and a killed greenlet included) is thrown into the program at the
effect that caused it, so that a program can clean up, or go on.
Rule 2: however a loop ends, its program is closed and no longer counted in LIVE.
Rule 3: no wait is ever shorter than asked. uvloop wakes up to 1.2 ms early: then the rest is slept, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from apps import postgres
from apps.pool import AsyncPool, Pool, share

monotonic = time.monotonic
ROW_S = 0.001  # what each query on a row takes where there is no database


class Sleep(NamedTuple):
    seconds: float


class Until(NamedTuple):
    """Waits until so long after the call began. Streams use it: relative sleeps would add their errors up."""

    seconds: float


class Query(NamedTuple):
    """Takes a pooled database connection, holds it for the query's time and gives it back."""

    seconds: float


class Fetch(NamedTuple):
    """Reads rows, one query each, on one pooled connection; answers with their values."""

    numbers: Sequence[int]


class Increment(NamedTuple):
    """Adds one to rows, one query each, in one transaction; answers how many there were."""

    numbers: Sequence[int]


class Emit(NamedTuple):
    """Sends: an item of a stream, always bytes, or a message on a socket."""

    data: Any


class Receive(NamedTuple):
    """Answers with the client's next message; raises Left when there will be none."""


class Body(NamedTuple):
    """Answers with the request's whole body. No table has it: it is the adapter's own, as are a socket's effects."""


class Read(NamedTuple):
    """Answers with what a file holds."""

    path: str


class Left(Exception):
    """The client has gone."""


Effect: TypeAlias = Sleep | Until | Query | Fetch | Increment | Emit | Receive | Body | Read
Answer: TypeAlias = bytes | Any  # Any: a document, which the adapter serialises
Program: TypeAlias = Generator[Effect, Any, Answer]
Blocking: TypeAlias = Mapping[type, Callable[[Any, float], Any]]  # (effect, when the call began) -> its answer
Awaiting: TypeAlias = Mapping[type, Callable[[Any, float], Awaitable[Any]]]

LIVE: set[Program] = set()  # what runs in this process now; adding and discarding are atomic, a count is not
_POOL = Pool(share())
_ASYNC_POOL = AsyncPool(share())


def _wait(due: float) -> None:
    while (left := due - monotonic()) > 0:
        time.sleep(left)  # looked up each time: gevent may have patched it


def _query(effect: Query, _began: float) -> None:
    with _POOL:
        _wait(monotonic() + effect.seconds)


def _fetch(effect: Fetch, began: float) -> list[int]:
    _query(Query(ROW_S * len(effect.numbers)), began)
    return [postgres.seeded(number) for number in effect.numbers]


def _increment(effect: Increment, began: float) -> int:
    _query(Query(ROW_S * len(effect.numbers)), began)
    return len(effect.numbers)


def _read(effect: Read, _began: float) -> bytes:
    with open(effect.path, "rb") as file:
        return file.read()


async def _async_wait(due: float) -> None:
    while (left := due - monotonic()) > 0:
        await asyncio.sleep(left)


async def _async_query(effect: Query, _began: float) -> None:
    async with _ASYNC_POOL:
        await _async_wait(monotonic() + effect.seconds)


async def _async_fetch(effect: Fetch, began: float) -> list[int]:
    await _async_query(Query(ROW_S * len(effect.numbers)), began)
    return [postgres.seeded(number) for number in effect.numbers]


async def _async_increment(effect: Increment, began: float) -> int:
    await _async_query(Query(ROW_S * len(effect.numbers)), began)
    return len(effect.numbers)


BLOCKING: Blocking = {
    Sleep: lambda effect, _began: _wait(monotonic() + effect.seconds),
    Until: lambda effect, began: _wait(began + effect.seconds),
    Query: postgres.query if postgres.DSN else _query,
    Fetch: postgres.fetch if postgres.DSN else _fetch,
    Increment: postgres.increment if postgres.DSN else _increment,
    Read: _read,
}

AWAITING: Awaiting = {
    Sleep: lambda effect, _began: _async_wait(monotonic() + effect.seconds),
    Until: lambda effect, began: _async_wait(began + effect.seconds),
    Query: postgres.query_async if postgres.DSN else _async_query,
    Fetch: postgres.fetch_async if postgres.DSN else _async_fetch,
    Increment: postgres.increment_async if postgres.DSN else _async_increment,
    Read: lambda effect, began: asyncio.to_thread(_read, effect, began),
}


def push(program: Program, table: Blocking = BLOCKING) -> Answer:
    """Performs anything but a stream to its end; its body, or its document."""
    began = monotonic()
    resume, value = program.send, None
    LIVE.add(program)
    try:
        while True:
            effect = resume(value)
            try:
                value, resume = table[type(effect)](effect, began), program.send
            except BaseException as error:  # rule 1
                value, resume = error, program.throw
    except StopIteration as end:
        return end.value
    finally:
        program.close()
        LIVE.discard(program)


def pull(program: Program, table: Blocking = BLOCKING) -> Generator[bytes, None, None]:
    """Performs a stream as its reader asks for items: what it emits. Closing it ends the program."""
    began = monotonic()
    resume, value = program.send, None
    LIVE.add(program)
    try:
        while True:
            effect = resume(value)
            try:
                if type(effect) is Emit:
                    yield effect.data
                    value = None
                else:
                    value = table[type(effect)](effect, began)
                resume = program.send
            except BaseException as error:  # rule 1; GeneratorExit when the reader is gone
                value, resume = error, program.throw
    except StopIteration:
        return
    finally:
        program.close()
        LIVE.discard(program)


async def push_async(program: Program, table: Awaiting = AWAITING) -> Answer:
    """`push`, awaiting."""
    began = monotonic()
    resume, value = program.send, None
    LIVE.add(program)
    try:
        while True:
            effect = resume(value)
            try:
                value, resume = await table[type(effect)](effect, began), program.send
            except BaseException as error:  # rule 1; CancelledError among them
                value, resume = error, program.throw
    except StopIteration as end:
        return end.value
    finally:
        program.close()
        LIVE.discard(program)


async def pull_async(program: Program, table: Awaiting = AWAITING) -> AsyncGenerator[bytes, None]:
    """`pull`, awaiting."""
    began = monotonic()
    resume, value = program.send, None
    LIVE.add(program)
    try:
        while True:
            effect = resume(value)
            try:
                if type(effect) is Emit:
                    yield effect.data
                    value = None
                else:
                    value = await table[type(effect)](effect, began)
                resume = program.send
            except BaseException as error:  # rule 1
                value, resume = error, program.throw
    except StopIteration:
        return
    finally:
        program.close()
        LIVE.discard(program)
