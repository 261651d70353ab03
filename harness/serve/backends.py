"""Where servers run. In: the name of a backend and a Run's wishes. Out: `serve`, alike for all; what any server tells.

`serve(variant, cpus=…, folder=…, port=…)` is a context manager that yields a verified Server. BACKENDS, the table at
the end, holds one function each: it enters what the backend needs for a whole Run, and yields its `serve`.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from apps.variant import Variant
from harness import facts
from harness.lenses import told
from harness.serve import process, url
from harness.serve.compose import Contained, Project, Usage
from harness.serve.url import Remote
from harness.wire import fetch

Server = process.Server | Contained | Remote
Serve = Callable[..., AbstractContextManager[Server]]


@dataclass(frozen=True)
class Wishes:
    """What a Run asks of its backend. logs: a folder; variants: whom it will serve; targets: where servers run already.

    memory_mb: what each container may take, instead of docker-compose.yml's limit. trace: where processes note each
    request.
    """

    logs: Path
    variants: Mapping[str, Variant]
    targets: Mapping[str, url.Target] = field(default_factory=dict)
    memory_mb: int | None = None
    trace: Path | None = None


@dataclass(frozen=True)
class Backend:
    """A backend for one Run. facts: what a reader must know of it. project: of containers, where there is one."""

    serve: Serve
    facts: Mapping[str, Any] = field(default_factory=dict)
    project: Project | None = None


def facts_of(name: str, backend: Backend) -> dict[str, Any]:
    """What a Recording says of its backend, a fact each: so that a comparison names each that differs."""
    plain = {f"backend_{key}": value for key, value in backend.facts.items() if key != "versions"}
    versions = backend.facts.get("versions", {})
    return {"backend": name, **plain} | {f"backend_{package}": version for package, version in versions.items()}


@contextlib.contextmanager
def processes(wishes: Wishes) -> Iterator[Backend]:
    """Processes of this machine."""
    found = {"python": platform.python_version(), "network": "loopback", "versions": facts.FACTS["versions"]()}
    yield Backend(partial(process.serve, trace=wishes.trace), found)


@contextlib.contextmanager
def containers(wishes: Wishes) -> Iterator[Backend]:
    """Containers of this machine's Docker engine. Raises EnvironmentFault where there is none."""
    with Project(wishes.logs, variant=next(iter(wishes.variants))) as project:

        def serve(variant: Variant, **options: Any) -> AbstractContextManager[Server]:
            return project.serve(variant, memory_mb=wishes.memory_mb, **options)

        network = "a bridge and a pair of virtual interfaces"
        yield Backend(serve, {**project.facts, "network": network}, project)


@contextlib.contextmanager
def elsewhere(wishes: Wishes) -> Iterator[Backend]:
    """Servers that somebody else has started."""

    def serve(variant: Variant, **options: Any) -> AbstractContextManager[Server]:
        return url.serve(wishes.targets[variant.name], variant, **options)

    where = {name: "{}:{}".format(*target.address) for name, target in wishes.targets.items()}
    yield Backend(serve, {"network": "to another machine, or as the targets say", "targets": where})


def fate(server: Server) -> str:
    """How a server that is no longer alive has ended, in words."""
    match server:
        case Contained():
            return server.fate()
        case Remote():
            return "is elsewhere"
    return f"died (exit code {server.process.returncode})"


def epitaph(server: Server, meanwhile: str) -> str:
    """The same in a line, with the last of what it printed. meanwhile: what was being done with it."""
    tail = server.log_tail(3).replace("\n", " | ")
    return f"{server.variant.name} {fate(server)} while {meanwhile}" + (f": {tail}" if tail else "")


def runs_as(server: Server) -> tuple[str, ...]:
    """The command that really ran, but for its address; empty where somebody else has run it."""
    if isinstance(server, Remote):
        return ()
    return ("python", "-m", "apps", server.variant.name, *told(server.variant))


def claimed(server: Server) -> tuple[Variant, str | None]:
    """As which variant it is to answer, and with which token; None: it has no /state that could say."""
    if isinstance(server, Remote):
        return replace(server.variant, name=server.claims or server.variant.name), server.token
    return server.variant, server.token


def at_rest(server: Server, timeout_s: float) -> bool:
    """Whether nothing lives in it; of one that cannot say so, whether it answers. OSError, ValueError, LookupError."""
    if isinstance(server, Remote) and server.token is None:
        return fetch(server.address, "/ping")[0].status == 200
    return process.identity(server.address, timeout_s)["live"] == 0


def networks(server: Server) -> tuple[str, ...]:
    """Whose networks a Trial passes through, as names in /proc: our own, and a container's, which counts for itself."""
    return ("self", str(server.container.pid)) if isinstance(server, Contained) else ("self",)


def watched(server: Server) -> Callable[[], Iterable[psutil.Process] | Usage | None] | None:
    """What the sampler is to read each second: processes, or the counts of a container; None: nothing is to be seen."""
    match server:
        case Contained():
            return server.usage
        case Remote():
            return None
    return server.descendants


# To add a backend: write its function, and its row.
BACKENDS: Mapping[str, Callable[[Wishes], AbstractContextManager[Backend]]] = {
    "process": processes,
    "compose": containers,
    "url": elsewhere,
}
