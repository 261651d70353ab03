"""Locust users that keep a schedule. In: a Stage (what one Trial asks). Out: calls made on time, outcomes recorded.

A ClosedUser waits for each answer before it asks again: the server sets the pace. The one OpenUser sends when the
schedule says, whoever has answered, over as many connections as that takes up to the cap; beyond it an arrival is
*blocked*. Both live in the hub's callbacks and hold their Locust greenlet only until they have finished.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator

import gevent
import numpy as np
from gevent.event import Event
from locust import User, task
from locust.exception import StopUser

from harness.load import schedule
from harness.load.client import Address, Call, Connection, now, prepared
from harness.load.order import Order
from harness.load.recorder import INTERRUPTED, TIMEOUT, UNFINISHED, Recorder, Track
from harness.load.streams import CONVERSATIONS, FAILURES, Broken, Due
from harness.load.timer import Alarm

LOW = schedule.BLOCK // 2  # arrivals at hand below which the next block is drawn, in the first pause that will hold it
PAUSE_S = 0.0003
BATCH = 64  # arrivals sent in one go when behind, so that answers are still read in between
RETRY_PAUSE_S = 0.05  # a closed user whom nobody lets in comes back after this, instead of spinning
NOBODY_IN = ("refused", "no descriptors", "no ports")


class Stage:
    """What the users of one Trial share: the order, its prepared calls, the recorder, when it begins and ends."""

    def __init__(self, order: Order, recorder: Recorder) -> None:
        self.order = order
        self.recorder = recorder
        self.address: Address = (order.host, order.port)
        self.mix = order.scenario.mix
        self.weights = [part.weight for part in self.mix]
        self.tracks: list[Track] = [recorder.track(part.endpoint) for part in self.mix]
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
        self.talks = [CONVERSATIONS.get(part.endpoint) for part in self.mix]
        self.go = Event()
        self.end = 0.0
        self.flows: list[ClosedFlow | OpenFlow] = []

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
        """Ends the calls that have been under way for longer than the time-out."""
        limit = now() - self.order.scenario.timeout_s
        for flow in self.flows:
            for connection in flow.connections:
                if connection.busy and connection.attempted < limit:
                    connection.expire(TIMEOUT)

    def abandon(self, kind: str = UNFINISHED) -> int:
        """Ends everything: what is left is of this kind. Answers how many arrivals were never taken up."""
        return sum([flow.abandon(kind) for flow in tuple(self.flows)])


class ClosedFlow:
    """One closed user: asks, waits for the answer, asks again until the end."""

    def __init__(self, stage: Stage, number: int) -> None:
        self._stage = stage
        self._single = len(stage.mix) == 1
        self._picks = random.Random(f"{stage.order.seed}/{number}")
        self._finished = Event()
        self._end = 0.0  # when it stops asking; at once until it runs, and when it has been told to go
        self._talk: gevent.Greenlet | None = None
        self.connections = [Connection(stage.address, self._done)]
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
        connection = self.connections[0]
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
        self.connections[0].expire(kind)
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
        self.connections[0].close()
        if self in self._stage.flows:
            self._stage.flows.remove(self)


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
        self._idle: list[Connection] = []
        self._blocked: deque[tuple[int, float, float]] = deque()
        self._talks: set[gevent.Greenlet] = set()
        self._under_way = 0
        self._finished = Event()
        self._alarm = Alarm(self._ring)
        self.connections: list[Connection] = []
        stage.flows.append(self)

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
            if self._stage.talks[part] is None:  # a conversation counts itself, when it is taken up
                track.offer_all(due[parts == part])
        del self._due[: self._sent], self._parts[: self._sent]
        self._sent = 0
        self._due += due.tolist()
        self._parts += parts.tolist()

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
            self._end_if_done()

    def _take_up(self, part: int, intended: float, taken: float) -> None:
        self._under_way += 1
        if self._stage.talks[part] is not None:
            talk = gevent.spawn(self._stage.converse, part, intended, taken)
            self._talks.add(talk)
            talk.rawlink(self._talk_ended)
        elif self._idle:
            self._begin(self._idle.pop(), part, intended, taken, taken)
        elif len(self.connections) < self._cap:
            connection = Connection(self._stage.address, self._done)
            self.connections.append(connection)
            self._begin(connection, part, intended, taken, taken)
        else:
            self._blocked.append((part, intended, taken))

    def _begin(self, connection: Connection, part: int, intended: float, taken: float, attempted: float) -> None:
        connection.part = part
        connection.begin(self._stage.calls[part], intended, taken, attempted)

    def _done(self, connection: Connection, error: str) -> None:
        track = self._stage.tracks[connection.part]
        track.settle(error, connection.intended, connection.taken, connection.attempted, connection.ended)
        self._under_way -= 1
        if self._blocked:
            self._begin(connection, *self._blocked.popleft(), now())
        else:
            self._idle.append(connection)
            self._end_if_done()

    def _talk_ended(self, talk: gevent.Greenlet) -> None:
        self._talks.discard(talk)
        self._under_way -= 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self._under_way and self._sent >= len(self._due) and not self._more:
            self._finished.set()

    def abandon(self, kind: str) -> int:
        """What is under way ends as of this kind; so does what was never taken up, whose number is the answer."""
        ended = now()
        blocked, self._blocked = self._blocked, deque()
        for part, intended, taken in blocked:
            self._stage.tracks[part].settle(kind, intended, taken, ended, ended)
        at_hand = np.array(self._due[self._sent :]), np.array(self._parts[self._sent :], np.int64)
        never = self._settle(kind, *at_hand, ended, offered=True)
        for times, parts in self._stream if kind != INTERRUPTED else ():
            never += self._settle(kind, times + self._origin, parts, ended, offered=False)
        self._sent, self._more = len(self._due), False
        gevent.killall(list(self._talks), Broken(kind))
        for connection in self.connections:
            connection.expire(kind)
            connection.close()
        self._finished.set()
        return never

    def _settle(self, kind: str, due: schedule.Times, parts: schedule.Parts, ended: float, *, offered: bool) -> int:
        """Arrivals that nobody will take up any more, a block at a time; offered: whether replies are counted so."""
        for part, track in enumerate(self._stage.tracks):
            mine = due[parts == part]
            if self._stage.talks[part] is not None or not offered:
                track.offer_all(mine)
            track.settle_all(kind, mine, ended)
        return len(due)


class ClosedUser(User):  # type: ignore[misc]  # Locust ships no types
    """A Locust user that runs one ClosedFlow."""

    abstract = True
    stage: Stage
    numbers: Callable[[], int]

    @task  # type: ignore[untyped-decorator]
    def drive(self) -> None:
        stage, number = self.stage, type(self).numbers()
        flow = ClosedFlow(stage, number)
        stage.go.wait()
        scenario = stage.order.scenario
        offsets = schedule.stagger(int(stage.order.level), scenario.wait_s)
        flow.run(stage.recorder.origin + float(offsets[number]))
        raise StopUser


class OpenUser(User):  # type: ignore[misc]
    """The one Locust user that sends a whole open schedule."""

    abstract = True
    stage: Stage

    @task  # type: ignore[untyped-decorator]
    def drive(self) -> None:
        flow = OpenFlow(self.stage)
        self.stage.go.wait()
        flow.run(self.stage.recorder.origin)
        raise StopUser


def user_class(stage: Stage) -> type[User]:
    """The Locust user that the order's arrival model needs, bound to its stage."""
    if stage.order.scenario.arrivals == "closed":
        return type("Closed", (ClosedUser,), {"stage": stage, "numbers": iter(stage.order.users).__next__})
    return type("Open", (OpenUser,), {"stage": stage})


def user_count(order: Order) -> int:
    return len(order.users) if order.scenario.arrivals == "closed" else 1
