"""HTTP/1.1 responses, without I/O. In: bytes as they come. Out: status, body, whether the connection may be used again.

Reads what RFC 9112 §6 allows: Content-Length, chunked, closed by the server, none for 1xx/204/304 and HEAD. Small on
purpose: `parse_head` runs once for each distinct head and `Response.feed` only where the fast path of
client.Connection (one read holds the whole reply) does not apply. Memory is bounded whatever comes: a head by MAX_HEAD,
a chunk's line by MAX_LINE, a body by what its reader wants to keep.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

MAX_HEAD = 65_536
MAX_LINE = 1024
KEPT_BODY = 1 << 20  # of a longer body only the size is known, unless the reader takes it away
_REMEMBERED = 2048  # heads up to this size are parsed once: 512 of them make 1 MB at most
_SIZE, _TRAILER = -1, -2  # what may come instead of so many bytes of a chunk
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token: RFC 9110 §5.6.2


class ProtocolError(Exception):
    """The bytes are no HTTP/1.1 response."""


class Head(NamedTuple):
    """length: body bytes, None when chunked or until the connection closes."""

    status: int
    length: int | None
    chunked: bool
    keep: bool


def parse_head(head: bytes, *, bodiless: bool = False) -> Head:
    """head: everything before the empty line. bodiless: the request was a HEAD."""
    return _remembered(head, bodiless) if len(head) <= _REMEMBERED else _parsed(head, bodiless)


def _parsed(head: bytes, bodiless: bool) -> Head:
    line, *fields = head.split(b"\r\n")
    if re.search(rb"[\r\n\0]", b"".join((line, *fields))):  # RFC 9110 §5.5: a line that others may read as two
        raise ProtocolError("a bare CR, LF or NUL in the head")
    if not line.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")) or not re.fullmatch(rb"[1-5][0-9]{2}( .*)?", line[9:]):
        raise ProtocolError(f"not a status line: {line[:40]!r}")
    status = int(line[9:12])
    values = _values(fields)
    keep = b"close" not in _tokens(values, b"connection") and line.startswith(b"HTTP/1.1") and status != 101
    if bodiless or status < 200 or status in (204, 304):
        return Head(status, 0, False, keep)
    if b"transfer-encoding" in values:  # wins over a Content-Length; the last coding says how the body ends
        chunked = _tokens(values, b"transfer-encoding")[-1] == b"chunked"
        return Head(status, None, chunked, keep and chunked)
    if b"content-length" not in values:
        return Head(status, None, False, False)
    lengths = set(values[b"content-length"])
    length = lengths.pop()
    if lengths or not re.fullmatch(rb"[0-9]{1,18}", length):
        raise ProtocolError(f"Content-Length {length[:20]!r}")
    return Head(status, int(length), False, keep)


_remembered = lru_cache(maxsize=512)(_parsed)  # heads differ by their Date only: one parse a second


def _values(fields: list[bytes]) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for entry in fields:
        name, colon, value = entry.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise ProtocolError(f"not a header: {entry[:40]!r}")
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return values


def _tokens(values: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    """The members of a header that is a list, however many lines it takes."""
    return [token.strip(b" \t").lower() for value in values.get(name, ()) for token in value.split(b",")]


class Response:
    """One response as it grows: `feed` until it says that it is whole; `end` when the server closed.

    bodiless: the request was a HEAD. kept: how much of the body is wanted; of the rest only the size is known.
    """

    __slots__ = ("_bodiless", "_buffer", "_chunk", "_kept", "body", "head", "size")

    def __init__(self, *, bodiless: bool = False, kept: int = KEPT_BODY) -> None:
        self._bodiless = bodiless
        self._kept = kept
        self._buffer = bytearray()
        self._chunk = _SIZE
        self.head: Head | None = None
        self.body = bytearray()
        self.size = 0

    @property
    def begun(self) -> bool:
        return self.head is not None or bool(self._buffer)

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
            head = parse_head(bytes(self._buffer[:stop]), bodiless=self._bodiless)
            del self._buffer[: stop + 4]
            if head.status >= 200 or head.status == 101:  # else an interim response: the real one follows
                self.head = head
                return True
        if len(self._buffer) > MAX_HEAD:
            raise ProtocolError("the head is larger than 64 KB")
        return False

    def _take(self, n: int) -> None:
        wanted = min(self._kept - len(self.body), n)
        if wanted > 0:
            self.body += self._buffer[:wanted]
        self.size += n
        del self._buffer[:n]

    def _read_chunks(self) -> bool:
        while self._buffer:
            if self._chunk > 0:
                n = min(self._chunk, len(self._buffer))
                self._take(n)
                self._chunk -= n
                continue
            stop = self._buffer.find(b"\r\n", 0, MAX_LINE + 2)
            if stop < 0:
                if len(self._buffer) > MAX_LINE:
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
