"""Where the time went, held against what must be: queue time by Little's law, a slow application by its own sleep.

4 threads under 16 closed users of a 100 ms sleep: 16 ÷ (4 ÷ 100 ms) = 400 ms a response, 300 of them in the queue.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.recording import Trace, read_run
from tests.gate import Gate

if TYPE_CHECKING:  # the plugin itself is imported by pytest, which rewrites its assertions
    from tests.quietness import Quiet

FILE = """
question = "How long does a request wait for one of four threads?"
arrivals = "closed"
users = [16]
repeats = 1
duration_s = {duration_s}
warmup_s = 2
timeout_s = 5.0
mix = [{{ endpoint = "sleep", query = "ms=100" }}]
"""
SLOTS, USERS, WAIT_MS = 4, 16, 100.0


def traced(gate: Gate, folder: Path, variants: str, lens: str, duration_s: int) -> dict[str, Trace]:
    """variant → where its time went."""
    file = folder / "queue.toml"
    file.write_text(FILE.format(duration_s=duration_s), encoding="utf-8")
    options = ("--variants", variants, "--lens", lens, "--results", folder, "--name", "r", "--trace")
    command = gate.start("run", file, *options)
    ended = command.ended(within_s=180)  # what a noisy machine spoils is repeated
    command.assert_nothing_left()
    assert ended.code in (0, 4), ended.err  # a noisy machine may spoil it: whoever calls decides
    run = read_run(folder / "r")
    return {one.trial.variant: trace for one in run.recordings for trace in one.traces}


def mean_ms(trace: Trace, *kinds: str) -> float:
    return sum(value for kind, value in trace.sums.items() if kind in kinds) / trace.n / 1000


@pytest.mark.slow
@pytest.mark.realtime
def test_threads_queue_before_the_application(gate: Gate, tmp_path: Path, quiet: Quiet) -> None:
    attempts = iter("123")

    def proof() -> None:
        folder = tmp_path / next(attempts)
        folder.mkdir()
        found = traced(gate, folder, "wsgi-threads", f"equal-slots={SLOTS}", 12)["wsgi-threads"]
        before, inside = mean_ms(found, "before"), mean_ms(found, "wait", "cpu")
        print(f"before {before:.1f} ms, inside {inside:.1f} ms (CPU {mean_ms(found, 'cpu'):.3f} ms), n = {found.n}")
        assert found.missing == 0
        assert abs(before - (USERS / SLOTS - 1) * WAIT_MS) <= 0.03 * 300
        assert WAIT_MS <= inside <= 1.03 * WAIT_MS
        assert len({thread for _, thread, _ in found.workers}) == SLOTS
        assert '<figure class="chart" id="time">' in (folder / "r" / "report.html").read_text(encoding="utf-8")

    quiet.proved(proof)


@pytest.mark.slow
def test_each_family_says_where_its_time_went(gate: Gate, tmp_path: Path) -> None:
    """Without a claim about time: each request is found, and portions are what each family can know."""
    found = traced(gate, tmp_path, "wsgi-sync,wsgi-gevent,asgi,flask", "equal-cpu", 4)
    assert {name: set(trace.sums) for name, trace in found.items()} == {
        name: {"before", "write"} | ({"inside"} if name == "wsgi-gevent" else {"wait", "cpu"}) for name in found
    }
    for name, trace in found.items():
        assert (trace.missing, trace.row) == (0, "sleep"), name
        assert mean_ms(trace, "inside", "wait", "cpu") >= WAIT_MS, name
        assert trace.n == sum(count for *_, count in trace.workers)
    processes = {name: len({process for process, *_ in trace.workers}) for name, trace in found.items()}
    assert processes["wsgi-sync"] == 4
    assert processes["flask"] == processes["wsgi-gevent"] == processes["asgi"] == 1
    assert mean_ms(found["wsgi-sync"], "before") > 2 * WAIT_MS > mean_ms(found["asgi"], "before")
