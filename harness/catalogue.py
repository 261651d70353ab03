"""What there is. In: the tables of apps and the scenario files. Out: rows for `gatebench list`, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from apps.endpoints import ENDPOINTS
from apps.variants import VARIANTS
from harness import scenarios
from harness.trial import TWIN, Scenario, plan, predicted_s, twinned

Rows = list[dict[str, Any]]


def variants() -> Rows:
    """Each variant, with "ok" or the hole's reason for every endpoint."""
    return [
        {
            "name": variant.name,
            "family": variant.family,
            "interface": variant.interface,
            "server": variant.server,
            "framework": variant.framework,
            "model": variant.model,
            "command": ["python", "-m", "apps", variant.name, "--port", "PORT"],
            "budget": asdict(variant.budget),
            "endpoints": {name: variant.holes_among(ENDPOINTS).get(name, "ok") for name in ENDPOINTS},
        }
        for variant in VARIANTS.values()
    ]


def endpoints() -> Rows:
    """Each endpoint, with its parameters' bounds and defaults."""
    return [
        {
            "name": endpoint.name,
            "method": endpoint.method,
            "path": endpoint.path,
            "does": endpoint.doc,
            "content_type": endpoint.content_type,
            "parameters": {
                name: {"allowed": parameter.allowed, "default": parameter.default}
                for name, parameter in endpoint.parameters.items()
            },
        }
        for endpoint in ENDPOINTS.values()
    ]


def _predicted_s(asked: list[Scenario]) -> int:
    """How long a whole file takes by default where no server is missing."""
    names = {one.name: scenarios.names_of(one.variants or scenarios.BASE) for one in asked}
    holes = {name: variant.holes for name, variant in VARIANTS.items()}
    twin, chosen = twinned(asked, names, holes)
    everyone = (*VARIANTS, *([f"{twin}{TWIN}"] if twin else []))
    return round(predicted_s(plan(everyone, asked, seed=1, holes=holes, only=chosen)))


def all_scenarios() -> Rows:
    """Each scenario of each file, with its question and load."""
    return [
        {
            "file": file,
            "name": scenario.name,
            "question": scenario.question,
            "arrivals": scenario.arrivals,
            "levels": list(scenario.levels),
            "endpoints": [part.endpoint for part in scenario.mix],
            "duration_s": scenario.duration_s,
            "repeats": scenario.repeats,
            "slo": scenario.slo.model_dump(exclude_none=True),
            "variants": list(names),
            "file_predicted_s": predicted,
        }
        for file in scenarios.available()
        for asked in [scenarios.load([file])]
        for predicted in [_predicted_s(asked)]
        for scenario in asked
        for names in [scenarios.names_of(scenario.variants or scenarios.BASE)]
    ]


CATALOGUES: dict[str, Callable[[], Rows]] = {
    "variants": variants,
    "endpoints": endpoints,
    "scenarios": all_scenarios,
}
