"""The report: one HTML file that needs nothing else. In: a Run. Out: the page, byte for byte the same for the same Run.

Pure but for `write`: no clock, no random ids, no paths. All text from outside is hostile: templates escape it, figures
are data (JSON in blocks that no browser runs), and the policy lets the page's own two scripts run, and nothing load.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError

from harness.capacity.told import is_probe
from harness.certificate import Certificate
from harness.lenses import the_one_of
from harness.physics import VOID
from harness.recording import Run, write_whole
from harness.report import capacity_section, words
from harness.report.answers import NO_CLAIM, answers, holes
from harness.report.capacity_section import capacity_answers
from harness.report.charts import CHARTS, as_json, figures, plotly_js
from harness.report.drawing import THEME, looks
from harness.report.standings import standings
from harness.report.steady import steady
from harness.report.words import MOST_NAMED, MOUNT, setting
from harness.stats import Summary, summarise
from harness.trial import is_twin

TEMPLATES = Path(__file__).parent / "templates"
# What the manifest says elsewhere on the page.
TOLD = {"auto", "capacity", "certificate", "command", "cpus", "facts", "failures", "holes", "lens", "measured_share"}
TOLD |= {"notes", "outcome", "reason", "scenarios", "variants"}


def write(run: Run, path: Path | None = None) -> Path:
    """Writes the page, by default as the run's `report.html`."""
    path = path or run.folder / "report.html"
    write_whole(path, render(run, plotly_js()).encode())
    return path


def templates() -> Environment:
    """Of every page: what comes from servers and files is escaped, and a name that is not given is an error."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(run: Run, plotly_js: str) -> str:
    """The page, with the given source of plotly.js inside. Raises UsageError where lenses are mixed."""
    the_one_of(one.trial.lens for one in run.recordings)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    summaries = summarise(run.recordings)
    found = standings(run)
    environment = templates()
    environment.globals |= {
        name: getattr(words, name) for name in ("given", "interval", "is_primary", "load", "lost", "number", "quantile")
    }
    environment.filters["marked"] = partial(_marked, names=looks(run).keys())
    return environment.get_template("report.html").render(
        title=run.folder.name or "run",
        answers=[*capacity_answers(run), *answers(run, summaries, found)],
        capacity=capacity_section.tables(run),
        noise=str(found.noise),
        auto=_auto(run),
        steady=steady(run, summaries),
        banners=_banners(run, [row for row in summaries if not is_probe(row.scenario)]),
        verdicts=_verdicts(summaries),
        charts=_charts(run),
        mount=MOUNT if words.frameworks(run) else "",
        sections=words.sections(summaries),
        looks=looks(run),
        holes=_left_out(run),
        subjects=words.subjects(run),
        differences=words.differences(words.asked_for(words.subjects(run))),
        budgets=_budgets(run),
        questions={one.trial.scenario.name: one.trial.scenario for one in run.recordings},
        problems=_problems(run),
        errors=_errors(run),
        notes=_notes(run),
        machine=_machine(run),
        certificate=_certificate(run),
        about=_tree({key: value for key, value in run.manifest.items() if key not in TOLD}),
        when=_when(run),
        share=_share(run),
        command=_command(run),
        plotly_js=plotly_js,
        script=script,
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        theme=embedded(json.dumps(THEME)),
        hashes=" ".join(hash_of(source) for source in (plotly_js, script)),
    )


def _marked(text: str, names: Collection[str]) -> Markup:
    """A sentence, with the variants' names emphasised, and no line broken inside a name or an interval."""
    alternatives = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    parts = re.split(rf"(?<![\w./-])({alternatives})(?![\w/-])|(\[[^\[\]\s]*\]|\S+/s)", text) if names else [text]
    marks = (Markup("{}"), Markup("<b class=name>{}</b>"), Markup("<span class=keep>{}</span>"))
    return Markup().join(marks[i % 3].format(part) for i, part in enumerate(parts) if part)


def hash_of(script: str) -> str:
    """A script's name in the content-security policy (CSP level 3, §8.3)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def embedded(text: str) -> str:
    """JSON that cannot leave its script element, whatever it says."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _charts(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "chart": CHARTS[name],
            "names": list(panels),
            "height": max(figure.layout.height for figure in panels.values()),
            "data": embedded(f"[{','.join(as_json(figure) for figure in panels.values())}]"),
        }
        for name, panels in figures(run).items()
    ]


# -- what must be read before any number -----------------------------------------------------------------------------


def _banners(run: Run, summaries: list[Summary]) -> list[str]:
    outcome = run.manifest.get("outcome", "complete")
    reason = f" {run.manifest['reason']}" if run.manifest.get("reason") else ""
    return [
        *[f"PARTIAL: this run did not end as planned ({outcome}).{reason}"] * (outcome != "complete"),
        *["Nothing was recorded."] * (not run.recordings),
        *[NO_CLAIM] * (0 < max((row.repeats for row in summaries), default=0) < 2),
        *["Measured on machines that differ; comparing them is unsafe: see the machine."]
        * bool(_machine(run)["differing"]),
    ]


def _verdicts(summaries: Iterable[Summary]) -> list[tuple[str, int]]:
    counted = Counter(row.verdict for row in summaries if words.is_primary(row.endpoint) and not is_twin(row.variant))
    return [(name, counted[name]) for name in ("VALID", "SUSPECT", VOID) if counted[name]]


def _problems(run: Run) -> list[str]:
    """Without the folder's path: the page is the same wherever the run lies."""
    unreadable = [problem.replace(f"{run.folder}/", "") for problem in run.problems]
    broken = [
        f"{one.trial.key}: {one.end.outcome}" + (f": {one.end.reason}" if one.end.reason else "")
        for one in run.recordings
        if one.end.outcome != "complete"
    ]
    budgets = {(one.trial.variant, json.dumps(dict(one.head.subject.budget), sort_keys=True)) for one in run.recordings}
    changed = [name for name, count in sorted(Counter(name for name, _ in budgets).items()) if count > 1]
    failures = run.manifest.get("failures")
    abandoned = [f"{name}: {why}" for name, why in failures.items()] if isinstance(failures, dict) else []
    return (
        abandoned + unreadable + broken + [f"{name} was measured with different budgets in one run" for name in changed]
    )


def _errors(run: Run) -> list[tuple[str, str, str, int]]:
    """(scenario, variant, kind, how often), over all trials."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for one in run.recordings:
        for kind, count in one.end.errors.items():
            counted[one.trial.scenario.name, one.trial.variant, kind] += count
    return [(*key, count) for key, count in sorted(counted.items())]


def _notes(run: Run) -> list[str]:
    """Each once, and in how many trials it was made."""
    given = run.manifest.get("notes") or []
    counted = Counter(note for one in run.recordings for note in one.end.notes)
    own = [str(note) for note in (given if isinstance(given, list) else [given])]
    return own + [f"{note} ({count} of {len(run.recordings)} trials)" for note, count in sorted(counted.items())]


# -- what it was measured with ---------------------------------------------------------------------------------------


def _budgets(run: Run) -> dict[str, Any]:
    """A row a variant and a column a limit; those that differ are marked, for they are part of every comparison."""
    asked = words.asked_for(words.subjects(run))
    keys = list(dict.fromkeys(key for subject in asked.values() for key in subject.budget))
    facts = ("family", "interface", "server", "framework")
    columns = [(fact, [getattr(subject, fact) for subject in asked.values()]) for fact in facts]
    columns += [(key, [setting(subject.budget.get(key, "")) for subject in asked.values()]) for key in keys]
    return {
        "heads": [(key, len(set(values)) > 1) for key, values in columns],
        "rows": list(zip(asked, zip(*(values for _, values in columns), strict=True), strict=True)) if asked else [],
        "commands": [(name, shlex.join(subject.command)) for name, subject in asked.items() if subject.command],
    }


def _left_out(run: Run) -> list[tuple[str, str, str]]:
    """(variant, endpoints, why): endpoints of one reason together, all of them in a word."""
    told = []
    for variant, reasons in holes(run).items():
        endpoints: dict[str, list[str]] = {}
        for endpoint, reason in reasons.items():
            endpoints.setdefault(reason, []).append(endpoint)
        whole = len(endpoints) == 1 and len(reasons) > MOST_NAMED
        told += [(variant, "all" if whole else ", ".join(names), reason) for reason, names in endpoints.items()]
    return told


def _machine(run: Run) -> dict[str, Any]:
    """The facts of the first trial, and the names of those that were not the same in all."""
    if not run.recordings:
        return {"facts": [], "differing": []}
    trees = [_tree(one.head.facts) for one in run.recordings]
    changed = {path for tree in trees for path, value in set(tree) ^ set(trees[0])}
    return {"facts": trees[0], "differing": sorted(changed)}


def _certificate(run: Run) -> Certificate | None:
    """What the instrument had proved of itself before this run; None where it had not, or where that can't be read."""
    try:
        return Certificate.model_validate(run.manifest.get("certificate"))
    except ValidationError:
        return None


def _tree(value: object, path: str = "") -> list[tuple[str, str]]:
    """Any nested data as (path, value), in its own order."""
    if isinstance(value, Mapping) and value:
        return [pair for key, item in value.items() for pair in _tree(item, f"{path} {key}".strip())]
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping | list) for item in value):
        return [pair for i, item in enumerate(value, 1) for pair in _tree(item, f"{path} {i}".strip())]
    if isinstance(value, list | tuple):
        return [(path, ", ".join(str(item) for item in value))]
    return [(path, setting(value))] if path else []


def _when(run: Run) -> str:
    starts = sorted(one.head.started_at for one in run.recordings)
    return f"{starts[0]} to {starts[-1]}" if starts else ""


def _share(run: Run) -> str:
    share = run.manifest.get("measured_share")
    return f"{share:.0%}" if isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1 else ""


def _auto(run: Run) -> str:
    """Why a run of `--repeats auto` ended when it did."""
    auto = run.manifest.get("auto")
    return str(auto.get("reason", "")) if isinstance(auto, dict) else ""


def _command(run: Run) -> str:
    command = run.manifest.get("command", "")
    return shlex.join(map(str, command)) if isinstance(command, list | tuple) else str(command)
