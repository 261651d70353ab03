"""Under which lens variants are compared. In: a lens and a Variant. Out: the Budget it gets, or why it is refused.

Pure. LENSES, the table at the end, is the one place where a lens turns into numbers: processes, slots, connections,
keep-alive, backlog, database connections. What a server cannot be told stays as its row says, and is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from string import Formatter
from typing import Any

from apps.variant import Budget, Variant
from apps.variants import VARIANTS
from harness.errors import UsageError

DEFAULT = "equal-cpu"
SLOTS = 16  # of equal-slots, unless told
MOST_SLOTS = 10_000
# What is not the point of a comparison, and what it is everywhere where a server can be told.
COMMON: Mapping[str, Any] = {
    one.name: one.default for one in fields(Budget) if one.name in ("keep_alive_s", "backlog", "db_connections")
}

Rule = Callable[[Variant, int], Budget | str]  # under a lens of so many slots: the budget, or the sentence that refuses


def knobs(variant: Variant) -> frozenset[str]:
    """The fields of its budget that its server is told: in its command, or, database connections, beside it."""
    return frozenset(name for _, name, _, _ in Formatter().parse(variant.command_line) if name) | {"db_connections"}


def as_configured(variant: Variant, _slots: int) -> Budget | str:
    """What its row says."""
    return variant.budget


def equal_cpu(variant: Variant, _slots: int) -> Budget | str:
    """What its row says on the same CPUs for all, with the knobs that are not the point set alike."""
    return _alike(variant)


def equal_slots(variant: Variant, slots: int) -> Budget | str:
    """So many calls at a time, whatever holds one: a process, a thread, a greenlet."""
    row, told = variant.budget, knobs(variant)
    change: dict[str, Any] = {"slots": slots}
    if row.slots is not None and row.slots == row.processes and "processes" in told and "threads" not in told:
        change |= {"processes": slots}
    elif slots % row.processes:
        return f"{slots} slots are no equal share for its {row.processes} processes: take a multiple of them"
    elif variant.family == "gevent" and row.slots is None and "worker_connections" in told:
        if row.keep_alive_s is not None and "keep_alive_s" not in told:
            return "its slots are its connections, and an idle one, which it cannot be told to close, would hold a slot"
        # an idle connection would hold a slot, so each is closed after its answer
        change |= {"worker_connections": slots // row.processes, "keep_alive_s": 0 if row.keep_alive_s else None}
    elif row.slots is None:
        return "it has no slots to set: it takes every call as it comes"
    elif not told & {"threads", "slots"} and row.slots != slots:
        return f"its {_counted(row.slots, 'slot')} cannot be set"
    # a process needs one, and all variants the same number: the least multiple of the slots that is enough
    return replace(_alike(variant), db_connections=row.db_connections_for(slots), **change)


def _alike(variant: Variant) -> Budget:
    """Its row's budget, with what is not the point as it is everywhere, as far as its command can be told."""
    row, told = variant.budget, knobs(variant)
    common = {name: value for name, value in COMMON.items() if name in told and getattr(row, name) is not None}
    return replace(row, **common)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def equal_memory(_variant: Variant, _slots: int) -> Budget | str:
    """Refused as long as nothing holds a server to a limit."""
    return "containers must hold it to a limit of memory, and --backend process has none"


LENSES: Mapping[str, Rule] = {
    "equal-cpu": equal_cpu,
    "equal-slots": equal_slots,
    "equal-memory": equal_memory,
    "as-configured": as_configured,
}


def parsed(text: str) -> str:
    """A lens as it is named everywhere: `equal-slots` always with its number. Raises UsageError."""
    name, equals, number = text.partition("=")
    if name not in LENSES or (equals and name != "equal-slots"):
        raise UsageError(f"--lens {text!r:.80}: there are {', '.join(LENSES)}, and equal-slots=N")
    if name != "equal-slots":
        return name
    if not re.fullmatch(r"[0-9]{1,5}", number or str(SLOTS)) or not 1 <= int(number or SLOTS) <= MOST_SLOTS:
        raise UsageError(f"--lens {text!r:.80}: slots are a whole number from 1 to {MOST_SLOTS}")
    return f"{name}={int(number or SLOTS)}"


def under(lens: str, variants: Iterable[Variant], *, contained: bool = False) -> dict[str, Variant]:
    """Each variant with the budget that the lens gives it. UsageError when one of them has to be refused."""
    name, _, slots = lens.partition("=")
    rule = equal_cpu if name == "equal-memory" and contained else LENSES[name]  # the engine holds it to the limit
    given = {variant.name: (variant, rule(variant, int(slots or SLOTS))) for variant in variants}
    refused = {name: budget for name, (_, budget) in given.items() if isinstance(budget, str)}
    if refused:
        rest = [name for name in given if name not in refused]
        instead = f", or --variants {','.join(rest)}" if rest else ""
        first = next(iter(refused))
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise UsageError(f"--lens {lens}: {first}: {refused[first]}{more}; choose --lens {DEFAULT}{instead}")
    return {
        name: replace(variant, budget=budget) for name, (variant, budget) in given.items() if isinstance(budget, Budget)
    }


def told(variant: Variant) -> tuple[str, ...]:
    """What `python -m apps NAME` has to be told besides, so that it serves this budget and not its row's."""
    row = VARIANTS.get(variant.name)
    if row is None or row.budget == variant.budget:
        return ()
    before = asdict(row.budget)
    changed = [f"{name}={value}" for name, value in asdict(variant.budget).items() if value != before[name]]
    return ("--budget", ",".join(changed))


def the_one_of(lenses: Iterable[str]) -> str:
    """The lens of a comparison. UsageError when there are several: their numbers do not stand side by side."""
    found = sorted(set(lenses))
    if len(found) > 1:
        raise UsageError(
            f"these recordings were measured under different lenses ({', '.join(found)}), so they cannot be compared: "
            "keep each lens in a run of its own, or measure again under one"
        )
    return found[0] if found else DEFAULT
