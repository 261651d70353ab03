"""PROOFS, fault 20: a backlog of one and bursts. Annotated, with the peaks of SYNs sent again; never VOID."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from harness import facts
from harness.evidence import evidence
from harness.physics import SIGNS, VOID, judge, limit
from harness.proving import ROW, Prover, scenario

EACH_S = 0.002
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npong"


@contextmanager
def a_backlog_of_one() -> Iterator[int]:
    """Serves one connection after the other; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:  # the test is over
                    return
                with peer:
                    peer.settimeout(5)
                    if peer.recv(4096):
                        time.sleep(EACH_S)
                        peer.sendall(ANSWER)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.slow
def test_a_backlog_that_overflows_is_told_with_its_peaks(prover: Prover) -> None:
    asked = scenario("burst", 10, 12, shape={"every_s": 0.4}, keep_alive=False, timeout_s=8.0)  # 4 at once
    with a_backlog_of_one() as port:
        recording = prover.drive(port, asked)
    head = recording.head.model_copy(update={"facts": facts.collect()})  # how this kernel sends SYNs again
    recording = replace(recording, head=head)
    service = recording.histogram(ROW, "service")
    found, verdict = evidence(recording), judge(recording)
    told = [limit(found)[1], *(sign(found) or "" for sign in SIGNS)]
    print(recording.end.kernel, found.clusters, verdict, told)
    assert recording.end.kernel["ListenOverflows"] > 0
    assert 1.0 in found.clusters, "the kernel sends a SYN again after a second"
    assert any("the listen queue overflowed" in sentence for sentence in told)
    assert any("lost SYNs were sent again" in sentence for sentence in told)
    assert service.max_us >= 990_000
    assert verdict.name != VOID or verdict.limited_by == "generator", "an overloaded server is a finding"
