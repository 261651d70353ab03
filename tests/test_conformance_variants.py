"""Every variant conforms, on real sockets; what this machine lacks is skipped, and said."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from apps.endpoints import ENDPOINTS, expected
from apps.variants import VARIANTS
from harness import wire
from harness.conformance import check, refusals
from harness.serve.process import Server, serve

BASE = ("wsgi-sync", "wsgi-threads", "wsgi-gevent", "asgi")  # what `make setup` installs; the others take minutes
LONGEST_S = 8.0  # for all checks of one variant, so that all variants can be checked at every change


def accepted(server: Server) -> None:
    """Passes every check, in good time, with no more holes than its row states."""
    began = time.monotonic()
    findings = check(server.address, server.variant, server.token)
    took_s = time.monotonic() - began
    print(*(finding.sentence for finding in findings), f"{server.variant.name}: {took_s:.2f} s", sep="\n")
    assert not [finding.sentence for finding in refusals(findings)]
    assert {finding.endpoint for finding in findings} >= set(ENDPOINTS)
    assert {finding.endpoint for finding in findings if finding.measured == "skipped"} == set(server.variant.holes)
    assert took_s < LONGEST_S or any("attempt" in finding.measured for finding in findings)


@pytest.mark.parametrize("name", BASE)
def test_the_base_variants_conform(name: str, tmp_path: Path) -> None:
    with serve(VARIANTS[name], folder=tmp_path) as server:
        accepted(server)
        probes = []
        for _ in range(3):
            began = time.monotonic()
            assert not refusals(check(server.address, server.variant, server.token, full=False))
            probes.append(time.monotonic() - began)
        for path in ("/sleep?ms=-1", "/cpu?n=abc", "/sse?events=10**9"):
            answer, _ = wire.fetch(server.address, path)
            assert answer == expected("GET", *path.split("?"))
            assert answer.status == 400
        for path, status in (("/ws?x=1", 400), ("/ping", 405), ("/nope", 404)):
            with pytest.raises(ConnectionError, match=f"status_code={status}"):
                wire.Conversation(server.address, path)
        log = server.log.read_text()
    assert min(probes) < 0.03
    assert log == "", "a server that is well has nothing to say"


def test_gevent_that_patched_nothing_is_refused_where_it_claims_to_be_gevent(tmp_path: Path) -> None:
    unpatched = VARIANTS["gevent-unpatched"]
    claim = replace(unpatched, budget=VARIANTS["wsgi-gevent"].budget)
    with serve(unpatched, folder=tmp_path) as server:
        refused = {finding.check: finding.sentence for finding in refusals(check(server.address, claim, server.token))}
    assert "concurrency" in refused
    print(*refused.values(), sep="\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in BASE])
def test_every_other_variant_conforms(name: str, tmp_path: Path) -> None:
    variant = VARIANTS[name]
    if variant.missing:
        pytest.skip(next(iter(variant.holes_among(ENDPOINTS).values())))
    with serve(variant, folder=tmp_path) as server:
        accepted(server)
        log = server.log.read_text()  # start-up may be wordy, but nothing has gone wrong
        for path in ("/ws?x=1", "/ping", "/nope"):
            with pytest.raises(ConnectionError):  # some say why, some 403 whatever the reason
                wire.Conversation(server.address, path)
        assert not refusals(check(server.address, variant, server.token, full=False)), "and it goes on to serve"
    assert "Traceback" not in log
    assert "ERROR" not in log
