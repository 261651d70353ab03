"""Event streams and WebSockets as a user meets them. In: an address and a Part. Out: moments, written to Tracks.

Slow conversations, so each has a greenlet and reads in order. Rows: `sse` and `ws` are the whole conversation,
`sse:first` the time to the first event, `sse:event` each further event's lateness against event 0 and the interval,
`ws:connect` the handshake, `ws:echo` a round trip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple
from urllib.parse import parse_qs

import gevent
from gevent import socket
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, RejectConnection, Request, TextMessage
from wsproto.utilities import ProtocolError as WebSocketError

from harness.load.client import Address, kind_of, prepared
from harness.load.http import ProtocolError, Response
from harness.load.recorder import TIMEOUT, UNFINISHED, Recorder, Track
from harness.trial import Part

now = time.monotonic
PAYLOAD = "gatebench" * 7  # 63 bytes: small enough for one frame, large enough not to be a degenerate case


class Broken(Exception):
    """The conversation ended otherwise than planned; its text is the kind of error."""


class Due(NamedTuple):
    """When a call was due, and when it was taken up."""

    intended: float
    taken: float


Conversation = Callable[[Address, str, Part, Recorder, Due, float], None]


def sse(address: Address, target: str, part: Part, recorder: Recorder, due: Due, timeout_s: float) -> None:
    """One whole event stream, each event counted when it has come whole.

    The query may say how many events are due, and when; a stream that does not say is read to its end.
    """
    first, later = recorder.track("sse:first"), recorder.track("sse:event")
    asked = parse_qs(part.query)
    planned = int(asked["events"][0]) if "events" in asked else 0
    interval_s = float(asked["interval_ms"][0]) / 1000 if "interval_ms" in asked else 0.0
    moments: list[float] = []
    with _settled(recorder.track("sse"), due, timeout_s + planned * interval_s) as attempted:
        first.offer(due.intended)
        try:
            for event in _events(address, target):
                moments.append(now())
                if planned and f"id: {len(moments) - 1}".encode() not in event.splitlines():
                    raise Broken("events out of order")
                if len(moments) == 1:
                    first.completed(*due, attempted, moments[0])
                elif interval_s:
                    expected = moments[0] + (len(moments) - 1) * interval_s
                    later.offer(expected)
                    later.completed(expected, expected, expected, max(moments[-1], expected))
            if planned and len(moments) != planned:
                raise Broken("incomplete stream")
        except BaseException as error:
            _give_up(first, later, due, moments, [interval_s * number for number in range(planned)], error)
            raise


def _give_up(
    first: Track, later: Track, due: Due, moments: list[float], plan_s: list[float], error: BaseException
) -> None:
    """What a broken stream owes: every event still planned; if we cut it short ourselves, only what was due by now."""
    ended = now()
    kind = _kind(error) if isinstance(error, gevent.GreenletExit | gevent.Timeout) else "missing event"
    if not moments:
        first.settle(kind, *due, due.taken, ended)
    start = moments[0] if moments else due.intended
    for moment in (start + offset for offset in plan_s[max(len(moments), 1) :]):
        if kind != UNFINISHED or moment <= ended:
            later.offer(moment)
            later.settle(kind, moment, moment, moment, max(moment, ended))


def ws(address: Address, target: str, part: Part, recorder: Recorder, due: Due, timeout_s: float) -> None:
    """One conversation: connect, `echoes` round trips at a fixed interval, close."""
    connect, echo = recorder.track("ws:connect"), recorder.track("ws:echo")
    interval_s = part.interval_ms / 1000
    budget_s = timeout_s + part.echoes * interval_s
    with _settled(recorder.track("ws"), due, budget_s) as attempted, closing(socket.create_connection(address)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = WSConnection(ConnectionType.CLIENT)
        incoming = _incoming(sock, wire)
        with _settled(connect, due, timeout_s, attempted):
            sock.sendall(wire.send(Request(host=f"{address[0]}:{address[1]}", target=target)))
            if not isinstance(next(incoming), AcceptConnection):
                raise Broken("handshake refused")
        opened = now()
        for number in range(part.echoes):
            gevent.sleep(max(opened + number * interval_s - now(), 0))
            sent = now()
            with _settled(echo, Due(sent, sent), timeout_s):
                sock.sendall(wire.send(TextMessage(PAYLOAD)))
                if _message(incoming) != PAYLOAD:
                    raise Broken("wrong echo")
        sock.sendall(wire.send(CloseConnection(code=1000)))
        if not isinstance(next(incoming), CloseConnection):
            raise Broken("no close frame")


@contextmanager
def _settled(track: Track, due: Due, timeout_s: float, attempted: float | None = None) -> Iterator[float]:
    """Gives a call exactly one outcome in `track`, and passes an error on; yields the moment of the attempt."""
    track.offer(due.intended)
    attempted = now() if attempted is None else attempted
    error: BaseException | None = None
    try:
        with gevent.Timeout(timeout_s):
            yield attempted
    except BaseException as caught:
        error = caught
    track.settle(_kind(error), *due, attempted, now())
    if error is not None:
        raise error


def _kind(error: BaseException | None) -> str:
    match error:
        case None:
            return ""
        case gevent.Timeout():
            return TIMEOUT
        case gevent.GreenletExit():
            return UNFINISHED
        case OSError():
            return kind_of(error)
        case ProtocolError() | WebSocketError():
            return "protocol"
        case _:
            return str(error) or type(error).__name__


FAILURES = (Broken, OSError, ProtocolError, WebSocketError, gevent.Timeout)


def _events(address: Address, target: str) -> Iterator[bytes]:
    """The events of one stream, as soon as each is whole (the blank line that ends it: WHATWG HTML §9.2)."""
    with closing(socket.create_connection(address)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        extra = "Accept: text/event-stream\r\nCache-Control: no-store\r\n"
        sock.sendall(prepared(f"{address[0]}:{address[1]}", target, extra=extra).request)
        response, whole = Response(), False
        while not whole:
            data = sock.recv(65_536)
            whole = response.feed(data) if data else True
            if response.head is not None and response.head.status != 200:
                raise Broken(f"status {response.head.status}")
            if not data and not response.end():
                raise Broken("truncated")
            while (stop := response.body.find(b"\n\n")) >= 0:
                event = bytes(response.body[:stop])
                del response.body[: stop + 2]
                yield event


def _incoming(sock: socket.socket, wire: WSConnection) -> Iterator[Event]:
    """What the server says, event by event; pings are answered on the way."""
    while True:
        data = sock.recv(65_536)
        wire.receive_data(data or None)
        for event in wire.events():
            if isinstance(event, Ping):
                sock.sendall(wire.send(event.response()))
            elif isinstance(event, RejectConnection):
                raise Broken(f"status {event.status_code}")
            else:
                yield event
        if not data:
            raise Broken("closed without a close frame")


def _message(incoming: Iterator[Event]) -> str:
    """One whole text message, of however many frames."""
    text = ""
    for event in incoming:
        if not isinstance(event, TextMessage):
            raise Broken("closed early" if isinstance(event, CloseConnection) else "wrong echo")
        text += event.data
        if event.message_finished:
            return text
    raise Broken("closed without a close frame")


CONVERSATIONS: dict[str, Conversation] = {"sse": sse, "ws": ws}
