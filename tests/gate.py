"""The real command as its users start it: where it has got to, how it ended, and what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil
import pytest

CI = "CI" in os.environ  # there nothing that can be installed may be missing: what needs it fails, and is not skipped

ROOT = Path(__file__).resolve().parents[1]
Found = TypeVar("Found")
MARK = "GATEBENCH_TEST"  # in the environment of a command, and so of all that it starts
SCENARIO = """\
question = "Does a tiny question – one that is not ASCII, ü – get its answer?"
repeats = 1
duration_s = {duration_s}
warmup_s = 1
timeout_s = 2.0
arrivals = "constant"
rates = {rates}
mix = [{{ endpoint = "{endpoint}" }}]
"""


def scenario(
    folder: Path, *, name: str = "tiny", duration_s: int = 2, rates: str = "[50]", endpoint: str = "ping"
) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(SCENARIO.format(duration_s=duration_s, rates=rates, endpoint=endpoint), encoding="utf-8")
    return path


@contextlib.contextmanager
def disk_of(size_mb: int, folder: Path) -> Iterator[Path]:
    """A disk of so many MB, in memory; the test is skipped where none can be mounted."""
    disk = folder / "disk"
    disk.mkdir()
    if os.geteuid():
        pytest.skip("mounting a small disk needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def wait_for(find: Callable[[], Found | None], what: str, within_s: float) -> Found:
    """What `find` answers as soon as it is true."""
    deadline = time.monotonic() + within_s
    while not (found := find()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)
    return found


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float  # from the start, or from the last signal

    @property
    def line(self) -> str:
        """The one line that says what was wrong."""
        lines = self.err.splitlines()
        assert "Traceback" not in self.err, self.err
        assert len([line for line in lines if line.startswith("gatebench:")]) == 1, self.err
        return lines[-1]


class Command:
    """A command under way, in a process group of its own, as a shell would start it."""

    def __init__(self, argv: Sequence[str], folder: Path, cwd: Path, env: Mapping[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self.scratch = folder / self.mark[:6]  # its TMPDIR: where the rows of a Trial under way are
        self.scratch.mkdir()
        self._out, self._err = folder / f"out-{self.mark}", folder / f"err-{self.mark}"
        marked = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.scratch), **env, MARK: self.mark}
        self.since = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(argv, cwd=cwd, env=marked, stdout=out, stderr=err, process_group=0)

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def family(self) -> list[psutil.Process]:
        """Everything alive that it started, and itself."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def server(self) -> psutil.Process | None:
        """The leader of the server's group, once it is there."""
        for process in self.family():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if "GATEBENCH_TOKEN" in process.environ() and os.getpgid(process.pid) == process.pid:
                    return process
        return None

    def serving(self) -> psutil.Process:
        return wait_for(self.server, f"a server: {self.err}", 20)

    def loading(self) -> Path:
        """The rows of the Trial under way, as soon as there is one: its first second begins."""

        def rows() -> Path | None:
            assert self.process.poll() is None, self.err
            return next(self.scratch.glob("gatebench-*/rows.jsonl"), None)

        return wait_for(rows, f"a Trial: {self.err}", 40)

    def half_way(self) -> Path:
        rows = self.loading()
        time.sleep(1.5)
        return rows

    def signal(self, signum: int, *, group: bool = False) -> None:
        self.since = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, signum)

    def ended(self, within_s: float = 60) -> Ended:
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"did not end within {within_s} s: {self.err}")
        seconds = time.monotonic() - self.since
        return Ended(code, self._out.read_text(encoding="utf-8"), self.err, seconds)

    def assert_nothing_left(self, within_s: float = 5) -> None:
        wait_for(lambda: not self.family(), f"the end of {self.family()}", within_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                process.kill()


class Gate:
    """Starts commands, each of which ends with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Command] = []

    def start(
        self,
        *arguments: object,
        cwd: Path = ROOT,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **more: str,
    ) -> Command:
        argv = [*prefix, sys.executable, "-m", "harness", *map(str, arguments)]
        return self.start_argv(argv, cwd, env, **more)

    def start_argv(
        self, argv: Sequence[str], cwd: Path = ROOT, env: Mapping[str, str] | None = None, **more: str
    ) -> Command:
        command = Command(argv, self._folder, cwd, {**(env or {}), **more})
        self._started.append(command)
        return command

    def __call__(self, *arguments: object, cwd: Path = ROOT, **env: str) -> Ended:
        command = self.start(*arguments, cwd=cwd, env=env)
        ended = command.ended()
        command.assert_nothing_left()
        return ended

    def close(self) -> None:
        for command in self._started:
            command.close()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    gate = Gate(tmp_path_factory.mktemp("gate"))
    yield gate
    gate.close()
