"""The load process. In: Orders on standard input. Out: Progress on standard output, rows in the order's file.

It ends with its standard input, so it never outlives the harness. One process serves a whole Run: importing Locust,
which patches everything and so must come first and alone, costs 0.5 s.
"""

from __future__ import annotations

import contextlib
import gc
import os
import traceback
from pathlib import Path

import locust  # isort: skip  # first: it patches the process
import gevent
from gevent.fileobject import FileObject
from gevent.queue import Empty, Queue
from locust.env import Environment

from harness.load.client import now
from harness.load.order import STOP, Order, Progress
from harness.load.recorder import UNFINISHED, Recorder
from harness.load.timer import Alarm
from harness.load.users import Stage, user_class, user_count

TICK_S = 0.010  # PROOFS T5: the hub accuses itself through a ticker of 10 ms
FOLD_TICKS, SWEEP_TICKS = 1, 5


class Ticker:
    """Every 10 ms: how late the hub woke, a slice folded, overdue calls ended."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._due = now() + TICK_S
        self._ticks = 0
        self._lags: list[float] = []
        self._alarm = Alarm(self._ring)
        self._alarm.set(self._due)

    def _ring(self) -> None:
        moment = now()
        # every tick that should have been by now was as late as it was: a stall of 1 s is a hundred samples
        while self._due <= moment:
            self._lags.append(moment - self._due)
            self._due += TICK_S
        self._ticks += 1
        if self._stage.go.is_set():
            self._stage.recorder.fold()
            if self._ticks % SWEEP_TICKS == 0:
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


def say(progress: Progress) -> None:
    """Up the pipe, in one write: short enough never to block the hub."""
    os.write(1, (progress.model_dump_json(exclude_defaults=True) + "\n").encode())


def perform(order: Order, stop: Queue[str]) -> None:
    """One Trial, from the users' spawning to the last outcome."""
    scenario = order.scenario
    with Path(order.rows).open("w", encoding="utf-8") as sink:
        recorder = Recorder(now(), closed=scenario.arrivals == "closed", write=sink.write)
        stage = Stage(order, recorder)
        users = user_class(stage)
        environment = Environment(user_classes=[users], host=f"http://{order.host}:{order.port}")
        runner = environment.create_local_runner()
        count = user_count(order)
        runner.start(count, spawn_rate=count)
        while len(stage.flows) < count:  # each user enters its flow when Locust has really started it
            gevent.sleep(0.002)
        ticker = Ticker(stage)
        gc.collect()
        gc.freeze()
        stage.begin(now() + 0.02)
        say(Progress(state="started", origin=recorder.origin))
        not_started = _watch(stage, runner, stop)
        ticker.flush()
        ticker.close()
        loaded_s = min(now() - recorder.origin, scenario.duration_s)
        recorder.close()
        runner.quit()
        gc.unfreeze()
    say(
        Progress(
            state="done",
            errors=dict(recorder.errors),
            started_late=recorder.started_late,
            not_started=not_started,
            loaded_s=loaded_s,
        )
    )


def _watch(stage: Stage, runner: locust.runners.LocalRunner, stop: Queue[str]) -> int:
    """Reports each second and waits for the end, at most a drain beyond it; answers the arrivals never taken up."""
    scenario, recorder = stage.order.scenario, stage.recorder
    drain_s = min(scenario.timeout_s, 1.0 + 2 * scenario.wait_s)
    second = 0
    while runner.user_count and now() < stage.end + drain_s:
        passed = int(now() - recorder.origin)
        if passed > second:
            second = passed
            rows = recorder.close(before=second - 1)
            say(Progress(state="second", second=second, completed=sum(row.get("finished", 0) for row in rows)))
        with contextlib.suppress(Empty):
            return stage.abandon(stop.get(timeout=0.02))
    return stage.abandon(UNFINISHED)


def main() -> None:
    orders: Queue[Order] = Queue()
    stop: Queue[str] = Queue()

    def listen() -> None:
        for line in FileObject(0, "r", close=False):
            if line.startswith(STOP):
                stop.put(line.removeprefix(STOP).strip())
            else:
                orders.put(Order.model_validate_json(line))
        os._exit(0)  # the harness has gone, or has no more orders

    gevent.spawn(listen)
    say(Progress(state="ready"))
    for order in orders:
        while not stop.empty():  # of a Trial that had just ended by itself
            stop.get()
        try:
            perform(order, stop)
        except Exception:  # said up the pipe: the harness decides
            say(Progress(state="failed", reason=traceback.format_exc()[-3000:]))
            os._exit(1)


if __name__ == "__main__":
    main()
