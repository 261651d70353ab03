"""Serves variants as containers. In: a Run's Project, a Variant, CPUs, memory. Out: a verified Contained server.

One Compose project a Run, of the services in docker-compose.yml, hardened as they are there; what changes are the
budget in the command, CPUs, memory and labels. Nothing is published: the harness comes to a container's own address on
the internal network. All of it carries the run's label, and only what carries it is removed: in good order; by a
keeper, a process on a pipe like the reaper, if the harness dies; by `gatebench doctor --clean` if the engine died, too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from apps.variant import Variant
from harness import facts
from harness.errors import EnvironmentFault, ServerFailed
from harness.lenses import told
from harness.serve.process import GRACE_S, ROOT, identity, spawn, stop, wait_for_all
from harness.serve.reaper import birth

FILE = ROOT / "docker-compose.yml"
_SERVE = ("python", "-m", "apps")
NETWORK = "bench"
PORT = 8000  # inside a container, where nobody else listens
PASSED = ("GATEBENCH_DSN",)  # what a service finds in its environment where the harness has it
LABEL, OWNER = "gatebench.run", "gatebench.owner"
OLDEST = (20, 10)  # of the engine
CALL_S, BUILD_S, READY_S, KEEPER_S = 60.0, 1800.0, 30.0, 15.0
DONE = b"done\n"
LOOKS = 5  # a container may still be in the making when its run is removed
MB = 1 << 20
BESIDE = 64  # processes and threads of a server beyond its slots: masters, loops, threads of their own
INSTALL = "install Docker Engine 20.10 or newer with Compose version 2, or choose --backend process"
REMEDIES = {  # what docker says → what to do
    "permission denied": "join the group `docker`, or be root",
    "cannot connect": f"start it (systemctl start docker), or {INSTALL}",
    "error during connect": f"start it (systemctl start docker), or {INSTALL}",
    "no space left": "free some space: `docker system df` says what takes it",
    "rlimit": "the engine may not raise this limit: lower `nofile` in docker-compose.yml",
    "failed to resolve": "no registry is reached: load the image by hand (docker load)",
    "pull access denied": "no registry has it: load the image by hand (docker load)",
}
# What the image's own Python says of itself.
ASKED = """\
import json, platform, resource
from importlib.metadata import distributions
versions = {one.metadata["Name"].lower().replace("_", "-"): one.version for one in distributions()}
nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
print(json.dumps({"python": platform.python_version(), "nofile": nofile, "versions": versions}))
"""


# -- the engine ------------------------------------------------------------------------------------------------------


class Engine(NamedTuple):
    """A Docker engine that answers, and its Compose."""

    version: str
    compose: str
    cgroup: str


def docker(
    *words: str,
    timeout_s: float = CALL_S,
    env: Mapping[str, str] | None = None,
    text: str = "",
    errors_too: bool = False,
) -> str:
    """What the command answers, given `text` to read. Raises EnvironmentFault: one line, with the remedy."""
    program = shutil.which("docker")
    if program is None:
        raise EnvironmentFault(f"docker was not found; {INSTALL}")
    try:
        # a session of its own: Ctrl-C is for the harness, which knows what to do
        done = subprocess.run(
            [program, *words],
            cwd=ROOT,
            env=os.environ | (env or {}) | {"COMPOSE_IGNORE_ORPHANS": "1", "DOCKER_CLI_HINTS": "0"},
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors_too else subprocess.PIPE,
            timeout=timeout_s,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(
            f"docker {words[0]} did not end within {timeout_s:g} s; `docker info` says whether the engine is well"
        ) from None
    except OSError as error:
        raise EnvironmentFault(f"cannot start {program}: {error.strerror}; {INSTALL}") from None
    if done.returncode:
        raise EnvironmentFault(_reason(words, (done.stderr or done.stdout).decode(errors="replace")))
    return done.stdout.decode(errors="replace")


def _reason(words: tuple[str, ...], errors: str) -> str:
    """One line of what docker said: the last that tells, with what to do where that is known."""
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith("See '")]
    telling = [line for line in lines if re.search("error|denied|cannot|fail|no such", line, re.IGNORECASE)]
    said = next(iter([*telling[::-1], *lines[::-1]]), "it gave no reason")
    said = re.sub(r"[^\x20-\x7e]", "?", said)[:300].rstrip(".")
    remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in errors.lower()), "`docker info` may say more")
    return f"docker {words[0]}: {said}; {remedy}"


def engine() -> Engine:
    """The engine, once it is known to be new enough. Raises EnvironmentFault."""
    version = docker("version", "--format", "{{.Server.Version}}").strip()
    if _numbers(version) < OLDEST:
        raise EnvironmentFault(f"the Docker engine says it is {version[:40]!r}; {INSTALL}")
    try:
        compose = docker("compose", "version", "--short").strip().removeprefix("v")
    except EnvironmentFault:
        compose = ""
    if _numbers(compose) < (2,):
        found = f"only {compose[:40]!r}" if compose else "none"
        raise EnvironmentFault(f"docker compose version 2 is needed, and there is {found}; {INSTALL}")
    return Engine(version, compose, docker("info", "--format", "{{.CgroupVersion}}").strip())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("-")[0])[:2]))


# -- what a container uses: the kernel's own counts, of its control group ----------------------------------------------


class Usage(NamedTuple):
    """CPU seconds and seconds in which its quota held it back, so far; what it holds now. None: not counted."""

    cpu_s: float
    throttled_s: float
    rss_mb: float | None
    threads: int | None
    processes: int | None


class Group(NamedTuple):
    """Where the kernel keeps count of a container: the same folder thrice under version 2 of control groups."""

    version: int
    cpu: Path
    cpuacct: Path
    memory: Path
    pids: Path


def group_of(pid: int, root: Path = Path("/")) -> Group | None:
    """The control group of a process; None where this machine does not show it. root: of the file system."""
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text().splitlines()
        mounts = [line.split() for line in (root / "proc/mounts").read_text().splitlines()]
    except OSError:
        return None
    within = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    if "memory" in within:
        folders = {
            name: root / mount[1].lstrip("/") / within[name].lstrip("/")
            for mount in mounts
            for name in ("cpu", "cpuacct", "memory", "pids")
            if mount[2] == "cgroup" and name in mount[3].split(",") and name in within
        }
    else:
        places = [mount[1] for mount in mounts if mount[2] == "cgroup2"]
        if not places or "" not in within:
            return None
        folders = dict.fromkeys(
            ("cpu", "cpuacct", "memory", "pids"), root / places[0].lstrip("/") / within[""].lstrip("/")
        )
    if len(folders) < 4 or not all(folder.is_dir() for folder in folders.values()):
        return None
    return Group(1 if "memory" in within else 2, **folders)


def usage(group: Group) -> Usage:
    """The counts as they are now. Raises OSError when the container is gone.

    Memory is what its limit counts, less the files that the kernel would drop first, as `docker stats` has it.
    """
    throttling = _counts(group.cpu / "cpu.stat")
    if group.version == 1:
        cpu_s = int((group.cpuacct / "cpuacct.usage").read_text()) / 1e9
        throttled_s = throttling.get("throttled_time", 0) / 1e9
        held, cached = group.memory / "memory.usage_in_bytes", "total_inactive_file"
    else:
        cpu_s = throttling["usage_usec"] / 1e6
        throttled_s = throttling.get("throttled_usec", 0) / 1e6
        held, cached = group.memory / "memory.current", "inactive_file"
    rss_mb = None
    if held.exists():
        rss_mb = max(int(held.read_text()) - _counts(group.memory / "memory.stat").get(cached, 0), 0) / 1e6
    counted = group.pids / "pids.current"
    threads = int(counted.read_text()) if counted.exists() else None
    return Usage(cpu_s, throttled_s, rss_mb, threads, len(pids(group)))


def pids(group: Group) -> list[int]:
    """Its processes, as numbered here; those that a nested container's namespace hides are 0 and left out."""
    return [pid for pid in map(int, (group.memory / "cgroup.procs").read_text().split()) if pid]


def _counts(path: Path) -> dict[str, int]:
    """A file of names and numbers."""
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


# -- a container -----------------------------------------------------------------------------------------------------


class Container:
    """A container of ours, from its start until it is stopped. The engine itself tells when it ends.

    `docker events` waits for that in a process of its own: to ask the engine ten times a second would disturb it, and
    what it measures. It ends with the engine, so its end tells that, too.
    """

    def __init__(self, name: str, limit_mb: float | None) -> None:
        self.name = name
        self.limit_mb = limit_mb
        found = json.loads(docker("container", "inspect", name))[0]
        self.id = str(found["Id"])
        self.labels: Mapping[str, str] = found["Config"]["Labels"]
        networks: Mapping[str, Any] = found["NetworkSettings"]["Networks"]
        self.address = next((str(one["IPAddress"]) for one in networks.values()), "")
        self.pid = int(found["State"]["Pid"])
        self.group = group_of(self.pid) if self.pid else None
        self._heard: set[str] = set()
        since = f"--since={found['State']['StartedAt']}"
        words = ["events", since, f"--filter=container={self.id}", "--filter=event=die", "--filter=event=oom"]
        self._events = spawn(
            [shutil.which("docker") or "docker", *words, "--format={{.Action}}"],
            None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def alive(self) -> bool:
        """Whether it runs, none of its processes was ended for want of memory, and the engine is there to tell."""
        out = self._events.stdout
        assert out is not None
        while not out.closed and select.select([out], [], [], 0)[0]:
            said = os.read(out.fileno(), 4096)
            if not said:
                break
            self._heard.update(said.decode().split())
        return not self._heard and self._events.poll() is None

    def fate(self) -> str:
        """How it ended, in words."""
        try:
            state = json.loads(docker("container", "inspect", "--format={{json .State}}", self.id))
        except EnvironmentFault as fault:
            return f"ended with the Docker engine ({fault})"
        if "oom" in self._heard or state["OOMKilled"]:
            limit = f", which is limited to {self.limit_mb:g} MB" if self.limit_mb else ""
            return f"ran out of memory{limit}"
        if state["Running"]:
            return "ended with the Docker engine" if self._events.poll() is not None else "runs"
        return f"died (exit code {state['ExitCode']})"

    def log(self, lines: int | None = None) -> str:
        """What it printed, or the end of it."""
        tail = [] if lines is None else [f"--tail={lines}"]
        try:
            return docker("logs", *tail, self.id, errors_too=True)
        except EnvironmentFault:  # the engine has gone, and the log with it
            return ""

    def usage(self) -> Usage | None:
        """What it uses; None when it has ended, or this machine does not show it."""
        if self.group is None:
            return None
        try:
            return usage(self.group)
        except (OSError, KeyError, ValueError):
            return None

    def processes(self) -> list[psutil.Process]:
        """Its processes as this machine sees them; empty when it has ended, or they are not to be seen."""
        found = []
        with contextlib.suppress(OSError):
            for pid in pids(self.group) if self.group else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.append(psutil.Process(pid))
        return found

    def close(self) -> None:
        """No longer listens to the engine."""
        stop(self._events)
        if self._events.stdout is not None:
            self._events.stdout.close()


@dataclass(frozen=True)
class Contained:
    """A server in a container that has proved by its token that it is ours."""

    variant: Variant
    address: tuple[str, int]
    token: str
    container: Container = field(repr=False)

    def alive(self) -> bool:
        return self.container.alive()

    def fate(self) -> str:
        return self.container.fate()

    def log_tail(self, lines: int = 8) -> str:
        return self.container.log(lines).rstrip("\n")

    def descendants(self) -> list[psutil.Process]:
        return self.container.processes()

    def usage(self) -> Usage | None:
        return self.container.usage()


# -- a Run's project -------------------------------------------------------------------------------------------------


class Project:
    """The containers of one Run and the network between them. Made on entering, gone after leaving.

    facts: of the engine, the image and its Python, for the Recordings. A run that has no service to build (a database
    beside local processes) names none.
    """

    def __init__(self, logs: Path, *, variant: str | None = None) -> None:
        self.run = secrets.token_hex(4)
        self.name = f"gatebench-{self.run}"
        self.facts: dict[str, Any] = {}
        self._logs = logs
        self._first = variant
        self._labels = {LABEL: self.run, OWNER: owner()}
        self._image = ""
        self._nofile = 0
        self.scratch = Path()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Project:
        found = engine()
        self.facts = {"engine": found.version, "compose": found.compose, "cgroup": found.cgroup}
        self._logs.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self.scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatebench-")))
            stack.enter_context(kept("harness.serve.compose", self.run, partial(_remove_at_last, self.run)))
            if self._first:
                self._build(self._first)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def serve(
        self,
        variant: Variant,
        *,
        cpus: frozenset[int] | None = None,
        folder: Path,
        ready_timeout_s: float = READY_S,
        port: int | None = None,
        memory_mb: int | None = None,
    ) -> Iterator[Contained]:
        """Starts `variant` in a container and yields it once it answers with its token. As harness.serve.process.serve.

        cpus: where it may run, and so how many CPUs it may use. memory_mb: instead of docker-compose.yml's limit.
        Raises ServerFailed (never ready, or somebody else answers) and EnvironmentFault (the engine).
        """
        port = PORT if port is None else port
        token = secrets.token_hex(8)
        definition = self._definition(variant, cpus, memory_mb, port)
        log = folder / f"{variant.name}.log"
        with self.running(variant.name, definition, {"GATEBENCH_TOKEN": token}, log) as container:
            server = Contained(variant, (container.address, port), token, container)
            _wait_until_ready(server, ready_timeout_s)
            wait_for_all(server, cpus, ready_timeout_s)
            yield server

    @contextlib.contextmanager
    def running(
        self, service: str, definition: Mapping[str, Any], env: Mapping[str, str], log: Path
    ) -> Iterator[Container]:
        """One service of the project, from `up` until it is stopped and removed; what it printed stays in `log`.

        env: what the service finds in its environment; it goes through docker's own, so no file holds a secret.
        """
        passed = {**env, **{name: os.environ[name] for name in PASSED if name in os.environ}}
        limit = definition.get("mem_limit")
        labels = {**definition.get("labels", {}), **self._labels}
        environment = {**definition.get("environment", {}), **dict.fromkeys(passed)}
        whole = {**definition, "labels": labels, "environment": environment, "networks": {NETWORK: None}}
        networks = {NETWORK: {"internal": True, "labels": self._labels}}
        file = self.scratch / f"{service}.json"
        file.write_text(json.dumps({"services": {service: whole}, "networks": networks}), encoding="utf-8")
        name = f"{self.name}-{service}-1"
        container: Container | None = None
        try:
            self._compose(file, "up", "--detach", "--no-build", "--no-deps", service, env=passed)
            container = Container(name, int(limit) / MB if limit else None)
            if not container.address:
                raise ServerFailed(f"{service} {container.fate()} as it started:\n{container.log(8)}")
            yield container
        finally:
            if container is not None:
                container.close()
            self._end(name, log)

    def _end(self, name: str, log: Path) -> None:
        """TERM, a grace, KILL; keeps the log; removes the container, if it carries our label."""
        mine = docker("ps", "--all", "--quiet", "--no-trunc", f"--filter=name=^{name}$", self._filter).split()
        for container in mine:
            docker("stop", "-t", f"{GRACE_S:.0f}", container)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(docker("logs", container, errors_too=True), encoding="utf-8")
            docker("rm", "--force", "--volumes", container)

    @property
    def _filter(self) -> str:
        return f"--filter=label={LABEL}={self.run}"

    def _compose(self, file: Path, *words: str, timeout_s: float = CALL_S, env: Mapping[str, str] | None = None) -> str:
        place = ["--project-name", self.name, "--project-directory", str(ROOT), "--file", str(file)]
        return docker("compose", *place, *words, timeout_s=timeout_s, env=env)

    def _build(self, variant: str) -> None:
        """The image as this source has it; the same for all variants. The engine keeps what has not changed."""
        image = self._configured(variant)["image"]
        try:
            self._compose(FILE, "build", variant, timeout_s=BUILD_S)
        except EnvironmentFault as fault:
            said = str(fault).partition(";")[0]
            raise EnvironmentFault(f"no image: {said}; `docker compose build {variant}` shows the rest") from None
        # by its number: a name may be given to another image meanwhile
        self._image = docker("image", "inspect", "--format={{.Id}}", image).strip()
        labels = [f"--label={name}={value}" for name, value in self._labels.items()]
        hardened = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        told_of = json.loads(docker("run", "--rm", *labels, *hardened, self._image, "python", "-c", ASKED))
        self._nofile = int(told_of["nofile"])
        installed = told_of["versions"]
        names = {name: name.lower().replace("_", "-") for name in facts.packages()}
        versions = {name: installed[plain] for name, plain in names.items() if plain in installed}
        self.facts |= {"image": self._image, "python": told_of["python"], "versions": versions}

    def _configured(self, service: str) -> dict[str, Any]:
        """A service as docker-compose.yml has it, with all that it refers to put in its place."""
        whole = json.loads(self._compose(FILE, "config", "--format", "json", service, env={"GATEBENCH_RUN": self.run}))
        definition: dict[str, Any] = whole["services"][service]
        return definition

    def _definition(
        self, variant: Variant, cpus: frozenset[int] | None, memory_mb: int | None, port: int
    ) -> dict[str, Any]:
        """docker-compose.yml's service, with what the lens decides. Ports it may have published are left out."""
        base = self._configured(variant.name)
        kept = {name: value for name, value in base.items() if name not in ("build", "ports", "profiles", "depends_on")}
        budget = variant.budget
        changes: dict[str, Any] = {
            "image": self._image,
            "pull_policy": "never",
            "command": [*_SERVE, variant.name, *told(variant), "--host", "0.0.0.0", "--port", str(port)],
            "pids_limit": max(int(base.get("pids_limit", 0)), budget.processes * (budget.threads + 1) + BESIDE),
        }
        if cpus:
            changes |= {"cpuset": ",".join(map(str, sorted(cpus))), "cpus": float(len(cpus))}
        if memory_mb:
            changes |= {"mem_limit": memory_mb * MB, "memswap_limit": memory_mb * MB}
        wanted = base.get("ulimits", {}).get("nofile")
        if isinstance(wanted, int) and self._nofile:  # an engine without the right to raise it refuses to start
            changes["ulimits"] = {"nofile": min(wanted, self._nofile)}
        return kept | changes


def _wait_until_ready(server: Contained, timeout_s: float) -> None:
    name = server.variant.name
    deadline = time.monotonic() + timeout_s
    last: OSError | None = None
    while time.monotonic() < deadline:
        if not server.alive():
            raise ServerFailed(f"{name} {server.fate()} before it was ready:\n{server.log_tail()}")
        try:
            answer = identity(server.address)
        except ValueError:
            answer = {}
        except OSError as error:
            last = error
            time.sleep(0.02)
            continue
        if answer.get("token") != server.token:
            raise ServerFailed(f"{name}: something else answers at {server.address[0]}, without this run's token")
        return
    if last is not None and last.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        raise EnvironmentFault(
            f"{server.address[0]}, a container's address, is not reached: {last.strerror}; the engine must run on this "
            "very machine, not in a virtual one"
        )
    raise ServerFailed(
        f"{name} was not ready after {timeout_s:g} s; the end of its log:\n{server.log_tail() or '(empty)'}"
    )


# -- what is left of a run -------------------------------------------------------------------------------------------


def owner() -> str:
    """Names this process: the boot, the numbering that its number is of (a container has its own), number, birth."""
    return f"{_boot()}/{_numbering()}/{os.getpid()}/{birth(os.getpid())}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _numbering() -> str:
    return re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))


def is_orphan(name: str, *, runs: bool) -> bool:
    """Whether its owner is known to be gone. runs: whether a container of its still does.

    Another boot's may be this machine's earlier one, or another machine that uses this engine, where it may be alive.
    """
    match name.split("/"):
        case [boot, _, _, _] if boot != _boot():
            return not runs
        case [_, numbering, pid, born] if numbering == _numbering() and pid.isdigit() and born.isdigit():
            return birth(int(pid)) != born
    return False  # nobody can tell, or it is a person's own


def remove(run: str) -> list[str]:
    """Removes what carries the label of this run, and nothing else; says what. Raises EnvironmentFault."""
    label = f"--filter=label={LABEL}={run}"
    said: dict[str, None] = {}
    for look in range(LOOKS):
        try:
            found = docker("ps", "--all", "--no-trunc", label, "--format={{.ID}} {{.Names}}").split()
            if found:
                docker("rm", "--force", "--volumes", *found[::2])
            said |= dict.fromkeys(f"removed container {name}" for name in found[1::2])
            links = docker("network", "ls", "--no-trunc", label, "--format={{.ID}} {{.Name}}").split()
            if links:
                docker("network", "rm", *links[::2])
            said |= dict.fromkeys(f"removed network {name}" for name in links[1::2])
            if not found and not links:
                break
        except EnvironmentFault:  # one of them may have gone by itself meanwhile
            if look == LOOKS - 1:
                raise
            time.sleep(0.1)
    return list(said)


def orphans() -> list[str]:
    """The runs whose harness is gone and whose containers or networks are not; none where no engine answers."""
    label, form = f"--filter=label={LABEL}", f'{{{{.Label "{LABEL}"}}}} {{{{.Label "{OWNER}"}}}}'
    try:
        lines = docker("ps", "--all", label, f"--format={form} {{{{.Status}}}}", timeout_s=5).splitlines()
        lines += docker("network", "ls", label, f"--format={form} -", timeout_s=5).splitlines()
    except EnvironmentFault:
        return []
    found = [line.split(" ", 2) for line in lines]
    running = {run for run, _, status in found if status.startswith("Up")}
    return sorted({run for run, who, _ in found if run and is_orphan(who, runs=run in running)})


def clean() -> list[str]:
    """Removes what runs have left whose harness is gone; says what. Raises EnvironmentFault."""
    return [line for run in orphans() for line in remove(run)]


@contextlib.contextmanager
def kept(module: str, argument: str, undo: Callable[[], object]) -> Iterator[None]:
    """Undoes something on leaving; if this process dies first, however it dies, `python -m module argument` does.

    That one is the keeper: it reads from a pipe, which the kernel closes with us.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-m", module, argument],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    try:
        yield
    finally:
        try:
            undo()
            with contextlib.suppress(BrokenPipeError):
                keeper.stdin.write(DONE)
        finally:  # unless it was told so, it does the rest: a signal may have come in the middle
            with contextlib.suppress(BrokenPipeError):
                keeper.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                keeper.wait(KEEPER_S)


def keep(undo: Callable[[], object]) -> None:
    """What a keeper does: waits for the end of its pipe, and undoes unless that was done."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    if sys.stdin.buffer.read() != DONE:
        undo()


def _remove_at_last(run: str) -> None:
    """At the end of a run, once."""
    try:
        remove(run)
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{fault}; then `gatebench doctor --clean` removes what this run has left") from None


def _remove_for_good(run: str) -> None:
    """After the harness: the engine may still make what it was asked for."""
    for pause_s in (0.0, 0.5, 1.5):
        time.sleep(pause_s)
        with contextlib.suppress(EnvironmentFault):
            remove(run)


if __name__ == "__main__":
    keep(partial(_remove_for_good, sys.argv[1]))
