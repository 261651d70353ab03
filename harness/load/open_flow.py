"""A schedule that is kept, whoever has answered. In: a Stage. Out: each arrival sent when it is due, or its fate.

Over as many connections as that takes, up to the cap; beyond it an arrival is *blocked*: it waits in a Line for the
next free one, and leaves as timed out when that takes longer than the time-out (docs/decisions/0006).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import gevent
import numpy as np
from gevent.event import Event
from numpy.typing import NDArray

from harness.load import schedule
from harness.load.client import Connection, now
from harness.load.line import Line
from harness.load.recorder import INTERRUPTED, NO_CONNECTION
from harness.load.stage import Stage
from harness.load.streams import Broken
from harness.load.timer import Alarm

LOW = schedule.BLOCK // 2  # arrivals at hand below which the next block is drawn, in the first pause that will hold it
PAUSE_S = 0.0003
BATCH = 64  # arrivals sent in one go when behind, so that answers are still read in between


def arrivals(stage: Stage) -> Iterator[tuple[schedule.Times, schedule.Parts]]:
    """The order's schedule in blocks: when each arrival is due from the start, and the part of the mix it asks for."""
    order, scenario = stage.order, stage.order.scenario
    times = schedule.blocks(scenario.arrivals, order.level, scenario.duration_s, order.seed, scenario.shape)
    return schedule.calls(times, stage.weights, order.seed + 1, order.worker, order.workers)


class OpenFlow:
    """All arrivals of an open schedule, sent when they are due over a pool of connections that grows up to the cap."""

    def __init__(self, stage: Stage) -> None:
        stream = arrivals(stage)
        # the first blocks are drawn before the run begins, each further one in a pause shortly before it is due
        self._stream = itertools.chain(list(itertools.islice(stream, 2)), stream)
        self._more = True
        self._origin = 0.0
        self._due: list[float] = []
        self._parts: list[int] = []
        self._sent = 0
        self._stage = stage
        self._cap = stage.order.connections
        self._connections = stage.connections
        self._idle: list[Connection] = []
        self._talks: set[gevent.Greenlet] = set()  # a stream or socket holds a connection of its own
        self._line = Line()
        self._under_way = 0
        self._finished = Event()
        self._alarm = Alarm(self._ring)
        stage.flows.append(self)
        stage.sweeps.append(self._end_waiting)

    def run(self, origin: float) -> None:
        self._origin = origin
        self._refill()
        if self._due:
            self._alarm.set(self._due[0])
        else:
            self._finished.set()
        self._finished.wait()
        self._alarm.close()

    def _refill(self) -> None:
        """The next block: a schedule of hours is never held whole."""
        block = next(self._stream, None)
        if block is None:
            self._more = False
            return
        due, parts = block[0] + self._origin, block[1]
        for part, track in enumerate(self._stage.tracks):
            if self._stage.talks[part] is None:  # a conversation counts itself, when it is attempted
                track.offer_all(due[parts == part])
        del self._due[: self._sent], self._parts[: self._sent]
        self._sent = 0
        self._due += due.tolist()
        self._parts += parts.tolist()

    # -- each arrival ------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        """Takes up what is due by now."""
        due = self._due
        for intended in itertools.islice(due, self._sent, self._sent + BATCH):
            taken = now()
            if intended > taken:
                break
            self._take_up(self._parts[self._sent], intended, taken)
            self._sent += 1
        left = len(due) - self._sent
        if left < LOW and self._more and (left <= BATCH or due[self._sent] - now() > PAUSE_S):
            self._refill()
        if self._sent < len(due):
            self._alarm.set(due[self._sent])
        else:
            self._alarm.clear()
            self._end_if_done()

    def _take_up(self, part: int, intended: float, taken: float) -> None:
        self._under_way += 1
        if not self._attempt(part, intended, taken, taken):
            self._line.join(part, intended, taken)

    def _attempt(self, part: int, intended: float, taken: float, attempted: float) -> bool:
        """Sends it, if there is a connection for it under the cap, or may be one."""
        if self._stage.talks[part] is not None:
            return self._converse(part, intended, taken)
        if self._idle:
            connection = self._idle.pop()
        elif len(self._connections) + len(self._talks) < self._cap:
            connection = self._stage.connection(self._done)
            self._connections.append(connection)
        else:
            return False
        connection.part = part
        connection.begin(self._stage.calls[part], intended, taken, attempted)
        return True

    def _converse(self, part: int, intended: float, taken: float) -> bool:
        if len(self._connections) + len(self._talks) >= self._cap:
            if not self._idle:
                return False
            connection = self._idle.pop()  # it gives way
            connection.close()
            self._connections.remove(connection)
        talk = gevent.spawn(self._stage.converse, part, intended, taken)
        self._talks.add(talk)
        talk.rawlink(self._talk_ended)
        return True

    # -- each outcome ------------------------------------------------------------------------------------------------

    def _done(self, connection: Connection, error: str) -> None:
        track = self._stage.tracks[connection.part]
        track.settle(error, connection.intended, connection.taken, connection.attempted, connection.ended)
        self._idle.append(connection)
        self._one_ended()

    def _talk_ended(self, talk: gevent.Greenlet) -> None:
        self._talks.discard(talk)
        self._one_ended()

    def _one_ended(self) -> None:
        self._under_way -= 1
        if self._line:
            self._attempt(*self._line.leave(), now())
        else:
            self._end_if_done()

    def _end_waiting(self, limit: float) -> None:
        """Who was taken up before this moment has waited for a connection for as long as anybody does."""
        ended = now()
        for waited in self._line.overdue(limit):
            self._under_way -= len(waited)
            self._settle_waiting(NO_CONNECTION, waited, ended)

    def _end_if_done(self) -> None:
        if not self._under_way and self._sent >= len(self._due) and not self._more:
            self._finished.set()

    # -- the end -----------------------------------------------------------------------------------------------------

    def abandon(self, kind: str) -> int:
        """What is under way ends as of this kind; so does what was never taken up, whose number is the answer."""
        ended = now()
        for waited in self._line.overdue():
            self._settle_waiting(kind, waited, ended)
        at_hand = np.array(self._due[self._sent :]), np.array(self._parts[self._sent :], np.int64)
        never = self._settle(kind, *at_hand, ended, offered=True)
        for times, parts in self._stream if kind != INTERRUPTED else ():
            never += self._settle(kind, times + self._origin, parts, ended, offered=False)
        self._sent, self._more = len(self._due), False
        gevent.killall(list(self._talks), Broken(kind))
        for connection in self._connections:
            connection.expire(kind)
            connection.close()
        self._finished.set()
        return never

    def _settle_waiting(self, kind: str, waited: NDArray[np.float64], ended: float) -> None:
        parts, intended, taken = waited.T
        self._settle(kind, intended, parts.astype(np.int64), ended, offered=True, taken=taken)

    def _settle(
        self,
        kind: str,
        due: schedule.Times,
        parts: schedule.Parts,
        ended: float,
        *,
        offered: bool,
        taken: schedule.Times | None = None,
    ) -> int:
        """Arrivals that will never be sent, a block at a time. offered: whether replies are counted so.

        taken: when they were taken up, None = they never were.
        """
        for part, track in enumerate(self._stage.tracks):
            mine = parts == part
            if self._stage.talks[part] is not None or not offered:
                track.offer_all(due[mine])
            track.settle_all(kind, due[mine], ended, None if taken is None else taken[mine])
        return len(due)
