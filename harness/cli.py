"""The command line. In: words. Out: answers on standard output, progress and errors on standard error, an exit code.

Verbs parse, call one function and print; they decide nothing. Heavy imports stand inside the verbs, so that a wrong
word is answered at once.
"""

from __future__ import annotations

import errno
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from harness import __version__
from harness.capacity import verbs
from harness.errors import EnvironmentFault, GatebenchError, NothingUsable, UsageError

if TYPE_CHECKING:
    from harness.recording import Run

RESULTS = Path("results")
INTERRUPTED, BROKEN_PIPE = 130, 141
OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

as_json = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
processes = click.option(
    "--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="That make the load, a CPU each."
)
run_folder = click.argument("run", type=click.Path(path_type=Path), required=False)


class Pattern(click.ParamType[str]):
    """An open arrival pattern: whatever stands in the schedule's table, looked up when it is needed."""

    name = "pattern"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  click's own signature
        from harness.load.schedule import ARRIVALS

        return f"[{'|'.join(ARRIVALS)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from harness.load.schedule import ARRIVALS

        if value not in ARRIVALS:
            self.fail(f"{value!r} is not one of {', '.join(ARRIVALS)}", param, ctx)
        return str(value)


class Repeats(click.ParamType[int | str]):
    """A number of repeats, or `auto`."""

    name = "repeats"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  click's own signature
        return "[N|auto]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "auto":
            return str(value)
        return click.IntRange(1, 1000).convert(value, param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="gatebench")
def cli() -> None:
    """WSGI threads, gevent or ASGI: which, configured how, and how many, for this work?"""


@cli.command()
@click.argument("scenarios", nargs=-1)
@click.option("--variants", help="Comma-separated names, or groups; the scenario's own unless told.")
@click.option("--repeats", type=Repeats(), help="Independent trials of each cell; auto: until it is precise enough.")
@click.option(
    "--precision",
    type=click.FloatRange(0.001, 1),
    help="Of --repeats auto: a share; 0.03 unless told, for intervals of ± 3 %.",
)
@click.option(
    "--budget-minutes",
    type=click.FloatRange(0, 10_000, min_open=True),
    help="Of --repeats auto: it ends then in any case; 20 unless told.",
)
@click.option("--aa", is_flag=True, help="Measure one variant twice in each block of every scenario: the noise floor.")
@click.option("--duration", type=click.IntRange(1, 86_400), help="Seconds under load of each trial.")
@click.option(
    "--backend",
    type=click.Choice(["process", "compose", "url"]),
    default="process",
    show_default=True,
    help="How servers are run.",
)
@click.option("--target", multiple=True, metavar="NAME=http://HOST:PORT", help="A server of --backend url; repeatable.")
@click.option("--memory", "memory_mb", type=click.IntRange(16, 1_000_000), help="MB that each container may take.")
@click.option("--database", is_flag=True, help="Query a PostgreSQL, started for the run, instead of the embedded pool.")
@click.option("--trace", is_flag=True, help="Stamp each request in the application, and show where its time went.")
@click.option(
    "--lens",
    metavar="[as-configured|equal-cpu|equal-slots[=N]|equal-memory]",
    help="What variants have in common; equal-cpu unless told.",
)
@click.option("--server-cpus", help="Where servers run, such as 0-2,4; one CPU unless told.")
@click.option("--generator-cpus", help="Where the load is made; the last CPU that is left unless told.")
@click.option("--port", type=click.IntRange(1, 65_535), help="The servers' port; any free one unless told.")
@click.option("--seed", type=click.IntRange(0, 2**48), default=1, show_default=True, help="Of schedules and order.")
@click.option("--name", help="Of the run's folder; the time unless told.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, readable=False),
    default=RESULTS,
    show_default=True,
    help="Where runs are kept.",
)
@click.option("--resume", type=click.Path(path_type=Path), help="Continue this run.")
@processes
@click.option("--fail-fast", is_flag=True, help="Stop at the first server that fails.")
@click.option("--strict", is_flag=True, help="Exit 4 when any cell is VOID.")
@as_json
def run(scenarios: Sequence[str], as_json: bool, strict: bool, **options: Any) -> int:
    """Measure SCENARIOS (names or files; `quick` unless told) and draw the report."""
    from harness.request import request_of

    request = request_of(scenarios or ["quick"], command=_command_line(), **options)
    from harness import show
    from harness.run import run as measure_all

    with show.progress() as watcher:
        folder, code = measure_all(request, watcher)
    return _tell(folder, code, as_json=as_json, strict=strict)


def _tell(folder: Path, code: int, *, as_json: bool, strict: bool) -> int:
    """Prints a finished run's answers and writes its page; the exit code, given how the measuring ended."""
    from harness import show
    from harness.physics import VOID
    from harness.recording import read_run
    from harness.report import page, tables
    from harness.stats import summarise

    read = read_run(folder)
    if not read.recordings:
        return code or _fail(NothingUsable(f"nothing was measured; the servers' logs are in {folder / 'logs'}"))
    rows = summarise(read.recordings)
    path = page.write(read)
    answers = tables.answers(read, rows)
    if as_json:
        told = {"run": str(folder), "report": str(path), "answers": [str(answer) for answer in answers]}
        click.echo(json.dumps(told | {"outcome": read.manifest.get("outcome"), "cells": tables.json_rows(rows)}))
    else:
        show.answers(read, rows, answers)
        click.echo(f"\nreport: {path}\nrun: {folder}")
    usable = [row for row in rows if row.verdict != VOID]
    named = [row for row in usable if row.p50_ms is not None]  # PROOFS T12: too few samples are no answer
    if not code and (not named or (strict and len(usable) < len(rows))):
        return NothingUsable.exit_code
    return code


@cli.command()
@run_folder
@as_json
def report(run: Path | None, as_json: bool) -> int:
    """Rebuild the page of RUN (the newest unless told)."""
    read = _read(run)
    from harness.report import page

    path = page.write(read)
    click.echo(json.dumps({"report": str(path), "problems": list(read.problems)}) if as_json else str(path))
    return UsageError.exit_code if read.problems else 0


@cli.command()
@run_folder
@click.option("--format", "image", type=click.Choice(["png", "svg", "pdf"]), default="png", show_default=True)
@click.option("--only", help="Comma-separated names of charts.")
@click.option("--to", type=click.Path(path_type=Path), help="The folder for them; `charts` in the run's unless told.")
@as_json
def charts(run: Path | None, image: str, only: str | None, to: Path | None, as_json: bool) -> int:
    """Write each chart of RUN as a picture."""
    read = _read(run)
    from harness.report import pictures

    paths = pictures.write(read, to or read.folder / "charts", image, only.split(",") if only else None)
    if not paths:
        raise NothingUsable(f"{read.folder} has no usable cell, so there is nothing to draw")
    click.echo(json.dumps([str(path) for path in paths]) if as_json else "\n".join(map(str, paths)))
    return UsageError.exit_code if read.problems else 0


@cli.command()
@run_folder
@click.option("--format", "kind", type=click.Choice(["csv", "json", "markdown"]), default="csv", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def export(run: Path | None, kind: str, as_json: bool) -> int:
    """Print RUN as a tidy table, a cell a row."""
    from harness.report import tables
    from harness.stats import summarise

    read = _read(run)
    rows = summarise(read.recordings)
    match "json" if as_json else kind:
        case "json":
            click.echo(json.dumps(tables.json_rows(rows), indent=1))
        case "markdown":
            click.echo(tables.markdown(rows), nl=False)
        case _:
            click.echo(tables.csv(rows), nl=False)
    return UsageError.exit_code if read.problems else 0


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BASE [NEW…]")
@click.option("--base", metavar="VARIANT", help="Of one run: the variant that the others are held against.")
@click.option("--new", metavar="VARIANT,…", help="Of one run: those that are compared with it; all others unless told.")
@click.option("--reference", metavar="VARIANT", help="In every run: take out what changed for it, too.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 10),
    default=0.05,
    show_default=True,
    help="A share: what is slower by more is a regression.",
)
@click.option("--across-machines", is_flag=True, help="Compare although facts of the machines differ.")
@click.option("--markdown", is_flag=True, help="Print a table for a pull request.")
@click.option("--to", type=click.Path(path_type=Path), help="The chart of three runs and more: .html, .png, .svg.")
@as_json
def compare(runs: Sequence[Path], as_json: bool, markdown: bool, to: Path | None, **options: Any) -> int:
    """Differences with intervals: two runs, variants of one run (--base), or the history of three runs and more.

    Exit 3: something is slower beyond the tolerance, or an answer is gone. Exit 4: nothing can be compared.
    """
    from harness import comparing, show

    if to is not None and len(runs) < 3:
        raise UsageError("--to is of the chart of three runs and more")
    answer = comparing.compared([_read(run) for run in runs], **options)
    if answer.histories:
        from harness.report import histories

        chart = histories.write(answer.histories, answer.runs, to or runs[-1] / "history.html")
        click.echo(f"chart: {chart}", err=True)
    if as_json:
        click.echo(json.dumps(answer.rows))
        for note in answer.notes:
            click.echo(note, err=True)
    elif markdown:
        click.echo(answer.markdown, nl=False)
    else:
        show.comparison(answer)
    return answer.exit_code


@cli.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--column", "columns", multiple=True, metavar="COLUMN=HEADING", help="Under which heading; repeatable.")
@as_json
def audit(table: Path, columns: Sequence[str], as_json: bool) -> int:
    """Hold anyone's published TABLE of results, a CSV, against the laws of queueing (docs/audit.md)."""
    from harness import audit as auditor
    from harness import published, show

    found = auditor.audit(published.read_file(table, published.mapping(columns)))
    click.echo(json.dumps(auditor.rows_of(found))) if as_json else show.findings(found)
    return 0


@cli.command()
@click.argument("url")
@click.option("--rate", type=click.FloatRange(0, 200_000, min_open=True), help="Open: arrivals a second.")
@click.option(
    "--users", type=click.IntRange(1, 20_000), help="Closed: users who each wait for their answer; 32 unless told."
)
@click.option("--duration", type=click.IntRange(1, 3600), default=10, show_default=True, help="Seconds under load.")
@click.option("--arrivals", type=Pattern(), default="poisson", show_default=True, help="Of --rate.")
@click.option(
    "--shape",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of --arrivals, such as at=0.5,1 (docs/measuring.md); repeatable.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 600, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds for an answer.",
)
@click.option(
    "--connections", type=click.IntRange(1, 65_536), default=4096, show_default=True, help="At most, of --rate."
)
@click.option("--seed", type=click.IntRange(0, 2**48), default=1, show_default=True, help="Of the schedule.")
@click.option(
    "--hgrm",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write response times here, for HdrHistogram's plotters.",
)
@processes
@click.option(
    "--workers", type=click.IntRange(0, 256), default=0, show_default=True, help="That join by `load-worker`."
)
@click.option("--bind", metavar="HOST[:PORT]", help="Where they join; 127.0.0.1:5557 unless told.")
@as_json
def load(url: str, as_json: bool, hgrm: Path | None, **options: Any) -> int:
    """The load generator alone, against a URL of this machine (http://, ws://, sse://)."""
    from harness import load_url, show

    if hgrm is not None and not hgrm.parent.is_dir():
        raise UsageError(f"--hgrm {hgrm}: there is no folder {hgrm.parent}")
    recording, stopped = load_url.drive(url, **options)
    answer = load_url.told(recording)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        show.load_answer(url, answer)
    if hgrm is not None:
        load_url.write_hgrm(recording, hgrm)
    return stopped or (NothingUsable.exit_code if answer["verdict"] == "VOID" else 0)


@cli.command(name="load-worker")
@click.option("--master", required=True, metavar="HOST[:PORT]", help="Where `gatebench load … --workers N` waits.")
@as_json
def load_worker(master: str, as_json: bool) -> NoReturn:
    """One more process, here or on another machine, for a `gatebench load` that waits for it."""
    from harness.load.process import become_worker

    become_worker(master, as_json=as_json)


@cli.command(name="list")
@click.argument("what", type=click.Choice(["variants", "endpoints", "scenarios"]))
@as_json
def list_(what: str, as_json: bool) -> int:
    """What there is: variants with each hole's reason, endpoints with their bounds, scenarios with their questions."""
    from harness import catalogue, show

    rows = catalogue.CATALOGUES[what]()
    click.echo(json.dumps(rows)) if as_json else show.catalogue(what, rows)
    return 0


@cli.command()
@click.option("--clean", is_flag=True, help="End and remove what earlier runs left behind.")
@as_json
def doctor(clean: bool, as_json: bool) -> int:
    """What on this machine would spoil a measurement, and the remedy."""
    from dataclasses import asdict

    from harness import doctor as examiner
    from harness import show

    cleaned = examiner.clean() if clean else []
    checks = examiner.examine()
    if as_json:
        click.echo(json.dumps({"cleaned": cleaned, "checks": [asdict(check) for check in checks]}))
    else:
        click.echo("".join(f"{line}\n" for line in cleaned), nl=False)
        show.table(("", "what", "found", "remedy"), [_check(check) for check in checks])
    return 0


@cli.command()
@as_json
def selftest(as_json: bool) -> int:
    """Prove the instrument against servers of known truth, in under a minute; its certificate is kept and reported."""
    from harness import certificate, show
    from harness import selftest as instrument

    made = instrument.certify(lambda line: click.echo(line, err=True))
    path = certificate.keep(made)
    if as_json:
        click.echo(json.dumps(certificate.told(made) | {"kept": str(path) if path else None}))
    else:
        show.certificate(made)
    if path is None:
        click.echo(f"gatebench: the certificate could not be kept in {certificate.place().parent}", err=True)
    return 0 if made.ok else NothingUsable.exit_code


cli.add_command(verbs.capacity)
cli.add_command(verbs.plan)


def _check(check: Any) -> list[str]:
    return ["ok" if check.ok else "!!", check.name, check.found, "" if check.ok else check.remedy]


# -- around the verbs ------------------------------------------------------------------------------------------------


def _read(folder: Path | None) -> Run:
    """The run that was named, or the newest; its problems go to standard error."""
    from harness.recording import newest_run, read_run

    read = read_run(folder or newest_run(RESULTS))
    for problem in read.problems:
        click.echo(f"gatebench: {problem}", err=True)
    if not read.recordings:
        raise NothingUsable(f"{read.folder} holds no readable recording")
    return read


def _command_line() -> str:
    return shlex.join(["gatebench", *sys.argv[1:]])


def _fail(error: GatebenchError) -> int:
    click.echo(f"gatebench: {error}", err=True)
    return error.exit_code


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Every expected failure is one line and its exit code; a traceback is a bug of ours."""
    try:
        yield
    except click.ClickException as error:
        _exit(_fail(UsageError(f"{error.format_message()} (`gatebench --help`)")))
    except GatebenchError as error:
        _exit(_fail(error))
    except (click.Abort, KeyboardInterrupt):
        _exit(INTERRUPTED)
    except (BrokenPipeError, SystemExit):  # click and rich exit when the reader of our output has gone; verbs never do
        sys.stdout = None  # nobody is left to tell, and Python would complain while it closes it
        _exit(BROKEN_PIPE)
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        sys.stdout = None  # it may be what is full
        _exit(_fail(EnvironmentFault(f"{error}; see `gatebench doctor`")))
    except ModuleNotFoundError as error:
        _exit(_fail(EnvironmentFault(f"the package {error.name} is missing; `make setup` installs what is needed")))


def _exit(code: int) -> NoReturn:
    raise SystemExit(code)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    with _one_line_errors():
        code = cli.main(list(arguments) if arguments is not None else None, "gatebench", standalone_mode=False)
        sys.stdout.flush()
    _exit(code if isinstance(code, int) else 0)
