"""Runs commands as one server. In: commands, each with its readiness. Out: they end together, with the first that ends.

The children stay in this process's group and take nothing that outlives it, but for a scratch folder; when this
process is killed, that one is left for the next to remove.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

GRACE_S = 0.9  # of the second that the harness leaves to a server
PREFIX = "gatebench-server-"

Step = tuple[Sequence[str], Callable[[], bool]]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for this process alone, removed on leaving; that of a process which was killed is removed first."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(PREFIX)).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = base / f"{PREFIX}{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(steps: Iterable[Step]) -> int:
    """Starts each command once the one before is ready; the exit code of the first that failed."""
    children: list[subprocess.Popen[bytes]] = []
    codes: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        for command, ready in steps:
            children.append(subprocess.Popen(command))
            while not ready() and _living(os.WNOHANG):
                time.sleep(0.01)
        _living()
    finally:
        codes += _ended(children)
    return next((code for code in codes if code > 0), 0)


def _leave(*_: object) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # ending has begun: nothing may break it off
    raise SystemExit(0)


def _living(options: int = 0) -> bool:
    """Whether all children live, on WNOHANG; else waits until one does not. Leaves the dead to _ended."""
    return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | options) is None


def _ended(children: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """TERM for all, then KILL for whoever stays; their codes."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + GRACE_S
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
    return [child.wait() for child in children]
