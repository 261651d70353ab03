"""An open flow whose server is overloaded, in simulated time. In: nothing. Out: what was recorded, and the memory held.

20 000/s for a minute over 25 connections, each of which answers every 5 ms: 5 000/s. Clock, alarm and connections are
played; the schedule, the flow, its line, the sweeps and the recorder are the real ones. A process of its own, so that
gevent's hub stays out of the tests' process.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import psutil

from harness.histogram import Histogram
from harness.load import open_flow, stage
from harness.load.call import Call
from harness.load.order import Order
from harness.load.recorder import Recorder
from harness.recording import Row
from harness.trial import Part, Scenario

RATE, SECONDS, CONNECTIONS, TIMEOUT_S, STEP_S = 20_000, 60, 25, 5.0, 0.005
KINDS = ("response", "service", "lateness", "blocked")


class Clock:
    now = 0.0


class PlayedAlarm:
    """Rings when the loop below says so."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.at: float | None = None

    def set(self, moment: float) -> None:
        self.at = moment

    def clear(self) -> None:
        self.at = None

    def close(self) -> None:
        self.at = None


class PlayedConnection:
    """Answers at the next step of the clock."""

    def __init__(self, _address: Any, done: Callable[[Any, str], None]) -> None:
        self._done = done
        self.busy = False
        self.intended = self.taken = self.attempted = self.ended = 0.0
        self.part = 0

    def begin(self, _call: Call, intended: float, taken: float, attempted: float) -> None:
        assert not self.busy
        self.busy = True
        self.intended, self.taken, self.attempted = intended, taken, attempted

    def expire(self, kind: str) -> None:
        if self.busy:
            self.answer(kind)

    def answer(self, kind: str = "") -> None:
        self.busy, self.ended = False, Clock.now
        self._done(self, kind)

    def close(self) -> None:
        pass


def order() -> Order:
    scenario = Scenario(
        name="overload",
        question="What becomes of those who wait?",
        arrivals="constant",
        rates=(RATE,),
        mix=(Part(endpoint="one"), Part(endpoint="two")),
        duration_s=SECONDS,
        warmup_s=0,
        timeout_s=TIMEOUT_S,
        connections=CONNECTIONS,
    )
    targets, expected = ("/one", "/two"), (None, None)
    return Order(
        scenario=scenario, level=RATE, seed=1, host="127.0.0.1", port=9, targets=targets, expected=expected, rows=""
    )


def played(flow: open_flow.OpenFlow, on: stage.Stage) -> tuple[int, float]:
    """The minute, in steps of 5 ms; answers the most that waited at once, and by how many MB memory has grown."""
    process, longest = psutil.Process(), 0
    before = most = process.memory_info().rss
    for step in range(1, round(SECONDS / STEP_S) + 1):
        Clock.now = on.recorder.origin + step * STEP_S - 1e-9
        alarm = cast("PlayedAlarm", flow._alarm)
        while alarm.at is not None and alarm.at <= Clock.now:
            flow._ring()
        for connection in cast("list[PlayedConnection]", on.connections):
            if connection.busy and connection.attempted < Clock.now:
                connection.answer()
        on.expire()
        on.recorder.fold()
        longest = max(longest, sum(len(block) for block in flow._line._blocks) // 3)
        if step % round(1 / STEP_S) == 0:
            on.recorder.close(before=step * STEP_S - 1)
            most = max(most, process.memory_info().rss)
    return longest, (most - before) / (1 << 20)


def main() -> dict[str, Any]:
    played_ones = {"now": lambda: Clock.now, "Alarm": PlayedAlarm, "Connection": PlayedConnection}
    vars(open_flow).update(played_ones)
    vars(stage).update(now=played_ones["now"], Connection=PlayedConnection)
    counts: Counter[str] = Counter()
    kept: dict[str, list[Histogram]] = {kind: [] for kind in KINDS}

    def write(text: str) -> None:
        """To disk, in the load process; here into sums."""
        for line in text.splitlines():
            row = Row.model_validate(json.loads(line)["row"])
            for name in ("offered", "completed", "failed", "timed_out", "unfinished", "finished"):
                counts[name] += getattr(row, name)
            for kind in KINDS:
                if (histogram := row.histogram(kind)) is not None:  # type: ignore[arg-type]
                    kept[kind] = [Histogram.merged([*kept[kind], histogram])]

    on = stage.Stage(order(), Recorder(0.0, closed=False, write=write))
    flow = open_flow.OpenFlow(on)
    on.begin(100.0)
    Clock.now = flow._origin = 100.0
    flow._refill()
    flow._alarm.set(flow._due[0])
    longest, grown_mb = played(flow, on)
    under_way = sum(connection.busy for connection in on.connections)
    never = on.abandon()
    on.recorder.close()
    whole = {kind: Histogram.merged(parts) for kind, parts in kept.items()}
    return {
        "counts": dict(counts),
        "errors": dict(on.recorder.errors),
        "never": never,
        "under_way": under_way,
        "longest": longest,
        "grown_mb": grown_mb,
        "p50_us": {kind: histogram.quantile_us(0.5) for kind, histogram in whole.items()},
        "n": {kind: histogram.n for kind, histogram in whole.items()},
    }


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
