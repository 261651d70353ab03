"""The cap on connections holds for replies, streams and sockets; who waits for one is blocked, and not for ever."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from harness.evidence import evidence
from harness.physics import limit
from harness.proving import Prover, serving
from harness.trial import Part, Scenario
from tests import peers as peer
from tests.peers import EVERY, asked, counted, peers, shown, told

PONG = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong"
CAP = 4
PING, SSE = Part(endpoint="ping"), Part(endpoint="sse", query="events=3&interval_ms=50", wait_s=0.1)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prover() -> Iterator[Prover]:
    with Prover() as prover:
        yield prover


class Crowd:
    """A peer that takes 0.1 s for whatever is asked, and notes how many connections it had at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self.most = 0

    def __call__(self, each: socket.socket, _number: int) -> None:
        self._count(1)
        try:
            for head in peer.requests(each):
                if b"event-stream" in head:
                    each.sendall(peer.STREAM)
                    for number in range(3):
                        each.sendall(peer.event(number))
                        time.sleep(0.05 if number < 2 else 0)
                    self._count(-1)  # before the client can know that it is over
                    each.sendall(peer.LAST)
                    self._count(1)
                else:
                    time.sleep(0.1)
                    each.sendall(PONG)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._now += change
            self.most = max(self.most, self._now)


@pytest.mark.parametrize("mix", [(PING,), (SSE,), (PING, SSE)], ids=["replies", "streams", "both"])
def test_no_more_connections_than_the_cap_and_the_rest_times_out_blocked(mix: tuple[Part, ...], prover: Prover) -> None:
    crowd = Crowd()
    settings = asked(mix[0], rate=150, timeout_s=0.8, connections=CAP).model_dump() | {"mix": mix}
    with peers(crowd) as server:
        recording = told(prover, server, Scenario.model_validate(settings))
    names = [part.endpoint for part in mix]
    counts = {name: counted(recording, name) for name in names}
    assert 2 <= crowd.most <= CAP + (SSE in mix), "a stream that has ended is left a moment before the next one begins"
    assert sum(each["offered"] for each in counts.values()) == 300
    # 40 a second can be served, in the 2 s and the drain
    completed = sum(each["completed"] for each in counts.values())
    assert 60 <= completed <= 125, shown(recording)
    assert all(each["completed"] > 5 for each in counts.values()), "one of them starved"
    assert sum(each["failed"] for each in counts.values()) == 0, shown(recording)
    assert recording.end.errors.keys() == {"no free connection"}
    assert recording.end.errors["no free connection"] == sum(each["timed_out"] for each in counts.values()) > 50
    for name in names:
        blocked, lateness = (recording.histogram(name, kind, EVERY) for kind in ("blocked", "lateness"))
        assert 790_000 <= blocked.max_us <= 1_000_000, "nobody waits for longer than the time-out"
        assert lateness.quantile_us(0.5) < 20_000, "what was blocked is not the generator's lateness"
        served = recording.histogram(name, "service", EVERY)
        assert counts[name]["completed"] <= served.n < counts[name]["offered"], "service of who was never sent"
        assert served.quantile_us(0.5) >= 100_000
    assert limit(evidence(recording))[0] == "connections"


def test_thousands_that_time_out_at_once_do_not_hold_the_hub_up(prover: Prover) -> None:
    """A burst of 3 000 at a server that is silent: all are overdue in the same moment, and end some at a time."""
    with serving("delay", 30_000) as known:
        scenario = asked(PING, rate=3000, duration_s=1).model_copy(update={"arrivals": "burst"})
        recording = prover.drive(known.port, scenario)
    counts = recording.counts("ping", EVERY)
    assert counts.offered == counts.timed_out == 3000
    service = recording.histogram("ping", "service", EVERY)
    assert service.n == 3000
    assert int(service.values_us[0]) >= 999_000


def test_without_a_cap_there_are_more(prover: Prover) -> None:
    """The control."""
    crowd = Crowd()
    with peers(crowd) as server:
        recording = told(prover, server, asked(PING, rate=100, connections=64, duration_s=1))
    assert crowd.most > CAP
    assert counted(recording, "ping")["completed"] == 100
