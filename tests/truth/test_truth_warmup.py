"""PROOFS T9: the warm-up is found by test, and what is never steady is flagged. Simulated seconds, seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.warmup import Steadiness, steadiness

Told = Callable[[str], None]
Floats = NDArray[np.float64]
TIMES = 300

pytestmark = pytest.mark.slow


def many(shape: Callable[[Floats], Floats], seconds: int, noise: float, seed: int) -> list[Steadiness]:
    """So many Trials whose throughput has this shape over the seconds, and this noise."""
    rng, at = np.random.default_rng([seed, seconds, round(noise * 1000)]), np.arange(float(seconds))
    return [steadiness((1000 * shape(at) * (1 + rng.normal(0, noise, seconds))).tolist()) for _ in range(TIMES)]


def share(found: list[Steadiness], holds: Callable[[Steadiness], bool]) -> float:
    return sum(map(holds, found)) / len(found)


@pytest.mark.parametrize("seconds", [20, 30, 60])
@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_a_server_that_doubles_its_speed_after_8_s(seconds: int, noise: float, told: Told) -> None:
    found = many(lambda at: np.where(at < 8, 0.5, 1.0), seconds, noise, 1)
    right = share(found, lambda one: one.warm_s is not None and 7 <= one.warm_s <= 9)
    steady = share(found, lambda one: one.steady is True)
    told(f"doubles after 8 of {seconds} s, {noise:.0%} noise: found at 8 ± 1 s {right:.1%}, then steady {steady:.1%}")
    assert right >= 0.95
    assert steady >= 0.95


@pytest.mark.parametrize("seconds", [20, 30, 60])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("slows by 20 %", lambda at: 1 - 0.2 * at / len(at)),
        ("slows to half", lambda at: 1 - 0.5 * at / len(at)),
        ("oscillates by ± 20 % every 6 s", lambda at: 1 + 0.2 * np.sin(2 * np.pi * at / 6)),
        ("3 s fast, 3 s slow, ± 20 %", lambda at: 1 + 0.2 * np.sign(np.sin(2 * np.pi * (at + 0.5) / 6))),
        ("10 % slower from two thirds on", lambda at: 1 - 0.1 * (at > len(at) * 2 / 3)),
    ],
)
def test_one_that_is_never_steady_is_flagged(
    name: str, shape: Callable[[Floats], Floats], seconds: int, told: Told
) -> None:
    found = many(shape, seconds, 0.03, 2)
    flagged = share(found, lambda one: one.steady is False)
    told(f"{name}, {seconds} s, 3 % noise: flagged {flagged:.1%}")
    assert flagged >= 0.90


@pytest.mark.parametrize("seconds", [20, 60])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
def test_a_steady_one_is_seldom_flagged(seconds: int, noise: float, told: Told) -> None:
    found = many(np.ones_like, seconds, noise, 3)
    flagged = share(found, lambda one: one.steady is not True)
    told(f"steady, {seconds} s, {noise:.0%} noise: flagged {flagged:.1%}")
    assert flagged <= 0.03


def test_seconds_that_remember_each_other_are_seldom_flagged(told: Told) -> None:
    rng, found = np.random.default_rng(4), []
    for _ in range(TIMES):
        noise = rng.normal(0, 0.03, 31)
        found.append(steadiness((1000 * (1 + noise[1:] + 0.5 * noise[:-1])).tolist()))
    flagged = share(found, lambda one: one.steady is not True)
    told(f"steady, 30 s, 3 % noise correlated by 0.4 from one second to the next: flagged {flagged:.1%}")
    assert flagged <= 0.05
