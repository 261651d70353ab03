"""Each lens gives the budgets that it promises, and refuses with a sentence what it cannot compare."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from apps.variant import Budget, Variant
from apps.variants import VARIANTS
from harness.errors import UsageError
from harness.lenses import LENSES, parsed, the_one_of, told, under
from tests.gate import ROOT

POOLED = "server --workers {processes} --keep-alive {keep_alive_s} --connections {worker_connections}"


def variant(command_line: str, family: str = "wsgi", **budget: Any) -> Variant:
    numbers: dict[str, Any] = {"processes": 1, "slots": 16, "worker_connections": None, "loop": None}
    about = {"interface": "wsgi", "server": "s", "framework": "raw", "model": "m"}
    return Variant(name="made-up", family=family, command_line=command_line, budget=Budget(**numbers | budget), **about)  # type: ignore[arg-type]


SYNC = variant("server --workers {processes}", processes=4, slots=4, keep_alive_s=None)
THREADS = variant(f"{POOLED} --threads {{threads}}", worker_connections=20_000)
GEVENT = variant(POOLED, "gevent", slots=None, worker_connections=20_000)
ASYNC = variant("server --keep-alive {keep_alive_s}", "asgi", slots=None)


def budget(lens: str, given: Variant) -> Budget:
    return under(lens, [given])["made-up"].budget


@pytest.mark.parametrize(
    ("given", "lens", "change"),
    [
        (SYNC, "equal-slots=16", {"processes": 16, "slots": 16, "db_connections": 16}),
        (SYNC, "equal-slots=2", {"processes": 2, "slots": 2}),
        (THREADS, "equal-slots=8", {"slots": 8}),
        (replace(THREADS, budget=replace(THREADS.budget, processes=4)), "equal-slots=8", {"slots": 8}),
        (THREADS, "equal-slots=6", {"slots": 6, "db_connections": 12}),  # what 1, 2, 3 and 6 processes can share
        # a greenlet server's slots are its connections, and an idle one must not hold a slot
        (GEVENT, "equal-slots=8", {"slots": 8, "worker_connections": 8, "keep_alive_s": 0}),
        (
            variant("server --gevent {worker_connections}", "gevent", slots=None, keep_alive_s=None),
            "equal-slots=8",
            {"slots": 8, "worker_connections": 8},
        ),
        (variant("server", slots=40), "equal-slots=40", {"db_connections": 40}),  # it has them already
        (THREADS, "equal-cpu", {}),
        (SYNC, "equal-cpu", {}),
        (variant("server --keep-alive {keep_alive_s}", keep_alive_s=5, backlog=100), "equal-cpu", {"keep_alive_s": 75}),
        (variant("server --backlog {backlog}", keep_alive_s=5, backlog=100), "equal-cpu", {"backlog": 2048}),
        (variant("server --keep-alive {keep_alive_s}", keep_alive_s=5, backlog=100), "as-configured", {}),
    ],
)
def test_a_lens_changes_this_and_nothing_else(given: Variant, lens: str, change: dict[str, Any]) -> None:
    assert budget(lens, given) == replace(given.budget, **change)


@pytest.mark.parametrize(
    ("given", "lens", "said"),
    [
        (ASYNC, "equal-slots=16", "made-up: it has no slots to set: it takes every call as it comes"),
        (variant("server", slots=40), "equal-slots=16", "its 40 slots cannot be set"),
        (variant("server", slots=1), "equal-slots=16", "its 1 slot cannot be set"),
        (
            replace(THREADS, budget=replace(THREADS.budget, processes=4)),
            "equal-slots=6",
            "6 slots are no equal share for its 4 processes: take a multiple of them",
        ),
        (variant("server --pool {worker_connections}", "gevent", slots=None), "equal-slots=8", "an idle one, which"),
        (THREADS, "equal-memory", "containers must hold it to a limit of memory, and --backend process has none"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_to_choose(given: Variant, lens: str, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        under(lens, [given])
    line = str(refusal.value)
    assert line.startswith(f"--lens {lens}: made-up: ")
    assert said in line
    assert line.endswith("; choose --lens equal-cpu")


def test_a_refusal_names_the_variants_that_are_left() -> None:
    named = [replace(one, name=name) for name, one in (("a", ASYNC), ("b", THREADS), ("c", ASYNC), ("d", GEVENT))]
    with pytest.raises(UsageError, match=r"--lens equal-slots=4: a: .* \(and 1 more\); .* or --variants b,d$"):
        under("equal-slots=4", named)


def test_equal_slots_leave_each_process_a_database_connection_and_all_variants_as_many() -> None:
    for slots in range(1, 40):
        totals = set()
        for given in (SYNC, THREADS, GEVENT):
            found = budget(f"equal-slots={slots}", given)
            assert found.db_connections_per_process >= 1
            totals.add(found.db_connections_per_process * found.processes)
        assert len(totals) == 1
        assert min(totals) >= 8


@pytest.mark.parametrize("lens", ["equal-cpu", "as-configured"])
def test_every_row_fits_these_lenses(lens: str) -> None:
    given = under(lens, VARIANTS.values())
    assert given.keys() == VARIANTS.keys()
    assert all(given[name].command(8000) for name in given)


def test_a_lens_is_named_in_one_way() -> None:
    assert [parsed(name) for name in ("equal-cpu", "as-configured", "equal-memory")] == [
        "equal-cpu",
        "as-configured",
        "equal-memory",
    ]
    assert parsed("equal-slots") == "equal-slots=16"
    assert parsed("equal-slots=016") == "equal-slots=16"
    assert set(LENSES) == {"equal-cpu", "equal-slots", "equal-memory", "as-configured"}


@pytest.mark.parametrize("text", ["", "equal", "equal-cpu=3", "as-configured="])
def test_an_unknown_lens_is_told_which_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="there are equal-cpu, equal-slots, equal-memory, as-configured, and equal-sl"):
        parsed(text)


@pytest.mark.parametrize("text", ["equal-slots=0", "equal-slots=-1", "equal-slots=x", "equal-slots=10001"])
def test_slots_are_a_number(text: str) -> None:
    with pytest.raises(UsageError, match="slots are a whole number from 1 to 10000"):
        parsed(text)


def test_mixed_lenses_are_refused() -> None:
    assert the_one_of([]) == "equal-cpu"
    assert the_one_of(["as-configured"] * 3) == "as-configured"
    with pytest.raises(UsageError, match=r"different lenses \(as-configured, equal-cpu\), so they cannot be compared"):
        the_one_of(["equal-cpu", "as-configured", "equal-cpu"])


@pytest.mark.parametrize("name", ["wsgi-sync", "wsgi-threads", "wsgi-gevent"])
def test_what_is_printed_is_what_runs(name: str) -> None:
    """`python -m apps NAME --budget …` becomes the very command of the variant under the lens."""
    changed = under("equal-slots=4", [VARIANTS[name]])[name]
    argv = [sys.executable, "-m", "apps", name, *told(changed), "--port", "8000", "--print"]
    printed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shlex.split(printed) == changed.command(8000)
    assert told(VARIANTS[name]) == ()


@pytest.mark.parametrize("words", ["slots=x", "slots", "sluts=4", "name=4", "slots=4,"])
def test_a_wrong_budget_is_answered_by_one_line(words: str) -> None:
    argv = [sys.executable, "-m", "apps", "wsgi-threads", "--budget", words, "--port", "8000"]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"apps: --budget {words}: ")
    assert len(ended.stderr.splitlines()) == 1
