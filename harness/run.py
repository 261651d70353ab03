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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import TextIO

from apps.endpoints import ENDPOINTS
from harness import certificate, conformance, facts
from harness.errors import EnvironmentFault, GatebenchError, Interrupted, NothingUsable, ServerFailed, UsageError
from harness.lenses import the_one_of
from harness.limits import check_descriptors
from harness.load.process import Generator, fleet_of
from harness.measure import Bench, measure, settled
from harness.physics import VOID, judge
from harness.recording import Recording, read_run, save, write_whole
from harness.request import Request
from harness.serve.process import Server, serve
from harness.trial import Trial, plan, predicted_s

RETRIES = 2  # DESIGN: a VOID Trial is repeated at most twice, and counted
RETRIED_SHARE = 20  # and one in so many of a run: on a machine that is not quiet a run must end all the same
FREE_MB = 64


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


def trials_of(request: Request) -> list[Trial]:
    """The plan. Raises UsageError when two Trials would share a name, NothingUsable when there is none."""
    holes = holes_of(request)
    trials = plan(
        tuple(request.variants),
        request.scenarios,
        seed=request.seed,
        holes=holes,
        only=request.chosen,
        repeats=request.repeats,
        lens=request.lens,
    )
    again = [key for key, count in Counter(trial.key for trial in trials).items() if count > 1]
    if again:
        raise UsageError(f"two trials would be named {again[0]}: give each scenario and level only once")
    if not trials:
        raise NothingUsable(f"n/a: nothing to measure: {'; '.join(left_out(request, trials))}")
    return trials


def holes_of(request: Request) -> dict[str, dict[str, str]]:
    """variant → endpoint → why it cannot serve it on this machine; without the variants that can serve all."""
    holes = {name: dict(variant.holes_among(ENDPOINTS)) for name, variant in request.variants.items()}
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
    folder = _folder(request)
    with locked(request.results), signals() as caught:
        done = _done(request, trials)
        _make(folder / "trials")
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
        self._certificate = certificate.kept()
        ceilings = self._certificate.ceilings if self._certificate else {}
        self._bench = Bench(facts.collect(), server_cpus, generator_cpus, watcher.second, ceilings)

    def measure_all(self, trials: Sequence[Trial]) -> None:
        self._retries = max(RETRIES, len(trials) // RETRIED_SHARE)
        with Generator(self._bench.generator_cpus, fleet_of(self._request.processes)) as generator:
            for (variant, _), group in groupby(trials, key=lambda trial: (trial.variant, trial.repeat)):
                if variant in self.state.failures:
                    continue
                try:
                    self._measure_block(variant, list(group), generator)
                except ServerFailed as failure:
                    self.state.failures[variant] = str(failure)
                    self._watcher.say(f"{variant} abandoned: {failure}")
                    if self._request.fail_fast:
                        return

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
        server = stack.enter_context(serve(self._request.variants[variant], cpus=cpus, folder=folder, port=port))
        full = variant not in self.state.conformance
        findings = conformance.check(server.address, server.variant, server.token, full=full)
        if refused := conformance.refusals(findings):
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise ServerFailed(f"{variant} does not conform: {refused[0].sentence}{more}")
        if full:
            self.state.conformance[variant] = [finding.sentence for finding in findings]
        return server

    def _measure_one(self, trial: Trial, server: Server, generator: Generator, attempt: int) -> Recording:
        self._watcher.began(trial)
        recording = measure(trial, server, generator, self._bench, attempt)
        save(recording, self._folder / "trials")
        self.state.loaded_s += recording.end.loaded_s
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
            "repeats": request.repeats,
            "processes": request.processes,
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


def _worth_repeating(recording: Recording) -> bool:
    """Only what the instrument spoilt: a server's failure is a finding."""
    verdict = judge(recording)
    return verdict.name == VOID and verdict.limited_by == "generator"


# -- the folder, the lock, the signals -------------------------------------------------------------------------------


def _folder(request: Request) -> Path:
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


def _make(folder: Path) -> None:
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
