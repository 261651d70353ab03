"""Conformance refuses each of the classic lies. That it accepts the variants, tests/test_conformance_variants.py shows.

The liars are tiny servers in threads of this process, each wrong in one way; the first of them is honest, so that
a refusal is known to be for the lie.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from apps.effects import BLOCKING, LIVE, Body, Program, Query, Sleep, Until, pull, push
from apps.endpoints import ENDPOINTS, PIECE, Call, call, expected_body
from apps.variants import VARIANTS
from harness import wire
from harness.conformance import Finding, check, refusals, written

CLAIM = replace(
    VARIANTS["wsgi-threads"],
    name="claim",
    budget=replace(VARIANTS["wsgi-threads"].budget, slots=None),
    holes={"ws": "not part of this test"},
)


def skip(effect: object, began: float) -> None:
    """Performs nothing."""


OVER = threading.Event()  # the test is: liars that would go on for minutes end


class Honest(BaseHTTPRequestHandler):
    """Answers as it must. Each liar overrides one thing."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    table: Any = BLOCKING
    body = b""

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["content-length"] or 0))
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        answer = self.routed(path, query)
        with contextlib.suppress(OSError):
            if answer.kind == "stream":
                self.stream(answer)
            else:
                self.reply(answer)

    def routed(self, path: str, query: str) -> Call:
        return call(self.command, path, query, self.headers["content-length"])

    def reply(self, answer: Call) -> None:
        got = self.performed(answer.program)
        self.send(answer, self.serialised(got) if answer.kind == "document" else got)

    def performed(self, program: Program) -> Any:
        return push(program, self.table | {Body: lambda effect, began: self.body})

    def serialised(self, document: Any) -> bytes:
        return json.dumps(document, indent=1, ensure_ascii=False).encode()  # no two frameworks do it alike

    def send(self, answer: Call, body: bytes) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def stream(self, answer: Call) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.closing(pull(answer.program, self.table)) as items:
            for item in items:
                self.chunk(item)
        self.chunk(b"")

    def chunk(self, item: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(item), item))
        self.wfile.flush()

    def finish(self) -> None:
        for file in (self.wfile, self.rfile):
            with contextlib.suppress(OSError):  # what a client that has left will not read
                file.close()

    def log_message(self, *_: object) -> None:
        pass


class Empty(Honest):
    def send(self, answer: Call, body: bytes) -> None:
        super().send(answer, b"" if answer.status == 200 and answer.content_type != "state" else body)

    def routed(self, path: str, query: str) -> Call:
        answer = super().routed(path, query)
        return answer if path != "/state" else answer._replace(content_type="state")


class CachedByPath(Honest):
    cache: dict[str, bytes]

    def performed(self, program: Program) -> Any:
        path = self.path.partition("?")[0]
        if path == "/state":
            return super().performed(program)
        return self.cache.setdefault(path, super().performed(program))


class CachedByUrl(CachedByPath):
    def performed(self, program: Program) -> Any:
        if self.command != "GET" or not self.path.startswith("/cpu"):
            return super(CachedByPath, self).performed(program)
        if self.path not in self.cache:
            self.cache[self.path] = push(program)
        return self.cache[self.path]


class Sleepless(Honest):
    table = BLOCKING | {Sleep: skip}  # type: ignore[operator]


class Early(Honest):
    """Waits as uvloop does, and a bit worse."""

    table = BLOCKING | {Sleep: lambda effect, began: time.sleep(max(0, effect.seconds - 0.003))}  # type: ignore[operator]


class Serial(Honest):
    """An unpatched gevent: one sleep holds everybody up."""

    one_at_a_time = threading.Lock()

    def performed(self, program: Program) -> Any:
        with self.one_at_a_time:
            return super().performed(program)


class Poolless(Honest):
    table = BLOCKING | {Query: lambda effect, began: time.sleep(effect.seconds + 0.0001)}  # type: ignore[operator]


class Buffered(Honest):
    """An event stream that arrives all at once, in its own good time."""

    def stream(self, answer: Call) -> None:
        body = b""
        with contextlib.closing(pull(answer.program)) as items:
            for item in items:
                body += item
                if OVER.is_set():
                    return
        self.send(answer, body)


class Hasty(Honest):
    """An event stream that arrives all at once, at once."""

    table = BLOCKING | {Until: skip}  # type: ignore[operator]


class Deaf(Honest):
    """Streams on to a client that has left, until the test is over."""

    def chunk(self, item: bytes) -> None:
        with contextlib.suppress(OSError):
            super().chunk(item)
        if OVER.is_set():
            raise BrokenPipeError


class Lenient(Honest):
    """A framework that takes the last of two, and thinks that -1 is a number."""

    def routed(self, path: str, query: str) -> Call:
        return super().routed(path, "ms=1" if query.startswith("ms=") else query)


class Untyped(Honest):
    def send_header(self, keyword: str, value: str) -> None:
        super().send_header(keyword, value.partition(";")[0])


class Nonsense(Honest):
    def performed(self, program: Program) -> Any:
        return b"[1]" if self.path == "/state" else super().performed(program)


class Breaking(Honest):
    """Breaks off in the middle of an answer."""

    def send(self, answer: Call, body: bytes) -> None:
        if self.path.startswith("/cpu"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
            self.close_connection = True
        else:
            super().send(answer, body)


class CachedDocument(Honest):
    """Serialises the first document, and sends that for all."""

    cache: dict[str, bytes]

    def serialised(self, document: Any) -> bytes:
        return self.cache.setdefault("", super().serialised(document))


class Untrue(Honest):
    """Its JSON knows no fractions that are whole, and so writes 1 for 1.0."""

    def serialised(self, document: Any) -> bytes:
        return super().serialised(document).replace(b".0,", b",")


class Truncating(Honest):
    """Ends a download before its last byte, in good order."""

    def chunk(self, item: bytes) -> None:
        super().chunk(item if len(item) < 1000 or len(item) == PIECE else item[:-1])


class Mixing(Honest):
    """Sends the pieces of a download twice, and the rest not at all."""

    def chunk(self, item: bytes) -> None:
        self.first = getattr(self, "first", item) if len(item) == PIECE else item
        super().chunk(self.first)


class Lossy(Honest):
    """Loses the last byte of a body that does not fit in one read."""

    def performed(self, program: Program) -> Any:
        self.body = self.body if len(self.body) < 65_536 else self.body[:-1]
        return super().performed(program)


class Texting(Honest):
    """Takes every body for text."""

    def performed(self, program: Program) -> Any:
        self.body = self.body.decode(errors="replace").encode()
        return super().performed(program)


class Greedy(Honest):
    """Takes a body of any length, or of none."""

    def routed(self, path: str, query: str) -> Call:
        return call(self.command, path, query, "1")


class Methodless(Honest):
    """Answers to every method."""

    def routed(self, path: str, query: str) -> Call:
        method = ENDPOINTS[path[1:]].method if path[1:] in ENDPOINTS else "GET"
        return call(method, path, query, self.headers["content-length"] or "0")


class Impatient(Honest):
    """Says at once that there is no news, or that there is."""

    def performed(self, program: Program) -> Any:
        return push(program, BLOCKING | {Sleep: skip}) if self.path.startswith("/poll") else super().performed(program)  # type: ignore[operator]


class Newsless(Honest):
    """Holds a long poll until its time is out, whatever happens."""

    def performed(self, program: Program) -> Any:
        if "timeout_ms=2000" in self.path:
            time.sleep(0.3)
        return super().performed(program)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running(handler: type[Honest]) -> Iterator[tuple[str, int]]:
    OVER.clear()
    with Server(("127.0.0.1", 0), type(handler.__name__, (handler,), {"cache": {}})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield ("127.0.0.1", server.server_port)
        finally:
            OVER.set()
            server.shutdown()
            thread.join()
            while LIVE:
                time.sleep(0.001)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GATEBENCH_TOKEN", "ours")
    monkeypatch.setenv("GATEBENCH_VARIANT", CLAIM.name)
    return "ours"


def failed(findings: list[Finding]) -> set[str]:
    for finding in refusals(findings):
        print(finding.sentence)
    return {finding.check for finding in refusals(findings)}


def test_an_honest_server_is_accepted(token: str) -> None:
    with running(Honest) as address:
        findings = check(address, CLAIM, token)
    assert not failed(findings)
    assert [f.sentence for f in findings if f.measured == "skipped"] == [
        f"/ws {name}: skipped: not part of this test" for name in ("invalid", "leaving", "echo")
    ]


@pytest.mark.parametrize(
    ("liar", "caught"),
    [
        (Empty, {"answers"}),
        (CachedByPath, {"answers"}),
        (CachedByUrl, {"work"}),
        (Sleepless, {"waits", "concurrency"}),
        (Early, {"waits"}),
        (Serial, {"concurrency"}),
        (Poolless, {"pool"}),
        (Buffered, {"stream", "leaving"}),
        (Hasty, {"stream"}),
        (Deaf, {"leaving"}),
        (Lenient, {"invalid"}),
        (Untyped, {"answers", "stream"}),
        (Nonsense, {"identity"}),
        (Breaking, {"answers", "work"}),
        (CachedDocument, {"document"}),
        (Untrue, {"document"}),
        (Truncating, {"download"}),
        (Mixing, {"answers", "download"}),
        (Lossy, {"bodies"}),
        (Texting, {"bodies"}),
        (Greedy, {"invalid"}),
        (Methodless, {"invalid"}),
        (Impatient, {"held"}),
        (Newsless, {"held"}),
    ],
)
def test_a_liar_is_refused_with_the_difference_shown(liar: type[Honest], caught: set[str], token: str) -> None:
    with running(liar) as address:
        findings = check(address, CLAIM, token)
    assert caught <= failed(findings)
    assert all("; expected: " in finding.sentence for finding in refusals(findings))


@pytest.mark.parametrize("wrong", [{"GATEBENCH_TOKEN": "theirs"}, {"GATEBENCH_VARIANT": "asgi"}])
def test_another_run_s_server_is_refused_and_asked_no_more(
    wrong: dict[str, str], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with running(Honest) as address:
        findings = check(address, CLAIM, token)
    assert [finding.check for finding in findings] == ["identity"]
    assert refusals(findings)


@pytest.mark.parametrize(
    ("slots", "caught"), [(1, {"concurrency", "slots", "pool"}), (4, {"concurrency", "slots"}), (12, {"slots"})]
)
def test_more_slots_than_claimed_are_refused(slots: int, caught: set[str], token: str) -> None:
    claim = replace(CLAIM, budget=replace(CLAIM.budget, slots=slots))
    with running(Honest) as address:
        assert failed(check(address, claim, token)) >= caught


def test_a_stated_hole_is_skipped_and_an_unstated_one_is_not(token: str) -> None:
    with running(Honest) as address:
        assert failed(check(address, replace(CLAIM, holes={}), token)) == {"leaving", "echo"}


def test_nobody_there_and_nobody_answering_are_findings(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = silent.getsockname()
        assert failed(check(address, CLAIM, token)) == {"identity"}
    assert failed(check(address, CLAIM, token, full=False)) == {"identity", "answers"}


@pytest.mark.parametrize(("real", "claimed"), [(3, 4), (5, 4), (1, 2), (2, 1), (16, 40)])
def test_a_slot_too_few_or_too_many_is_refused(real: int, claimed: int, token: str) -> None:
    """Which 2 x 4 parallel calls would not tell: 5 slots need two rounds for them, as 4 do."""
    gate = threading.Semaphore(real)

    class Gated(Honest):
        def performed(self, program: Program) -> Any:
            with gate:
                return super().performed(program)

    claim = replace(CLAIM, budget=replace(CLAIM.budget, slots=claimed))
    with running(Gated) as address:
        assert "slots" in failed(check(address, claim, token))
        assert "slots" not in failed(check(address, replace(claim, budget=replace(claim.budget, slots=real)), token))


def test_what_a_server_writes_for_a_document_is_taken_from_it_unless_it_is_wrong() -> None:
    right = expected_body("json", "items=3")
    for handler, wanted in ((Honest, Honest.serialised), (Untrue, None)):
        with running(handler) as address:
            got = written(address, "/json?items=3")
        assert (got == right) == (wanted is None)
        assert json.loads(got) == json.loads(right)
    assert written(address, "/json?items=3") == right, "nobody is there any more"


class Hanging(Honest):
    """Says who it is, and nothing more."""

    def reply(self, answer: Call) -> None:
        if not self.path.startswith("/state"):
            OVER.wait(30)
        super().reply(answer)


def test_a_server_that_hangs_is_given_up_soon(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "TIMEOUT_S", 0.1)
    with running(Hanging) as address:
        findings = check(address, CLAIM, token)
    assert [finding.ok for finding in findings] == [True, True, False, False, False], "identity and database ask /state"
    assert all("TimeoutError" in finding.sentence for finding in refusals(findings))


def test_only_spelling_is_left_out_of_a_content_type() -> None:
    assert wire.plain_type('Text/Plain;charset="UTF-8"') == wire.plain_type("text/plain; charset=utf-8")
    assert wire.plain_type("text/plain") != wire.plain_type("text/plain; charset=utf-8")
