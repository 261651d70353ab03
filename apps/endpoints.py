"""Each endpoint, written once. In: method, path and raw query string. Out: a Call, ready for any adapter to perform.

A generator is lazy, so parameters are parsed before anything runs, and from the *raw* query string, by the bounds
in the endpoint's signature: frameworks disagree on `ms=1&ms=2`, `ms=`, `%ff` and `+5`, and here all of these are
refused alike. A refusal is just another Call, with another status: no adapter needs an error handler.

To add an endpoint: write its function and add its row to ENDPOINTS.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from apps.effects import LIVE, Body, Effect, Emit, Fetch, Increment, Program, Query, Read, Receive, Sleep, Until
from apps.postgres import drawn, seeded, told

Kind = Literal["reply", "stream", "socket", "document"]
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
BYTES = "application/octet-stream"
FILE = str(Path(__file__).with_name("file.txt").resolve())
LARGEST_BODY = 2**20  # of a request, in bytes
PIECE = 16 * 1024  # bytes of a download that are sent at a time
LONGEST_ECHO = 40  # of a refused value: an answer must not grow with what somebody sends


@dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value that a parameter takes."""

    low: int
    high: int


Milliseconds = Annotated[float, Bounds(0, 60_000)]


class Call(NamedTuple):
    """What an adapter performs: push a reply, a document or a socket, pull a stream.

    A document is a reply that the adapter's framework serialises to JSON in its own way.
    """

    status: int
    content_type: str
    kind: Kind
    program: Program


@dataclass(frozen=True)
class Parameter:
    """One parameter of an endpoint, as its signature declares it. `low` and `high` are allowed, too."""

    name: str
    whole: bool
    low: int
    high: int
    default: float

    @property
    def allowed(self) -> str:
        return f"a {'whole ' if self.whole else ''}number from {self.low} to {self.high}"

    def parse(self, text: str) -> int | float:
        """The value, or Refused. Plain digits only: parsers disagree on `+5`, `1e3`, `%35` and spaces."""
        if text.isascii() and text.isdigit() and len(text) <= 12:  # `int` of a million digits takes its time
            value: int | float = int(text)
        elif not self.whole and re.fullmatch(r"[0-9]{1,6}\.[0-9]{1,6}", text):
            value = float(text)
        else:
            raise Refused(self.name, text, self.allowed)
        if not self.low <= value <= self.high:
            raise Refused(self.name, text, self.allowed)
        return value


@dataclass(frozen=True)
class Endpoint:
    """What every server must do."""

    name: str
    kind: Kind
    content_type: str
    function: Callable[..., Program]
    method: str = "GET"  # the only one that it answers to; WS stands for a WebSocket upgrade, POST brings a body

    @property
    def path(self) -> str:
        return f"/{self.name}"

    @property
    def doc(self) -> str:
        return (self.function.__doc__ or "").strip()

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        hints = get_type_hints(self.function, include_extras=True)
        found = {}
        for name, declared in inspect.signature(self.function).parameters.items():
            kind, bounds = hints[name].__origin__, hints[name].__metadata__[0]
            found[name] = Parameter(name, kind is int, bounds.low, bounds.high, declared.default)
        return found

    def parse(self, raw_query: str) -> dict[str, int | float]:
        """The arguments for the function, or Refused."""
        values: dict[str, int | float] = {}
        for part in raw_query.split("&") if raw_query else ():
            name, _, text = part.partition("=")
            parameter = self.parameters.get(name)
            if parameter is None:
                raise Refused("parameter", name, " or ".join(self.parameters) or "none")
            if name in values:
                raise Refused(name, raw_query, "once")
            values[name] = parameter.parse(text)
        return values


class Refused(Exception):
    """What was refused, what came, and what is allowed."""


def ping() -> Program:
    """Nothing: the overhead floor."""
    return b"pong"
    yield  # makes it a program like the others


def sleep(ms: Milliseconds = 50) -> Program:
    """Waits, as on a remote service."""
    yield Sleep(ms / 1000)
    return b'{"ms":%a}' % ms


def db(ms: Milliseconds = 20) -> Program:
    """Takes one of N pooled connections, holds it for the query's time, gives it back."""
    yield Query(ms / 1000)
    return b'{"id":1,"name":"gatebench","ms":%a}' % ms


def rows(queries: Annotated[int, Bounds(1, 500)] = 20) -> Program:
    """Reads so many rows of a table, one query each."""
    numbers = drawn(queries)
    values = yield Fetch(numbers)
    right = sum(value == seeded(number) for value, number in zip(values, numbers, strict=True))
    return b'{"queries":%d,"right":%d}' % (queries, right)


def update(queries: Annotated[int, Bounds(1, 500)] = 20) -> Program:
    """Adds one to so many rows, in one transaction."""
    return b'{"queries":%d,"updated":%d}' % (queries, (yield Increment(drawn(queries))))


def cpu(n: Annotated[int, Bounds(1, 5_000_000)] = 10_000) -> Program:
    """A fixed amount of pure-Python integer arithmetic."""
    return b'{"n":%d,"result":%d}' % (n, _arithmetic(n))
    yield


def sse(events: Annotated[int, Bounds(1, 10_000)] = 10, interval_ms: Milliseconds = 100) -> Program:
    """An event stream; each event carries its number and when it was due, in ms since the call."""
    for number in range(events):
        due_ms = round(number * interval_ms, 6)
        yield Until(due_ms / 1000)
        yield Emit(b'id: %d\ndata: {"event":%d,"due_ms":%a}\n\n' % (number, number, due_ms))
    return b""


def ws() -> Program:
    """Echoes text and binary frames, until the client leaves."""
    while True:
        yield Emit((yield Receive()))


def poll(timeout_ms: Milliseconds = 1000, news_ms: Milliseconds = 100) -> Program:
    """Long polling: answers when there is news, or when the time is out."""
    held_ms = min(timeout_ms, news_ms)
    yield Sleep(held_ms / 1000)
    return b'{"news":%s,"after_ms":%a}' % (b"true" if news_ms <= timeout_ms else b"false", held_ms)


def echo() -> Program:
    """Sends the request's body back."""
    return (yield Body())


def stream(kb: Annotated[int, Bounds(1, 4096)] = 64) -> Program:
    """A download of so many KB, sent in pieces of 16 KB that all differ."""
    whole = kb * 1024
    for begin in range(0, whole, PIECE):
        yield Emit((b"%08d" % begin + _FILLING)[: whole - begin])
    return b""


def file() -> Program:
    """Reads a file of 16 KB and answers what it holds."""
    return (yield Read(FILE))


def document(items: Annotated[int, Bounds(1, 1000)] = 10) -> Program:
    """A document of every JSON type, which each framework serialises in its own way."""
    return {
        "count": items,
        "items": [
            {
                "id": number,
                "name": f"caf\u00e9 {number}",
                "price": number / 4,  # a whole one must stay a fraction: 1.0
                "available": number % 3 != 0,
                "note": None if number % 2 else "plain",
                "tags": ["small", "blue"],
            }
            for number in range(items)
        ],
    }
    yield


def mix(ms: Milliseconds = 20, n: Annotated[int, Bounds(1, 5_000_000)] = 2000) -> Program:
    """Waits, then computes: most of what services do."""
    yield Sleep(ms / 1000)
    return b'{"ms":%a,"n":%d,"result":%d}' % (ms, n, _arithmetic(n))


def state() -> Program:
    """Who answers, and how many programs live here beside this one. For the harness; not a thing to measure."""
    environment = {name: os.environ.get(f"GATEBENCH_{name.upper()}", "") for name in ("token", "variant")}
    return as_json(environment | {"pid": os.getpid(), "live": len(LIVE) - 1, "database": told()})
    yield


_FILLING = (bytes(range(32, 127)) * (PIECE // 95 + 1))[: PIECE - 8]  # ASCII: what judges a download may be text


def _arithmetic(n: int) -> int:
    value = 1
    for _ in range(n):
        value = (value * 1_103_515_245 + 12_345) & 0x7FFFFFFF  # the C standard's rand(): no shortcut known
    return value


def _say(body: bytes) -> Program:
    return body
    yield


def as_json(document: object) -> bytes:
    """How the raw adapters serialise a document."""
    return json.dumps(document, separators=(",", ":")).encode()


def same_document(one: bytes, other: bytes) -> bool:
    """Whether both are the same JSON in value and type: 1, 1.0 and true differ; spaces, escapes and order do not."""
    try:
        return bool(_typed(json.loads(one.decode())) == _typed(json.loads(other.decode())))
    except (ValueError, RecursionError):
        return False


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _typed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return type(value), value


def refusal(status: int, what: str, got: str, allowed: str) -> Call:
    """The same answer everywhere: what was refused, what came (ASCII, cut short), what is allowed."""
    cut = got if len(got) <= LONGEST_ECHO else got[:LONGEST_ECHO] + "..."
    return Call(status, JSON, "reply", _say(as_json({"refused": what, "got": cut, "allowed": allowed})))


def call(method: str, path: str, raw_query: str, length: str | None = None) -> Call:
    """What to perform for a request. The method of a WebSocket upgrade is WS; length: its Content-Length, if any."""
    endpoint = ROUTES.get(path)
    if endpoint is None:  # not echoed: WSGI and ASGI decode a path differently
        return refusal(404, "path", "an unknown one", ", ".join(ROUTES))
    if method != endpoint.method:
        return refusal(405, "method", method, endpoint.method)
    if method == "POST" and (refused := _unfit(length)):
        return refused
    try:
        program = endpoint.function(**endpoint.parse(raw_query)) if raw_query else endpoint.function()
    except Refused as reason:
        return refusal(400, *reason.args)
    return Call(200, endpoint.content_type, endpoint.kind, program)


def _unfit(length: str | None) -> Call | None:
    """The refusal of a body that has this Content-Length. A body without one might never end."""
    size = Parameter("content-length", whole=True, low=0, high=LARGEST_BODY, default=0)
    if not length:  # WSGI allows for an empty one where there is none
        return refusal(411, size.name, "none", size.allowed)
    if length.isascii() and length.isdigit():
        return refusal(413, size.name, length, size.allowed) if len(length) > 12 or int(length) > size.high else None
    return refusal(400, size.name, length, size.allowed)


def answered(effect: Effect, body: bytes | None = None) -> Any:
    """What an effect answers with where all goes well, without waiting."""
    match effect:
        case Body():
            return body
        case Read(path):
            return Path(path).read_bytes()
        case Fetch(numbers):
            return list(map(seeded, numbers))
        case Increment(numbers):
            return len(numbers)
    return None


def effects_of(program: Program) -> Iterator[Effect]:
    """What a program asks for when all goes well, without waiting."""
    got: Any = None
    try:
        while True:
            effect = program.send(got)
            yield effect
            got = answered(effect)
    except StopIteration:
        return


@lru_cache(maxsize=64)  # the same few answers are asked for again and again
def expected(method: str, path: str, raw_query: str = "", body: bytes | None = b"") -> tuple[int, str, bytes]:
    """Status, content type and body that every server must answer with, computed without waiting.

    body: the request's; None where it has no Content-Length. The body of a stream is all that it emits, that of a
    document as raw adapters write it (others: `same_document`). A socket has none: its answers depend on the client.
    """
    answer = call(method, path, raw_query, None if body is None else str(len(body)))
    assert answer.kind != "socket", f"{path} has no body"
    sent: list[bytes] = []
    got: Any = None
    while True:
        try:
            effect, got = answer.program.send(got), None
        except StopIteration as end:
            whole = as_json(end.value) if answer.kind == "document" else end.value
            return answer.status, answer.content_type, b"".join(sent) + whole
        if isinstance(effect, Emit):
            sent.append(effect.data)
        got = answered(effect, body)


def expected_body(name: str, raw_query: str = "", body: bytes = b"") -> bytes:
    """The body that endpoint `name` must answer with; the refusal's when the query is refused."""
    endpoint = ENDPOINTS[name]
    return expected(endpoint.method, endpoint.path, raw_query, body)[2]


ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint("ping", "reply", TEXT, ping),
        Endpoint("sleep", "reply", JSON, sleep),
        Endpoint("db", "reply", JSON, db),
        Endpoint("cpu", "reply", JSON, cpu),
        Endpoint("sse", "stream", EVENTS, sse),
        Endpoint("ws", "socket", "", ws, "WS"),
        Endpoint("poll", "reply", JSON, poll),
        Endpoint("echo", "reply", BYTES, echo, "POST"),
        Endpoint("stream", "stream", BYTES, stream),
        Endpoint("file", "reply", TEXT, file),
        Endpoint("json", "document", JSON, document),
        Endpoint("mix", "reply", JSON, mix),
        Endpoint("rows", "reply", JSON, rows),
        Endpoint("update", "reply", JSON, update),
    )
}
ROUTES: Mapping[str, Endpoint] = {
    endpoint.path: endpoint for endpoint in (*ENDPOINTS.values(), Endpoint("state", "reply", JSON, state))
}
