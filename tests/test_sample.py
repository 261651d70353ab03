"""The committed sample, a small real run: it reads, adds up, and its report is rebuilt byte for byte.

GATEBENCH_GOLDEN=write renews the golden page after a change that is meant.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from apps.variants import VARIANTS
from harness import load_run
from harness.recording import Run, read_run
from harness.report import page
from harness.report.charts import plotly_js
from harness.scenarios import BASE, load
from harness.stats import Summary, summarise

SAMPLE = Path(__file__).resolve().parents[1] / "results" / "sample"
GOLDEN = Path(__file__).parent / "golden" / "sample.html"


@pytest.fixture(scope="module")
def run() -> Run:
    return read_run(SAMPLE)


@pytest.fixture(scope="module")
def summaries(run: Run) -> list[Summary]:
    return summarise(run.recordings)


def test_every_file_of_it_reads(run: Run) -> None:
    assert not run.problems
    assert run.manifest["outcome"] == "complete"
    assert all(recording.counts(name, range(60)).add_up for recording in run.recordings for name in recording.names)


def test_it_has_the_four_variants_on_what_quick_asks_but_for_holes(summaries: list[Summary]) -> None:
    found = {(row.variant, row.endpoint) for row in summaries if ":" not in row.endpoint}
    asked = {part.endpoint for scenario in load(["quick"]) for part in scenario.mix}
    assert found == {(name, endpoint) for name in BASE for endpoint in asked if endpoint not in VARIANTS[name].holes}


def test_its_counts_add_up_and_every_cell_can_be_used(summaries: list[Summary]) -> None:
    for row in summaries:
        assert row.offered == row.completed + row.failed + row.timed_out + row.unfinished
        assert row.verdict in ("VALID", "SUSPECT"), row.reason


def test_it_knows_what_limits_threads_and_sync(summaries: list[Summary]) -> None:
    sync = next(row for row in summaries if (row.variant, row.endpoint) == ("wsgi-sync", "sleep"))
    assert sync.limited_by == "slots"
    assert sync.throughput_rps == pytest.approx(4 / 0.050, rel=0.05)


def test_its_frames_share_their_keys() -> None:
    frames = load_run(SAMPLE)
    keys = {"variant", "scenario", "level", "repeat"}
    assert all(keys <= set(frame.columns) for frame in (frames.trials, frames.seconds, frames.resources))
    assert len(frames.cells) > 23


def test_its_report_is_rebuilt_byte_for_byte(run: Run) -> None:
    # plotly.js by its hash, not by its megabytes
    stand_in = f"/* plotly.js {hashlib.sha256(plotly_js().encode()).hexdigest()} */"
    made = page.render(run, stand_in)
    if os.environ.get("GATEBENCH_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(made, encoding="utf-8")
    assert made == GOLDEN.read_text(encoding="utf-8"), "if that is meant, renew it with GATEBENCH_GOLDEN=write"
