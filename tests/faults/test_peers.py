"""PROOFS, faults 6, 9 and 28: peers that hang, reset, hang up half-way, cut bodies, stall: told apart, and counted."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator

import pytest

from harness.physics import judge
from harness.proving import Prover
from harness.trial import Part
from tests import peers as peer
from tests.peers import Peers, asked, counted, peers, shown, told

PONG = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong"


@pytest.fixture(scope="module")
def prover() -> Iterator[Prover]:
    with Prover() as prover:
        yield prover


# -- 6: hangs for ever -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [{"rate": 50}, {"users": 8}])
def test_a_server_that_never_answers_does_not_hold_us_up(prover: Prover, load: dict[str, int]) -> None:
    with peers(lambda each, _: peer.drain(each)) as server:
        begin = time.monotonic()
        recording = told(prover, server, asked(Part(endpoint="ping"), duration_s=2, timeout_s=1.0, **load))
        assert time.monotonic() - begin <= 2 + 1 + 5
    counts = counted(recording, "ping")
    assert counts["completed"] == counts["failed"] == 0
    assert counts["timed_out"] >= counts["offered"] / 2 >= 8
    assert recording.end.errors == {"timeout": counts["timed_out"]}
    service = recording.histogram("ping", "service", range(2))
    assert service.n == counts["offered"]
    assert int(service.counts[service.values_us >= 999_000].sum()) >= counts["timed_out"]
    verdict = judge(recording)
    assert verdict.name == "VOID"
    assert verdict.reason.startswith("n/a")


@pytest.mark.parametrize("endpoint", ["sse", "ws"])
def test_nor_does_a_stream_or_socket_that_never_begins(prover: Prover, endpoint: str) -> None:
    part = Part(endpoint=endpoint, query="events=3&interval_ms=10", echoes=2, interval_ms=10)
    with peers(lambda each, _: peer.drain(each)) as server:
        begin = time.monotonic()
        recording = told(prover, server, asked(part, users=4, duration_s=2, timeout_s=0.5))
        assert time.monotonic() - begin <= 2 + 0.5 + 5
    counts = counted(recording, endpoint)
    assert counts["timed_out"] >= 8, shown(recording)
    assert counts["timed_out"] + counts["unfinished"] == counts["offered"]


# -- 9: resets, half-closed connections, cut bodies ------------------------------------------------------------------


def half_closed(each: socket.socket) -> None:
    """Will say nothing, but goes on listening."""
    each.shutdown(socket.SHUT_WR)
    peer.drain(each)


def cut(data: bytes) -> object:
    def act(each: socket.socket) -> None:
        each.sendall(data)
        peer.leave(each)

    return act


def reset_within(each: socket.socket) -> None:
    each.sendall(PONG[:-2])
    time.sleep(0.02)  # or the reset would overtake it
    peer.reset(each)


FAULTS = [  # (what the server does with a request, the kind that must be told)
    (lambda each: each.sendall(PONG), ""),
    (peer.reset, "reset"),
    (lambda each: each.sendall(PONG), ""),
    (half_closed, "closed without an answer"),
    (cut(PONG[:-1]), "truncated"),
    (lambda each: each.sendall(PONG.replace(b"pong", b"pang")), "wrong body"),
    (cut(PONG[:20]), "truncated"),
    (lambda each: each.sendall(PONG), ""),
    (reset_within, "reset"),
    (cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n"), "truncated"),
    (lambda each: each.sendall(PONG.replace(b"200 OK", b"503 No")), "status 503"),
    (lambda each: each.sendall(b"220 smtp ready\r\n\r\n"), "protocol"),
    (peer.leave, "closed without an answer"),
]


@pytest.mark.parametrize("load", [{"rate": 200}, {"users": 8}, {"rate": 200, "keep_alive": False}])
def test_each_fault_is_told_by_its_kind_and_counted_as_planned(prover: Prover, load: dict[str, int]) -> None:
    made: list[Peers] = []

    def script(each: socket.socket, _: int) -> None:
        for _head in peer.requests(each):
            act, kind = FAULTS[made[0].count("request") % len(FAULTS)]
            made[0].count(f"kind {kind}")
            act(each)  # type: ignore[operator]

    with peers(script) as server:
        made.append(server)
        recording = told(prover, server, asked(Part(endpoint="ping"), duration_s=2, timeout_s=1.0, **load))
    planned = {name.removeprefix("kind "): n for name, n in server.counts.items() if name.startswith("kind ")}
    right = planned.pop("")
    counts = counted(recording, "ping")
    assert recording.end.errors == planned, shown(recording)
    assert len(planned) == len({kind for _, kind in FAULTS}) - 1
    assert counts["offered"] == server.counts["request"] >= 100
    assert (counts["completed"], counts["failed"]) == (right, sum(planned.values()))


# -- 28: event streams that stall, WebSockets that close mid-message -------------------------------------------------

EVENTS, INTERVAL_S = 6, 0.05
STREAMED = 2  # streams in a Trial of 1 s: the last one's time-out comes before the drain's end


def paced(each: socket.socket, numbers: range, interval_s: float = INTERVAL_S) -> None:
    for number in numbers:
        each.sendall(peer.event(number))
        time.sleep(interval_s)


def whole(each: socket.socket) -> None:
    paced(each, range(EVENTS))
    each.sendall(peer.LAST)


def stalled(each: socket.socket) -> None:
    """Goes on after a silence of five intervals."""
    paced(each, range(3))
    time.sleep(0.2)
    paced(each, range(3, EVENTS))
    each.sendall(peer.LAST)


def incomplete(each: socket.socket) -> None:
    paced(each, range(4))
    each.sendall(peer.LAST)


def broken_off(each: socket.socket) -> None:
    paced(each, range(4))
    peer.leave(each)


def stopped(each: socket.socket) -> None:
    paced(each, range(2))
    peer.drain(each)


def buffered(each: socket.socket) -> None:
    time.sleep((EVENTS - 1) * INTERVAL_S)
    each.sendall(b"".join(map(peer.event, range(EVENTS))) + peer.LAST)


def trickled_at_once(each: socket.socket) -> None:
    """As a proxy's buffer empties itself: apart, but not as they were due."""
    time.sleep((EVENTS - 1) * INTERVAL_S)
    paced(each, range(EVENTS), 0.0005)
    each.sendall(peer.LAST)


def out_of_order(each: socket.socket) -> None:
    paced(each, range(1, EVENTS))
    each.sendall(peer.LAST)


def too_many(each: socket.socket) -> None:
    paced(each, range(EVENTS + 2))
    each.sendall(peer.LAST)


def reset_between(each: socket.socket) -> None:
    paced(each, range(4))
    peer.reset(each)


STREAMS = {  # script → kind of the stream's end, events that came, kinds of those that did not
    whole: ("", 5, {}),
    stalled: ("", 5, {}),
    incomplete: ("incomplete stream", 3, {"missing event": 2}),
    broken_off: ("truncated", 3, {"missing event": 2}),
    reset_between: ("reset", 3, {"missing event": 2}),
    stopped: ("timeout", 1, {"timeout": 4}),
    buffered: ("buffered", 0, {"buffered event": 5}),
    trickled_at_once: ("buffered", 0, {"buffered event": 5}),
    out_of_order: ("events out of order", 0, {"missing event": 5}),
    too_many: ("more events than planned", 5, {}),
}


@pytest.mark.parametrize("script", STREAMS, ids=lambda script: script.__name__)
def test_what_a_stream_lacks_is_counted(prover: Prover, script: object) -> None:
    kind, came, missing = STREAMS[script]  # type: ignore[index]
    began: list[int] = []

    def serve(each: socket.socket, number: int) -> None:
        next(peer.requests(each))
        began.append(number)
        each.sendall(peer.STREAM)
        script(each)  # type: ignore[operator]

    part = Part(endpoint="sse", query=f"events={EVENTS}&interval_ms={INTERVAL_S * 1000:g}")
    with peers(serve) as server:
        recording = told(prover, server, asked(part, rate=STREAMED, duration_s=1, timeout_s=1.0))
    streams, events, gaps = (counted(recording, name) for name in ("sse", "sse:event", "sse:gap"))
    assert streams["offered"] == len(began) == STREAMED
    assert streams["completed"] == (STREAMED if not kind else 0), shown(recording)
    assert events["offered"] == STREAMED * (came + sum(missing.values())), shown(recording)
    assert events["completed"] == STREAMED * came
    assert gaps["completed"] == (STREAMED if script is stalled else 0), shown(recording)
    expected = {name: STREAMED * count for name, count in missing.items()}
    if kind:
        expected[kind] = expected.get(kind, 0) + STREAMED
    if kind == "events out of order":
        expected["missing event"] += STREAMED  # the first event, too
    assert recording.end.errors == expected, shown(recording)


def test_how_long_a_gap_was_is_told(prover: Prover) -> None:
    def serve(each: socket.socket, _: int) -> None:
        next(peer.requests(each))
        each.sendall(peer.STREAM)
        stalled(each)

    part = Part(endpoint="sse", query=f"events={EVENTS}&interval_ms={INTERVAL_S * 1000:g}")
    with peers(serve) as server:
        recording = told(prover, server, asked(part, rate=STREAMED, duration_s=1, timeout_s=1.0))
    gap = recording.histogram("sse:gap", "service", range(10))
    assert gap.n == STREAMED
    assert 195_000 <= gap.quantile_us(0.5) <= 290_000
    lateness = recording.histogram("sse:event", "service", range(10))
    assert lateness.quantile_us(0.99) >= 195_000, "the silence is not in the lateness of the events after it"


def echoing(each: socket.socket, times: int) -> None:
    for opcode, payload in itertools.islice(peer.frames(each), times):
        each.sendall(peer.frame(opcode, payload))


def polite(each: socket.socket) -> None:
    """Echoes with everything that RFC 6455 allows in between, and says goodbye."""
    for number, (opcode, payload) in enumerate(peer.frames(each)):
        if opcode == peer.CLOSE:
            each.sendall(peer.frame(peer.CLOSE, payload))
            return
        if opcode == peer.PONG:
            continue
        middle = len(payload) // 2
        first, rest = peer.frame(opcode, payload[:middle], last=False), peer.frame(peer.REST, payload[middle:])
        ping, pong = peer.frame(peer.PING, b"%d" % number), peer.frame(peer.PONG, b"")
        for piece in (ping, pong, first[:1], first[1:], ping, rest):
            each.sendall(piece)
            time.sleep(0.001)


def closing(code: bytes, before: bytes = b"") -> object:
    def act(each: socket.socket) -> None:
        next(peer.frames(each))
        each.sendall(before + peer.frame(peer.CLOSE, code))
        peer.drain(each)

    return act


def leaving(before: bytes = b"") -> object:
    def act(each: socket.socket) -> None:
        next(peer.frames(each))
        each.sendall(before)
        peer.leave(each)

    return act


def saying(data: bytes) -> object:
    def act(each: socket.socket) -> None:
        next(peer.frames(each))
        each.sendall(data)
        peer.drain(each)

    return act


def resetting(each: socket.socket) -> None:
    next(peer.frames(each))
    peer.reset(each)


def mute(each: socket.socket) -> None:
    echoing(each, 1)
    peer.drain(each)


def rude(each: socket.socket) -> None:
    """Never answers the goodbye."""
    echoing(each, 3)
    next(peer.frames(each), None)
    peer.leave(each)


HALF = peer.frame(peer.TEXT, b"gate", last=False)
SOCKETS = {  # what the server does once a WebSocket is open: script, kind of its end, echoes that came of three
    "polite": (polite, "", 3),
    "closes": (closing(b"\x03\xe9"), "closed early with 1001", 0),
    "closes mid-message": (closing(b"\x03\xf3", HALF), "closed mid-message with 1011", 0),
    "leaves": (leaving(), "closed without a close frame", 0),
    "leaves mid-message": (leaving(HALF), "closed mid-message", 0),
    "leaves mid-frame": (leaving(peer.frame(peer.TEXT, b"gatebench")[:5]), "closed mid-message", 0),
    "another text": (saying(peer.frame(peer.TEXT, b"gatebench")), "wrong echo", 0),
    "other kind": (saying(peer.frame(peer.BINARY, b"gatebench" * 7)), "wrong echo", 0),
    "too long": (saying(peer.frame(peer.TEXT, b"gatebench" * 700)), "wrong echo", 0),
    "no UTF-8": (saying(peer.frame(peer.TEXT, b"\xff")), "protocol", 0),
    "masked": (saying(b"\x81\x84\0\0\0\0gate"), "protocol", 0),
    "reserved": (saying(peer.frame(0x33, b"")), "protocol", 0),
    "resets": (resetting, "reset", 0),
    "mute": (mute, "timeout", 1),
    "rude": (rude, "closed without a close frame", 3),
}


@pytest.mark.parametrize(("name", "binary"), [*((name, False) for name in SOCKETS), ("polite", True)])
def test_how_a_socket_ends_is_told_by_its_kind(prover: Prover, name: str, binary: bool) -> None:
    script, kind, echoes = SOCKETS[name]

    def serve(each: socket.socket, _: int) -> None:
        peer.accept(each)
        script(each)  # type: ignore[operator]

    part = Part(endpoint="ws", echoes=3, interval_ms=5, binary=binary)
    with peers(serve) as server:
        recording = told(prover, server, asked(part, rate=4, duration_s=1, timeout_s=0.5))
    sockets, connects, echo = (counted(recording, row) for row in ("ws", "ws:connect", "ws:echo"))
    assert sockets["offered"] == connects["completed"] == 4, shown(recording)
    assert sockets["completed"] == (4 if not kind else 0), shown(recording)
    assert echo["completed"] == 4 * echoes
    asked_in_vain = 0 if name in ("polite", "rude") else 1
    assert recording.end.errors == ({kind: 4 * (1 + asked_in_vain)} if kind else {}), shown(recording)


HANDSHAKES = {
    "refused": (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "status 403"),
    "not upgraded": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "status 200"),
    "wrong key": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n",
        "protocol",
    ),
    "garbage": (b"220 smtp ready\r\n\r\n", "protocol"),
    "cut": (b"HTTP/1.1 101 Switch", "closed without an answer"),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_the_handshake_is_checked(prover: Prover, name: str) -> None:
    answer, kind = HANDSHAKES[name]

    def serve(each: socket.socket, _: int) -> None:
        next(peer.requests(each))
        each.sendall(answer)
        peer.leave(each)

    with peers(serve) as server:
        recording = told(prover, server, asked(Part(endpoint="ws", echoes=3), rate=4, duration_s=1, timeout_s=0.5))
    assert counted(recording, "ws:connect")["failed"] == counted(recording, "ws")["failed"] == 4
    assert "ws:echo" not in recording.names
    assert recording.end.errors == {kind: 8}, shown(recording)
