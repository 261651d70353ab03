"""Faults 18 and 19: the generator's own descriptors and ports run out, and no server is blamed for it.

Fault 5, the stall of 1 s, is tests/truth/test_freeze.py; fault 21, CPU starvation, tests/truth/test_self_accusation.py.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import EnvironmentFault
from harness.limits import OWN, check_descriptors, descriptors_for
from harness.proving import scenario, serving

ROOT = Path(__file__).resolve().parents[2]
GATEBENCH = [sys.executable, "-m", "harness"]


def limited(descriptors: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """gatebench where so many descriptors are allowed."""
    argv = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *GATEBENCH, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


# -- 18: descriptors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [("--users", "32"), ("--rate", "500")])
def test_too_few_descriptors_are_said_before_the_load(load: tuple[str, str]) -> None:
    with serving("canned", log=True) as known:
        done = limited(64, "load", f"http://127.0.0.1:{known.port}/", *load, "--duration", "2")
        assert not known.end(), "the server was asked all the same"
    assert done.returncode == 6, done.stderr
    assert "64 are allowed: `ulimit -n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_says_it_before_it_starts_anything(tmp_path: Path) -> None:
    done = limited(64, "run", "quick", "--results", str(tmp_path / "results"))
    assert done.returncode == 6, done.stderr
    assert "64 are allowed: `ulimit -n" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("needed", "asked"),
    [
        (1_000, scenario("closed", 1_000, 2)),
        (500, scenario("poisson", 500, 2)),  # what comes while a server stalls for 1 s
        (625, scenario("constant", 500, 2, wait_s=0.25)),
        (80, scenario("poisson", 5_000, 2, connections=80)),  # the cap holds
    ],
)
def test_what_a_load_may_need(needed: int, asked: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert descriptors_for(asked) == needed + OWN  # type: ignore[arg-type]
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _which, to: raised.append(to))
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (64, needed + OWN))
    check_descriptors([asked])  # type: ignore[list-item]
    assert raised == [(needed + OWN, needed + OWN)], "the soft limit is no reason to refuse"
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (64, needed + OWN - 1))
    with pytest.raises(EnvironmentFault, match="ulimit -n"):
        check_descriptors([asked])  # type: ignore[list-item]


def test_no_limit_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda _which, _to: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (64, resource.RLIM_INFINITY))
    check_descriptors([scenario("closed", 20_000, 2)])


# -- 19: ports -------------------------------------------------------------------------------------------------------

IN_A_NAMESPACE = """
import json, subprocess, sys
from harness.proving import serving
with serving("delay", 1500) as known:
    url = f"http://127.0.0.1:{known.port}/"
    argv = [sys.executable, "-m", "harness", "load", url, "--rate", "100", "--duration", "3", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True)
    print(json.dumps([done.returncode, done.stdout, done.stderr]))
"""


@pytest.mark.slow
def test_ports_that_run_out_are_the_generators_fault() -> None:
    """A network of our own with 50 of them; 100 arrivals a second that take 1.5 s each need 150."""
    if os.geteuid():
        pytest.skip("a network namespace needs root")
    setup = "ip link set lo up && echo 40000 40049 > /proc/sys/net/ipv4/ip_local_port_range"
    probe = subprocess.run(["unshare", "-n", "sh", "-c", setup], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no network namespace with 50 ports here: {probe.stderr.strip()}")
    argv = ["unshare", "-n", "sh", "-c", f'{setup} && exec "$@"', "sh", sys.executable, "-c", IN_A_NAMESPACE]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    code, out, err = json.loads(done.stdout)
    assert code == 4, err
    answer = json.loads(out)
    assert answer["errors"]["no ports"] > 50
    assert (answer["verdict"], answer["limited_by"]) == ("VOID", "generator")
    assert "the generator ran out: no ports" in answer["reason"]
    assert answer["failed"] >= answer["errors"]["no ports"] / 2
