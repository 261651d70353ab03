"""The four loops: what they return, what they throw into a program, and that they always close it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps import effects
from apps.effects import (
    AWAITING,
    BLOCKING,
    LIVE,
    Body,
    Emit,
    Left,
    Program,
    Query,
    Read,
    Receive,
    Sleep,
    Until,
    pull,
    pull_async,
    push,
    push_async,
)


class Traced:
    """A program that keeps what happened to it."""

    def __init__(self, *steps: effects.Effect) -> None:
        self.steps, self.thrown, self.ended = steps, list[BaseException](), False
        self.program: Program = self._run()

    def _run(self) -> Program:
        try:
            for step in self.steps:
                assert self.program in LIVE
                try:
                    yield step
                except BaseException as error:
                    self.thrown.append(error)
                    raise
            return b"done"
        finally:
            self.ended = True


class BrokenError(Exception):
    """What a performer raises."""


def fail(effect: object, began: float) -> None:
    raise BrokenError


async def fail_async(effect: object, began: float) -> None:
    raise BrokenError


async def collect(program: Program, table: effects.Awaiting = AWAITING) -> list[bytes]:
    return [item async for item in pull_async(program, table)]


PUSHES: tuple[Callable[[Program], bytes], ...] = (push, lambda p: asyncio.run(push_async(p)))
PULLS: tuple[Callable[[Program], list[bytes]], ...] = (lambda p: list(pull(p)), lambda p: asyncio.run(collect(p)))
STREAM = (Emit(b"one"), Sleep(0.001), Emit(b"two"))


def test_push_returns_what_the_program_returns() -> None:
    for run in PUSHES:
        traced = Traced(Sleep(0.001), Query(0.001), Until(0.003))
        assert run(traced.program) == b"done"
        assert traced.ended
        assert not LIVE


def test_pull_gives_items_one_by_one() -> None:
    for run in PULLS:
        traced = Traced(*STREAM)
        assert run(traced.program) == [b"one", b"two"]
        assert traced.ended
        assert not LIVE


def test_what_a_performer_raises_is_thrown_into_the_program() -> None:
    blocking, awaiting = {**BLOCKING, Sleep: fail}, {**AWAITING, Sleep: fail_async}
    for run in (
        lambda p: push(p, blocking),
        lambda p: list(pull(p, blocking)),
        lambda p: asyncio.run(push_async(p, awaiting)),
        lambda p: asyncio.run(collect(p, awaiting)),
    ):
        traced = Traced(Sleep(1))
        with pytest.raises(BrokenError):
            run(traced.program)
        assert [type(error) for error in traced.thrown] == [BrokenError]
        assert traced.ended
        assert not LIVE


def test_a_program_may_go_on_after_an_exception() -> None:
    def stubborn() -> Program:
        try:
            yield Sleep(1)
        except BrokenError:
            yield Until(0)
        return b"went on"

    assert push(stubborn(), {**BLOCKING, Sleep: fail}) == b"went on"
    assert asyncio.run(push_async(stubborn(), {**AWAITING, Sleep: fail_async})) == b"went on"


def test_a_reader_that_leaves_ends_the_program() -> None:
    traced = Traced(*STREAM)
    items = pull(traced.program)
    assert next(items) == b"one"
    assert traced.program in LIVE
    items.close()
    assert [type(error) for error in traced.thrown] == [GeneratorExit]
    assert traced.ended
    assert not LIVE


def test_a_stream_that_nobody_began_to_read_never_began() -> None:
    traced = Traced(*STREAM)
    pull(traced.program).close()
    assert not traced.ended
    assert not LIVE


@pytest.mark.parametrize("steps", [(Sleep(9),), (Query(9),), (Until(9),)])
def test_cancellation_is_thrown_into_the_program(steps: tuple[effects.Effect, ...]) -> None:
    async def main(run: Any) -> Traced:
        traced = Traced(*steps)
        task = asyncio.ensure_future(run(traced.program))
        await asyncio.sleep(0.005)
        assert LIVE
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return traced

    for run in (push_async, collect):
        traced = asyncio.run(main(run))
        assert [type(error) for error in traced.thrown] == [asyncio.CancelledError]
        assert traced.ended
        assert not LIVE


def test_a_socket_is_a_push_with_two_more_rows() -> None:
    def echo() -> Program:
        while True:
            yield Emit((yield Receive()))

    inbox: list[bytes | str] = [b"two", "one"]
    outbox: list[bytes | str] = []

    def receive(effect: Receive, began: float) -> bytes | str:
        if not inbox:
            raise Left
        return inbox.pop()

    with pytest.raises(Left):
        push(echo(), {**BLOCKING, Receive: receive, Emit: lambda effect, began: outbox.append(effect.data)})
    assert outbox == ["one", b"two"]
    assert not LIVE


def test_a_file_is_read_by_both_tables_and_what_fails_is_thrown_into_the_program(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\x00\xff")

    def reading(path: str) -> Program:
        return (yield Read(path))

    for run in PUSHES:
        assert run(reading(str(file))) == b"\x00\xff"
        with pytest.raises(FileNotFoundError):
            run(reading(str(tmp_path / "none")))
        assert not LIVE


def test_an_awaiting_table_reads_files_beside_its_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = []

    def read(effect: Read, began: float) -> bytes:
        readers.append(threading.current_thread())
        return b""

    monkeypatch.setattr(effects, "_read", read)
    asyncio.run(push_async(Traced(Read("")).program))
    assert readers != [threading.main_thread()]


def test_a_body_is_a_push_with_one_more_row() -> None:
    def echo() -> Program:
        return (yield Body())

    async def body(effect: Body, began: float) -> bytes:
        return b"sent"

    assert push(echo(), {**BLOCKING, Body: lambda effect, began: b"sent"}) == b"sent"
    assert asyncio.run(push_async(echo(), {**AWAITING, Body: body})) == b"sent"
    with pytest.raises(KeyError):
        push(echo())


def test_early_wakes_are_slept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop that wakes a task after half its wait, as uvloop does by up to 1.2 ms."""
    sleep, sleep_async = time.sleep, asyncio.sleep
    monkeypatch.setattr(time, "sleep", lambda s: sleep(s / 2))
    monkeypatch.setattr(asyncio, "sleep", lambda s: sleep_async(s / 2))
    for effect in (Sleep(0.01), Query(0.01), Until(0.01)):
        for run in PUSHES:
            began = time.monotonic()
            run(Traced(effect).program)
            assert time.monotonic() - began >= 0.01


def test_until_does_not_add_errors_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In simulated time, where each sleep oversleeps by 1 ms: relative sleeps would end 10 ms late."""
    now = 100.0

    def oversleep(seconds: float) -> None:
        nonlocal now
        now += seconds + 0.001

    monkeypatch.setattr(effects, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", oversleep)
    push(Traced(*(Until(number * 0.005) for number in range(1, 11))).program)
    assert now == pytest.approx(100.051)
