"""Servers that run elsewhere. In: `NAME=http://host:port`. Out: Remote servers, which say who they are if they can.

Nothing is started, sampled or stopped. The address is held against the list of allowed targets, resolved once, and used
as it is. Who answers is what `/state` says: a server of `python -m apps NAME` is told by its variant, and by a token
where whoever started it gave it one; another that has the same endpoints is `unknown`, and stays so in the report.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil

from apps.variant import Budget, Variant
from apps.variants import VARIANTS
from harness.errors import ServerFailed, UsageError
from harness.serve.process import identity
from harness.targets import parse

TIMEOUT_S = 5.0
UNBOUNDED = 1_000_000  # nobody said how many
# What is known of a server that does not say what it is: nothing, and so no law is held against it.
UNKNOWN = Budget(
    processes=1, slots=None, worker_connections=None, loop=None, keep_alive_s=None, db_connections=UNBOUNDED
)


@dataclass(frozen=True)
class Target:
    """A server as it was named on the command line. address: checked against the allowed targets."""

    name: str
    address: tuple[str, int]


@dataclass(frozen=True)
class Remote:
    """A server elsewhere. claims: as which variant it answers, '' for none. token: its own; None: it has no /state."""

    variant: Variant  # with the name that the command line gave it
    address: tuple[str, int]
    token: str | None
    claims: str

    def alive(self) -> bool:
        """Nobody here can tell; what it fails to answer is counted."""
        return True

    def log_tail(self, lines: int = 8) -> str:  # noqa: ARG002  its log is elsewhere
        return ""

    def descendants(self) -> list[psutil.Process]:
        return []


def targets(texts: Sequence[str]) -> dict[str, Target]:
    """The words of `--target`, by name. Raises UsageError for what can't or may not be loaded."""
    found: dict[str, Target] = {}
    for text in texts:
        name, equals, url = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            raise UsageError(f"--target {ascii(text)[1:-1]:.120}: write it as NAME=http://host:port")
        if name in found:
            raise UsageError(f"--target {name}: given twice")
        target = parse(url)
        if target.row != "url" or target.path != "/":
            raise UsageError(f"--target {name}: the scenarios have the paths: write it as {name}=http://host:port")
        found[name] = Target(name, (target.host, target.port))
    if not found:
        raise UsageError("--backend url needs servers: --target NAME=http://host:port, once for each")
    return found


def variants(asked: Mapping[str, Target]) -> dict[str, Variant]:
    """Each server as a Variant, by the name that it was given. Raises ServerFailed when one does not answer."""
    return {name: _described(target, _state(target)) for name, target in asked.items()}


@contextlib.contextmanager
def serve(target: Target, variant: Variant, **_: Any) -> Iterator[Remote]:
    """The server, once it has answered and is still what it was when the run began. Raises ServerFailed."""
    state = _state(target)
    described = _described(target, state)
    if described != variant:
        raise ServerFailed(
            f"{target.name}: it now says that it is {_claimed(state) or 'nothing'}: another server has taken its place"
        )
    yield Remote(variant, target.address, None if state is None else str(state.get("token", "")), _claimed(state))


def _state(target: Target) -> Mapping[str, Any] | None:
    """What it says of itself; None when it answers, but has no /state. Raises ServerFailed when nothing answers."""
    try:
        state = identity(target.address, TIMEOUT_S)
    except ValueError:
        return None
    except OSError as error:
        host, port = target.address
        why = error.strerror or str(error) or type(error).__name__
        raise ServerFailed(
            f"{target.name}: nothing answers at {host}:{port} ({why}); start it there: "
            f"python -m apps {target.name if target.name in VARIANTS else 'NAME'} --host ADDRESS --port {port}"
        ) from None
    return state if isinstance(state.get("variant"), str) else None


def _claimed(state: Mapping[str, Any] | None) -> str:
    return str(state["variant"]) if state is not None and state["variant"] in VARIANTS else ""


def _described(target: Target, state: Mapping[str, Any] | None) -> Variant:
    if claimed := _claimed(state):
        return replace(VARIANTS[claimed], name=target.name, needs=())  # what it needs is installed there
    model = "runs elsewhere, and does not say what it is"
    unknown: Any = "unknown"
    return Variant(target.name, unknown, "unknown", "unknown", "unknown", model, "", UNKNOWN)
