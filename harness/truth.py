"""A server of known truth. In: a model of service. Out: its port, then a log of what it really did with each request.

`python -m harness.truth MODEL [--log FILE]` prints its port and serves until its standard input ends. Every request is
answered with the same few bytes; what differs is when, and whether. The log holds, for each request, in the order of
arrival: arrival, departure (monotonic seconds, doubles) and outcome, so a generator can be held against it request by
request. MODELS, the table at the end, holds the models; their randomness is seeded. `canned` without a log, whom
ceilings are measured against, takes the shortest way there is: it has to be faster than whatever is held against it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import heapq
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ENTRY = struct.Struct("<ddB")  # arrival, departure, outcome
OK, ERROR, RESET, HANG = range(4)
HOST, BACKLOG, CHUNK = "127.0.0.1", 4096, 65_536
ACCEPTS = 64  # at a time, so that those who are in get their answers meanwhile
END = b"\r\n\r\n"
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
    """The server: one thread, one epoll, a heap of departures to come. No event loop's timers, which round to a ms."""

    def __init__(self, model: Model, log: bytearray | None, *, bare: bool) -> None:
        self.model = model
        self.log = log
        self.count = 0
        self.running = True
        self._bare = bare
        self._departures: list[tuple[float, int, Connection, Plan, int]] = []
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}  # descriptor → what to do when it can be read
        self._listener = socket.create_server((HOST, 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.watch(self._listener.fileno(), self._accept)
        with contextlib.suppress(PermissionError):  # a file or /dev/null never ends: then until a signal does
            self.watch(0, self._read_input)

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        self._ready[descriptor] = readable
        self._epoll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        if self._ready.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def run(self) -> None:
        poll, ready, departures = self._epoll.poll, self._ready, self._departures
        epoll = [self._epoll.fileno()]
        while self.running:
            if departures:  # select waits whole µs where epoll waits whole ms
                select.select(epoll, (), (), max(departures[0][0] - now(), 0))
                events = poll(0)
            else:
                events = poll()
            for descriptor, _ in events:
                if (readable := ready.get(descriptor)) is not None:  # closed by an event before it
                    readable()
            if departures:
                self._release()

    def _read_input(self) -> None:
        self.running = bool(os.read(0, 4096))

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Canned(self, sock) if self._bare else Connection(self, sock)
            self.watch(sock.fileno(), connection.readable)
            connection.readable()  # its request has mostly come along: read in the order of arrival

    def arrived(self, connection: Connection) -> None:
        arrival = now()
        plan = self.model(arrival, self.count)
        self.count += 1
        place = -1
        if self.log is not None:
            place = len(self.log)
            self.log += ENTRY.pack(arrival, 0.0, plan.outcome)
        if plan.depart is None:
            self._depart(connection, plan.outcome, place)
        else:
            heapq.heappush(self._departures, (plan.depart, self.count, connection, plan, place))

    def _release(self) -> None:
        departures = self._departures
        while departures and departures[0][0] <= now():
            _, _, connection, plan, place = heapq.heappop(departures)
            self._depart(connection, plan.outcome, place)

    def _depart(self, connection: Connection, outcome: int, place: int) -> None:
        if outcome == HANG:
            return
        departed = now()  # before it is sent: the client may have it before the call returns
        connection.answer(outcome)
        if self.log is not None:
            struct.pack_into("<d", self.log, place + 8, departed)


class Canned:
    """Answers each whole request at once, and does nothing else: 200 000 a second."""

    def __init__(self, serving: Serving, sock: socket.socket) -> None:
        self._serving = serving
        self._sock = sock
        self._tail = b""

    def readable(self) -> None:
        try:
            data = self._sock.recv(CHUNK)
            if data.count(END) == 1 and not self._tail and data.endswith(END):
                self._sock.send(REPLY)
                return
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        data = self._tail + data
        ends = data.count(END)
        self._tail = data[data.rfind(END) + 4 if ends else 0 :]
        self.whole(ends)

    def whole(self, requests: int) -> None:
        with contextlib.suppress(OSError):
            self._sock.send(REPLY * requests)

    def close(self) -> None:
        self._serving.forget(self._sock.fileno())
        self._sock.close()


class Connection(Canned):
    """Counts requests by their empty lines (our own clients send no bodies), and answers each when its plan says."""

    def readable(self) -> None:
        try:
            data = self._tail + self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = self._tail
        if data == self._tail:
            self.close()
            return
        ends = data.count(END)
        self._tail = data[data.rfind(END) + 4 if ends else 0 :]
        self.whole(ends)

    def whole(self, requests: int) -> None:
        for _ in range(requests):
            self._serving.arrived(self)

    def answer(self, outcome: int) -> None:
        if self._sock.fileno() < 0:
            return  # the client has gone
        if outcome == RESET:
            # SO_LINGER of 0 s: the kernel sends a reset instead of an orderly end
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()
            return
        with contextlib.suppress(OSError):  # gone meanwhile: its end is read next
            self._sock.send(REPLY if outcome == OK else REFUSAL)


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
    kept = bytearray() if words.log else None
    bare = words.model == "canned" and kept is None
    serving = Serving(MODELS[words.model](*words.numbers), kept, bare=bare)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.write(f"{serving.port}\n")
    sys.stdout.flush()
    gc.disable()  # nothing here makes cycles, and a collection is a pause that no plan holds
    with contextlib.suppress(KeyboardInterrupt):
        serving.run()
    if kept is not None:
        words.log.write_bytes(kept)


if __name__ == "__main__":
    main()
