"""The endpoints: their rows, their bodies, and what they refuse, all without a server."""

from __future__ import annotations

import json
import os

import pytest

from apps.effects import Emit, Receive, Until, push
from apps.endpoints import ENDPOINTS, Call, call, expected, expected_body


def body(answer: Call) -> bytes:
    return push(answer.program)


def test_the_table_is_the_contract() -> None:
    rows = {name: (e.path, e.kind, e.method, e.content_type) for name, e in ENDPOINTS.items()}
    assert rows == {
        "ping": ("/ping", "reply", "GET", "text/plain; charset=utf-8"),
        "sleep": ("/sleep", "reply", "GET", "application/json"),
        "db": ("/db", "reply", "GET", "application/json"),
        "cpu": ("/cpu", "reply", "GET", "application/json"),
        "sse": ("/sse", "stream", "GET", "text/event-stream; charset=utf-8"),
        "ws": ("/ws", "socket", "WS", ""),
    }


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_says_what_it_does_and_what_it_allows(name: str) -> None:
    endpoint = ENDPOINTS[name]
    assert endpoint.doc.endswith(".")
    assert "\n" not in endpoint.doc
    for parameter in endpoint.parameters.values():
        assert parameter.low <= parameter.default <= parameter.high


def test_defaults() -> None:
    defaults = {name: {p.name: p.default for p in e.parameters.values()} for name, e in ENDPOINTS.items()}
    assert defaults == {
        "ping": {},
        "sleep": {"ms": 50},
        "db": {"ms": 20},
        "cpu": {"n": 10_000},
        "sse": {"events": 10, "interval_ms": 100},
        "ws": {},
    }


@pytest.mark.parametrize(
    ("name", "query", "wanted"),
    [
        ("ping", "", b"pong"),
        ("sleep", "", b'{"ms":50}'),
        ("sleep", "ms=0.5", b'{"ms":0.5}'),
        ("db", "ms=7", b'{"id":1,"name":"gatebench","ms":7}'),
        ("cpu", "n=1", b'{"n":1,"result":1103527590}'),
        ("sse", "events=2&interval_ms=1", b'id: 0\ndata: {"event":0,"due_ms":0}\n\n'),
    ],
)
def test_bodies(name: str, query: str, wanted: bytes) -> None:
    assert expected_body(name, query).startswith(wanted)


def test_expected_body_is_what_is_served() -> None:
    for name, query in (("sleep", "ms=1"), ("db", "ms=1"), ("cpu", "n=99"), ("sleep", "ms=-1"), ("ping", "")):
        assert body(call("GET", f"/{name}", query)) == expected_body(name, query)
        assert json.loads(expected_body(name, query)) if name != "ping" else True


def test_events_carry_their_number_and_when_they_were_due() -> None:
    program = call("GET", "/sse", "events=3&interval_ms=0.1").program
    effects = list(program)
    assert [e.seconds * 1000 for e in effects if isinstance(e, Until)] == pytest.approx([0, 0.1, 0.2])
    lines = [e.data.decode().splitlines() for e in effects if isinstance(e, Emit)]
    assert [line[0] for line in lines] == ["id: 0", "id: 1", "id: 2"]
    data = [json.loads(line[1].removeprefix("data: ")) for line in lines]
    assert [event["due_ms"] for event in data] == [0, 0.1, 0.2]


def test_a_socket_echoes() -> None:
    program = call("WS", "/ws", "").program
    assert next(program) == Receive()
    assert program.send("hello") == Emit("hello")
    program.close()


@pytest.mark.parametrize(
    ("path", "query", "refused", "got", "allowed"),
    [
        ("/sleep", "ms=-1", "ms", "-1", "a number from 0 to 60000"),
        ("/sleep", "ms=60000.1", "ms", "60000.1", "a number from 0 to 60000"),
        ("/sleep", "ms=", "ms", "", "a number from 0 to 60000"),
        ("/sleep", "ms", "ms", "", "a number from 0 to 60000"),
        ("/sleep", "ms=%35", "ms", "%35", "a number from 0 to 60000"),
        ("/sleep", "ms=+5", "ms", "+5", "a number from 0 to 60000"),
        ("/sleep", "ms=5.", "ms", "5.", "a number from 0 to 60000"),
        ("/sleep", "ms=nan", "ms", "nan", "a number from 0 to 60000"),
        ("/sleep", "ms=1e3", "ms", "1e3", "a number from 0 to 60000"),
        ("/sleep", "ms=\u0661", "ms", "\u0661", "a number from 0 to 60000"),
        ("/sleep", "ms=5\n", "ms", "5\n", "a number from 0 to 60000"),
        ("/sleep", "ms=5.5\n", "ms", "5.5\n", "a number from 0 to 60000"),
        ("/sleep", "ms=1&ms=2", "ms", "ms=1&ms=2", "once"),
        ("/sleep", "ms=1&", "parameter", "", "ms"),
        ("/sleep", "MS=1", "parameter", "MS", "ms"),
        ("/ping", "x=1", "parameter", "x", "none"),
        ("/cpu", "n=abc", "n", "abc", "a whole number from 1 to 5000000"),
        ("/cpu", "n=1.0", "n", "1.0", "a whole number from 1 to 5000000"),
        ("/cpu", "n=0", "n", "0", "a whole number from 1 to 5000000"),
        ("/sse", "events=10**9", "events", "10**9", "a whole number from 1 to 10000"),
        ("/sse", "event=1", "parameter", "event", "events or interval_ms"),
    ],
)
def test_a_refusal_says_what_and_why(path: str, query: str, refused: str, got: str, allowed: str) -> None:
    answer = call("GET", path, query)
    assert (answer.status, answer.content_type, answer.kind) == (400, "application/json", "reply")
    assert json.loads(body(answer)) == {"refused": refused, "got": got, "allowed": allowed}


def test_a_refusal_does_not_grow_with_what_was_sent() -> None:
    text = body(call("GET", "/sleep", "ms=" + "\x00<\u20ac" * 10_000))
    assert len(text) < 400
    assert text.isascii()
    assert b"\x00" not in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/ping/", 404),
        ("POST", "/ping", 405),
        ("HEAD", "/ping", 405),
        ("GET", "/ws", 405),
        ("WS", "/ping", 405),
    ],
)
def test_other_paths_and_methods_are_calls_too(method: str, path: str, status: int) -> None:
    answer = call(method, path, "")
    assert answer.status == status
    assert expected(method, path) == (status, "application/json", body(answer))


def test_state_tells_who_answers_and_is_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEBENCH_TOKEN", "secret")
    monkeypatch.setenv("GATEBENCH_VARIANT", "asgi")
    assert "state" not in ENDPOINTS
    state = json.loads(body(call("GET", "/state", "")))
    assert state == {"token": "secret", "variant": "asgi", "pid": os.getpid(), "live": 0}
