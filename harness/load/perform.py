"""One Trial in one process. In: an Order (or a share of one) and the Ties to whoever gave it. Out: rows, Progress."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
from gevent.queue import Empty, Queue
from locust import User

from harness.load.client import now
from harness.load.order import Order, Progress
from harness.load.recorder import UNFINISHED, Recorder
from harness.load.stage import Stage
from harness.load.timer import Alarm
from harness.load.users import user_class, user_count

TICK_S = 0.010  # PROOFS T5: the hub accuses itself through a ticker of 10 ms


class Ties(NamedTuple):
    """What differs between the harness's own load process and a worker of a fleet.

    start: starts so many users of a class. end: ends what is left of them. begin: when all users are ready, answers
    the moment at which the first arrival is due. stop: kinds of error; the first one ends the Trial.
    """

    start: Callable[[type[User], int], Any]  # a Locust runner
    end: Callable[[Any], None]
    begin: Callable[[], float]
    say: Callable[[Progress], None]
    write: Callable[[str], object]
    stop: Queue[str]


class Ticker:
    """Every 10 ms: how late the hub woke, a slice folded, some of the overdue calls ended."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._due = now() + TICK_S
        self._lags: list[float] = []
        self.worst_s = 0.0
        self._alarm = Alarm(self._ring)
        self._alarm.set(self._due)

    def _ring(self) -> None:
        moment = now()
        # every tick that should have been by now was as late as it was: a stall of 1 s is a hundred samples
        late_s = moment - self._due
        while self._due <= moment:
            self._lags.append(moment - self._due)
            self._due += TICK_S
        if self._stage.go.is_set():
            self.worst_s = max(self.worst_s, late_s)
            self._stage.recorder.fold()
            self._stage.expire()
            if len(self._lags) >= 20:
                self.flush()
        else:
            self._lags.clear()
        self._alarm.set(self._due)

    def flush(self) -> None:
        self._stage.recorder.lag(self._due - TICK_S * len(self._lags), self._lags)
        self._lags = []

    def close(self) -> None:
        self._alarm.close()


def perform(order: Order, ties: Ties) -> None:
    """One Trial, from the users' spawning to the last outcome."""
    scenario = order.scenario
    recorder = Recorder(now(), closed=scenario.arrivals == "closed", write=ties.write)
    stage = Stage(order, recorder)
    count = user_count(order)
    runner = ties.start(user_class(stage), count)
    while len(stage.flows) < count:  # each user enters its flow when Locust has really started it
        gevent.sleep(0.002)
    ticker = Ticker(stage)
    gc.collect()
    gc.freeze()
    origin = ties.begin()
    late_s = max(now() - origin, 0.0)  # it was held up before it could begin
    stage.begin(origin)
    ties.say(Progress(state="started", origin=recorder.origin))
    not_started = _watch(stage, runner, ties)
    ticker.flush()
    ticker.close()
    loaded_s = min(now() - recorder.origin, scenario.duration_s)
    recorder.close()
    stage.close()
    ties.end(runner)
    gc.unfreeze()
    ties.say(
        Progress(
            state="done",
            errors=dict(recorder.errors),
            started_late=recorder.started_late,
            not_started=not_started,
            loaded_s=loaded_s,
            stalled_s=max(ticker.worst_s, late_s),
        )
    )


def _watch(stage: Stage, runner: Any, ties: Ties) -> int:
    """Reports each second and waits for the end, at most a drain beyond it; answers the arrivals never taken up."""
    recorder = stage.recorder
    deadline = stage.end + stage.order.scenario.drain_s
    second = 0
    while runner.user_count and now() < deadline:
        passed = int(now() - recorder.origin)
        if passed > second:
            second = passed
            rows = recorder.close(before=second - 1)
            ties.say(Progress(state="second", second=second, completed=sum(row.get("finished", 0) for row in rows)))
        with contextlib.suppress(Empty):
            return stage.abandon(ties.stop.get(timeout=0.02))
    return stage.abandon(UNFINISHED)
