"""Changes of level: where they are found, and where there are none. Error rates: tests/truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.changes import LEAST, change_points, critical


def stairs(*levels: float, each: int = 20, spread: float = 0.01) -> list[float]:
    """Levels of so many values each, with small noise whose order is fixed."""
    noise = np.random.default_rng(2).normal(0, spread, len(levels) * each)
    return [float(value) for value in np.repeat(levels, each) + noise]


@pytest.mark.parametrize(
    ("levels", "wanted"),
    [((1.0,), []), ((1.0, 2.0), [20]), ((1.0, 2.0, 3.0), [20, 40]), ((1.0, 2.0, 1.0), [20, 40]), ((5.0, 4.9), [20])],
)
def test_each_new_level_is_found_where_it_begins(levels: tuple[float, ...], wanted: list[int]) -> None:
    assert change_points(stairs(*levels)) == wanted


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 50, [1.0, 2.0] * LEAST, [1.0] * 59 + [1e9], [1e9, *[1.0] * 59]])
def test_there_is_none(values: list[float]) -> None:
    assert change_points(values) == []


def test_a_few_wild_values_hide_nothing_and_are_none_themselves() -> None:
    values = stairs(1.0, 2.0, each=30)
    values[10], values[45] = 1e6, -1e6
    assert change_points(values) == [30]


def test_the_critical_value_is_a_quantile_of_what_chance_does() -> None:
    assert critical(60, 0.05) < critical(60, 0.005) < critical(60, 0.0005)
    assert critical(20, 0.01) < critical(200, 0.01)
    assert critical(60, 0.005) == critical(60, 0.005)
    assert critical(1_000, 0.005) < critical(100_000, 0.005) < 6
    assert critical(60, 0.01) < critical(60, 0.01, bumps=True) < critical(400, 0.01, bumps=True)


@given(st.lists(st.floats(-1e6, 1e6), max_size=40), st.floats(0.1, 10), st.floats(-100, 100))
@settings(max_examples=60, deadline=None)
def test_only_the_order_of_the_values_counts(values: list[float], scale: float, shift: float) -> None:
    rounded = [round(value) for value in values]
    assert change_points(rounded) == change_points([float(value) ** 3 for value in rounded])
    assert all(LEAST <= at <= len(values) - LEAST for at in change_points(rounded))
