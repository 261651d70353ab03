"""What the harness and its load process say to each other: an Order down, Progress up, one JSON text a line.

Importable without Locust, which patches the whole process that imports it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.trial import Data, Scenario

STOP = "stop "  # down, at any time, with a kind of error: end the Trial now; what is left counts as of that kind


class Order(Data):
    """One Trial for the load process. targets, expected: of each part of the mix, path and query, and right body."""

    scenario: Scenario
    level: float
    seed: int
    host: str
    port: Annotated[int, Field(ge=1, le=65_535)]
    targets: tuple[str, ...]
    expected: tuple[str | None, ...]
    rows: str  # path of the file that takes the rows


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
