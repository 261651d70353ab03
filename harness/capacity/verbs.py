"""The verbs `capacity` and `plan`. In: words. Out: answers on standard output, progress on standard error, a code.

As in harness/cli.py, verbs parse, call and print; heavy imports stand inside them.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.capacity.told import Answer

RESULTS = Path("results")
MISSED, NOTHING = 3, 4  # exit codes: an SLO that cannot be held; no usable answer
UNITS_MB = {"": 1.0, "MB": 1.0, "GB": 1000.0, "MIB": 1.048576, "GIB": 1073.741824}

scenario = click.option(
    "--scenario", help="A name (sleep, quick/db), a file, or an endpoint (sleep?ms=50); quick/sleep unless told."
)
promises = click.option(
    "--slo", multiple=True, metavar="PROMISE", help="Such as p99<200ms,errors<0.1%; the scenario's own unless told."
)
price = click.option("--price-per-hour", type=click.FloatRange(0), help="Of a machine, in any currency.")
seed = click.option("--seed", type=click.IntRange(0, 2**48), default=1, show_default=True, help="Of the schedules.")
name = click.option("--name", help="Of the run's folder; the time unless told.")
results = click.option(
    "--results",
    type=click.Path(path_type=Path, readable=False),
    default=RESULTS,
    show_default=True,
    help="Where runs are kept.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


class Memory(click.ParamType[float]):
    """8GB, 512MB or a number of MB."""

    name = "memory"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  click's own signature
        return "8GB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().upper()
        number = text.rstrip("GMIB")
        unit = text[len(number) :]
        try:
            found = float(number) * UNITS_MB[unit]
        except (ValueError, KeyError):
            self.fail(f"{value!r}: write it as 8GB or 512MB", param, ctx)
        if not 1 <= found <= 1e9:
            self.fail(f"{value!r}: no machine has that", param, ctx)
        return found


def machine_of(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe a machine."""
    for option in (
        price,
        click.option("--memory", type=Memory(), default="8GB", show_default=True, help="Of a machine."),
        click.option("--cores-per-machine", type=click.IntRange(1, 4096), help="1 unless told."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("variants", nargs=-1)
@scenario
@promises
@click.option("--url", help="Any server of this machine instead: http://127.0.0.1:8000/path.")
@click.option(
    "--budget-s",
    type=click.FloatRange(30, 86_400),
    default=180.0,
    show_default=True,
    help="Seconds for each variant and SLO.",
)
@click.option(
    "--precision",
    type=click.FloatRange(0.005, 0.5),
    default=0.05,
    show_default=True,
    help="Ends a search: so wide, as a share, its interval may be.",
)
@click.option("--efficiency", is_flag=True, help="Also what a request costs at 20, 50 and 80 % of the capacity.")
@click.option("--overload", is_flag=True, help="Also 150 % of the capacity for 20 s, and how it recovers.")
@price
@click.option("--cores-per-machine", type=click.IntRange(1, 4096), default=1, help="That its price is for.")
@click.option("--server-cpus", help="Where servers run, such as 0-2,4; one CPU unless told.")
@seed
@name
@results
@as_json
def capacity(variants: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """The highest open rate at which each of VARIANTS holds an SLO, with its interval and what limits it."""
    from harness.capacity import asking, probing, told
    from harness.show import duration

    asked = asking.asked_of(variants, command=_command_line(), **options)
    _say(
        f"{asked.scenario.name}: {len(asked.names)} variant{'s' * (len(asked.names) != 1)}, {len(asked.slos)} SLO"
        f"{'s' * (len(asked.slos) != 1)}: at most {duration(probing.predicted_s(asked))}, "
        f"{duration(asked.budget_s)} for each search; slow servers (100/s) are known less closely by then"
    )
    folder, document, code = probing.find(asked, _say)
    if as_json:
        click.echo(json.dumps(_json_rows(folder, document.answers)))
    else:
        for answer in document.answers:
            click.echo(f"{told.sentence(answer)} ({told.spent(answer)})")
        _besides(folder)
    _report(folder, quiet=as_json)
    return code or code_of(document.answers)


def _json_rows(folder: Path, answers: tuple[Answer, ...]) -> list[dict[str, Any]]:
    """DESIGN's keys, and what was measured besides: efficiency, a row a rate, and overload."""
    from harness.capacity import told
    from harness.capacity.efficiency import efficiencies
    from harness.capacity.overload import is_overload, overload_of
    from harness.recording import read_run

    run = read_run(folder)
    price = (told.document_of(run.manifest) or told.Document()).price_per_core_hour
    rows = told.json_rows(answers)
    for row, answer in zip(rows, answers, strict=True):
        mine = [one for one in run.recordings if one.trial.variant == answer.variant]
        costs = [one for one in mine if one.trial.scenario.name.startswith(told.EFFICIENCY)]
        row["efficiency"] = [asdict(one) for one in efficiencies(costs, answer.sustained_rps, price)]
        row["overload"] = [asdict(overload_of(one)) for one in mine if is_overload(one.trial.scenario)]
    return rows


def _besides(folder: Path) -> None:
    """What a request costs, and what an overload did, where that was asked."""
    from harness import show
    from harness.recording import read_run
    from harness.report.capacity_section import besides

    for table in besides(read_run(folder)):
        click.echo(f"\n{table.title}")
        if table.rows:
            show.table(table.heads, table.rows, right=table.heads[table.words :])
        for line in table.lines:
            click.echo(line)


def code_of(answers: tuple[Answer, ...]) -> int:
    """0: every search has a rate; 3: an SLO cannot be held; 4: nobody could be told anything."""
    if not any(one.sustained_rps is not None or one.outcome == "impossible" for one in answers):
        return NOTHING
    return MISSED if any(one.outcome == "impossible" for one in answers) else 0


@click.command()
@click.option("--rate", type=click.FloatRange(0, 10_000_000, min_open=True), help="Requests a second at the peak.")
@click.option("--requests-per-day", type=click.FloatRange(0, min_open=True), help="Instead of --rate.")
@click.option(
    "--peak-factor", type=click.FloatRange(1, 1000), default=1.0, show_default=True, help="The peak ÷ the day's mean."
)
@click.option("--variant", "variants", multiple=True, help="Names or groups; repeatable; the scenario's unless told.")
@scenario
@promises
@machine_of
@click.option("--spare-machines", type=click.IntRange(0, 1000), default=1, show_default=True, help="That may be lost.")
@click.option(
    "--confirm",
    type=click.Choice(["first", "all", "none"]),
    default="first",
    show_default=True,
    help="Which of the plans that hold are run here.",
)
@click.option("--fewer", is_flag=True, help="Run each of them also with 10 % fewer slots, which should fail.")
@seed
@name
@results
@as_json
def plan(variants: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """How many processes, threads and machines a rate needs, for each variant; and one run that confirms it."""
    from harness import show
    from harness.capacity import planning, probing
    from harness.capacity.plan import table
    from harness.capacity.slo import per_second

    asked, wanted = _wanted(variants, options)
    many = f"{len(asked.names)} variant{'s' * (len(asked.names) != 1)}"
    takes = show.duration(planning.predicted_s(asked, wanted))
    _say(f"{asked.scenario.name}, {per_second(wanted.rate_rps)}/s: {many}, about {takes}")
    made = planning.Planned()

    def work(laboratory: probing.Laboratory) -> None:
        nonlocal made
        made = planning.planned(laboratory, wanted)

    folder, document, code = probing.worked(asked, _say, work)
    if as_json:
        confirmed = [asdict(one) | {"error": one.error, "sentence": one.sentence} for one in made.confirmed]
        rows = [asdict(row) for row in made.rows]
        told = {"question": document.plan_question, "rows": rows, "confirmed": confirmed, "left_out": made.left_out}
        click.echo(json.dumps(told))
    else:
        click.echo(document.plan_question)
        left = {"variant", "holds", "fails first", "remark"}
        heads, lines = table(made.rows)
        show.table(heads, lines, right=set(heads) - left)
        for line in (*made.left_out, *(one.sentence for one in made.confirmed)):
            click.echo(line)
    _report(folder, quiet=as_json)
    failed = any(not one.holds and not one.fewer for one in made.confirmed)
    return code or (MISSED if failed or not any(row.holds for row in made.rows) else 0)


def _wanted(variants: tuple[str, ...], options: dict[str, Any]) -> tuple[Any, Any]:
    """What is asked of whom, and what is to be planned. Raises UsageError."""
    from harness.capacity import asking, planning
    from harness.capacity.plan import Machine, peak_rps
    from harness.errors import UsageError

    rate, a_day, factor = options["rate"], options["requests_per_day"], options["peak_factor"]
    if (rate is None) == (a_day is None):
        raise UsageError("say how much: --rate 900, or --requests-per-day 500000 --peak-factor 4")
    if factor != 1 and a_day is None:
        raise UsageError("--peak-factor belongs to --requests-per-day; --rate is the peak itself")
    if len(options["slo"]) > 1:
        raise UsageError("a plan is of one SLO; put all of its promises into one --slo: p99<200ms,errors<0.1%")
    machine = Machine(options["cores_per_machine"] or 1, options["memory"], options["price_per_hour"])
    kept = {key: options[key] for key in ("scenario", "slo", "seed", "name", "results")}
    asked = asking.asked_of(variants, url=None, command=_command_line(), **kept)
    rps = peak_rps(a_day, factor) if rate is None else rate
    return asked, planning.Wanted(rps, machine, options["spare_machines"], options["confirm"], options["fewer"])


def _report(folder: Path, *, quiet: bool) -> None:
    """Draws the page of what was measured, and says where it is."""
    from harness.recording import read_run
    from harness.report import page

    read = read_run(folder)
    if read.recordings:
        path = page.write(read)
        click.echo(f"\nreport: {path}\nrun: {folder}", err=quiet)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _command_line() -> str:
    return shlex.join(["gatebench", *sys.argv[1:]])
