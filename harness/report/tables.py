"""Tidy tables. In: Summaries. Out: CSV, JSON rows and Markdown, and (from harness.report.answers) sentences.

Text that came from outside is defused: a spreadsheet runs a cell that begins with = + - @, and Markdown holds HTML.
"""

from __future__ import annotations

import csv as csv_module
import io
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from harness.physics import VOID
from harness.report.answers import Answer, answers
from harness.report.words import interval, is_primary, load, number, quantile
from harness.stats import Summary, columns

__all__ = ["COLUMNS", "Answer", "answers", "csv", "json_rows", "markdown"]

COLUMNS = tuple(field.name for field in fields(Summary))


def json_rows(summaries: Iterable[Summary]) -> list[dict[str, Any]]:
    return [columns(row) for row in summaries]


def csv(summaries: Iterable[Summary]) -> str:
    """The exported columns, in their order; an empty cell = not available."""
    sink = io.StringIO()
    writer = csv_module.writer(sink, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in columns(row).values()] for row in summaries)
    return sink.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    # one line: spreadsheets skip tabs and line ends before they look for a formula (OWASP, CSV injection)
    text = " ".join(value.split())
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def markdown(summaries: Iterable[Summary]) -> str:
    """A table of the cells that may be read, and a list of those that may not."""
    rows = list(summaries)
    head = ["scenario", "load", "endpoint", "variant", "n", "requests/s", "p50 ms", "p99 ms", "verdict", "limited by"]
    lines = [head, ["---"] * len(head), *(_line(row) for row in rows if row.verdict != VOID)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    voided = [
        f"- {_escaped(row.scenario)} ({load(row)}), {_escaped(row.variant)}: {_escaped(row.reason)}\n"
        for row in rows
        if row.verdict == VOID and is_primary(row.endpoint)
    ]
    return text + ("\nVOID, left out:\n\n" + "".join(voided) if voided else "")


def _line(row: Summary) -> list[str]:
    whole = is_primary(row.endpoint)
    return [
        _escaped(row.scenario),
        load(row),
        _escaped(row.endpoint if whole else f"↳ {row.endpoint}"),
        _escaped(row.variant),
        number(row.n),
        f"{number(row.throughput_rps)} {interval(row.throughput_low_rps, row.throughput_high_rps)}",
        quantile(row.p50_ms, 0.5, row.n),
        quantile(row.p99_ms, 0.99, row.n) + (f" {interval(row.p99_low_ms, row.p99_high_ms)}" if row.p99_ms else ""),
        row.verdict,
        row.limited_by,
    ]


def _escaped(text: str) -> str:
    for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(plain, safe)
    for special in "\\|`[]*_":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.split())
