"""What a Run is to do. In: the command line's words. Out: a Request, or one line that names the nearest right words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.variant import Variant
from apps.variants import VARIANTS
from harness import facts, lenses
from harness.errors import UsageError
from harness.scenarios import BASE, load, names_of
from harness.trial import Lens, Scenario


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


def request_of(
    scenarios: Sequence[str],
    *,
    command: str,
    variants: str | None,
    duration: int | None,
    lens: str,
    backend: str,
    **options: Any,
) -> Request:
    """Raises UsageError for what there is not."""
    del backend  # one choice so far, which the command line has checked
    if options["name"] is not None and not is_plain(options["name"]):
        raise UsageError(f"--name {options['name']!r:.80}: at most 100 letters, digits, . _ -, and no leading dot")
    for option in ("server_cpus", "generator_cpus"):
        _check_cpus(f"--{option.replace('_', '-')}", options[option])
    lens = lenses.parsed(lens)
    if options["resume"] is not None:
        if not (options["resume"] / "trials").is_dir():
            raise UsageError(f"--resume {options['resume']}: no run is there")
        options["results"] = options["resume"].absolute().parent  # its folder is the one to lock
    asked = tuple(_lasting(scenario, duration) for scenario in load(scenarios))
    wanted = None if variants is None else variants.split(",")
    chosen = {scenario.name: names_of(wanted or scenario.variants or BASE) for scenario in asked}
    names = [name for name in VARIANTS if any(name in some for some in chosen.values())]
    return Request(
        scenarios=asked,
        variants=lenses.under(lens, map(VARIANTS.__getitem__, names)),
        chosen=chosen,
        command=command,
        lens=lens,
        **options,
    )


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
