"""The Locust users of a Trial. In: a Stage. Out: a user class, and how many of it to start.

A user is a flow that Locust starts, counts and stops: it holds its greenlet only until that has finished.
"""

from __future__ import annotations

from collections.abc import Callable

from locust import User, task
from locust.exception import StopUser

from harness.load import schedule
from harness.load.closed_flow import ClosedFlow
from harness.load.open_flow import OpenFlow
from harness.load.order import Order
from harness.load.stage import Stage


class ClosedUser(User):  # type: ignore[misc]  # Locust ships no types
    """A Locust user that runs one ClosedFlow."""

    abstract = True
    stage: Stage
    numbers: Callable[[], int]
    offsets: list[float]  # of every user of all workers, by number

    @task  # type: ignore[untyped-decorator]
    def drive(self) -> None:
        stage, number = self.stage, type(self).numbers()
        flow = ClosedFlow(stage, number)
        stage.go.wait()
        flow.run(stage.recorder.origin + self.offsets[number])
        raise StopUser


class OpenUser(User):  # type: ignore[misc]
    """The one Locust user that sends a whole open schedule."""

    abstract = True
    stage: Stage

    @task  # type: ignore[untyped-decorator]
    def drive(self) -> None:
        flow = OpenFlow(self.stage)
        self.stage.go.wait()
        flow.run(self.stage.recorder.origin)
        raise StopUser


def user_class(stage: Stage) -> type[User]:
    """The Locust user that the order's arrival model needs, bound to its stage."""
    scenario, order = stage.order.scenario, stage.order
    if scenario.arrivals == "closed":
        offsets = schedule.stagger(int(order.level), scenario.wait_s).tolist()
        own = {"stage": stage, "numbers": iter(order.users).__next__, "offsets": offsets}
        return type("Closed", (ClosedUser,), own)
    return type("Open", (OpenUser,), {"stage": stage})


def user_count(order: Order) -> int:
    return len(order.users) if order.scenario.arrivals == "closed" else 1
