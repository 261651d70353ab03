"""Servers of more than one process begin and end as one, and leave nothing; each variant starts, answers and stops."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from apps.endpoints import ENDPOINTS, LARGEST_BODY, expected
from apps.servers import mod_wsgi, nginx
from apps.servers.together import PREFIX, scratch
from apps.variant import Variant
from apps.variants import VARIANTS
from harness.serve.process import GRACE_S, identity, serve

ROOT = Path(__file__).resolve().parents[2]
TOGETHER = """
import sys, time
from apps.servers.together import run, scratch
with scratch() as folder:
    commands = [["sh", "-c", words] for words in sys.argv[1:]]
    sys.exit(run([(command, lambda: True) for command in commands]))
"""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where scratch folders are, for this process and its children; others can go through it, as through /tmp."""
    with tempfile.TemporaryDirectory(prefix="gatebench-test-") as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


@contextlib.contextmanager
def together(*commands: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", TOGETHER, *commands], cwd=ROOT, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def group(leader: int) -> list[str]:
    """What is left of a group of processes; the dead whom nobody has buried yet are not."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{process.pid} {' '.join(process.cmdline())}")
    return left


def wait_for_files(*files: Path) -> None:
    deadline = time.monotonic() + 10
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_that_ends_ends_the_others(temporary: Path) -> None:
    with together("exec sleep 60", "exit 3", "exec sleep 60") as process:
        assert process.wait(5) == 3
        assert not group(process.pid)
    assert not list(temporary.iterdir())


def test_a_term_to_the_leader_ends_all_within_the_grace(temporary: Path) -> None:
    ready = temporary / "a", temporary / "b"
    deaf = f"trap '' TERM; touch {ready[0]}; while :; do sleep 0.05; done"
    with together(deaf, f"touch {ready[1]}; exec sleep 60") as process:
        wait_for_files(*ready)
        began = time.monotonic()
        process.terminate()
        assert process.wait(5) == 0
        assert time.monotonic() - began < GRACE_S + 0.5
        time.sleep(0.1)  # the shell's own sleep
        assert not group(process.pid)
    assert not list(temporary.glob(f"{PREFIX}*"))


def test_what_a_killed_one_left_is_removed_by_the_next(temporary: Path) -> None:
    ready = temporary / "ready"
    with together(f"touch {ready}; exec sleep 60") as process:
        wait_for_files(ready)
        left = temporary / f"{PREFIX}{process.pid}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert left.is_dir()
    with scratch() as folder:
        assert not left.exists()
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_nginx_refuses_a_body_that_is_too_large_in_the_endpoint_s_words() -> None:
    status, kind, body = expected("POST", "/echo", "", bytes(LARGEST_BODY + 1))
    assert nginx.refusal().replace("$http_content_length", str(LARGEST_BODY + 1)).encode() == body
    assert f"default_type {kind}; return {status} " in nginx.CONFIGURATION
    assert "'" not in nginx.refusal()


def test_only_root_chooses_as_whom_a_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 10_001)
    assert nginx.user() == ""
    assert mod_wsgi.as_plain_user() == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert nginx.user() == "user root root;"
    assert "--reuid=www-data" in mod_wsgi.as_plain_user()


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_a_variant_starts_answers_and_stops_by_itself(
    variant: Variant, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variant.missing:
        pytest.skip(next(iter(variant.holes_among(ENDPOINTS).values())))
    monkeypatch.setenv("PYTHONWARNINGS", "default::DeprecationWarning")
    with serve(variant, folder=temporary / "logs") as server:
        answer = identity(server.address)
        assert (answer["token"], answer["variant"]) == (server.token, variant.name)
        began = time.monotonic()
        os.killpg(server.pid, signal.SIGTERM)
        while left := group(server.pid):
            assert time.monotonic() < began + 2 * GRACE_S, left  # uWSGI's master looks around once a second
            time.sleep(0.02)
        log = server.log.read_text()
    assert "deprecat" not in log.lower()
    assert not list(temporary.glob(f"{PREFIX}*"))
