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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Literal, NamedTuple, get_type_hints

from apps.effects import LIVE, Emit, Program, Query, Receive, Sleep, Until

Kind = Literal["reply", "stream", "socket"]
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
LONGEST_ECHO = 40  # of a refused value: an answer must not grow with what somebody sends


@dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value that a parameter takes."""

    low: int
    high: int


Milliseconds = Annotated[float, Bounds(0, 60_000)]


class Call(NamedTuple):
    """What an adapter performs: push a reply or a socket, pull a stream."""

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

    @property
    def path(self) -> str:
        return f"/{self.name}"

    @property
    def method(self) -> str:
        """The method that it answers to; WS stands for a WebSocket upgrade."""
        return "WS" if self.kind == "socket" else "GET"

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


def cpu(n: Annotated[int, Bounds(1, 5_000_000)] = 10_000) -> Program:
    """A fixed amount of pure-Python integer arithmetic."""
    value = 1
    for _ in range(n):
        value = (
            value * 1_103_515_245 + 12_345
        ) & 0x7FFFFFFF  # the generator of the C standard's rand(): no shortcut known
    return b'{"n":%d,"result":%d}' % (n, value)
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


def state() -> Program:
    """Who answers, and how many programs live here beside this one. For the harness; not a thing to measure."""
    environment = {name: os.environ.get(f"GATEBENCH_{name.upper()}", "") for name in ("token", "variant")}
    return _json(environment | {"pid": os.getpid(), "live": len(LIVE) - 1})
    yield


def _say(body: bytes) -> Program:
    return body
    yield


def _json(answer: object) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def refusal(status: int, what: str, got: str, allowed: str) -> Call:
    """The same answer everywhere: what was refused, what came (ASCII, cut short), what is allowed."""
    cut = got if len(got) <= LONGEST_ECHO else got[:LONGEST_ECHO] + "..."
    return Call(status, JSON, "reply", _say(_json({"refused": what, "got": cut, "allowed": allowed})))


def call(method: str, path: str, raw_query: str) -> Call:
    """What to perform for a request. The method of a WebSocket upgrade is WS."""
    endpoint = _ROUTES.get(path)
    if endpoint is None:  # not echoed: WSGI and ASGI decode a path differently
        return refusal(404, "path", "an unknown one", ", ".join(_ROUTES))
    if method != endpoint.method:
        return refusal(405, "method", method, endpoint.method)
    try:
        program = endpoint.function(**endpoint.parse(raw_query)) if raw_query else endpoint.function()
    except Refused as reason:
        return refusal(400, *reason.args)
    return Call(200, endpoint.content_type, endpoint.kind, program)


@lru_cache(maxsize=256)  # the load generator asks for the same few answers again and again
def expected(method: str, path: str, raw_query: str = "") -> tuple[int, str, bytes]:
    """Status, content type and body that every server must answer with, computed without waiting.

    The body of a stream is all that it emits. A socket has none: what it answers depends on what it is sent.
    """
    answer = call(method, path, raw_query)
    assert answer.kind != "socket", f"{path} has no body"
    body = b""
    while True:
        try:
            effect = next(answer.program)
        except StopIteration as end:
            return answer.status, answer.content_type, body + end.value
        if isinstance(effect, Emit):
            body += effect.data


def expected_body(name: str, raw_query: str = "") -> bytes:
    """The body that endpoint `name` must answer with; the refusal's when the query is refused."""
    endpoint = ENDPOINTS[name]
    return expected(endpoint.method, endpoint.path, raw_query)[2]


ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint("ping", "reply", TEXT, ping),
        Endpoint("sleep", "reply", JSON, sleep),
        Endpoint("db", "reply", JSON, db),
        Endpoint("cpu", "reply", JSON, cpu),
        Endpoint("sse", "stream", EVENTS, sse),
        Endpoint("ws", "socket", "", ws),
    )
}
_ROUTES = {endpoint.path: endpoint for endpoint in (*ENDPOINTS.values(), Endpoint("state", "reply", JSON, state))}
