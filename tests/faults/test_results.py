"""Results that do not fit, or are not what they seem (PROOFS, faults 15, 24, 25)."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness import seal
from harness.errors import EnvironmentFault
from harness.recording import MAX_FILE_BYTES, read, save
from tests.gate import ROOT, Gate, disk_of
from tests.made_up import recording

SAMPLE = ROOT / "results" / "sample"


# -- 15: the disk is full --------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of(1, tmp_path) as disk:
        yield disk


@pytest.mark.slow
def test_a_full_disk_keeps_every_recording_that_fitted_and_no_torn_one(tiny_disk: Path) -> None:
    rng = np.random.default_rng(1)
    kept: list[Path] = []

    def fill() -> None:
        for repeat in range(10_000):
            us = rng.integers(1_000, 9_000_000, 200).tolist()
            kept.append(save(recording([20] * 200, us=us, repeat=repeat), tiny_disk))

    with pytest.raises(EnvironmentFault, match=r"s-16-asgi-r\d+\.jsonl\.gz: No space left on device; free") as full:
        fill()
    assert full.value.exit_code == 6
    assert len(kept) > 10
    assert sorted(tiny_disk.iterdir()) == sorted(kept), "no part, no empty file"
    assert read(kept[-1]).trial.repeat == len(kept) - 1
    os.truncate(kept[0], 0)
    kept[0].unlink()
    assert save(recording([20], warmup_s=0, repeat=99_999), tiny_disk).exists(), "and goes on where there is room again"


# -- 24: few samples -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_requests_name_no_p99_anywhere(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "r" / "trials").mkdir(parents=True)
    save(recording([50, 50, 50], arrivals="constant", level=50), tmp_path / "r" / "trials")
    (row,) = json.loads(gate("export", tmp_path / "r", "--json").out)
    assert (row["n"], row["p99_ms"], row["p99_low_ms"]) == (100, None, None)
    assert "| n/a (needs 662) |" in gate("export", tmp_path / "r", "--format", "markdown").out
    assert gate("report", tmp_path / "r").code == 0
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "n/a (needs 662)" in page
    assert "One repeat: supports no claim." in page


# -- 25: torn, foreign, hostile --------------------------------------------------------------------------------------


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def of_nan(path: Path) -> None:
    text = gzip.decompress(path.read_bytes()).replace(b'"cpu_s":', b'"cpu_s":NaN,"x":', 1)
    path.write_bytes(gzip.compress(text))


def of_a_gigabyte(path: Path) -> None:
    """It costs no gigabyte: nothing is written in it."""
    os.truncate(path, 1 << 30)


def a_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(b'{"head": "' + b" " * (80 << 20) + b'"}', 9))
    assert path.stat().st_size < MAX_FILE_BYTES


def of_another_version(path: Path) -> None:
    text = gzip.decompress(path.read_bytes()).replace(b'"format":1', b'"format":99', 1)
    path.write_bytes(gzip.compress(text))


def foreign(path: Path) -> None:
    path.write_bytes(gzip.compress(b'{"requests": 12, "rps": 1e9}\n'))


def hostile(path: Path) -> None:
    text = gzip.decompress(path.read_bytes()).replace(b'"variant":"asgi"', b'"variant":"../../etc/x"', 1)
    path.write_bytes(gzip.compress(text))


DAMAGES = [torn, of_nan, of_a_gigabyte, a_bomb, of_another_version, foreign, hostile]


@pytest.mark.parametrize(
    "damage",
    [damage if damage is torn else pytest.param(damage, marks=pytest.mark.slow) for damage in DAMAGES],
    ids=[damage.__name__ for damage in DAMAGES],
)
def test_a_file_that_is_none_is_one_error_and_the_others_are_reported(
    gate: Gate, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run = tmp_path / "r"
    (run / "trials").mkdir(parents=True)
    for path in (SAMPLE / "trials").glob("quick~cpu-*-r[01].jsonl.gz"):
        shutil.copy(path, run / "trials")
    victim = run / "trials" / "quick~cpu-16-asgi-r0.jsonl.gz"
    damage(victim)
    ended = gate("export", run, "--format", "csv")
    assert ended.code == 2
    assert ended.line.startswith(f"gatebench: {victim}: not a ")
    assert len(ended.err.splitlines()) == 1
    rows = ended.out.splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"asgi", "wsgi-gevent", "wsgi-sync", "wsgi-threads"}
    assert {tuple(row.split(",")[6:7]) for row in rows} == {("1",), ("2",)}, "of asgi one repeat is left"


def test_a_file_that_was_changed_after_the_run_is_named_by_the_report(gate: Gate, tmp_path: Path) -> None:
    run = tmp_path / "r"
    (run / "trials").mkdir(parents=True)
    for path in (SAMPLE / "trials").glob("quick~cpu-*-r[01].jsonl.gz"):
        shutil.copy(path, run / "trials")
    (run / "run.json").write_text("{}", encoding="utf-8")
    (run / seal.NAME).write_bytes(seal.lines(run))
    victim = run / "trials" / "quick~cpu-16-asgi-r0.jsonl.gz"
    text = gzip.decompress(victim.read_bytes())
    victim.write_bytes(gzip.compress(text.replace(b'"outcome":"complete"', b'"outcome": "complete"')))
    ended = gate("report", run)
    assert ended.code == 2
    why = "was changed since it was measured: its SHA-256 is not that of SHA256SUMS"
    assert ended.line == f"gatebench: {victim}: {why}"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"<li>trials/{victim.name}: {why}</li>" in page
