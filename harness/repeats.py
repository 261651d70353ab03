"""How many blocks a run needs. In: what precision is wanted, within what time, and the blocks so far. Out: a Decision.

The rule is `harness.paired.enough`: it looks at the width of intervals, never at what they say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.blocks import series_of, together, values_of
from harness.paired import Decision, enough
from harness.recording import Recording
from harness.trial import TWIN


@dataclass(frozen=True)
class Auto:
    """`--repeats auto`. precision: a share (0.03: ± 3 %). budget_s: of the whole run, resumed ones too."""

    precision: float
    budget_s: float


class Blocks:
    """What a run has measured so far, as far as it decides whether to go on. Keeps values, not Recordings."""

    def __init__(self, wanted: Auto) -> None:
        self._wanted = wanted
        self._values = together(())
        self._open: list[Recording] = []

    def add(self, recordings: Iterable[Recording]) -> None:
        self._open += recordings

    def decision(self, spent_s: float, failed: Collection[str] = ()) -> Decision:
        """Asked after a block. failed: variants that were abandoned, for whom no more blocks will come."""
        if self._open:
            self._values = together((self._values, values_of(self._open)))
            self._open = []
        gone = {*failed, *(f"{name}{TWIN}" for name in failed)}
        left = {
            key: {name: one for name, one in variants.items() if name not in gone}
            for key, variants in self._values.items()
        }
        return enough(
            series_of(left), precision=self._wanted.precision, spent_s=spent_s, budget_s=self._wanted.budget_s
        )
