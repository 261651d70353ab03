"""The endpoints: their rows, their bodies, and what they refuse, all without a server."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from apps.effects import Answer, Body, Emit, Read, Receive, Sleep, Until, pull, push
from apps.endpoints import ENDPOINTS, FILE, ROUTES, Call, as_json, call, expected, expected_body, same_document


def body(answer: Call) -> Answer:
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
        "poll": ("/poll", "reply", "GET", "application/json"),
        "echo": ("/echo", "reply", "POST", "application/octet-stream"),
        "stream": ("/stream", "stream", "GET", "application/octet-stream"),
        "file": ("/file", "reply", "GET", "text/plain; charset=utf-8"),
        "json": ("/json", "document", "GET", "application/json"),
        "mix": ("/mix", "reply", "GET", "application/json"),
        "rows": ("/rows", "reply", "GET", "application/json"),
        "update": ("/update", "reply", "GET", "application/json"),
    }


def test_routes_are_the_endpoints_and_the_harness_s_own() -> None:
    assert {row.path: path for path, row in ROUTES.items()} == {path: path for path in ROUTES}
    assert ROUTES.keys() == {row.path for row in ENDPOINTS.values()} | {"/state"}


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
        "poll": {"timeout_ms": 1000, "news_ms": 100},
        "echo": {},
        "stream": {"kb": 64},
        "file": {},
        "json": {"items": 10},
        "mix": {"ms": 20, "n": 2000},
        "rows": {"queries": 20},
        "update": {"queries": 20},
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
        ("poll", "", b'{"news":true,"after_ms":100}'),
        ("poll", "timeout_ms=7&news_ms=7", b'{"news":true,"after_ms":7}'),
        ("poll", "timeout_ms=7&news_ms=7.5", b'{"news":false,"after_ms":7}'),
        ("stream", "", b"00000000 !"),
        ("file", "", b"0001 "),
        ("json", "items=1", b'{"count":1,"items":[{"id":0,"name":"caf\\u00e9 0","price":0.0,"available":false,'),
        ("mix", "ms=0.5&n=1", b'{"ms":0.5,"n":1,"result":1103527590}'),
        ("rows", "queries=3", b'{"queries":3,"right":3}'),
        ("update", "", b'{"queries":20,"updated":20}'),
    ],
)
def test_bodies(name: str, query: str, wanted: bytes) -> None:
    assert expected_body(name, query).startswith(wanted)


def test_expected_body_is_what_is_served() -> None:
    calls = (("sleep", "ms=1"), ("db", "ms=1"), ("cpu", "n=99"), ("sleep", "ms=-1"), ("mix", "ms=1"), ("rows", ""))
    for name, query in calls:
        assert body(call("GET", f"/{name}", query)) == expected_body(name, query)
        assert json.loads(expected_body(name, query))
    for name in ("ping", "file", "poll"):
        assert body(call("GET", f"/{name}", "")) == expected_body(name)
    assert b"".join(pull(call("GET", "/stream", "kb=65").program)) == expected_body("stream", "kb=65")
    assert as_json(body(call("GET", "/json", ""))) == expected_body("json")


def test_expected_answers_need_no_time() -> None:
    began = time.monotonic()
    for path, query in (("/poll", "timeout_ms=60000&news_ms=60000"), ("/mix", "ms=60000"), ("/sse", "events=10000")):
        assert expected("GET", path, query)[0] == 200
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("kb", [1, 15, 16, 17, 64, 4096])
def test_a_download_has_its_size_in_pieces_that_all_differ(kb: int) -> None:
    pieces = list(pull(call("GET", "/stream", f"kb={kb}").program))
    assert sum(map(len, pieces)) == kb * 1024
    assert {len(piece) for piece in pieces[:-1]} <= {16 * 1024}
    assert len(set(pieces)) == len(pieces)


def test_the_file_is_there_and_of_the_size_that_is_said() -> None:
    assert len(Path(FILE).read_bytes()) == 16 * 1024
    assert list(call("GET", "/file", "").program) == [Read(FILE)]
    assert expected_body("file") == Path(FILE).read_bytes()


def test_a_mix_waits_and_computes_what_cpu_does() -> None:
    assert list(call("GET", "/mix", "ms=7&n=99").program) == [Sleep(0.007)]
    assert json.loads(expected_body("mix", "n=99"))["result"] == json.loads(expected_body("cpu", "n=99"))["result"]


def test_an_echo_asks_for_the_body_and_answers_it() -> None:
    program = call("POST", "/echo", "", "3").program
    assert next(program) == Body()
    with pytest.raises(StopIteration) as end:
        program.send(b"abc")
    assert end.value.value == b"abc"
    assert expected("POST", "/echo", "", b"\x00\xff")[2] == b"\x00\xff"


@pytest.mark.parametrize(
    ("length", "status", "got"),
    [
        (None, 411, "none"),
        ("", 411, "none"),
        ("0", 200, None),
        ("1048576", 200, None),
        ("1048577", 413, "1048577"),
        ("9" * 5000, 413, "9" * 40 + "..."),
        ("abc", 400, "abc"),
        ("-1", 400, "-1"),
        ("+1", 400, "+1"),
        ("1, 1", 400, "1, 1"),
        ("\u0661", 400, "\u0661"),
    ],
)
def test_a_body_is_taken_by_its_length(length: str | None, status: int, got: str | None) -> None:
    answer = call("POST", "/echo", "", length)
    assert answer.status == status
    answer.program.close()
    if got is not None:
        refused = {"refused": "content-length", "got": got, "allowed": "a whole number from 0 to 1048576"}
        assert json.loads(body(call("POST", "/echo", "", length))) == refused


def test_only_endpoints_with_a_body_look_at_its_length() -> None:
    assert call("GET", "/ping", "", "abc").status == 200
    assert call("POST", "/ping", "", "abc").status == 405
    assert call("GET", "/echo", "", "abc").status == 405
    assert expected("POST", "/echo", "x=1")[0] == 400
    assert expected("POST", "/echo", "", None)[0] == 411


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a":1,"b":[1.0,true,null,"x"]}', '{ "b": [1.0, true, null, "x"],\n"a": 1 }\n', True),
        ('"\\u00e9"', '"\u00e9"', True),
        ("1", "1.0", False),
        ("1", "true", False),
        ("[1]", "[1,1]", False),
        ('{"a":null}', "{}", False),
        ("[1,2]", "[2,1]", False),
        ('"1"', "1", False),
        ("1", "nonsense", False),
        ("1", "", False),
        ("[" * 100_000, "1", False),
    ],
)
def test_documents_are_compared_by_value_and_type(one: str, other: str, same: bool) -> None:
    assert same_document(one.encode(), other.encode()) is same
    assert same_document(other.encode(), one.encode()) is same


def test_a_document_is_text_in_utf_8() -> None:
    assert not same_document('{"a":1}'.encode("utf-16"), b'{"a":1}')
    assert not same_document(b'"\xff"', b'"\xff"')
    document = expected_body("json", "items=4").decode()
    assert {type(value) for item in json.loads(document)["items"] for value in item.values()} == {
        int,
        str,
        float,
        bool,
        type(None),
        list,
    }


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
        ("GET", "/echo", 405),
        ("PUT", "/echo", 405),
        ("POST", "/json", 405),
        ("POST", "/state", 405),
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
    assert state == {"token": "secret", "variant": "asgi", "pid": os.getpid(), "live": 0, "database": "embedded pool"}
