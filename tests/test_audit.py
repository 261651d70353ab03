"""The audit: published figures with known verdicts, each law just beyond and just inside, and hostile tables."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.audit import IMPOSSIBLE, LAWS, NO_LAW, POSSIBLE, SUSPECT, Finding, audit, rows_of
from harness.errors import UsageError
from harness.published import COLUMNS, MAX_BYTES, MAX_ROWS, Number, Row, mapping, read

FIXTURES = Path(__file__).parent / "fixtures" / "audit"


def of(name: str, *columns: str) -> list[Finding]:
    path = FIXTURES / name
    return audit(read(path.read_bytes(), path.name, mapping(columns)))


def one(**cells: str) -> Finding:
    """The audit of a table of one row, in words as a file has them."""
    text = f"name,{','.join(cells)}\nx,{','.join(cells.values())}\n"
    (found,) = audit(read(text.encode(), "t.csv"))
    return found


# -- published figures -----------------------------------------------------------------------------------------------


def test_one_thread_that_waits_100_ms_does_not_make_413_a_second() -> None:
    printed, beside = of("errors_as_throughput.csv")
    assert (printed.verdict, printed.law) == (beside.verdict, beside.law) == (IMPOSSIBLE, "slots")
    assert "1 slot ÷ 100 ms = 10/s at most" in printed.reason
    assert "would explain it" in printed.reason
    assert beside.reason.endswith("without its 4,032 errors it is 9.8/s: it counts errors, as it seems")
    assert beside.also == (
        "goodput: 4,032 of about 4,130 calls were errors: if its throughput counts them, only 9.8/s were answers",
    )


def test_seven_servers_at_the_clients_own_ceiling_cannot_be_told_apart() -> None:
    """Of the seven, 95.7 % and 99.0 % were published; those between are spread evenly."""
    found = of("client_limits_all.csv")
    assert {(finding.verdict, finding.law) for finding in found} == {(SUSPECT, "alike")}
    assert found[0].reason == (
        "7 rows are at 95.7% to 99.0% of the same ceiling, 512 clients ÷ 100 ms = 5,120/s at most: it limits them all, "
        "so their order says nothing of the servers"
    )


def test_a_mean_above_p99_needs_a_maximum() -> None:
    alone, low, high = of("mean_above_p99.csv", "name=Framework", "mean_ms=Avg", "p99_ms=P99", "max_ms=Max")
    needs = "a mean of 3.44 ms beside a p99 of 2.19 ms needs a maximum of (3.44 - 0.99 × 2.19) ÷ 0.01 = 127 ms at least"
    assert alone[1:4] == (SUSPECT, "mean", f"{needs}; none is printed")
    assert low[1:4] == (IMPOSSIBLE, "mean", f"{needs}; printed is 100 ms")
    assert (high.verdict, high.law) == (POSSIBLE, NO_LAW), "a mean may exceed p99"


def test_every_law_has_a_row_that_breaks_it() -> None:
    found = {finding.name: (finding.verdict, finding.law) for finding in of("all_laws.csv")}
    assert found == {
        "plausible": (POSSIBLE, NO_LAW),
        "p50 above p99": (IMPOSSIBLE, "percentiles in order"),
        "mean below its half": (IMPOSSIBLE, "least mean"),
        "more than its slots": (IMPOSSIBLE, "slots"),
        "more than its clients": (IMPOSSIBLE, "client"),
        "before the wait is over": (IMPOSSIBLE, "wait"),
        "more in flight than clients": (IMPOSSIBLE, "Little"),
        "clients that paused": (SUSPECT, "idle clients"),
        "few calls": (SUSPECT, "samples"),
        "many errors": (SUSPECT, "goodput"),
        "a full listen queue": (POSSIBLE, "retransmits"),
        "a delayed ACK": (POSSIBLE, "delayed ACK"),
        "nothing to go by": (POSSIBLE, NO_LAW),
    }
    elsewhere = {"mean", "implied mean"}
    assert {law.name for law in LAWS} - elsewhere == {law for _, law in found.values()} - {NO_LAW}


# -- just beyond, just inside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "inside", "beyond", "verdict"),
    [
        ("percentiles in order", {"p50_ms": "2.2", "p99_ms": "2.19"}, {"p50_ms": "2.3", "p99_ms": "2.19"}, IMPOSSIBLE),
        ("percentiles in order", {"p99_ms": "5", "max_ms": "5"}, {"p99_ms": "7", "max_ms": "5"}, IMPOSSIBLE),
        ("percentiles in order", {"mean_ms": "5", "max_ms": "5"}, {"mean_ms": "7", "max_ms": "5"}, IMPOSSIBLE),
        ("percentiles in order", {"p50_ms": "5", "max_ms": "5"}, {"p50_ms": "7", "max_ms": "5"}, IMPOSSIBLE),
        ("mean", {"mean_ms": "2.19", "p99_ms": "2.19"}, {"mean_ms": "2.21", "p99_ms": "2.19"}, SUSPECT),
        # 126.2 ms is the least maximum of anything that rounds to these
        (
            "mean",
            {"mean_ms": "3.44", "p99_ms": "2.19", "max_ms": "126.2"},
            {"mean_ms": "3.44", "p99_ms": "2.19", "max_ms": "126.0"},
            IMPOSSIBLE,
        ),
        (
            "mean",
            {"mean_ms": "60", "p50_ms": "10", "p99_ms": "100", "max_ms": "650"},
            {"mean_ms": "60", "p50_ms": "10", "p99_ms": "100", "max_ms": "450"},
            IMPOSSIBLE,
        ),
        ("least mean", {"mean_ms": "20", "p50_ms": "40"}, {"mean_ms": "19", "p50_ms": "40"}, IMPOSSIBLE),
        ("least mean", {"mean_ms": "1", "p99_ms": "100"}, {"mean_ms": "0.9", "p99_ms": "100"}, IMPOSSIBLE),
        (
            "slots",
            {"slots": "16", "wait_ms": "100", "throughput_rps": "168"},
            {"slots": "16", "wait_ms": "100", "throughput_rps": "169"},
            IMPOSSIBLE,
        ),
        (
            "slots",
            {"slots": "16", "wait_ms": "100", "throughput_rps": "176", "duration_s": "2"},
            {"slots": "16", "wait_ms": "100", "throughput_rps": "190", "duration_s": "2"},
            IMPOSSIBLE,
        ),
        (
            "client",
            {"concurrency": "10", "wait_ms": "100", "throughput_rps": "105"},
            {"concurrency": "10", "wait_ms": "100", "throughput_rps": "106"},
            IMPOSSIBLE,
        ),
        ("wait", {"wait_ms": "100", "p50_ms": "98"}, {"wait_ms": "100", "p50_ms": "97"}, IMPOSSIBLE),
        ("wait", {"wait_ms": "100", "max_ms": "98"}, {"wait_ms": "100", "max_ms": "97"}, IMPOSSIBLE),
        (
            "wait",
            {"wait_ms": "100", "p50_ms": "98", "errors": "5"},
            {"wait_ms": "100", "p50_ms": "3", "errors": "5"},
            SUSPECT,
        ),
        (
            "Little",
            {"concurrency": "100", "throughput_rps": "1000", "mean_ms": "105"},
            {"concurrency": "100", "throughput_rps": "1000", "mean_ms": "106"},
            IMPOSSIBLE,
        ),
        (
            "Little",
            {"concurrency": "100", "throughput_rps": "1000", "p50_ms": "200"},
            {"concurrency": "100", "throughput_rps": "1000", "p50_ms": "220"},
            IMPOSSIBLE,
        ),
        (
            "idle clients",
            {"concurrency": "100", "throughput_rps": "1000", "mean_ms": "95"},
            {"concurrency": "100", "throughput_rps": "1000", "mean_ms": "94"},
            SUSPECT,
        ),
        (
            "idle clients",
            {"concurrency": "100", "throughput_rps": "1000", "p99_ms": "95", "max_ms": "100"},
            {"concurrency": "100", "throughput_rps": "1000", "p99_ms": "90", "max_ms": "100"},
            SUSPECT,
        ),
        (
            "implied mean",
            {"concurrency": "64", "throughput_rps": "18605", "p99_ms": "3.3"},
            {"concurrency": "64", "throughput_rps": "18605", "p99_ms": "2.19"},
            SUSPECT,
        ),
        (
            "goodput",
            {"throughput_rps": "100", "duration_s": "10.0", "errors": "10"},
            {"throughput_rps": "100", "duration_s": "10.0", "errors": "11"},
            SUSPECT,
        ),
        (
            "goodput",
            {"throughput_rps": "100", "duration_s": "10.0", "errors": "0"},
            {"throughput_rps": "100", "duration_s": "10.0", "errors": "5000"},
            SUSPECT,
        ),
        (
            "samples",
            {"throughput_rps": "66", "duration_s": "10", "p99_ms": "5"},
            {"throughput_rps": "60", "duration_s": "10", "p99_ms": "5"},
            SUSPECT,
        ),
        ("retransmits", {"p50_ms": "5", "max_ms": "990"}, {"p50_ms": "5", "max_ms": "3030"}, POSSIBLE),
        ("retransmits", {"p50_ms": "800", "max_ms": "1010"}, {"p50_ms": "5", "p99_ms": "1010"}, POSSIBLE),
        ("delayed ACK", {"wait_ms": "0", "p50_ms": "38"}, {"wait_ms": "0", "p50_ms": "40.4"}, POSSIBLE),
    ],
)
def test_a_law_just_inside_and_just_beyond(
    law: str, inside: dict[str, str], beyond: dict[str, str], verdict: str
) -> None:
    assert one(**inside).law != law
    found = one(**beyond)
    assert (found.law, found.verdict) == (law, verdict)
    assert re.search(r"\d", found.reason)
    assert "\n" not in found.reason


def test_the_implied_mean_gives_the_published_figure() -> None:
    found = one(concurrency="64", throughput_rps="18605", p99_ms="2.19")
    assert "a mean of 3.44 ms, unless they paused" in found.reason
    assert "= 127 ms at least; none is printed" in found.reason


def test_one_row_at_the_clients_ceiling_is_possible() -> None:
    assert one(concurrency="512", wait_ms="100", throughput_rps="5000").verdict == POSSIBLE


def test_rows_are_alike_under_the_same_ceiling_only() -> None:
    table = (
        "concurrency,slots,wait_ms,throughput_rps\n512,,100,5000\n256,,100,2500\n,16,100,158\n,16,100,159\n,16,50,158"
    )
    found = audit(read(table.encode(), "t.csv"))
    assert [finding.law for finding in found] == [NO_LAW, NO_LAW, "alike", "alike", NO_LAW]


def test_a_row_that_nothing_speaks_of_says_so() -> None:
    assert one(throughput_rps="5").reason == "too few columns for any law to speak of it"
    assert one(throughput_rps="5", slots="1", wait_ms="100").reason == "breaks no law that speaks of it (slots)"


@given(
    times=st.lists(st.floats(0.1, 1e4), min_size=3, max_size=400),
    clients=st.integers(1, 50),
    digits=st.integers(0, 3),
    method=st.sampled_from(["linear", "inverted_cdf", "higher"]),
)
@settings(max_examples=200, deadline=None)
def test_what_really_happened_is_never_called_impossible(
    times: list[float], clients: int, digits: int, method: str
) -> None:
    """Clients who each wait for their answer, measured by a tool that rounds to so many digits."""
    queue = [0.0] * clients
    for time in times:
        queue[queue.index(min(queue))] += time
    duration_s = max(queue) / 1000
    p50, p99 = (float(np.quantile(times, q, method=method)) for q in (0.5, 0.99))  # type: ignore[call-overload]
    cells = {
        "concurrency": str(clients),
        "throughput_rps": f"{len(times) / duration_s:.{digits}f}",
        "mean_ms": f"{np.mean(times):.{digits}f}",
        "p50_ms": f"{p50:.{digits}f}",
        "p99_ms": f"{p99:.{digits}f}",
        "max_ms": f"{max(times):.{digits}f}",
        "errors": "0",
        "duration_s": f"{duration_s:.6f}",
    }
    assert one(**cells).verdict != IMPOSSIBLE


# -- reading ---------------------------------------------------------------------------------------------------------


def test_columns_come_in_any_order_with_any_capitals_and_may_be_absent() -> None:
    text = "\ufeff P99_MS ,extra,Name\r\n2.19,=cmd(),a\r\n\r\n-, ,b  c\x1b\r\nn/a\r\n".encode()
    assert read(text, "t.csv") == [
        Row(1, "a", p99_ms=Number(2.19, 2.185, 2.195)),
        Row(2, "b c"),
        Row(3, ""),
    ]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("413", 412.5, 413.5), ("2.190", 2.1895, 2.1905), ("0", 0, 0.5), ("1.5e3", 1450, 1550), ("1e-3", 0.0005, 0.0015)],
)
def test_what_rounds_to_a_figure(text: str, low: float, high: float) -> None:
    (row,) = read(f"mean_ms,slots\n{text},4\n".encode(), "t.csv")
    assert row.mean_ms is not None
    assert (row.mean_ms.low, row.mean_ms.high) == pytest.approx((low, high))
    assert row.slots == Number(4, 4, 4)


def test_other_headings_are_mapped() -> None:
    (row,) = read(b"RPS,throughput_rps\n5,7\n", "t.csv", mapping(["throughput_rps=rps"]))
    assert row.throughput_rps is not None
    assert row.throughput_rps.value == 5


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["throughput=RPS"], "write COLUMN=HEADING"),
        (["throughput_rps"], "write COLUMN=HEADING"),
        (["throughput_rps="], "write COLUMN=HEADING"),
        (["p50_ms=a", "p50_ms=b"], "write COLUMN=HEADING"),
    ],
)
def test_a_wrong_mapping_is_one_error(words: list[str], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        mapping(words)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "none of the headings"),
        (b"\n\n", "none of the headings"),
        (b"a,b\n1,2\n", "none of the headings 'a, b' is known"),
        (b"name\nx\n", "none of the headings"),
        (b"mean_ms;p99_ms\n1;2\n", "none of the headings"),
        (b"mean_ms\n", "no row below the headings"),
        (b"mean_ms,MEAN_MS\n1,2\n", "stands there twice"),
        (b"mean_ms\nnan\n", "line 2: mean_ms: 'nan' is no plain number"),
        (b"mean_ms\n1\ninf\n", "line 3: mean_ms: 'inf' is no plain number"),
        (b"mean_ms\n-1\n", "no plain number"),
        (b"mean_ms\n1_0\n", "no plain number"),
        (b"mean_ms\n3.44ms\n", "without units"),
        (b'mean_ms\n"1,234"\n', "no plain number"),
        ("mean_ms\n٣\n".encode(), "no plain number"),
        (b"mean_ms\n1e99\n", "beyond all measure"),
        (b"mean_ms\n" + b"9" * 400 + b"\n", "no plain number"),
        (b"slots\n0\n", "has to be above 0"),
        (b"duration_s\n0.0\n", "has to be above 0"),
        (b'mean_ms\n"1\n', "no CSV"),
        (b'mean_ms\n"1"2\n', "no CSV"),
        (b"mean_ms\n" + b'"' + b"x" * 200_000 + b'"\n', "no CSV"),
        (b"mean_ms\n\xff\n", "not UTF-8"),
        (b"mean_ms\n1\0\n", "NUL"),
        (b"\x1f\x8b\x08\x00", "not UTF-8|NUL"),
        (b"mean_ms\n" + b"1\n" * (MAX_ROWS + 1), "more than 10,000 rows"),
        (b" " * (MAX_BYTES + 1), "larger than 1 MB"),
    ],
)
def test_a_hostile_table_is_one_named_error(content: bytes, error: str) -> None:
    with pytest.raises(UsageError, match=error) as raised:
        read(content, "table.csv")
    assert str(raised.value).startswith("table.csv: ")
    assert len(str(raised.value)) < 500
    assert "\n" not in str(raised.value)


def test_a_mapped_heading_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"t.csv: no heading 'RPS'; there are 'mean_ms, x'"):
        read(b"mean_ms,x\n1,2\n", "t.csv", {"throughput_rps": "RPS"})


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_one_error(content: bytes) -> None:
    with suppress(UsageError):
        assert audit(read(b"mean_ms,p99_ms,max_ms\n" + content, "t.csv"))


cells = st.one_of(st.none(), st.floats(0, 1e14).map(lambda value: Number(value, value, value)))
positive = st.one_of(st.none(), st.floats(1e-9, 1e14).map(lambda value: Number(value, value, value)))


@given(
    st.lists(
        st.tuples(*[positive if name in ("concurrency", "slots", "duration_s") else cells for name in COLUMNS[1:]])
    )
)
@settings(max_examples=200, deadline=None)
def test_any_rows_are_answered(table: list[tuple[Number | None, ...]]) -> None:
    rows = [replace(Row(n), **dict(zip(COLUMNS[1:], values, strict=True))) for n, values in enumerate(table, 1)]  # type: ignore[arg-type]
    found = audit(rows)
    assert [finding.row for finding in found] == [row.number for row in rows]
    assert all(finding.reason and finding.verdict in (POSSIBLE, SUSPECT, IMPOSSIBLE) for finding in found)


def test_json_has_the_keys_of_design() -> None:
    row = rows_of([one(p50_ms="5", p99_ms="3")])[0]
    assert list(row)[:4] == ["row", "verdict", "law", "reason"]
    assert (row["row"], row["verdict"], row["name"], row["also"]) == (1, IMPOSSIBLE, "x", [])


def test_laws_are_named_once_and_need_columns_that_exist() -> None:
    assert len({law.name for law in LAWS}) == len(LAWS)
    assert {column for law in LAWS for columns in law.needs for column in columns} <= set(COLUMNS)
    assert all(law.says.__doc__ for law in LAWS)
