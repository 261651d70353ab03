"""The design of real runs: a pair of identical servers, and repeats that end by themselves. Counts, no times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import seal
from harness.recording import read_run
from tests.gate import Gate

pytestmark = pytest.mark.slow

SCENARIO = """
question = "Is the design of a run what it should be?"
arrivals = "closed"
users = [2]
duration_s = 1
warmup_s = 0
repeats = 2
mix = [{ endpoint = "sleep", query = "ms=20" }]
"""


def asked(folder: Path) -> Path:
    path = folder / "design.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def test_a_twin_is_the_same_server_under_another_name(gate: Gate, tmp_path: Path) -> None:
    options = ("--variants", "asgi,wsgi-threads", "--aa", "--results", tmp_path, "--name", "r", "--json")
    ended = gate("run", asked(tmp_path), *options)
    assert ended.code in (0, 4), ended.err  # 4: a noisy machine spoilt all of it
    run = read_run(tmp_path / "r")
    by_name = {one.trial.variant: one for one in run.recordings}
    assert by_name.keys() == {"asgi", "asgi/aa", "wsgi-threads"}
    assert by_name["asgi/aa"].head.subject == by_name["asgi"].head.subject
    seeds = {(one.trial.repeat, one.trial.seed) for one in run.recordings}
    assert len(seeds) == 2, "one schedule a block, for all of them"
    assert run.manifest["conformance"].keys() == {"asgi", "wsgi-threads"}, "the same server conforms once"
    assert run.manifest["facts"]["kernel"]
    assert run.manifest["cpus"].keys() == {"server", "generator"}
    sealed = {path.relative_to(tmp_path / "r").as_posix() for path in (tmp_path / "r" / "trials").iterdir()}
    assert seal.read(tmp_path / "r").keys() == sealed | {"run.json"}


def test_repeats_end_with_their_time_and_go_on_when_there_is_more(gate: Gate, tmp_path: Path) -> None:
    def blocks(*options: object) -> tuple[set[int], dict[str, object]]:
        ended = gate("run", asked(tmp_path), "--variants", "asgi", "--repeats", "auto", "--precision", 0.001, *options)
        assert ended.code in (0, 4), ended.err
        run = read_run(tmp_path / "r")
        assert run.manifest["repeats"] == "auto"
        return {one.trial.repeat for one in run.recordings}, json.loads(json.dumps(run.manifest["auto"]))

    few, first = blocks("--budget-minutes", 0.2, "--results", tmp_path, "--name", "r")
    assert few == set(range(len(few)))
    assert "time budget" in str(first["reason"])
    more, second = blocks("--budget-minutes", 0.6, "--resume", tmp_path / "r")
    assert more > few
    assert float(str(second["spent_s"])) > float(str(first["spent_s"]))
