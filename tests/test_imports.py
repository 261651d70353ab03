"""Imports go one way, as DESIGN.md draws it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("apps", "harness", "scenarios", "tests")
DATA_OF_APPS = ("apps.endpoints", "apps.effects", "apps.trace", "apps.variant", "apps.variants")
LOAD, REPORT, LOCUSTFILE = "harness/load/", "harness/report/", "scenarios/locustfile.py"
GEVENT = (LOAD, LOCUSTFILE, "apps/servers/gevent_unpatched.py")  # the last is itself a server of gevent's
TEST_TOOLS = ("pytest", "hypothesis", "playwright")


def imported(source: str, path: str) -> set[str]:
    """Every module that a file imports, anywhere in it, by its whole name; `from x import y` also gives x.y."""
    package = path.removesuffix(".py").split("/")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=module, names=aliases, level=level):
                base = (
                    [*package[: len(package) - level + 1], *([module] if module else [])] if level else [module or ""]
                )
                names |= {".".join(base), *(".".join([*base, alias.name]) for alias in aliases)}
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(function).split(".")[-1] in ("import_module", "__import__", "find_spec", "run_module"):
                    names.add(name)
    return names


def of(names: set[str], *tops: str) -> set[str]:
    return {name for name in names if name.split(".")[0] in tops}


def files() -> Iterator[tuple[str, set[str]]]:
    for folder in OURS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            yield name, imported(path.read_text(encoding="utf-8"), name)


FILES = dict(files())
PRODUCT = [name for name in FILES if not name.startswith("tests/")]


@pytest.mark.parametrize("name", [name for name in PRODUCT if name.startswith("apps/")])
def test_apps_import_nothing_of_ours_but_apps(name: str) -> None:
    assert not of(FILES[name], "harness", "scenarios", "tests", "locust", "plotly", "pandas")


@pytest.mark.parametrize("name", [name for name in PRODUCT if name.startswith("harness/")])
def test_the_harness_imports_only_data_from_apps(name: str) -> None:
    wrong = {
        module
        for module in of(FILES[name], "apps")
        if not f"{module}.".startswith(tuple(f"{one}." for one in DATA_OF_APPS))
    }
    assert wrong <= {"apps"}
    assert "apps" not in wrong or of(FILES[name], "apps") & set(DATA_OF_APPS), "apps itself is imported"


@pytest.mark.parametrize("name", PRODUCT)
def test_locust_and_gevent_stay_in_the_load_process(name: str) -> None:
    if not name.startswith(GEVENT):
        assert not of(FILES[name], "locust", "gevent", "greenlet", "geventhttpclient")


@pytest.mark.parametrize("name", PRODUCT)
def test_plotly_stays_in_the_report(name: str) -> None:
    if not name.startswith(REPORT):
        assert not of(FILES[name], "plotly", "kaleido")


@pytest.mark.parametrize("name", PRODUCT)
def test_nothing_imports_tests_or_their_tools(name: str) -> None:
    assert not of(FILES[name], "tests", *TEST_TOOLS)


@pytest.mark.parametrize("name", [name for name in PRODUCT if name.startswith("harness/") and "/load/" not in name])
def test_of_the_load_process_only_its_plain_ends_are_imported(name: str) -> None:
    taken = {module for module in FILES[name] if module.startswith("harness.load.")}
    plain = ("harness.load.order", "harness.load.process", "harness.load.schedule")
    assert all(module.startswith(plain) for module in taken), taken


@pytest.mark.parametrize("name", [name for name in PRODUCT if name.startswith("harness/report/")])
def test_reporting_never_measures(name: str) -> None:
    forbidden = ("harness.load", "harness.serve", "harness.measure", "harness.run", "harness.conformance")
    assert not {module for module in FILES[name] if f"{module}.".startswith(tuple(f"{one}." for one in forbidden))}


CAPACITY: tuple[str, ...] = ("choice", "conclude", "crossing", "curve", "efficiency", "forecasts", "laws", "measured")
CAPACITY += ("models", "overload", "plan", "queues", "search", "seen", "slo", "stations", "steps", "told")
PURE = ("trial", "histogram", "physics", "stats", "load/schedule", "load/http")
OUTSIDE = ("os", "time", "socket", "subprocess", "threading", "select", "asyncio", "pathlib", "datetime")


@pytest.mark.parametrize("name", [*PURE, *(f"capacity/{name}" for name in CAPACITY)])
def test_what_is_pure_imports_neither_clock_nor_io(name: str) -> None:
    assert not of(FILES[f"harness/{name}.py"], *OUTSIDE)


@pytest.mark.parametrize(
    "module", ["harness", "harness.cli", "harness.trial", "harness.load.order", "harness.load.process"]
)
def test_the_command_line_starts_light(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=30
    )
    assert module.partition(".")[0] in loaded.stdout.split()
    assert not {"locust", "gevent", "plotly", "pandas", "kaleido"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b", {"a.b"}),
        ("def f():\n    from a import b", {"a", "a.b"}),
        ("from . import b", {"harness.report", "harness.report.b"}),
        ("from ..load import users", {"harness.load", "harness.load.users"}),
        ("from .x import y", {"harness.report.x", "harness.report.x.y"}),
        ("import importlib\nimportlib.import_module('locust')", {"importlib", "locust"}),
    ],
)
def test_every_way_to_import_is_seen(source: str, found: set[str]) -> None:
    assert imported(source, "harness/report/page.py") == found
