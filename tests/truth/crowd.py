"""The server of streams and sockets, run beside a test. In: its plan. Out: its port, and its log once it has ended."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness import facts
from harness.serve.process import spawn, stop
from tests.truth.crowd_server import MOMENTS


class Crowd(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> list[float]:
        """Ends it; how long each event, or each echo, was held in the server, in seconds."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(5)
        return [sent - due for due, sent in MOMENTS.iter_unpack(self.log.read_bytes())]


@contextmanager
def crowd(events: int, interval_s: float, mean_s: float = 0.0) -> Iterator[Crowd]:
    server_cpus, _ = facts.cpu_sets()
    with tempfile.TemporaryDirectory(prefix="gatebench-") as scratch:
        log = Path(scratch) / "log"
        script = Path(__file__).with_name("crowd_server.py")
        argv = [sys.executable, str(script), str(events), str(interval_s), str(mean_s), str(log)]
        process = spawn(argv, server_cpus, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            yield Crowd(int(process.stdout.readline()), process, log)
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            stop(process)
