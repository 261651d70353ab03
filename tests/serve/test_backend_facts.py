"""What a Recording says of its backend, so that a comparison of two names each thing that differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.compare import obstacles
from harness.recording import Run
from harness.report import page
from harness.serve.backends import Backend, Wishes, facts_of, processes
from tests.report import fake

CONTAINED = {
    "engine": "27.1",
    "python": "3.13.5",
    "network": "a bridge and a pair of virtual interfaces",
    "versions": {"uvicorn": "0.54.0", "numpy": "0.0.1"},
}


def test_python_packages_and_the_path_of_a_request_are_facts_of_their_own(tmp_path: Path) -> None:
    with processes(Wishes(tmp_path, {})) as backend:
        here = facts_of("process", backend)
    there = facts_of("compose", Backend(backend.serve, CONTAINED))
    assert here["backend_network"] == "loopback"
    (one,) = fake.plain("asgi", 100, 1)
    runs = [[replace(one, head=one.head.model_copy(update={"facts": facts}))] for facts in (here, there)]
    found = {line.partition(":")[0]: line for line in obstacles(*runs)}
    assert {"backend", "backend_python", "backend_network", "backend_engine", "backend_numpy"} <= found.keys()
    assert found["backend_network"].endswith('"loopback" → "a bridge and a pair of virtual interfaces"')
    shown = page.render(Run(Path("run"), (*runs[0], *runs[1])), "")
    assert "Measured on machines that differ" in shown
    assert "loopback" in shown
