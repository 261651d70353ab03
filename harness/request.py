"""What a Run is to do. In: the command line's words. Out: a Request, or one line that names the nearest right words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.variants import VARIANTS
from harness import facts
from harness.errors import UsageError
from harness.scenarios import load, nearest
from harness.trial import Lens, Scenario


@dataclass(frozen=True)
class Request:
    """The command line in one value. repeats: overrides each scenario's own. resume: the folder of an earlier run."""

    scenarios: tuple[Scenario, ...]
    variants: tuple[str, ...]
    results: Path
    command: str
    seed: int
    repeats: int | None = None
    lens: Lens = "equal-cpu"
    server_cpus: str | None = None
    port: int | None = None
    name: str | None = None
    resume: Path | None = None
    fail_fast: bool = False


def request_of(
    scenarios: Sequence[str], *, command: str, variants: str | None, duration: int | None, backend: str, **options: Any
) -> Request:
    """Raises UsageError for what there is not."""
    del backend  # one choice so far, which the command line has checked
    if options["name"] is not None and not is_plain(options["name"]):
        raise UsageError(f"--name {options['name']!r}: letters, digits, . _ - only, and no leading dot")
    _check_cpus(options["server_cpus"])
    return Request(
        scenarios=tuple(_lasting(scenario, duration) for scenario in load(scenarios)),
        variants=tuple(_variant(name) for name in variants.split(",")) if variants is not None else tuple(VARIANTS),
        command=command,
        **options,
    )


def is_plain(name: str) -> bool:
    """Whether a name cannot leave its folder."""
    return name.replace("-", "").replace("_", "").replace(".", "").isalnum() and name.isascii() and name[0] != "."


def _variant(name: str) -> str:
    if name not in VARIANTS:
        raise UsageError(f"no variant {name!r}; {nearest(name, VARIANTS)}")
    return name


def _lasting(scenario: Scenario, duration_s: int | None) -> Scenario:
    """The scenario with another duration; its warm-up always leaves a second to measure."""
    if duration_s is None:
        return scenario
    return scenario.model_copy(update={"duration_s": duration_s, "warmup_s": min(scenario.warmup_s, duration_s - 1)})


def _check_cpus(text: str | None) -> None:
    if text is None:
        return
    allowed = os.sched_getaffinity(0)
    try:
        wanted, _ = facts.cpu_sets(text)
    except ValueError:
        raise UsageError(f"--server-cpus {text!r}: write it as 0-2,4") from None
    if not wanted <= allowed:
        raise UsageError(f"--server-cpus {text}: this machine allows {sorted(allowed)}")
