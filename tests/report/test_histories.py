"""The chart of a history: a line a variant, a mark where a new level begins; hostile names stay text."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.blocks import values_of
from harness.errors import UsageError
from harness.history import History
from harness.history import histories as followed
from harness.report import histories
from tests.made_up import blocks

EVIL = "</script><img src=x onerror=alert(1)>"


def found(*names: str, runs: int = 16) -> list[History]:
    rng = np.random.default_rng(3)
    days = []
    for day in range(runs):
        speeds = {"wsgi": 2000 * (1 + rng.normal(0, 0.003, 3))}
        speeds |= {name: (4000 if day < 8 else 3400) * (1 + rng.normal(0, 0.003, 3)) for name in names}
        days.append((f"day {day}", values_of(blocks({name: list(some) for name, some in speeds.items()}))))
    return followed(days, "wsgi")


RUNS = [f"day {day}" for day in range(16)]


def test_a_line_a_variant_and_a_mark_a_change() -> None:
    panels = histories.panels(found("asgi"), RUNS)
    assert set(panels) == {f"s · 16 users · sleep · {metric}" for metric in ("throughput_rps", "p50_ms", "p99_ms")}
    line, mark = panels["s · 16 users · sleep · throughput_rps"]["data"]
    assert line["x"] == list(range(16))
    assert line["y"][0] == pytest.approx(2, rel=0.01)
    assert len(line["error_y"]["array"]) == 16
    assert mark["x"] == [8]
    assert re.match(r"-1[45]\.\d% from day 8 on", mark["text"][0])


def test_the_page_needs_nothing_and_runs_nothing_of_others(tmp_path: Path) -> None:
    some = [one._replace(variant=EVIL, reference=EVIL) for one in found("asgi")]
    made = histories.render(some, histories.panels(some, RUNS), "/* plotly.js */")
    assert "<img" not in made
    assert made.count("<script>") == 2
    path = histories.write(found("asgi"), RUNS, tmp_path / "h.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "h.gif", tmp_path / "nowhere" / "h.html"):
        with pytest.raises(UsageError, match="--to "):
            histories.write(found("asgi", runs=2), RUNS, path)


@pytest.mark.browser
@pytest.mark.slow
def test_pictures_are_a_file_a_panel(tmp_path: Path) -> None:
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no Chromium")
    assert histories.write(found("asgi"), RUNS, tmp_path / "h.svg") == tmp_path / "h-1.svg"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h-1.svg", "h-2.svg", "h-3.svg"]
