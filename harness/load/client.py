"""The lean HTTP/1.1 client. In: one prepared request at a time. Out: one outcome for each, told to whoever owns it.

A Connection lives in the hub's callbacks, without a greenlet: what is readable is read, parsed, recorded, and the next
request sent, which is what lets one Python core drive tens of thousands of requests a second. Rules: (1) never two
requests at once on a connection: no reply can be paired with the wrong one; (2) after anything but a whole reply
the connection is closed; (3) a server may close an idle connection: a request that finds it closed, before any byte
of a reply, is sent once more on a new one, inside its own service time (RFC 9112 §9.3.1).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SO_ERROR, SOL_SOCKET, TCP_NODELAY
from typing import Any, NamedTuple

import gevent
from gevent.monkey import get_original

from harness.load.http import ProtocolError, Response, parse_head

_socket = get_original("socket", "socket")  # Locust has patched the module: this is the plain one
_READ, _WRITE = 1, 2
_CHUNK = 65_536

Address = tuple[str, int]
now = time.monotonic


class Call(NamedTuple):
    """One prepared request. expected: the exact body of a right answer, None = any."""

    request: bytes
    expected: bytes | None


def prepared(host: str, target: str, expected: bytes | None = None, *, method: str = "GET", extra: str = "") -> Call:
    """A request's bytes, made once. target: path and query. extra: header lines, each ending in CRLF."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: gatebench\r\nAccept: */*\r\n{extra}\r\n"
    return Call(head.encode("ascii"), expected)


class Connection:
    """One connection, opened with its first request. done(connection, error): '' for a right answer, else its kind."""

    def __init__(self, address: Address, done: Callable[[Connection, str], None]) -> None:
        self._address = address
        self._done = done
        self._loop = gevent.get_hub().loop
        self._sock: Any = None
        self._reader: Any = None
        self._writer: Any = None
        self._call: Call | None = None
        self._response: Response | None = None  # only where a reply does not come in one read
        self._unsent = b""
        self._fresh = True  # no reply has come on this socket yet
        # the moments of the call under way, kept here for the owner
        self.intended = self.taken = self.attempted = self.ended = 0.0
        self.part = 0

    @property
    def busy(self) -> bool:
        return self._call is not None

    def begin(self, call: Call, intended: float, taken: float, attempted: float) -> None:
        """Starts a call; its outcome comes through `done`, from the hub. attempted: now, which the caller knows."""
        self.intended, self.taken, self.attempted = intended, taken, attempted
        self._call = call
        if self._sock is None:
            self._connect()
        else:
            self._send(call.request)

    def expire(self, kind: str) -> None:
        """Ends the call under way with this kind of error; the connection is never used again."""
        if self.busy:
            self._fail(kind)

    def close(self) -> None:
        """Drops the connection and whatever is under way on it; no outcome is told."""
        self._call = self._response = None
        if self._sock is not None:
            for watcher in (self._reader, self._writer):
                if watcher is not None:
                    watcher.stop()
                    watcher.close()
            self._reader = self._writer = None
            self._sock.close()
            self._sock = None

    # -- inside ------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        try:
            self._sock = _socket(AF_INET6 if ":" in self._address[0] else AF_INET)
            self._sock.setblocking(False)
            self._sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # small writes must not wait for an ACK
            code = self._sock.connect_ex(self._address)
        except OSError as error:
            self._loop.run_callback(self._refused, self._call, kind_of(error))
            return
        self._fresh = True
        if code not in (0, errno.EINPROGRESS):
            self._loop.run_callback(self._refused, self._call, kind_of(OSError(code, "")))
            return
        self._writer = self._loop.io(self._sock.fileno(), _WRITE)
        self._writer.start(self._connected)

    def _connected(self) -> None:
        code = self._sock.getsockopt(SOL_SOCKET, SO_ERROR)
        if code:
            self._fail(kind_of(OSError(code, "")))
            return
        self._writer.stop()
        self._reader = self._loop.io(self._sock.fileno(), _READ)
        self._reader.start(self._readable)
        assert self._call is not None
        self._send(self._call.request)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broken(kind_of(error))
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._writer.start(self._writable)

    def _writable(self) -> None:
        self._writer.stop()
        self._send(self._unsent)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(kind_of(error))
            return
        call = self._call
        if call is None:  # idle: closed by the server, or bytes that nobody asked for
            self.close()
        elif not data:
            self._ended_by_server()
        elif self._response is None and (stop := data.find(b"\r\n\r\n")) > 0:
            self._whole_or_more(data, stop, call)
        else:
            self._more(data)

    def _whole_or_more(self, data: bytes, stop: int, call: Call) -> None:
        """The fast path: the reply's head and body came in one read."""
        try:
            head = parse_head(data[:stop])
        except ProtocolError:
            self._fail("protocol")
            return
        if head.length is None or head.status < 200 or len(data) != stop + 4 + head.length:
            self._more(data)
            return
        self.ended = now()
        self._fresh = False
        self._call = None
        if head.status != 200:
            error = f"status {head.status}"
        elif call.expected is not None and data[stop + 4 :] != call.expected:
            error = "wrong body"
        else:
            error = ""
        if not head.keep:
            self.close()
        self._done(self, error)

    def _more(self, data: bytes) -> None:
        if self._response is None:
            self._response = Response()
        try:
            whole = self._response.feed(data)
        except ProtocolError:
            self._fail("protocol")
            return
        if whole:
            self._finish(self._response)

    def _ended_by_server(self) -> None:
        if self._response is None:
            self._broken("closed without an answer")
        elif self._response.end():
            self._finish(self._response)
        else:
            self._fail("truncated")

    def _finish(self, response: Response) -> None:
        self.ended = now()
        self._fresh = False
        call, head = self._call, response.head
        assert call is not None
        assert head is not None
        self._call = self._response = None
        if not head.keep:
            self.close()
        error = "" if head.status == 200 else f"status {head.status}"
        if not error and call.expected is not None and bytes(response.body) != call.expected:
            error = "wrong body"
        self._done(self, error)

    def _broken(self, kind: str) -> None:
        """Lost before a reply began: once more on a new socket if an idle one had just been closed under us."""
        call, stale = self._call, not self._fresh and self._response is None
        self.close()
        if call is not None and stale:
            self._call = call
            self._connect()
        elif call is not None:
            self.ended = now()
            self._done(self, kind)

    def _refused(self, call: Call, kind: str) -> None:
        if self._call is call:  # it may have been ended meanwhile
            self._fail(kind)

    def _fail(self, kind: str) -> None:
        self.ended = now()
        self.close()
        self._done(self, kind)


def kind_of(error: OSError) -> str:
    """The kind of a failure, for counting."""
    kinds = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset"}
    kinds |= {errno.EMFILE: "no descriptors", errno.ENFILE: "no descriptors", errno.EADDRNOTAVAIL: "no ports"}
    return kinds.get(error.errno or 0) or errno.errorcode.get(error.errno or 0, "error")
