"""What a master and its load workers say to each other. In: an Order, a token. Out: its shares; signed messages.

Pure, and without Locust, which only carries the text. A message is JSON with a schema, signed (HMAC-SHA256) with the
token that both sides were given, for the one worker that it goes to or comes from: whoever does not know the token can
neither give an order nor join. It is not encrypted.
"""

from __future__ import annotations

import hmac
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from harness import __version__
from harness.load.order import Order, Progress
from harness.recording import Row
from harness.trial import Data

WORD = "gatebench"  # the type of our messages among Locust's own
MOST_BYTES = 32 << 20
STALL_S = 0.25  # a hub that slept for longer did not send its share on time
LOST = "load worker lost"  # the kind of error of what the others still had under way

Trial = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


# -- from worker to master -------------------------------------------------------------------------------------------


class Hello(Data):
    """clock: two processes that name the same one share it. build: must be equal, or schedules might differ."""

    kind: Literal["hello"] = "hello"
    clock: Annotated[str, Field(max_length=200)]
    build: Annotated[str, Field(max_length=200)]
    pid: int


class Report(Data):
    """`ready` before the beginning, then as a load process reports to the harness. rows: the lines for the file."""

    kind: Literal["report"] = "report"
    trial: Trial
    progress: Progress
    rows: Annotated[str, Field(max_length=MOST_BYTES)] = ""


class Pong(Data):
    """The worker's monotonic clock as it read the Ping of this number."""

    kind: Literal["pong"] = "pong"
    number: int
    moment: float


# -- from master to worker -------------------------------------------------------------------------------------------


class Welcome(Data):
    """loopback: the master's; where the worker's is another, a loopback address is no target."""

    kind: Literal["welcome"] = "welcome"
    loopback: Annotated[str, Field(max_length=200)]


class Away(Data):
    """This worker can't be used."""

    kind: Literal["away"] = "away"
    reason: Annotated[str, Field(max_length=1000)]


class Ask(Data):
    kind: Literal["ask"] = "ask"
    trial: Trial
    order: Order


class Ping(Data):
    kind: Literal["ping"] = "ping"
    number: int


class Begin(Data):
    """origin: when the first arrival is due, on the worker's own clock."""

    kind: Literal["begin"] = "begin"
    trial: Trial
    origin: float


class Stop(Data):
    kind: Literal["stop"] = "stop"
    trial: Trial
    error: Annotated[str, Field(max_length=200)]


T = TypeVar("T")
Up = Hello | Report | Pong
Down = Welcome | Away | Ask | Ping | Begin | Stop
UP: TypeAdapter[Up] = TypeAdapter(Annotated[Up, Field(discriminator="kind")])
DOWN: TypeAdapter[Down] = TypeAdapter(Annotated[Down, Field(discriminator="kind")])


def sealed(message: Data, worker: str, token: str) -> dict[str, str]:
    """What Locust carries. worker: the id of the worker that it is for, or from."""
    text = message.model_dump_json()
    return {"text": text, "seal": _seal(text, worker, token)}


def opened(carried: Any, worker: str, token: str, kinds: TypeAdapter[T]) -> T | None:
    """The message, None when it is not signed with our token, or is none of these."""
    match carried:
        case {"text": str(text), "seal": str(seal)} if len(text) <= 2 * MOST_BYTES:
            if not hmac.compare_digest(seal.encode(), _seal(text, worker, token).encode()):
                return None
        case _:
            return None
    try:
        return kinds.validate_json(text)
    except ValidationError:
        return None


def _seal(text: str, worker: str, token: str) -> str:
    return hmac.new(token.encode(), f"{worker}\n{text}".encode(), "sha256").hexdigest()


# -- shares, clocks, rows --------------------------------------------------------------------------------------------


def shares(order: Order, workers: int) -> list[Order]:
    """The order, split; fewer shares than workers where there are fewer users or connections to give."""
    most = int(order.level) if order.scenario.arrivals == "closed" else order.scenario.connections
    n = max(min(workers, most), 1)
    return [order.model_copy(update={"worker": k, "workers": n}) for k in range(n)]


def weight(share: Order) -> float:
    """Which part of the load a share is."""
    return len(share.users) / int(share.level) if share.scenario.arrivals == "closed" else 1 / share.workers


def clock_offset(exchanges: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """(sent, the other's clock, received) of some exchanges → the other's clock − ours, and its greatest error.

    The fastest exchange tells most: the other clock was read somewhere inside it, so half of it is the error
    (Cristian, Probabilistic clock synchronization, 1989).
    """
    sent, theirs, received = min(exchanges, key=lambda exchange: exchange[2] - exchange[0])
    return theirs - (sent + received) / 2, (received - sent) / 2


def checked_rows(text: str) -> str:
    """The lines of a worker for the Recording, each a Row and nothing else. Raises ValidationError."""
    for line in text.splitlines():
        _LINE.validate_json(line)
    return text


class _Line(Data):
    row: Row


_LINE = TypeAdapter(_Line)


def spoilt(lost: Sequence[float], stalled: Sequence[tuple[float, float]], workers: int) -> str:
    """What became of the load, in words; '' when all of it was sent. lost: shares; stalled: (share, seconds)."""
    words = []
    if lost:
        words.append(f"{_of(len(lost), workers)} {_was(len(lost))} lost: {sum(lost) * 100:.0f} % of the load")
    if stalled:
        longest = max(seconds for _, seconds in stalled)
        part = sum(share for share, _ in stalled)
        late = f"{part * 100:.0f} % of the load came late"
        words.append(f"{_of(len(stalled), workers)} stalled for {longest:.2f} s: {late}")
    return "; ".join(words)


def _of(count: int, workers: int) -> str:
    plural = "s" if workers != 1 else ""
    return f"{count} of {workers} load worker{plural}"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def clock() -> str:
    """Names the monotonic clock: of this start of this machine's kernel, and of the time namespace."""
    return _named("time")


def loopback() -> str:
    """Names the network whose loopback addresses are ours: a container has its own."""
    return _named("net")


def _named(space: str) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    link = Path(f"/proc/self/ns/{space}")
    return f"{boot} {link.readlink() if link.is_symlink() else ''}"  # kernels before 5.6 have one time only


def build() -> str:
    """What must be the same on all sides for one seed to give one schedule."""
    return f"gatebench {__version__}, Python {platform.python_version()}, numpy {np.__version__}"
