"""The seals of a run: what was changed, lost or slipped in is named; a run that was killed is not accused."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from harness import seal
from harness.recording import read_run, save
from tests.made_up import blocks


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "r"
    (folder / "trials").mkdir(parents=True)
    for one in blocks({"asgi": [400, 410], "wsgi": [200, 210]}):
        save(one, folder / "trials")
    told(folder, "complete")
    return folder


def told(folder: Path, outcome: str) -> None:
    """As a run notes its manifest, and seals what it has."""
    (folder / "run.json").write_text(json.dumps({"outcome": outcome}))
    (folder / seal.NAME).write_bytes(seal.lines(folder))


def only(folder: Path) -> tuple[str, str]:
    ((name, why),) = seal.broken(folder).items()
    return name, why


def test_what_was_not_touched_is_as_it_was_measured(run: Path) -> None:
    assert seal.broken(run) == {}
    assert read_run(run).problems == ()
    assert len(seal.read(run)) == 5
    checked = subprocess.run(["sha256sum", "-c", "--quiet", seal.NAME], cwd=run, capture_output=True, check=False)
    assert checked.returncode == 0, "anybody can check it"


def test_a_recording_that_was_changed_is_left_out_and_named(run: Path) -> None:
    victim = run / "trials" / "s-16-asgi-r0.jsonl.gz"
    better = gzip.decompress(victim.read_bytes()).replace(b'"completed":400', b'"completed":900')
    victim.write_bytes(gzip.compress(better, mtime=0))
    read = read_run(run)
    assert len(read.recordings) == 3
    (problem,) = read.problems
    assert problem == f"{victim}: was changed since it was measured: its SHA-256 is not that of SHA256SUMS"


def test_so_is_one_that_is_torn_missing_or_slipped_in(run: Path) -> None:
    first, second, *_ = sorted((run / "trials").iterdir())
    content = first.read_bytes()
    first.write_bytes(content[:100])
    assert only(run)[1].startswith("was changed")
    first.unlink()
    assert only(run) == (f"trials/{first.name}", "is missing, but stands in SHA256SUMS")
    first.write_bytes(content)
    (run / "trials" / "x.jsonl.gz").write_bytes(second.read_bytes())
    assert only(run) == ("trials/x.jsonl.gz", "does not stand in SHA256SUMS: it was put there after the run")
    assert len(read_run(run).recordings) == 4


def test_the_manifest_is_sealed_too(run: Path) -> None:
    (run / "run.json").write_text(json.dumps({"outcome": "complete", "seed": 7}))
    assert only(run)[0] == "run.json"
    assert len(read_run(run).recordings) == 4


def test_a_run_that_was_killed_has_recordings_without_a_seal(run: Path) -> None:
    (run / seal.NAME).unlink()
    assert seal.broken(run) == {}, "an old run has no seals"
    late = max((run / "trials").iterdir())
    content = late.read_bytes()
    late.unlink()
    told(run, "running")
    late.write_bytes(content)
    assert seal.broken(run) == {}
    told(run, "complete")  # as it is resumed and ends
    assert len(seal.read(run)) == 5


def test_a_resumed_run_seals_nothing_anew(run: Path) -> None:
    victim = next((run / "trials").iterdir())
    victim.write_bytes(b"forged")
    told(run, "complete")
    assert only(run)[0] == f"trials/{victim.name}"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"x  trials/a.jsonl.gz\n", b"0" * 64 + b"  ../../etc/passwd\n", b"0" * 64 + b"  report.html\n"],
)
def test_seals_that_are_none_accuse_nobody_but_what_they_name(run: Path, content: bytes) -> None:
    (run / seal.NAME).write_bytes(content)
    assert all(name.startswith("trials/") or name == "run.json" for name in seal.broken(run))
    assert isinstance(read_run(run).problems, tuple)
