"""The file format: what is written is read back, and what is torn, foreign or hostile is one named error."""

from __future__ import annotations

import errno
import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import load_run, recording
from harness.errors import EnvironmentFault, UsageError
from harness.histogram import BUCKETS, Histogram
from harness.recording import (
    HUB,
    Counts,
    End,
    Head,
    Recording,
    Row,
    Sample,
    newest_run,
    packed,
    read,
    read_run,
    save,
    write_whole,
)
from harness.trial import Arrivals, Part, Scenario, Subject, Trial

KINDS = ("service", "lateness", "blocked", "response")


def row(second: int, values_us: list[int], name: str = "ping", **more: Any) -> Row:
    hist = {kind: packed(Histogram.of(values_us)) for kind in KINDS}
    n = len(values_us)
    return Row.model_validate(
        {"second": second, "row": name, "offered": n, "completed": n, "finished": n, "hist": hist} | more
    )


def made(arrivals: Arrivals = "poisson", rows: tuple[Row, ...] | None = None, **trial: Any) -> Recording:
    scenario = Scenario(
        name="quick/ping",
        question="How many a second?",
        arrivals=arrivals,
        mix=(Part(endpoint="ping"),),
        rates=() if arrivals == "closed" else (10,),
        users=(4,) if arrivals == "closed" else (),
        duration_s=3,
    )
    asked: dict[str, Any] = {"variant": "asgi", "level": scenario.levels[0], "repeat": 0, "seed": 5} | trial
    subject = Subject(
        name="asgi", family="asgi", interface="ASGI", server="uvicorn", framework="raw", budget={"slots": None}
    )
    return Recording(
        Head(
            trial=Trial(scenario=scenario, **asked),
            subject=subject,
            facts={"cpus": 2},
            started_at=f"2026-11-21T00:00:{asked['repeat']:02}",
            server_cpus=(0,),
            generator_cpus=(1,),
        ),
        (row(0, [900] * 10), row(1, [100, 200]), row(1, [300]), row(2, [400], finished=0)) if rows is None else rows,
        (Sample(second=1, who="server", cpu_s=0.5, rss_mb=30.5, threads=4), Sample(second=0, who="machine", cpu_s=1.0)),
        End(outcome="complete", loaded_s=3.0, errors={"reset": 2}, kernel={"ListenOverflows": 1}, notes=("a note",)),
    )


def rewritten(path: Path, change: Any) -> None:
    """Changes the lines of a recording. change: (its lines as data) → lines as data or as text."""
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    texts = [line if isinstance(line, str) else json.dumps(line) for line in change(lines)]
    path.write_bytes(gzip.compress("".join(text + "\n" for text in texts).encode()))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    (tmp_path / "trials").mkdir()
    return save(made(), tmp_path / "trials")


# -- what is right ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrivals", ["poisson", "closed"])
def test_a_recording_is_read_as_it_was_written(tmp_path: Path, arrivals: Arrivals) -> None:
    recorded = made(arrivals)
    path = save(recorded, tmp_path)
    assert path.parent == tmp_path
    assert read(path) == recorded
    before = path.read_bytes()
    assert save(read(path), tmp_path).read_bytes() == before, "the same recording must be the same bytes"


counts = st.integers(0, 10**6)


@given(
    values=st.lists(st.lists(st.integers(0, 2**36), max_size=30), min_size=1, max_size=6),
    numbers=st.lists(counts, min_size=4, max_size=4),
)
@settings(deadline=None, max_examples=25)
def test_any_rows_survive_the_disk_and_add_up(
    tmp_path_factory: pytest.TempPathFactory, values: list[list[int]], numbers: list[int]
) -> None:
    completed, failed, timed_out, unfinished = numbers
    more: dict[str, Any] = {
        "offered": sum(numbers),
        "completed": completed,
        "failed": failed,
        "timed_out": timed_out,
        "unfinished": unfinished,
    }
    recorded = made(rows=tuple(row(1, some, **more) for some in values))
    again = read(save(recorded, tmp_path_factory.mktemp("any")))
    assert again == recorded
    whole = Histogram.of([value for some in values for value in some])
    assert again.histogram("ping", "response").buckets.tolist() == whole.buckets.tolist()
    assert again.histogram("ping", "response").counts.tolist() == whole.counts.tolist()
    total = again.counts("ping")
    assert total == Counts(*(len(values) * number for number in (sum(numbers), *numbers)))
    assert total.add_up


def test_the_window_is_what_lies_between_warm_up_and_end() -> None:
    recorded = made()
    assert recorded.window == range(1, 3)
    assert recorded.counts("ping") == Counts(4, 4, 0, 0, 0)
    assert recorded.counts("ping", range(3)).offered == 14
    assert recorded.histogram("ping", "response").n == 4
    assert recorded.throughput_rps("ping") == 1.5, "finished in the window ÷ its 2 s"
    assert [sample.second for sample in recorded.of("server")] == [1]
    assert recorded.of("machine") == []


def test_late_rows_count_where_they_were_due() -> None:
    late = Row(second=7, row="ping", finished=9)
    assert made(rows=(row(1, [5]), late)).throughput_rps("ping") == 0.5


@pytest.mark.parametrize("change", [{"failed": 1}, {"offered": 5}, {"completed": 1}])
def test_counts_that_do_not_add_up_are_seen(change: dict[str, Any]) -> None:
    assert row(1, [1, 2]).completed == 2
    assert not made(rows=(row(1, [1, 2], **change),)).counts("ping").add_up


def test_closed_mode_answers_with_service() -> None:
    hist = {"service": packed(Histogram.of([700])), "response": packed(Histogram.of([1]))}
    rows = (Row.model_validate({"second": 1, "row": "ping", "hist": hist}),)
    assert made("closed", rows).histogram("ping", "response").max_us == 700
    assert made("poisson", rows).histogram("ping", "response").max_us == 1


def test_the_generators_own_row_is_not_among_the_names() -> None:
    hist = {"lag": packed(Histogram.of([5]))}
    rows = (Row.model_validate({"second": 1, "row": HUB, "hist": hist}), row(1, [1], "sse:event"), row(1, [1]))
    recorded = made(rows=rows)
    assert recorded.names == ("sse:event", "ping")
    assert recorded.histogram(HUB, "lag").n == 1


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_repeated_attempt_stands_beside_the_first(tmp_path: Path) -> None:
    first = made()
    again = Recording(first.head.model_copy(update={"attempt": 1}), first.rows, first.samples, first.end)
    names = {save(one, tmp_path).name for one in (first, again, made(repeat=1), made(variant="x/y"))}
    assert len(names) == 4


@pytest.mark.parametrize("name", ["a/../../../up", "a/../..", "x//y", "A/./b"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner" / "trials"
    folder.mkdir(parents=True)
    recorded = made(variant=name)
    path = save(recorded, folder)
    assert path.resolve().parent == folder.resolve()
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [path]


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a\0b", "a b", "", ".hidden", "a" * 65, "é", "a\n"])
def test_names_that_are_none_are_refused(saved: Path, name: str) -> None:
    def rename(lines: list[Any]) -> list[Any]:
        lines[0]["head"]["trial"]["variant"] = name
        return lines

    rewritten(saved, rename)
    with pytest.raises(UsageError, match=r"head|trial|variant"):
        read(saved)


# -- what is wrong ---------------------------------------------------------------------------------------------------


def replaced(number: int, *keys: Any, value: Any) -> Any:
    """A change of one value in one line."""

    def change(lines: list[Any]) -> list[Any]:
        place = lines[number]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return lines

    return change


def hist(deltas: Any, some: Any) -> Any:
    return replaced(1, "row", "hist", value={"response": [deltas, some]})


DAMAGES: dict[str, Any] = {
    "no end": lambda lines: lines[:-1],
    "no head": lambda lines: lines[1:],
    "two heads": lambda lines: [lines[0], *lines],
    "an empty text": lambda lines: [],
    "a foreign line": lambda lines: [lines[0], {"what": {}}, *lines[1:]],
    "a foreign document": lambda lines: [[1, 2, 3]],
    "no object": lambda lines: ["7"],
    "no JSON": lambda lines: [*lines[:2], '{"row": {', *lines[2:]],
    "NaN": lambda lines: [lines[0], '{"row":{"second":NaN,"row":"ping"}}', *lines[1:]],
    "NaN among the facts": lambda lines: [json.dumps(lines[0]).replace('"cpus": 2', '"cpus": NaN'), *lines[1:]],
    "Infinity": lambda lines: [lines[0], '{"sample":{"second":1,"who":"server","cpu_s":Infinity}}', *lines[1:]],
    "a number too large": lambda lines: [lines[0], '{"sample":{"second":1,"who":"server","cpu_s":1e999}}', *lines[1:]],
    "digits without end": lambda lines: [lines[0], '{"row":{"second":' + "9" * 5_000 + ',"row":"x"}}', *lines[1:]],
    "brackets without end": lambda lines: [lines[0], "[" * 100_000, *lines[1:]],
    "facts without end": lambda lines: ['{"head":{"facts":' + '{"a":' * 90_000 + "1" + "}" * 90_000 + "}}"],
    "format 2": replaced(0, "head", "format", value=2),
    "format 0": replaced(0, "head", "format", value=0),
    "a level of 0": replaced(0, "head", "trial", "level", value=0),
    "a level below 0": replaced(0, "head", "trial", "level", value=-4),
    "an unknown key": replaced(1, "row", "extra", value=1),
    "a count below 0": replaced(1, "row", "completed", value=-1),
    "a count of 1.5": replaced(1, "row", "completed", value=1.5),
    "a count as words": replaced(1, "row", "completed", value="many"),
    "an unknown kind": replaced(1, "row", "hist", value={"mood": [[1], [1]]}),
    "an unknown outcome": replaced(-1, "end", "outcome", value="fine"),
    "a histogram of one list": replaced(1, "row", "hist", value={"response": [[1]]}),
    "more buckets than counts": hist([1, 1], [1]),
    "more counts than buckets": hist([1], [1, 1]),
    "a bucket beyond the last": hist([BUCKETS], [1]),
    "buckets that overflow": hist([2**53] * 1024, [1] * 1024),
    "a bucket below 0": hist([-1], [1]),
    "buckets that stand still": hist([3, 0], [1, 1]),
    "an impossible scenario": replaced(0, "head", "trial", "scenario", "warmup_s", value=3),
    "a name of any length": replaced(1, "row", "row", value="x" * 129),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_error_that_names_it(saved: Path, damage: str) -> None:
    rewritten(saved, DAMAGES[damage])
    with pytest.raises(UsageError) as refusal:
        read(saved)
    assert str(saved) in str(refusal.value)
    assert len(str(refusal.value)) < 1_000


def test_a_histogram_may_reach_the_last_bucket(saved: Path) -> None:
    rewritten(saved, hist([BUCKETS - 1], [1]))
    assert read(saved).rows[0].histogram("response") is not None


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x1f\x8b", b"\x1f\x8b\x08\x00" + bytes(20), gzip.compress(b"\xff\xfe\n"), gzip.compress(b"{}\n")],
)
def test_bytes_that_are_no_recording_are_named(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    with pytest.raises(UsageError, match=saved.name):
        read(saved)


def test_a_file_cut_anywhere_is_named(saved: Path) -> None:
    whole = saved.read_bytes()
    for cut in (*range(0, len(whole) - 8, 7), len(whole) - 9):
        saved.write_bytes(whole[:cut])
        with pytest.raises(UsageError, match=saved.name):
            read(saved)


def test_a_flipped_bit_is_named(saved: Path) -> None:
    whole = bytearray(saved.read_bytes())
    whole[-6] ^= 1  # of the checksum's last byte
    saved.write_bytes(whole)
    with pytest.raises(UsageError, match=saved.name):
        read(saved)


def test_a_bomb_is_put_down_before_it_goes_off(saved: Path) -> None:
    saved.write_bytes(gzip.compress(bytes(128 << 20), 1))
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=f"{saved.name}.*larger than a recording can be"):
            read(saved)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20, f"{peak >> 20} MB for a line of at most 8"


def test_so_is_one_of_many_lines(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_TEXT_BYTES", 20_000)
    rewritten(saved, lambda lines: [lines[0], *[lines[1]] * 500, *lines[1:]])
    assert saved.stat().st_size < 20_000
    with pytest.raises(UsageError, match="larger than a recording can be"):
        read(saved)


def test_a_file_or_line_too_large_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_LINE_BYTES", 50)
    with pytest.raises(UsageError, match="larger than a recording can be"):
        read(saved)
    monkeypatch.setattr(recording, "MAX_FILE_BYTES", 10)
    with pytest.raises(UsageError, match="larger than 0 MB"):
        read(saved)


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.jsonl\.gz"):
        read(tmp_path / "missing.jsonl.gz")
    (tmp_path / "folder.jsonl.gz").mkdir()
    with pytest.raises(UsageError, match=r"folder\.jsonl\.gz"):
        read(tmp_path / "folder.jsonl.gz")


# -- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "x.json"
    write_whole(path, b"old")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, step, full)
    with pytest.raises(EnvironmentFault, match=r"x\.json: No space left on device; free some space") as fault:
        write_whole(path, b"new")
    monkeypatch.undo()
    assert fault.value.exit_code == 6
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_full_disk_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFault):
        save(made(), tmp_path)
    assert os.listdir(tmp_path) == []


def test_it_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(os.listdir(tmp_path)))
    write_whole(tmp_path / "x", b"new")
    assert seen == [["x.part"]]
    assert (tmp_path / "x").read_bytes() == b"new"


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "trials").mkdir(parents=True)
    (folder / "run.json").write_text('{"seed": 5, "started_at": "2026-11-21"}')
    for repeat in (2, 0, 1):
        save(made(repeat=repeat, variant=f"v{9 - repeat}"), folder / "trials")
    return folder


def test_a_run_is_read_in_the_order_of_measuring(run: Path) -> None:
    found = read_run(run)
    assert [recorded.trial.repeat for recorded in found.recordings] == [0, 1, 2]
    assert found.problems == ()
    assert found.manifest["seed"] == 5


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_file_does_not_hide_the_others(run: Path, damage: str) -> None:
    victim = sorted((run / "trials").iterdir())[1]
    rewritten(victim, DAMAGES[damage])
    (run / "trials" / "x.jsonl.gz.part").write_bytes(b"torn")
    found = read_run(run)
    assert len(found.recordings) == 2
    (problem,) = found.problems
    assert victim.name in problem


@pytest.mark.parametrize("manifest", [b"", b"[1]", b"\xff", b"{", b"[" * 100_000, None])
def test_recordings_stand_without_a_manifest(run: Path, manifest: bytes | None) -> None:
    if manifest is None:
        (run / "run.json").unlink()
    else:
        (run / "run.json").write_bytes(manifest)
    found = read_run(run)
    assert (dict(found.manifest), len(found.recordings)) == ({}, 3)


def test_what_is_no_run_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run"):
        read_run(tmp_path)
    with pytest.raises(UsageError, match="no run in"):
        newest_run(tmp_path)


def test_the_newest_run_is_the_one_begun_last(tmp_path: Path) -> None:
    for name, started in (("a", "2026-11-20"), ("b", "2026-11-22"), ("c", "2026-11-21")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"started_at": started}))
    assert newest_run(tmp_path).name == "b"


def test_frames_share_their_keys(run: Path) -> None:
    frames = load_run(str(run))
    keys = ["variant", "scenario", "level", "repeat"]
    assert [len(frame) for frame in frames] == [3, 12, 6, 3]
    for frame in (frames.trials, frames.seconds, frames.resources):
        assert list(frame.columns[:4]) == keys
    assert {"variant", "scenario", "level"} <= set(frames.cells.columns)
    assert frames.trials["outcome"].tolist() == ["complete"] * 3
    assert frames.seconds.groupby(keys)["offered"].sum().tolist() == [14, 14, 14]
    merged = frames.seconds.merge(frames.trials, on=keys)
    assert len(merged) == 12
    parts = merged[["completed", "failed", "timed_out", "unfinished"]].sum(axis=1)
    assert (merged["offered"] == parts).all()
    assert set(frames.resources["who"]) == {"server", "machine"}
