"""Exports: exact columns, empty for what is not available, and nothing that a spreadsheet or a browser runs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from harness.report import tables
from harness.stats import summarise

from . import fake

HEAD = (
    "variant,scenario,endpoint,arrivals,level,lens,repeats,n,offered_rps,users,offered,completed,failed,timed_out,unfinished,"
    "throughput_rps,throughput_low_rps,throughput_high_rps,p50_ms,p90_ms,p99_ms,p99_low_ms,p99_high_ms,p999_ms,service_p99_ms,"
    "lateness_p99_ms,cpu_ms_per_request,rss_mb,threads,verdict,limited_by,reason"
)


def test_columns_and_sums() -> None:
    text = tables.csv(summarise(fake.realistic().recordings))
    assert text.splitlines()[0] == HEAD
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 6 * 4 - 1 + 2 * 4 + 2 * 3
    for row in rows:
        parts = (row["completed"], row["failed"], row["timed_out"], row["unfinished"])
        assert int(row["offered"]) == sum(map(int, parts))
    assert next(row for row in rows if row["scenario"] == "quick/sse")["p99_ms"] == ""


def test_formulas_are_defused_and_numbers_are_not() -> None:
    [row] = summarise(fake.plain("asgi", 900, 1))
    hostile = [replace(row, reason=f"{start}cmd()", level=-1.5) for start in ("=", "+", "-", "@", "\t=", "\r\n=")]
    for read in csv.DictReader(io.StringIO(tables.csv(hostile), newline="")):
        assert read["reason"].startswith("'")
        assert read["level"] == "-1.5"


def test_markdown_holds_no_html_and_lists_what_is_void() -> None:
    [row] = summarise(fake.plain("asgi", 900, 2))
    bad = replace(row, verdict="VOID", reason="<img src=x> | [a](javascript:b)\nnext")
    text = tables.markdown([replace(row, endpoint="a|<b>"), bad])
    assert "<" not in text
    assert "VOID, left out:" in text
    assert all(line.count("|") == text.splitlines()[0].count("|") + line.count("\\|") for line in text.splitlines()[:3])
    assert tables.json_rows([row])[0]["p999_ms"] is None
