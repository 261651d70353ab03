"""The raw adapters and the mistakes, called as servers call them: bodies, refusals, and clients that leave."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Request, TextMessage

from apps import asgi, mistakes, rsgi, wsgi
from apps.effects import LIVE
from apps.endpoints import LARGEST_BODY, ROUTES, as_json, expected


class Started:
    """What an application told its WSGI server."""

    status = ""
    headers: tuple[tuple[str, str], ...] = ()

    def __call__(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status, self.headers = status, tuple(headers)


def environ(method: str, path: str, body: bytes | None = None, **more: Any) -> dict[str, Any]:
    bare, _, query = path.partition("?")
    given = {"REQUEST_METHOD": method, "PATH_INFO": bare, "QUERY_STRING": query, "wsgi.input": io.BytesIO(body or b"")}
    return given | ({} if body is None else {"CONTENT_LENGTH": str(len(body))}) | more


def by_wsgi(method: str, path: str, body: bytes | None = None, **more: Any) -> tuple[int, str, bytes]:
    started = Started()
    whole = b"".join(wsgi.app(environ(method, path, body, **more), started))
    return int(started.status[:3]), dict(started.headers)["Content-Type"], whole


def scope_of(method: str, path: str, length: int | None = None, kind: str = "http") -> dict[str, Any]:
    bare, _, query = path.partition("?")
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return {"type": kind, "method": method, "path": bare, "query_string": query.encode(), "headers": headers}


Application = Callable[[Any, Any, Any], Awaitable[None]]


async def asked(app: Application, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What the application sent to a client who sends these messages, and then stays."""
    inbox, sent = list(messages), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        if not inbox:
            await asyncio.sleep(3600)
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def by_asgi(app: Application, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
    half = len(body or b"") // 2
    whole = body or b""
    messages = (
        {"type": "http.request", "body": whole[:half], "more_body": True},
        {"type": "http.request", "body": whole[half:]},
    )
    start, *rest = asyncio.run(asked(app, scope_of(method, path, None if body is None else len(body)), *messages))
    return start["status"], dict(start["headers"])[b"content-type"].decode(), b"".join(m["body"] for m in rest)


ADAPTERS: dict[str, Callable[..., tuple[int, str, bytes]]] = {
    "wsgi": by_wsgi,
    "asgi": lambda *request: by_asgi(asgi.app, *request),
    "blocking": lambda *request: by_asgi(mistakes.blocking, *request),
    "to_thread": lambda *request: by_asgi(mistakes.to_thread, *request),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_endpoint_is_answered_as_it_must_be(adapter: str) -> None:
    for path, query in (("/ping", ""), ("/file", ""), ("/json", "items=3"), ("/stream", "kb=33"), ("/mix", "ms=1")):
        got = ADAPTERS[adapter]("GET", f"{path}?{query}" if query else path)
        assert got == expected("GET", path, query)
    assert ADAPTERS[adapter]("GET", "/sse?events=2&interval_ms=1") == expected("GET", "/sse", "events=2&interval_ms=1")
    assert ADAPTERS[adapter]("GET", "/nope") == expected("GET", "/nope")
    assert not LIVE


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 300, None, bytes(LARGEST_BODY + 1)])
def test_bodies_are_taken_whole_or_refused(adapter: str, body: bytes | None) -> None:
    assert ADAPTERS[adapter]("POST", "/echo", body) == expected("POST", "/echo", "", body)
    assert not LIVE


def test_no_more_than_the_body_is_read_of_the_next_request_s_bytes() -> None:
    given = environ("POST", "/echo", b"mine") | {"wsgi.input": io.BytesIO(b"mine, theirs")}
    assert b"".join(wsgi.app(given, Started())) == b"mine"


def test_a_body_too_large_is_read_away_unless_it_is_endless() -> None:
    for length, left in ((LARGEST_BODY + 1, 0), (10**9, 50)):
        given = environ("POST", "/echo", b"x" * 50) | {"CONTENT_LENGTH": str(length)}
        started = Started()
        assert list(wsgi.app(given, started))
        assert started.status.startswith("413")
        assert len(given["wsgi.input"].read()) == left


def test_a_websocket_is_refused_where_the_server_keeps_its_socket() -> None:
    status, content_type, body = by_wsgi("GET", "/ws", HTTP_UPGRADE="websocket")
    assert (status, content_type) == (501, "application/json")
    assert b"upgrade" in body
    assert by_wsgi("GET", "/ping", HTTP_UPGRADE="WebSocket") == expected("WS", "/ping")
    assert not LIVE


@pytest.mark.parametrize("place", wsgi.SOCKETS)
def test_a_conversation_ends_as_its_server_wants_it(place: str) -> None:
    client = WSConnection(ConnectionType.CLIENT)
    head = client.send(Request(host="h", target="/ws")).decode().split("\r\n")[1:-2]
    headers = {f"HTTP_{n.upper().replace('-', '_')}": v for n, v in (line.split(": ", 1) for line in head)}
    ours, theirs = socket.socketpair()
    started, ended = Started(), list[object]()

    def converse() -> None:
        try:
            ended.append(wsgi.app(environ("GET", "/ws") | headers | {place: theirs}, started))
        except StopIteration as stop:
            ended.append(stop)

    says: dict[type[Event], Event] = {
        AcceptConnection: TextMessage(data="hello"),
        TextMessage: CloseConnection(code=1000),
    }
    got: list[Event] = []
    with ours, theirs:
        thread = threading.Thread(target=converse)
        thread.start()
        while len(got) < 3:
            client.receive_data(ours.recv(4096))
            for event in client.events():
                got.append(event)
                if answer := says.get(type(event)):
                    ours.sendall(client.send(answer))
        thread.join()
    assert [type(event) for event in got] == [AcceptConnection, TextMessage, CloseConnection]
    assert started.status == ("200 OK" if place == "werkzeug.socket" else "")
    assert [] in ended if place == "werkzeug.socket" else isinstance(ended[0], StopIteration)
    assert not LIVE


def test_a_server_that_asks_for_lifespan_is_told_that_all_is_well() -> None:
    for app in (asgi.app, mistakes.blocking):
        asking = ({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
        sent = asyncio.run(asked(app, {"type": "lifespan"}, *asking))
        assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


def test_a_refused_upgrade_is_answered_where_the_server_can_and_closed_elsewhere() -> None:
    scope = scope_of("", "/nope", kind="websocket")
    assert asyncio.run(asked(asgi.app, scope)) == [{"type": "websocket.close"}]
    start, body = asyncio.run(asked(asgi.app, scope | {"extensions": {"websocket.http.response": {}}}))
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    assert body["body"] == expected("WS", "/nope")[2]


@pytest.mark.parametrize("app", [asgi.app, mistakes.blocking, mistakes.to_thread])
def test_a_client_that_leaves_in_its_own_body_is_not_answered(app: Application) -> None:
    leaving = ({"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"})
    assert asyncio.run(asked(app, scope_of("POST", "/echo", 4), *leaving)) == []
    assert not LIVE


@pytest.mark.parametrize("app", [asgi.app, mistakes.to_thread])
def test_a_client_that_leaves_a_stream_ends_it(app: Application) -> None:
    async def main() -> int:
        gone = asyncio.Event()
        sent = 0

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal sent
            sent += 1
            if sent == 3:
                gone.set()

        await app(scope_of("GET", "/sse?events=10000&interval_ms=5"), receive, send)
        deadline = time.monotonic() + 1
        while LIVE and time.monotonic() < deadline:  # a thread ends what it is doing first
            await asyncio.sleep(0.001)
        return sent

    assert asyncio.run(main()) < 6
    assert not LIVE


async def longest_gap(app: Application) -> float:
    """The longest that an event loop stood still while a call of 50 ms was answered."""
    task = asyncio.ensure_future(asked(app, scope_of("GET", "/sleep?ms=50")))
    gaps = []
    while not task.done():
        began = time.monotonic()
        await asyncio.sleep(0.001)
        gaps.append(time.monotonic() - began)
    return max(gaps)


def test_the_mistakes_are_what_they_say() -> None:
    """`blocking` holds its event loop up; `to_thread` does not, until there are more calls than threads."""
    assert asyncio.run(longest_gap(mistakes.blocking)) >= 0.05
    assert min(asyncio.run(longest_gap(mistakes.to_thread)) for _ in range(3)) < 0.05

    async def together(calls: int) -> float:
        began = time.monotonic()
        await asyncio.gather(*(asked(mistakes.to_thread, scope_of("GET", "/sleep?ms=50")) for _ in range(calls)))
        return time.monotonic() - began

    assert min(asyncio.run(together(mistakes.THREADS)) for _ in range(3)) < 0.1
    assert asyncio.run(together(mistakes.THREADS + 1)) >= 0.1


class Granian:
    """A scope and a protocol of RSGI in one, as far as the adapter uses them."""

    def __init__(self, method: str, path: str, body: bytes | None = None) -> None:
        self.proto, self.method = "http", method
        self.path, _, self.query_string = path.partition("?")
        self.headers = {} if body is None else {"content-length": str(len(body))}
        self.body, self.sent = body or b"", b""
        self.status, self.content_type = 0, ""
        self.gone = asyncio.Event()

    async def __call__(self) -> bytes:
        return self.body

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.response_stream(status, headers)
        self.sent = body

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Granian:
        self.status, self.content_type = status, dict(headers)["content-type"]
        return self

    async def send_bytes(self, data: bytes) -> None:
        self.sent += data

    async def client_disconnect(self) -> None:
        await self.gone.wait()


def test_rsgi_answers_alike() -> None:
    async def main() -> None:
        for path in ROUTES.keys() - {"/ws", "/sse", "/state", "/echo"}:
            served = Granian("GET", path)
            await rsgi.app(served, served)
            assert (served.status, served.content_type, served.sent) == expected("GET", path)
        for body in (b"", b"x" * 70_000, None, bytes(LARGEST_BODY + 1)):
            served = Granian("POST", "/echo", body)
            await rsgi.app(served, served)
            assert (served.status, served.content_type, served.sent) == expected("POST", "/echo", "", body)
        left = Granian("GET", "/sse?events=10000&interval_ms=5")
        running = asyncio.ensure_future(rsgi.app(left, left))
        await asyncio.sleep(0.02)
        assert LIVE
        left.gone.set()
        await running
        await asyncio.sleep(0)
        assert left.sent.startswith(b"id: 0\n")

    asyncio.run(main())
    assert not LIVE


def test_raw_adapters_write_documents_compactly() -> None:
    assert as_json({"a": [1, "\u00e9"]}) == b'{"a":[1,"\\u00e9"]}'
