"""The command line as its users meet it: one real run, and every verb that reads it; wrong words; pipes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from apps.endpoints import ENDPOINTS
from apps.variants import VARIANTS
from harness.recording import read_run
from harness.serve.process import Server, serve
from tests.gate import ROOT, Ended, Gate, scenario

# As DESIGN.md writes them.
COLUMNS = """
    variant, scenario, endpoint, arrivals, level, lens, repeats, n, offered_rps, users, offered, completed, failed,
    timed_out, unfinished, throughput_rps, throughput_low_rps, throughput_high_rps, p50_ms, p90_ms, p99_ms,
    p99_low_ms, p99_high_ms, p999_ms, service_p99_ms, lateness_p99_ms, cpu_ms_per_request, rss_mb, threads, verdict,
    limited_by, reason
"""
MARKS = {"p50", "p90", "p99", "p999", "p9999", "max", "n"}


@dataclass(frozen=True)
class Finished:
    """A run that went well, and the sockets that its processes listened on meanwhile."""

    folder: Path
    ended: Ended
    listening: list[str]


@pytest.fixture(scope="module")
def finished(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """From another working directory, into a folder with a space in its name."""
    elsewhere = tmp_path_factory.mktemp("else where")
    file = scenario(elsewhere, rates="[50]")
    options = ("--variants", "asgi,wsgi-threads", "--results", "my results", "--name", "r", "--json")
    command = gate.start("run", file.name, *options, cwd=elsewhere)
    command.loading()
    listening = []
    for process in command.family():
        with contextlib.suppress(psutil.NoSuchProcess):
            found = process.net_connections("inet")
            listening += [one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN]
    ended = command.ended()
    command.assert_nothing_left()
    return Finished(elsewhere / "my results" / "r", ended, listening)


@pytest.mark.slow
def test_a_run_prints_json_and_nothing_else(finished: Finished) -> None:
    assert finished.ended.code == 0, finished.ended.err
    told = json.loads(finished.ended.out)
    assert told["outcome"] == "complete"
    assert told["run"] == "my results/r"
    assert {cell["variant"] for cell in told["cells"]} == {"asgi", "wsgi-threads"}
    assert finished.ended.err.startswith("2 trials, predicted to take ")
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert "Does a tiny question – one that is not ASCII, ü – get its answer?" in page
    assert "PARTIAL" not in page


def test_its_processes_listen_on_loopback_only(finished: Finished) -> None:
    assert finished.listening
    assert set(finished.listening) == {"127.0.0.1"}


def columns() -> list[str]:
    return "".join(COLUMNS.split()).split(",")


def test_export_has_the_columns_in_order_and_counts_add_up(gate: Gate, finished: Finished) -> None:
    ended = gate("export", finished.folder, "--format", "csv")
    assert ended.code == 0
    head, *rows = csv.reader(io.StringIO(ended.out))
    assert head == columns()
    assert len(rows) == 2
    for values in rows:
        row = dict(zip(head, values, strict=True))
        parts = ("completed", "failed", "timed_out", "unfinished")
        assert int(row["offered"]) == sum(int(row[part]) for part in parts) > 0
        assert row["p99_ms"] == ""  # needs 662: not available, never 0
    as_json = gate("export", finished.folder, "--json")
    assert [list(row) for row in json.loads(as_json.out)] == [columns()] * 2
    assert gate("export", finished.folder, "--format", "markdown").out.startswith("| scenario | load |")


@pytest.mark.slow
def test_a_damaged_recording_is_named_and_the_others_are_still_reported(
    gate: Gate, finished: Finished, tmp_path: Path
) -> None:
    folder = tmp_path / "torn"
    shutil.copytree(finished.folder, folder)
    torn = folder / "trials" / "tiny-50-asgi-r0.jsonl.gz"
    torn.write_bytes(torn.read_bytes()[:200])
    (folder / "report.html").unlink()
    for verb in ("report", "export"):
        ended = gate(verb, folder)
        assert ended.code == 2
        assert f"{torn}: was changed since it was measured" in ended.line
    assert "wsgi-threads" in ended.out
    assert "torn" in (folder / "report.html").read_text(encoding="utf-8")
    for path in (folder / "trials").iterdir():
        path.write_bytes(b"")
    ended = gate("report", folder)
    assert ended.code in {2, 4}
    assert "holds no readable recording" in ended.err


@pytest.mark.browser
@pytest.mark.slow
def test_charts_of_a_damaged_run_are_drawn_from_the_rest(gate: Gate, finished: Finished, tmp_path: Path) -> None:
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no Chromium")
    folder = tmp_path / "torn"
    shutil.copytree(finished.folder, folder)
    torn = folder / "trials" / "tiny-50-wsgi-threads-r0.jsonl.gz"
    torn.write_bytes(torn.read_bytes()[:200])
    ended = gate("charts", folder, "--format", "svg", "--only", "throughput")
    assert f"{torn}: was changed since it was measured" in ended.err
    assert "Traceback" not in ended.err
    assert ended.code == 2
    assert [Path(line).suffix for line in ended.out.splitlines()] == [".svg"]


def test_charts_without_chromium_say_how_to_get_it(gate: Gate, finished: Finished, tmp_path: Path) -> None:
    ended = gate("charts", finished.folder, PATH=str(tmp_path), BROWSER_PATH="")
    assert ended.code == 6
    assert "apt-get install chromium" in ended.line


def test_a_name_that_is_taken_is_not_overwritten(gate: Gate, finished: Finished) -> None:
    file = finished.folder.parents[1] / "tiny.toml"
    ended = gate("run", file, "--variants", "asgi", "--results", finished.folder.parent, "--name", "r")
    assert ended.code == 2
    assert "choose another --name, or continue it with --resume" in ended.line


@pytest.mark.slow
def test_a_server_that_dies_among_many_costs_its_own_rows_only(gate: Gate, tmp_path: Path) -> None:
    file = scenario(tmp_path, duration_s=4, rates="[100]")
    few = ("wsgi-sync", "wsgi-threads", "wsgi-gevent", "asgi")  # whom a file asks that does not say
    command = gate.start("run", file, "--repeats", 2, "--results", tmp_path, "--name", "r", "--json")
    command.half_way()
    server = command.serving()
    killed = server.environ()["GATEBENCH_VARIANT"]
    os.killpg(server.pid, signal.SIGKILL)
    ended = command.ended(120)
    assert ended.code == 5, ended.err
    told = json.loads(ended.out)
    assert told["outcome"] == "partial"
    cells = {cell["variant"]: cell for cell in told["cells"]}
    assert cells.keys() == {*few}
    assert cells[killed]["reason"].startswith(f"{killed} died (exit code -9)")
    ends: dict[str, dict[int, str]] = {name: {} for name in few}
    for one in read_run(tmp_path / "r").recordings:
        ends[one.trial.variant][one.trial.repeat] = one.end.outcome
    assert list(ends.pop(killed).values()) == ["server_died"], "it is abandoned"
    assert all(outcomes == {0: "complete", 1: "complete"} for outcomes in ends.values())
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "PARTIAL" in page
    assert f"<li>{killed} is VOID: {killed} died (exit code -9)" in page


# -- wrong words -----------------------------------------------------------------------------------------------------

WRONG = {
    "runn": "Did you mean 'run'?",
    "run --variant asgi": "'--variants'",
    "run --variants wsgi-thread": "no variant 'wsgi-thread'; did you mean wsgi-threads",
    "run --variants=": "no variant ''; there are: wsgi-sync",
    "run quik": "no scenario 'quik'; did you mean quick or queries?",
    "run quick quick": "'quick/ping' is asked for twice",
    "run ping --name ../x": "--name '../x': at most 100 letters",
    "run ping --name .x": "--name '.x': at most 100 letters",
    f"run ping --name {'x' * 300}": "at most 100 letters",
    "run ping --server-cpus abc": "--server-cpus 'abc': write it as 0-2,4",
    "run ping --server-cpus 1-0": "write it as 0-2,4",
    "run ping --server-cpus 0-99999999": "write it as 0-2,4",
    "run ping --server-cpus=-1": "write it as 0-2,4",
    "run ping --server-cpus 4095": "this machine allows",
    "run ping --generator-cpus 4095": "--generator-cpus 4095: this machine allows",
    "run servers --variants base,serverz": "no variant 'serverz'; did you mean servers",
    "run ping --lens equal-slot": "there are equal-cpu, equal-slots, equal-memory, as-configured, and equal-slots=N",
    "run ping --lens equal-slots=0": "slots are a whole number",
    "run ping --lens equal-slots": "asgi: it has no slots to set: it takes every call as it comes; choose",
    "run ping --lens equal-memory": "--backend process has none (and 3 more); choose --lens equal-cpu",
    "run ping --resume nowhere": "--resume nowhere: no run is there",
    "run ping --duration 0": "0 is not in the range",
    "run ping --repeats all": "'all' is not a valid integer range",
    "run ping --precision 0.1": "say when `--repeats auto` ends: add it",
    "compare": "Missing argument 'BASE [NEW…]'",
    "audit": "Missing argument 'TABLE'",
    "run ping --port 70000": "70000 is not in the range",
    "list variant": "'variants'",
    "report nowhere": "nowhere is no run",
    "export nowhere --format xml": "'markdown'",
    "load ftp://127.0.0.1/": "it begins with http://, ws://, sse://",
    "load http://127.0.0.1:1/ --rate 5 --users 5": "give one of them",
    "load http://127.0.0.1:99999/": "Port out of range",
}


SLOW_TO_IMPORT = {"gevent", "kaleido", "locust", "pandas", "plotly"}  # each takes longer than the whole answer


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_word_is_answered_at_once_by_one_line(gate: Gate, words: str) -> None:
    ended = gate(*words.split(), PYTHONPROFILEIMPORTTIME="1")
    lines = ended.err.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    ended = ended._replace(err="".join(f"{line}\n" for line in lines if not line.startswith("import time:")))
    assert ended.code == 2, ended.err
    assert WRONG[words] in ended.line
    assert ended.err.strip() == ended.line
    assert ended.out == ""
    assert "harness.cli" in imported
    assert not imported & SLOW_TO_IMPORT


def test_two_scenarios_of_one_name_are_refused(gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    ended = gate("run", scenario(tmp_path), scenario(tmp_path / "other"), "--results", tmp_path / "results")
    assert ended.code == 2
    assert "scenario 'tiny' is asked for twice" in ended.line


@pytest.mark.parametrize("url", ["http://192.0.2.7/", "http://169.254.169.254/latest", "http://0.0.0.0:8000/"])
def test_a_target_elsewhere_is_refused_before_anything_is_sent(gate: Gate, url: str, tmp_path: Path) -> None:
    # no configuration, and a library path that would show the load process: none may start
    command = gate.start("load", url, "--duration", 1, XDG_CONFIG_HOME=str(tmp_path))
    seen = set()
    while command.process.poll() is None:
        seen |= {process.pid for process in command.family()}
    ended = command.ended()
    assert ended.code == 2
    assert "not this machine" in ended.line or "never a target" in ended.line
    assert seen <= {command.process.pid}


def test_apps_names_the_nearest_variant() -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "apps", "wsgi-thread", "--port", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 2
    assert "the nearest is wsgi-threads" in asked.stderr
    assert len(asked.stderr.splitlines()) == 1


# -- what there is ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_lists_and_the_doctor_speak_json(gate: Gate) -> None:
    rows = json.loads(gate("list", "variants", "--json").out)
    keys = {"name", "family", "interface", "server", "framework", "command", "budget", "endpoints"}
    assert [row["name"] for row in rows] == list(VARIANTS)
    assert all(keys <= row.keys() and row["endpoints"].keys() == ENDPOINTS.keys() for row in rows)
    assert [row["name"] for row in json.loads(gate("list", "endpoints", "--json").out)] == list(ENDPOINTS)
    assert {"quick", "ping", "ws"} <= {row["file"] for row in json.loads(gate("list", "scenarios", "--json").out)}
    doctor = gate("doctor", "--json")
    assert doctor.code == 0
    assert {"descriptors", "leftovers"} <= {check["name"] for check in json.loads(doctor.out)["checks"]}
    for what in ("variants", "endpoints", "scenarios"):
        assert gate("list", what).code == 0


@pytest.mark.parametrize("verb", [["list", "variants"], ["list", "variants", "--json"], ["--help"]])
def test_a_reader_that_leaves_gets_no_traceback(verb: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        ended = subprocess.run(
            [sys.executable, "-m", "harness", *verb],
            cwd=ROOT,
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.stderr == ""
    assert ended.returncode in {141, -signal.SIGPIPE}


def test_output_on_a_full_disk_is_the_machines_fault() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "harness", "list", "variants", "--json"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 6
    assert ended.stderr == "gatebench: [Errno 28] No space left on device; see `gatebench doctor`\n"


# -- the generator alone ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(VARIANTS["asgi"], folder=tmp_path_factory.mktemp("logs")) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "path", "options"),
    [
        ("http", "/ping", ("--rate", 100, "--arrivals", "constant")),
        ("http", "/sleep?ms=10", ("--users", 4)),
        ("ws", "/ws", ("--users", 20)),
        ("sse", "/sse?events=3&interval_ms=20", ("--rate", 50)),
    ],
)
def test_load_tells_what_was_promised(
    gate: Gate, server: Server, scheme: str, path: str, options: tuple[object, ...]
) -> None:
    url = f"{scheme}://127.0.0.1:{server.address[1]}{path}"
    ended = gate("load", url, *options, "--duration", 2, "--json")
    assert ended.code == 0, ended.err + ended.out
    told = json.loads(ended.out)
    counts = ("completed", "failed", "timed_out", "unfinished")
    assert told["offered"] == sum(told[count] for count in counts)
    assert told["completed"] > 0
    assert told["failed"] == told["timed_out"] == 0
    for kind in ("response_us", "service_us", "lateness_us", "blocked_us"):
        assert told[kind].keys() == MARKS
    marks = [told["response_us"][mark] for mark in ("p50", "p90", "p99", "p999", "p9999", "max")]
    named = [mark for mark in marks if mark is not None]  # the others had too few samples
    assert marks[0] is not None
    assert named == sorted(named)
    assert {"offered_rps", "achieved_rps", "errors", "verdict", "limited_by", "reason"} <= told.keys()
    if scheme == "http" and "--rate" in options:
        assert (told["offered"], told["offered_rps"]) == (100, 100)  # the warm-up second is not counted


# -- the Makefile ----------------------------------------------------------------------------------------------------


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "--no-print-directory", *words], capture_output=True, text=True, check=False)


def test_make_help_lists_the_targets() -> None:
    told = make("-C", str(ROOT), "help").stdout
    for target in ("setup", "bench", "smoke", "test", "lint", "report", "charts", "clean", "help"):
        assert f"make {target} " in told


def test_make_names_a_missing_venv(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    stub = tmp_path / "python3"
    stub.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexit 0\n', encoding="utf-8")
    stub.chmod(0o755)
    told = make("-C", str(tmp_path), f"PYTHON={stub}", "setup")
    assert "apt-get install python3-venv" in told.stderr
    assert "Error 6" in told.stderr  # make itself always ends with 2
    assert told.returncode == 2
    assert not (tmp_path / ".venv").exists()
