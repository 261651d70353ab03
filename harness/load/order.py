"""What the harness and its load process say to each other: an Order down, Progress up, one JSON text a line.

Importable without Locust, which patches the whole process that imports it.
"""

from __future__ import annotations

from struct import Struct
from typing import Annotated, Literal

from pydantic import Field

from harness.trial import Data, Scenario

# A traced call, answered: its id; intended, taken, attempted, ended, in s of the monotonic clock; its part of the mix.
SENT = Struct("=Q4dH")
STOP = "stop "  # down, at any time, with a kind of error: end the Trial now; what is left counts as of that kind


class Fleet(Data):
    """Who makes the load. processes: of this machine; workers: how many more join, through bind:port (0 = a free one).

    One process is its own master and needs no network; more are Locust workers of a master that makes no load itself.
    """

    processes: Annotated[int, Field(ge=1, le=256)] = 1
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    bind: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0

    @property
    def alone(self) -> bool:
        return self.processes == 1 and not self.workers


class Order(Data):
    """One Trial for the load process. targets, expected: of each part of the mix, path and query, and right body.

    Worker k of N takes the arrivals k, k + N, … of the one schedule, and the users k, k + N, …
    """

    scenario: Scenario
    level: float
    seed: int
    host: str
    name: Annotated[str, Field(max_length=253)] = ""  # that the host was asked for by: who allows names looks it up
    port: Annotated[int, Field(ge=1, le=65_535)]
    targets: tuple[str, ...]
    expected: tuple[str | None, ...]
    rows: str  # path of the file that takes the rows
    trace: str = ""  # path of the folder that takes traced calls; '' = none is traced
    first_id: Annotated[int, Field(ge=0)] = 0  # of a traced Trial's calls; worker k's begin k · 2**32 later
    worker: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=1)] = 1

    @property
    def share(self) -> slice:
        """Of anything that is numbered through all workers: the numbers of this one."""
        return slice(self.worker, None, self.workers)

    @property
    def connections(self) -> int:
        """This worker's part of the cap on connections."""
        return len(range(self.scenario.connections)[self.share])

    @property
    def users(self) -> range:
        """The numbers of this worker's closed users."""
        return range(int(self.level))[self.share]


class Progress(Data):
    """state: `ready` after start-up, `started` with the first arrival, `second` after each, `done` at the end."""

    state: Literal["ready", "started", "second", "done", "failed"]
    second: int = 0
    completed: int = 0
    errors: dict[str, int] = {}
    started_late: int = 0
    not_started: int = 0
    loaded_s: float = 0.0
    origin: float = 0.0  # when the first arrival is due, on the monotonic clock that all processes share
    reason: str = ""
    refused: bool = False  # failed because the load may not be made as it was asked: the reason says what to change
    stalled_s: float = 0.0  # the longest that the hub of a process of the generator did not wake
    notes: tuple[str, ...] = ()  # for the Recording
    spoilt: str = ""  # why the load was not the one that was asked for, in words: the Trial is VOID
