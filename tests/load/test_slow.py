"""A slow client sends its request in pieces over the time that it declares, and nobody else is slower for it."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator

import pytest

from harness.evidence import evidence
from harness.load.slow import PIECES, pieces
from harness.physics import wait
from harness.proving import Prover
from harness.trial import Part
from tests import peers as peer
from tests.peers import asked, counted, peers, shown, told

SLOW = Part(endpoint="ping", slow_s=0.5)
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong"


@pytest.fixture(scope="module")
def prover() -> Iterator[Prover]:
    with Prover() as prover:
        yield prover


def arrivals(each: socket.socket) -> Iterator[list[tuple[float, bytes]]]:
    """Each request of a connection, as the pieces in which it came."""
    came: list[tuple[float, bytes]] = []
    while data := each.recv(65_536):
        came.append((time.monotonic(), data))
        if data.endswith(b"\r\n\r\n") or b"".join(piece for _, piece in came).endswith(b"\r\n\r\n"):
            yield came
            came = []


def test_a_request_is_cut_without_a_loss() -> None:
    for length in (PIECES, 97, 4096):
        request = bytes(at % 251 for at in range(length))
        cut = pieces(request)
        assert b"".join(cut) == request
        assert len(cut) == PIECES
        assert all(cut)


@pytest.mark.parametrize("load", [{"rate": 4}, {"users": 2}], ids=["open", "closed"])
def test_the_request_arrives_in_pieces_over_the_time(prover: Prover, load: dict[str, int]) -> None:
    requests: list[list[tuple[float, bytes]]] = []

    def script(each: socket.socket, _: int) -> None:
        for came in arrivals(each):
            requests.append(came)
            each.sendall(REPLY)

    with peers(script) as server:
        recording = told(prover, server, asked(SLOW, duration_s=2, **load))
    counts = counted(recording, "ping:slow")
    assert counts["completed"] + counts["unfinished"] == counts["offered"] >= 4, shown(recording)
    assert counts["completed"] >= 4
    assert recording.names == ("ping:slow",)
    for came in requests:
        gaps = [after - before for (before, _), (after, _) in itertools.pairwise(came)]
        assert PIECES // 2 < len(came) <= PIECES, "on a busy machine two may come as one"
        assert 0.45 < came[-1][0] - came[0][0] < 0.8
        assert max(gaps) < 0.3, gaps
        assert b"".join(piece for _, piece in came).startswith(b"GET /ping HTTP/1.1\r\n")
    service = recording.histogram("ping:slow", "service", peer.EVERY)
    assert 0.498 < int(service.values_us[0]) / 1e6 < 0.6, "service begins with the attempt"
    assert wait(evidence(recording)) is None


def test_normal_calls_beside_it_are_as_fast_as_ever(prover: Prover) -> None:
    def script(each: socket.socket, _: int) -> None:
        for _came in arrivals(each):
            each.sendall(REPLY)

    scenario = asked(SLOW, rate=100, duration_s=2)
    mix = (Part(endpoint="ping", weight=9), SLOW)
    with peers(script) as server:
        recording = told(prover, server, scenario.model_copy(update={"mix": mix}))
    fast, slow = counted(recording, "ping"), counted(recording, "ping:slow")
    assert fast["offered"] + slow["offered"] == 200
    assert (fast["completed"], slow["completed"]) == (fast["offered"], slow["offered"]), shown(recording)
    assert slow["offered"] > 5
    assert recording.histogram("ping", "service", peer.EVERY).quantile_us(0.5) < 50_000
    assert evidence(recording).response[0.5] < 0.1, "the generator is held against the normal calls"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (REPLY.replace(b"pong", b"pang"), "wrong body"),
        (b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", "status 408"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npong", "truncated"),
        (b"", "closed without an answer"),
    ],
)
def test_a_wrong_answer_is_told_by_its_kind(prover: Prover, answer: bytes, kind: str) -> None:
    def script(each: socket.socket, _: int) -> None:
        next(arrivals(each))
        each.sendall(answer)
        peer.leave(each)

    with peers(script) as server:
        recording = told(prover, server, asked(SLOW, rate=4, duration_s=1))
    counts = counted(recording, "ping:slow")
    assert counts["offered"] == 4
    assert counts["failed"] == 4, shown(recording)
    assert recording.end.errors == {kind: 4}


def test_a_server_that_never_answers_is_given_its_time_from_the_last_piece_on(prover: Prover) -> None:
    with peers(lambda each, _: peer.drain(each)) as server:
        recording = told(prover, server, asked(SLOW, rate=4, duration_s=1, timeout_s=0.5))
    assert counted(recording, "ping:slow")["timed_out"] == 4, shown(recording)
    service = recording.histogram("ping:slow", "service", peer.EVERY)
    assert 0.99 < int(service.values_us[0]) / 1e6 < 1.2
