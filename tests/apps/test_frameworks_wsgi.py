"""Each WSGI framework answers as the endpoints themselves do: called in this process, as a server would call it."""

from __future__ import annotations

import contextlib
import importlib
import io
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request

from apps.effects import LIVE
from apps.endpoints import ENDPOINTS, LARGEST_BODY, expected, same_document
from apps.variant import Variant
from apps.variants import FRAMEWORKS, VARIANTS

MOUNTS = {"flask": "flask", "django": "django_wsgi", "bottle": "bottle", "pyramid": "pyramid"}
HANDSHAKE: dict[str, Any] = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
}


def mounted(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip(name, reason=f"{name} not installed: make setup-all")
    module = f"apps.frameworks.{MOUNTS[name]}"
    app = importlib.import_module(module).app
    if name == "django":  # one process has one table of routes; in this one, another mount may have set its own
        from django.conf import settings

        monkeypatch.setattr(settings, "ROOT_URLCONF", module)
    return app


@pytest.fixture(params=MOUNTS)
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    return mounted(request.param, monkeypatch)


@pytest.fixture
def flask(monkeypatch: pytest.MonkeyPatch) -> Any:
    return mounted("flask", monkeypatch)


class Answered(NamedTuple):
    """What a server would have to send."""

    status: int
    headers: dict[str, str]
    items: list[bytes]

    @property
    def whole(self) -> tuple[int, str, bytes]:
        """As `expected` has it."""
        return self.status, self.headers["content-type"], b"".join(self.items)


def environ(target: str, method: str = "GET", body: bytes | None = None, **more: Any) -> dict[str, Any]:
    path, _, raw_query = target.partition("?")
    made: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": raw_query, "REQUEST_METHOD": method}
    setup_testing_defaults(made)
    made |= {"SCRIPT_NAME": "", "wsgi.input": io.BytesIO(body or b""), "wsgi.errors": io.StringIO()}
    if body is not None:
        made["CONTENT_LENGTH"] = str(len(body))
    return made | more


@contextlib.contextmanager
def opened(app: Any, asked: dict[str, Any]) -> Iterator[tuple[list[Any], Iterable[bytes]]]:
    """The head, once it is there, and the items; closed as a server has to."""
    head: list[Any] = []
    items = app(asked, lambda status, headers, exc_info=None: head.extend((status, headers)))
    try:
        yield head, items
    finally:
        getattr(items, "close", lambda: None)()


def ask(app: Any, target: str, method: str = "GET", body: bytes | None = None, **more: Any) -> Answered:
    asked = environ(target, method, body, **more)
    errors = asked["wsgi.errors"]
    with opened(app, asked) as (head, items):
        whole = [item for item in items if item]
    assert errors.getvalue() == ""
    headers = {name.lower(): value for name, value in head[1]}
    assert len(headers) == len(head[1])
    return Answered(int(head[0][:3]), headers, whole)


@pytest.mark.parametrize(
    "target",
    [
        "/ping",
        "/sleep?ms=1",
        "/sleep?ms=0.5",
        "/db?ms=1",
        "/cpu?n=9",
        "/sse?events=3&interval_ms=1",
        "/poll?timeout_ms=1&news_ms=9",
        "/poll?news_ms=1",
        "/stream?kb=33",
        "/file",
        "/mix?ms=1&n=9",
        "/rows?queries=2",
        "/update?queries=2",
    ],
)
def test_every_endpoint_is_answered_as_it_must_be(app: Any, target: str) -> None:
    endpoint = ENDPOINTS[target[1:].partition("?")[0]]
    answered = ask(validator(app), target)
    assert answered.whole == expected("GET", *target.split("?"))
    if endpoint.kind == "stream":
        assert "content-length" not in answered.headers
    else:
        assert answered.headers["content-length"] == str(len(answered.items[0]))
    assert set(answered.headers) <= {"content-type", "content-length"}, "what others need not send"


@pytest.mark.parametrize("body", [b"", bytes(range(256)), b"a=%31&b" * 50_000, b"x" * LARGEST_BODY])
@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-www-form-urlencoded"])
def test_a_body_is_sent_back_untouched_and_without_a_file(
    app: Any, body: bytes, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    answered = ask(app, "/echo", "POST", body, CONTENT_TYPE=content_type)
    assert answered.whole == expected("POST", "/echo", "", body)
    assert answered.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("target", ["/json", "/json?items=1"])
def test_a_document_is_the_same_in_value_and_type(app: Any, target: str) -> None:
    answered = ask(validator(app), target)
    *head, body = answered.whole
    *wanted_head, wanted = expected("GET", *target.split("?"))
    assert head == wanted_head
    assert same_document(body, wanted)
    assert int(answered.headers["content-length"]) == len(answered.items[0])


@pytest.mark.parametrize(
    "target",
    [
        *("/", "", "*", "/nope", "/ping/", "//ping", "/PING", "/ping/nope", "/ping;a=1", "/ping\n", "/static/x"),
        *("/caf\u00e9", "/pi\u00ffng", "/\u00ff", "/ping\u00ff"),  # latin-1 for bytes that are no UTF-8
        *("/ping?a=1", "/ping?", "/ping?&", "/sleep?ms=1&ms=1", "/sleep?ms=", "/sleep?ms=%31", "/sleep?ms=+5"),
        *("/sleep?ms=\u00ff", "/sleep?ms=1;x=2", "/sleep?%6ds=1", "/json?items=0", "/ws", "/ws?x=1", "/echo"),
    ],
)
def test_what_is_refused_is_refused_by_the_endpoints(app: Any, target: str) -> None:
    path, _, raw_query = target.partition("?")
    assert ask(app, target).whole == expected("GET", path, raw_query)


@pytest.mark.parametrize("target", ["/ping", "/sse", "/json", "/echo", "/nope"])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_methods_that_frameworks_answer_themselves_are_refused(app: Any, target: str, method: str) -> None:
    answered = ask(app, target, method, b"a body")
    wanted = expected(method, target, "", b"a body")
    if method == "HEAD":  # has no body; it is the server's task to cut one off
        assert answered.whole[:2] == wanted[:2]
    else:
        assert answered.whole == wanted


@pytest.mark.parametrize(
    ("length", "status"),
    [(None, 411), ("", 411), ("x", 400), ("-1", 400), (str(LARGEST_BODY + 1), 413), ("9" * 99, 413)],
)
def test_a_body_of_a_bad_length_is_refused_unread(app: Any, length: str | None, status: int) -> None:
    answered = ask(app, "/echo", "POST", None, **{} if length is None else {"CONTENT_LENGTH": length})
    assert answered.status == status
    assert answered.headers["content-type"] == "application/json"
    assert b'"refused":"content-length"' in answered.items[0]


def test_a_stream_is_sent_as_it_comes_and_ends_when_its_client_leaves(app: Any) -> None:
    with opened(app, environ("/sse?events=2&interval_ms=60000")) as (head, items):  # whoever reads ahead waits a minute
        assert next(iter(items)).startswith(b"id: 0\n")
        assert head[0].startswith("200 ")
        assert len(LIVE) == 1
    assert not LIVE


@pytest.mark.parametrize(("target", "count"), [("/sse?events=5&interval_ms=1", 5), ("/stream?kb=64", 4)])
def test_items_are_neither_joined_nor_split(app: Any, target: str, count: int) -> None:
    assert len(ask(app, target).items) == count


def test_a_client_that_leaves_before_anything_is_sent_leaves_nothing_behind(app: Any) -> None:
    with opened(app, environ("/sse")):
        pass
    assert not LIVE


def test_threads_do_not_mix_their_requests_up(app: Any) -> None:
    def both(number: int) -> tuple[Answered, Answered]:
        body = b"%d" % number * 1000
        return ask(app, f"/sleep?ms={number % 7}.{number}"), ask(app, "/echo", "POST", body)

    with ThreadPoolExecutor(8) as threads:
        for number, (slept, echoed) in enumerate(threads.map(both, range(64))):
            assert slept.whole == expected("GET", "/sleep", f"ms={number % 7}.{number}")
            assert echoed.whole == expected("POST", "/echo", "", b"%d" % number * 1000)
    assert not LIVE


@pytest.mark.parametrize("target", ["/ws?x=1", "/ping", "/echo", "/nope"])
def test_an_upgrade_of_anything_else_is_refused(app: Any, target: str) -> None:
    path, _, raw_query = target.partition("?")
    assert ask(app, target, **HANDSHAKE).whole == expected("WS", path, raw_query)


@pytest.mark.parametrize("name", [name for name in MOUNTS if "ws" in VARIANTS[name].holes])
def test_a_websocket_is_refused_where_there_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = ask(mounted(name, monkeypatch), "/ws", **HANDSHAKE)
    assert answered.status == 501
    assert answered.items == [
        b'{"refused":"upgrade","got":"websocket","allowed":"none: %b has no WebSocket"}' % name.title().encode()
    ]


def test_flask_leaves_a_websocket_that_is_over_to_gunicorn(flask: Any) -> None:
    client, server = socket.socketpair()
    protocol = WSConnection(ConnectionType.CLIENT)
    with client, server:
        asked = environ("/ws") | HANDSHAKE | {"gunicorn.socket": server}
        key = protocol.send(Request(host="gatebench", target="/ws")).split(b"Key: ")[1].split(b"\r\n")[0]
        asked["HTTP_SEC_WEBSOCKET_KEY"] = key.decode()
        # The close frame is there before it is asked for: client and server can be one thread.
        client.sendall(b"\x88\x80\x00\x00\x00\x00")
        with pytest.raises(StopIteration):
            flask(asked, lambda *_: pytest.fail("gunicorn would send a second head"))
        protocol.receive_data(client.recv(4096))
        first, *others = protocol.events()
    assert isinstance(first, AcceptConnection)
    assert any(isinstance(event, CloseConnection) for event in others)
    assert asked["wsgi.errors"].getvalue() == ""
    assert not LIVE


@pytest.mark.parametrize("name", [*MOUNTS, "flask-gevent"])
def test_a_row_differs_from_the_raw_one_in_its_application_alone(name: str) -> None:
    row: Variant = VARIANTS[name]
    raw = VARIANTS["wsgi-gevent" if name == "flask-gevent" else "wsgi-threads"]
    framework = name.partition("-")[0]
    application = f"apps.frameworks.{MOUNTS[framework]}:app"
    assert row in FRAMEWORKS
    assert row.command_line.replace(application, "apps.wsgi:app") == raw.command_line != row.command_line
    assert (row.budget, row.model, row.server, row.family) == (raw.budget, raw.model, raw.server, raw.family)
    assert row.framework == framework
    assert row.needs == (framework,)
    assert set(row.holes) == (set() if framework == "flask" else {"ws"})
