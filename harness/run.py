"""A whole Run. In: what is asked (Request). Out: a folder of Recordings, a report, and how it ended (an exit code).

Variants take turns in blocks; a server is started once a block, proves that it conforms, and is restarted when it
does not come to rest after a Trial. Every Trial is saved at once. A variant whose server fails is abandoned; the rest
goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from apps.endpoints import ENDPOINTS
from harness import certificate, facts, seal
from harness.errors import EnvironmentFault, GatebenchError, Interrupted, NothingUsable, ServerFailed, UsageError
from harness.lenses import the_one_of
from harness.limits import check_descriptors
from harness.load.process import Generator, fleet_of
from harness.measure import Bench, conforming, measure, settled
from harness.physics import VOID, judge
from harness.recording import Recording, read_run, save, write_whole
from harness.repeats import Auto, Blocks
from harness.request import Request
from harness.serve.backends import BACKENDS, Backend, Server, Wishes, facts_of
from harness.serve.postgres import cpus_beside, served_by
from harness.traces import Tracer
from harness.trial import TWIN, Trial, plan, predicted_s

RETRIES = 2  # DESIGN: a VOID Trial is repeated at most twice, and counted
RETRIED_SHARE = 20  # and one in so many of a run: on a machine that is not quiet a run must end all the same
FREE_MB = 64
MOST_BLOCKS = 1000


@dataclass
class Watcher:
    """Whom a Run tells how it goes; the command line draws it. Each is called with plain words or numbers."""

    planned: Callable[[Sequence[Trial], float], None] = lambda _trials, _seconds: None
    began: Callable[[Trial], None] = lambda _trial: None
    second: Callable[[], None] = lambda: None
    ended: Callable[[Trial, str], None] = lambda _trial, _verdict: None
    say: Callable[[str], None] = lambda _line: None


@dataclass
class Progressing:
    """What a Run has come to so far; goes into `run.json`."""

    outcome: str = "running"
    reason: str = ""
    failures: dict[str, str] = field(default_factory=dict)  # variant → why it was abandoned
    loaded_s: float = 0.0
    conformance: dict[str, list[str]] = field(default_factory=dict)
    auto: str = ""  # why `--repeats auto` goes on, or ended
    spent_s: float = 0.0


def trials_of(request: Request) -> list[Trial]:
    """The plan. Raises UsageError when two Trials would share a name, NothingUsable when there is none."""
    holes = holes_of(request)

    def planned(repeats: int | None) -> list[Trial]:
        return plan(
            tuple(request.variants),
            request.scenarios,
            seed=request.seed,
            holes=holes,
            only=request.chosen,
            repeats=repeats,
            lens=request.lens,
        )

    trials = planned(request.repeats if request.precision is None else 1)
    if request.precision is not None and trials:  # as many blocks as the time may hold; it may end before
        trials = planned(min(int(request.budget_s / predicted_s(trials)) + 1, MOST_BLOCKS))
    again = [key for key, count in Counter(trial.key for trial in trials).items() if count > 1]
    if again:
        raise UsageError(f"two trials would be named {again[0]}: give each scenario and level only once")
    if not trials:
        raise NothingUsable(f"n/a: nothing to measure: {'; '.join(left_out(request, trials))}")
    return trials


def holes_of(request: Request) -> dict[str, dict[str, str]]:
    """variant → endpoint → why it cannot serve it on this machine; without the variants that can serve all."""
    # what a variant needs, an image has; and a machine elsewhere
    here = request.backend == "process"
    holes = {
        name: dict(variant.holes_among(ENDPOINTS) if here else variant.holes)
        for name, variant in request.variants.items()
    }
    return {name: each for name, each in holes.items() if each}


def left_out(request: Request, trials: Sequence[Trial]) -> list[str]:
    """Each variant that is asked nothing at all, and what it has not, and why."""
    asked = {trial.variant for trial in trials}
    wanted = dict.fromkeys(part.endpoint for scenario in request.scenarios for part in scenario.mix)
    told = []
    for name, holes in holes_of(request).items():
        reasons: dict[str, list[str]] = {}
        for endpoint in wanted if name not in asked else ():
            if endpoint in holes:
                reasons.setdefault(holes[endpoint], []).append(endpoint)
        told += [f"{name} has no {', '.join(endpoints)}: {why}" for why, endpoints in reasons.items()]
    return told


def run(request: Request, watcher: Watcher) -> tuple[Path, int]:
    """Measures everything. Answers the run's folder and the exit code; raises GatebenchError before the first load."""
    trials = trials_of(request)
    check_descriptors(request.scenarios)
    folder = folder_for(request)
    with locked(request.results), signals() as caught:
        done = _done(request, trials)
        make(folder / "trials")
        remaining = [trial for trial in trials if trial.key not in done]
        watcher.planned(remaining, predicted_s(remaining))
        for line in left_out(request, trials):
            watcher.say(line)
        campaign = Campaign(request, folder, watcher, caught)
        begin = time.monotonic()
        campaign.note_manifest(0.0)
        try:
            campaign.measure_all(remaining)
            campaign.state.outcome = "partial" if campaign.state.failures else "complete"
        except Interrupted as interrupted:
            campaign.state.outcome, campaign.state.reason = "interrupted", str(interrupted)
        except GatebenchError as error:
            campaign.state.outcome, campaign.state.reason = "failed", str(error)
            raise
        finally:
            campaign.note_manifest(time.monotonic() - begin)
    code = 128 + caught[0] if campaign.state.outcome == "interrupted" else 0
    if not code and campaign.state.failures:
        code = ServerFailed.exit_code
    return folder, code


class Campaign:
    """The measuring itself: servers and the generator come and go, Recordings stay."""

    def __init__(self, request: Request, folder: Path, watcher: Watcher, caught: Sequence[int]) -> None:
        self._caught = caught  # signals so far
        self.state = Progressing()
        self._retries = 0
        self._started_at = datetime.now(UTC).isoformat()
        self._request = request
        self._folder = folder
        self._watcher = watcher
        server_cpus, generator_cpus = facts.cpu_sets(request.server_cpus, request.processes, request.generator_cpus)
        if request.lens == "as-configured" and request.server_cpus is None:
            server_cpus = frozenset(os.sched_getaffinity(0)) - generator_cpus or server_cpus
        if request.backend == "url":
            server_cpus = frozenset()  # theirs are elsewhere
        self._certificate = certificate.kept()
        ceilings = self._certificate.ceilings if self._certificate else {}
        self._begun, self._spent_before_s = time.monotonic(), 0.0
        self._blocks: Blocks | None = None
        if request.precision is not None:
            self._blocks = Blocks(Auto(request.precision, request.budget_s))
            self._remember(request.resume)
        self._bench = Bench(facts.collect(), server_cpus, generator_cpus, watcher.second, ceilings)

    def _remember(self, resumed: Path | None) -> None:
        """What a run that is resumed has measured already, and the time that it took."""
        if resumed is None or self._blocks is None:
            return
        before = read_run(resumed)
        self._blocks.add(before.recordings)
        auto = before.manifest.get("auto")
        spent_s = auto.get("spent_s") if isinstance(auto, dict) else None
        self._spent_before_s = float(spent_s) if isinstance(spent_s, int | float) else 0.0

    def measure_all(self, trials: Sequence[Trial]) -> None:
        self._retries = max(RETRIES, len(trials) // RETRIED_SHARE)
        request = self._request
        if not trials:
            return
        with ExitStack() as stack:
            trace = self._with_tracer(stack) if request.trace else None
            wishes = Wishes(self._folder / "logs", request.variants, request.targets, request.memory_mb, trace)
            self._backend = stack.enter_context(BACKENDS[request.backend](wishes))
            told = facts_of(request.backend, self._backend)
            self._bench = replace(self._bench, facts={**self._bench.facts, **told})
            if request.database:
                self._with_database(self._backend, stack)
            generator = stack.enter_context(Generator(self._bench.generator_cpus, fleet_of(request.processes)))
            for _, block in groupby(trials, key=lambda trial: trial.repeat):
                if not self._goes_on() or not self._measure_variants(list(block), generator):
                    return
            self._goes_on(last=True)

    def _measure_variants(self, block: list[Trial], generator: Generator) -> bool:
        """One block. False: a server failed, and the run is to stop at once then."""
        for variant, group in groupby(block, key=lambda trial: trial.variant):
            if variant in self.state.failures:
                continue
            try:
                self._measure_block(variant, list(group), generator)
            except ServerFailed as failure:
                self.state.failures[variant] = str(failure)
                self._watcher.say(f"{variant} abandoned: {failure}")
                if self._request.fail_fast:
                    return False
        return True

    def _goes_on(self, *, last: bool = False) -> bool:
        """Whether one more block is to be measured. last: the plan has no more."""
        if self._blocks is None:
            return True
        self.state.spent_s = self._spent_before_s + time.monotonic() - self._begun
        decision = self._blocks.decision(self.state.spent_s, self.state.failures)
        self.state.auto = f"{'time budget reached: ' if last and decision.go_on else ''}{decision.reason}"
        if not decision.go_on:
            self._watcher.say(f"repeats: {decision.reason}")
        return decision.go_on

    def _with_tracer(self, stack: ExitStack) -> Path:
        """The folder that takes the notes of all Trials; some servers run as another user."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatebench-")))
        folder.chmod(0o1777)
        self._bench = replace(self._bench, tracer=Tracer(folder), facts={**self._bench.facts, "traced": True})
        return folder

    def _with_database(self, backend: Backend, stack: ExitStack) -> None:
        cpus, shared = cpus_beside(self._bench.server_cpus, self._bench.generator_cpus)
        connections = max(variant.budget.db_connections for variant in self._request.variants.values())
        logs = self._folder / "logs"
        made = stack.enter_context(served_by(backend, logs=logs, cpus=cpus, connections=connections))
        if shared:
            self._watcher.say("the database shares the generator's CPU: there is none of its own")
        self._bench = replace(self._bench, database=made, facts={**self._bench.facts, "database": dict(made.facts)})

    def _measure_block(self, variant: str, trials: list[Trial], generator: Generator) -> None:
        """One variant's Trials of one block, on one server unless that has to be restarted."""
        with ExitStack() as stack:
            server: Server | None = None
            for trial in trials:
                for attempt in range(1 + RETRIES):
                    if server is not None and (trial.scenario.fresh_server or not settled(server)):
                        stack.close()
                        server = None
                    if server is None:
                        server = self._served(variant, stack)
                    recording = self._measure_one(trial, server, generator, attempt)
                    if not self._retries or not _worth_repeating(recording):
                        break
                    self._retries -= 1

    def _served(self, variant: str, stack: ExitStack) -> Server:
        """A running server that conforms: asked in full the first time, by a probe afterwards."""
        cpus, folder, port = self._bench.server_cpus, self._folder / "logs", self._request.port
        serve = self._backend.serve
        server = stack.enter_context(serve(self._request.variants[variant], cpus=cpus, folder=folder, port=port))
        row = variant.removesuffix(TWIN)  # of which a twin is one more process
        full = row not in self.state.conformance
        sentences = conforming(server, variant, full=full)
        if full:
            self.state.conformance[row] = sentences
        return server

    def _measure_one(self, trial: Trial, server: Server, generator: Generator, attempt: int) -> Recording:
        self._watcher.began(trial)
        recording = measure(trial, server, generator, self._bench, attempt)
        save(recording, self._folder / "trials")
        self.state.loaded_s += recording.end.loaded_s
        if self._blocks is not None:
            self._blocks.add([recording])
        verdict = judge(recording)
        self._watcher.ended(trial, verdict.name)
        if verdict.name == VOID:
            self._watcher.say(f"{trial.key}: VOID: {verdict.reason}")
        match recording.end.outcome:
            case "server_died":
                raise ServerFailed(recording.end.reason)
            case "interrupted":
                raise Interrupted(self._caught[0])
        return recording

    def note_manifest(self, wall_s: float) -> None:
        request, state = self._request, self.state
        manifest = {
            "format": 1,
            "started_at": self._started_at,
            "command": request.command,
            "seed": request.seed,
            "scenarios": [scenario.model_dump(mode="json") for scenario in request.scenarios],
            "variants": list(request.variants),
            "holes": holes_of(request),
            "lens": request.lens,
            "repeats": request.repeats if request.precision is None else "auto",
            "auto": self._auto(),
            "facts": dict(self._bench.facts),
            "cpus": {"server": sorted(self._bench.server_cpus), "generator": sorted(self._bench.generator_cpus)},
            "processes": request.processes,
            "backend": request.backend,
            "outcome": state.outcome,
            "reason": state.reason,
            "failures": state.failures,
            "certificate": certificate.told(self._certificate) if self._certificate else None,
            "conformance": state.conformance,
            "loaded_s": round(state.loaded_s, 1),
            "wall_s": round(wall_s, 1),
            "measured_share": round(state.loaded_s / wall_s, 3) if wall_s else None,
        }
        write_whole(self._folder / "run.json", (json.dumps(manifest, indent=1) + "\n").encode())
        write_whole(self._folder / seal.NAME, seal.lines(self._folder))

    def _auto(self) -> dict[str, Any] | None:
        request = self._request
        if request.precision is None:
            return None
        told = {"precision": request.precision, "budget_s": request.budget_s, "spent_s": round(self.state.spent_s, 1)}
        return {**told, "reason": self.state.auto}


def _worth_repeating(recording: Recording) -> bool:
    """Only what the instrument spoilt: a server's failure is a finding."""
    verdict = judge(recording)
    return verdict.name == VOID and verdict.limited_by == "generator"


# -- the folder, the lock, the signals -------------------------------------------------------------------------------


def folder_for(request: Request) -> Path:
    """The run's folder, after a look whether it can be written and the disk has room."""
    folder = request.resume or request.results / (request.name or datetime.now(UTC).strftime("%Y%m%d-%H%M%S"))
    try:
        if request.resume is None and folder.exists():
            raise UsageError(f"{folder} exists; choose another --name, or continue it with --resume {folder}")
        request.results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=request.resume or request.results):
            free_mb = shutil.disk_usage(request.results).free >> 20
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write to {request.results}: {error.strerror}; name another folder with --results"
        ) from None
    if free_mb < FREE_MB:
        raise EnvironmentFault(f"only {free_mb} MB are free at {request.results}; {FREE_MB} MB are needed")
    return folder


def make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot make {folder}: {error.strerror}; name another --results") from None


def _done(request: Request, trials: Sequence[Trial]) -> set[str]:
    """The Trials that a run to be resumed has already. Raises UsageError when it asked something else."""
    if request.resume is None:
        return set()
    wanted = {trial.key: trial for trial in trials}
    have = read_run(request.resume).recordings
    the_one_of([request.lens, *(recording.trial.lens for recording in have)])
    for recording in have:
        if wanted.get(recording.trial.key) != recording.trial:
            raise UsageError(
                f"{request.resume} asked something else ({recording.trial.key}); repeat its own command with --resume"
            )
    return {recording.trial.key for recording in have if recording.end.outcome == "complete"}


@contextmanager
def locked(results: Path) -> Iterator[None]:
    """One run at a time in a folder of results. The kernel drops the lock with its owner, so none is ever stale."""
    path = results / ".lock"
    try:
        lock = path.open("a+", encoding="utf-8")
    except OSError as error:  # another user's, for one
        raise EnvironmentFault(f"cannot lock {path}: {error.strerror}; name another folder with --results") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EnvironmentFault(f"another run is measuring here: {_owner(lock)}; wait for it or end it") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        lock.flush()
        yield


def _owner(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read(200) or "its owner did not say who it is"


@contextmanager
def signals() -> Iterator[list[int]]:
    """The first INT, TERM or HUP raises Interrupted; the second ends at once: the reaper ends what was started."""
    caught: list[int] = []

    def on_signal(signum: int, _frame: FrameType | None) -> None:
        caught.append(signum)
        if len(caught) > 1:
            os._exit(128 + signum)
        raise Interrupted(signum)

    names = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup: the run is to outlive its terminal
        names.remove(signal.SIGHUP)
    before = {name: signal.signal(name, on_signal) for name in names}
    try:
        yield caught
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
