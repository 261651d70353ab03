"""The laws are not under test here: Trials are VALID unless their notes say otherwise, and one ceiling is known."""

from __future__ import annotations

import pytest

from harness import blocks, stats
from harness.physics import VALID, Ceiling, Verdict
from harness.recording import Recording
from harness.report import by_cell, charts


def judge(recording: Recording) -> Verdict:
    for note in recording.end.notes:
        if note.startswith("verdict "):
            _, name, limited_by, reason = note.split(" ", 3)
            return Verdict(name, limited_by, reason)
    return Verdict(VALID, "cpu", "1 core, all of it used")


def ceilings(recording: Recording) -> list[Ceiling]:
    rps = {"asgi": 1e9}.get(recording.trial.variant, 1.1 * recording.throughput_rps(recording.names[0]))
    return [Ceiling("cpu", rps, "1 core ÷ its CPU a request")]


@pytest.fixture(autouse=True)
def _laws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "judge", judge)
    monkeypatch.setattr(charts, "judge", judge)
    monkeypatch.setattr(blocks, "judge", judge)
    monkeypatch.setattr(by_cell, "ceilings", ceilings)
