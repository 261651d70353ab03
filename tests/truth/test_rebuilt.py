"""PROOFS T13: a report is rebuilt from a stored run byte for byte, wherever and under whatever settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.recording import read_run

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "results" / "sample"
ELSEWHERE = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7", "HOSTNAME": "elsewhere", "COLUMNS": "40"}
HERE = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "HOSTNAME": "here"}


def stored(folder: Path, pattern: str) -> Path:
    """Some of the sample's recordings as a run of their own; its name is on the page."""
    run = folder / "r"
    (run / "trials").mkdir(parents=True)
    for path in (SAMPLE / "trials").glob(pattern):
        shutil.copy(path, run / "trials")
    shutil.copy(SAMPLE / "run.json", run)
    return run


def rebuilt(run: Path, cwd: Path, env: dict[str, str], prefix: list[str]) -> bytes:
    argv = [*prefix, sys.executable, "-m", "harness", "report", str(run)]
    whole = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    whole |= {"PYTHONPATH": str(ROOT)} | env
    subprocess.run(argv, cwd=cwd, env=whole, capture_output=True, check=True, timeout=120)
    return (run / "report.html").read_bytes()


def another_host() -> list[str]:
    """A host name of its own, where the kernel lets us."""
    prefix = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    return prefix if tried is not None and tried.returncode == 0 else []


@pytest.mark.parametrize(
    "pattern", ["quick~ping-*", pytest.param("*", marks=pytest.mark.slow)], ids=["ping", "all of the sample"]
)
def test_a_report_is_the_same_byte_for_byte_anywhere(tmp_path: Path, pattern: str) -> None:
    one, other = stored(tmp_path / "one", pattern), stored(tmp_path / "other" / "deeper", pattern)
    for place, path in enumerate((other / "trials").iterdir()):  # as another file system keeps them
        os.utime(path, (place, place))
    made = rebuilt(one, ROOT, HERE, [])
    assert made == rebuilt(other, tmp_path, ELSEWHERE, another_host())
    assert str(tmp_path).encode() not in made


def test_the_samples_files_are_those_that_were_measured() -> None:
    assert (SAMPLE / "SHA256SUMS").exists()
    assert read_run(SAMPLE).problems == ()
