"""gatebench's clients for a plain `locust -f`. In: a Part. Out: a Locust user class whose numbers Locust shows itself.

The calls are those of ClosedUser; what the recorder folds is fed to Locust's own statistics twice a second, in bulk, so
that its page, CSV and console stay true without an event a request.
"""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import gevent
from locust import User, task
from locust.env import Environment
from locust.stats import StatsEntry, StatsError, bucket_response_time

from harness.histogram import Histogram
from harness.load.client import now
from harness.load.closed_flow import ClosedFlow
from harness.load.order import Order
from harness.load.recorder import Recorder
from harness.load.stage import Stage
from harness.recording import HUB, Row
from harness.targets import parse
from harness.trial import Part, Scenario

SWEEP_S, FEED_TICKS = 0.02, 25  # Locust writes its CSV once a second: feed it more often than that


class PlainUser(User):  # type: ignore[misc]  # Locust ships no types
    """One closed user of one endpoint; all users of a class and a test share a stage."""

    abstract = True
    part: Part
    target: str
    body: str | None
    stage: Stage | None = None
    numbers: Any = None

    @classmethod
    def open_stage(cls, environment: Environment) -> Stage:
        """The stage of the test that is running, made by its first user."""
        if cls.stage is None:
            target = parse(environment.host or "http://127.0.0.1:8000")
            question = f"How does {environment.host} serve {cls.part.endpoint}?"
            scenario = Scenario(name="plain", question=question, arrivals="closed", users=(1,), mix=(cls.part,))
            order = Order(
                scenario=scenario,
                level=1,
                seed=int(now()),
                host=target.host,
                port=target.port,
                targets=(cls.target,),
                expected=(cls.body,),
                rows="",
            )
            cls.stage = Stage(order, Recorder(now(), closed=True, write=lambda _text: None))
            cls.stage.begin(now())
            cls.stage.end = math.inf
            cls.numbers = itertools.count()
            _feed_until_stopped(environment, cls.stage, cls)
        return cls.stage

    @task  # type: ignore[untyped-decorator]
    def drive(self) -> None:
        flow = ClosedFlow(type(self).open_stage(self.environment), next(type(self).numbers))
        try:
            flow.run(now())
        finally:  # Locust stops a user by killing its greenlet: what was under way is no failure
            flow.leave()


def _feed_until_stopped(environment: Environment, stage: Stage, users: type[PlainUser]) -> None:
    """Sweeps and feeds while the test runs; a last time when it stops, so that the next test makes its own stage."""

    def beat() -> None:
        for tick in itertools.count(1):
            gevent.sleep(SWEEP_S)
            stage.expire()
            if tick % FEED_TICKS == 0:
                add_rows(environment, stage.recorder, users.part.method)

    def stopped(**_: object) -> None:
        beating.kill()
        environment.events.test_stop.remove_listener(stopped)
        add_rows(environment, stage.recorder, users.part.method)
        users.stage = None

    beating = gevent.spawn(beat)
    environment.events.test_stop.add_listener(stopped)


def add_rows(environment: Environment, recorder: Recorder, method: str = "GET") -> None:
    """Adds what the last second came to to Locust's statistics: an entry an endpoint, the total, errors by kind."""
    for row in map(Row.model_validate, recorder.close()):
        if row.row == HUB or not row.completed + row.failed + row.timed_out:
            continue
        entry = _entry(environment, row, method)
        environment.stats.get(row.row, method).extend(entry)
        environment.stats.total.extend(entry)
    for kind, count in recorder.errors.items():
        key = StatsError.create_key(method, "", kind)
        environment.stats.errors.setdefault(key, StatsError(method, "", kind)).occurrences += count
    recorder.errors.clear()


def _entry(environment: Environment, row: Row, method: str) -> StatsEntry:
    entry = StatsEntry(environment.stats, row.row, method)
    histogram = row.histogram("service") or Histogram.of([])
    second = int(time.time())
    entry.num_requests = row.completed + row.failed + row.timed_out
    entry.num_failures = row.failed + row.timed_out
    entry.num_none_requests = row.failed  # no response time: it ended otherwise
    entry.num_reqs_per_sec[second] = entry.num_requests
    entry.num_fail_per_sec[second] = entry.num_failures
    entry.last_request_timestamp = time.time()
    for value_us, count in zip(histogram.values_us.tolist(), histogram.counts.tolist(), strict=True):
        entry.response_times[bucket_response_time(value_us / 1000)] += count
    if histogram.n:
        entry.total_response_time = histogram.mean_us * histogram.n / 1000
        entry.min_response_time = int(histogram.values_us[0]) / 1000
        entry.max_response_time = histogram.max_us / 1000
    return entry


def locust_user(part: Part, target: str, body: str | None) -> type[PlainUser]:
    """The user class of one endpoint, named for it. target: path and query. body: the right answer, None = any."""
    name = f"{part.endpoint.capitalize()}User"
    return type(name, (PlainUser,), {"part": part, "target": target, "body": body})
