"""A user who waits for each answer before it asks again. In: a Stage, a number. Out: calls, as fast as it is answered.

The server sets the pace. What an open schedule would have sent meanwhile is counted elsewhere (`omitted`).
"""

from __future__ import annotations

import random

import gevent
from gevent.event import Event

from harness.load.client import Connection, now
from harness.load.stage import Stage
from harness.load.streams import Broken

RETRY_PAUSE_S = 0.05  # a closed user whom nobody lets in comes back after this, instead of spinning
NOBODY_IN = ("refused", "no descriptors", "no ports")


class ClosedFlow:
    """One closed user: asks, waits for the answer, asks again until the end."""

    def __init__(self, stage: Stage, number: int) -> None:
        self._stage = stage
        self._single = len(stage.mix) == 1
        self._picks = random.Random(f"{stage.order.seed}/{number}")
        self._finished = Event()
        self._end = 0.0  # when it stops asking; at once until it runs, and when it has been told to go
        self._talk: gevent.Greenlet | None = None
        self._connection = stage.connection(self._done)
        stage.connections.append(self._connection)
        stage.flows.append(self)

    def run(self, begin_at: float) -> None:
        gevent.sleep(max(begin_at - now(), 0))
        if not self._finished.is_set():
            self._end = self._stage.end
        self._next()
        self._finished.wait()

    def _next(self) -> None:
        stage, moment = self._stage, now()
        if moment >= self._end:
            self._finished.set()
            return
        part = 0 if self._single else self._picks.choices(range(len(stage.mix)), stage.weights)[0]
        if stage.talks[part] is not None:
            self._talk = gevent.spawn(self._converse, part, moment)
            return
        connection = self._connection
        connection.part = part
        stage.tracks[part].offer(moment)
        connection.begin(stage.calls[part], moment, moment, moment)

    def _converse(self, part: int, moment: float) -> None:
        self._stage.converse(part, moment, moment)
        if now() - moment < RETRY_PAUSE_S / 10:  # it can't have been served
            gevent.sleep(RETRY_PAUSE_S)
        self._talk = None
        self._next()

    def _done(self, connection: Connection, error: str) -> None:
        track = self._stage.tracks[connection.part]
        if not error:
            track.completed(connection.intended, connection.taken, connection.attempted, connection.ended)
            self._next()
            return
        track.settle(error, connection.intended, connection.taken, connection.attempted, connection.ended)
        if error in NOBODY_IN:
            gevent.spawn_later(RETRY_PAUSE_S, self._next)
        else:
            self._next()

    def abandon(self, kind: str) -> int:
        self._finished.set()
        self._end = 0.0
        self._connection.expire(kind)
        if self._talk is not None:
            self._talk.kill(Broken(kind))
        self.leave()
        return 0

    def leave(self) -> None:
        """Goes away without another word: a call under way gets no outcome."""
        self._finished.set()
        self._end = 0.0
        if self._talk is not None:
            self._talk.kill()
        self._connection.close()
        if self in self._stage.flows:
            self._stage.flows.remove(self)
            self._stage.connections.remove(self._connection)
