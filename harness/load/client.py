"""The lean HTTP/1.1 client. In: one prepared request at a time. Out: one outcome for each, told to whoever owns it.

A Connection lives in the hub's callbacks, without a greenlet: what is readable is read, parsed, recorded, and the next
request sent, which is what lets one Python core drive tens of thousands of requests a second. Rules: (1) never two
requests at once on a connection: no reply can be paired with the wrong one; (2) after anything but a whole reply
the connection is closed; (3) a server may close an idle connection: a request that came too late for it is sent once
more on a new one, inside its own service time (RFC 9112 §9.3.1), but only where the kernel can tell that the server
never had it: a request that was read and then reset is an error, and counted.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SO_ERROR,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_INFO,
    TCP_NODELAY,
)
from typing import Any

import gevent
from gevent.monkey import get_original

from harness.load.call import Call
from harness.load.http import ProtocolError, Response, parse_head

_socket = get_original("socket", "SocketType")  # Locust has patched the module: this is the plain one, and in C
_READ, _WRITE = 1, 2
_CHUNK = 65_536
_REMEMBERED = 4096  # a reply up to this size is remembered as right
_TCP_CLOSE = 7  # the state of a socket whose peer has said that it knows it no longer

Address = tuple[str, int]
now = time.monotonic


class Connection:
    """One connection, opened with its first request. done(connection, error): '' for a right answer, else its kind."""

    __slots__ = (
        "_address",
        "_call",
        "_done",
        "_fresh",
        "_loop",
        "_reader",
        "_response",
        "_sock",
        "_unsent",
        "_writer",
        "attempted",
        "ended",
        "intended",
        "part",
        "taken",
    )

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
        self.intended = intended
        self.taken = taken
        self.attempted = attempted
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
        self._unsent = b""
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
            family = AF_INET6 if ":" in self._address[0] else AF_INET
            self._sock = sock = _socket(family, SOCK_STREAM | SOCK_NONBLOCK)
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # small writes must not wait for an ACK
            code = sock.connect_ex(self._address)
        except OSError as error:
            self._loop.run_callback(self._refused, self._call, kind_of(error))
            return
        self._fresh = True
        if code not in (0, errno.EINPROGRESS):
            self._loop.run_callback(self._refused, self._call, kind_of(OSError(code, "")))
            return
        assert self._call is not None
        request = self._call.request
        try:
            sent = sock.send(request)  # through loopback the handshake is over by now: a wake-up less for each
        except BlockingIOError:
            self._writer = self._loop.io(sock.fileno(), _WRITE)
            self._writer.start(self._connected)
        except OSError as error:
            self._loop.run_callback(self._refused, self._call, kind_of(error))
        else:
            self._listen()
            if sent < len(request):
                self._send_later(request[sent:])

    def _connected(self) -> None:
        code = self._sock.getsockopt(SOL_SOCKET, SO_ERROR)
        if code:
            self._fail(kind_of(OSError(code, "")))
            return
        self._writer.stop()
        self._listen()
        assert self._call is not None
        self._send(self._call.request)

    def _listen(self) -> None:
        self._reader = self._loop.io(self._sock.fileno(), _READ)
        self._reader.start(self._readable)

    def _send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if not self._unsent:
                self._broken(kind_of(error), stale=not self._fresh)
            return  # else it refuses the rest of a request that it has begun to read: its reply says why
        if sent < len(data):
            self._send_later(data[sent:])
        else:
            self._unsent = b""

    def _send_later(self, rest: bytes) -> None:
        self._unsent = rest
        if self._writer is None:
            self._writer = self._loop.io(self._sock.fileno(), _WRITE)
        self._writer.start(self._writable)
        if self._response is None:
            self._response = self._expecting()  # a reply to half a request must not go the fast way

    def _writable(self) -> None:
        self._writer.stop()
        self._send(self._unsent)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(kind_of(error), stale=False)
            return
        call = self._call
        if call is None:  # idle: closed by the server, or bytes that nobody asked for
            self.close()
        elif data == call.known and self._response is None:  # _finish, in place: most requests go this way
            self.ended = now()
            self._fresh = False
            self._call = None
            if not call.keep:
                self.close()
            self._done(self, "")
        elif not data:
            self._ended_by_server()
        elif self._response is None and (stop := data.find(b"\r\n\r\n")) > 0:
            self._whole_or_more(data, stop, call)
        else:
            self._more(data)

    def _whole_or_more(self, data: bytes, stop: int, call: Call) -> None:
        """The fast path: the reply's head and body came in one read."""
        try:
            head = parse_head(data[:stop], bodiless=call.bodiless)
        except ProtocolError:
            self._fail("protocol")
            return
        if head.length is None or head.status < 200 or len(data) != stop + 4 + head.length:
            self._more(data)
            return
        error = call.judge(head.status, data[stop + 4 :], head.length)
        if not error and (head.keep or not call.keep) and len(data) <= _REMEMBERED:
            call.known = data
        self._finish(call, error, keep=head.keep)

    def _expecting(self) -> Response:
        assert self._call is not None
        expected = self._call.expected
        return Response(bodiless=self._call.bodiless, kept=0 if expected is None else len(expected))

    def _more(self, data: bytes) -> None:
        if self._response is None:
            self._response = self._expecting()
        try:
            whole = self._response.feed(data)
        except ProtocolError:
            self._fail("protocol")
            return
        if whole:
            self._judge(self._response)

    def _judge(self, response: Response) -> None:
        call, head = self._call, response.head
        assert call is not None
        assert head is not None
        error = call.judge(head.status, response.body, response.size)
        self._finish(call, error, keep=head.keep and not self._unsent)

    def _finish(self, call: Call, error: str, *, keep: bool) -> None:
        """A whole reply has come. keep: whether the server and the request allow another one."""
        self.ended = now()
        self._fresh = False
        self._call = self._response = None
        if not (keep and call.keep):
            self.close()
        self._done(self, error)

    def _ended_by_server(self) -> None:
        if self._response is None or not self._response.begun:
            # stale: its end came before our request, which it then refused: after an end that followed a request that
            # it had read, there is nothing to refuse
            state = self._sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0]
            stale = state == _TCP_CLOSE and not self._fresh and not self._unsent
            self._broken("reset" if self._unsent else "closed without an answer", stale=stale)
        elif self._response.end():
            self._judge(self._response)
        else:
            self._fail("truncated")

    def _broken(self, kind: str, *, stale: bool) -> None:
        """The socket is lost. stale: an idle one had been closed under us, so once more on a new one."""
        call = self._call
        self.close()
        if call is None:
            return
        if stale:
            self._call = call
            self._connect()
        else:
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
