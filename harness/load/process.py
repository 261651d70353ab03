"""The harness's end of the load process. In: Orders. Out: Progress as it comes. Imports no Locust."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from typing import NoReturn

import psutil

from harness.errors import EnvironmentFault, UsageError
from harness.load.order import STOP, Fleet, Order, Progress
from harness.serve.process import ROOT, spawn, stop

START_S = 20.0
JOIN_S = 65.0  # and where workers join from elsewhere: somebody has to start them
TOKEN = "GATEBENCH_WORKER_TOKEN"  # noqa: S105  the name of the variable, not its value
DEFAULT_PORT = 5557  # Locust's own
ALONE = Fleet()


def fleet_of(processes: int, workers: int = 0, bind: str | None = None) -> Fleet:
    """Who makes the load, from the command line's words. Raises UsageError."""
    host, port = address_of(bind or "127.0.0.1", DEFAULT_PORT if workers else 0)
    if bind and not workers:
        raise UsageError("--bind is where load workers join; say with --workers how many will")
    if workers and not os.environ.get(TOKEN):
        raise UsageError(f"--workers needs a secret that both sides share: set {TOKEN} here and where they run")
    return Fleet(processes=processes, workers=workers, bind=host, port=port)


def address_of(text: str, port: int) -> tuple[str, int]:
    """HOST or HOST:PORT. Raises UsageError for what is neither."""
    host, _, number = text.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", host) or not re.fullmatch(r"\d{0,5}", number):
        raise UsageError(f"{text!r:.80}: write it as HOST or HOST:PORT")
    chosen = int(number or port)
    if chosen > 65_535:
        raise UsageError(f"{text!r:.80}: ports end at 65535")
    return host, chosen


def become_worker(master: str, *, as_json: bool) -> NoReturn:
    """This process turns into a load worker. Raises UsageError."""
    host, port = address_of(master, DEFAULT_PORT)
    if not os.environ.get(TOKEN):
        raise UsageError(f"a load worker needs the secret that its master has: set {TOKEN}")
    os.chdir(ROOT)
    options = ["--json"] if as_json else []
    argv = [sys.executable, "-m", "harness.load.worker", *options, f"{host}:{port}"]
    os.execv(sys.executable, argv)  # noqa: S606  no shell is wanted


class Generator:
    """The load process of one Run; started on entering, ended on leaving, started anew when it has died.

    fleet: how many processes make the load; with more than one, this one is their master.
    """

    def __init__(self, cpus: frozenset[int] | None, fleet: Fleet = ALONE) -> None:
        self._cpus = cpus
        self._fleet = fleet
        self._unread = b""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Generator:
        self.ensure()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[psutil.Process]:
        """The load process, and its workers where it has some."""
        try:
            first = psutil.Process(self.pid)
            return [first, *([] if self._fleet.alone else first.children())]
        except psutil.NoSuchProcess:
            return []

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ensure(self) -> None:
        """Starts it unless it runs. Raises EnvironmentFault when it does not come up."""
        if self.alive():
            return
        self.close()
        argv = [sys.executable, "-m", "harness.load"]
        argv += [] if self._fleet.alone else [self._fleet.model_dump_json()]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self._process = spawn(argv, self._cpus, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        ready = self.progress(START_S + self._fleet.processes + (JOIN_S if self._fleet.workers else 0))
        if ready is None or ready.state != "ready":
            self.close()
            lines = ready.reason.splitlines() if ready is not None else []
            if len(lines) == 1:
                raise EnvironmentFault(lines[0])
            raise EnvironmentFault(
                f"the load process did not start: {lines[-1] if lines else 'it said nothing in time'}"
            )

    def send(self, order: Order) -> None:
        self._tell(order.model_dump_json() + "\n")

    def stop(self, kind: str) -> None:
        """Ends the Trial under way; what is left counts as an error of this kind."""
        self._tell(f"{STOP}{kind}\n")

    def progress(self, timeout_s: float) -> Progress | None:
        """The next report, None when none came in time; a `failed` one when the process has died."""
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return None
            data = os.read(self._process.stdout.fileno(), 65_536)
            if not data:
                return Progress(state="failed", reason=f"the load process ended with code {self._process.wait()}")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return Progress.model_validate_json(line)

    def close(self) -> None:
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        stop(self._process)
        self._process, self._unread = None, b""

    def _tell(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it has died: `progress` says so
