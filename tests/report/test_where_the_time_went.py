"""Where the time went, drawn: means that add up, shares of workers, and nothing where nothing was traced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.recording import Run, Trace
from harness.report import page
from harness.report.charts import figures
from harness.report.where_the_time_went import PORTIONS, imbalance, split_of
from harness.stats import summarise

from . import fake

THREADS = Trace(
    row="ping", n=100, sums={"before": 30_000_000, "wait": 9_900_000, "cpu": 100_000, "write": 1_000_000},
    workers=((7, 1, 40), (7, 2, 30), (7, 3, 30)),
)  # fmt: skip
GREENLETS = Trace(row="ping", n=50, missing=2, sums={"before": 50_000, "inside": 5_000_000}, workers=((8, 9, 50),))


def run(traces: dict[str, Trace], **about: object) -> Run:
    made = [
        replace(one, traces=(trace,), head=one.head.model_copy(update={"subject": subject}))
        for name, trace in traces.items()
        for subject in [fake.subject(name, **about).model_copy(update={"interface": "wsgi"})]
        for one in fake.plain(name, 100, 2)
    ]
    return Run(Path("run"), tuple(made))


def test_a_cell_is_the_mean_of_all_its_requests() -> None:
    one = run({"wsgi-threads": THREADS}, slots=4)
    (row,) = summarise(one.recordings)
    split = split_of(one, row)
    assert split is not None
    assert split.n == 200
    assert split.mean_ms == {"before": 300, "wait": 99, "cpu": 1, "write": 10}
    assert (split.unit, split.shares) == ("threads", (0.4, 0.3, 0.3, 0.0)), "one of four was given nothing"
    assert split.imbalance == pytest.approx(1.6)


def test_several_processes_are_the_workers_and_repeats_are_ranked_before_they_are_averaged() -> None:
    one = run({"wsgi-sync": THREADS}, processes=2)
    traces = [replace_workers((1, 1, 60), (2, 2, 40)), replace_workers((3, 1, 20), (4, 2, 80))]
    swapped = [replace(old, traces=(new,)) for old, new in zip(one.recordings, traces, strict=True)]
    one = replace(one, recordings=tuple(swapped))
    split = split_of(one, summarise(one.recordings)[0])
    assert split is not None
    assert split.unit == "processes"
    assert split.shares == pytest.approx((0.7, 0.3))


def replace_workers(*workers: tuple[int, int, int]) -> Trace:
    return THREADS.model_copy(update={"workers": workers})


@pytest.mark.parametrize(
    ("shares", "index"), [([1.0], 1), ([0.25] * 4, 1), ([1, 0, 0, 0], 4), ([40, 30, 30], 1.2), ([3, 1], 1.5)]
)
def test_imbalance_is_the_busiest_to_the_mean(shares: list[float], index: float) -> None:
    assert imbalance(shares) == pytest.approx(index)


def test_bars_add_up_and_say_what_was_not_seen() -> None:
    one = run({"wsgi-threads": THREADS, "wsgi-gevent": GREENLETS}, slots=None)
    (figure,) = figures(one)["time"].values()
    bars = [bar for bar in figure.data if bar.type == "bar"]
    labels = {PORTIONS[kind][0] for kind in ("before", "wait", "cpu", "inside", "write")}
    assert {bar.name for bar in bars} - {None} == labels
    whole = [sum(bar.x[i] for bar in bars if bar.name in labels) for i in (0, 1)]
    assert whole == pytest.approx([101, 410])  # by name: gevent, threads
    words = str(figure.layout.to_plotly_json())
    assert "101 ms, 4 unseen" in words
    assert "410 ms" in words
    assert "3 threads, imbalance 1.20" in words
    assert figure.layout.barmode == "stack"


def test_the_page_has_the_section_only_where_something_was_traced() -> None:
    made = page.render(run({"wsgi-threads": THREADS}), "")
    assert '<figure class="chart" id="time">' in made
    assert "Where the time went" in made
    plain = Run(Path("run"), tuple(fake.plain("wsgi-threads", 100, 2)))
    assert 'id="time"' not in page.render(plain, "")
    assert "time" not in figures(plain)
    assert split_of(plain, summarise(plain.recordings)[0]) is None
