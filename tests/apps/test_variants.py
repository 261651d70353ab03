"""The rows of VARIANTS, their commands, and `python -m apps`."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from apps.__main__ import environment
from apps.endpoints import ENDPOINTS
from apps.variant import Variant
from apps.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[2]


def apps(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "apps", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=10)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_a_row_is_whole(variant: Variant) -> None:
    budget = variant.budget
    assert VARIANTS[variant.name] is variant
    assert set(variant.holes) <= set(ENDPOINTS)
    assert all(variant.holes.values()), "a hole has its reason"
    assert budget.slots is None or budget.slots % budget.processes == 0
    assert budget.db_connections % budget.processes == 0, "each process has the same share"
    assert hash(variant)


def test_budgets_are_equal_where_they_are_not_the_point() -> None:
    budgets = [variant.budget for variant in VARIANTS.values()]
    assert {(b.db_connections, b.backlog, b.access_log) for b in budgets} == {(8, 2048, False)}
    assert {b.keep_alive_s for b in budgets} == {75, None}
    assert {b.worker_connections for b in budgets} == {20_000, None}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_the_command_says_what_the_budget_says(variant: Variant) -> None:
    command = variant.command(8123, "127.0.0.2")
    options = dict(itertools.pairwise(command))
    budget = variant.budget
    assert os.access(command[0], os.X_OK)
    assert Path(command[0]).parent == Path(sys.executable).parent
    assert "8123" in " ".join(command)
    assert "127.0.0.2" in " ".join(command)
    assert options["--workers"] == str(budget.processes)
    assert options["--backlog"] == str(budget.backlog)
    if budget.worker_connections:
        assert options["--worker-connections"] == str(budget.worker_connections)
    if budget.keep_alive_s:
        assert options.get("--keep-alive", options.get("--timeout-keep-alive")) == str(budget.keep_alive_s)
    if "--threads" in options:
        assert int(options["--threads"]) * budget.processes == budget.slots


def test_budgets_are_plain_data() -> None:
    assert asdict(VARIANTS["wsgi-threads"].budget)["slots"] == 16


def test_the_environment_shares_the_connections_and_keeps_strangers_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 9")
    monkeypatch.setenv("WEB_CONCURRENCY", "9")
    monkeypatch.setenv("UVICORN_WORKERS", "9")
    monkeypatch.setenv("GATEBENCH_TOKEN", "kept")
    found = environment(VARIANTS["wsgi-sync"])
    assert found["GATEBENCH_DB_CONNECTIONS"] == "2"
    assert found["GATEBENCH_VARIANT"] == "wsgi-sync"
    assert found["GATEBENCH_TOKEN"] == "kept"
    assert not {"GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "UVICORN_WORKERS"} & found.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_print_shows_the_command(name: str) -> None:
    done = apps(name, "--port", "8000", "--print")
    assert done.returncode == 0
    assert shlex.split(done.stdout) == VARIANTS[name].command(8000)


def test_an_unknown_name_is_one_line_that_helps() -> None:
    done = apps("wsgi-thread", "--port", "8000")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2
    assert len(lines) == 1
    assert "'wsgi-thread'" in lines[0]
    assert "the nearest is wsgi-threads" in lines[0]


def test_start_up_is_light() -> None:
    done = apps("asgi", "--port", "8000", "--print")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"asyncio", "gevent", "uvicorn", "gunicorn", "wsproto", "difflib", "apps.endpoints"} & imported
