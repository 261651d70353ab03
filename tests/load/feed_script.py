"""Run in a process of its own, as importing Locust patches it. In: calls as JSON. Out: Locust's numbers, told two ways.

Once each call is fired as Locust's own `request` event; once the recorder keeps them and `add_rows` feeds them in bulk.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from locust.env import Environment  # isort: skip  # first: it patches the process
from locust.stats import StatsEntry

from harness.load.plain import add_rows
from harness.load.recorder import TIMEOUT, Recorder

SHARES = (0.5, 0.66, 0.75, 0.9, 0.95, 0.99, 1.0)


def by_events(calls: list[tuple[str, float, float, str]]) -> Environment:
    environment = Environment(user_classes=[])
    environment.create_local_runner()  # which listens to the events
    for name, _, service_s, kind in calls:
        environment.events.request.fire(
            request_type="GET",
            name=name,
            response_time=service_s * 1000 if kind in ("", TIMEOUT) else None,
            response_length=0,
            exception=kind or None,
            context={},
        )
    return environment


def in_bulk(calls: list[tuple[str, float, float, str]]) -> Environment:
    environment = Environment(user_classes=[])
    recorder = Recorder(0.0, closed=True, write=lambda _text: None)
    for number, (name, at, service_s, kind) in enumerate(calls):
        track = recorder.track(name)
        track.offer(at)
        track.settle(kind, at, at, at, at + service_s)
        if number % 37 == 0:
            recorder.fold()
        if number % 97 == 0:
            add_rows(environment, recorder)
    add_rows(environment, recorder)
    return environment


def told(environment: Environment) -> dict[str, Any]:
    stats = environment.stats
    entries = {entry.name: _entry(entry) for entry in [*stats.entries.values(), stats.total]}
    return {"entries": entries, "errors": _errors(environment)}


def _entry(entry: StatsEntry) -> dict[str, Any]:
    return {
        "requests": entry.num_requests,
        "failures": entry.num_failures,
        "without_time": entry.num_none_requests,
        "in_seconds": sum(entry.num_reqs_per_sec.values()),
        "failed_in_seconds": sum(entry.num_fail_per_sec.values()),
        "min": entry.min_response_time,
        "max": entry.max_response_time,
        "average": entry.avg_response_time,
        "percentiles": [entry.get_response_time_percentile(share) for share in SHARES],
        "median": entry.median_response_time,
    }


def _errors(environment: Environment) -> list[tuple[str, str, str, int]]:
    return sorted(
        (error.method, error.name, str(error.error), error.occurrences) for error in environment.stats.errors.values()
    )


if __name__ == "__main__":
    some = json.load(sys.stdin)
    json.dump([told(by_events(some)), told(in_bulk(some))], sys.stdout)
