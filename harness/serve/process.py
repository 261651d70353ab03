"""Serves a variant as local processes. In: a Variant and a CPU set. Out: a verified Server, ended again on leaving."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from apps.variant import Variant
from harness.errors import EnvironmentFault, ServerFailed
from harness.lenses import told
from harness.serve import reaper

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
GATE = 'read -r go && exec "$@"'
STILL_S, STILL_SHARE = 0.2, 0.2  # looked at so often, of one CPU
GRACE_S = 1.0  # DESIGN: TERM with a grace of 1 s, then KILL of the whole group


@dataclass(frozen=True)
class Server:
    """A running server that has proved by its token that it is ours."""

    variant: Variant
    address: tuple[str, int]
    token: str
    pid: int
    process: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        return self.process.poll() is None

    def log_tail(self, lines: int = 8) -> str:
        """The end of what the server printed, for a person."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def descendants(self) -> list[psutil.Process]:
        """The whole process tree, the server first; empty when it is gone."""
        try:
            top = psutil.Process(self.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@contextlib.contextmanager
def serve(
    variant: Variant,
    *,
    cpus: frozenset[int] | None = None,
    folder: Path,
    ready_timeout_s: float = 15.0,
    port: int | None = None,
    trace: Path | None = None,
) -> Iterator[Server]:
    """Starts `variant` on loopback and yields it once it answers with its token.

    cpus: where it may run (None = anywhere). folder: gets `<variant>.log`. port: None = any free one.
    trace: a folder where it notes when each request came in and left.
    Raises ServerFailed (never ready, or somebody else answers) and EnvironmentFault (the port is taken).
    """
    chosen = free_port() if port is None else claimed(port)
    server = _start(variant, chosen, cpus, folder, trace)
    try:
        _wait_until_ready(server, ready_timeout_s)
        wait_for_all(server, cpus, ready_timeout_s)
        yield server
    finally:
        stop(server.process)


def _start(variant: Variant, port: int, cpus: frozenset[int] | None, folder: Path, trace: Path | None) -> Server:
    token = secrets.token_hex(8)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{variant.name}.log"
    argv = [sys.executable, "-m", "apps", variant.name, *told(variant), "--host", HOST, "--port", str(port)]
    argv += ["--trace", str(trace)] if trace else []
    environment = os.environ | {"GATEBENCH_TOKEN": token, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as sink:
        process = spawn(argv, cpus, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment)
    return Server(variant, (HOST, port), token, process.pid, process, log)


def spawn(argv: list[str], cpus: frozenset[int] | None, *, stdin: int, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a process of the run: at the root of the project, in a group of its own, watched by the reaper.

    stdin: PIPE or DEVNULL. It does not become what it is to be before the reaper knows it and it is on its CPUs: a
    shell waits for a line from us, and ends when that does not come. So whatever ends us in between leaves nothing.
    """
    gate = GATE if stdin == subprocess.PIPE else f"{GATE} </dev/null"
    held = ["/bin/sh", "-c", gate, "sh", *argv]
    process = subprocess.Popen(held, cwd=ROOT, start_new_session=True, stdin=subprocess.PIPE, **options)
    assert process.stdin is not None
    try:
        reaper.watch(process.pid)
        if cpus:
            os.sched_setaffinity(process.pid, cpus)
        os.write(process.stdin.fileno(), b"\n")
        if stdin != subprocess.PIPE:
            process.stdin.close()
            process.stdin = None
    except (ProcessLookupError, BrokenPipeError):
        return process  # already dead: whoever waits for it will say so
    except BaseException:
        stop(process)
        raise
    return process


def stop(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """TERM, a grace, then KILL of the whole group; returns when none of it is left. May be called again."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    reaper.kill_group(process.pid)
    process.wait()
    deadline = time.monotonic() + 5
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    reaper.forget(process.pid)


def _group_lives(group: int) -> bool:
    """Whether any of it still runs. What has ended holds nothing, however long process 1 takes to notice."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, member = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(member) == group and state not in "ZX":
                return True
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def claimed(port: int) -> int:
    """The port if it is free; otherwise EnvironmentFault, naming who has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise EnvironmentFault(f"port {port}: {error.strerror}; {owner_of(port)}") from None
    return port


def owner_of(port: int) -> str:
    """Who listens there, in words."""
    for entry in psutil.net_connections("tcp"):
        if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port and entry.pid:
            with contextlib.suppress(psutil.Error):
                return f"it is held by process {entry.pid} ({' '.join(psutil.Process(entry.pid).cmdline())[:120]})"
    return "its owner cannot be seen; `ss -ltnp` as root shows it"


def identity(address: tuple[str, int], timeout_s: float = 1.0) -> dict[str, object]:
    """What `/state` answers; OSError or ValueError when nothing, or something else, answers."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    try:
        connection.request("GET", "/state", headers={"Connection": "close"})
        answer = json.loads(connection.getresponse().read(65_536))
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError("not an object")  # noqa: TRY004  callers treat it as a wrong answer, not a wrong type
    return answer


class Begun(Protocol):
    """A server that has begun."""

    @property
    def variant(self) -> Variant: ...
    def alive(self) -> bool: ...
    def descendants(self) -> Sequence[psutil.Process]: ...


def wait_for_all(server: Begun, cpus: frozenset[int] | None, timeout_s: float) -> None:
    """Until all of its processes have begun, it dies, or the time is over; then conformance tells what is missing.

    With more processes than CPUs the first answers while others still import, which uses their CPUs.
    """
    deadline = time.monotonic() + timeout_s
    used_s = _cpu_s(server.descendants())
    still = server.variant.budget.processes <= len(cpus or os.sched_getaffinity(0))
    while not still and server.alive() and time.monotonic() < deadline:
        time.sleep(STILL_S)
        before_s, used_s = used_s, _cpu_s(server.descendants())
        still = used_s - before_s < STILL_SHARE * STILL_S


def _cpu_s(processes: Iterable[psutil.Process]) -> float:
    used_s = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used_s += times.user + times.system
    return used_s


def _wait_until_ready(server: Server, timeout_s: float) -> None:
    name, port = server.variant.name, server.address[1]
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not server.alive():
            raise ServerFailed(
                f"{name} ended with code {server.process.returncode} before it was ready:\n{server.log_tail()}"
            )
        try:
            answer = identity(server.address)
        except ValueError:
            answer = {}
        except OSError:
            time.sleep(0.02)
            continue
        if answer.get("token") != server.token:
            raise ServerFailed(
                f"{name}: something else answers on port {port}, without this run's token; {owner_of(port)}"
            )
        return
    raise ServerFailed(
        f"{name} was not ready after {timeout_s:g} s; the end of its log:\n{server.log_tail() or '(empty)'}"
    )
