"""Was it steady? In: a Run and its Summaries. Out: for each load, when servers were warm and which were not steady."""

from __future__ import annotations

from collections.abc import Iterable

from harness.recording import Run
from harness.report.drawing import trials_of
from harness.report.words import facets, few, listed
from harness.stats import Summary
from harness.warmup import over_trials

Load = tuple[str, float, str]  # scenario, level, lens


def steady(run: Run, summaries: Iterable[Summary]) -> dict[Load, str]:
    """A sentence a load, of whole calls in cells that are not VOID."""
    told: dict[Load, list[str]] = {}
    for rows in facets(summaries):
        found = {row.variant: over_trials(trials_of(run, row), row.endpoint) for row in rows}
        able = {name: one for name, one in found.items() if one.told}
        sentences = told.setdefault((rows[0].scenario, rows[0].level, rows[0].lens), [])
        if not able:
            sentences.append(f"Not told: {next(iter(found.values())).sentence}.")
            continue
        calm = [name for name, one in able.items() if not one.unsteady]
        warm_s = max((one.warm_s or 0 for one in able.values()), default=0)
        begun = f"from second {warm_s} on" if warm_s else "from the start"
        said = [f"{listed(calm)} steady {begun}"] if calm else []
        said += few([f"{name} {one.sentence}" for name, one in able.items() if one.unsteady])
        sentences.append(f"{'; '.join(said)}.")
    return {load: " ".join(dict.fromkeys(sentences)) for load, sentences in told.items()}
