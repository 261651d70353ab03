"""Disks, rights, empty plans and dead targets (PROOFS, faults 15, 16, 23)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.recording import read_run
from tests.gate import Gate, disk_of, scenario, wait_for

NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 80 MB: little more than a run asks for before it begins."""
    with disk_of(80, tmp_path) as disk:
        yield disk


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_and_spoils_nothing(gate: Gate, tmp_path: Path, small_disk: Path) -> None:
    file = scenario(tmp_path, rates="[50, 60]")
    command = gate.start("run", file, "--variants", "asgi", "--results", small_disk, "--name", "r")
    kept = wait_for(lambda: next(small_disk.glob("r/trials/*.jsonl.gz"), None), "a Recording", 40)
    before = kept.read_bytes()
    with contextlib.suppress(OSError), (small_disk / "full").open("wb", buffering=0) as sink:
        while sink.write(bytes(4096)):
            pass
    ended = command.ended()
    command.assert_nothing_left()
    assert ended.code == 6
    assert "No space left on device; free some space" in ended.line
    assert list(small_disk.glob("r/trials/*")) == [kept]
    assert kept.read_bytes() == before
    assert [one.end.outcome for one in read_run(small_disk / "r").recordings] == ["complete"]
    assert not [path for path in small_disk.glob("r/*") if path.is_file() and not path.stat().st_size]


def test_a_disk_that_is_full_is_refused_first(gate: Gate, tmp_path: Path, small_disk: Path) -> None:
    (small_disk / "most").write_bytes(bytes(40 << 20))
    ended = gate("run", scenario(tmp_path), "--variants", "asgi", "--results", small_disk)
    assert ended.code == 6
    assert "MB are free" in ended.line
    assert not (small_disk / "most").with_name(".lock").exists()


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_that_a_plain_user_cannot_write_is_refused_first(
    gate: Gate, tmp_path_factory: pytest.TempPathFactory, mode: int
) -> None:
    folder = tmp_path_factory.mktemp("unwritable")
    for parent in (folder, *folder.parents[:2]):  # pytest's own folders are for their owner
        if not os.geteuid():
            parent.chmod(0o755)
    file, results = scenario(folder), folder / "results"
    results.mkdir()
    if not os.geteuid():
        os.chown(results, NOBODY, NOBODY)
    results.chmod(mode)
    prefix = [] if os.geteuid() else ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if prefix and subprocess.run([*prefix, sys.executable, "-c", "import harness.run"], check=False).returncode:
        pytest.skip("a plain user cannot read this checkout or its Python")
    command = gate.start("run", file, "--variants", "asgi", "--results", results, "--name", "r", prefix=prefix)
    ended = command.ended()
    command.assert_nothing_left()
    results.chmod(0o700)
    assert ended.code == 6
    assert ended.line == (
        f"gatebench: cannot write to {results}: Permission denied; name another folder with --results"
    )
    assert ended.err.strip() == ended.line
    assert not list(results.iterdir())


def test_a_folder_that_cannot_be_made_is_refused_first(gate: Gate, tmp_path: Path) -> None:
    file = scenario(tmp_path)
    ended = gate("run", file, "--variants", "asgi", "--results", file / "below" / "a file")
    assert ended.code == 6
    assert "cannot write to" in ended.line
    assert "name another folder with --results" in ended.line


def test_an_empty_plan_says_so_in_words(gate: Gate, tmp_path: Path) -> None:
    file = scenario(tmp_path, endpoint="ws")
    ended = gate("run", file, "--variants", "wsgi-sync", "--results", tmp_path / "results")
    assert ended.code == 4
    assert ended.line.startswith("gatebench: n/a: nothing to measure: wsgi-sync has no ws: ")
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_dead_target_is_not_available_never_zero(gate: Gate) -> None:
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        told = gate("load", url, "--rate", 50, "--arrivals", "constant", "--duration", 1, "--json")
        shown = gate("load", url, "--users", 2, "--duration", 1)
    assert told.code == 4
    answer = json.loads(told.out)
    assert answer["verdict"] == "VOID"
    assert answer["reason"] == f"n/a: none of {answer['offered']} requests completed"
    assert answer["failed"] == answer["offered"] == answer["errors"]["refused"] > 0
    assert {answer["response_us"][mark] for mark in ("p50", "p99", "max")} == {None}
    assert shown.code == 4
    assert "VOID: limited by none: n/a: none of " in shown.out
    assert "Traceback" not in shown.err
