"""A server that is only computed. In: a Trial. Out: the Recording that a perfect generator would have made of it.

First come, first served by so many slots, each call for the same time, on a CPU that costs something a call.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.errors import Interrupted, ServerFailed
from harness.histogram import Histogram
from harness.load.schedule import Times, draw
from harness.recording import End, Head, Recording, Row, Sample, packed
from harness.trial import Subject, Trial


def lined_up(times: Times, slots: int, service_s: float) -> Times:
    """When each call ends, where calls wait for a slot in the order of their arrival."""
    free = [0.0] * slots
    ends = np.empty(len(times))
    for i, arrival in enumerate(times.tolist()):
        ends[i] = max(heapq.heappop(free), arrival) + service_s
        heapq.heappush(free, float(ends[i]))
    return ends


def recording_of(
    trial: Trial,
    ends_of: Callable[[Times], Times],
    *,
    slots: int | None = None,
    cpu_s: float = 0.001,
    base_mb: float = 40.0,
    slot_mb: float = 0.5,
    lost: Callable[[int], bool] = lambda _number: False,
    notes: Sequence[str] = (),
) -> Recording:
    """The Recording of a Trial whose calls end as told; those beyond the drain are unfinished. lost: fails at once."""
    scenario = trial.scenario
    times = draw(scenario.arrivals, trial.level, scenario.duration_s, trial.seed, scenario.shape)
    ends = ends_of(times)
    failed = np.array([lost(i) for i in range(len(times))], dtype=bool)
    given_up = np.minimum(times + scenario.timeout_s, scenario.duration_s + scenario.drain_s)
    timed_out = ~failed & (ends > times + scenario.timeout_s)
    unfinished = ~failed & ~timed_out & (ends > scenario.duration_s + scenario.drain_s)
    good = ~failed & ~timed_out & ~unfinished
    response_us = np.rint((np.where(good, ends, given_up) - times) * 1e6).astype(np.int64)
    rows, samples = [], []
    for second in range(scenario.duration_s):
        due = np.floor(times) == second
        measured = due & ~failed
        hist = {"response": response_us[measured], "service": response_us[measured]}
        hist |= {"lateness": np.zeros(int(measured.sum()), np.int64)}
        finished = int((good & (np.floor(ends) == second)).sum())
        rows.append(
            Row.model_validate(
                {
                    "second": second,
                    "row": scenario.mix[0].row,
                    "offered": int(due.sum()),
                    "completed": int((due & good).sum()),
                    "failed": int((due & failed).sum()),
                    "timed_out": int((due & timed_out).sum()),
                    "unfinished": int((due & unfinished).sum()),
                    "finished": finished,
                    "hist": {kind: packed(Histogram.of(values)) for kind, values in hist.items() if len(values)},
                }
            )
        )
        inside = int(((times <= second + 1) & (ends > second + 1)).sum())
        mb = base_mb + slot_mb * min(inside, slots or inside)
        samples.append(Sample(second=second, who="server", cpu_s=min(cpu_s * finished, 1.0), rss_mb=mb, threads=4))
    budget = {"processes": 1, "slots": slots, "db_connections": 8}
    subject = Subject(
        name=trial.variant, family="wsgi", interface="wsgi", server="none", framework="raw", budget=budget
    )
    head = Head(
        trial=trial, subject=subject, facts={"cpu": "simulated"}, started_at=f"{trial.repeat:06}", server_cpus=(0,),
        generator_cpus=(1,),
    )  # fmt: skip
    end = End(outcome="complete", loaded_s=float(scenario.duration_s), notes=tuple(notes))
    return Recording(head, tuple(rows), tuple(samples), end)


@dataclass
class Simulated:
    """A Place. slots, service_s: of the server; fails_at: the Trial whose server dies; interrupted_at: by Ctrl-C."""

    slots: int = 16
    service_s: float = 0.05
    cpu_s: float = 0.001
    fails_at: int | None = None
    interrupted_at: int | None = None
    trials: list[Trial] = field(default_factory=list)

    def record(self, trial: Trial, *, patient: bool = False) -> Recording:
        self.trials.append(trial)
        if len(self.trials) - 1 == self.fails_at:
            raise ServerFailed("it died")
        if len(self.trials) - 1 == self.interrupted_at:
            raise Interrupted(2)
        return recording_of(
            trial, lambda times: lined_up(times, self.slots, self.service_s), slots=self.slots, cpu_s=self.cpu_s
        )

    def close(self) -> None:
        return


def renamed(trial: Trial, **scenario: object) -> Trial:
    """The same Trial with a scenario changed."""
    return trial.model_copy(update={"scenario": trial.scenario.model_copy(update=scenario)})


def with_end(recording: Recording, **end: object) -> Recording:
    """The same Recording that ended otherwise."""
    return replace(recording, end=recording.end.model_copy(update=end))
