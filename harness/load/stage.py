"""What the users of one Trial share. In: an Order, a Recorder. Out: a Stage: prepared calls, rows, its start and end.

Flows of users live on it (closed_flow, open_flow): they make the calls, the Stage ends those that take too long.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

from gevent.event import Event

from harness.load.call import Call, prepared
from harness.load.client import Address, Connection, now
from harness.load.order import Order
from harness.load.recorder import TIMEOUT, UNFINISHED, Recorder, Track
from harness.load.streams import FAILURES, Due, conversation
from harness.load.traced import Notes, TracedConnection

SWEEPS = 5  # each call's age is looked at in every fifth sweep
MOST_ENDED = 100  # calls a sweep, which takes about 1.5 ms: thousands may be overdue at once where a server hangs


class Flow(Protocol):
    """Users who make calls, until they are told to end."""

    def abandon(self, kind: str) -> int:
        """Ends everything: what is left is of this kind. Answers how many arrivals were never taken up."""


class Stage:
    """What the users of one Trial share: the order, its prepared calls, the recorder, when it begins and ends."""

    def __init__(self, order: Order, recorder: Recorder) -> None:
        self.order = order
        self.recorder = recorder
        self.address: Address = (order.host, order.port)
        self.mix = order.scenario.mix
        self.weights = [part.weight for part in self.mix]
        self.tracks: list[Track] = [recorder.track(part.row) for part in self.mix]
        host = f"{order.host}:{order.port}"
        self.calls: list[Call] = [
            prepared(
                host,
                target,
                None if expected is None else expected.encode(),
                method=part.method,
                headers=part.headers,
                body=part.body.encode(),
                keep=order.scenario.keep_alive,
            )
            for part, target, expected in zip(self.mix, order.targets, order.expected, strict=True)
        ]
        self.notes = Notes(order) if order.trace else None
        self.talks = [conversation(part, call) for part, call in zip(self.mix, self.calls, strict=True)]
        self.go = Event()
        self.end = 0.0
        self.flows: list[Flow] = []
        self.connections: list[Connection] = []  # of all flows
        self.sweeps: list[Callable[[float], None]] = []  # what ends whoever has waited since before this moment
        self._turns = itertools.cycle(range(SWEEPS))

    def connection(self, done: Callable[[Connection, str], None]) -> Connection:
        """A new one to the server."""
        if self.notes is not None:
            return TracedConnection(self.address, done, self.notes)
        return Connection(self.address, done)

    def begin(self, origin: float) -> None:
        """The first arrival is due at `origin`; all users wait for this."""
        self.recorder.origin = origin
        self.end = origin + self.order.scenario.duration_s
        self.go.set()

    def converse(self, part: int, intended: float, taken: float) -> None:
        """One stream or socket, from beginning to end, in the calling greenlet."""
        talk = self.talks[part]
        assert talk is not None
        due, timeout_s = Due(intended, taken), self.order.scenario.timeout_s
        try:
            talk(self.address, self.order.targets[part], self.mix[part], self.recorder, due, timeout_s)
        except FAILURES:
            return  # recorded by its kind where it happened

    def expire(self) -> None:
        """One sweep: ends what has waited for longer than the time-out, for a connection or for its answer."""
        limit = now() - self.order.scenario.timeout_s
        for sweep in self.sweeps:
            sweep(limit)
        looked_at = self.connections[next(self._turns) :: SWEEPS]
        overdue = [connection for connection in looked_at if connection.attempted < limit and connection.busy]
        for connection in overdue[:MOST_ENDED]:
            connection.expire(TIMEOUT)

    def close(self) -> None:
        """Nothing is under way any more."""
        if self.notes is not None:
            self.notes.close()

    def abandon(self, kind: str = UNFINISHED) -> int:
        """Ends everything: what is left is of this kind. Answers how many arrivals were never taken up."""
        return sum([flow.abandon(kind) for flow in tuple(self.flows)])
