"""A server of known truth. In: a model of service. Out: its port, then a log of what it really did with each request.

`python -m harness.truth MODEL [--log FILE]` prints its port and serves until its standard input ends. Every request is
answered with the same few bytes; what differs is when, and whether. The log holds, for each request, in the order of
arrival: arrival, departure (monotonic seconds, doubles) and outcome, so a generator can be held against it request by
request. MODELS, the table at the end, holds the models; their randomness is seeded.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import os
import random
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import uvloop

ENTRY = struct.Struct("<ddB")  # arrival, departure, outcome
OK, ERROR, RESET, HANG = range(4)
BODY = b"pong"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n" + BODY
REFUSAL = b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\noops"

now = time.monotonic


class Plan(NamedTuple):
    """What becomes of one request. depart: when it is answered, None = at once."""

    depart: float | None
    outcome: int = OK


Model = Callable[[float, int], Plan]  # (arrival, number) → plan


def canned() -> Model:
    """Answers at once: the instrument's own floor and ceiling."""
    plan = Plan(None)
    return lambda _arrival, _number: plan


def delay(ms: float) -> Model:
    """Each request ms later, however many there are."""
    return lambda arrival, _number: Plan(arrival + ms / 1000)


def _queue(servers: int, service_s: Callable[[], float]) -> Model:
    """First come, first served, by so many servers."""
    free = [0.0] * servers

    def plan(arrival: float, _number: int) -> Plan:
        depart = max(heapq.heappop(free), arrival) + service_s()
        heapq.heappush(free, depart)
        return Plan(depart)

    return plan


def mm1(rate: float, seed: float = 1) -> Model:
    """One server, exponential service of mean 1/rate."""
    draw = random.Random(seed)
    return _queue(1, lambda: draw.expovariate(rate))


def mdc(servers: float, ms: float) -> Model:
    """So many servers, each ms a request."""
    return _queue(int(servers), lambda: ms / 1000)


def bimodal(fast_ms: float, slow_ms: float, slow_share: float, seed: float = 1) -> Model:
    """Independent requests: mostly fast, some slow."""
    draw = random.Random(seed)
    return lambda arrival, _number: Plan(arrival + (slow_ms if draw.random() < slow_share else fast_ms) / 1000)


def faulty(ms: float, period: float = 100) -> Model:
    """Of each hundred requests by number: five 500s, five resets, two that are never answered."""
    outcomes = {
        3: ERROR,
        23: ERROR,
        43: ERROR,
        63: ERROR,
        83: ERROR,
        7: RESET,
        27: RESET,
        47: RESET,
        67: RESET,
        87: RESET,
    }
    outcomes |= {11: HANG, 61: HANG}
    return lambda arrival, number: Plan(arrival + ms / 1000, outcomes.get(number % int(period), OK))


class Serving:
    """The state that all connections share: the model, the count, the log, the departures to come."""

    def __init__(self, model: Model, log: bytearray | None) -> None:
        self.model = model
        self.log = log
        self.count = 0
        self.loop = asyncio.get_running_loop()

    def arrived(self, connection: Connection) -> None:
        arrival = now()
        plan = self.model(arrival, self.count)
        self.count += 1
        place = -1
        if self.log is not None:
            place = len(self.log)
            self.log += ENTRY.pack(arrival, 0.0, plan.outcome)
        if plan.depart is None:
            self.depart(connection, plan.outcome, place)
        else:
            self.loop.call_later(max(plan.depart - now(), 0), self._due, connection, plan, place)

    def _due(self, connection: Connection, plan: Plan, place: int) -> None:
        assert plan.depart is not None
        left = plan.depart - now()
        if left > 0:  # uvloop wakes up to 1 ms early
            self.loop.call_later(left, self._due, connection, plan, place)
        else:
            self.depart(connection, plan.outcome, place)

    def depart(self, connection: Connection, outcome: int, place: int) -> None:
        if outcome == HANG:
            return
        connection.answer(outcome)
        if self.log is not None:
            struct.pack_into("<d", self.log, place + 8, now())


class Connection(asyncio.Protocol):
    """Counts requests by their empty lines: our own clients send no bodies."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._tail = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass of it

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        ends = data.count(b"\r\n\r\n")
        self._tail = b"" if data.endswith(b"\r\n\r\n") else data[data.rfind(b"\r\n\r\n") + 4 if ends else 0 :]
        for _ in range(ends):
            self._serving.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None

    def answer(self, outcome: int) -> None:
        if self._transport is None:
            return
        if outcome == RESET:
            sock = self._transport.get_extra_info("socket")
            # SO_LINGER of 0 s: the kernel sends a reset instead of an orderly end
            sock.setsockopt(1, 13, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.write(REPLY if outcome == OK else REFUSAL)


async def _serve(model: Model, log: Path | None) -> None:
    kept = bytearray() if log else None
    serving = Serving(model, kept)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, ended.set)
    server = await loop.create_server(lambda: Connection(serving), "127.0.0.1", 0, backlog=2048)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    loop.add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    await ended.wait()
    if log and kept is not None:
        log.write_bytes(kept)


class Entry(NamedTuple):
    """One request in a log; departed is 0 where it never was."""

    arrived: float
    departed: float
    outcome: int


def read_log(path: Path) -> list[Entry]:
    return [Entry(*entry) for entry in ENTRY.iter_unpack(path.read_bytes())]


MODELS: dict[str, Callable[..., Model]] = {
    "canned": canned,
    "delay": delay,
    "mm1": mm1,
    "mdc": mdc,
    "bimodal": bimodal,
    "faulty": faulty,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="harness.truth", description="A server of known truth.")
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("numbers", nargs="*", type=float, help="the model's parameters")
    parser.add_argument("--log", type=Path, help="where the log goes when it ends")
    words = parser.parse_args()
    uvloop.run(_serve(MODELS[words.model](*words.numbers), words.log))


if __name__ == "__main__":
    main()
