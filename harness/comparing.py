"""What `gatebench compare` answers. In: one Run, two, or more. Out: rows, a table for a pull request, an exit code.

One run: variants against one of them, block by block. Two: each variant against itself. More: the history of each
variant's ratio to a reference, with a chart beside the last run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness import compare, history
from harness.blocks import Values, values_of, without_twins
from harness.errors import NothingUsable, UsageError
from harness.recording import Run
from harness.scenarios import nearest

REGRESSION = 3  # the exit code of DESIGN's command line


@dataclass(frozen=True)
class Answer:
    """rows: for `--json`. told: for people, a row a line. summary: the counts, in a sentence."""

    heads: tuple[str, ...]
    told: tuple[tuple[str, ...], ...]
    summary: str
    rows: list[dict[str, Any]]
    markdown: str
    exit_code: int
    histories: Sequence[history.History] = ()  # of `runs`, for their chart
    runs: Sequence[str] = ()
    notes: tuple[str, ...] = ()  # what a reader must know of them all


def compared(
    runs: Sequence[Run],
    *,
    base: str | None = None,
    new: str | None = None,
    reference: str | None = None,
    tolerance: float = 0.05,
    across_machines: bool = False,
) -> Answer:
    """Raises UsageError for words that do not fit, and where facts differ; NothingUsable where nothing can be told."""
    if len(runs) > 1 and (base or new):
        raise UsageError("--base and --new name variants of one run: give one run only, or leave them out")
    if len(runs) == 1 and reference:
        raise UsageError("--reference is of two runs and more: in one run variants met the same blocks")
    differ: dict[str, None] = {}  # facts; in order, and each once
    for one in runs:
        differ |= dict.fromkeys(compare.check(runs[0].recordings, one.recordings, across_machines=across_machines))
    notes = (f"The runs differ in facts: {'; '.join(differ)}.",) if differ else ()
    values = [values_of(run.recordings) for run in runs]
    if reference is not None:
        _known(reference, values)
    if len(runs) > 2:
        return _noted(_history(runs, values, reference or _common(values), tolerance), notes)
    if len(runs) == 2:
        pairs = compare.of_runs(values[0], values[1], reference)
        notes = (compare.caveat(reference), *notes)
        title = f"{runs[0].folder.name} → {runs[1].folder.name}"
    else:
        pairs, title = _of_one(values[0], base, new)
    return _noted(_differences(compare.differences(pairs, tolerance=tolerance), title, bool(runs[-1].problems)), notes)


def _noted(answer: Answer, notes: tuple[str, ...]) -> Answer:
    below = "".join(f"\n{compare.plain(note)}\n" for note in notes)
    return replace(answer, notes=notes, markdown=answer.markdown + below)


def _of_one(values: Values, base: str | None, new: str | None) -> tuple[list[compare.Pair], str]:
    names = list(dict.fromkeys(name for variants in values.values() for name in variants))
    if base is None:
        raise UsageError(f"one run: name the variant to compare with, --base VARIANT; there are {', '.join(names)}")
    wanted = [name for name in names if name != base] if new is None else new.split(",")
    for name in (base, *wanted):
        _known(name, [values])
    if base in wanted or not wanted:
        raise UsageError(f"--new: other variants than {base}; there are {', '.join(names)}")
    return compare.of_variants(values, base, wanted), f"{base} → {', '.join(wanted)}"


def _known(name: str, values: Sequence[Values]) -> None:
    names = list(dict.fromkeys(one for each in values for variants in each.values() for one in variants))
    if name not in names:
        raise UsageError(f"no usable trial of {name!r:.80}; {nearest(name, names)}")


def _common(values: Sequence[Values]) -> str:
    """The first variant that stands in every run."""
    names = [{name for variants in each.values() for name in without_twins(variants)} for each in values]
    common = sorted(set.intersection(*names))
    if not common:
        raise NothingUsable("no variant stands in every one of these runs, so there is no reference")
    return common[0]


def _differences(found: list[compare.Difference], title: str, damaged: bool) -> Answer:
    if all(row.ratio is None for row in found):
        raise NothingUsable("nothing can be compared: no cell has usable trials on both sides")
    worse = compare.regressions(found)
    lines = tuple(compare.line(row) for row in found)
    code = REGRESSION if worse else UsageError.exit_code if damaged else 0
    return Answer(
        (*compare.HEADS, "why"),
        tuple((*line, row.reason) for line, row in zip(lines, found, strict=True)),
        compare.summary(found),
        compare.rows_of(found),
        compare.markdown(found, title),
        code,
    )


def _history(runs: Sequence[Run], values: Sequence[Values], reference: str, tolerance: float) -> Answer:
    names = _names(runs)
    found = history.histories(list(zip(names, values, strict=True)), reference)
    if not found:
        raise NothingUsable(f"nothing can be followed: no variant stands beside {reference} in two of these runs")
    worse = history.regressions(found, tolerance)
    return Answer(
        history.HEADS,
        tuple(history.line(one) for one in found),
        f"{len(found)} histories over {len(runs)} runs against {reference}; {len(worse)} with a regression.",
        history.rows_of(found, tolerance),
        history.markdown(found, worse),
        REGRESSION if worse else UsageError.exit_code if any(run.problems for run in runs) else 0,
        found,
        names,
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """Each run's, told apart where two folders have one name."""
    names = [run.folder.name or str(run.folder) for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, 1)]
