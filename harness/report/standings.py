"""Who comes where in each cell, in groups with ties. In: a Run and its Summaries. Out: a Standing a facet.

Variants of one facet met the same schedule in the same blocks, so they are compared by paired blocks, with Holm's
correction over all pairs (`harness.ranking`). Two that share a letter could not be told apart; where something shared
limits several, their order says nothing. Twins (`--aa`) are no contestants: they tell what noise is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from harness.blocks import Cell, Measured, Values, floors_of, noise_of, twins_of, usable, values_of
from harness.evidence import Evidence, evidence
from harness.paired import FASTER, SLOWER, Claim, Ratio
from harness.physics import SERVED, served
from harness.ranking import Place, Ranking, ranking
from harness.recording import Run
from harness.report.words import TIMES, TO, facets, interval, is_primary, listed, lost, number
from harness.shared import Shared, shared_limit
from harness.stats import Summary
from harness.trial import is_twin

METRICS = ("throughput_rps", "p99_ms")
WORDS = {"throughput_rps": "requests/s", "p50_ms": "p50", "p99_ms": "p99"}
NEAR_ONE = 1.1  # of a ratio
Load = tuple[str, float, str]  # scenario, level, lens


@dataclass(frozen=True)
class Standing:
    """One facet's ranking by one metric. silent: those of whom nothing may be claimed, too few repeats or samples."""

    metric: str
    rows: Mapping[str, Summary]
    ranking: Ranking
    silent: tuple[str, ...] = ()
    shared: Shared | None = None
    floor: float = 0.0

    @property
    def places(self) -> Sequence[Place]:
        return self.ranking.places

    @property
    def best(self) -> str | None:
        return self.places[0].name if self.places else None

    @cached_property
    def level(self) -> list[str]:
        """The best, and those that cannot be told from it."""
        return [place.name for place in self.places if not self._beaten(place.name)]

    def _beaten(self, name: str) -> bool:
        claim = self.claim(self.best or "", name)
        return claim is not None and claim.verdict in (FASTER, SLOWER)

    @property
    def behind(self) -> list[str]:
        return [place.name for place in self.places if place.name not in self.level]

    @property
    def paced(self) -> bool:
        """Whether what is shared keeps the best from being told from those beside it."""
        return self.shared is not None and len(self.level) > 1 and {*self.level} <= self.shared.names

    def claim(self, one: str, other: str) -> Claim | None:
        """Of the later in the order of places against the earlier."""
        return self.ranking.claims.get((one, other)) or self.ranking.claims.get((other, one))

    def lead(self, name: str) -> str:
        """How many times better the best is, with the bounds at which Holm's correction tested it."""
        claim = self.claim(self.best or "", name)
        if claim is None or claim.ratio.ratio is None:
            return "n/a"
        centre, low, high = _times_better(claim.ratio, higher_is_better=self.metric == "throughput_rps")
        if low is not None and high is not None and low < NEAR_ONE:  # where the third digit decides
            return f"by {centre:.3f} {TIMES} [{low:.3f}{TO}{high:.3f}]"
        return f"by {number(centre)} {TIMES} {interval(low, high)}"

    def value(self, name: str) -> str:
        """The cell's own number, with its interval."""
        row = self.rows[name]
        if self.metric == "throughput_rps":
            return f"{number(row.throughput_rps)}/s {interval(row.throughput_low_rps, row.throughput_high_rps)}"
        return f"{number(row.p99_ms)} ms {interval(row.p99_low_ms, row.p99_high_ms)}"


def _times_better(ratio: Ratio, *, higher_is_better: bool) -> tuple[float, float | None, float | None]:
    """ratio: worse ÷ better of a throughput, or of a time, where more is worse."""
    centre, low, high = ratio.ratio or 1.0, ratio.low, ratio.high
    if not higher_is_better:
        return centre, low, high
    return 1 / centre, 1 / high if high else None, 1 / low if low else None


class Noise(NamedTuple):
    """How far apart identical servers were in this run, by metric, as shares; of whom it was measured."""

    twins: tuple[str, ...]
    shares: Mapping[str, float]

    def __str__(self) -> str:
        told = [f"{100 * share:.2g} % in {WORDS[metric]}" for metric, share in self.shares.items()]
        return (
            f"Identical servers ({listed(self.twins)}, measured twice in each block) differed by up to "
            f"{' and '.join(told)}: no smaller difference is called one."
            if told
            else ""
        )


@dataclass(frozen=True)
class Standings:
    """All of a Run. Ask it with a facet's rows."""

    values: Values
    floors: Mapping[tuple[Cell, str], float]
    evidence: Mapping[Load, Mapping[str, Sequence[Evidence]]]
    noise: Noise

    def of(self, rows: Sequence[Summary], among: Callable[[Summary], bool] = lambda _: True) -> Standing:
        """Rows of one facet that are not VOID. Wholes of a closed load by throughput, all else by p99.

        among: who takes part; under an open load those that served what was offered.
        """
        first = rows[0]
        by_rate = first.arrivals == "closed" and is_primary(first.endpoint)
        metric = "throughput_rps" if by_rate else "p99_ms"
        found = {row.variant: row for row in rows if not is_twin(row.variant) and among(row)}
        key = next((one for one in self.values if one[1] == metric and _is_cell(one[0], first)), None)
        measured = self.values[key] if key else {}
        able = {name: one.blocks for name in found if (one := _enough(measured.get(name), by_rate, found[name]))}
        trials = self.evidence.get((first.scenario, first.level, first.lens), {})
        alike = shared_limit({name: trials[name] for name in able if name in trials}) if by_rate else None
        floor = self.floors[key] if key else 0.0
        ranked = ranking(able, higher_is_better=by_rate, floor=floor, tied=alike.names if alike else ())
        silent = tuple(name for name in found if name not in able)
        return Standing(metric, found, ranked, silent, alike, floor)


def _is_cell(cell: Cell, row: Summary) -> bool:
    wanted = (row.scenario, row.arrivals, row.level, row.lens, row.endpoint)
    return cell == wanted


def _enough(measured: Measured | None, by_rate: bool, row: Summary) -> Measured | None:
    """Two blocks at least, and a number in the table."""
    shown = row.throughput_rps if by_rate else row.p99_ms
    enough = measured is not None and shown is not None and sum(value > 0 for value in measured.blocks.values()) > 1
    return measured if enough else None


def standings(run: Run) -> Standings:
    values = values_of(run.recordings, METRICS, parts=True)
    found: dict[Load, dict[str, list[Evidence]]] = {}
    for one in usable(run.recordings):
        trial = one.trial
        cell = found.setdefault((trial.scenario.name, trial.level, trial.lens), {})
        if not is_twin(trial.variant):
            cell.setdefault(trial.variant, []).append(evidence(one))
    noise = Noise(tuple(twins_of(values)), noise_of(values))
    return Standings(values, floors_of(values), found, noise)


# -- who takes part under an open load ---------------------------------------------------------------------------------


def kept_up(standings: Standings) -> Callable[[Summary], bool]:
    """Whether an open cell served what was offered: the rule of harness.physics, for most of its usable Trials."""

    def kept(row: Summary) -> bool:
        trials = standings.evidence.get((row.scenario, row.level, row.lens), {}).get(row.variant)
        return served_all(row) if not trials else 2 * sum(map(served, trials)) > len(trials)

    return kept


def served_all(row: Summary) -> bool:
    """The same of a Summary alone, which does not know the edges of its windows."""
    return (row.throughput_rps or 0.0) >= SERVED * row.offered_rps and lost(row) < (1 - SERVED) * row.offered


# -- as rows of a table ------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """One contestant: group letters, ranks that cannot be excluded, its number, and the best's lead over it."""

    letters: str
    variant: str
    ranks: str
    value: str
    lead: str
    blocks: int


def lines(standing: Standing) -> list[Line]:
    return [
        Line(
            place.letters,
            place.name,
            f"{place.best}" if place.best == place.worst else f"{place.best}–{place.worst}",
            standing.value(place.name),
            _against_the_best(standing, place.name),
            place.blocks,
        )
        for place in standing.places
    ]


def _against_the_best(standing: Standing, name: str) -> str:
    claim = standing.claim(standing.best or "", name) if name != standing.best else None
    if claim is None:
        return ""
    return standing.lead(name).removeprefix("by ") if claim.verdict in (FASTER, SLOWER) else f"~ {claim.reason}"


def ranked_facets(summaries: Iterable[Summary], found: Standings) -> list[tuple[list[Summary], Standing]]:
    """Every facet of whole calls with at least two contestants, and its ranking."""
    keeps = kept_up(found)
    told = []
    for rows in facets(summaries):
        among = (lambda _: True) if rows[0].arrivals == "closed" else keeps
        standing = found.of(rows, among)
        if len(standing.places) > 1:
            told.append((rows, standing))
    return told
