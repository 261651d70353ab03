"""The plan is pure and seeded, and each block holds every variant once, all of them asked alike."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.trial import (
    CONFORMANCE_S,
    SERVER_S,
    TRIAL_S,
    Part,
    Scenario,
    Subject,
    Trial,
    derived_seed,
    plan,
    predicted_s,
)

QUESTION = "Which one is it, then?"


def scenario(name: str = "ping", **more: Any) -> Scenario:
    settings: dict[str, Any] = {"arrivals": "closed", "users": (1, 32), "mix": ({"endpoint": "ping"},), "repeats": 3}
    if more.get("arrivals", "closed") != "closed":
        settings["users"] = ()
    return Scenario.model_validate({"name": name, "question": QUESTION, **settings, **more})


VARIANTS = ("asgi", "wsgi-gevent", "wsgi-sync", "wsgi-threads")
SCENARIOS = (
    scenario("ping"),
    scenario("sleep", arrivals="poisson", rates=(50, 100, 200), mix=({"endpoint": "sleep"},)),
    scenario("ws", users=(4,), mix=({"endpoint": "ws"}, {"endpoint": "ping"})),
)


def visits(trials: list[Trial]) -> list[tuple[int, str, list[tuple[str, float]]]]:
    """(block, variant, what it is asked, in order), one for each start of a server."""
    return [
        (block, variant, [(trial.scenario.name, trial.level) for trial in asked])
        for (block, variant), asked in groupby(trials, key=lambda trial: (trial.repeat, trial.variant))
    ]


@given(seed=st.integers(0, 2**40), repeats=st.integers(1, 5), count=st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_each_block_holds_each_variant_once_asked_alike_under_one_schedule(seed: int, repeats: int, count: int) -> None:
    trials = plan(VARIANTS[:count], SCENARIOS, seed=seed, repeats=repeats)
    begun = visits(trials)
    assert [block for block, _, _ in begun] == [block for block in range(repeats) for _ in range(count)]
    everything = sorted((asked.name, level) for asked in SCENARIOS for level in asked.levels)
    for block in range(repeats):
        mine = [(variant, asked) for number, variant, asked in begun if number == block]
        assert sorted(variant for variant, _ in mine) == sorted(VARIANTS[:count])
        assert all(asked == mine[0][1] for _, asked in mine), "the variants of a block are asked in different orders"
        assert sorted(mine[0][1]) == everything
    seeds: dict[tuple[int, str, float], set[int]] = {}
    for trial in trials:
        seeds.setdefault((trial.repeat, trial.scenario.name, trial.level), set()).add(trial.seed)
    assert all(len(found) == 1 for found in seeds.values()), "variants of a block met different schedules"
    assert len({seed for found in seeds.values() for seed in found}) == len(seeds), "two questions share a schedule"


def test_a_plan_depends_on_its_arguments_alone() -> None:
    first = plan(VARIANTS, SCENARIOS, seed=7)
    assert first == plan(VARIANTS, SCENARIOS, seed=7)
    other = plan(VARIANTS, SCENARIOS, seed=8)
    assert [trial.variant for trial in other] != [trial.variant for trial in first]
    assert not {trial.seed for trial in first} & {trial.seed for trial in other}


def test_both_orders_are_random_from_block_to_block() -> None:
    begun = visits(plan(VARIANTS, SCENARIOS, seed=1, repeats=200))
    firsts = Counter(variant for number, (_, variant, _) in enumerate(begun) if number % len(VARIANTS) == 0)
    assert set(firsts) == set(VARIANTS)
    assert all(20 <= times <= 80 for times in firsts.values()), firsts  # 50 expected, sd 6
    openers = Counter(asked[0] for _, _, asked in begun[:: len(VARIANTS)])
    assert len(openers) == 6
    assert all(10 <= times <= 60 for times in openers.values()), openers  # 33 expected, sd 5


def test_holes_are_left_out_for_their_variant_alone() -> None:
    trials = plan(VARIANTS, SCENARIOS, seed=1, holes={"wsgi-sync": ["ws"], "asgi": []})
    asked = {name: {trial.scenario.name for trial in trials if trial.variant == name} for name in VARIANTS}
    assert asked.pop("wsgi-sync") == {"ping", "sleep"}
    assert all(names == {"ping", "sleep", "ws"} for names in asked.values())
    whole = [
        trial
        for trial in plan(VARIANTS, SCENARIOS, seed=1)
        if (trial.variant, trial.scenario.name) != ("wsgi-sync", "ws")
    ]
    assert trials == whole, "a hole must not change what the others are asked"


def test_each_scenario_is_asked_of_its_own_variants() -> None:
    only = {"ping": ("asgi",), "ws": ("asgi", "wsgi-threads")}
    trials = plan(VARIANTS, SCENARIOS, seed=1, only=only)
    asked = {one.name: {trial.variant for trial in trials if trial.scenario == one} for one in SCENARIOS}
    assert asked == {"ping": {"asgi"}, "ws": {"asgi", "wsgi-threads"}, "sleep": set(VARIANTS)}
    kept = [one for one in plan(VARIANTS, SCENARIOS, seed=1) if one.variant in only.get(one.scenario.name, VARIANTS)]
    assert trials == kept, "who is not asked must not change what the others are asked"


def test_a_prediction_counts_loads_waits_servers_and_conformance() -> None:
    waits = scenario("sleep", users=(4,), repeats=2, mix=(Part(endpoint="sleep", wait_s=2), Part(endpoint="ping")))
    each = waits.duration_s + TRIAL_S + 2
    assert predicted_s(plan(VARIANTS, [waits], seed=1)) == pytest.approx(4 * 2 * (each + SERVER_S) + 4 * CONFORMANCE_S)
    assert predicted_s([]) == 0
    alone = plan(VARIANTS, [waits.model_copy(update={"fresh_server": True})], seed=1)
    assert predicted_s(alone) == pytest.approx(len(alone) * (each + SERVER_S) + 4 * CONFORMANCE_S)


def test_repeats_override_each_scenarios_own() -> None:
    two = (scenario("few", users=(1,), repeats=1), scenario("many", users=(1,), repeats=4))
    own = Counter(trial.scenario.name for trial in plan(["asgi"], two, seed=1))
    assert own == {"few": 1, "many": 4}
    assert Counter(trial.scenario.name for trial in plan(["asgi"], two, seed=1, repeats=2)) == {"few": 2, "many": 2}
    assert plan(["asgi"], [], seed=1) == []
    assert plan([], two, seed=1) == []


def test_the_lens_is_carried() -> None:
    assert {trial.lens for trial in plan(VARIANTS, SCENARIOS, seed=1, lens="as-configured")} == {"as-configured"}
    assert {trial.lens for trial in plan(VARIANTS, SCENARIOS, seed=1)} == {"equal-cpu"}
    for lens in ("equal-slots", "equal-slots=0", "equal-cpu=3", "best"):
        with pytest.raises(ValidationError, match="lens"):
            plan(VARIANTS, SCENARIOS, seed=1, lens=lens)


def test_keys_are_unique_and_stay_in_their_folder() -> None:
    named = [scenario("quick/ping"), scenario("quick/sleep"), scenario("../../etc/x".lstrip("./"))]
    keys = [trial.key for trial in plan(VARIANTS, [*SCENARIOS, *named], seed=1, repeats=3)]
    assert len(set(keys)) == len(keys)
    assert not [key for key in keys if "/" in key or key.startswith(".") or "\0" in key]


def test_derived_seeds_depend_on_every_part() -> None:
    seeds = [derived_seed(1, "a", 2.0, 3), derived_seed(2, "a", 2.0, 3), derived_seed(1, "b", 2.0, 3)]
    seeds += [derived_seed(1, "a", 2.5, 3), derived_seed(1, "a", 2.0, 4)]
    assert len(set(seeds)) == 5
    assert derived_seed(1, "a", 2.0, 3) == seeds[0] < 2**48


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arrivals": "poisson", "users": (1,)}, "arrivals = 'poisson' needs rates = [...] and no users"),
        ({"arrivals": "constant", "rates": (5,), "users": (1,)}, "needs rates = [...] and no users"),
        ({"arrivals": "poisson"}, "needs rates"),
        ({"rates": (1.0,)}, "arrivals = 'closed' needs users = [...] and no rates"),
        ({"users": ()}, "needs users"),
        ({"arrivals": "sometimes"}, "there are closed, constant, poisson, ramp, steps, burst"),
        ({"warmup_s": 10, "duration_s": 10}, "warmup_s (10) must be less than duration_s (10)"),
        ({"duration_s": 0}, "greater than or equal to 1"),
        ({"users": (0,)}, "greater than or equal to 1"),
        ({"users": (1, 20_001)}, "less than or equal to 20000"),
        ({"users": (32, 8, 32)}, "32"),  # its second Recording would overwrite the first
        ({"arrivals": "poisson", "users": (), "rates": (float("nan"),)}, "finite"),
        ({"arrivals": "poisson", "users": (), "rates": (float("inf"),)}, "finite"),
        ({"arrivals": "poisson", "users": (), "rates": (0,)}, "greater than 0"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"connections": 0}, "greater than or equal to 1"),
        ({"mix": ()}, "at least 1"),
        ({"mix": ({"endpoint": "ping", "weight": 0},)}, "greater than or equal to 1"),
        ({"mix": ({"endpoint": "ping", "query": "a b"},)}, "pattern"),
        ({"mix": ({"endpoint": "ping", "query": "a\r\nX: y"},)}, "pattern"),
        ({"name": "../up"}, "pattern"),
        ({"name": "a\nb"}, "pattern"),
        ({"name": "a\n"}, "pattern"),
        ({"name": ""}, "pattern"),
        ({"question": "why?"}, "at least 10"),
        ({"repeats": 0}, "greater than or equal to 1"),
        ({"slo": {"errors": 2}}, "less than or equal to 1"),
        ({"slo": {"p99_ms": 0}}, "greater than 0"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        scenario(**{"name": "ping"} | given)
    assert said in str(refusal.value)


def test_scenarios_and_trials_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SCENARIOS[0].name = "other"
    trial = plan(["asgi"], SCENARIOS[:1], seed=1)[0]
    with pytest.raises(ValidationError, match="frozen"):
        trial.level = 3.0
    assert trial.cell == ("asgi", "ping", trial.level)


def test_the_declared_wait_of_a_mix_is_weighted() -> None:
    parts = (Part(endpoint="sleep", weight=3, wait_s=0.1), Part(endpoint="ping", weight=1))
    assert scenario(mix=parts).wait_s == pytest.approx(0.075)
    assert scenario().levels == (1.0, 32.0)
    assert scenario(arrivals="constant", rates=(2.5,)).levels == (2.5,)


@pytest.mark.parametrize(("budget", "slots"), [({"slots": 16}, 16), ({"slots": None}, None), ({}, None)])
def test_the_slots_of_a_subject(budget: dict[str, int | None], slots: int | None) -> None:
    subject = Subject(name="x", family="wsgi", interface="WSGI", server="s", framework="raw", budget=budget)
    assert subject.slots == slots
