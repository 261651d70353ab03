"""What a Run is to do. In: the command line's words. Out: a Request, or one line that names the nearest right words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.endpoints import ENDPOINTS
from apps.variant import Variant
from apps.variants import VARIANTS
from harness import facts, lenses
from harness.errors import UsageError
from harness.scenarios import BASE, load, names_of
from harness.serve import url
from harness.trial import TWIN, Lens, Scenario, twinned

PRECISION, BUDGET_MIN = 0.03, 20.0  # of `--repeats auto`, unless told


@dataclass(frozen=True)
class Request:
    """The command line in one value. repeats: overrides each scenario's own. resume: the folder of an earlier run."""

    scenarios: tuple[Scenario, ...]
    variants: Mapping[str, Variant]  # with the budgets of the lens
    chosen: Mapping[str, tuple[str, ...]]  # scenario → the variants that it is asked of
    results: Path
    command: str
    seed: int
    repeats: int | None = None
    lens: Lens = lenses.DEFAULT
    server_cpus: str | None = None
    generator_cpus: str | None = None
    port: int | None = None
    name: str | None = None
    resume: Path | None = None
    fail_fast: bool = False
    processes: int = 1  # that make the load
    backend: str = "process"
    targets: Mapping[str, url.Target] = field(default_factory=dict)  # of the backend `url`
    memory_mb: int | None = None  # of a container
    database: bool = False
    trace: bool = False
    precision: float | None = None  # of `--repeats auto`, as a share
    budget_s: float = 0.0


def request_of(
    scenarios: Sequence[str],
    *,
    command: str,
    variants: str | None,
    duration: int | None,
    lens: str | None,
    backend: str,
    target: Sequence[str] = (),
    aa: bool = False,
    precision: float | None = None,
    budget_minutes: float | None = None,
    **options: Any,
) -> Request:
    """Raises UsageError for what there is not."""
    if options["name"] is not None and not is_plain(options["name"]):
        raise UsageError(f"--name {options['name']!r:.80}: at most 100 letters, digits, . _ -, and no leading dot")
    for option in ("server_cpus", "generator_cpus"):
        _check_cpus(f"--{option.replace('_', '-')}", options[option])
    if target and backend != "url":
        raise UsageError("--target NAME=http://host:port is a server elsewhere: --backend url")
    if options.get("trace") and backend != "process":
        raise UsageError("--trace compares clocks of one machine's processes: --backend process")
    if backend == "url" and (lens not in (None, "as-configured") or variants is not None or options.get("database")):
        raise UsageError(
            "--backend url takes servers as they are: no --lens but as-configured, no --variants, no --database"
        )
    if options.get("memory_mb") and backend != "compose":
        raise UsageError("--memory is a container's: --backend compose")
    lens = lenses.parsed(lens or ("as-configured" if backend == "url" else lenses.DEFAULT))
    if options["resume"] is not None:
        if not (options["resume"] / "trials").is_dir():
            raise UsageError(f"--resume {options['resume']}: no run is there")
        options["results"] = options["resume"].absolute().parent  # its folder is the one to lock
    options |= _repeats(options.get("repeats"), precision, budget_minutes)
    asked = tuple(_lasting(scenario, duration) for scenario in load(scenarios))
    if backend == "url":
        asked_for = url.targets(target)
        found = url.variants(asked_for)
        everyone = {scenario.name: tuple(found) for scenario in asked}
        found, everyone = _with_twin(asked, found, everyone, options["repeats"], aa=aa, here=False)
        return Request(
            asked, found, everyone, command=command, lens=lens, backend=backend, targets=asked_for, **options
        )
    wanted = None if variants is None else variants.split(",")
    chosen = {scenario.name: names_of(wanted or scenario.variants or BASE) for scenario in asked}
    names = [name for name in VARIANTS if any(name in some for some in chosen.values())]
    given = lenses.under(lens, map(VARIANTS.__getitem__, names), contained=backend == "compose")
    given, chosen = _with_twin(asked, given, chosen, options["repeats"], aa=aa, here=backend == "process")
    return Request(
        scenarios=asked,
        variants=given,
        backend=backend,
        chosen=chosen,
        command=command,
        lens=lens,
        **options,
    )


def _repeats(repeats: int | str | None, precision: float | None, budget_minutes: float | None) -> dict[str, Any]:
    """What `--repeats`, `--precision` and `--budget-minutes` come to. Raises UsageError."""
    if repeats == "auto":
        return {"repeats": None, "precision": precision or PRECISION, "budget_s": 60 * (budget_minutes or BUDGET_MIN)}
    if precision is not None or budget_minutes is not None:
        raise UsageError("--precision and --budget-minutes say when `--repeats auto` ends: add it")
    return {"repeats": repeats}


def _with_twin(
    asked: Sequence[Scenario],
    variants: Mapping[str, Variant],
    chosen: Mapping[str, tuple[str, ...]],
    repeats: int | None,
    *,
    aa: bool,
    here: bool,
) -> tuple[dict[str, Variant], dict[str, tuple[str, ...]]]:
    """With the variant that is measured twice in each block under a second name: the same row, the same command."""
    holes = {name: one.holes_among(ENDPOINTS) if here else one.holes for name, one in variants.items()}
    name, both = twinned(asked, chosen, holes, every=aa, repeats=repeats)
    return {**variants, **({f"{name}{TWIN}": variants[name]} if name else {})}, both


def is_plain(name: str) -> bool:
    """Whether a name cannot leave its folder."""
    return re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", name) is not None


def _lasting(scenario: Scenario, duration_s: int | None) -> Scenario:
    """The scenario with another duration; its warm-up always leaves a second to measure."""
    if duration_s is None:
        return scenario
    return scenario.model_copy(update={"duration_s": duration_s, "warmup_s": min(scenario.warmup_s, duration_s - 1)})


def _check_cpus(option: str, text: str | None) -> None:
    if text is None:
        return
    allowed = os.sched_getaffinity(0)
    try:
        if len(max(re.findall(r"\d+", text), key=len, default="")) > 4:  # a range that would fill the memory
            raise ValueError(text)
        wanted, _ = facts.cpu_sets(text or "none")
    except ValueError:
        raise UsageError(f"{option} {text!r:.80}: write it as 0-2,4") from None
    if not wanted or not wanted <= allowed:
        raise UsageError(f"{option} {text}: this machine allows {sorted(allowed)}")
