"""What a search for capacity is to do. In: the command line's words. Out: an Asked, or one line with what is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apps.endpoints import ENDPOINTS
from apps.variant import Variant
from apps.variants import VARIANTS
from harness import facts, lenses
from harness.capacity import slo as slos_
from harness.capacity.told import PROBES
from harness.errors import NothingUsable, UsageError
from harness.request import is_plain
from harness.scenarios import BASE, completed, load, names_of
from harness.targets import Target, parse
from harness.trial import Part, Scenario, Slo

DEFAULT = "quick/sleep"
PATIENCE = 4  # times the longest promise: so long a request is waited for, to see by how much it was broken


@dataclass(frozen=True)
class Asked:
    """The command line in one value. target: a URL instead of variants. budget_s: of a variant's search, in all."""

    scenario: Scenario
    slos: tuple[Slo, ...]
    variants: Mapping[str, Variant]
    results: Path
    command: str
    target: Target | None = None
    name: str | None = None
    budget_s: float = 180.0
    precision: float = 0.05
    seed: int = 1
    server_cpus: str | None = None
    overload: bool = False
    efficiency: bool = False
    price_per_core_hour: float | None = None
    holes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return ("url",) if self.target else tuple(self.variants)


def scenario_of(text: str) -> Scenario:
    """One scenario: `sleep`, `quick/sleep`, a file's path, or an endpoint as `sleep?ms=50`. Raises UsageError."""
    endpoint, mark, query = text.removeprefix("/").partition("?")
    if (mark or text.startswith("/")) and endpoint in ENDPOINTS:
        part = completed(Part(endpoint=endpoint, query=query))
        question = f"What does {endpoint}{mark}{query} take?"[:300]
        return Scenario(name=endpoint, question=question, arrivals="poisson", rates=(1.0,), mix=(part,))
    name, slash, _ = text.partition("/")
    try:
        found = load([text])
    except UsageError:
        if not slash:
            raise
        found = [one for one in load([name]) if one.name == text]
        if not found:
            known = ", ".join(one.name for one in load([name]))
            raise UsageError(f"no scenario {text!r:.120}; in {name} there are {known}") from None
    if len(found) > 1:
        known = ", ".join(one.name for one in found)
        raise UsageError(f"{text} holds {len(found)} scenarios, and a capacity is of one; choose one of {known}")
    return found[0]


def probed(scenario: Scenario, slos: Sequence[Slo]) -> Scenario:
    """The same work as a search asks for it: Poisson arrivals, of whatever rate and for as long as each Trial says."""
    longest_s = max((ms for slo in slos for ms in slos_.limits(slo).values()), default=0.0) / 1000
    return scenario.model_copy(
        update={
            "name": f"{PROBES}{scenario.name}"[:64],
            "question": f"How much of {scenario.name} is carried?"[:300],
            "arrivals": "poisson",
            "users": (),
            "rates": (1.0,),
            "shape": {},
            "timeout_s": min(max(scenario.timeout_s, PATIENCE * longest_s), 600.0),
            "slo": slos[0],
        }
    )


def slos_of(texts: Sequence[str], scenario: Scenario) -> tuple[Slo, ...]:
    """What was promised on the command line, or else by the scenario. UsageError where neither promises anything."""
    promised = tuple(slos_.parsed(text) for text in texts) or (scenario.slo,)
    for one in promised:
        if not slos_.limits(one):
            raise UsageError(
                f'{scenario.name} promises no response time; say one: --slo "p99<200ms,errors<0.1%"'
                if not texts
                else "--slo: a promise needs a response time; without one every rate of a queue would do: p99<200ms"
            )
    return promised


def asked_of(
    variants: Sequence[str],
    *,
    scenario: str | None,
    slo: Sequence[str],
    url: str | None,
    price_per_hour: float | None = None,
    cores_per_machine: int = 1,
    **options: object,
) -> Asked:
    """The whole. Raises UsageError for what there is not, NothingUsable when no variant can serve the scenario."""
    name = options.get("name")
    if isinstance(name, str) and not is_plain(name):
        raise UsageError(f"--name {name!r:.80}: at most 100 letters, digits, . _ -, and no leading dot")
    _check_cpus(options.get("server_cpus"))
    target = parse(url) if url is not None else None
    if target is not None and (variants or scenario is not None):
        raise UsageError("--url is a server of its own; leave VARIANT and --scenario out")
    chosen = _of_url(target) if target is not None else scenario_of(scenario or DEFAULT)
    promised = slos_of(slo, chosen)
    names = () if target is not None else names_of(variants or chosen.variants or BASE)
    able, holes = able_of(names, chosen)
    if target is None and not able:
        raise NothingUsable("n/a: nobody can serve it: " + "; ".join(f"{one}: {why}" for one, why in holes.items()))
    return Asked(
        scenario=chosen,
        slos=promised,
        variants=lenses.under(lenses.DEFAULT, able),
        target=target,
        holes={one: dict.fromkeys((part.endpoint for part in chosen.mix), why) for one, why in holes.items()},
        price_per_core_hour=None if price_per_hour is None else price_per_hour / cores_per_machine,
        **options,  # type: ignore[arg-type]
    )


def _check_cpus(text: object) -> None:
    try:
        wanted, _ = facts.cpu_sets(str(text)) if text is not None else (frozenset(), None)
    except ValueError:
        raise UsageError(f"--server-cpus {text!r:.80}: write it as 0-2,4") from None
    allowed = os.sched_getaffinity(0)
    if not wanted <= allowed:
        raise UsageError(f"--server-cpus {text}: this machine allows {sorted(allowed)}")


def able_of(names: Sequence[str], scenario: Scenario) -> tuple[list[Variant], dict[str, str]]:
    """Who can serve the scenario on this machine; and of the others, why not."""
    able, holes = [], {}
    for name in names:
        missing = VARIANTS[name].holes_among(ENDPOINTS)
        lacking = [part.endpoint for part in scenario.mix if part.endpoint in missing]
        if lacking:
            holes[name] = missing[lacking[0]]
        else:
            able.append(VARIANTS[name])
    return able, holes


def _of_url(target: Target) -> Scenario:
    part = Part(endpoint=target.row, query=target.query[:512])
    question = f"How much does {target.host}:{target.port} carry?"
    return Scenario(name="url", question=question, arrivals="poisson", rates=(1.0,), mix=(part,))
