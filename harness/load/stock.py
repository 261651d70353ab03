"""Stock Locust, to be held against: its own FastHttpUser, as its users write it, for `python -m locust -f`."""

from __future__ import annotations

from locust import FastHttpUser, constant, task


class Stock(FastHttpUser):  # type: ignore[misc]  # Locust ships no types
    """Asks for `/ping` again as soon as it is answered."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator]
    def ping(self) -> None:
        self.client.get("/ping")
