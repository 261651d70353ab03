"""The harness's end of the load process. In: Orders. Out: Progress as it comes. Imports no Locust."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

from harness.errors import EnvironmentFault
from harness.load.order import STOP, Order, Progress
from harness.serve.process import spawn, stop

START_S = 20.0


class Generator:
    """The load process of one Run; started on entering, ended on leaving, started anew when it has died."""

    def __init__(self, cpus: frozenset[int] | None) -> None:
        self._cpus = cpus
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

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ensure(self) -> None:
        """Starts it unless it runs. Raises EnvironmentFault when it does not come up."""
        if self.alive():
            return
        self.close()
        argv = [sys.executable, "-m", "harness.load"]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self._process = spawn(argv, self._cpus, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        ready = self.progress(START_S)
        if ready is None or ready.state != "ready":
            self.close()
            raise EnvironmentFault("the load process did not start; what it printed stands above")

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
