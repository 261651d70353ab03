"""Scenario files: those shipped are right, and what is wrong is said with file, key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.endpoints import ENDPOINTS
from harness import scenarios
from harness.errors import UsageError
from harness.scenarios import Work, load, names_of, nearest, parse, work

GOOD = """
question = "How many requests a second?"
arrivals = "closed"
users = [1, 8]
mix = [{ endpoint = "sleep", query = "ms=100" }]
"""
OPEN = GOOD.replace('"closed"', '"poisson"').replace("users = [1, 8]", "rates = [10]")


@pytest.mark.parametrize("name", sorted(scenarios.available()))
def test_every_shipped_file_is_right(name: str) -> None:
    for scenario in load([name]):
        assert scenario.name == name or scenario.name.startswith(f"{name}/")
        assert scenario.question.endswith("?")
        assert {part.endpoint for part in scenario.mix} <= ENDPOINTS.keys()
        assert scenario.duration_s > scenario.warmup_s >= 1


def test_every_endpoint_is_asked_for_and_quick_asks_for_six() -> None:
    asked = {part.endpoint for name in scenarios.available() for scenario in load([name]) for part in scenario.mix}
    assert asked == ENDPOINTS.keys()
    quick = load(["quick"])
    six = {"ping", "sleep", "db", "cpu", "sse", "ws"}
    assert {part.endpoint for scenario in quick for part in scenario.mix} == six <= scenarios.available().keys()
    by_name = {scenario.name.removeprefix("quick/"): scenario for scenario in quick}
    assert by_name["sleep"].arrivals == by_name["db"].arrivals == "poisson"
    assert by_name["ping"].arrivals == by_name["cpu"].arrivals == "closed"
    assert max(*by_name["sse"].users, *by_name["ws"].users) <= 16


def test_a_file_of_one_scenario_is_called_as_its_file_and_a_path_will_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    (scenario,) = load([str(path)])
    assert (scenario.name, scenario.arrivals, scenario.levels) == ("mine", "closed", (1.0, 8.0))
    assert scenario.mix[0].wait_s == pytest.approx(0.1)
    assert scenario.mix[0].pool_s == 0.0


def test_top_level_keys_are_the_defaults_of_its_tables() -> None:
    text = GOOD + '[[scenario]]\nname = "few"\nusers = [3]\n[[scenario]]\nduration_s = 5\n'
    few, second = parse(text, "mine", "mine.toml")
    assert (few.name, few.users, few.duration_s) == ("mine/few", (3,), 10)
    assert (second.name, second.users, second.duration_s) == ("mine/1", (1, 8), 5)


@pytest.mark.parametrize(
    ("endpoint", "query", "wait_s", "pool_s"),
    [
        ("ping", "", 0, 0),
        ("sleep", "", 0.05, 0),
        ("sleep", "ms=100", 0.1, 0),
        ("db", "ms=20", 0.02, 0.02),
        ("cpu", "n=10", 0, 0),
        ("sse", "events=10&interval_ms=20", 0.18, 0),  # the last event is due at 9 × 20 ms
        ("sse", "events=1&interval_ms=20", 0, 0),
        ("poll", "", 0.1, 0),  # the news come long before the time is out
        ("poll", "timeout_ms=30&news_ms=500", 0.03, 0),
        ("mix", "ms=7&n=5000", 0.007, 0),
        ("echo", "", 0, 0),
        ("stream", "kb=100", 0, 0),
        ("file", "", 0, 0),
        ("json", "items=3", 0, 0),
        ("rows", "queries=3", 0, 0),
        ("update", "queries=3", 0, 0),
    ],
)
def test_declared_waits_come_from_the_endpoint(endpoint: str, query: str, wait_s: float, pool_s: float) -> None:
    assert work(endpoint, query) == pytest.approx(Work(wait_s, pool_s))


def test_a_sockets_wait_lies_between_its_echoes() -> None:
    text = GOOD.replace('endpoint = "sleep", query = "ms=100"', 'endpoint = "ws", echoes = 10, interval_ms = 20')
    assert parse(text, "x", "x.toml")[0].mix[0].wait_s == pytest.approx(0.18)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + 'colour = "red"', ["colour: unknown key; allowed: question, arrivals, mix, users, rates, shape,"]),
        (GOOD.replace('query = "ms=100"', "speed = 3"), ["mix[0].speed: unknown key", "query", "weight", "echoes"]),
        (GOOD + "slo = { p95_ms = 3 }", ["slo.p95_ms: unknown key; allowed: p50_ms, p90_ms, p99_ms, errors"]),
        (GOOD.replace('"closed"', '"sometimes"'), ["arrivals:", "there are closed, constant, poisson, ramp"]),
        (GOOD.replace('"closed"', '"poisson"'), ["arrivals = 'poisson' needs rates = [...] and no users"]),
        (GOOD + "rates = [10]", ["arrivals = 'closed' needs users = [...] and no rates"]),
        (GOOD.replace('"sleep"', '"slep"'), ["mix:", "no endpoint 'slep'; did you mean sleep"]),
        (GOOD.replace('"sleep"', '"zzz"'), ["no endpoint 'zzz'; there are: ping, sleep, db, cpu, sse, ws"]),
        (GOOD + 'variants = ["asgi", "thredas"]', ["variants: no variant 'thredas'; did you mean "]),
        (GOOD + 'variants = "asgi"', ["variants:", "tuple"]),
        (GOOD + 'variants = ["a b"]', ["variants[0]:", "pattern"]),
        (GOOD.replace("ms=100", "ms=-1"), ["mix: sleep?ms=-1: ms = '-1', allowed: a number from 0 to 60000"]),
        (GOOD.replace("ms=100", "s=1"), ["sleep?s=1: parameter = 's', allowed: ms"]),
        (GOOD.replace('query = "ms=100"', "wait_s = 0.1"), ["mix[0].wait_s: follows from the endpoint; leave it out"]),
        (GOOD.replace('query = "ms=100"', "pool_s = 0.1"), ["mix[0].pool_s: follows from the endpoint"]),
        (GOOD.replace('"sleep", query = "ms=100"', '"sse", slow_s = 1'), ["mix: sse: slow_s is for a request"]),
        (GOOD.replace('query = "ms=100"', "slow_s = 61"), ["mix[0].slow_s:", "less than or equal to 60"]),
        (GOOD.replace("[1, 8]", '["many"]'), ["users[0]:", "valid integer"]),
        (GOOD.replace("[1, 8]", "[0]"), ["users[0]:", "greater than or equal to 1"]),
        (OPEN.replace("[10]", "[nan]"), ["rates[0]:", "finite"]),
        (OPEN.replace("[10]", "[-1]"), ["rates[0]:", "greater than 0"]),
        (GOOD.replace("question", "#"), ["question:", "required"]),
        (GOOD + "warmup_s = 10", ["warmup_s (10) must be less than duration_s (10)"]),
        (GOOD + "[[scenario]]\n[[scenario]]\nduration_s = 0", ["scenario[1].duration_s:", "greater than or equal"]),
        (GOOD + "[[scenario]]\ncolour = 1", ["scenario[0].colour: unknown key"]),
        (GOOD + '[[scenario]]\nname = "../../x y"', ["scenario[0].name:", "pattern"]),
        (GOOD + "[scenario]\nduration_s = 2", ["`scenario` must be tables, each begun by [[scenario]]"]),
        (GOOD + "scenario = 3", ["`scenario` must be tables"]),
        ("question = ", ["Invalid value"]),
        ("", ["Field required"]),
        ("mix = 5\n" + GOOD.partition("mix")[0], ["mix:"]),
        ("mix = true\n" + GOOD.partition("mix")[0], ["mix:"]),
        ("mix = [5]\n" + GOOD.partition("mix")[0], ["mix[0]:"]),
        ("mix = 'ping'\n" + GOOD.partition("mix")[0], ["mix:"]),
        (GOOD + "slo = 5", ["slo:"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_key_and_what_is_allowed(text: str, said: list[str]) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(text, "bad", "bad.toml")
    line = str(refusal.value)
    assert line.startswith("bad.toml: ")
    assert "\n" not in line
    assert [words for words in said if words not in line] == [], line


def test_a_part_has_its_endpoints_method_unless_it_says_otherwise() -> None:
    text = GOOD.replace('endpoint = "sleep", query = "ms=100"', 'endpoint = "echo", body = "x"')
    assert parse(text, "x", "x.toml")[0].mix[0].method == "POST"
    assert parse(text.replace('"x"', '"x", method = "GET"'), "x", "x.toml")[0].mix[0].method == "GET"
    assert parse(GOOD, "x", "x.toml")[0].mix[0].method == "GET"


def test_variants_are_kept_as_they_were_written() -> None:
    (said,) = parse(GOOD + 'variants = ["servers", "asgi"]', "x", "x.toml")
    assert said.variants == ("servers", "asgi")
    assert names_of(said.variants)[:2] == ("wsgi-sync", "wsgi-threads")
    assert parse(GOOD, "x", "x.toml")[0].variants == ()


def test_a_key_that_no_file_may_set_is_not_offered() -> None:
    with pytest.raises(UsageError) as refusal:
        parse(GOOD.replace('query = "ms=100"', "speed = 3"), "bad", "bad.toml")
    assert "wait_s" not in str(refusal.value)


def test_an_unknown_scenario_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no scenario 'quik'; did you mean quick"):
        load(["quik"])
    with pytest.raises(
        UsageError, match="no scenario 'xyzzy'; there are: cpu, db, endpoints, frameworks, mistakes, mix, "
    ):
        load(["xyzzy"])
    with pytest.raises(UsageError, match="no scenario"):
        load([str(tmp_path / "missing.toml")])
    other = tmp_path / "x.txt"
    other.write_text(GOOD)
    with pytest.raises(UsageError, match="no scenario"):
        load([str(other)])


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.toml"):
        load([str(path)])


def test_nearest_lists_all_when_nothing_is_near() -> None:
    assert nearest("asgy", ["asgi", "threads"]) == "did you mean asgi?"
    assert nearest("wsgi", ["asgi", "wsgi-sync"]) == "did you mean asgi or wsgi-sync?"
    assert nearest("qqq", ["asgi", "wsgi-sync"]) == "there are: asgi, wsgi-sync"
