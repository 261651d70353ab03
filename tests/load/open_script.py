"""Run in a process of its own, as importing Locust patches it. In: a port, a rate, a mode. Out: what was recorded.

stall: the hub is held for 0.3 s in mid-run, as by a generator that has no CPU. A kind of end: it comes at half time.
"""

from __future__ import annotations

import locust  # isort: skip  # noqa: F401  # first: it patches the process
import json
import sys
import time
from typing import Any

import gevent

from harness.load.client import now
from harness.load.open_flow import OpenFlow
from harness.load.order import Order
from harness.load.recorder import Recorder
from harness.load.stage import Stage
from harness.trial import Part, Scenario

STALL_AT_S, STALL_S = 0.3, 0.3


def order(port: int, rate: float) -> Order:
    scenario = Scenario(
        name="open",
        question="Does it keep its schedule?",
        arrivals="constant",
        rates=(rate,),
        mix=(Part(endpoint="one", weight=3), Part(endpoint="two")),
        duration_s=1,
        warmup_s=0,
    )
    targets = ("/one", "/two")
    return Order(
        scenario=scenario,
        level=rate,
        seed=1,
        host="127.0.0.1",
        port=port,
        targets=targets,
        expected=(None, None),
        rows="",
    )


def stall() -> None:
    gevent.sleep(STALL_AT_S)
    until = time.monotonic() + STALL_S
    while time.monotonic() < until:
        pass


def counted(rings: list[float]) -> type[OpenFlow]:
    """A flow that notes whenever its alarm rings."""

    class Counted(OpenFlow):
        def _ring(self) -> None:
            rings.append(now())
            super()._ring()

    return Counted


def main() -> dict[str, Any]:
    port, rate, mode = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    lines: list[str] = []
    stage = Stage(order(port, rate), Recorder(now(), closed=False, write=lines.append))
    rings: list[float] = []
    flow = counted(rings)(stage)
    held = len(flow._due)
    gevent.sleep(0.001)  # libev's timers count from when its loop last looked at the clock
    stage.begin(now() + 0.02)
    if mode == "stall":
        gevent.spawn(stall)
    never: list[int] = []
    if mode in ("server died", "interrupted"):
        gevent.spawn_later(0.5, lambda: never.append(stage.abandon(mode)))
    flow.run(stage.recorder.origin)
    stage.recorder.close()
    return {
        "rows": [json.loads(line)["row"] for text in lines for line in text.splitlines()],
        "errors": dict(stage.recorder.errors),
        "started_late": stage.recorder.started_late,
        "never": never,
        "held": [held, len(flow._due)],
        "rings": len(rings),
    }


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
