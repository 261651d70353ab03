"""HTTP/1.1 responses, without I/O. In: bytes as they come. Out: status, body, whether the connection may be used again.

Reads what RFC 9112 §6 allows: Content-Length, chunked, closed by the server, none for 1xx/204/304 and HEAD. Small on
purpose: `parse_head` runs once for each distinct head and `Response.feed` only where the fast path of
client.Connection (one read holds the whole reply) does not apply.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

MAX_HEAD = 65_536
_SIZE, _TRAILER = -1, -2  # what may come instead of so many bytes of a chunk
KEPT_BODY = 1 << 20  # beyond this only the length of a body is kept


class ProtocolError(Exception):
    """The bytes are no HTTP/1.1 response."""


class Head(NamedTuple):
    """length: body bytes, None when chunked or until the connection closes."""

    status: int
    length: int | None
    chunked: bool
    keep: bool


@lru_cache(maxsize=512)  # heads differ by their Date only: one parse a second
def parse_head(head: bytes, *, bodiless: bool = False) -> Head:
    """head: everything before the empty line. bodiless: the request was a HEAD."""
    line, *fields = head.split(b"\r\n")
    if not line.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")) or not re.fullmatch(rb"[1-5][0-9]{2}( .*)?", line[9:]):
        raise ProtocolError(f"not a status line: {line[:40]!r}")
    status = int(line[9:12])
    values: dict[bytes, bytes] = {}
    for entry in fields:
        name, colon, value = entry.partition(b":")
        if not colon:
            raise ProtocolError(f"not a header: {entry[:40]!r}")
        values[name.lower()] = value.strip()
    keep = (values.get(b"connection", b"").lower() != b"close") and not line.startswith(b"HTTP/1.0")
    if bodiless or status < 200 or status in (204, 304):
        return Head(status, 0, False, keep)
    if values.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
        return Head(status, None, True, keep)
    length = values.get(b"content-length")
    if length is None:
        return Head(status, None, False, False)
    if not length.isdigit():
        raise ProtocolError(f"Content-Length {length[:20]!r}")
    return Head(status, int(length), False, keep)


class Response:
    """One response as it grows: `feed` until it says that it is whole; `end` when the server closed."""

    __slots__ = ("_buffer", "_chunk", "body", "head", "size")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._chunk = _SIZE
        self.head: Head | None = None
        self.body = bytearray()
        self.size = 0

    def feed(self, data: bytes) -> bool:
        """True when the response is whole. Raises ProtocolError."""
        self._buffer += data
        if self.head is None and not self._read_head():
            return False
        assert self.head is not None
        if self.head.chunked:
            return self._read_chunks()
        self._take(len(self._buffer))
        if self.head.length is not None and self.size > self.head.length:
            raise ProtocolError("more bytes than Content-Length")
        return self.size == self.head.length

    def end(self) -> bool:
        """The server closed: True when that is how the body ends, False when it is cut off."""
        return self.head is not None and not self.head.chunked and self.head.length in (None, self.size)

    def _read_head(self) -> bool:
        while (stop := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = parse_head(bytes(self._buffer[:stop]))
            del self._buffer[: stop + 4]
            if head.status >= 200 or head.status == 101:  # else an interim response: the real one follows
                self.head = head
                return True
        if len(self._buffer) > MAX_HEAD:
            raise ProtocolError("the head is larger than 64 KB")
        return False

    def _take(self, n: int) -> None:
        self.size += n
        if len(self.body) < KEPT_BODY:
            self.body += self._buffer[:n]
        del self._buffer[:n]

    def _read_chunks(self) -> bool:
        while self._buffer:
            if self._chunk > 0:
                n = min(self._chunk, len(self._buffer))
                self._take(n)
                self._chunk -= n
                continue
            stop = self._buffer.find(b"\r\n")
            if stop < 0:
                if len(self._buffer) > 1024:
                    raise ProtocolError("no end of a chunk's line")
                return False
            line = bytes(self._buffer[:stop])
            del self._buffer[: stop + 2]
            if self._chunk == _TRAILER and not line:
                if self._buffer:
                    raise ProtocolError("more bytes than the last chunk")
                return True
            self._chunk = _after(line, self._chunk)
        return False


def _after(line: bytes, chunk: int) -> int:
    """What follows a line of the chunked coding, given what it ended: bytes of data, a size or the trailer."""
    if chunk == _TRAILER:
        return _TRAILER
    if chunk == 0:  # the line end after a chunk's data
        if line:
            raise ProtocolError("a chunk is longer than it says")
        return _SIZE
    size = line.partition(b";")[0].rstrip(b" \t")
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
        raise ProtocolError(f"not a chunk's size: {line[:20]!r}")
    return int(size, 16) or _TRAILER
