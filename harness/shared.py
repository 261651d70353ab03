"""What limits several variants at once. In: the Evidence of their Trials under one load. Out: a Shared limit, or none.

Pure. Where something shared limits them all, their order says nothing of the servers. SHARED, the table at the end,
holds every such law, one function and one row each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from harness.evidence import Evidence
from harness.physics import NEAR_CEILING, ceilings_of, instrument

ALIKE = 0.95  # of a ceiling that several share
OWN = ("cpu", "database")  # ceilings that follow from what a variant itself costs

Trials = Mapping[str, Sequence[Evidence]]  # variant → its usable Trials under one load


class Shared(NamedTuple):
    """Variants that something shared limits, so that their order says nothing of them."""

    names: frozenset[str]
    limit: str  # in DESIGN's words: client, slots, pool, generator
    sentence: str


def same_ceiling(trials: Trials) -> Shared | None:
    """Users of a closed load, equal slots or equal pools: all within 5 % of the same ceiling."""
    near: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for name, some in trials.items():
        e = sorted(some, key=lambda one: one.throughput_rps)[(len(some) - 1) // 2]
        for ceiling in (one for one in ceilings_of(e)[:1] if e.closed and one.name not in OWN):
            if ALIKE * ceiling.rps <= e.throughput_rps:
                near.setdefault((ceiling.name, ceiling.sentence), []).append((name, e.throughput_rps / ceiling.rps))
    (limit, sentence), most = max(near.items(), key=lambda one: len(one[1]), default=(("", ""), []))
    if len(most) < 2:
        return None
    shares = sorted(share for _, share in most)
    ends = dict.fromkeys(f"{share:.1%}" for share in (shares[0], shares[-1]))
    said = f"{' to '.join(ends)} of {sentence}: it limits them all"
    return Shared(frozenset(name for name, _ in most), limit, said)


def same_generator(trials: Trials) -> Shared | None:
    """Near the instrument's own ceiling it may be the limit of all."""
    names = frozenset(name for name, some in trials.items() if sum(map(bool, map(instrument, some))) * 2 > len(some))
    said = f"above {NEAR_CEILING:.0%} of what the generator itself manages: it may limit them all"
    return Shared(names, "generator", said) if len(names) > 1 else None


SHARED: tuple[Callable[[Trials], Shared | None], ...] = (same_ceiling, same_generator)


def shared_limit(trials: Trials) -> Shared | None:
    """The first law of SHARED that speaks of two variants at least."""
    return next(filter(None, (law(trials) for law in SHARED)), None)
