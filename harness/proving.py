"""The instrument held against known truth. In: a model of harness.truth, a load. Out: a Recording, the server's log.

`serving` starts such a server on its own CPU, `Prover.drive` sends it one Trial, `Freeze` stops it for a while, and
`frozen_responses` computes what a right generator must then report. The self-test, the generator's benchmark and the
proofs are made of these.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harness import facts
from harness.errors import EnvironmentFault
from harness.load.order import Order, Progress
from harness.load.process import Generator
from harness.load.schedule import Times
from harness.measure import omitted
from harness.recording import End, Head, Recording, Row, Sample
from harness.serve.process import spawn, stop
from harness.serve.sampler import Sampler
from harness.trial import Arrivals, Part, Scenario, Subject, Trial
from harness.truth import Entry, read_log

ROW = "ping"  # how the answers of a server of known truth are recorded
HEADERS = ("User-Agent: gatebench", "Accept: */*")  # our own requests' besides Host: a server works for each
START_S = 5.0
HELD_S = 0.05  # in a second; a generator that has its CPU for itself waits less than 0.01
SUBJECT = Subject(name="truth", family="known", interface="none", server="harness.truth", framework="raw")


@dataclass(frozen=True)
class Known:
    """A running server of known truth. log: what it did, once it has been ended."""

    port: int
    process: subprocess.Popen[bytes]
    path: Path | None

    def end(self) -> list[Entry]:
        """Ends it and reads its log."""
        assert self.process.stdin is not None
        assert self.path is not None
        self.process.stdin.close()
        self.process.wait(START_S)
        return read_log(self.path)


@contextlib.contextmanager
def serving(model: str, *numbers: float, log: bool = False) -> Iterator[Known]:
    """A server of this model on the servers' CPU, ended on leaving. Raises EnvironmentFault when it does not start."""
    server_cpus, _ = facts.cpu_sets()
    with tempfile.TemporaryDirectory(prefix="gatebench-") as scratch:
        path = Path(scratch) / "log" if log else None
        argv = [sys.executable, "-m", "harness.truth", model, *map(str, numbers)]
        argv += ["--log", str(path)] if path else []
        process = spawn(argv, server_cpus, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip().isdigit():
                raise EnvironmentFault(f"the server of known truth ({model}) did not start; its words stand above")
            yield Known(int(line), process, path)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            stop(process)


def scenario(arrivals: Arrivals, level: float, duration_s: int, **more: Any) -> Scenario:
    """One endpoint, one level; what the instrument is asked when nothing but itself is in question."""
    levels = {"users": (int(level),)} if arrivals == "closed" else {"rates": (level,)}
    part = Part(endpoint=ROW, wait_s=more.pop("wait_s", 0.0))
    question = "Does the instrument report what the server knows?"
    settings: dict[str, Any] = {"warmup_s": 0, "timeout_s": 5.0} | levels | more
    return Scenario(name="truth", question=question, arrivals=arrivals, mix=(part,), duration_s=duration_s, **settings)


class Prover:
    """One load process, driven Trial by Trial; entered and left like the Generator that it holds."""

    def __init__(self) -> None:
        self.server_cpus, self.generator_cpus = facts.cpu_sets()
        self.generator = Generator(self.generator_cpus)
        self._stalled_s = 0.0

    def __enter__(self) -> Prover:
        self.generator.ensure()
        return self

    def __exit__(self, *_: object) -> None:
        self.generator.close()

    def take_stall(self) -> float:
        """For how long the generator's CPU was not there at all, at most, since the last call; in seconds."""
        stalled_s, self._stalled_s = self._stalled_s, 0.0
        return stalled_s

    def drive(
        self,
        port: int,
        asked: Scenario,
        *,
        seed: int = 1,
        target: str = "/ping",
        server: psutil.Process | None = None,
        started: Callable[[float], object] = lambda _origin: None,
    ) -> Recording:
        """Sends one Trial to this port, all of it to one path. started: told when the first arrival is due."""
        self.generator.ensure()
        trial = Trial(variant="truth", scenario=asked, level=asked.levels[0], repeat=0, seed=seed)
        started_at, before = datetime.now(UTC).isoformat(), facts.kernel_counters()
        with tempfile.TemporaryDirectory(prefix="gatebench-") as scratch:
            path = Path(scratch) / "rows.jsonl"
            order = Order(
                scenario=asked,
                level=trial.level,
                seed=seed,
                host="127.0.0.1",
                port=port,
                targets=(target,) * len(asked.mix),
                expected=("pong",) * len(asked.mix),
                rows=str(path),
            )
            self.generator.send(order)
            last, sampler = self._follow(asked, server, started)
            samples = sampler.close() if sampler else []
            self._stalled_s = max(self._stalled_s, stalled(samples))
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = tuple(Row.model_validate(json.loads(line)["row"]) for line in lines)
        after = facts.kernel_counters()
        end = End(
            outcome="generator_failed" if last.state == "failed" or last.spoilt else "complete",
            reason=last.reason or last.spoilt,
            loaded_s=last.loaded_s,
            errors=last.errors,
            started_late=last.started_late,
            not_started=last.not_started,
            omitted=omitted(trial, rows),
            notes=last.notes,
            kernel={name: after[name] - before[name] for name in after if after[name] > before.get(name, 0)},
        )
        cpus = {"server_cpus": tuple(self.server_cpus), "generator_cpus": tuple(self.generator_cpus)}
        head = Head.model_validate({"trial": trial, "subject": SUBJECT, "facts": {}, "started_at": started_at} | cpus)
        return Recording(head, rows, tuple(samples), end)

    def _follow(
        self, asked: Scenario, server: psutil.Process | None, started: Callable[[float], object]
    ) -> tuple[Progress, Sampler | None]:
        deadline = time.monotonic() + asked.given_up_s
        sampler: Sampler | None = None
        trees = {"generator": lambda: [psutil.Process(self.generator.pid)]}
        trees |= {"server": lambda: [server]} if server is not None else {}
        while time.monotonic() < deadline:
            progress = self.generator.progress(0.2)
            if progress is None:
                continue
            if progress.state == "started":
                sampler = Sampler(trees, self.server_cpus, self.generator_cpus, progress.origin)
                started(progress.origin)
            if progress.state in ("done", "failed"):
                return progress, sampler
        self.generator.close()
        return Progress(state="failed", reason="the load process did not end in time"), sampler


def stalled(samples: Sequence[Sample]) -> float:
    """For how long the generator's CPU was not there at all, at most; seconds in which others held it are no proof."""
    held = {sample.second for sample in samples if sample.who == "generator" and (sample.waited_s or 0.0) > HELD_S}
    return max((sample.stalled_s or 0.0 for sample in samples if sample.second not in held), default=0.0)


class Freeze:
    """Stops a process group for a while, at a moment of the Trial, and notes when it really did."""

    def __init__(self, group: int, after_s: float, for_s: float) -> None:
        self._group, self._after_s, self._for_s = group, after_s, for_s
        self._thread: threading.Thread | None = None
        self.stopped = self.continued = self.origin = 0.0

    def begin(self, origin: float) -> None:
        """To be handed to `Prover.drive` as `started`."""
        self.origin = origin
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        time.sleep(max(self.origin + self._after_s - time.monotonic(), 0))
        os.killpg(self._group, signal.SIGSTOP)
        self.stopped = time.monotonic() - self.origin
        time.sleep(self._for_s)
        self.continued = time.monotonic() - self.origin
        os.killpg(self._group, signal.SIGCONT)

    def join(self) -> Freeze:
        assert self._thread is not None
        self._thread.join()
        return self


def frozen_responses(times: Times, delay_s: float, stopped: float, continued: float) -> Times:
    """What each arrival must feel of a server that answers delay_s after it reads, and was stopped for a while.

    Until `stopped` - delay_s the answer is out before the stop; an arrival read before it whose answer falls into it
    gets that at `continued`; one that comes meanwhile is read at `continued`, and answered delay_s later.
    """
    responses = np.full(len(times), delay_s)
    caught = (times > stopped - delay_s) & (times < stopped)
    responses[caught] = np.maximum(continued - times[caught], delay_s)
    meanwhile = (times >= stopped) & (times < continued)
    responses[meanwhile] = continued - times[meanwhile] + delay_s
    return responses


def quantile(values: Sequence[float] | Times, q: float) -> float:
    """At nearest rank, as our histograms read it."""
    ordered = np.sort(np.asarray(values))
    return float(ordered[min(max(math.ceil(round(q * len(ordered), 6)), 1), len(ordered)) - 1])


def served_s(log: Sequence[Entry]) -> list[float]:
    """How long each answered request was in the server."""
    return [entry.departed - entry.arrived for entry in log if entry.departed]


def wrk_rps(port: int, *, seconds: int = 2, connections: int = 32) -> float | None:
    """What wrk, one thread on the generator's CPU, makes of the same server; None where it is not installed."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return None
    _, cpus = facts.cpu_sets()
    argv = [wrk, "-t1", f"-c{connections}", f"-d{seconds}", *(word for line in HEADERS for word in ("-H", line))]
    argv.append(f"http://127.0.0.1:{port}/ping")
    process = spawn(argv, cpus, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        text = process.communicate(timeout=seconds + 10)[0].decode(errors="replace")
    finally:
        stop(process)
    found = re.search(r"Requests/sec:\s*([0-9.]+)", text)
    return float(found[1]) if found else None
