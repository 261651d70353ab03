"""In Chromium: the page draws, asks nobody, fits a phone and goes dark; charts become pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from harness.errors import EnvironmentFault, UsageError
from harness.report import page, pictures
from harness.report.charts import CHARTS
from tests.gate import CI

from . import fake
from .test_page import hostile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.browser
needs_chromium = pytest.mark.skipif(not CHROMIUM and not CI, reason="needs Chromium: apt-get install chromium")
MARKS = ".plot .point path, .plot .points path, .plot .scatter .lines path"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (390, "dark")])
def test_page(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    path = page.write(fake.realistic(repeats=2), tmp_path / "report.html")
    tab = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
    )
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-drawn]")
    for name in CHARTS.keys() - {"capacity", "map", "overload", "time"}:  # which need runs of their own
        assert tab.locator(MARKS.replace(".plot", f"#chart-{name}")).count() > 0, name
    tab.select_option("#chart-timeline-choice", index=3)
    assert tab.locator("#chart-timeline .points path").count() > 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    assert asked == [path.as_uri()]
    background = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(20, 22, 27)" if scheme == "dark" else "rgb(253, 253, 252)")
    drawn = tab.evaluate("document.querySelector('#chart-throughput .main-svg').style.background")
    assert drawn == background


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_twenty_variants_can_be_read(browser: Browser, tmp_path: Path, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(page.write(fake.crowd(), tmp_path / "report.html").as_uri())
    tab.wait_for_selector("html[data-drawn]")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for chart, names in (("throughput", ".ytick text"), ("resources", ".ytick text"), ("spectrum", ".legendtext")):
        boxes = tab.evaluate(
            f"""[...document.querySelectorAll("#chart-{chart} {names}")].map((text) => [
                text.textContent, ...(({{ left, right, top, bottom }}) => [left, right, top, bottom])(
                    text.getBoundingClientRect())])"""
        )
        found = {name for name, *_ in boxes}
        for name in fake.CROWD:
            assert any(text.startswith(name) for text in found), f"{chart}: {name} is cut"
        assert all(left >= 0 and right <= width for _, left, right, *_ in boxes), f"{chart}: a name leaves the page"
        column = sorted((top, bottom, left, right) for _, left, right, top, bottom in boxes)
        for (_, end, left, right), (begin, _, other, _) in pairwise(column):
            assert begin >= end - 1 or other >= right or left > other, f"{chart}: two names overlap"
    plot = tab.locator("#chart-spectrum .cartesianlayer").bounding_box()
    assert plot
    assert plot["height"] > 300, "the legend squeezes the plot"


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_the_maps_words_stay_in_their_cells(browser: Browser, tmp_path: Path, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(page.write(fake.grid(), tmp_path / "report.html").as_uri())
    tab.wait_for_selector("html[data-drawn]")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    size = "({ width, height }) => [width, height]"
    boxes, words = (
        tab.evaluate(
            f"[...document.querySelectorAll('#chart-map {marks}')].map((one) => ({size})(one.getBoundingClientRect()))"
        )
        for marks in (".shapelayer path", ".scatterlayer .textpoint text")
    )
    assert len(boxes) == len(words) == 9
    assert max(wide for wide, _ in words) < min(wide for wide, _ in boxes)
    assert max(high for _, high in words) < min(high for _, high in boxes)


@needs_chromium
def test_hostile_page_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    tab = browser.new_page()
    said: list[str] = []
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.on("console", lambda message: said.append(message.text))
    tab.goto(page.write(hostile(), tmp_path / "report.html").as_uri())
    tab.wait_for_selector("html[data-drawn]")
    tab.locator("#chart-throughput .point path").first.hover(force=True)
    assert said == []
    assert tab.locator("img").count() == 0


@needs_chromium
def test_pictures(tmp_path: Path) -> None:
    [png] = pictures.write(fake.realistic(repeats=2), tmp_path, "png", {"throughput"})
    assert png.name == "throughput.png"
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert png.stat().st_size > 10_000
    svgs = pictures.write(fake.realistic(repeats=2), tmp_path, "svg", {"resources", "timeline"})
    assert len(svgs) == 1 + 6
    assert all('class="point' in svg.read_text() for svg in svgs)


def test_pictures_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no such chart: nope; there are .*throughput, latency"):
        pictures.write(fake.realistic(repeats=2), tmp_path, "png", {"nope"})
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    with pytest.raises(EnvironmentFault, match="apt-get install chromium"):
        pictures.write(fake.realistic(repeats=2), tmp_path, "png", {"resources"})
