"""Ends what a run started if the harness dies. In: lines `+PID` and `-PID` on standard input. Out: nothing left alive.

Run as a script in a session of its own: when the harness ends, however it ends, the kernel closes the pipe, and every
process group still on the list is killed. The rest of this module is the harness's end of that pipe.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path


def birth(pid: int) -> str:
    """When the process began, in clock ticks since boot: tells it from a later one of the same number. '' = gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _serve() -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    watched: dict[int, str] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            watched[pid] = birth(pid)
        else:
            watched.pop(pid, None)
    for pid, born in watched.items():
        if birth(pid) in ("", born):  # a leader that is gone may have left its group behind
            kill_group(pid)


class _Pipe:
    """The one reaper of this process, started with the first process to watch."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def tell(self, line: str) -> None:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
            )
            atexit.register(self.close)
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()


_PIPE = _Pipe()


def watch(pid: int) -> None:
    """Puts the process group led by `pid` on the list."""
    _PIPE.tell(f"+{pid}")


def forget(pid: int) -> None:
    """Takes it off again, once it has been ended in good order."""
    _PIPE.tell(f"-{pid}")


if __name__ == "__main__":
    _serve()
