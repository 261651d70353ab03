"""WebSockets as a user meets them. In: an address and a Part. Out: moments, written to Tracks.

Rows: `ws` is the whole conversation, `ws:connect` the handshake, `ws:echo` a round trip.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gevent
from gevent import socket
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.handshake import H11Handshake

from harness.load.client import Address
from harness.load.conversation import Broken, Due, dial, now, settled
from harness.load.recorder import Recorder
from harness.trial import Part

PAYLOAD = "gatebench" * 7  # 63 bytes: small enough for one frame, large enough not to be a degenerate case
NORMAL, NO_CODE = 1000, 1005
STILL_OURS = (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING)  # the server has not said that it closes
OURS = ("host", "connection", "upgrade")  # headers that the handshake writes itself


def ws(address: Address, target: str, part: Part, recorder: Recorder, due: Due, timeout_s: float) -> None:
    """One conversation: connect, `echoes` round trips at a fixed interval, close."""
    interval_s = part.interval_ms / 1000
    budget_s = timeout_s + part.echoes * interval_s
    whole, connect, echo = (recorder.track(name) for name in ("ws", "ws:connect", "ws:echo"))
    with settled(whole, due, budget_s) as attempted:
        with settled(connect, due, timeout_s, attempted):
            socket_ = Socket(address, target, part)
        with closing(socket_):
            opened = now()
            for number in range(part.echoes):
                gevent.sleep(max(opened + number * interval_s - now(), 0))
                sent = now()
                with settled(echo, Due(sent, sent), timeout_s):
                    socket_.echo()
            socket_.leave()


class Socket:
    """One open WebSocket that says the same again and again."""

    __slots__ = ("_incoming", "_message", "_sock", "_wire")

    def __init__(self, address: Address, target: str, part: Part) -> None:
        """Opens it. Raises Broken when the server does not agree."""
        text = part.body or PAYLOAD
        self._message: TextMessage | BytesMessage = BytesMessage(text.encode()) if part.binary else TextMessage(text)
        self._sock = dial(address)
        try:
            request = Request(host=f"{address[0]}:{address[1]}", target=target, extra_headers=_headers(part))
            self._wire = _agreed(self._sock, request)
        except BaseException:
            self.close()
            raise
        self._incoming = _incoming(self._sock, self._wire)

    def echo(self) -> None:
        """One round trip. Raises Broken when something else comes back, or nothing."""
        self._sock.sendall(self._wire.send(self._message))
        wanted: Any = self._message.data  # text, or bytes
        got = wanted[:0]
        for event in self._incoming:
            if isinstance(event, CloseConnection):
                raise Broken(f"closed {'mid-message' if got else 'early'} with {event.code}")
            if not isinstance(event, type(self._message)):
                raise Broken("wrong echo")
            got += event.data
            if len(got) > len(wanted):  # however long it would become
                raise Broken("wrong echo")
            if event.message_finished:
                break
        if got != wanted:
            raise Broken("wrong echo")

    def leave(self) -> None:
        """Says goodbye, and waits for the server's."""
        self._sock.sendall(self._wire.send(CloseConnection(code=NORMAL)))
        event = next(self._incoming)
        if not isinstance(event, CloseConnection):
            raise Broken("no close frame")
        if event.code not in (NORMAL, NO_CODE):
            raise Broken(f"closed with {event.code}")

    def close(self) -> None:
        self._sock.close()


def _headers(part: Part) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(":") for line in part.headers)
    return [(name.encode(), value.strip().encode()) for name, _, value in pairs if name.lower() not in OURS]


def _agreed(sock: socket.socket, request: Request) -> Connection:
    """The handshake. Only what frames need is left of it: wsproto's WSConnection would keep its HTTP parser, 8 KB."""
    handshake = H11Handshake(ConnectionType.CLIENT)
    sock.sendall(handshake.send(request))
    while handshake.connection is None:
        data = sock.recv(65_536)
        if not data:
            raise Broken("closed without an answer")
        handshake.receive_data(data)
        for event in handshake.events():
            if isinstance(event, RejectConnection):
                raise Broken(f"status {event.status_code}")
    return handshake.connection


def _incoming(sock: socket.socket, wire: Connection) -> Iterator[Event]:
    """What the server says, event by event; pings are answered on the way, and pongs passed over."""
    unfinished = False  # in the middle of a message
    while True:
        data = sock.recv(65_536)
        if not data:
            raise Broken("closed mid-message" if unfinished else "closed without a close frame")
        wire.receive_data(data)
        for event in wire.events():
            if isinstance(event, Ping):
                sock.sendall(wire.send(event.response()))
            elif isinstance(event, CloseConnection) and wire.state in STILL_OURS:
                raise Broken("protocol")  # wsproto's own words for bytes that are no frames
            elif not isinstance(event, Pong):
                unfinished = isinstance(event, Message) and not event.message_finished
                yield event
