"""What a command line asks for: whom, under which lens, on which CPUs; and what is left out, with its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.variants import BRIDGES, FRAMEWORKS, MISTAKES, SERVERS, VARIANTS
from harness import facts, scenarios
from harness.errors import NothingUsable, UsageError
from harness.request import Request, request_of
from harness.run import holes_of, left_out, trials_of
from harness.trial import is_twin, predicted_s

BASE = ("wsgi-sync", "wsgi-threads", "wsgi-gevent", "asgi")
GROUPS = {"servers": SERVERS, "frameworks": FRAMEWORKS, "bridges": BRIDGES, "mistakes": MISTAKES}
FILE = """
question = "Who answers this, of those that are asked?"
variants = {variants}
arrivals = "closed"
users = [4]
repeats = 2
mix = [{{ endpoint = "ping" }}]
"""
LIMITS_S = {"quick": 6 * 60, "servers": 20 * 60, "frameworks": 20 * 60}  # on two cores, by default


def request(*names: object, **given: Any) -> Request:
    options: dict[str, Any] = dict.fromkeys(("variants", "duration", "repeats", "name", "resume", "port"))
    options |= {"server_cpus": None, "generator_cpus": None, "lens": "equal-cpu", "backend": "process", "seed": 1}
    options |= {"command": "", "results": Path("results"), "fail_fast": False, "processes": 1} | given
    return request_of([str(name) for name in names], **options)


def file(folder: Path, variants: str, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(FILE.format(variants=variants), encoding="utf-8")
    return path


def asked(one: Request) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for trial in trials_of(one):
        found.setdefault(trial.scenario.name, set()).add(trial.variant)
    return found


# -- who is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sleep", "ping", "endpoints"])
def test_who_does_not_say_asks_the_four(name: str) -> None:
    one = request(name)
    assert tuple(one.variants) == BASE
    assert set(one.chosen.values()) == {BASE}


def test_a_file_names_variants_and_groups_each_once(tmp_path: Path) -> None:
    one = request(file(tmp_path, '["asgi", "base", "wsgi-sync"]'))
    assert one.chosen == {"mine": ("asgi", "wsgi-sync", "wsgi-threads", "wsgi-gevent")}
    for word, rows in GROUPS.items():
        assert request(file(tmp_path, f'["{word}"]')).chosen["mine"] == tuple(row.name for row in rows)
    assert request(file(tmp_path, '["all"]')).variants.keys() == VARIANTS.keys()


def test_each_scenario_asks_its_own(tmp_path: Path) -> None:
    two = file(tmp_path, '["asgi"]', "two"), file(tmp_path, '["wsgi-sync", "asgi"]', "three")
    assert asked(request(*two)) == {"two": {"asgi"}, "three": {"asgi", "wsgi-sync"}}
    assert asked(request(*two, variants="wsgi-gevent")) == {"two": {"wsgi-gevent"}, "three": {"wsgi-gevent"}}
    assert asked(request(two[0], variants="base,asgi")) == {"two": set(BASE)}


@pytest.mark.parametrize("word", ["serverz", "wsgi-thread", ""])
def test_an_unknown_word_names_the_nearest(word: str, tmp_path: Path) -> None:
    said = "there are: " if not word else "did you mean "
    with pytest.raises(UsageError, match=f"^no variant '{word}'; {said}"):
        request("ping", variants=f"asgi,{word}")
    if word:
        with pytest.raises(
            UsageError, match=rf"^mine\.toml: variants: no variant '{word}'; did you mean (servers|wsgi-th)"
        ):
            request(file(tmp_path, f'["{word}"]'))


# -- who is left out -------------------------------------------------------------------------------------------------


def missing(one: Request, *names: str) -> Request:
    """As on a machine that lacks what these need."""
    lacking = {name: replace(one.variants[name], needs=("no-such-module",)) for name in names}
    return replace(one, variants={**one.variants, **lacking})


def test_a_variant_that_is_missing_is_left_out_with_its_reason() -> None:
    one = missing(request("ping", "sleep"), "wsgi-gevent")
    trials = trials_of(one)
    assert {trial.variant for trial in trials} == set(BASE) - {"wsgi-gevent"}
    reason = "no-such-module not installed: make setup-all"
    assert left_out(one, trials) == [f"wsgi-gevent has no ping, sleep: {reason}"]
    assert set(holes_of(one)["wsgi-gevent"].values()) == {reason}


def test_a_hole_that_keeps_it_from_nothing_here_is_not_told() -> None:
    one = request("ping", variants="wsgi-sync")
    assert left_out(one, trials_of(one)) == []
    assert "ws" in holes_of(one)["wsgi-sync"]


def test_only_when_nobody_is_left_it_is_an_error() -> None:
    with pytest.raises(NothingUsable) as refusal:
        trials_of(missing(request("ping", variants="asgi,wsgi-sync"), "asgi", "wsgi-sync"))
    line = str(refusal.value)
    assert line.count("no-such-module not installed: make setup-all") == 2, "each reason once a variant"
    with pytest.raises(NothingUsable, match="wsgi-sync has no ws: one open WebSocket takes a whole sync process"):
        trials_of(request("ws", variants="wsgi-sync"))


# -- who is measured twice -------------------------------------------------------------------------------------------


def test_the_shipped_comparisons_measure_one_variant_twice() -> None:
    quick = request("quick")
    assert tuple(quick.variants) == (*BASE, "wsgi-sync/aa")
    assert quick.variants["wsgi-sync/aa"] is quick.variants["wsgi-sync"], "the same row, so the same command"
    assert {name for name, some in asked(quick).items() if "wsgi-sync/aa" in some} == {"quick/ping"}
    for name in ("servers", "frameworks"):
        (twin,) = (variant for variant in request(name).variants if is_twin(variant))
        assert all(twin in some for some in asked(request(name)).values())


def test_all_of_a_run_has_its_pair_when_it_is_asked_for(tmp_path: Path) -> None:
    one = request(file(tmp_path, '["base"]'), aa=True)
    assert asked(one) == {"mine": {*BASE, "wsgi-sync/aa"}}
    # the first that can serve the most: sync has no sockets
    both = request("ping", "ws", aa=True)
    assert {name for name in both.variants if is_twin(name)} == {"wsgi-threads/aa"}
    assert asked(both)["ws"] == {*BASE, "wsgi-threads/aa"} - {"wsgi-sync"}


def test_one_repeat_has_no_interval_so_it_needs_no_noise_floor() -> None:
    assert not any(map(is_twin, request("quick", repeats=1).variants))
    assert not any(map(is_twin, request("ping", repeats=1, aa=True).variants))


def test_repeats_go_on_until_it_is_precise_or_the_time_is_over() -> None:
    one = request("ping", repeats="auto", precision=0.02, budget_minutes=10.0)
    assert (one.repeats, one.precision, one.budget_s) == (None, 0.02, 600)
    assert request("ping", repeats="auto").precision == 0.03
    blocks = {trial.repeat for trial in trials_of(one)}
    assert blocks == set(range(len(blocks)))
    first = [trial for trial in trials_of(one) if not trial.repeat]
    assert predicted_s(trials_of(one)) == pytest.approx(600, abs=2 * predicted_s(first))
    assert trials_of(one)[: len(first)] == trials_of(replace(one, budget_s=60))[: len(first)], (
        "a longer plan begins alike"
    )
    for option in ({"precision": 0.02}, {"budget_minutes": 1.0}):
        with pytest.raises(UsageError, match="--repeats auto"):
            request("ping", **option)


# -- lenses and CPUs -------------------------------------------------------------------------------------------------


def test_the_lens_sets_the_budgets_and_is_carried() -> None:
    one = request("ping", variants="wsgi-sync,wsgi-threads", lens="equal-slots=8")
    assert {variant.budget.slots for variant in one.variants.values()} == {8}
    assert one.variants["wsgi-sync"].budget.processes == 8
    assert {trial.lens for trial in trials_of(one)} == {"equal-slots=8"}
    assert request("ping").variants == {name: VARIANTS[name] for name in BASE}, "equal CPU is what the rows say"


def test_cpus_are_held_against_those_that_are_allowed() -> None:
    for option in ("server_cpus", "generator_cpus"):
        name = f"--{option.replace('_', '-')}"
        with pytest.raises(UsageError, match=f"{name} 4095: this machine allows"):
            request("ping", **{option: "4095"})
        with pytest.raises(UsageError, match=f"{name} 'x': write it as 0-2,4"):
            request("ping", **{option: "x"})


def test_cpus_of_ones_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(facts, "_siblings", lambda cpu: {cpu})

    def sets(server: str | None = None, generator: str | None = None) -> list[list[int]]:
        return [sorted(cpus) for cpus in facts.cpu_sets(server, generator_cpus=generator)]

    assert sets() == [[0], [3]]
    assert sets(generator="0") == [[1], [0]], "the server goes out of the way"
    assert sets("0-1", "2,3") == [[0, 1], [2, 3]]
    assert sets("0-1", "1") == [[0, 1], [1]], "an overlap is one's own; its cells say so"
    assert sets(generator="0-3") == [[0], [0, 1, 2, 3]]


# -- the files that are shipped --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(scenarios.available()))
def test_a_shipped_file_ends_in_time_where_nothing_is_missing(name: str) -> None:
    one = request(name)
    everything = {name: replace(variant, needs=()) for name, variant in one.variants.items()}
    trials = trials_of(replace(one, variants=everything))
    assert predicted_s(trials) <= LIMITS_S.get(name, 10 * 60)
    assert {trial.scenario.name for trial in trials} == {scenario.name for scenario in one.scenarios}
    silent = everything.keys() - {trial.variant for trial in trials}
    wanted = {part.endpoint for scenario in one.scenarios for part in scenario.mix}
    assert all(wanted <= everything[name].holes.keys() for name in silent), silent


def test_servers_frameworks_and_mistakes_ask_everyone_there_is() -> None:
    named = {name for file in ("servers", "frameworks", "mistakes") for name in request(file).variants}
    assert {name for name in named if not is_twin(name)} == VARIANTS.keys()


def test_a_thousand_streams_are_open_when_the_warm_up_ends() -> None:
    (scenario,) = (one for one in request("streams").scenarios if one.name == "streams/thousand")
    streams, probe = scenario.mix
    rate = scenario.rates[0] * streams.weight / (streams.weight + probe.weight)
    assert streams.wait_s * rate == 1_000
    assert scenario.warmup_s >= streams.wait_s, "those that began first end in the window"
    assert scenario.fresh_server, "its memory is the question"
    assert scenario.drain_s >= streams.wait_s
    assert scenario.repeats * (scenario.duration_s - scenario.warmup_s) * (scenario.rates[0] - rate) > 662
