"""Capacity in the report: charts, tables and answers of a search's own words; nothing hostile, nothing invented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.capacity import told
from harness.physics import Verdict, judge
from harness.recording import Recording, Run, read_manifest
from harness.report import capacity_section, page
from harness.report.capacity_curve import hockey_stick
from harness.report.capacity_section import capacity_answers, tables
from harness.report.drawing import looks

from . import fake

EVIL = "</script><img src=x onerror=alert(1)>"


def answer(variant: str = "asgi", **more: Any) -> dict[str, Any]:
    step = {"rate_rps": 300, "duration_s": 4, "purpose": "bracket", "offered": 900, "bad": 0, "completed_rps": 299}
    point = {"rate_rps": 300, "trials": 2, "ms": 80, "low_ms": 70, "high_ms": 95, "verdict": "holds"}
    model = {
        "name": "M/M/c", "why": "it predicted what it had not seen", "fitted_rps": [100, 200],
        "forecasts": [
            {"rate_rps": 100, "throughput_rps": 100, "p99_ms": 60},
            {"rate_rps": 500, "throughput_rps": 430, "p99_ms": None, "extrapolated": True},
        ],
    }  # fmt: skip
    known = {
        "variant": variant, "scenario": "quick/sleep", "slo": "p99<200ms,errors<0.1%", "sustained_rps": 412.0,
        "low": 398.0, "high": 431.0, "smallest_failed_rps": 450.0, "limited_by": "cpu", "reason": "9 trials near it",
        "law": "1 core ÷ 2.4 ms CPU a request = 417/s", "seconds": 171.0, "steps": [step], "outcome": "found",
        "curve": [point, point | {"rate_rps": 450, "ms": 900, "low_ms": None, "high_ms": None}], "model": model,
    }  # fmt: skip
    return known | more


def run(*answers: dict[str, Any], **more: Any) -> Run:
    known = fake.realistic(Path("capacity-1"), 1)
    mine = [one for one in known.recordings if one.trial.scenario.name == "quick/sleep"]
    probes = tuple(replace(one, head=one.head.model_copy(update={"trial": _probe(one)})) for one in mine)
    return Run(known.folder, probes, {"capacity": {"answers": list(answers)} | more})


def _probe(one: Recording) -> Any:
    scenario = one.trial.scenario.model_copy(update={"name": f"capacity-{one.trial.scenario.name}"})
    return one.trial.model_copy(update={"scenario": scenario})


def test_an_answer_is_one_sentence_a_variant() -> None:
    found = capacity_answers(run(answer(), answer("wsgi-sync", sustained_rps=59.1, low=57.9, high=73.7, law="")))
    assert [one.scenario for one in found] == ["quick/sleep"]
    assert found[0].question == "Up to which rate of quick/sleep does each hold p99 < 200 ms and errors < 0.1 %?"
    assert found[0].sentence == (
        "asgi sustains 412 [398, 431] req/s at p99 < 200 ms and errors < 0.1 %, "
        "limited by CPU: 1 core ÷ 2.4 ms CPU a request = 417/s."
    )
    assert found[0].parts[0].startswith("wsgi-sync sustains 59.1 [57.9, 73.7] req/s at")


@pytest.mark.parametrize(
    ("outcome", "sustained", "said"),
    [
        ("impossible", None, "asgi holds p99 < 200 ms and errors < 0.1 % at no rate: why"),
        ("generator", None, "asgi can't be told at p99 < 200 ms and errors < 0.1 %, as the generator was not up to it"),
        ("budget", None, "asgi can't be told at p99 < 200 ms and errors < 0.1 % in the time that was given: why"),
        ("cliff", 100.0, "asgi sustains 100 ~ req/s at p99 < 200 ms and errors < 0.1 %, and falls off a cliff above"),
        (
            "at-most-asked",
            100.0,
            "asgi sustains 100 ~ req/s at p99 < 200 ms and errors < 0.1 %, and more was not",
        ),
        ("budget", 100.0, "asgi sustains 100 ~ req/s at p99 < 200 ms and errors < 0.1 %, less closely than asked: why"),
    ],
)
def test_each_end_has_its_own_words(outcome: str, sustained: float | None, said: str) -> None:
    one = answer(outcome=outcome, sustained_rps=sustained, low=None, high=None, reason="why")
    assert told.sentence(told.Answer.model_validate(one)).startswith(said)


def test_the_chart_has_the_curve_the_promise_the_band_and_the_model() -> None:
    one = run(answer())
    panels = hockey_stick(one, (), looks(one))
    assert list(panels) == ["quick/sleep · p99 < 200 ms and errors < 0.1 %"]
    drawn = panels["quick/sleep · p99 < 200 ms and errors < 0.1 %"]
    curve = drawn["data"][0]
    assert (curve["x"], curve["y"]) == ([300, 450], [80, 900])
    assert curve["error_y"]["array"] == [15, 0]
    assert curve["error_y"]["arrayminus"] == [10, 0]
    limit, band, line = drawn["layout"]["shapes"]
    assert limit["y0"] == limit["y1"] == 200
    assert (band["x0"], band["x1"], line["x0"]) == (398, 431, 412)
    models = [trace for trace in drawn["data"] if trace["name"] == "asgi, model"]
    assert [(trace["x"], trace["y"]) for trace in models if trace["x"]] == [
        ([100], [60]),
        ([100], [100]),
        ([500], [430]),
    ]
    assert hockey_stick(run(answer("unheard-of")), (), looks(one)) == {}, "of whom nothing was recorded"


def test_what_a_search_asked_is_no_cell_of_a_comparison() -> None:
    shown = page.render(run(answer()), "")
    assert 'id="chart-capacity"' in shown
    assert 'id="chart-throughput"' not in shown
    assert "How much each carries" in shown
    assert "supports no claim" not in shown
    assert 'id="cells"' not in shown


def test_a_plan_is_a_table_with_its_confirming_run() -> None:
    rows = [{"cells": ["asgi", "yes", "1"]}, {"cells": ["wsgi-sync", "no", "~"]}]
    more = {"plan_question": "What holds 900/s?", "plan_heads": ["variant", "holds", "machines"], "plan": rows}
    found = tables(run(**more, confirmations=["asgi, 900/s: p99 61 ms, holds the promise; predicted 60 ms, -2%."]))
    (plan,) = [table for table in found if table.title == "The plan"]
    assert plan.about == "What holds 900/s?"
    assert [row[0] for row in plan.rows] == ["asgi", "wsgi-sync"]
    assert plan.lines[0].endswith("predicted 60 ms, -2%.")


def test_what_the_generator_spoilt_is_said_and_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(answer())
    first, *others = one.recordings
    scenario = first.trial.scenario.model_copy(update={"name": "efficiency-quick/sleep"})
    trial = first.trial.model_copy(update={"scenario": scenario})
    spoilt = replace(first, head=first.head.model_copy(update={"trial": trial}))
    verdict = Verdict("VOID", "generator", "others held its CPU")
    monkeypatch.setattr(capacity_section, "judge", lambda one: verdict if one is spoilt else judge(one))
    found = tables(replace(one, recordings=(spoilt, *others)))
    (void,) = [table for table in found if table.title == "What is VOID"]
    assert void.lines == ("asgi, efficiency-quick/sleep, 200/s: others held its CPU.",)
    assert "What it costs at work" not in {table.title for table in found}


def test_hostile_words_stay_words() -> None:
    bad = answer(reason=EVIL, law=EVIL, limited_by=EVIL, slo=f"p99<1ms {EVIL}", scenario=EVIL)
    bad["curve"][0]["verdict"] = EVIL
    bad["model"]["name"] = bad["model"]["why"] = EVIL
    more = {"plan_question": EVIL, "plan_heads": [EVIL], "plan": [{"cells": [EVIL]}], "confirmations": [EVIL]}
    shown = page.render(run(bad, **more), "")
    assert EVIL not in shown
    assert "<img src=x" not in shown
    assert shown.count("</script>") == page.render(run(answer()), "").count("</script>")


@pytest.mark.parametrize(
    "document",
    [{"answers": 3}, {"format": 2}, {"answers": [{"variant": "x"}]}, {"answers": [answer(sustained_rps=float("nan"))]}],
)
def test_what_cannot_be_read_is_said(document: dict[str, Any]) -> None:
    one = replace(run(), manifest={"capacity": document})
    assert told.document_of(one.manifest) is None
    assert [table.lines for table in tables(one)] == [("capacity.json is damaged, or of another version.",)]
    assert "capacity.json is damaged" in page.render(one, "")


def test_the_folder_keeps_it_beside_the_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) == {}
    (tmp_path / "run.json").write_text('{"seed": 7}')
    assert read_manifest(tmp_path) == {"seed": 7}
    (tmp_path / "capacity.json").write_text(told.Document().model_dump_json())
    assert told.document_of(read_manifest(tmp_path)) == told.Document()
    (tmp_path / "capacity.json").write_text("{" * 10)
    assert read_manifest(tmp_path) == {"seed": 7}
