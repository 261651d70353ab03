"""A plain `locust -f scenarios/locustfile.py` works as its users expect, and its own numbers are true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from apps.variants import VARIANTS
from harness.serve.process import ROOT, serve


@pytest.mark.slow
def test_all_six_endpoints_show_in_locusts_own_table(tmp_path: Path) -> None:
    with serve(VARIANTS["asgi"], folder=tmp_path) as server:
        host = f"http://127.0.0.1:{server.address[1]}"
        words = [
            "--headless",
            "-u",
            "12",
            "-r",
            "12",
            "-t",
            "3",
            "--json-file",
            str(tmp_path / "told"),  # Locust adds .json
            "--host",
            host,
        ]
        argv = [sys.executable, "-m", "locust", "-f", "scenarios/locustfile.py", *words]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads((tmp_path / "told.json").read_text())}
    assert {"ping", "sleep", "db", "cpu", "sse", "ws", "ws:echo"} <= rows.keys()
    assert all(row["num_failures"] == 0 for row in rows.values())
    # two users of a 50 ms sleep for 3 s: 120 calls at most, and not many fewer, the last half second included
    sleeps = rows["sleep"]
    assert 80 <= sleeps["num_requests"] <= 120
    assert 50 <= sleeps["min_response_time"] <= sleeps["total_response_time"] / sleeps["num_requests"] <= 60


@pytest.mark.slow
def test_a_foreign_host_is_refused(tmp_path: Path) -> None:
    words = ["--headless", "-u", "1", "-t", "2", "--host", "http://192.0.2.1:9"]
    argv = [sys.executable, "-m", "locust", "-f", "scenarios/locustfile.py", *words, "PingUser"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "not this machine" in done.stdout + done.stderr
    assert done.returncode != 0
