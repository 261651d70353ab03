"""PROOFS, fault 12, to the letter: whatever ends the harness between a process's start and the reaper's watch.

Nothing is left then. The moment is played: what would tell the reaper of the new process ends the harness instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.serve.process import spawn, stop
from tests.gate import ROOT, wait_for

PLAY = """\
import os, signal, subprocess, sys
from harness.serve import process, reaper

def ended(*_):
    for child in __import__("psutil").Process().children():
        print(child.pid, flush=True)
    {end}

{where}
try:
    process.spawn([sys.executable, "-c", "import sys, time; open(sys.argv[1], 'w'); time.sleep(60)", sys.argv[1]], None,
                  stdin=subprocess.DEVNULL)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
IN_WATCH = "reaper.watch = ended"
IN_POPEN = """\
execute = subprocess.Popen._execute_child
def executed(self, *arguments):
    execute(self, *arguments)
    ended()
subprocess.Popen._execute_child = executed
"""
KILLED, INTERRUPTED = "os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt"


@pytest.mark.parametrize("where", [IN_WATCH, IN_POPEN], ids=["before the watch", "within Popen"])
@pytest.mark.parametrize("end", [KILLED, INTERRUPTED], ids=["killed", "interrupted"])
def test_what_the_reaper_was_never_told_of_does_not_begin(tmp_path: Path, where: str, end: str) -> None:
    begun = tmp_path / "begun"
    argv = [sys.executable, "-c", PLAY.format(where=where, end=end), str(begun)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, env=env, cwd=ROOT)
    pid, *rest = done.stdout.split()
    assert (done.returncode, rest) == ((-signal.SIGKILL, []) if end == KILLED else (0, ["interrupted"])), done.stderr
    wait_for(lambda: not psutil.pid_exists(int(pid)), "its end", 5)
    assert not begun.exists()


def test_what_is_spawned_begins_with_its_own_input_on_its_cpus() -> None:
    code = "import os, sys; print(sorted(os.sched_getaffinity(0)), sys.stdin.read().split(), sys.argv[1:], os.getcwd())"
    cpu = min(os.sched_getaffinity(0))
    words = ["a b", "$HOME", "'", '"', "*", ""]
    for given, read in ((subprocess.PIPE, "['one', 'two']"), (subprocess.DEVNULL, "[]")):
        process = spawn([sys.executable, "-c", code, *words], frozenset({cpu}), stdin=given, stdout=subprocess.PIPE)
        try:
            out, _ = process.communicate(b"one\ntwo\n" if given == subprocess.PIPE else None, timeout=20)
            assert process.returncode == 0
            assert os.getpgid(0) != process.pid
        finally:
            stop(process)
        assert out.decode().strip() == f"[{cpu}] {read} {words} {ROOT}"


def test_a_program_that_is_not_there_ends_at_once() -> None:
    process = spawn(["/nowhere/at/all"], None, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert b"not found" in process.communicate(timeout=10)[1]
        assert process.returncode == 127
    finally:
        stop(process)
