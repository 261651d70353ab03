"""Queries on a real PostgreSQL: as many in parallel for threads, greenlets and tasks, each counted, none in the way.

Needs psycopg, and PostgreSQL in a container or as binaries.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from apps.variants import VARIANTS
from harness import conformance
from harness.errors import EnvironmentFault
from harness.serve import process
from harness.serve.postgres import Claim, Database, database, differences
from harness.wire import Address, fetch
from tests.gate import CI, ROOT, wait_for

CONNECTIONS, EACH_S = 8, 0.2
ATTEMPTS = 3  # noise makes a wait longer, never shorter
SERVED = ["wsgi-threads", "wsgi-gevent", "asgi"]
# Queries in one process of one kind; what it prints is in seconds. `left`: others have gone in the middle of a query.
SCRIPT = """\
import json, sys, time
from types import SimpleNamespace

kind = sys.argv[1]
if kind == "gevent-late":
    import psycopg
if kind.startswith("gevent"):
    from gevent import monkey
    monkey.patch_all()
from apps import postgres

SLOW, EACH = SimpleNamespace(seconds=30), SimpleNamespace(seconds=0.2)
found = {"told": postgres.told()}


def together(count, go):
    began = time.monotonic()
    go(count)
    return time.monotonic() - began


def threads(count):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(postgres.query, [EACH] * count, [0.0] * count))


def greenlets(count):
    import gevent
    jobs = [gevent.spawn(postgres.query, EACH, 0.0) for _ in range(count)]
    gevent.joinall(jobs, raise_error=True)


async def tasks(count):
    import asyncio
    await asyncio.gather(*(postgres.query_async(EACH, 0.0) for _ in range(count)))


def ticks(gaps):
    import gevent
    last = time.monotonic()
    while True:
        gevent.sleep(0.01)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()


if kind == "threads":
    together(8, threads)
    found |= {"one": together(8, threads), "two": together(16, threads)}
elif kind.startswith("gevent"):
    import gevent
    together(8, greenlets)
    gaps = []
    ticker = gevent.spawn(ticks, gaps)
    found |= {"one": together(8, greenlets), "two": together(16, greenlets), "gap": max(gaps)}
    ticker.kill()
    leavers = [gevent.spawn(postgres.query, SLOW, 0.0) for _ in range(12)]
    gevent.sleep(0.2)
    gevent.killall(leavers)
    found["left"] = together(8, greenlets)
else:
    import asyncio

    async def main():
        async def timed(count):
            began = time.monotonic()
            await tasks(count)
            return time.monotonic() - began
        await timed(8)
        found.update(one=await timed(8), two=await timed(16))
        leavers = [asyncio.ensure_future(postgres.query_async(SLOW, 0.0)) for _ in range(12)]
        await asyncio.sleep(0.2)
        for leaver in leavers:
            leaver.cancel()
        await asyncio.gather(*leavers, return_exceptions=True)
        found["left"] = await timed(8)

    asyncio.run(main())
print(json.dumps(found))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("psycopg") is None and not CI, reason="needs psycopg: make setup-all"),
    pytest.mark.filterwarnings("error"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("logs")
        try:
            cpus = frozenset({max(os.sched_getaffinity(0))})
            made = stack.enter_context(database(logs=folder, cpus=cpus, connections=CONNECTIONS))
        except EnvironmentFault as fault:
            pytest.skip(str(fault))
        yield made


@pytest.fixture
def dsn(made: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """As a run gives it to its servers."""
    monkeypatch.setenv("GATEBENCH_DSN", made.dsn)
    return made.dsn


def queried(kind: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"GATEBENCH_DB_CONNECTIONS": str(CONNECTIONS), "GATEBENCH_VARIANT": kind} | environment
    argv = [sys.executable, "-c", SCRIPT, kind]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def sleeping(made: Database) -> int:
    (row,) = made.ask(
        "select count(*) from pg_stat_activity where state = 'active' and query like 'select id, name, pg_sleep%'"
    )
    return int(row[0])


@pytest.mark.parametrize(("kind", "waits"), [("threads", "wait_c"), ("gevent", "wait_poll"), ("asyncio", "wait_c")])
def test_as_many_queries_at_a_time_as_connections_whatever_waits(
    made: Database, dsn: str, kind: str, waits: str
) -> None:
    found: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        done = queried(kind)
        assert not done.returncode, done.stderr
        found = json.loads(done.stdout)
        assert waits in found["told"]
        assert found["one"] >= EACH_S
        assert found["two"] >= 2 * EACH_S
        if max(found["one"], found["two"] - EACH_S, found.get("left", 0)) < EACH_S + 0.08:
            break
    print(kind, found)
    assert found["one"] < EACH_S + 0.08
    assert found["two"] < 2 * EACH_S + 0.08
    if kind != "threads":  # nobody can end a thread
        assert found["left"] < EACH_S + 0.3, "connections that were given up are opened anew"
        wait_for(lambda: not sleeping(made), "the end of queries that nobody waits for", 2)
    assert found.get("gap", 0) < 0.08, "a query must not stop the greenlets beside it"


def test_psycopg_before_the_patch_is_refused_and_named(dsn: str) -> None:
    done = queried("gevent-late")
    assert done.returncode
    assert "Refused: psycopg was imported before gevent's patch and waits by wait_c, so each query would" in done.stderr
    healed = queried("gevent-late", PSYCOPG_WAIT_FUNC="wait_poll")
    assert not healed.returncode, healed.stderr
    assert json.loads(healed.stdout)["one"] < 2 * EACH_S


# -- real servers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SERVED, "wsgi-sync"])
def test_every_call_is_found_in_the_database(made: Database, dsn: str, tmp_path: Path, name: str) -> None:
    variant = VARIANTS[name]
    with process.serve(variant, folder=tmp_path) as server:
        findings = conformance.check(server.address, variant, server.token)
        assert not conformance.refusals(findings)
        before = made.counts()
        calls = ["/update?queries=20", "/rows?queries=20", "/db?ms=2"] * 50
        with ThreadPoolExecutor(16) as clients:
            bodies = list(clients.map(lambda path: fetch(server.address, path)[0].body, calls))
        after = made.counts()
    assert set(bodies) == {
        b'{"queries":20,"updated":20}',
        b'{"queries":20,"right":20}',
        b'{"id":1,"name":"gatebench","ms":2}',
    }
    assert (after.updates - before.updates, after.connections) == (1000, min(CONNECTIONS, after.connections))
    claims = [Claim("db", 50, 50), Claim("rows", 50, 50, 20, 20), Claim("update", 50, 50, 20, 20)]
    assert differences(before, after, claims) == []
    assert differences(before, after, [Claim("update", 51, 51, 20, 20)]) != []


@contextlib.contextmanager
def preloaded(folder: Path) -> Iterator[Address]:
    """gunicorn's gevent worker, whose app was loaded before it patched."""
    port = process.free_port()
    argv = [*VARIANTS["wsgi-gevent"].command(port), "--preload"]
    env = os.environ | {"GATEBENCH_VARIANT": "wsgi-gevent", "GATEBENCH_TOKEN": "t", "GATEBENCH_DB_CONNECTIONS": "8"}
    with (folder / "log").open("wb") as log:
        server = process.spawn(argv, None, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    try:
        wait_for(lambda: _answers(("127.0.0.1", port)), "an answer", 15)
        yield "127.0.0.1", port
    finally:
        process.stop(server)


def _answers(address: Address) -> bool:
    try:
        return process.identity(address)["token"] == "t"
    except (OSError, ValueError):
        return False


def test_preload_is_caught_by_conformance_and_named(dsn: str, tmp_path: Path) -> None:
    with preloaded(tmp_path) as address:
        refused = conformance.refusals(conformance.check(address, VARIANTS["wsgi-gevent"], "t"))
    assert refused
    assert refused[0].sentence.startswith("/db database: refused: psycopg was imported before gevent's patch")
    assert "no --preload" in refused[0].sentence
