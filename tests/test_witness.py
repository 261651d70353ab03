"""Stalls that no counter shows: here the witness itself is stopped, as a hypervisor would stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

LISTENS = """
import sys, time
from harness import facts
from harness.serve.witness import Witness
witness = Witness(facts.cpu_sets()[1])
time.sleep(0.1)
witness.take()
print("listening", flush=True)
sys.stdin.readline()
print(witness.close())
"""


def test_a_process_that_stood_still_was_seen_to() -> None:
    argv = [sys.executable, "-c", LISTENS]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGCONT)
        stalled_s = float(process.communicate("\n")[0])
    assert 0.28 < stalled_s < 2
