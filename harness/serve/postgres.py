"""A PostgreSQL of the run's own. In: CPUs, connections, a folder for logs. Out: a seeded Database, gone after leaving.

In a container where there is a Docker engine and the image can be had, otherwise by the binaries of Debian or of PATH,
as an unprivileged user in a scratch folder. It keeps its data for no longer than the run, and need not survive a crash:
so nothing is synced to the disk, and no vacuum begins in the middle of a Trial. What it counts itself is held against
what the servers answered.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from apps.endpoints import ENDPOINTS
from harness.errors import EnvironmentFault
from harness.recording import Recording
from harness.serve.backends import Backend
from harness.serve.compose import MB, Container, Project, Usage, docker, engine, keep, kept
from harness.serve.process import HOST, ROOT, free_port, spawn, stop
from harness.trial import Part

IMAGE = "postgres:17-trixie"
USER = "gatebench"
PORT = 5432  # inside a container
START_S, QUERY_S, STOP_S = 30.0, 30.0, 5.0
SPARE = 20  # connections beyond those of a variant: the next variant's, and our own
COUNTED = "pg_stat_statements"  # a module that counts queries at once; the server's own statistics come seconds later
DSN = "GATEBENCH_DSN"  # where servers look for it
NEEDED = "make setup-all"
INSTALL = "apt-get install postgresql, or install Docker Engine with Compose version 2"
SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "jit": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "1h",
    "dynamic_shared_memory_type": "mmap",  # in its folder: nothing stays in /dev/shm when it is killed
}
CONTAINED: Mapping[str, Any] = {
    "image": IMAGE,
    "user": "postgres",
    "group_add": ["0"],  # some engines mount memory with the folder's mode, for root and its group, whatever is asked
    "read_only": True,
    # its folder is made by itself below the memory, as it must be its own
    "tmpfs": ["/var/lib/postgresql/data:size=1g,mode=1777", "/run/postgresql:mode=1777", "/tmp:mode=1777"],  # noqa: S108
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "mem_limit": 1536 * MB,
    "memswap_limit": 1536 * MB,
    "pids_limit": 1024,
    "init": True,
    "restart": "no",
    "stop_signal": "SIGINT",  # a fast shutdown
    "labels": {"gatebench.role": "database"},
}


@dataclass(frozen=True)
class Database:
    """A PostgreSQL that answers, with its tables. dsn: for servers, whether they are processes or containers.

    watched: what the sampler reads each second. facts: for the Recordings.
    """

    dsn: str = field(repr=False)  # it holds a password
    cpus: frozenset[int]
    facts: Mapping[str, Any]
    alive: Callable[[], bool] = field(repr=False)
    watched: Callable[[], Iterable[psutil.Process] | Usage | None] = field(repr=False)
    _ask: Callable[[str], str] = field(repr=False)

    def ask(self, sql: str) -> list[list[str]]:
        """The rows that psql answers with, as text. Raises EnvironmentFault when the database does not answer."""
        return [line.split("|") for line in self._ask(sql).splitlines()]

    def counts(self) -> Counts:
        """What it has counted so far."""
        (row,) = self.ask("select queries, reads, updates, connections from gatebench_counts")
        queries, reads, updates, connections = (int(value) if value else None for value in row)
        return Counts(queries, reads, updates or 0, connections or 0)


class Counts(NamedTuple):
    """Sleeping queries, rows read one by one, rows updated, since the tables were made; connections open now.

    queries, reads: None where the database does not count them.
    """

    queries: int | None
    reads: int | None
    updates: int
    connections: int


class Claim(NamedTuple):
    """What a Trial's answers say that was done at one endpoint: calls completed and offered, queries a call."""

    endpoint: str
    completed: int
    offered: int
    least: int = 1
    most: int = 1


def claims(recording: Recording) -> list[Claim]:
    """What a Recording says that was done in the database; empty where it asked for nothing there."""
    scenario = recording.trial.scenario
    found = []
    for endpoint in dict.fromkeys(part.endpoint for part in scenario.mix if part.endpoint in COLUMNS):
        parts = [part for part in scenario.mix if part.endpoint == endpoint]
        rows = [recording.counts(row, range(scenario.duration_s)) for row in {part.row for part in parts}]
        each = [_queries(part) for part in parts]
        completed, offered = sum(row.completed for row in rows), sum(row.offered for row in rows)
        found.append(Claim(endpoint, completed, offered, min(each), max(each)))
    return found


def _queries(part: Part) -> int:
    """Of one call."""
    row = ENDPOINTS[part.endpoint]
    wanted = row.parameters.get("queries")
    return 1 if wanted is None else int(row.parse(part.query).get(wanted.name, wanted.default))


COLUMNS = {"db": "queries", "rows": "reads", "update": "updates"}  # endpoint → what counts it


def differences(before: Counts, after: Counts, claims: Iterable[Claim]) -> list[str]:
    """Where the database did not do what was answered; pure. A call that failed may have been done, or not."""
    found = []
    for claim in claims:
        then, now = (getattr(counts, COLUMNS[claim.endpoint]) for counts in (before, after))
        if then is None or now is None:
            continue
        done, low, high = now - then, claim.completed * claim.least, claim.offered * claim.most
        if not low <= done <= high:
            wanted = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            found.append(
                f"the database counted {done:,} {COLUMNS[claim.endpoint]}, /{claim.endpoint} answered {wanted}"
            )
    return found


def cpus_beside(server: frozenset[int], generator: frozenset[int]) -> tuple[frozenset[int], bool]:
    """Where a database runs: on CPUs of its own; or, as two cannot hold three, on the generator's, and True."""
    free = frozenset(os.sched_getaffinity(0)) - server - generator
    return (free, False) if free else (generator, True)


@contextlib.contextmanager
def served_by(backend: Backend, *, logs: Path, cpus: frozenset[int], connections: int) -> Iterator[Database]:
    """A database that the servers of a backend query for as long as it lives. Raises EnvironmentFault."""
    contained = backend.project is not None
    there = "psycopg" in backend.facts.get("versions", ()) if contained else find_spec("psycopg") is not None
    if not there:
        raise EnvironmentFault(f"psycopg is not installed {'in the image' if contained else 'here'}; {NEEDED}")
    with database(logs=logs, cpus=cpus, connections=connections, project=backend.project) as made:
        before = os.environ.get(DSN)
        os.environ[DSN] = made.dsn
        try:
            yield made
        finally:
            os.environ.pop(DSN)
            if before is not None:
                os.environ[DSN] = before


@contextlib.contextmanager
def database(
    *, logs: Path, cpus: frozenset[int], connections: int = 100, project: Project | None = None
) -> Iterator[Database]:
    """A database for one Run. project: whose containers are to reach it. Raises EnvironmentFault when none can be."""
    settings = {**SETTINGS, "max_connections": str(2 * connections + SPARE)}
    with contextlib.ExitStack() as stack:
        why = _no_container() if project is None else ""
        if why and not binaries():
            raise EnvironmentFault(f"no PostgreSQL can be started: {why}, and no binaries were found; {INSTALL}")
        if why:
            made = stack.enter_context(local(settings, cpus, logs))
        else:
            project = project or stack.enter_context(Project(logs))
            made = stack.enter_context(contained(project, settings, cpus, logs))
        yield _seeded(made)


def _no_container() -> str:
    """Why there is no container for it; '' when there is one."""
    try:
        engine()
        docker("image", "inspect", IMAGE)
    except EnvironmentFault as fault:
        try:
            if "no such image" in str(fault).lower():
                docker("pull", "--quiet", IMAGE, timeout_s=600)
                return ""
        except EnvironmentFault as other:
            return str(other).partition(";")[0]
        return str(fault).partition(";")[0]
    return ""


def _seeded(database: Database) -> Database:
    """With its tables, as `python -m apps.postgres` prints them: they stand beside the queries."""
    made = subprocess.run([sys.executable, "-m", "apps.postgres"], cwd=ROOT, capture_output=True, text=True, check=True)
    database.ask(made.stdout)
    return database


# -- in a container --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def contained(project: Project, settings: Mapping[str, str], cpus: frozenset[int], logs: Path) -> Iterator[Database]:
    """In a container of the project, on its internal network."""
    password = secrets.token_hex(16)
    definition = {
        **CONTAINED,
        "command": ["postgres", *_options({**settings, "shared_preload_libraries": COUNTED})],
        "cpuset": ",".join(map(str, sorted(cpus))),
        "environment": {"POSTGRES_USER": USER, "POSTGRES_DB": USER, "PGDATA": "/var/lib/postgresql/data/own"},
    }
    with project.running("postgres", definition, {"POSTGRES_PASSWORD": password}, logs / "postgres.log") as container:
        # through its own socket, which trusts whoever is inside
        words = ("exec", "--interactive", container.id, "psql", *_psql(USER, USER))

        def ask(sql: str) -> str:
            return docker(*words, timeout_s=QUERY_S, text=sql)

        _wait_until_ready((container.address, PORT), ask, container.alive, lambda: _ended(container))
        dsn = f"postgresql://{USER}:{password}@{container.address}:{PORT}/{USER}"
        facts = {"where": "container", "version": ask("show server_version").strip(), "settings": dict(settings)}
        yield Database(dsn, cpus, facts, container.alive, container.usage, ask)


def _ended(container: Container) -> str:
    return f"PostgreSQL {container.fate()}: {container.log(3).strip()}"


# -- as a process ----------------------------------------------------------------------------------------------------


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL: PATH's, or Debian's, which are not on PATH."""
    on_path = shutil.which("initdb")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _number(path.parent.name), reverse=True)
    found = [*([Path(on_path).resolve().parent] if on_path else []), *places]
    wanted = ("initdb", "postgres", "psql")
    return next((place for place in found if all(os.access(place / name, os.X_OK) for name in wanted)), None)


def _number(text: str) -> int:
    return int(re.sub(r"\D", "", text) or 0)


@contextlib.contextmanager
def local(settings: Mapping[str, str], cpus: frozenset[int], logs: Path) -> Iterator[Database]:
    """By this machine's binaries, in a scratch folder, on loopback."""
    place = binaries()
    if place is None:
        raise EnvironmentFault(f"no PostgreSQL was found; {INSTALL}")
    who = _unprivileged()
    logs.mkdir(parents=True, exist_ok=True)
    with _scratch(who) as folder:
        password = secrets.token_hex(16)
        data = _initialised(place, folder, password, who)
        port = free_port()
        options = {**settings, "port": str(port), "listen_addresses": HOST, "unix_socket_directories": str(folder)}
        if _counts_queries(place):
            options["shared_preload_libraries"] = COUNTED
        log = logs / "postgres.log"
        with log.open("wb") as sink:
            argv = [str(place / "postgres"), "-D", str(data), *_options(options)]
            process = spawn(argv, cpus, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=_plain(), **who)
        try:
            words = [str(place / "psql"), *_psql(USER, "postgres"), f"--host={HOST}", f"--port={port}"]

            def ask(sql: str) -> str:
                return _run(words, {"PGPASSWORD": password}, text=sql)

            def ended() -> str:
                tail = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
                return f"PostgreSQL ended with code {process.returncode}: {tail}"

            _wait_until_ready((HOST, port), ask, lambda: process.poll() is None, ended)
            dsn = f"postgresql://{USER}:{password}@{HOST}:{port}/postgres"
            facts = {"where": "process", "version": ask("show server_version").strip(), "settings": dict(settings)}
            yield Database(dsn, cpus, facts, lambda: process.poll() is None, lambda: _tree(process.pid), ask)
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown; TERM would wait for clients
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            stop(process)


def _unprivileged() -> dict[str, Any]:
    """As whom it runs, in words of subprocess: PostgreSQL refuses root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise EnvironmentFault("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@contextlib.contextmanager
def _scratch(who: Mapping[str, Any]) -> Iterator[Path]:
    """A folder of its own, which it can reach: some have their temporary files where only root can."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108  where others can read, as we need
        if not who or all(path.stat().st_mode & 0o001 for path in (Path(parent), *Path(parent).parents)):
            break
    folder = tempfile.mkdtemp(prefix="gatebench-", dir=parent)
    with kept("harness.serve.postgres", folder, lambda: sweep(Path(folder))):
        if who:
            os.chown(folder, who["user"], who["group"])
        yield Path(folder)


def sweep(folder: Path) -> None:
    """Removes a scratch folder; and the shared memory, 56 bytes, of a server that could not end in good order."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
        deadline = time.monotonic() + STOP_S
        while psutil.pid_exists(int(lines[0])) and time.monotonic() < deadline:
            time.sleep(0.05)
        words = [shutil.which("ipcrm") or "ipcrm", "--shmem-id", str(int(lines[6].split()[1]))]
        subprocess.run(words, capture_output=True, timeout=STOP_S, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _initialised(place: Path, folder: Path, password: str, who: Mapping[str, Any]) -> Path:
    """The data folder, made anew. The password goes through a file that only its user can read."""
    data, secret = folder / "data", folder / "password"
    secret.touch(0o600)
    secret.write_text(password + "\n", encoding="ascii")
    if who:
        os.chown(secret, who["user"], who["group"])
    words = [str(place / "initdb"), "-D", str(data), "-U", USER, "-E", "UTF8", "-A", "scram-sha-256", "--no-locale"]
    _run([*words, "--no-sync", f"--pwfile={secret}"], {}, cwd=folder, **who)
    secret.unlink()
    return data


def _counts_queries(place: Path) -> bool:
    """Whether the module that counts queries is there: a server that is told to load what it has not does not start."""
    folders = [place.parent / "lib"]
    if config := shutil.which("pg_config", path=str(place)):
        folders.append(Path(_run([config, "--pkglibdir"], {}).strip()))
    return any((folder / f"{COUNTED}.so").is_file() for folder in folders)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _plain() -> dict[str, str]:
    """An environment without the PG… variables of whoever started us."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _run(words: list[str], env: Mapping[str, str], text: str | None = None, **options: Any) -> str:
    try:
        done = subprocess.run(
            words,
            input=text or "",
            env={**_plain(), **env},
            capture_output=True,
            text=True,
            timeout=QUERY_S,
            check=False,
            **options,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"{Path(words[0]).name}: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise EnvironmentFault(f"{Path(words[0]).name}: {said or f'ended with code {done.returncode}'}")
    return str(done.stdout)


# -- both ------------------------------------------------------------------------------------------------------------


def _options(settings: Mapping[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _psql(user: str, name: str) -> list[str]:
    """psql for machines: no settings of a user's, no headings, and the first error ends it."""
    words = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--no-password"]
    return [*words, f"--username={user}", f"--dbname={name}"]


def _wait_until_ready(
    address: tuple[str, int], ask: Callable[[str], str], alive: Callable[[], bool], ended: Callable[[], str]
) -> None:
    """Until it listens, which the server that the image starts for its own beginnings does not; and answers."""
    deadline = time.monotonic() + START_S
    last = "it does not listen"
    while time.monotonic() < deadline:
        if not alive():
            raise EnvironmentFault(ended())
        try:
            socket.create_connection(address, timeout=1.0).close()
            ask("select 1")
        except (OSError, EnvironmentFault) as error:
            last = str(error)
            time.sleep(0.02)
        else:
            return
    raise EnvironmentFault(f"PostgreSQL was not ready after {START_S:g} s: {last}")


if __name__ == "__main__":
    keep(lambda: sweep(Path(sys.argv[1])))
