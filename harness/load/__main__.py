"""The load process. In: Orders on standard input. Out: Progress on standard output, rows in the order's file.

It ends with its standard input, so it never outlives the harness. One process serves a whole Run: importing Locust,
which patches everything and so must come first and alone, costs 0.5 s. Given a Fleet as its one argument, it makes no
load itself: it is the master of load workers, and the harness sees no difference.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import locust  # isort: skip  # first: it patches the process
import gevent
from gevent.fileobject import FileObject
from gevent.queue import Queue
from locust.env import Environment

from harness.errors import GatebenchError, UsageError
from harness.load.client import now
from harness.load.master import Master
from harness.load.order import STOP, Fleet, Order, Progress
from harness.load.perform import Ties, perform

LEAD_S = 0.02  # from the users' readiness to the first arrival


def say(progress: Progress) -> None:
    """Up the pipe, in one write: short enough never to block the hub."""
    os.write(1, (progress.model_dump_json(exclude_defaults=True) + "\n").encode())


def perform_alone(order: Order, stop: Queue[str]) -> None:
    """One Trial by this process itself."""

    def start(users: type[locust.User], count: int) -> Any:
        environment = Environment(user_classes=[users], host=f"http://{order.host}:{order.port}")
        runner = environment.create_local_runner()
        runner.start(count, spawn_rate=count)
        return runner

    # a line at a time: each second is on disk once it has closed, and all of them before "done" is said
    with Path(order.rows).open("w", encoding="utf-8", buffering=1) as sink:
        perform(order, Ties(start, lambda runner: runner.quit(), lambda: now() + LEAD_S, say, sink.write, stop))


def main() -> None:
    orders: Queue[Order] = Queue()
    stop: Queue[str] = Queue()
    master: Master | None = None

    def listen() -> None:
        for line in FileObject(0, "r", close=False):
            if line.startswith(STOP):
                stop.put(line.removeprefix(STOP).strip())
            else:
                orders.put(Order.model_validate_json(line))
        _end(master, 0)  # the harness has gone, or has no more orders

    gevent.spawn(listen)
    try:
        if len(sys.argv) > 1:
            master = Master(Fleet.model_validate_json(sys.argv[1]), say)
            master.gather()
        say(Progress(state="ready"))
        for order in orders:
            while not stop.empty():  # of a Trial that had just ended by itself
                stop.get()
            master.perform(order, stop) if master else perform_alone(order, stop)
    except GatebenchError as error:
        say(Progress(state="failed", reason=str(error), refused=isinstance(error, UsageError)))
        _end(master, 1)
    except Exception:  # said up the pipe: the harness decides
        say(Progress(state="failed", reason=traceback.format_exc()[-3000:]))
        _end(master, 1)


def _end(master: Master | None, code: int) -> None:
    if master is not None:
        master.dismiss()
    os._exit(code)


if __name__ == "__main__":
    main()
