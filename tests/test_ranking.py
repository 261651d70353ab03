"""Letters and places: the known answers of insert-and-absorb, properties, and rankings of made-up servers."""

from __future__ import annotations

import math
import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.paired import FASTER, SAME, UNKNOWN
from harness.ranking import letters, noise_floor, pairwise, ranking

Pairs = set[frozenset[str]]


def pairs(*both: str) -> Pairs:
    return {frozenset(two) for two in both}


@pytest.mark.parametrize(
    ("order", "different", "wanted"),
    [
        ("", (), ""),
        ("A", (), "a"),
        ("AB", (), "a a"),
        ("AB", ("AB",), "a b"),
        ("ABC", ("AC",), "a ab b"),
        ("ABC", ("AB", "AC", "BC"), "a b c"),
        ("ABCD", ("AC", "AD", "BD"), "a ab bc c"),
        ("ABCD", ("AD", "BD", "CD"), "a a a b"),
        # not in one line: B differs from C, and A from neither
        ("ABC", ("BC",), "ab a b"),
        ("ABCDE", ("AD", "AE", "BE"), "a ab abc bc c"),
    ],
)
def test_letters(order: str, different: tuple[str, ...], wanted: str) -> None:
    assert " ".join(letters(order, pairs(*different)).values()) == wanted


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.sampled_from([*combinations(range(8), 2)]))))
)
@settings(max_examples=300)
def test_two_share_a_letter_exactly_when_they_are_not_different(given_: tuple[int, set[tuple[int, int]]]) -> None:
    n, chosen = given_
    order = [f"v{index}" for index in range(n)]
    different = {frozenset((order[i], order[j])) for i, j in chosen if j < n}
    found = letters(order, different)
    assert all(found.values())
    assert "a" in found[order[0]]
    for one, two in combinations(order, 2):
        assert bool(set(found[one]) & set(found[two])) == (frozenset((one, two)) not in different)
    used = sorted({letter for each in found.values() for letter in each})
    assert used == [chr(ord("a") + index) for index in range(len(used))]
    members = [{name for name in order if letter in found[name]} for letter in used]
    assert not any(one < two for one in members for two in members), "no letter says what another says better"


def test_many_variants_take_no_time() -> None:
    rng = np.random.default_rng(1)
    at = np.sort(rng.uniform(0, 10, 60))
    order = [f"v{index}" for index in range(60)]
    different = {frozenset((order[i], order[j])) for i, j in combinations(range(60), 2) if at[j] - at[i] > 1.5}
    begin = time.process_time()
    found = letters(order, different)
    assert time.process_time() - begin < 2
    assert found[order[0]] == "a"
    assert (
        letters([str(n) for n in range(30)], {frozenset((str(i), str(j))) for i, j in combinations(range(30), 2)})["27"]
        == "b'"
    )


def made(centre: float, spread: float = 0.0, n: int = 8) -> dict[int, float]:
    return {block: centre * math.exp(spread * (1 if block % 2 else -1)) for block in range(n)}


def test_a_ranking_has_groups_and_no_bare_order() -> None:
    values = {"slow": made(100), "fast": made(200, 0.01), "near": made(199, 0.05), "void": {}}
    found = ranking(values, higher_is_better=True).places
    assert [(place.name, place.letters, place.best, place.worst) for place in found] == [
        ("fast", "a", 1, 3),
        ("near", "a", 1, 3),
        ("slow", "b", 3, 4),
        ("void", "ab", 1, 4),
    ]
    assert found[0].centre == pytest.approx(200)
    assert (found[3].centre, found[3].blocks) == (None, 0)


def test_of_latencies_the_lowest_is_best() -> None:
    found = ranking({"slow": made(100), "fast": made(20)}, higher_is_better=False).places
    assert [(place.name, place.letters) for place in found] == [("fast", "a"), ("slow", "b")]


def test_pairwise_is_of_the_second_against_the_first() -> None:
    found = pairwise({"a": made(100), "b": made(120), "c": made(100.5), "d": {0: 90.0}}, higher_is_better=True)
    assert found["a", "b"].verdict == FASTER
    assert found["a", "c"].verdict == SAME
    assert found["a", "d"].verdict == UNKNOWN
    assert len(found) == 6


def test_the_noise_floor_is_the_worst_of_the_identical_pairs() -> None:
    twins = [(made(100), made(101)), (made(50), made(48))]
    assert noise_floor(twins) == pytest.approx(-math.log(0.96))
    assert noise_floor([]) == 0
    assert noise_floor([({}, {})]) == 0


def test_what_is_within_the_noise_floor_shares_a_letter() -> None:
    values = {"fast": made(104), "slow": made(100), "slowest": made(80)}
    assert [place.letters for place in ranking(values, higher_is_better=True).places] == ["a", "b", "c"]
    assert [place.letters for place in ranking(values, higher_is_better=True, floor=0.05).places] == ["a", "a", "b"]


def test_what_something_shared_limits_is_never_told_apart() -> None:
    values = {"a": {0: 99.0, 1: 99.1, 2: 99.0}, "b": {0: 97.0, 1: 97.1, 2: 97.0}, "c": {0: 50.0, 1: 50.1, 2: 50.0}}
    assert [place.letters for place in ranking(values, higher_is_better=True, band=0).places] == ["a", "b", "c"]
    assert [place.letters for place in ranking(values, higher_is_better=True, band=0, tied={"a", "b"}).places] == [
        "a",
        "a",
        "b",
    ]
    claims = pairwise(values, higher_is_better=True, tied={"a", "b"})
    assert (claims["a", "b"].verdict, claims["a", "b"].reason) == (UNKNOWN, "something shared limits both")
