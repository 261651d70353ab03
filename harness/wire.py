"""Single questions to a server, over plain blocking sockets. In: an address and a path. Out: its answer, timed.

For checking, not for loading. One connection a question, closed at once: gunicorn's sync and gthread workers
wait up to 2 s for a client to close, and serve nobody meanwhile.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Request, TextMessage

TIMEOUT_S = 3.0  # without an answer in that time a server has failed
SHOWN = 160  # characters of an answer that a finding quotes

Address = tuple[str, int]


class Answer(NamedTuple):
    """What came, as far as servers must agree on it."""

    status: int
    content_type: str
    body: bytes

    def __str__(self) -> str:
        return f"{self.status} {self.content_type} {self.body!r}"[:SHOWN]


class Question:
    """A request that has been sent, when `ask` is called, and waits for its answer."""

    def __init__(self, address: Address) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
        self._connection.connect()
        self._response: http.client.HTTPResponse | None = None
        self.asked = 0.0

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> None:
        self.asked = time.monotonic()
        self._connection.putrequest(method, path)
        if body is not None:
            self._connection.putheader("Content-Length", str(len(body)))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may refuse a body before it has read it
            self._connection.endheaders(body)

    def answer(self) -> Answer:
        """The whole answer; closes the connection."""
        try:
            response = self._response = self._connection.getresponse()
            return self.answered(response.read())
        finally:
            self.close()

    def answered(self, body: bytes) -> Answer:
        """The answer, once its head has come, with the body that was read."""
        assert self._response is not None
        return Answer(self._response.status, plain_type(self._response.headers.get("content-type", "")), body)

    def pieces(self) -> Iterator[tuple[float, bytes]]:
        """The body in the pieces in which it arrives, each with its time since the question."""
        response = self._response = self._connection.getresponse()
        while piece := response.read1(65_536):
            yield time.monotonic() - self.asked, piece

    def close(self) -> None:
        self._connection.close()
        if self._response is not None:  # which keeps the socket of a connection that is not kept alive
            self._response.close()


def plain_type(content_type: str) -> str:
    """A content type in one spelling: RFC 9110 leaves its case, spaces and quotes to the sender."""
    return "; ".join(part.strip() for part in content_type.lower().replace('"', "").split(";"))


def fetch(address: Address, path: str, method: str = "GET", body: bytes | None = None) -> tuple[Answer, float]:
    """The answer, and how many seconds it took once the connection stood."""
    with questions(address, 1) as (question,):
        question.ask(path, method, body)
        answer = question.answer()
        return answer, time.monotonic() - question.asked


@contextlib.contextmanager
def questions(address: Address, count: int) -> Iterator[list[Question]]:
    """So many connections, opened before any of them asks; closed at the end, whatever happens."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(contextlib.closing(Question(address))) for _ in range(count)]


class Conversation:
    """A WebSocket client of a few lines."""

    def __init__(self, address: Address, path: str) -> None:
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._socket = socket.create_connection(address, TIMEOUT_S)
        self._events = self._receive()
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(self._protocol.send(Request(host=address[0], target=path)))
            self._accepted(next(self._events))
        except BaseException:
            self.close()
            raise

    def _accepted(self, answer: Event) -> None:
        if not isinstance(answer, AcceptConnection):
            raise ConnectionError(f"the handshake was answered with {answer}")

    def _receive(self) -> Iterator[Event]:
        while data := self._socket.recv(65_536):
            self._protocol.receive_data(data)
            yield from self._protocol.events()
        raise ConnectionError("the server closed the connection without a word")

    def send(self, *events: Event) -> None:
        """All of them in one go."""
        self._socket.sendall(b"".join(self._protocol.send(event) for event in events))

    def next(self) -> str | bytes | None:
        """The next whole message; None when the server agrees to end."""
        parts: list[Any] = []
        for event in self._events:
            if isinstance(event, CloseConnection):
                return None
            if isinstance(event, TextMessage | BytesMessage):
                parts.append(event.data)
                if event.message_finished:
                    break
        whole: str | bytes = parts[0][:0].join(parts)  # "" for text, b"" for bytes
        return whole

    def close(self) -> None:
        self._socket.close()
