"""The rows of VARIANTS, their commands, and `python -m apps`."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from apps.__main__ import environment
from apps.endpoints import ENDPOINTS
from apps.variant import INSTALL, Variant, found
from apps.variants import BRIDGES, FRAMEWORKS, MISTAKES, SERVERS, VARIANTS

ROOT = Path(__file__).resolve().parents[2]
# What a server cannot be told stands in its row as it is, and in docs/variants.md.
UNTOLD: dict[str, dict[str, int | None]] = {
    "mod-wsgi": {"worker_connections": 1024},
    "granian-wsgi": {"keep_alive_s": 60},
    "granian-asgi": {"keep_alive_s": 60},
    "granian-rsgi": {"keep_alive_s": 60},
    "gunicorn-asgi": {"backlog": 100},
    "daphne": {"keep_alive_s": 60},
    "gevent-unpatched": {"keep_alive_s": 86_400},
    "wsgi-sync": {"keep_alive_s": None},
    "werkzeug": {"keep_alive_s": None},
}
# The options by which servers are told, and by which they must not be.
SETS = {
    "processes": ("--workers", "--processes"),
    "backlog": ("--backlog", "--listen", "--server-backlog"),
    "threads": ("--threads", "--blocking-threads"),
    "worker_connections": ("--worker-connections", "--connection-limit", "--connections", "--gevent", "--backpressure"),
    "keep_alive_s": (
        "--keep-alive",
        "--timeout-keep-alive",
        "--keep-alive-timeout",
        "--channel-timeout",
        "--http-keepalive",
    ),
    "loop": ("--loop", "--asgi-loop"),
}
OUTDATED = (
    "uvicorn.workers",
    "--access-log",
    "--error-log",
    "--strip-header-spaces",
    "--http-socket",
    "--http11-socket",
)


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


def test_every_row_has_a_name_of_its_own() -> None:
    rows = (*SERVERS, *FRAMEWORKS, *BRIDGES, *MISTAKES)
    assert [row.name for row in rows] == list(VARIANTS)
    assert len(rows) >= 36


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_budgets_are_equal_where_they_are_not_the_point(variant: Variant) -> None:
    budget = asdict(variant.budget)
    equal = {"keep_alive_s": 75, "backlog": 2048, "db_connections": 8, "access_log": False}
    assert {name: budget[name] for name in equal} == equal | {
        name: value for name, value in UNTOLD.get(variant.name, {}).items() if name in equal
    }
    assert budget["worker_connections"] in {20_000, None, UNTOLD.get(variant.name, {}).get("worker_connections")}


def spelled(number: int | None, none: str) -> str:
    return none if number is None else f"{number:,}".replace(",", " ")


def test_the_documentation_s_table_says_what_the_rows_say() -> None:
    lines = [line.strip("| ").split(" | ") for line in (ROOT / "docs" / "variants.md").read_text().splitlines()]
    rows = {cells[0]: cells[3:] for cells in lines if len(cells) == 7 and cells[0] in VARIANTS}
    assert list(rows) == list(VARIANTS)
    for name, (slots, connections, idle, holes) in rows.items():
        budget = VARIANTS[name].budget
        if name != "asgi-to-thread":  # as many as the machine has CPUs, and four
            assert slots == f"{budget.processes} × {'∞' if budget.slots is None else budget.threads}"
        assert connections == spelled(budget.worker_connections, "∞")
        assert idle == spelled(budget.keep_alive_s, "closes")
        assert holes == (", ".join(VARIANTS[name].holes) or "–")


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_the_command_says_what_the_budget_says(variant: Variant) -> None:
    command = variant.command(8123, "127.0.0.2")
    words = [part for word in command for part in (word.split("=", 1) if word.startswith("--") else [word])]
    options = dict(itertools.pairwise(words))
    numbers = asdict(variant.budget) | {"threads": variant.budget.threads}
    assert Path(command[0]).parent == Path(sys.executable).parent
    assert variant.missing or os.access(command[0], os.X_OK)
    assert "8123" in " ".join(command)
    assert "127.0.0.2" in " ".join(command)
    assert not set("{}") & set("".join(command))
    assert "None" not in words
    assert not [word for word in words if word.startswith(OUTDATED) and not word.startswith("--access-logfile")]
    for field, names in SETS.items():
        for option in names:
            if option in options:
                assert options[option] == str(numbers[field]), option


@pytest.mark.parametrize("variant", SERVERS, ids=lambda row: str(row.name))
def test_no_number_of_a_server_is_left_to_its_defaults(variant: Variant) -> None:
    words = variant.command_line.replace("=", " ").split()
    own = UNTOLD.get(variant.name, {})
    assert "backlog" in own or set(SETS["backlog"]) & set(words) or "backlog={backlog}" in variant.command_line
    assert "keep_alive_s" in own or set(SETS["keep_alive_s"]) & set(words)
    assert variant.budget.threads == 1 or set(SETS["threads"]) & set(words)
    assert variant.budget.worker_connections is None or set(SETS["worker_connections"]) & set(words)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_what_a_variant_needs_is_something_that_can_be_installed(variant: Variant) -> None:
    locked = (ROOT / "requirements-all.lock").read_text().lower()
    for need in variant.needs:
        package = need.removesuffix("-express").replace("_", "-")
        assert f"\n{package}==" in f"\n{locked}" or need in {"apache2", "nginx"}


def test_what_is_missing_makes_every_endpoint_a_hole_that_says_what_to_do() -> None:
    variant = replace(VARIANTS["wsgi-sync"], needs=("no_such_module", "gunicorn", "no-such-program"))
    assert variant.missing == ("no_such_module", "no-such-program")
    reasons = variant.holes_among(ENDPOINTS)
    assert set(reasons) == set(ENDPOINTS)
    assert set(reasons.values()) == {f"no_such_module and no-such-program not installed: {INSTALL}"}
    assert VARIANTS["wsgi-sync"].holes_among(ENDPOINTS) == VARIANTS["wsgi-sync"].holes


def test_programs_are_found_beside_this_python_and_where_debian_puts_servers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found("gunicorn") == str(Path(sys.executable).parent / "gunicorn")
    assert found("no-such-program") is None
    tool = tmp_path / "some-server"
    tool.touch(mode=0o755)
    assert found("some-server") == str(tool)


def test_budgets_are_plain_data() -> None:
    assert asdict(VARIANTS["wsgi-threads"].budget)["slots"] == 16


def test_every_process_has_a_database_connection() -> None:
    budget = VARIANTS["wsgi-sync"].budget
    many = {processes: budget.with_processes(processes, slots=processes) for processes in (3, 8, 52)}
    assert {processes: (one.slots, one.db_connections) for processes, one in many.items()} == {
        3: (3, 9),
        8: (8, 8),
        52: (52, 52),
    }
    assert {one.db_connections_per_process for one in many.values()} == {3, 1}
    with pytest.raises(ValueError, match="8 database connections are too few for 52 processes"):
        replace(budget, processes=52)


def test_the_environment_shares_the_connections_and_keeps_strangers_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 9")
    monkeypatch.setenv("WEB_CONCURRENCY", "9")
    monkeypatch.setenv("UVICORN_WORKERS", "9")
    monkeypatch.setenv("UWSGI_PROCESSES", "9")
    monkeypatch.setenv("GRANIAN_WORKERS", "9")
    monkeypatch.setenv("GATEBENCH_TOKEN", "kept")
    kept = environment(VARIANTS["wsgi-sync"])
    assert kept["GATEBENCH_DB_CONNECTIONS"] == "2"
    assert kept["GATEBENCH_VARIANT"] == "wsgi-sync"
    assert kept["GATEBENCH_TOKEN"] == "kept"
    strange = {"GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "UVICORN_WORKERS", "UWSGI_PROCESSES", "GRANIAN_WORKERS"}
    assert not strange & kept.keys()


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
