"""The master of load workers. In: an Order. Out: its shares to the workers; their rows in one file, Progress.

Locust's own master and workers carry the messages, beat the hearts and run the users. Whose each user and arrival is
we decide: Locust would spread users as it likes, and give a lost worker's to the survivors in silence. The master makes
no load. A worker that is lost or was stalled spoils the Trial, and the master says how much of the load that was.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import gevent
from gevent.queue import Empty, Queue
from locust.env import Environment
from locust.rpc import Message
from pydantic import ValidationError

from harness.errors import EnvironmentFault, UsageError
from harness.load import fleet as words
from harness.load.carrier import MASTER_TAKES, harden, restrict
from harness.load.client import now
from harness.load.crew import Member, merged
from harness.load.fleet import LOST, WORD, Ask, Away, Begin, Down, Hello, Ping, Pong, Report, Stop
from harness.load.order import Fleet, Order, Progress
from harness.load.process import TOKEN

LOCAL_S, JOIN_S = 15.0, 60.0  # how long workers of this machine, and others, may take to join
PREPARE_S = 15.0  # 20 000 users are spawned in less
LEAD_S = 0.05  # from the last word that all are ready to the first arrival; and some round trips more
LAST_WORDS_S = 1.5  # how long a worker may take to say how its Trial ended
POLL_S = 0.02
PINGS = 20


class Master:
    """Keeps a Fleet together for a whole Run. say: takes the Progress for the harness."""

    def __init__(self, fleet: Fleet, say: Callable[[Progress], None]) -> None:
        self._fleet, self._say = fleet, say
        self._token = os.environ.get(TOKEN) or secrets.token_hex(16)
        self._members: dict[str, Member] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self._cpus = sorted(os.sched_getaffinity(0))
        self._trial = ""
        self._sink: IO[str] | None = None
        self._completed = 0
        self._failure = ""
        self._refused = False  # the failure is the user's to mend
        self._sent = 0.0
        try:
            self._runner = Environment(user_classes=[]).create_master_runner(fleet.bind, fleet.port)
        except (SystemExit, Exception) as error:
            raise EnvironmentFault(f"cannot listen for load workers on {fleet.bind}:{fleet.port}: {error}") from None
        self.port: int = self._runner.server.port
        restrict(self._runner, MASTER_TAKES)
        harden(self._runner.server)
        self._runner.register_message(WORD, self._on_word)
        gevent.signal_handler(signal.SIGTERM, self._terminated)

    # -- who is there ------------------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Starts what workers are missing and waits for all. Raises EnvironmentFault when they do not come."""
        for member in [member for member in self._members.values() if self._lost(member)]:
            self._send_away(member.id)
            del self._members[member.id]
        ours = {member.process for member in self._members.values()}
        for child in [child for child in self._children if child not in ours]:
            _kill(child)
            self._children.remove(child)
        while len(self._children) < self._fleet.processes:
            self._children.append(self._started(len(self._children)))
        wanted = self._fleet.processes + self._fleet.workers
        elsewhere = self._fleet.workers - sum(member.process is None for member in self._members.values())
        if elsewhere > 0:
            where = f"{self._fleet.bind}:{self.port}"
            sys.stderr.write(f"waiting for {elsewhere} more: gatebench load-worker --master {where}\n")
        within_s = self._fleet.processes + (JOIN_S if elsewhere > 0 else LOCAL_S)
        self._until(lambda: len(self._members) >= wanted or any(child.poll() for child in self._children), within_s)
        if len(self._members) < wanted:
            why = f": {self._failure}" if self._failure else ""
            raise EnvironmentFault(f"only {len(self._members)} of {wanted} load workers joined{why}")

    def _started(self, number: int) -> subprocess.Popen[bytes]:
        """A worker of this machine. It is in our process group, so whoever ends us ends it; and ends with our pipe."""
        host = "127.0.0.1" if self._fleet.bind == "0.0.0.0" else self._fleet.bind
        argv = [sys.executable, "-m", "harness.load.worker", "--child", f"{host}:{self.port}"]
        environment = os.environ | {TOKEN: self._token}
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
        if len(self._cpus) > 1:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(child.pid, {self._cpus[number % len(self._cpus)]})
        return child

    def _is_gone(self, member: Member) -> bool:
        """Dead, for a process of ours at once; silent for some seconds, as Locust's heartbeats tell."""
        if member.process is not None and member.process.poll() is not None:
            return True
        node = self._runner.clients.get(member.id)
        return node is None or node.state == "missing"

    def dismiss(self) -> None:
        """Tells all workers that there is no more to do."""
        for name in tuple(self._runner.clients):
            self._send_away(name)
        gevent.sleep(0.05)  # ZeroMQ sends from a thread of its own, which ends with us

    def _send_away(self, name: str) -> None:
        self._runner.server.send_to_client(Message("quit", None, name))

    def _terminated(self) -> None:
        self.dismiss()
        os._exit(128 + signal.SIGTERM)

    # -- messages ----------------------------------------------------------------------------------------------------

    def _tell(self, member: Member, word: Down) -> None:
        self._runner.send_message(WORD, words.sealed(word, member.id, self._token), member.id)

    def _on_word(self, msg: Any, **_: object) -> None:
        word = words.opened(msg.data, msg.node_id, self._token, words.UP)
        member = self._members.get(msg.node_id)
        match word:
            case None if member is None:  # with another token: it is not ours
                self._send_away(msg.node_id)
            case Hello() if member is None:
                self._joined(msg.node_id, word)
            case Pong() if member is not None:
                member.pongs.append((self._sent, word.moment, now()))
            case Report() if member is not None and word.trial == self._trial and not member.lost:
                self._reported(member, word)

    def _joined(self, name: str, hello: Hello) -> None:
        child = next((child for child in self._children if child.pid == hello.pid), None)
        member = Member(name, child, same_clock=hello.clock == words.clock())
        refusal = ""
        if hello.build != words.build():
            refusal = f"this worker is {hello.build}, its master {words.build()}: their schedules might differ"
        elif child is None and sum(one.process is None for one in self._members.values()) >= self._fleet.workers:
            refusal = f"the master expects {self._fleet.workers} workers from elsewhere, and has them"
        if refusal:
            self._failure = refusal
            self._tell(member, Away(reason=refusal))
            return
        self._members[name] = member
        self._tell(member, words.Welcome(loopback=words.loopback()))

    def _reported(self, member: Member, report: Report) -> None:
        if self._sink is not None and report.rows:
            try:
                self._sink.write(words.checked_rows(report.rows))
            except ValidationError:
                member.lost = True  # what it says can't be used
                return
        self._completed += report.progress.completed
        match report.progress.state:
            case "ready":
                member.ready = True
            case "done":
                member.last = report.progress
            case "failed":
                member.last, self._failure = report.progress, report.progress.reason
                self._refused = report.progress.refused

    # -- a Trial -----------------------------------------------------------------------------------------------------

    def perform(self, order: Order, stop: Queue[str]) -> None:
        """One Trial by all workers; in the end one Progress with all that they came to."""
        self.gather()
        crew = self._ordered(order)
        with Path(order.rows).open("w", encoding="utf-8") as self._sink:
            self._until(lambda: all(member.ready or self._lost(member) or self._failure for member in crew), PREPARE_S)
            self._give_up_on(member for member in crew if not member.ready)
            self._raise_failure()
            origin = self._begin(crew)
            self._watch(crew, order, origin, stop)
            self._trial = ""
        self._raise_failure()
        self._say(merged(crew, now() - origin))

    def _ordered(self, order: Order) -> list[Member]:
        shares = words.shares(order, len(self._members))
        # our own first: their order does not change from one Trial to the next
        ranked = sorted(self._members.values(), key=lambda member: (member.process is None, member.id))
        self._trial, self._completed, self._failure, self._refused = secrets.token_hex(8), 0, "", False
        crew = ranked[: len(shares)]
        for member, share in zip(crew, shares, strict=True):
            member.ordered(share)
            self._tell(member, Ask(trial=self._trial, order=share.model_copy(update={"rows": ""})))
        return crew

    def _begin(self, crew: Sequence[Member]) -> float:
        """Agrees on one moment with all. On this machine the clock is shared; elsewhere its offset is measured."""
        for member in crew:
            if not member.same_clock and not member.lost:
                self._measure_clock(member)
        origin = now() + LEAD_S + 4 * max(member.error_s for member in crew)
        for member in crew:
            self._tell(member, Begin(trial=self._trial, origin=origin + member.offset_s))
        self._say(Progress(state="started", origin=origin))
        return origin

    def _measure_clock(self, member: Member) -> None:
        for number in range(PINGS):
            self._sent = now()
            self._tell(member, Ping(number=number))
            if not self._until(lambda number=number: len(member.pongs) > number, 2.0):  # type: ignore[misc]
                break
        if member.pongs:
            member.offset_s, member.error_s = words.clock_offset(member.pongs)
        else:
            member.lost = True

    def _watch(self, crew: Sequence[Member], order: Order, origin: float, stop: Queue[str]) -> None:
        """Until each has said how it ended, or is lost. What is asked to stop has a short while for that."""
        deadline = origin + order.scenario.duration_s + order.scenario.drain_s + LAST_WORDS_S
        second, stopped = 0, False
        while now() < deadline and not all(member.last or self._lost(member) for member in crew) and not self._failure:
            error = LOST if any(member.lost for member in crew) and not stopped else ""
            with contextlib.suppress(Empty):
                error = stop.get(timeout=POLL_S)
            if error:
                stopped, deadline = True, min(deadline, now() + LAST_WORDS_S)
                for member in crew:
                    self._tell(member, Stop(trial=self._trial, error=error))
            if int(now() - origin) > second:
                second, done, self._completed = int(now() - origin), self._completed, 0
                self._say(Progress(state="second", second=second, completed=done))
        self._give_up_on(member for member in crew if member.last is None)

    def _lost(self, member: Member) -> bool:
        member.lost = member.lost or self._is_gone(member)
        return member.lost

    def _give_up_on(self, members: Any) -> None:
        for member in members:
            member.lost = True

    def _raise_failure(self) -> None:
        if self._failure:
            raise (UsageError if self._refused else EnvironmentFault)(f"a load worker: {self._failure}")

    def _until(self, reached: Callable[[], object], within_s: float) -> bool:
        deadline = now() + within_s
        while not reached():
            if now() > deadline:
                return False
            gevent.sleep(0.002)
        return True


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Ends a worker of ours that may be stopped, or dead."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    child.kill()
    child.wait()
