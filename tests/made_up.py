"""Recordings made up for tests. In: what each second saw. Out: Recordings as a Run has them, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.histogram import Histogram
from harness.recording import End, Head, Recording, Row, packed
from harness.trial import Part, Scenario, Subject, Trial

FACTS = {"cpu": "one of tests", "kernel": "6.1", "source": "abc", "versions": {"uvicorn": "0.54"}}


def recording(
    rates: Sequence[int],
    *,
    us: Sequence[int] | int = 10_000,
    variant: str = "asgi",
    repeat: int = 0,
    arrivals: str = "closed",
    level: float = 16,
    facts: Mapping[str, Any] = FACTS,
    endpoint: str = "sleep",
    warmup_s: int = 1,
    lens: str = "equal-cpu",
    outcome: Any = "complete",
    attempt: int = 0,
    **scenario: Any,
) -> Recording:
    """rates: completions in each second, the warm-up's included; us: how long each took, one number a second or all."""
    closed = arrivals == "closed"
    asked = Scenario(
        name="s",
        question="How many a second?",
        arrivals=arrivals,
        mix=(Part(endpoint=endpoint),),
        users=(int(level),) if closed else (),
        rates=() if closed else (level,),
        duration_s=len(rates),
        warmup_s=warmup_s,
        **scenario,
    )
    each = [us] * len(rates) if isinstance(us, int) else us
    rows = tuple(
        Row.model_validate(
            {"second": second, "row": endpoint, "offered": n, "completed": n, "finished": n}
            | {"hist": {kind: packed(Histogram.of(np.full(n, time))) for kind in ("response", "service")}}
        )
        for second, (n, time) in enumerate(zip(rates, each, strict=True))
    )
    trial = Trial(variant=variant, scenario=asked, level=level, repeat=repeat, seed=repeat, lens=lens)
    subject = Subject(name=variant, family="asgi", interface="ASGI", server="uvicorn", framework="raw")
    head = Head(
        trial=trial, subject=subject, facts=facts, started_at=f"{repeat:03}", server_cpus=(0,), generator_cpus=(1,),
        attempt=attempt,
    )  # fmt: skip
    return Recording(head, rows, (), End(outcome=outcome, reason="it died" * (outcome != "complete")))


def blocks(speeds: Mapping[str, Sequence[float]], **options: Any) -> list[Recording]:
    """A Run: variant → its throughput in each block; its calls take 16 users ÷ that."""
    return [
        recording([round(speed)] * 3, us=round(16e6 / speed), variant=variant, repeat=repeat, **options)
        for variant, each in speeds.items()
        for repeat, speed in enumerate(each)
    ]
