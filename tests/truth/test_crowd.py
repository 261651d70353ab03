"""10 000 event streams, and 10 000 WebSockets, held at once by one load process: none lost, at most 32 KB each."""

from __future__ import annotations

import resource
import threading
import time

import psutil
import pytest

from harness.proving import Prover
from harness.trial import Part, Scenario
from tests.truth.crowd import crowd

CROWD = 10_000
OPENED_S, EVENTS, INTERVAL_S = 8, 5, 3.0  # all have come after 8 s, and each lasts for 12 s: they are there together
LASTS_S = (EVENTS - 1) * INTERVAL_S
MOST_B = 32 * 1024
PARTS = {
    "sse": Part(endpoint="sse", query=f"events={EVENTS}&interval_ms={INTERVAL_S * 1000:g}", wait_s=LASTS_S),
    "ws": Part(endpoint="ws", echoes=EVENTS, interval_ms=INTERVAL_S * 1000, wait_s=LASTS_S),
}


class Watch:
    """The most memory and connections that a process had while it was watched."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._over = threading.Event()
        self.before_b = self.most_b = process.memory_info().rss
        self.most_open = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            self.most_b = max(self.most_b, self._process.memory_info().rss)
            self.most_open = max(self.most_open, self._process.num_fds())

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", PARTS)
def test_ten_thousand_are_held_at_once(endpoint: str) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < CROWD + 200:
        pytest.skip(f"needs {CROWD + 200} descriptors: ulimit -n 20000")
    scenario = Scenario(
        name="crowd",
        question="How many can one load process hold at once?",
        arrivals="constant",
        mix=(PARTS[endpoint],),
        rates=(CROWD / OPENED_S,),
        duration_s=OPENED_S,
        warmup_s=0,
        timeout_s=60.0,
        connections=CROWD,
    )
    with crowd(EVENTS, INTERVAL_S) as server, Prover() as prover:
        watch = Watch(psutil.Process(prover.generator.pid))
        begin = time.monotonic()
        recording = prover.drive(server.port, scenario)
        watch.close()
        assert server.process.poll() is None
    each_b = (watch.most_b - watch.before_b) / CROWD
    print(f"{endpoint}: {watch.most_open} descriptors, {each_b:,.0f} B each, {time.monotonic() - begin:.1f} s")
    every = range(100)
    assert recording.counts(endpoint, every) == (CROWD, CROWD, 0, 0, 0), recording.end.errors
    part = f"{endpoint}:{'event' if endpoint == 'sse' else 'echo'}"
    expected = CROWD * (EVENTS - (endpoint == "sse"))  # event 0 is `sse:first`
    assert recording.counts(part, every) == (expected, expected, 0, 0, 0)
    assert recording.end.errors == {}
    assert watch.most_open > CROWD, "they were never there together"
    assert each_b <= MOST_B
