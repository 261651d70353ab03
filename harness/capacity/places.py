"""Where a search's Trials are made. In: a Trial. Out: its Recording. Servers are started, checked, restarted, ended.

Two places, alike: a variant that is served here, and a URL. `Patient` is the generator that ends a Trial which can
only fail: what a queue that grows would show in its last seconds is known after the first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Protocol

from apps.variant import Variant
from harness.errors import Interrupted, ServerFailed
from harness.load.order import Progress
from harness.load.process import Generator
from harness.load_url import driven, shortened
from harness.measure import Bench, conforming, measure, settled
from harness.recording import Recording
from harness.serve.backends import Serve, Server
from harness.targets import Target
from harness.trial import Trial
from harness.wire import fetch

LEAST_S = 3  # of completions, before a Trial is given up
CALM_S = 10.0  # how long a server that is not ours may take to answer its queue


class Patient(Generator):
    """A generator whose Trials may end early: when arrivals wait that make every promise impossible.

    limit_s: the longest that was promised. given_up: why the last Trial was ended; '' when it was not.
    """

    limit_s = 1.0
    given_up = ""
    _trial: Trial | None = None
    _finished = 0

    def expect(self, trial: Trial, *, patient: bool) -> None:
        """Announces the next Trial. patient: whether it runs to its end whatever comes."""
        self._trial, self._finished, self.given_up = None if patient else trial, 0, ""

    def progress(self, timeout_s: float) -> Progress | None:
        found = super().progress(timeout_s)
        if found is not None and found.state == "second" and self._trial is not None and not self.given_up:
            self._finished += found.completed
            self._look(self._trial, found.second - 1)
        return found

    def _look(self, trial: Trial, seconds: int) -> None:
        """seconds: whose completions have been told."""
        due = trial.level * max(seconds - trial.scenario.longest_s, 0)
        missing = due - self._finished
        too_many = trial.level * max(4 * self.limit_s, 1.0) + 5 * due**0.5
        if seconds >= LEAST_S and missing > min(too_many, 0.3 * due + 5 * due**0.5):
            self.given_up = f"ended after {seconds} s: about {missing:,.0f} of {due:,.0f} arrivals were not answered"
            self.stop("interrupted")


def cut(recording: Recording, given_up: str) -> Recording:
    """A Trial that was ended early as one that was asked for only so long; the rest never came."""
    if not given_up or recording.end.outcome != "complete" or recording.end.loaded_s < 1:
        return recording
    found = shortened(recording)
    return replace(found, end=found.end.model_copy(update={"notes": (*found.end.notes, given_up)}))


class Place(Protocol):
    """Answers Trials one after another."""

    def record(self, trial: Trial, *, patient: bool = False) -> Recording:
        """Measures one. Raises ServerFailed, Interrupted, EnvironmentFault."""

    def close(self) -> None:
        """Ends what was started."""


class Served:
    """A variant, served by us: started when it is needed, checked once in full, restarted when it does not rest."""

    def __init__(
        self, variant: Variant, bench: Bench, generator: Patient, serve: Serve, logs: Path, caught: Sequence[int]
    ) -> None:
        self.variant = variant
        self.conformance: list[str] = []
        self._bench, self._generator, self._serve, self._logs = bench, generator, serve, logs
        self._caught = caught  # signals so far
        self._stack = ExitStack()
        self._server: Server | None = None

    def record(self, trial: Trial, *, patient: bool = False) -> Recording:
        server = self._rested()
        self._generator.expect(trial, patient=patient)
        recording = measure(trial, server, self._generator, self._bench)
        match recording.end.outcome:
            case "server_died":
                raise ServerFailed(recording.end.reason)
            case "interrupted":
                raise Interrupted(self._caught[0])
        return cut(recording, self._generator.given_up)

    def close(self) -> None:
        self._server = None
        self._stack.close()

    def _rested(self) -> Server:
        if self._server is not None and not settled(self._server):
            self.close()
        if self._server is None:
            cpus = self._bench.server_cpus
            server = self._stack.enter_context(self._serve(self.variant, cpus=cpus, folder=self._logs, port=None))
            sentences = conforming(server, self.variant.name, full=not self.conformance)
            self.conformance = self.conformance or sentences or ["conforms"]
            self._server = server
        return self._server


class AtUrl:
    """A server that somebody else has started: nothing is known of it but what it answers."""

    def __init__(self, target: Target, bench: Bench, generator: Patient) -> None:
        self._target, self._bench, self._generator = target, bench, generator
        self._loaded = False

    def record(self, trial: Trial, *, patient: bool = False) -> Recording:
        self._calm()
        self._generator.ensure()
        self._generator.expect(trial, patient=patient)
        found = driven(trial, self._target, self._generator, self._bench.generator_cpus, self._bench.facts)
        self._loaded = True
        if found.stopped:
            raise Interrupted(found.stopped - 128)
        head = found.recording.head.model_copy(update={"ceilings": dict(self._bench.ceilings)})
        return cut(replace(found.recording, head=head), self._generator.given_up)

    def close(self) -> None:
        """It is not ours to end."""

    def _calm(self) -> None:
        """Waits until it has done with the last Trial: two answers in a row, each within what was promised."""
        deadline, fast = time.monotonic() + CALM_S, 0
        while self._loaded and fast < 2 and time.monotonic() < deadline and self._target.row == "url":
            begin = time.monotonic()
            try:
                fetch((self._target.host, self._target.port), self._target.path)
                fast = fast + 1 if time.monotonic() - begin < self._generator.limit_s else 0
            except (OSError, HTTPException):
                fast = 0
                time.sleep(0.1)
