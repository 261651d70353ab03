"""Who comes where, with ties. In: each variant's value block by block. Out: a Place each, best first, with letters.

Variants that share a letter could not be told apart. The letters are a compact display of all pairwise verdicts, made
by insert-and-absorb (Piepho, J. Comput. Graph. Statist. 13, 2004); pairs are compared by paired blocks, and Holm's
correction runs over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np

from harness.intervals import CONFIDENCE
from harness.paired import BAND, FASTER, SLOWER, UNKNOWN, Claim, claims, paired

SHARED = "something shared limits both"


class Place(NamedTuple):
    """One variant's place. best, worst: ranks that cannot be excluded. centre: the geometric mean of its own blocks."""

    name: str
    centre: float | None
    letters: str
    best: int
    worst: int
    blocks: int


def letters(order: Sequence[str], different: Collection[frozenset[str]]) -> dict[str, str]:
    """Each name's letters: two names share none exactly when they are different. The first name has an "a".

    Insert: every different pair splits each group that holds both into one without the one and one without the other.
    Absorb: a group inside another says nothing, and goes.
    """
    groups: list[frozenset[str]] = [frozenset(order)]
    for first, second in combinations(order, 2):
        pair = frozenset((first, second))
        if pair not in different:
            continue
        both = [group for group in groups if pair <= group]
        groups = [group for group in groups if not pair <= group]
        for group in (part for whole in both for part in (whole - {second}, whole - {first})):
            if not any(group <= other for other in groups):
                groups = [other for other in groups if not other < group] + [group]
    rank = {name: index for index, name in enumerate(order)}
    groups.sort(key=lambda group: sorted(rank[name] for name in group))
    return {name: "".join(_letter(at) for at, group in enumerate(groups) if name in group) for name in order}


def _letter(index: int) -> str:
    """a … z, then aa', ba' …: a mark for each further turn through the alphabet."""
    return ascii_lowercase[index % 26] + "'" * (index // 26)


def pairwise(
    values: Mapping[str, Mapping[int, float]],
    *,
    higher_is_better: bool,
    band: float = BAND,
    floor: float = 0.0,
    confidence: float = CONFIDENCE,
    tied: Collection[str] = (),
) -> dict[tuple[str, str], Claim]:
    """What may be claimed of the second of each pair against the first; all pairs are one family.

    tied: those that something shared limits, so that nothing may be claimed of one against the other.
    """
    pairs = list(combinations(values, 2))
    found = claims(
        [paired(values[first], values[second]) for first, second in pairs],
        higher_is_better=higher_is_better,
        band=band,
        floors=[floor] * len(pairs),
        confidence=confidence,
    )
    return {
        pair: claim._replace(verdict=UNKNOWN, reason=SHARED) if {*pair} <= {*tied} else claim
        for pair, claim in zip(pairs, found, strict=True)
    }


class Ranking(NamedTuple):
    """places: the best first. claims: of the second of each pair, in the order of places, against the first."""

    places: list[Place]
    claims: dict[tuple[str, str], Claim]


def ranking(
    values: Mapping[str, Mapping[int, float]],
    *,
    higher_is_better: bool,
    band: float = BAND,
    floor: float = 0.0,
    confidence: float = CONFIDENCE,
    tied: Collection[str] = (),
) -> Ranking:
    """values: name → block → value. floor: what `noise_floor` says of the same session. tied: see `pairwise`."""
    centres = {name: _centre(each.values()) for name, each in values.items()}
    worst = -math.inf if higher_is_better else math.inf

    def key(name: str) -> tuple[float, str]:
        centre = centres[name]
        centre = worst if centre is None else centre
        return (-centre if higher_is_better else centre, name)

    order = sorted(values, key=key)
    told = pairwise(
        {name: values[name] for name in order},
        higher_is_better=higher_is_better,
        band=band,
        floor=floor,
        confidence=confidence,
        tied=tied,
    )
    beaten = dict.fromkeys(order, 0)
    beats = dict.fromkeys(order, 0)
    for (first, second), claim in told.items():
        if claim.verdict in (FASTER, SLOWER):
            better, worse = (second, first) if claim.verdict == FASTER else (first, second)
            beats[better] += 1
            beaten[worse] += 1
    shown = letters(order, {frozenset(pair) for pair, claim in told.items() if claim.verdict in (FASTER, SLOWER)})
    places = [
        Place(name, centres[name], shown[name], 1 + beaten[name], len(order) - beats[name], len(values[name]))
        for name in order
    ]
    return Ranking(places, told)


def _centre(values: Collection[float]) -> float | None:
    """The geometric mean, the centre that ratios are about; None where there is no value, or one of 0."""
    some = list(values)
    return float(np.exp(np.mean(np.log(some)))) if some and min(some) > 0 else None


def noise_floor(twins: Sequence[tuple[Mapping[int, float], Mapping[int, float]]]) -> float:
    """How far apart identical variants were in one session, as a logarithm: the largest of their mean log ratios."""
    return max((abs(paired(first, second).mean or 0.0) for first, second in twins), default=0.0)
