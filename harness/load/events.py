"""Server-sent events, without I/O. In: the bytes of a body as they come. Out: events, each as soon as it is whole.

WHATWG HTML §9.2.6: lines end in CRLF, CR or LF, a BOM may come first, comments and unknown fields are passed over.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from harness.load.http import ProtocolError

MAX_EVENT = 1 << 20
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    id: bytes  # the last one that the stream gave
    data: bytes


class EventParser:
    """The bytes of a stream to its events, each as soon as it is whole."""

    __slots__ = ("_after_cr", "_begun", "_data", "_id", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False  # a CR has ended a line: an LF that follows belongs to it
        self._begun = False
        self._data: list[bytes] = []
        self._size = 0
        self._id = b""

    def feed(self, data: bytes) -> list[Event]:
        """Raises ProtocolError for an event that is larger than memory allows."""
        if self._after_cr and data.startswith(b"\n"):
            self._after_cr, data = False, data[1:]
        if data:
            self._after_cr = data.endswith(b"\r")
        *lines, self._rest = _LINE_END.split(self._rest + data)
        if self._size + len(self._rest) > MAX_EVENT:
            raise ProtocolError("an event is larger than 1 MB")
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> Event | None:
        if not self._begun:
            self._begun, line = True, line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value) + 1
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value
        return None  # a comment, `retry:`, `event:` and what nobody knows

    def _dispatch(self) -> Event | None:
        if not self._data:
            return None
        event = Event(self._id, b"\n".join(self._data))
        self._data, self._size = [], 0
        return event
