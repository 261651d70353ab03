"""Calls with an id each, for a Trial whose requests are followed. In: an Order with a folder. Out: their moments in it.

Only requests and their replies: streams, sockets and slow clients have many moments, and rows of their own for them.
Only what was answered right is noted: of the rest nobody knows when it ended.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import IO

from apps.trace import HEADER
from harness.load.call import Call
from harness.load.client import Address, Connection
from harness.load.order import SENT, Order

BUFFER = 1 << 20  # bytes; each write of so many holds the hub for about half a millisecond


class Notes:
    """What one load process has sent and seen answered in one Trial, in a file of its own."""

    def __init__(self, order: Order) -> None:
        first = order.first_id + (order.worker << 32)
        self.numbers = itertools.count(first)
        self._sink: IO[bytes] = (Path(order.trace) / f"{first}.sent").open("wb", buffering=BUFFER)

    def add(self, number: int, connection: Connection) -> None:
        c = connection
        self._sink.write(SENT.pack(number, c.intended, c.taken, c.attempted, c.ended, c.part))

    def close(self) -> None:
        self._sink.close()


class Numbered(Call):
    """One request of a Call, with its number in its head. What is known of right replies is the Call's."""

    __slots__ = ("_of",)

    def __init__(self, call: Call, number: int) -> None:
        line, end, rest = call.request.partition(b"\r\n")
        request = b"%b%b%b: %d\r\n%b" % (line, end, HEADER.encode(), number, rest)
        self._of = call
        super().__init__(request, call.expected, bodiless=call.bodiless, keep=call.keep)

    @property
    def known(self) -> bytes | None:
        return self._of.known

    @known.setter
    def known(self, reply: bytes | None) -> None:
        if reply is not None:
            self._of.known = reply


class TracedConnection(Connection):
    """A Connection that numbers its calls, and notes their moments before it tells their outcome."""

    __slots__ = ("_notes", "_number", "_then")

    def __init__(self, address: Address, done: Callable[[Connection, str], None], notes: Notes) -> None:
        super().__init__(address, self._ended)
        self._then, self._notes, self._number = done, notes, 0

    def begin(self, call: Call, intended: float, taken: float, attempted: float) -> None:
        self._number = next(self._notes.numbers)
        super().begin(Numbered(call, self._number), intended, taken, attempted)

    def _ended(self, connection: Connection, error: str) -> None:
        if not error:
            self._notes.add(self._number, connection)
        self._then(connection, error)
