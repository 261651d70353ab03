"""Anyone's published table of results. In: a CSV as bytes. Out: its Rows, or one named error.

The CSV may be hostile or malformed: its size is capped, its numbers are plain digits, and whatever is wrong is a
UsageError with the file and the line. Columns may be absent, cells empty; other headings are mapped by the reader.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UsageError

MAX_BYTES, MAX_ROWS, MAX_NAME, MAX_DIGITS = 1 << 20, 10_000, 100, 15


class Number(NamedTuple):
    """A printed figure, and the bounds of what rounds to it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One line of the table; None = absent. concurrency: calls in flight at most. slots: calls worked on at a time.

    wait_ms: what each call waits at least, holding its slot. errors: of the whole duration.
    """

    number: int
    name: str = ""
    concurrency: Number | None = None
    slots: Number | None = None
    wait_ms: Number | None = None
    throughput_rps: Number | None = None
    mean_ms: Number | None = None
    p50_ms: Number | None = None
    p99_ms: Number | None = None
    max_ms: Number | None = None
    errors: Number | None = None
    duration_s: Number | None = None


COLUMNS = tuple(name for name in Row.__dataclass_fields__ if name != "number")
EXACT = ("concurrency", "slots", "wait_ms", "errors")  # settings and counts are not rounded
ABOVE_ZERO = ("concurrency", "slots", "duration_s")


def mapping(words: Iterable[str]) -> dict[str, str]:
    """`throughput_rps=RPS` …: which heading stands for which column. Raises UsageError."""
    found: dict[str, str] = {}
    for word in words:
        column, equals, heading = word.partition("=")
        if not equals or not heading.strip() or column not in COLUMNS or column in found:
            raise UsageError(f"--column {word!r:.80}: write COLUMN=HEADING, each COLUMN once of {', '.join(COLUMNS)}")
        found[column] = heading.strip()
    return found


def read_file(path: Path, headings: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of a file. Raises UsageError."""
    try:
        with path.open("rb") as source:
            content = source.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a CSV file") from None
    return read(content, str(path), headings)


def read(content: bytes, where: str, headings: Mapping[str, str] | None = None) -> list[Row]:
    """The table's rows. Raises UsageError, naming the file and the line, for what is no such table."""
    if len(content) > MAX_BYTES:
        raise UsageError(f"{where}: larger than {MAX_BYTES >> 20} MB; a table of results is smaller")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{where}: not UTF-8 text; save it as CSV in UTF-8") from None
    if "\0" in text:
        raise UsageError(f"{where}: holds a NUL byte, so it is no CSV")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        places = _places(next(lines, []), where, headings or {})
        rows: list[Row] = []
        for cells in lines:
            if any(cell.strip() for cell in cells):
                rows.append(_row(len(rows) + 1, cells, places, f"{where}: line {lines.line_num}"))
                if len(rows) > MAX_ROWS:
                    raise UsageError(f"{where}: more than {MAX_ROWS:,} rows")
    except csv.Error as error:
        raise UsageError(f"{where}: line {lines.line_num}: no CSV: {error}") from None
    if not rows:
        raise UsageError(f"{where}: no row below the headings")
    return rows


def _places(heads: Sequence[str], where: str, headings: Mapping[str, str]) -> dict[str, int]:
    """Column → its place. A heading of ours needs no mapping; capitals and blanks around it don't matter."""
    plain = [head.strip().casefold() for head in heads]
    places: dict[str, int] = {}
    for column in COLUMNS:
        wanted = headings.get(column, column).casefold()
        if plain.count(wanted) > 1:
            raise UsageError(f"{where}: the heading {wanted!r:.60} stands there twice")
        if wanted in plain:
            places[column] = plain.index(wanted)
        elif column in headings:
            raise UsageError(f"{where}: no heading {headings[column]!r:.60}; there are {', '.join(heads)!r:.200}")
    if not places.keys() - {"name"}:
        raise UsageError(
            f"{where}: none of the headings {', '.join(heads)!r:.200} is known; --column COLUMN=HEADING maps them to "
            f"{', '.join(COLUMNS)} (commas between cells)"
        )
    return places


def _row(number: int, cells: Sequence[str], places: Mapping[str, int], where: str) -> Row:
    found: dict[str, Any] = {}
    for column, place in places.items():
        text = cells[place].strip() if place < len(cells) else ""
        if column == "name":
            plain = "".join(each if each.isprintable() else " " for each in text)  # no escape codes for a terminal
            found[column] = " ".join(plain.split())[:MAX_NAME]
        elif text.casefold() not in ("", "-", "n/a"):
            found[column] = _number(text, column, f"{where}: {column}")
    return Row(number, **found)


def _number(text: str, column: str, where: str) -> Number:
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?", text):
        raise UsageError(f"{where}: {text!r:.60} is no plain number: digits and a point, without units or separators")
    exact = Decimal(text)
    if exact.adjusted() >= MAX_DIGITS:
        raise UsageError(f"{where}: {text!r:.60} is beyond all measure")
    if column in ABOVE_ZERO and not exact:
        raise UsageError(f"{where}: it has to be above 0; leave it empty where it is not known")
    exponent = exact.as_tuple().exponent
    half = Decimal(0) if column in EXACT else Decimal((0, (5,), int(exponent) - 1))
    return Number(float(exact), float(max(exact - half, Decimal(0))), float(exact + half))
