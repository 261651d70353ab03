"""A server or its worker dies, a server never comes up, lies, or finds its port taken (PROOFS, faults 1-4, 7)."""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from harness.evidence import evidence
from harness.physics import SUSPECT, VOID, judge, restarted
from harness.recording import read_run
from tests.gate import Gate, scenario

# A variant's command is a row of a table, so a driver that changes the table stands for any server there may be.
DRIVER = """\
import sys
from dataclasses import replace
from apps.variants import VARIANTS
from harness.serve import process

serve = process.serve
def impatient(variant, **options):
    return serve(variant, **options | {{"ready_timeout_s": 1.5}})
process.serve = impatient
spawn = process.spawn
def spawned(argv, cpus, **options):
    return spawn([sys.executable, "-c", {code!r}, *argv] if "apps" in argv else argv, cpus, **options)
process.spawn = spawned
from harness.cli import main
main()
"""
NEVER_READY = "import time; print('still importing the app'); time.sleep(60)"
ENDS_AT_ONCE = "import sys; sys.exit('ImportError: no such app')"
# Answers as if it were the variant, but knows nothing of this run.
STUB = """\
import http.server, json, sys
class Stub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"token": "theirs", "variant": "asgi", "pid": 1, "live": 0}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Stub).serve_forever()
"""
# The real asgi app, but for one thing: its sleeps sleep 0 s.
DOES_NOT_WAIT = """\
import asyncio, os, sys
os.environ |= {"GATEBENCH_VARIANT": "asgi", "GATEBENCH_DB_CONNECTIONS": "8"}
import apps.effects, uvicorn
async def no_sleep(*_):
    pass
table = apps.effects.AWAITING
table[apps.effects.Sleep] = no_sleep
from apps.asgi import app
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[sys.argv.index("--port") + 1]), log_level="warning",
            ws="wsproto", lifespan="off")
"""


@pytest.mark.slow
def test_a_killed_server_is_seen_within_two_seconds_and_the_rest_goes_on(gate: Gate, tmp_path: Path) -> None:
    file = scenario(tmp_path, duration_s=3, rates="[100]")
    command = gate.start("run", file, "--variants", "asgi,wsgi-threads", "--results", tmp_path, "--name", "r")
    rows = command.half_way()
    server = command.serving()
    killed = server.environ()["GATEBENCH_VARIANT"]
    _kill_group(server.pid)
    began = time.monotonic()
    while rows.exists():
        assert time.monotonic() - began < 2, "the variant was not abandoned within 2 s"
        time.sleep(0.01)
    ended = command.ended()
    command.assert_nothing_left()
    assert ended.code == 5, ended.err
    assert "Traceback" not in ended.err
    assert f"{killed} abandoned: {killed} died (exit code -9)" in ended.err.replace("\n", " ")
    run = read_run(tmp_path / "r")
    by_variant = {one.trial.variant: one for one in run.recordings}
    assert by_variant.keys() == {"asgi", "wsgi-threads"}
    assert by_variant[killed].end.outcome == "server_died"
    broken = by_variant[killed].counts("ping", range(3))
    assert broken.add_up
    assert broken.completed >= 100
    assert broken.completed + broken.failed == broken.offered > 0
    assert broken.failed > 0
    other = by_variant[({*by_variant} - {killed}).pop()]
    assert other.end.outcome == "complete"
    assert other.counts("ping", range(3)) == (300, 300, 0, 0, 0)
    assert run.manifest["outcome"] == "partial"
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "PARTIAL" in page
    assert f"{killed} died" in page


@pytest.mark.slow
def test_fail_fast_stops_at_once(gate: Gate, tmp_path: Path) -> None:
    file = scenario(tmp_path, duration_s=4)
    options = ("--variants", "asgi,wsgi-threads", "--results", tmp_path, "--name", "r", "--fail-fast")
    command = gate.start("run", file, *options)
    command.half_way()
    _kill_group(command.serving().pid)
    killed_at = time.monotonic()
    ended = command.ended()
    assert time.monotonic() - killed_at < 3
    command.assert_nothing_left()
    assert ended.code == 5
    assert "died (exit code -9)" in ended.err
    run = read_run(tmp_path / "r")
    assert [one.end.outcome for one in run.recordings] == ["server_died"]
    assert run.manifest["outcome"] == "partial"
    assert "PARTIAL" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_worker_that_dies_is_counted_and_flagged_and_the_run_goes_on(gate: Gate, tmp_path: Path) -> None:
    file = scenario(tmp_path, duration_s=4, rates="[100]")
    command = gate.start("run", file, "--variants", "wsgi-sync,asgi", "--results", tmp_path, "--name", "r")
    command.half_way()
    while len(command.serving().children()) != 4:  # until it is the turn of the sync workers
        time.sleep(0.05)
        command.loading()
    command.half_way()
    worker = command.serving().children()[0]
    worker.kill()
    ended = command.ended()
    command.assert_nothing_left()
    run = read_run(tmp_path / "r")
    assert run.manifest["outcome"] == "complete"
    assert {one.trial.variant for one in run.recordings} == {"wsgi-sync", "asgi"}
    assert {one.end.outcome for one in run.recordings} == {"complete"}
    (hit,) = (one for one in run.recordings if one.end.restarts)
    assert (hit.trial.variant, hit.end.restarts) == ("wsgi-sync", 1)
    assert restarted(evidence(hit)) is not None
    counts = hit.counts("ping", range(4))
    assert counts.add_up
    assert counts.completed >= 390, "the others, and the new one, went on to serve"
    if spoilt := [judge(one).reason for one in run.recordings if judge(one).name == VOID]:
        pytest.skip(f"the machine was too noisy for a verdict: {spoilt[0]}")
    assert ended.code == 0, ended.err
    assert judge(hit) == (SUSPECT, "none", "one of its workers died and was restarted 1 time meanwhile")
    assert judge(hit).reason in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (NEVER_READY, "was not ready after 1.5 s; the end of its log: still importing the app"),
        (ENDS_AT_ONCE, "ended with code 1 before it was ready: ImportError: no such app"),
        (STUB, "asgi: something else answers on port "),
        (DOES_NOT_WAIT, "asgi does not conform: /poll held: "),
    ],
)
def test_a_server_that_does_not_come_up_as_it_should_is_never_loaded(
    gate: Gate, tmp_path: Path, code: str, said: str
) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER.format(code=code), encoding="utf-8")
    file = scenario(tmp_path)
    command = gate.start_argv(
        [sys.executable, str(driver), "run", str(file), "--variants", "asgi", "--results", str(tmp_path), "--name", "r"]
    )
    ended = command.ended()
    command.assert_nothing_left()
    assert ended.code == 5, ended.err
    assert "Traceback" not in ended.err
    assert said in " ".join(ended.err.split())
    assert not list((tmp_path / "r" / "trials").iterdir())
    assert json.loads((tmp_path / "r" / "run.json").read_text())["failures"].keys() == {"asgi"}


class Neighbour(http.server.BaseHTTPRequestHandler):
    """Somebody else's server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"mine")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name upstream
        pass


def test_a_taken_port_is_named_with_its_owner_who_is_left_alone(gate: Gate, tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Neighbour) as neighbour:
        threading.Thread(target=neighbour.serve_forever, daemon=True).start()
        port = neighbour.server_address[1]
        file = scenario(tmp_path)
        ended = gate("run", file, "--variants", "asgi", "--results", tmp_path, "--name", "r", "--port", port)
        assert ended.code == 6
        assert f"port {port}: Address already in use; it is held by process {os.getpid()} (" in ended.line
        assert not list((tmp_path / "r" / "trials").iterdir())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
            assert answer.read() == b"mine"
        neighbour.shutdown()


def _kill_group(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)
