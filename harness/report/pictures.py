"""Charts as pictures for a blog post. In: a Run. Out: a PNG, SVG or PDF file a panel, each saying what it rests on.

Through kaleido and Chromium, started once for all of them; nothing is fetched.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, get_args

import kaleido
from choreographer.browsers.chromium import ChromeNotFoundError
from choreographer.errors import BrowserClosedError, BrowserFailedError

from harness.capacity.told import is_probe
from harness.errors import EnvironmentFault, UsageError
from harness.lenses import the_one_of
from harness.recording import Run, write_whole
from harness.report.answers import NO_CLAIM
from harness.report.charts import CHARTS, Chart, figures
from harness.report.drawing import LINE, MUTED, plain
from harness.report.words import MOUNT, frameworks

Format = Literal["png", "svg", "pdf"]
WIDTH = 900
HEAD, FOOT = 66, 46  # pixels for the title above and the small print below
START_S, EACH_S = 30.0, 10.0  # far above what was seen (2.5 s and 0.2 s): only a stuck browser takes longer
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NO_CHROMIUM = (
    "pictures need Chromium: `apt-get install chromium` (or name one in BROWSER_PATH); "
    "the page needs none: `gatebench report`"
)


def write(run: Run, folder: Path, format: str, only: Collection[str] | None = None) -> list[Path]:  # noqa: A002
    """One file a panel, `<chart>[-<panel>].<format>`. Raises EnvironmentFault without Chromium, UsageError
    for a word that is not known and for mixed lenses."""
    if format not in get_args(Format):
        raise UsageError(f"no such format: {format!r}; there are {', '.join(get_args(Format))}")
    the_one_of(one.trial.lens for one in run.recordings)
    if unknown := sorted(set(only or ()) - set(CHARTS)):
        raise UsageError(f"no such chart: {', '.join(unknown)}; there are {', '.join(CHARTS)}")
    drawn = {name: panels for name, panels in figures(run).items() if only is None or name in only}
    if not drawn:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot make {folder}: {error.strerror}; name another folder") from error
    pictures = {
        folder / f"{'-'.join(filter(None, (name, _file_name(panel))))}.{format}": _captioned(
            figure, CHARTS[name], panel, run
        )
        for name, panels in drawn.items()
        for panel, figure in panels.items()
    }
    draw(pictures, format)
    return list(pictures)


def draw(pictures: dict[Path, dict[str, Any]], format: str) -> None:  # noqa: A002
    """Writes figures, given as plotly's own data. Raises EnvironmentFault without Chromium."""
    if not shutil.which(os.environ.get("BROWSER_PATH", "")) and not any(map(shutil.which, BROWSERS)):
        raise EnvironmentFault(NO_CHROMIUM)
    try:
        asyncio.run(_written(pictures, format))
    except (ChromeNotFoundError, BrowserFailedError, BrowserClosedError, OSError, TimeoutError) as error:
        raise EnvironmentFault(f"Chromium did not start or answer ({type(error).__name__}); {NO_CHROMIUM}") from error


async def _written(pictures: dict[Path, dict[str, Any]], format: str) -> None:  # noqa: A002
    """All with one Chromium: starting it takes ten times as long as a picture."""
    # mathjax would come from the network
    async with asyncio.timeout(START_S + EACH_S * len(pictures)), kaleido.Kaleido(mathjax=False) as browser:
        for path, figure in pictures.items():
            size = {"width": WIDTH, "height": figure["layout"]["height"], "scale": 2 if format == "png" else 1}
            write_whole(path, await browser.calc_fig(figure, opts=size | {"format": format}))


def _captioned(figure: Any, chart: Chart, panel: str, run: Run) -> dict[str, Any]:
    """With its title above and below it what a number never goes without: a picture travels alone."""
    whole: dict[str, Any] = figure.to_plotly_json()
    layout = whole["layout"]
    margin, plot = layout["margin"], layout["height"] - layout["margin"]["t"] - layout["margin"]["b"]
    told = small_print(run)
    foot = FOOT + LINE * (len(told) - 1)
    above, below = HEAD + margin["t"], foot + margin["b"]
    layout["height"] += HEAD + foot
    layout["margin"] = margin | {"t": above, "b": below}
    layout["legend"] |= {"y": (below if "meta" in layout else layout["height"] - HEAD) / layout["height"]}
    layout["title"] = {
        "text": f"<b>{chart.title}{f': {plain(panel)}' if panel else ''}</b><br>{_small(chart.question)}",
        "x": 0, "xref": "container", "xanchor": "left", "yref": "container", "yanchor": "top",
        "y": 1 - 18 / layout["height"], "pad": {"l": 4}, "font": {"size": 18},
    }  # fmt: skip
    place = {"x": 0, "xref": "paper", "xanchor": "left", "xshift": 4 - margin["l"], "showarrow": False}
    place |= {"y": -(below - 14) / plot, "yref": "paper", "yanchor": "bottom"}
    layout["annotations"] = [
        *layout.get("annotations", ()),
        place | {"text": "<br>".join(map(_small, told)), "align": "left"},
    ]
    return whole


def _small(text: str) -> str:
    return f"<span style='font-size:12px;color:{MUTED}'>{plain(text)}</span>"


def small_print(run: Run) -> list[str]:
    """What the numbers rest on, and what they do not say; a line each."""
    repeats = len({one.trial.repeat for one in run.recordings if not is_probe(one.trial.scenario.name)})
    rests = f"{repeats} repeats, 95 % intervals where drawn" if repeats > 1 else NO_CLAIM.rstrip(".")
    rests = rests if repeats else f"{len(run.recordings)} trials of a search"
    lenses = ", ".join(sorted({one.trial.lens for one in run.recordings}))
    partial = "" if run.manifest.get("outcome", "complete") == "complete" else "PARTIAL run · "
    rest = f"{partial}{rests} · lens {lenses} · VOID cells left out · gatebench, run {run.folder.name}"
    return [rest, *[MOUNT] * bool(frameworks(run))]


def _file_name(panel: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", panel).strip("-")
