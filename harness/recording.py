"""The record of one Trial, and a Run as a folder of them. In: a path. Out: validated, frozen data; pandas frames.

A Recording is JSON Lines under gzip: a `head` (format, trial, subject, machine), one `row` a second and endpoint with
its counts and histograms, one `sample` a second and process tree with its resources, an `end`. Rows of one second and
endpoint may come several times and add up. A file without an `end` is torn. All of it is data: no pickle, sizes capped.

A `trace` line a row, where requests were followed, says where their time went.

Format 1: 2026-11, the first; since then: samples of a database, traces. Files without them read as before.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError, field_validator

from harness import seal
from harness.errors import EnvironmentFault, UsageError
from harness.histogram import BUCKETS, Histogram
from harness.trial import Data, Subject, Trial

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
SUFFIX = ".jsonl.gz"
MAX_FILE_BYTES = 64 << 20
MAX_TEXT_BYTES = 512 << 20
MAX_LINE_BYTES = 8 << 20
MAX_LINES = 1_000_000

Count = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[float, Field(ge=0)]
Kind = Literal["response", "service", "lateness", "blocked", "lag"]
Outcome = Literal["complete", "server_died", "interrupted", "generator_failed"]
Model = Literal["closed", "open"]  # of arrivals
# Where the time of a request goes: to the generator, to the cap on connections, from its sending to the application,
# inside (the CPU of its thread and the rest, or both in one), from there to the last byte.
Portion = Literal["lateness", "blocked", "before", "wait", "cpu", "inside", "write"]
HUB = "~hub"  # the row of the generator's own ticker; its only kind is `lag`


class Row(Data):
    """What one second of arrivals at one endpoint came to. hist: kind → (bucket deltas, counts), in µs."""

    second: Count
    row: Annotated[str, Field(max_length=128)]
    offered: Count = 0
    completed: Count = 0
    failed: Count = 0
    timed_out: Count = 0
    unfinished: Count = 0
    finished: Count = 0  # completions that happened in this second, whenever they were due
    hist: dict[Kind, tuple[list[Count], list[Count]]] = {}

    @field_validator("hist")
    @classmethod
    def _fits(cls, hist: dict[Kind, tuple[list[int], list[int]]]) -> dict[Kind, tuple[list[int], list[int]]]:
        for kind, (deltas, counts) in hist.items():
            if len(deltas) != len(counts) or sum(deltas) >= BUCKETS or 0 in deltas[1:]:
                raise ValueError(f"the histogram of {kind} does not fit its buckets")
        return hist

    def histogram(self, kind: Kind) -> Histogram | None:
        if kind not in self.hist:
            return None
        deltas, counts = self.hist[kind]
        buckets = np.cumsum(np.asarray(deltas, np.int64))
        return Histogram(buckets, np.asarray(counts, np.int64))


def packed(histogram: Histogram) -> tuple[list[int], list[int]]:
    """The form of a histogram on disk: ascending buckets as differences, and their counts."""
    return np.diff(histogram.buckets, prepend=0).tolist(), histogram.counts.tolist()


class Sample(Data):
    """Resources of a whole process tree in one second. cpu_s, switches: used in it; the others: at its end."""

    second: Count
    who: Literal["server", "generator", "machine", "database"]
    cpu_s: Number = 0.0
    rss_mb: Number | None = None
    threads: Count | None = None
    descriptors: Count | None = None
    switches: Count | None = None
    processes: Count | None = None
    steal_s: Number | None = None
    generator_cpu_s: Number | None = None  # of the generator's CPUs, whoever used them
    throttled_s: Number | None = None  # in which a container's quota held it back
    waited_s: Number | None = None  # of the main threads, for a CPU that others held
    stalled_s: Number | None = None  # the longest time for which the generator's CPU was not there at all


class Head(Data):
    """What was asked of whom, where and when. facts: the machine's, as `harness.facts` found them."""

    format: Literal[1] = 1
    trial: Trial
    subject: Subject
    facts: Mapping[str, Any]
    started_at: Annotated[str, Field(max_length=64)]
    server_cpus: tuple[Count, ...] = ()
    generator_cpus: tuple[Count, ...] = ()
    database_cpus: tuple[Count, ...] = ()
    attempt: Count = 0
    ceilings: dict[Model, Number] = {}  # of the generator, in requests a second, by its certificate


class Trace(Data):
    """Where the time of a row's answered requests went, in the measured window; its portions add up to the response.

    n: requests that client and application both noted; missing: those that only the client did. sums: µs in all.
    workers: (process, thread, requests); thread 0 where threads are too many to tell apart.
    """

    row: Annotated[str, Field(max_length=128)]
    n: Count
    missing: Count = 0
    sums: dict[Portion, Count] = {}
    hist: dict[Portion, tuple[list[Count], list[Count]]] = {}
    workers: Annotated[tuple[tuple[Count, Count, Count], ...], Field(max_length=4096)] = ()


class End(Data):
    """How it ended. omitted: arrivals that an open schedule at a closed loop's best pace had sent meanwhile."""

    outcome: Outcome
    reason: Annotated[str, Field(max_length=4000)] = ""
    loaded_s: Number = 0.0
    errors: dict[Annotated[str, Field(max_length=200)], Count] = {}
    omitted: Count = 0
    started_late: Count = 0  # arrivals taken up more than 50 ms after they were due
    not_started: Count = 0
    uss_mb: Number | None = None
    restarts: Count = 0  # workers of the server that died while it was loaded, and were replaced
    kernel: dict[
        Annotated[str, Field(max_length=64)], Count
    ] = {}  # listen overflows, retransmits: of the whole namespace
    notes: tuple[Annotated[str, Field(max_length=1000)], ...] = ()
    uncounted: tuple[Annotated[str, Field(max_length=200)], ...] = ()  # what the database did not do, or did besides


class Counts(NamedTuple):
    """offered = completed + failed + timed_out + unfinished, always."""

    offered: int
    completed: int
    failed: int
    timed_out: int
    unfinished: int

    @property
    def add_up(self) -> bool:
        return self.offered == sum(self[1:])


@dataclass(frozen=True)
class Recording:
    """What one Trial saw, second by second, on which machine."""

    head: Head
    rows: tuple[Row, ...]
    samples: tuple[Sample, ...]
    end: End
    traces: tuple[Trace, ...] = ()

    @property
    def trial(self) -> Trial:
        return self.head.trial

    @property
    def window(self) -> range:
        """The measured seconds: after the warm-up, before the end of the load."""
        return range(self.trial.scenario.warmup_s, self.trial.scenario.duration_s)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The rows that users see, in order of appearance: endpoints and parts of streams, not the generator's own."""
        return tuple(dict.fromkeys(row.row for row in self.rows if row.row != HUB))

    def within(self, name: str, seconds: Iterable[int] | None = None) -> Iterator[Row]:
        wanted = self.window if seconds is None else seconds
        return (row for row in self.rows if row.row == name and row.second in wanted)

    def histogram(self, name: str, kind: Kind, seconds: Iterable[int] | None = None) -> Histogram:
        """All samples of the window. In closed mode response is service: there is no intended time."""
        if kind == "response" and self.trial.scenario.arrivals == "closed":
            kind = "service"
        return Histogram.merged(filter(None, (row.histogram(kind) for row in self.within(name, seconds))))

    def counts(self, name: str, seconds: Iterable[int] | None = None) -> Counts:
        rows = list(self.within(name, seconds))
        return Counts(*(sum(getattr(row, field_name) for row in rows) for field_name in Counts._fields))

    def throughput_rps(self, name: str) -> float:
        """Completions that happened inside the window ÷ its length."""
        return sum(row.finished for row in self.within(name)) / len(self.window)

    def of(self, who: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.who == who and sample.second in self.window]


# -- reading and writing ---------------------------------------------------------------------------------------------


def save(recording: Recording, folder: Path) -> Path:
    """Writes `<key>.jsonl.gz` whole or not at all. Raises EnvironmentFault when the disk does not take it."""
    again = f".a{recording.head.attempt}" if recording.head.attempt else ""  # repeats stand beside what they repeat
    path = folder / f"{recording.trial.key}{again}{SUFFIX}"
    lines = [{"head": recording.head.model_dump(mode="json")}]
    lines += [{"row": row.model_dump(mode="json", exclude_defaults=True)} for row in recording.rows]
    lines += [{"sample": sample.model_dump(mode="json", exclude_none=True)} for sample in recording.samples]
    lines += [{"trace": trace.model_dump(mode="json", exclude_defaults=True)} for trace in recording.traces]
    lines += [{"end": recording.end.model_dump(mode="json", exclude_defaults=True)}]
    text = "".join(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines)
    write_whole(path, gzip.compress(text.encode(), 6, mtime=0))
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a crash or a full disk leaves the old one or none, never a torn one."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EnvironmentFault(
            f"cannot write {path}: {error.strerror}; free some space or name another folder"
        ) from error


def read(path: Path) -> Recording:
    """One Recording. Raises UsageError, naming the file, when it is torn, foreign or too large."""
    try:
        return _parsed(_lines(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: not a recording of format {FORMAT}: {where}: {first['msg']}") from None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a readable recording: {error}") from None


def read_rows(path: Path) -> Iterator[Row]:
    """The rows that a load process wrote, line by line; none when there is no file. A torn last line is no row."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as source:
        for line in source:
            if line.endswith("\n"):
                yield Row.model_validate(json.loads(line)["row"])


def _lines(path: Path) -> Iterator[Any]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MB")
    total = lines = 0
    with gzip.open(path, "rb") as source:
        while line := source.readline(MAX_LINE_BYTES + 1):
            total += len(line)
            lines += 1
            if len(line) > MAX_LINE_BYTES or total > MAX_TEXT_BYTES or lines > MAX_LINES:
                raise ValueError("its text is larger than a recording can be")
            yield json.loads(line, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _parsed(lines: Iterator[Any]) -> Recording:
    head: Head | None = None
    rows: list[Row] = []
    samples: list[Sample] = []
    traces: list[Trace] = []
    for line in lines:
        match line:
            case {"row": dict(row)}:
                rows.append(Row.model_validate(row))
            case {"sample": dict(sample)}:
                samples.append(Sample.model_validate(sample))
            case {"trace": dict(trace)}:
                traces.append(Trace.model_validate(trace))
            case {"head": dict(given)} if head is None:
                head = Head.model_validate(given)
            case {"end": dict(end)} if head is not None:
                if next(lines, None) is not None:  # reading on also checks gzip's checksum
                    raise ValueError("lines after the end")
                return Recording(head, tuple(rows), tuple(samples), End.model_validate(end), tuple(traces))
            case _:
                raise ValueError("an unknown line")
    raise ValueError("torn: it has no end")


@dataclass(frozen=True)
class Run:
    """A folder of Recordings. problems: what could not be read, in words; the others still count."""

    folder: Path
    recordings: tuple[Recording, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_run(folder: Path) -> Run:
    """All Recordings of a run, in the order of measuring. Raises UsageError when there is no such folder."""
    if not (folder / "trials").is_dir():
        raise UsageError(f"{folder} is no run: it has no folder `trials`; `gatebench run` makes one under results/")
    recordings, wrong = [], seal.broken(folder)
    problems = [f"{folder / name}: {why}" for name, why in wrong.items()]
    for path in sorted((folder / "trials").glob(f"*{SUFFIX}")):
        if path.relative_to(folder).as_posix() in wrong:
            continue
        try:
            recordings.append(read(path))
        except UsageError as error:
            problems.append(str(error))
    recordings.sort(key=lambda recording: recording.head.started_at)
    return Run(folder, tuple(recordings), read_manifest(folder), tuple(problems))


def newest_run(results: Path) -> Path:
    """The run that was begun last. Raises UsageError when there is none."""
    runs = [path.parent for path in results.glob("*/run.json")]
    if not runs:
        raise UsageError(f"no run in {results}; `gatebench run` makes one")
    return max(runs, key=lambda folder: str(read_manifest(folder).get("started_at", "")))


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """`run.json`: the command, the seed, how it ended. Empty when missing or damaged: the Recordings stand alone.

    Under `capacity`: what a search for it has left in `capacity.json`, where there is one.
    """
    found = _small_json(folder / "capacity.json")
    return _small_json(folder / "run.json") | ({"capacity": found} if found else {})


def _small_json(path: Path) -> dict[str, Any]:
    """An object; empty when missing, damaged or far too large."""
    try:
        with path.open("rb") as source:
            found = json.loads(source.read(4 << 20))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class Frames(NamedTuple):
    """A run as pandas frames: a row a trial, a second and endpoint, a resource sample, a cell."""

    trials: pd.DataFrame
    seconds: pd.DataFrame
    resources: pd.DataFrame
    cells: pd.DataFrame


def frames(path: str | Path) -> Frames:
    """Reads a run into pandas. Keys shared by all frames: variant, scenario, level, repeat."""
    import pandas as pd

    from harness.stats import columns, summarise

    run = read_run(Path(path))
    trials, seconds, resources = [], [], []
    for recording in run.recordings:
        trial = recording.trial
        key = {"variant": trial.variant, "scenario": trial.scenario.name, "level": trial.level, "repeat": trial.repeat}
        trials.append(key | {"seed": trial.seed, "started_at": recording.head.started_at, **recording.end.model_dump()})
        seconds += [key | row.model_dump(exclude={"hist"}) for row in recording.rows if row.row != HUB]
        resources += [key | sample.model_dump() for sample in recording.samples]
    cells = [columns(summary) for summary in summarise(run.recordings)]
    return Frames(*map(pd.DataFrame, (trials, seconds, resources, cells)))
