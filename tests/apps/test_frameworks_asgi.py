"""The ASGI frameworks and the bridges, in this process: what they answer, sent how, and what is left of a leaver.

No server: a scope, a `receive` and a `send` of a few lines stand for one, so that a difference is the framework's own.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from apps.effects import LIVE
from apps.endpoints import ENDPOINTS, expected, same_document
from apps.variant import Variant
from apps.variants import BRIDGES, FRAMEWORKS, VARIANTS

Message = dict[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
ROWS = {row.name: row for row in (*FRAMEWORKS, *BRIDGES) if "apps.frameworks" in row.command_line}
ASGI = [name for name, row in ROWS.items() if row.server == "uvicorn"]  # Sanic is served, and checked, by its own
STREAMING = [name for name in ASGI if "sse" not in ROWS[name].holes]
TALKING = [name for name in ASGI if "ws" not in ROWS[name].holes]
NEVER_S = 5.0  # longer than anything here may take


class Sent(NamedTuple):
    """What an application sent, and when, in ms since it was asked."""

    at_ms: list[float]
    messages: list[Message]

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def content_type(self) -> str:
        headers = {bytes(name).lower(): bytes(value) for name, value in self.messages[0]["headers"]}
        return headers[b"content-type"].decode()

    @property
    def items(self) -> list[bytes]:
        return [body for message in self.messages[1:] if (body := message.get("body", b""))]

    @property
    def answer(self) -> tuple[int, str, bytes]:
        return self.status, self.content_type, b"".join(self.items)


class Peer:
    """One connection: what the application gets to receive, and what it has sent."""

    def __init__(self, *messages: Message) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages:
            self.incoming.put_nowait(message)
        self.began = time.monotonic()
        self.sent = Sent([], [])
        self.more = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.sent.at_ms.append((time.monotonic() - self.began) * 1000)
        self.sent.messages.append(message)
        self.more.set()

    async def until_sent(self, count: int) -> None:
        while len(self.sent.messages) < count:
            self.more.clear()
            await asyncio.wait_for(self.more.wait(), NEVER_S)


def scope(kind: str, method: str, target: str, *headers: tuple[bytes, bytes]) -> Message:
    path, _, query = target.partition("?")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        **({"method": method} if kind == "http" else {"subprotocols": []}),
        "scheme": "http" if kind == "http" else "ws",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40_000),
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1:8000"), *headers],
        "extensions": {"websocket.http.response": {}},
    }


async def asked(app: App, method: str, target: str, body: bytes | None = None, pieces: int = 1) -> Sent:
    """A request's answer; its client stays until it has it."""
    length = () if body is None else ((b"content-length", str(len(body)).encode()),)
    whole = body or b""
    step = len(whole) // pieces + 1
    parts = [whole[begin : begin + step] for begin in range(0, step * pieces, step)]
    peer = Peer(*({"type": "http.request", "body": part, "more_body": True} for part in parts))
    peer.incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    await asyncio.wait_for(app(scope("http", method, target, *length), peer.incoming.get, peer.send), NEVER_S)
    return peer.sent


def run(name: str, test: Callable[[App], Coroutine[Any, Any, None]]) -> None:
    """Runs a test on a loop of its own, which the application is built in."""

    async def main() -> None:
        await test(loaded(ROWS[name]))

    asyncio.run(main())


def loaded(row: Variant) -> App:
    """The application that the row's own command names."""
    word = next(word for word in row.command_line.split() if word.startswith("apps.frameworks."))
    module, _, name = word.partition(":")
    app: Any = getattr(importlib.import_module(module), name or "app")
    return app() if "--factory" in row.command_line else app  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 1
    while LIVE and time.monotonic() < deadline:  # threads that end after their loop
        time.sleep(0.001)
    assert not LIVE


@pytest.fixture
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A row's name, once it is known that its framework is here. Django's routes are one setting a process."""
    row = ROWS[request.param]
    if row.missing:
        pytest.skip(row.holes_among(["ping"])["ping"])
    if "django" in row.needs:
        from django.conf import settings

        importlib.import_module("apps.frameworks.django_asgi")
        monkeypatch.setattr(settings, "ROOT_URLCONF", "apps.frameworks.django_asgi")
    return row.name


ASKED = (
    "GET /ping",
    "GET /sleep?ms=3",
    "GET /sleep?ms=2.5",
    "GET /db?ms=1",
    "GET /cpu?n=77",
    "GET /sse?events=3&interval_ms=2",
    "GET /poll?timeout_ms=2&news_ms=5",
    "GET /poll?timeout_ms=5&news_ms=1",
    "POST /echo",
    "GET /stream?kb=40",
    "GET /file",
    "GET /json",
    "GET /json?items=3",
    "GET /mix?ms=1&n=5",
    "GET /rows?queries=2",
    "GET /update?queries=2",
)
REFUSED = (
    *("GET /nope", "GET /ping/", "GET /ping/nope", "GET /", "POST /nope", "GET /sleep/../ping"),
    *("POST /ping", "HEAD /ping", "OPTIONS /ping", "DELETE /echo", "GET /echo", "GET /ws", "POST /ws", "HEAD /json"),
    *(f"GET /sleep?{query}" for query in ("ms=1&ms=2", "ms=", "ms", "ms=+5", "ms=%35", "ms=1%26ms", "ms=1;x", "a=b=c")),
    *(f"GET /json?{query}" for query in ("items=0", "items=+5", "items=1.0", "items=ten", "items=1001", "nope=1")),
    *("POST /echo?x=1", "GET /sse?events=10**9", "GET /stream?kb=0", "GET /mix?n=2&n=2"),
)


@pytest.mark.parametrize("name", ASGI, indirect=True)
def test_every_answer_is_the_endpoint_s(name: str) -> None:
    async def test(app: App) -> None:
        for words in ASKED:
            method, target = words.split()
            body = b"some bytes \x00\xff" if method == "POST" else None
            got = (await asked(app, method, target, body)).answer
            wanted = expected(method, *(target.split("?") if "?" in target else (target, "")), body)
            if target.startswith("/json"):
                assert same_document(got[2], wanted[2]), target
                assert got[:2] == wanted[:2]
            else:
                assert got == wanted, target

    assert {words.split()[1].partition("?")[0] for words in ASKED} == {
        endpoint.path for endpoint in ENDPOINTS.values() if endpoint.kind != "socket"
    }
    run(name, test)


@pytest.mark.parametrize("name", ASGI, indirect=True)
def test_what_is_refused_is_refused_in_the_same_words(name: str) -> None:
    async def test(app: App) -> None:
        for words in REFUSED:
            method, target = words.split()
            body = b"" if method == "POST" else None
            sent = await asked(app, method, target, body)
            wanted = expected(method, *(target.split("?") if "?" in target else (target, "")), body)
            assert wanted[0] in {400, 404, 405}
            assert (sent.status, sent.content_type) == wanted[:2], words
            assert b"".join(sent.items) in {wanted[2], b""} if method == "HEAD" else sent.answer == wanted, words

    run(name, test)


@pytest.mark.parametrize("name", ASGI, indirect=True)
def test_a_body_comes_back_whole_or_is_refused_by_its_length(name: str) -> None:
    async def test(app: App) -> None:
        for body in (b"", b"x", bytes(range(256)) * 4096):
            assert (await asked(app, "POST", "/echo", body, pieces=3)).answer == expected("POST", "/echo", "", body)
        assert (await asked(app, "POST", "/echo")).answer == expected("POST", "/echo", "", None)
        too_long = b"x" * (2**20 + 1)
        assert (await asked(app, "POST", "/echo", too_long)).answer == expected("POST", "/echo", "", too_long)

    run(name, test)


@pytest.mark.parametrize("name", ASGI, indirect=True)
def test_a_stream_s_items_are_sent_one_by_one_when_they_are_due(name: str) -> None:
    async def test(app: App) -> None:
        sent = await asked(app, "GET", "/sse?events=4&interval_ms=20")
        due_ms = [at for at, message in zip(sent.at_ms, sent.messages, strict=True) if message.get("body")]
        assert len(sent.items) == 4
        assert all(item.count(b"\n\n") == 1 for item in sent.items)
        assert all(at >= number * 20 for number, at in enumerate(due_ms))
        assert [len(item) for item in (await asked(app, "GET", "/stream?kb=40")).items] == [16_384, 16_384, 8192]

    run(name, test)


@pytest.mark.parametrize("name", STREAMING, indirect=True)
@pytest.mark.parametrize("interval_ms", [5, 300])
def test_a_client_that_leaves_ends_its_stream(name: str, interval_ms: int) -> None:
    async def test(app: App) -> None:
        peer = Peer({"type": "http.request", "body": b"", "more_body": False})
        target = f"/sse?events=10000&interval_ms={interval_ms}"
        serving = asyncio.ensure_future(app(scope("http", "GET", target), peer.incoming.get, peer.send))
        await peer.until_sent(2)  # the head, and the first event
        assert len(LIVE) == 1
        peer.incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.wait([serving], timeout=NEVER_S)
        await asyncio.sleep(0)
        assert serving.done()
        assert not LIVE

    run(name, test)


@pytest.mark.parametrize("name", TALKING, indirect=True)
def test_a_websocket_echoes_until_its_client_leaves(name: str) -> None:
    async def test(app: App) -> None:
        peer = Peer({"type": "websocket.connect"})
        serving = asyncio.ensure_future(app(scope("websocket", "GET", "/ws"), peer.incoming.get, peer.send))
        await peer.until_sent(1)
        assert peer.sent.messages[0]["type"] == "websocket.accept"
        frames: list[Message] = [{"text": "caf\u00e9"}, {"bytes": b"\x00\xff"}, {"text": ""}, {"bytes": b""}]
        for count, frame in enumerate(frames, 2):
            peer.incoming.put_nowait({"type": "websocket.receive", **frame})
            await peer.until_sent(count)
        echoed = [{key: value for key, value in sent.items() if value is not None} for sent in peer.sent.messages[1:]]
        assert echoed == [{"type": "websocket.send", **frame} for frame in frames]
        assert len(LIVE) == 1
        peer.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(serving, NEVER_S)
        await asyncio.sleep(0.01)
        assert not LIVE

    run(name, test)


@pytest.mark.parametrize("name", [*TALKING, "quart"], indirect=True)
def test_an_upgrade_that_is_not_to_be_had_gets_an_ordinary_answer(name: str) -> None:
    async def test(app: App) -> None:
        for target in ("/nope", "/ping", "/ws?x=1", "/json", "/echo"):
            peer = Peer({"type": "websocket.connect"})
            serving = app(scope("websocket", "GET", target), peer.incoming.get, peer.send)
            await asyncio.wait_for(serving, NEVER_S)
            assert {message["type"].rpartition(".")[0] for message in peer.sent.messages} == {"websocket.http.response"}
            assert peer.sent.answer == expected("WS", *(target.split("?") if "?" in target else (target, "")))

    run(name, test)


@pytest.mark.parametrize("name", ["quart"], indirect=True)
def test_quart_still_breaks_on_an_empty_binary_frame(name: str) -> None:
    """Its hole. When this fails Quart is mended, and the hole can go."""

    async def test(app: App) -> None:
        peer = Peer({"type": "websocket.connect"})
        serving = asyncio.ensure_future(app(scope("websocket", "GET", "/ws"), peer.incoming.get, peer.send))
        frames: list[Message] = [{"text": "a"}, {"bytes": b"b"}]
        for count, frame in enumerate(frames, 2):
            peer.incoming.put_nowait({"type": "websocket.receive", **frame})
            await peer.until_sent(count)
        peer.incoming.put_nowait({"type": "websocket.receive", "bytes": b""})
        with pytest.raises(KeyError):
            await asyncio.wait_for(serving, NEVER_S)

    assert "ws" in ROWS[name].holes
    run(name, test)


@pytest.mark.parametrize("name", [name for name in ASGI if name not in STREAMING], indirect=True)
def test_a_bridge_still_does_not_tell_that_a_client_has_left(name: str) -> None:
    """Its hole for /sse. When this fails the bridge is mended, and the hole can go."""

    async def test(app: App) -> None:
        peer = Peer({"type": "http.request", "body": b"", "more_body": False})
        target = "/sse?events=50&interval_ms=10"
        serving = asyncio.ensure_future(app(scope("http", "GET", target), peer.incoming.get, peer.send))
        await peer.until_sent(2)
        peer.incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(serving, NEVER_S)
        assert len(peer.sent.items) == 50, "all of them, to nobody"

    run(name, test)


@pytest.mark.parametrize("name", ["fastapi-flask"], indirect=True)
def test_the_hybrid_s_flask_answers_what_has_not_moved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.frameworks import bridges, flask

    seen, wsgi_app = set[str](), flask.app.wsgi_app

    def watched(environ: dict[str, Any], start_response: Any) -> Any:
        seen.add(environ["PATH_INFO"])
        return wsgi_app(environ, start_response)

    async def test(app: App) -> None:
        for words in (*ASKED, "GET /nope"):
            method, target = words.split()
            await asked(app, method, target, b"" if method == "POST" else None)

    monkeypatch.setattr(flask.app, "wsgi_app", watched)
    run(name, test)
    assert seen == {"/nope", *(ENDPOINTS[name].path for name in bridges.FLASK_ANSWERS)}


@pytest.mark.parametrize("name", ["fastapi-typed"], indirect=True)
def test_the_typed_document_is_validated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.exceptions import ResponseValidationError

    from apps.frameworks import fastapi_typed

    async def wrong(_program: object) -> object:
        return {"count": "many", "items": []}

    async def test(app: App) -> None:
        monkeypatch.setattr(fastapi_typed, "push_async", wrong)
        with pytest.raises(ResponseValidationError):
            await asked(app, "GET", "/json")

    run(name, test)


def test_frameworks_differ_from_the_raw_adapter_in_nothing_else() -> None:
    raw = VARIANTS["asgi"]
    for name in ASGI:
        row = ROWS[name]
        assert row.command_line.partition(" --interface")[2] == raw.command_line.partition(" --interface")[2], name
        assert replace(row.budget, slots=None) == raw.budget
        assert row.needs
    assert {name: ROWS[name].budget.slots for name in ASGI if ROWS[name].budget.slots} == {
        "fastapi-def": 40,
        "wsgi-to-asgi": 1,
        "a2wsgi": 16,
        "starlette-wsgi": 40,
    }
