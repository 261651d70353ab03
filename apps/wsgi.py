"""The raw WSGI adapter. In: a request, as WSGI has it. Out: the endpoint's answer, performed blocking.

A WebSocket needs the client's socket, which PEP 3333 does not know; gunicorn and Werkzeug leave it in the environment.
wsproto on that socket needs no helper thread, so that one connection costs one slot, not two.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeAlias

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

from apps import trace
from apps.effects import BLOCKING, Blocking, Body, Emit, Left, Program, Receive, pull, push
from apps.endpoints import Call, as_json, call, refusal

STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
LARGEST_MESSAGE = 16 * 2**20  # bytes, as uvicorn has it
TOO_BIG = 1009  # RFC 6455, 7.4.1
TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
SOCKETS = ("gunicorn.socket", "werkzeug.socket")  # where servers leave the client's own socket

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[[str, list[tuple[str, str]]], object]


@trace.wsgi
def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The application, for any WSGI server."""
    method, path, raw_query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
    if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
        return upgraded(environ, start_response, call("WS", path, raw_query))
    return respond(environ, start_response, call(method, path, raw_query, environ.get("CONTENT_LENGTH")))


def respond(environ: Environ, start_response: StartResponse, answer: Call) -> Iterable[bytes]:
    """Anything but a WebSocket."""
    if answer.kind == "stream":
        start_response(STATUS[answer.status], [("Content-Type", answer.content_type)])
        return pull(answer.program)
    table = BLOCKING
    if environ["REQUEST_METHOD"] == "POST":
        table = with_body(environ)
        if answer.status == TOO_LARGE and len(environ["CONTENT_LENGTH"]) < 8:  # of 9 MB at most
            table[Body](Body(), 0)  # a body that is left unread resets the connection: nobody could read why
    body = push(answer.program, table)
    if answer.kind == "document":
        body = as_json(body)
    start_response(STATUS[answer.status], [("Content-Type", answer.content_type), ("Content-Length", str(len(body)))])
    return [body]


def with_body(environ: Environ) -> Blocking:
    """The table for a request that brings a body, of exactly the length that `call` has accepted."""
    return {**BLOCKING, Body: lambda _effect, _began: environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))}


def upgraded(environ: Environ, start_response: StartResponse, answer: Call) -> Iterable[bytes]:
    """A request for a WebSocket: a conversation, where the server leaves its socket to us; else a refusal."""
    if answer.kind != "socket":
        return respond(environ, start_response, answer)
    if not any(name in environ for name in SOCKETS):
        answer.program.close()
        return respond(
            environ, start_response, refusal(501, "upgrade", "websocket", "none: the server keeps its socket")
        )
    converse(environ, answer.program)
    if "gunicorn.socket" in environ:
        raise StopIteration  # tells gunicorn's workers that the connection is dealt with: they close it, no more
    start_response(STATUS[200], [])  # what Werkzeug writes into the closed socket is lost
    return []


def converse(environ: Environ, program: Program) -> None:
    """Holds a WebSocket conversation on the client's own socket, until either side ends it."""
    peer = Peer(next(environ[name] for name in SOCKETS if name in environ))
    try:
        peer.accept(environ)
        push(program, {**BLOCKING, Emit: peer.emit, Receive: peer.receive})
        peer.send(CloseConnection(code=1000))
    except (Left, OSError):
        pass  # the client ended it, or broke off: either is how conversations end
    finally:
        program.close()  # for a handshake that failed: nothing else has


class Peer:
    """The client of one conversation: wsproto has the words, a blocking socket carries them."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._events: deque[Event] = deque()

    def accept(self, environ: dict[str, Any]) -> None:
        """Answers the handshake, whose request the server has read already; Left when it is not a proper one."""
        names = (name for name in environ if name.startswith("HTTP_"))
        headers = [(name[5:].replace("_", "-").encode(), environ[name].encode("latin-1")) for name in names]
        try:
            self._protocol.initiate_upgrade_connection(headers, environ["PATH_INFO"])
            answer: Event = AcceptConnection()  # without extensions: permessage-deflate would be work that others skip
        except RemoteProtocolError as error:
            answer = error.event_hint or RejectConnection()
        self.send(answer)
        self._events.clear()
        if isinstance(answer, RejectConnection):
            raise Left

    def send(self, event: Event) -> None:
        self._socket.sendall(self._protocol.send(event))

    def emit(self, effect: Emit, _began: float) -> None:
        self.send(Message(data=effect.data))

    def receive(self, _effect: Receive, _began: float) -> bytes | str:
        """The next whole message; pings and the closing handshake are answered on the way."""
        parts: list[Any] = []
        size = 0
        while True:
            event = self._next()
            if isinstance(event, Ping):
                self.send(event.response())
            elif isinstance(event, CloseConnection):
                self.send(event.response())
                raise Left
            elif isinstance(event, TextMessage | BytesMessage):
                parts.append(event.data)
                size += len(event.data)
                if size > LARGEST_MESSAGE:
                    self.send(CloseConnection(code=TOO_BIG))
                    raise Left
                if event.message_finished:
                    whole: bytes | str = parts[0][:0].join(parts)  # "" for text, b"" for bytes
                    return whole

    def _next(self) -> Event:
        while not self._events:
            data = self._socket.recv(65_536)
            if not data:
                raise Left
            try:
                self._protocol.receive_data(data)
            except RemoteProtocolError as error:
                self.send(error.event_hint or CloseConnection(code=1002))
                raise Left from None
            self._events.extend(self._protocol.events())
        return self._events.popleft()
