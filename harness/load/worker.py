"""A load worker: `python -m harness.load.worker [--child] HOST:PORT`. In: its master's address. Out: its share of load.

It serves one master until that dismisses it, or is silent for 5 s. It takes orders only with the shared token
(GATEBENCH_WORKER_TOKEN), and only for targets that its own machine allows. A child ends with its standard input, too.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import sys
import traceback
from typing import Any

import locust  # isort: skip  # first: it patches the process
import gevent
from gevent.fileobject import FileObject
from gevent.queue import Queue
from locust.env import Environment
from locust.rpc import Message

from harness.errors import EnvironmentFault, GatebenchError, UsageError
from harness.load import fleet as words
from harness.load.carrier import MASTER_SILENT_S, WORKER_TAKES, restrict
from harness.load.client import now
from harness.load.fleet import WORD, Ask, Away, Begin, Hello, Ping, Pong, Report, Stop, Up, Welcome
from harness.load.order import Order, Progress
from harness.load.perform import Ties, perform
from harness.load.process import TOKEN
from harness.targets import checked


class Worker:
    """One worker of one master. Raises EnvironmentFault when no master answers."""

    def __init__(self, host: str, port: int, token: str, *, child: bool = False) -> None:
        self._child = child
        self._token = token
        self._environment = Environment(user_classes=[])
        try:
            self._runner = self._environment.create_worker_runner(host, port)
        except (ConnectionError, RecursionError):
            raise EnvironmentFault(f"no master answered at {host}:{port}") from None
        self._asks: Queue[Ask] = Queue()
        self._begins: Queue[Begin] = Queue()
        self._stops: Queue[str] = Queue()
        self._trial = ""
        self.master_loopback = ""
        self.trials = 0
        self.dismissed = False
        self.away = ""
        self._runner.register_message(WORD, self._on_word)
        restrict(self._runner, WORKER_TAKES)
        self._runner.handle_message = self._noticing_the_end(self._runner.handle_message)
        self._tell(Hello(clock=words.clock(), build=words.build(), pid=os.getpid()))

    def serve(self) -> None:
        """Until the master dismisses it or has gone."""
        gevent.spawn(self._work)
        self._runner.greenlet.join()

    def _noticing_the_end(self, handle: Any) -> Any:
        def noticing(msg: Any) -> None:
            self.dismissed |= msg.type == "quit"
            handle(msg)

        return noticing

    def _tell(self, word: Up) -> None:
        name = self._runner.client_id
        self._runner.send_message(WORD, words.sealed(word, name, self._token))

    def _on_word(self, msg: Any, **_: object) -> None:
        match words.opened(msg.data, self._runner.client_id, self._token, words.DOWN):
            case Welcome(loopback=loopback):
                self.master_loopback = loopback
            case Away(reason=reason):
                self.away = reason
                gevent.spawn(self._runner.quit)
            case Ping(number=number):
                self._tell(Pong(number=number, moment=now()))
            case Ask() as ask:
                self._asks.put(ask)
            case Begin() as begin if begin.trial == self._trial:
                self._begins.put(begin)
            case Stop() as stop if stop.trial == self._trial:
                self._stops.put(stop.error)

    def _work(self) -> None:
        for ask in self._asks:
            self._trial, self._begins, self._stops = ask.trial, Queue(), Queue()
            try:
                self._perform(ask)
            except Exception as error:  # told to the master, which tells the harness
                reason = str(error) if isinstance(error, GatebenchError) else traceback.format_exc()[-3000:]
                failed = Progress(state="failed", reason=reason, refused=isinstance(error, UsageError))
                self._tell(Report(trial=ask.trial, progress=failed))

    def _perform(self, ask: Ask) -> None:
        if not self._child:  # our master's harness is this machine's, and has checked the target itself
            self._allow(ask.order)
        unsent: list[str] = []

        def say(progress: Progress) -> None:
            self._tell(Report(trial=ask.trial, progress=progress, rows="".join(unsent)))
            unsent.clear()

        def begin() -> float:
            say(Progress(state="ready"))
            return float(self._begins.get().origin)

        perform(ask.order, Ties(self._start, self._end, begin, say, unsent.append, self._stops))

    def _start(self, users: type[locust.User], count: int) -> Any:
        self._environment.user_classes = [users]
        self._runner.start_worker({users.__name__: count})
        return self._runner

    def _end(self, runner: Any) -> None:
        runner.stop()
        runner.state = runner.worker_state = locust.runners.STATE_INIT
        self.trials += 1

    def _allow(self, order: Order) -> None:
        """Raises UsageError for a target that this machine does not allow, whatever its master's does."""
        host = checked(order.name or order.host, order.port)
        if host != order.host:
            raise UsageError(f"{order.name} is {host} here, and {order.host} where the master is: name an address")
        if ipaddress.ip_address(host).is_loopback and self.master_loopback != words.loopback():
            raise UsageError(f"{host} is a worker's own machine, not its master's: name the target by an address")

    def leave(self, signum: int) -> None:
        """Asked to end by a signal: the master hears of it at once."""
        self._runner.client.send(Message("quit", None, self._runner.client_id))
        gevent.sleep(0.05)  # ZeroMQ sends from a thread of its own, which ends with us
        os._exit(128 + signum)


def _watch_input() -> None:
    while FileObject(0, "rb", close=False).read(4096):
        continue
    os._exit(0)


def main() -> int:
    address = sys.argv[-1]
    host, _, port = address.rpartition(":")
    child = "--child" in sys.argv[1:-1]
    if child:
        gevent.spawn(_watch_input)
    token = os.environ.pop(TOKEN, "")
    worker = Worker(host, int(port), token, child=child)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        gevent.signal_handler(signum, worker.leave, signum)
    worker.serve()
    if worker.away:
        raise UsageError(worker.away)
    if worker.dismissed and not worker.master_loopback:
        raise UsageError(f"the master at {address} does not know us: give both sides the same {TOKEN}")
    if not worker.dismissed:
        raise EnvironmentFault(f"the master at {address} has been silent for {MASTER_SILENT_S} s: ended")
    if not child:
        answer = {"master": address, "trials": worker.trials}
        told = json.dumps(answer) if "--json" in sys.argv[1:-1] else f"served {address}: {worker.trials} trials"
        sys.stdout.write(told + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except GatebenchError as error:
        sys.stderr.write(f"gatebench: {error}\n")
        code = error.exit_code
    sys.stderr.flush()
    os._exit(code)
