"""The workers of one Trial as their master knows them. In: what each came to. Out: what all of them did. Pure."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.load import fleet
from harness.load.order import Order, Progress


@dataclass(eq=False)
class Member:
    """A worker as its master knows it. offset_s: its clock - ours; error_s: that may be so far off."""

    id: str
    process: subprocess.Popen[bytes] | None = None  # of this machine, started by us
    same_clock: bool = True
    offset_s: float = 0.0
    error_s: float = 0.0
    share: Order | None = None
    ready: bool = False
    lost: bool = False
    last: Progress | None = None  # how its Trial ended
    pongs: list[tuple[float, float, float]] = field(default_factory=list)

    def ordered(self, share: Order) -> None:
        self.share, self.ready, self.last, self.pongs = share, False, None, []

    @property
    def weight(self) -> float:
        return fleet.weight(self.share) if self.share else 0.0


def merged(crew: Sequence[Member], passed_s: float) -> Progress:
    """The end of a Trial as the whole fleet came to it."""
    ends = [member.last for member in crew if member.last is not None]
    errors: Counter[str] = Counter()
    for end in ends:
        errors.update(end.errors)
    lost = [member.weight for member in crew if member.lost]
    stalled = [
        (member.weight, member.last.stalled_s)
        for member in crew
        if member.last and member.last.stalled_s > fleet.STALL_S
    ]
    return Progress(
        state="done",
        errors=dict(errors),
        started_late=sum(end.started_late for end in ends),
        not_started=sum(end.not_started for end in ends),
        loaded_s=max((end.loaded_s for end in ends), default=max(passed_s, 0.0)),
        stalled_s=max((end.stalled_s for end in ends), default=0.0),
        spoilt=fleet.spoilt(lost, stalled, len(crew)),
        notes=_notes(crew),
    )


def _notes(crew: Sequence[Member]) -> tuple[str, ...]:
    """How the load was made, for the Recording."""
    elsewhere = [member for member in crew if not member.same_clock]
    made = f"the load was made by {len(crew)} workers"
    if elsewhere:
        error_ms = max(member.error_s for member in elsewhere) * 1000
        made += f", {len(elsewhere)} on other machines, whose clocks are known to ± {error_ms:.2f} ms"
    return (made,)
