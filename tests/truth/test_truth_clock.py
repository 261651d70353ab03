"""PROOFS T14, fault 17: the wall clock jumps an hour to and fro in mid-run, and nothing changes.

The load process gets a `sitecustomize` that moves the wall clock before anything of ours, gevent's or Locust's is
imported: by an hour forth, then back, twice a second. Its counts and times are then held against the server's own log.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.load_url import drive, told
from harness.proving import serving
from harness.recording import HUB

JUMP = '''
import datetime, os, pathlib, time

_time, _ns, _steady = time.time, time.time_ns, time.monotonic


def _ahead():
    """An hour forth in one quarter of a second, an hour back in the next."""
    return (0, 3600, 0, -3600)[int(_steady() * 4) % 4]


time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _ns() + _ahead() * 10**9
with open(pathlib.Path(__file__).with_name("jumped"), "a") as log:
    log.write(str(os.getpid()) + "\\n")
'''
RATE, SECONDS = 200, 3


@pytest.mark.slow
@pytest.mark.parametrize("arrivals", ["constant", "closed"])
def test_an_hour_to_and_fro_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrivals: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMP, encoding="utf-8")
    with serving("delay", 5, log=True) as server:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)  # of the load process alone
        recording = drive(
            f"http://127.0.0.1:{server.port}/",
            rate=RATE if arrivals == "constant" else None,
            users=None if arrivals == "constant" else 4,
            duration=SECONDS,
            arrivals="constant",
            timeout=5.0,
            connections=100,
            seed=1,
        ).recording
        log = server.end()
    jumps = tmp_path / "jumped"
    assert jumps.read_text().strip(), "the clock of the load process never jumped"
    every = range(SECONDS + 1)
    counts = recording.counts("url", every)
    assert counts.completed == counts.offered == len(log), "not what the server saw"
    if arrivals == "constant":
        assert [row.offered for row in recording.rows if row.row == "url" and row.offered] == [RATE] * SECONDS
    assert {row.second for row in recording.rows} <= {*every}, "a second of another hour"
    assert recording.end.loaded_s == pytest.approx(SECONDS, abs=0.2)
    span = max(entry.departed for entry in log) - min(entry.arrived for entry in log)
    assert span == pytest.approx(SECONDS, abs=0.5), "the load was not spread over its duration"
    answer = told(recording)
    assert answer["response_us"]["p50"] == pytest.approx(5_300, abs=700)
    # a jump of an hour, or a negative time cut to 0, would stand at the ends; half a second is any machine's noise
    service = recording.histogram("url", "service", every)
    assert int(service.values_us[0]) >= 5_000
    assert service.max_us < 500_000
    assert recording.histogram(HUB, "lag", every).max_us < 500_000
