"""What a terminal shows. In: plans, Summaries, lists. Out: tables on standard output, progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from harness.report.standings import standings
from harness.report.words import (
    Given,
    asked_for,
    differences,
    given,
    holds_connections,
    interval,
    is_primary,
    load,
    number,
    quantile,
    sections,
    subjects,
)
from harness.run import Watcher

if TYPE_CHECKING:
    from harness import audit, comparing
    from harness.certificate import Certificate
    from harness.recording import Run
    from harness.report.answers import Answer
    from harness.stats import Summary
    from harness.trial import Trial

STYLES = {"VALID": "", "SUSPECT": "yellow", "VOID": "red"}
WIDE = 200  # columns: a pipe or a log has no width, and a table that is folded can't be read


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE, highlight=False, soft_wrap=False)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """A plain table; text is shown as it is, never as markup."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    numeric = set(right)
    for head in heads:
        justified: Literal["left", "right"] = "right" if head in numeric else "left"
        shown.add_column(head, justify=justified, overflow="fold", no_wrap=head == "variant")
    for row in rows:
        shown.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    _console().print(shown)


LEFT = ("variant", "row", "95 %", "95 % ", "limited by", "verdict")  # columns of words, not of numbers


def summaries(run: Run, rows: Iterable[Summary]) -> None:
    """A table a load: each number with what its variant was given, its n and interval."""
    asked = subjects(run)
    for cells in sections(rows):
        drawn = [_cells(row, given(asked[row.variant])) for row in cells]
        heads = [head for head in drawn[0] if head not in _of_no_use(cells)]
        _console().print(Text(f"\n{cells[0].scenario} · {load(cells[0])} · {cells[0].lens}", style="bold"))
        table(heads, [[line[head] for head in heads] for line in drawn], right={*heads} - {*LEFT})
    if told := differences(asked_for(asked)):
        _console().print(Text(f"\nNot the same for all: {'; '.join(told)}."), soft_wrap=True)


def _of_no_use(cells: Sequence[Summary]) -> set[str]:
    """The columns that say nothing about these cells."""
    whole = {"row"} if {row.endpoint for row in cells} == {cells[0].scenario.split("/")[-1]} else set()
    return whole if holds_connections(cells) else whole | {"MB", "threads"}


def _cells(row: Summary, budget: Given) -> dict[str, str]:
    return {
        "variant": row.variant,
        "row": row.endpoint if is_primary(row.endpoint) else f"  {row.endpoint}",
        **budget._asdict(),
        "requests/s": number(row.throughput_rps),
        "95 %": interval(row.throughput_low_rps, row.throughput_high_rps),
        "n": number(row.n),
        "p50 ms": quantile(row.p50_ms, 0.5, row.n),
        "p99 ms": quantile(row.p99_ms, 0.99, row.n),
        "95 % ": interval(row.p99_low_ms, row.p99_high_ms) if row.p99_ms is not None else "",
        "MB": number(row.rss_mb),
        "threads": number(row.threads),
        "limited by": row.limited_by,
        "verdict": row.verdict,
    }


def answers(run: Run, rows: Sequence[Summary], sentences: Sequence[Answer]) -> None:
    """A finished run: the tables, then a sentence a question, then what must not be overlooked."""
    summaries(run, rows)
    console = _console()
    for answer in sentences:
        console.print(Text(f"\n{answer.question}", style="bold"))
        for line in (answer.sentence, *answer.parts, answer.limited, *answer.left_out):
            console.print(Text(line), soft_wrap=True)
        if answer.places:
            heads = ("group", "variant", "place", f"{answer.by} [95 %]", "the first is ahead by")
            table(heads, [line[:5] for line in answer.places])
    reserve(run)
    if once := sum(row.repeats == 1 for row in rows):
        which = "these numbers" if once == len(rows) else f"{once} of {len(rows)} cells"
        console.print(Text(f"\nOne repeat: {which} have no interval, so they support no claim.", style="yellow"))
    share = run.manifest.get("measured_share")
    if share:
        print(f"\nunder load {share:.0%} of {duration(run.manifest['wall_s'])}")


def reserve(run: Run) -> None:
    """What noise there was, why a run of `--repeats auto` ended, and where the whole page has more."""
    auto = run.manifest.get("auto")
    for line in (str(standings(run).noise), f"Repeats: {auto['reason']}." if isinstance(auto, dict) else ""):
        if line:
            _console().print(Text(f"\n{line}"), soft_wrap=True)


def comparison(answer: comparing.Answer) -> None:
    """Differences or histories: a row each, and the counts."""
    table(answer.heads, answer.told, right=("base", "new"))
    print(f"\n{answer.summary}")
    for note in answer.notes:
        _console().print(Text(note), soft_wrap=True)


def findings(found: Iterable[audit.Finding]) -> None:
    """An audited table: a sentence a row, and what else was said of it below."""
    styles = {"possible": "", "suspect": "yellow", "impossible": "red"}
    for one in found:
        name = f" {one.name}" if one.name else ""
        law = "" if one.law == "none" else f" ({one.law})"
        line = Text(f"{one.row}{name}: ").append(one.verdict, style=styles[one.verdict]).append(f"{law}: {one.reason}")
        _console().print(line, soft_wrap=True)
        for more in one.also:
            _console().print(Text(f"   also {more}"), soft_wrap=True)


def load_answer(url: str, answer: dict[str, Any]) -> None:
    """What `gatebench load` found out."""
    print(f"{url}: {answer['achieved_rps']:,.1f}/s of {answer['offered_rps']:,.1f}/s offered ({answer['arrivals']})")
    counts = ("offered", "completed", "failed", "timed_out", "unfinished")
    table(counts, [[f"{answer[count]:,}" for count in counts]], right=counts)
    marks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999, "max": 1.0}
    rows = [(kind, answer[f"{kind}_us"]) for kind in ("response", "service", "lateness", "blocked")]
    cells = [
        [kind, *(_mark(times[mark], q, times["n"]) for mark, q in marks.items()), f"{times['n']:,}"]
        for kind, times in rows
        if times["n"]
    ]
    heads = ("ms", "p50", "p90", "p99", "p99.9", "p99.99", "max", "n")
    table(heads, cells, right=heads[1:])
    _histogram(answer["response_histogram_us"])
    for kind, count in answer["errors"].items():
        print(f"{count:,} × {kind}")
    if answer["outcome"] == "interrupted":
        print("interrupted: these are the whole seconds until then")
    print(f"{answer['verdict']}: limited by {answer['limited_by']}: {answer['reason']}")


def _mark(value_us: int | None, q: float, n: int) -> str:
    return f"{value_us / 1000:,.3f}" if value_us is not None else quantile(None, q, n)


def _histogram(bars: Sequence[tuple[int, int]]) -> None:
    """Response times as bars; any that is not empty is at least a dot."""
    most = max((samples for _, samples in bars), default=0)
    rows = [
        [f"≤ {upto / 1000:g}", "█" * round(40 * samples / most) or "·" * (samples > 0), f"{samples:,}"]
        for upto, samples in bars
    ]
    if rows:
        table(("response, ms", "", "n"), rows, right=("response, ms", "n"))


def certificate(made: Certificate) -> None:
    """The instrument's two ceilings and every check; for each that failed, what to do."""
    beside = f"; wrk beside it: {number(made.wrk_rps)}/s" if made.wrk_rps else ""
    print(f"closed ceiling {number(made.closed_ceiling_rps)}/s{beside}; open ceiling {number(made.open_ceiling_rps)}/s")
    rows = [
        ["ok" if one.ok else "!!", one.name, one.expected, number(one.measured), one.unit, "twice" * (one.tries > 1)]
        for one in made.checks
    ]
    table(("", "what", "expected", "measured", "unit", "asked"), rows, right=("measured",))
    for one in made.checks:
        if not one.ok:
            print(f"{one.name}: {one.remedy}")


def catalogue(what: str, rows: Sequence[dict[str, Any]]) -> None:
    """What there is, for people; `--json` has all of it."""
    match what:
        case "variants":
            _variants(rows)
        case "endpoints":
            table(
                ("endpoint", "parameters", "does"),
                [(f"{row['method']} {row['path']}", _parameters(row), row["does"]) for row in rows],
            )
        case _:
            levels = [" ".join(f"{level:g}" for level in row["levels"]) for row in rows]
            table(
                ("scenario", "arrivals", "levels", "variants", "question"),
                [
                    (row["name"], row["arrivals"], level, str(len(row["variants"])), row["question"])
                    for row, level in zip(rows, levels, strict=True)
                ],
            )
            predicted = {row["file"]: row["file_predicted_s"] for row in rows}
            print("\npredicted:", ", ".join(f"{file} {duration(seconds)}" for file, seconds in predicted.items()))


def _variants(rows: Sequence[dict[str, Any]]) -> None:
    """What each is; its budget and what it serves; the reason of each hole, with all that it keeps from serving."""
    table(("variant", "server", "framework", "model"), [_model(row) for row in rows])
    print()
    heads = ("variant", "slots", "clients", "idle s")
    table(heads, [_budget(row) for row in rows], right=heads[1:])
    print("slots: processes × calls at a time; clients: connections of each process; ∞: as they come\n")
    table(("variant", " ".join(rows[0]["endpoints"])), [_served(row) for row in rows])
    print("–: a hole")
    holes: dict[str, dict[str, list[str]]] = {}  # reason -> variant -> endpoints
    for row in rows:
        for endpoint, reason in row["endpoints"].items():
            if reason != "ok":
                holes.setdefault(reason, {}).setdefault(row["name"], []).append(endpoint)
    for reason, variants in holes.items():
        print(f"\n{reason}")
        for endpoints, names in groupby(sorted(variants, key=variants.__getitem__), key=variants.__getitem__):
            what = "nothing" if len(endpoints) == len(rows[0]["endpoints"]) else f"no {', '.join(endpoints)}"
            _console().print(Text(f"  {what}: {', '.join(names)}"))


def _model(row: dict[str, Any]) -> list[str]:
    return [row["name"], row["server"], row["framework"], row["model"]]


def _budget(row: dict[str, Any]) -> list[str]:
    budget = row["budget"]
    each = "∞" if budget["slots"] is None else budget["slots"] // budget["processes"]
    connections = "∞" if budget["worker_connections"] is None else str(budget["worker_connections"])
    idle = "closes" if budget["keep_alive_s"] is None else str(budget["keep_alive_s"])
    return [row["name"], f"{budget['processes']} × {each}", connections, idle]


def _served(row: dict[str, Any]) -> list[str]:
    """One line of the matrix; each endpoint's mark stands under its name."""
    marks = (("ok" if reason == "ok" else "–").ljust(len(name)) for name, reason in row["endpoints"].items())
    return [row["name"], " ".join(marks)]


def _parameters(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {one['default']} ({one['allowed']})" for name, one in row["parameters"].items())


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def progress() -> Iterator[Watcher]:
    """A Watcher that draws a bar on standard error; plain lines where that is no terminal."""
    console = _console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,  # drawing while a load runs would disturb it: once a second is enough
        disable=not console.is_terminal,
    )
    task = bar.add_task("starting", total=1)
    place = [0, 0]  # Trials ended, of how many

    def planned(trials: Sequence[Trial], seconds: float) -> None:
        place[1] = len(trials)
        console.print(f"{len(trials)} trials, predicted to take {duration(seconds)}", markup=False)
        bar.update(task, total=sum(trial.scenario.duration_s for trial in trials), refresh=True)

    def began(trial: Trial) -> None:
        bar.update(task, description=f"{trial.variant} · {trial.scenario.name} · {trial.level:g}", refresh=True)

    def ended(trial: Trial, verdict: str) -> None:
        place[0] += 1
        if not console.is_terminal:
            console.print(f"[{place[0]}/{place[1]}] {trial.key}: {verdict}", markup=False)

    with bar:
        yield Watcher(
            planned=planned,
            began=began,
            second=lambda: bar.update(task, advance=1, refresh=True),
            ended=ended,
            say=lambda line: console.print(line, style="yellow", markup=False),
        )
