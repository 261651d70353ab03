"""What one way of serving is: its budget, command, needs and holes. In: a row. Out: facts about it, on this machine.

VARIANTS, the rows, stand in apps/variants.py.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

BIN = Path(sys.executable).parent  # not resolved: a virtual environment's own folder
INSTALL = "make setup-all"
# Where workers touch a file to prove that they live: in memory, as on a disk that can block.
WORKER_TMP = "/dev/shm" if os.access("/dev/shm", os.W_OK) else os.environ.get("TMPDIR", "/tmp")  # noqa: S108
Family = Literal["wsgi", "gevent", "asgi"]


@dataclass(frozen=True)
class Budget:
    """What a variant may use. What is not the point of a comparison is equal, or shown as a difference."""

    processes: int
    slots: int | None  # calls at a time, over all processes; None: bounded by worker_connections alone
    worker_connections: int | None  # a process; None: unbounded
    loop: str | None  # the event loop; None: threads need none
    keep_alive_s: int | None = 75  # longer than any pause of a client; None: the server closes after each answer
    db_connections: int = 8  # over all processes
    backlog: int = 2048
    access_log: bool = False

    @property
    def threads(self) -> int:
        """The threads of each process."""
        return 1 if self.slots is None else self.slots // self.processes

    def __post_init__(self) -> None:
        if self.db_connections < self.processes:
            raise ValueError(f"{self.db_connections} database connections are too few for {self.processes} processes")

    @property
    def db_connections_per_process(self) -> int:
        return self.db_connections // self.processes

    def with_processes(self, processes: int, **change: Any) -> Budget:
        """The same with so many processes, and no fewer database connections: the next number that they can share."""
        return replace(self, processes=processes, db_connections=self.db_connections_for(processes), **change)

    def db_connections_for(self, sharers: int) -> int:
        """The least number, from its own on, that so many can share evenly."""
        return sharers * math.ceil(self.db_connections / sharers)


@dataclass(frozen=True)
class Variant:
    """One way of serving: interface, server, framework and concurrency model, with its budget."""

    name: str
    family: Family
    interface: str
    server: str
    framework: str
    model: str
    command_line: str  # with the budget's fields in braces
    budget: Budget
    holes: Mapping[str, str] = field(default_factory=dict, hash=False)  # endpoint -> why this variant cannot serve it
    needs: tuple[str, ...] = ()  # modules that Python can import, or programs, beyond what `make setup` installs

    def command(self, port: int, host: str = "127.0.0.1") -> list[str]:
        """The server's real command; its program is the one installed beside this Python, or else on PATH."""
        numbers = asdict(self.budget) | {
            "threads": self.budget.threads,
            "host": host,
            "port": port,
            "tmp": WORKER_TMP,
            "prefix": sys.prefix,
        }
        program, *arguments = (word.format_map(numbers) for word in self.command_line.split())
        return [found(program) or str(BIN / program), *arguments]

    @property
    def missing(self) -> tuple[str, ...]:
        """What it needs and this machine has not."""
        return tuple(name for name in self.needs if found(name) is None and find_spec(name) is None)

    def holes_among(self, endpoints: Iterable[str]) -> Mapping[str, str]:
        """What it cannot serve on this machine, and why: all of them, where something is missing."""
        if self.missing:
            return dict.fromkeys(endpoints, f"{' and '.join(self.missing)} not installed: {INSTALL}")
        return self.holes


def found(program: str) -> str | None:
    """Its path: beside this Python, on PATH, or where Debian puts servers."""
    return shutil.which(program, path=os.pathsep.join((str(BIN), os.environ.get("PATH", ""), "/usr/sbin")))
