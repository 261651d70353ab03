"""From an Ask to a Seen, and from a search to a folder: simulated servers, no clock, no socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.variants import VARIANTS
from harness.capacity import probing, told
from harness.capacity.asking import Asked, asked_of, probed, scenario_of, slos_of
from harness.capacity.keeping import Progressing
from harness.capacity.places import Patient, Place, cut
from harness.capacity.plan import Machine
from harness.capacity.planning import Wanted, planned
from harness.capacity.seen import backlog, growing, held, seen_of
from harness.capacity.slo import parsed
from harness.cli import main
from harness.errors import NothingUsable, UsageError
from harness.load.order import Progress
from harness.measure import Bench
from harness.recording import Recording, read_run
from harness.report import page
from harness.trial import Slo, Trial
from tests.capacity.simulated import Simulated, lined_up, recording_of, with_end

SLO = Slo(p99_ms=200, errors=0.001)


def trial_of(rate: float, duration_s: int = 11, **more: Any) -> Trial:
    scenario = probed(scenario_of("sleep?ms=50"), [SLO])
    update = {"rates": (rate,), "duration_s": duration_s, "warmup_s": 1} | more
    return Trial(variant="wsgi-threads", scenario=scenario.model_copy(update=update), level=rate, repeat=0, seed=3)


def queue(slots: int = 16, service_s: float = 0.05) -> Callable[[Any], Any]:
    return lambda times: lined_up(times, slots, service_s)


# -- one Trial as a search sees it -----------------------------------------------------------------------------------


def test_what_a_trial_says_is_what_it_holds() -> None:
    recording = recording_of(trial_of(100), queue(), slots=16)
    seen = seen_of(recording, [SLO], 12.5)
    assert seen.offered == sum(row.offered for row in recording.rows if row.second >= 1)
    assert (seen.bad, seen.growing, seen.fault, seen.seconds) == (0, False, "", 12.5)
    assert seen.quantiles_ms[0.5] == pytest.approx(50, rel=0.01)
    assert seen.over[200.0] == 0.0
    assert seen.tail == seen.offered
    assert held(seen, SLO)


def test_what_is_lost_is_slower_than_any_limit() -> None:
    recording = recording_of(trial_of(100), queue(), lost=lambda number: number % 20 == 0)
    seen = seen_of(recording, [SLO], 1.0)
    assert seen.bad == pytest.approx(0.05 * seen.offered, abs=2)
    assert seen.over[200.0] == pytest.approx(0.05, abs=0.003)
    assert seen.quantiles_ms[0.9] == pytest.approx(50, rel=0.01)
    assert seen.quantiles_ms[0.99] == 1000 * recording.trial.scenario.timeout_s
    assert not held(seen, SLO)


def test_an_answer_that_never_came_is_late_even_where_the_limit_is_longer_than_anybody_waited() -> None:
    long = Slo(p99_ms=5000)
    trial = trial_of(100)
    never = recording_of(trial, lambda times: np.where(np.arange(len(times)) % 10 == 0, 1e9, times + 0.05))
    seen = seen_of(never, [long], 1.0)
    assert seen.bad == pytest.approx(0.1 * seen.offered, abs=3)
    assert seen.over[5000.0] >= 0.09


def test_a_queue_that_grows_is_told_from_one_that_wanders() -> None:
    held_up = recording_of(trial_of(480), queue(), slots=16)
    assert growing(held_up, [SLO])
    assert backlog(held_up)[-1] > 5 * backlog(held_up)[1]
    for seed in range(20):
        calm = trial_of(300).model_copy(update={"seed": seed})
        assert not growing(recording_of(calm, queue(), slots=16), [SLO])


def test_nothing_offered_is_no_division_by_nothing() -> None:
    seen = seen_of(recording_of(trial_of(0.01), queue()), [SLO], 1.0)
    assert (seen.offered, seen.over[200.0], seen.quantiles_ms[0.99]) == (0, 0.0, 0.0)


def test_near_a_ceiling_the_ceiling_is_what_limits() -> None:
    assert seen_of(recording_of(trial_of(300), queue(), slots=16), [SLO], 1.0).limited_by == "slots"
    near = seen_of(recording_of(trial_of(300), queue(), slots=16), [SLO], 1.0)
    assert near.reason.startswith("16 slots ÷ 50 ms = 320/s")
    assert seen_of(recording_of(trial_of(60), queue(), slots=16), [SLO], 1.0).limited_by == "none"


def test_the_generators_fault_is_told_and_a_servers_is_not() -> None:
    recording = recording_of(trial_of(100), queue())
    late = with_end(recording, started_late=50)
    assert "more than 50 ms late" in seen_of(late, [SLO], 1.0).fault
    silent = recording_of(trial_of(100), lambda times: times + 1e9)
    assert seen_of(silent, [SLO], 1.0).fault == "", "a server that answers nobody is a finding"


def test_a_trial_that_was_ended_early_is_one_of_its_whole_seconds() -> None:
    recording = with_end(recording_of(trial_of(480), queue(), slots=16), loaded_s=4.7)
    short = cut(recording, "ended after 4 s: many were not answered")
    assert short.trial.scenario.duration_s == 4
    assert max(row.second for row in short.rows) == 3
    assert short.end.notes == ("ended after 4 s: many were not answered",)
    assert cut(recording, "") is recording


class Scripted(Patient):
    """Says what it is told, and notes what it is asked to stop."""

    def __init__(self, completed: Sequence[int]) -> None:
        self.script = [Progress(state="second", second=i + 2, completed=n) for i, n in enumerate(completed)]
        self.stopped: list[str] = []

    def stop(self, kind: str) -> None:
        self.stopped.append(kind)


def told_by(generator: Scripted, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    script = iter(generator.script)
    monkeypatch.setattr("harness.load.process.Generator.progress", lambda *_: next(script, None))
    while generator.progress(0.1) is not None:
        continue
    return generator.stopped


@pytest.mark.parametrize(
    ("completed", "stops"),
    [
        ([400] * 9, False),  # it keeps up
        ([395, 0, 790, 405, 400, 400], False),  # it stood still for a second
        ([200] * 9, True),
        ([390, 350, 300, 250, 200, 150, 100, 50, 0], True),
        ([0] * 9, True),
        ([370] * 9, False),  # 8 % too slow is to be seen, not guessed
    ],
)
def test_only_what_cannot_hold_is_ended_early(
    monkeypatch: pytest.MonkeyPatch, completed: list[int], stops: bool
) -> None:
    generator = Scripted(completed)
    generator.limit_s = 0.2
    generator.expect(trial_of(400), patient=False)
    assert told_by(generator, monkeypatch) == (["interrupted"] if stops else [])
    assert bool(generator.given_up) is stops


def test_a_patient_trial_is_never_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Scripted([0] * 9)
    generator.expect(trial_of(400), patient=True)
    assert told_by(generator, monkeypatch) == []


# -- what may be asked -----------------------------------------------------------------------------------------------


def test_a_scenario_is_a_name_a_part_of_a_file_or_an_endpoint() -> None:
    assert scenario_of("sleep").name == "sleep"
    assert scenario_of("quick/db").mix[0].pool_s == pytest.approx(0.02)
    assert scenario_of("sleep?ms=70").wait_s == pytest.approx(0.07)
    assert scenario_of("/mix?ms=20&n=2000").mix[0].query == "ms=20&n=2000"
    for wrong, said in (("quick", "choose one of quick/ping"), ("quick/x", "there are quick/ping"), ("slep", "sleep")):
        with pytest.raises(UsageError, match=said):
            scenario_of(wrong)
    with pytest.raises(UsageError, match="ms = '-1'"):
        scenario_of("sleep?ms=-1")


def test_a_promise_is_needed_and_waits_are_long_enough_to_see_it_broken() -> None:
    asked = scenario_of("sleep?ms=50")
    with pytest.raises(UsageError, match="say one: --slo"):
        slos_of([], asked)
    with pytest.raises(UsageError, match="needs a response time"):
        slos_of(["errors<0.1%"], asked)
    assert slos_of([], scenario_of("quick/sleep")) == (SLO,)
    assert probed(asked, [SLO]).timeout_s == 10
    assert probed(asked, [parsed("p99<20s")]).timeout_s == 80
    assert probed(scenario_of("sleep"), [SLO]).arrivals == "poisson"


def test_who_cannot_serve_it_is_left_out_with_the_reason() -> None:
    words: dict[str, Any] = {"slo": ["p99<200ms"], "url": None, "command": "", "results": Path()}
    asked = asked_of(["wsgi-sync", "asgi"], scenario="ws", **words)
    assert asked.names == ("asgi",)
    assert "takes a whole sync process" in asked.holes["wsgi-sync"]["ws"]
    with pytest.raises(NothingUsable, match="n/a: nobody can serve it: wsgi-sync: one open WebSocket"):
        asked_of(["wsgi-sync"], scenario="ws", **words)
    with pytest.raises(UsageError, match="did you mean"):
        asked_of(["asig"], scenario="sleep", **words)
    with pytest.raises(UsageError, match="leave VARIANT and --scenario out"):
        asked_of(["asgi"], scenario=None, **words | {"url": "http://127.0.0.1:9/"})
    with pytest.raises(UsageError, match="not this machine"):
        asked_of([], scenario=None, **words | {"url": "http://192.0.2.1/"})


# -- a whole search --------------------------------------------------------------------------------------------------


def asked(tmp_path: Path, *variants: str, slo: Sequence[str] = ("p99<200ms,errors<0.1%",), **more: Any) -> Asked:
    """budget_s counts what Trials really take, which here is next to nothing: the precision ends the search."""
    words: dict[str, Any] = {
        "command": "gatebench capacity",
        "results": tmp_path,
        "name": "r",
        "budget_s": 30.0,
        "precision": 0.2,
    }
    return asked_of(variants or ("wsgi-threads",), scenario="sleep?ms=50", slo=slo, url=None, **words | more)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> dict[str, Simulated]:
    """Places by variant, instead of servers; a Trial takes the seconds that it would take."""
    places: dict[str, Simulated] = {}
    passed = [0.0]

    @contextmanager
    def laboratory_of(
        asked: Asked, folder: Path, state: Progressing, say: probing.Say, caught: Sequence[int]
    ) -> Iterator[probing.Laboratory]:
        bench = Bench({}, frozenset({0}), frozenset({1}), lambda: None)
        nothing: Any = None
        yield probing.Laboratory(asked, folder, bench, nothing, nothing, caught, state, say)

    def place(self: probing.Laboratory, name: str) -> Place:
        return places.setdefault(name, Simulated())

    def record(self: Simulated, trial: Trial, *, patient: bool = False) -> Recording:
        passed[0] += trial.scenario.duration_s + 0.5
        return original(self, trial, patient=patient)

    original = Simulated.record
    monkeypatch.setattr(Simulated, "record", record)
    monkeypatch.setattr(probing, "laboratory_of", laboratory_of)
    monkeypatch.setattr(probing.Laboratory, "place", place)
    monkeypatch.setattr(probing, "now", lambda: passed[0])
    return places


def test_a_search_finds_the_capacity_and_keeps_all_that_it_saw(simulated: dict[str, Simulated], tmp_path: Path) -> None:
    lines: list[str] = []
    folder, document, code = probing.find(asked(tmp_path, budget_s=120.0), lines.append)
    (answer,) = document.answers
    assert code == 0
    assert answer.outcome == "found", answer.reason
    # M/D/16 with 50 ms holds p99 < 200 ms up to 99 % of 320/s
    assert answer.sustained_rps is not None
    assert 0.85 * 320 < answer.sustained_rps < 320
    assert answer.limited_by == "slots"
    assert "16 slots" in told.sentence(answer)
    assert len(answer.steps) == len(simulated["wsgi-threads"].trials)
    assert len({trial.key for trial in simulated["wsgi-threads"].trials}) == len(answer.steps), "each has its own file"
    read = read_run(folder)
    assert len(read.recordings) == len(answer.steps)
    assert not read.problems
    assert told.document_of(read.manifest) == document
    assert read.manifest["outcome"] == "complete"
    assert json.loads((folder / "capacity.json").read_text())["answers"][0]["slo"] == "p99<200ms,errors<0.1%"
    shown = page.render(read, "")
    assert told.sentence(answer) in shown.replace("&lt;", "<").replace("<b class=name>", "").replace(
        "</b>", ""
    ).replace("<span class=keep>", "").replace("</span>", "")
    assert 'id="chart-capacity"' in shown
    assert "PARTIAL" not in shown
    assert "supports no claim" not in shown


def test_several_promises_share_a_search(simulated: dict[str, Simulated], tmp_path: Path) -> None:
    promises = ("p99<200ms", "p50<60ms", "p99<10ms")
    _, document, _ = probing.find(asked(tmp_path, slo=promises, budget_s=60.0), lambda _line: None)
    by_slo = {answer.slo: answer for answer in document.answers}
    assert list(by_slo) == list(promises)
    assert by_slo["p99<10ms"].outcome == "impossible"
    assert by_slo["p99<10ms"].sustained_rps is None
    assert by_slo["p99<200ms"].sustained_rps


def test_a_server_that_dies_is_abandoned_and_the_rest_goes_on(simulated: dict[str, Simulated], tmp_path: Path) -> None:
    simulated["wsgi-threads"] = Simulated(fails_at=2)
    folder, document, code = probing.find(asked(tmp_path, "wsgi-threads", "asgi"), lambda _line: None)
    assert code == 5
    assert [answer.variant for answer in document.answers] == ["asgi"]
    manifest = read_run(folder).manifest
    assert manifest["failures"] == {"wsgi-threads": "it died"}
    assert manifest["outcome"] == "partial"
    assert "PARTIAL" in page.render(read_run(folder), "")


def test_an_interrupt_keeps_what_was_found(simulated: dict[str, Simulated], tmp_path: Path) -> None:
    simulated["asgi"] = Simulated(interrupted_at=1)
    folder, document, code = probing.find(asked(tmp_path, "wsgi-threads", "asgi"), lambda _line: None)
    assert code == 130
    assert [answer.variant for answer in document.answers] == ["wsgi-threads"]
    assert read_run(folder).manifest["outcome"] == "interrupted"


def test_a_name_that_is_taken_is_refused_before_anything_is_measured(
    simulated: dict[str, Simulated], tmp_path: Path
) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(UsageError, match="choose another --name"):
        probing.find(asked(tmp_path), lambda _line: None)
    assert not simulated


def test_costs_and_an_overload_are_measured_at_shares_of_what_was_found(
    simulated: dict[str, Simulated], tmp_path: Path
) -> None:
    wanted = asked(tmp_path, budget_s=70.0, efficiency=True, overload=True, price_per_hour=0.2, cores_per_machine=4)
    folder, document, _ = probing.find(wanted, lambda _line: None)
    held_rps = document.answers[0].sustained_rps
    assert held_rps
    levels: dict[str, list[float]] = {}
    for trial in simulated["wsgi-threads"].trials:
        levels.setdefault(trial.scenario.name.partition("-")[0], []).append(trial.level / held_rps)
    assert levels["efficiency"] == pytest.approx([0.2, 0.5, 0.8])
    assert levels["overload"] == pytest.approx([1.5])
    assert document.price_per_core_hour == pytest.approx(0.05)
    shown = page.render(read_run(folder), "")
    for words in ("What it costs at work", "Overload and recovery", "50% of capacity", 'id="chart-overload"'):
        assert words in shown, words


def test_a_plan_is_made_of_measured_parts_and_then_run(
    simulated: dict[str, Simulated], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each configuration that is served, the simulated server has the slots."""
    served: list[int | None] = []

    def made(variant: Any, *_: Any) -> Simulated:
        served.append(variant.budget.slots)
        return Simulated(slots=variant.budget.slots or 1000, cpu_s=0.0002)

    monkeypatch.setattr("harness.capacity.planning.Served", made)
    simulated["wsgi-threads"] = Simulated(cpu_s=0.0002)
    wanted = Wanted(900.0, Machine(1, 8000, 0.17), spare_machines=0, fewer=True)
    found: list[Any] = []
    folder, document, _ = probing.worked(
        asked(tmp_path), lambda _line: None, lambda laboratory: found.append(planned(laboratory, wanted))
    )
    (row,) = found[0].rows
    assert row.holds, row.reason
    assert row.slots is not None
    # 900/s × 50 ms = 45 calls at work on average; a few more make the queue short enough
    assert 45 < row.slots * (row.machines or 0) <= 56
    kept, fewer = found[0].confirmed
    assert served == [row.slots, fewer.slots]
    assert kept.holds
    assert abs(kept.error or 1) < 0.35, "so near to full, a run is no more precise than that"
    assert not fewer.holds, "10 % fewer slots are fewer than the 45 that are at work"
    assert document.plan[0].cells[0] == "wsgi-threads"
    shown = page.render(read_run(folder), "")
    assert "What holds 900/s of sleep at p99 &lt; 200 ms" in shown
    assert kept.sentence in shown.replace("<b class=name>", "").replace("</b>", "").replace(
        "<span class=keep>", ""
    ).replace("</span>", "")


def spoken(words: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit code of a command, and what it said on both streams."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


def test_the_verb_capacity_prints_rows_and_nothing_else(
    simulated: dict[str, Simulated], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: tuple[object, ...] = (
        "capacity",
        "wsgi-threads",
        "--scenario",
        "sleep?ms=50",
        "--slo",
        "p99<200ms",
        "--results",
        tmp_path,
    )
    words += ("--budget-s", 70, "--precision", 0.2, "--efficiency", "--overload", "--price-per-hour", 0.2)
    code, out, err = spoken((*words, "--name", "a", "--json"), capsys)
    (row,) = json.loads(out)
    assert code == 0
    assert err.splitlines()[0].startswith("sleep: 1 variant, 1 SLO: at most 2 min")
    assert [one["share"] for one in row["efficiency"]] == pytest.approx([0.2, 0.5, 0.8])
    assert all(one["cost_per_million"] > 0 for one in row["efficiency"])
    assert row["overload"][0]["recovered_s"] > 0
    code, out, _ = spoken((*words, "--name", "b"), capsys)
    assert code == 0
    assert out.startswith("wsgi-threads sustains ")
    assert "limited by slots: 16 slots ÷ 50 ms = 320/s (" in out
    assert "core-hours a million" in out
    assert "report: " in out.splitlines()[-2]


def test_the_verb_plan_prints_rows_and_a_table(
    simulated: dict[str, Simulated], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated["wsgi-threads"] = Simulated(cpu_s=0.0002)
    words: tuple[object, ...] = (
        "plan",
        "--requests-per-day",
        8_640_000,
        "--peak-factor",
        4,
        "--scenario",
        "sleep?ms=50",
    )
    words += ("--slo", "p99=200ms", "--variant", "wsgi-threads", "--confirm", "none", "--results", tmp_path)
    code, out, _ = spoken((*words, "--name", "a", "--json"), capsys)
    told = json.loads(out)
    assert code == 0
    assert "400/s of sleep" in told["question"]
    assert told["rows"][0]["variant"] == "wsgi-threads"
    assert told["rows"][0]["machines"] == 2, "one, and one to spare"
    assert told["confirmed"] == told["left_out"] == []
    code, out, _ = spoken((*words, "--name", "b"), capsys)
    assert code == 0
    assert "slots" in out.splitlines()[1]
    code, _, err = spoken((*words, "--name", "c", "--slo", "p99<20ms"), capsys)
    assert code == 2
    assert "a plan is of one SLO" in err
    words = tuple("p99=20ms" if word == "p99=200ms" else word for word in words)
    code, out, _ = spoken((*words, "--name", "d"), capsys)
    assert code == 3
    assert "impossible: a call alone takes" in out


def test_it_says_beforehand_how_long_it_takes(tmp_path: Path) -> None:
    one = asked(tmp_path)
    assert probing.predicted_s(one) == 30
    assert probing.predicted_s(replace(one, budget_s=180.0)) <= 180, "at most 3 minutes a variant"
    both = replace(one, variants={name: VARIANTS[name] for name in ("asgi", "wsgi-sync")}, overload=True)
    assert probing.predicted_s(both) > 2 * (30 + 65)
