"""What there is. In: the tables of apps and the scenario files. Out: rows for `gatebench list`, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from apps.endpoints import ENDPOINTS
from apps.variants import VARIANTS
from harness import scenarios

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
        }
        for file in scenarios.available()
        for scenario in scenarios.load([file])
    ]


CATALOGUES: dict[str, Callable[[], Rows]] = {
    "variants": variants,
    "endpoints": endpoints,
    "scenarios": all_scenarios,
}
