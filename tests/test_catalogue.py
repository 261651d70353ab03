"""`gatebench list variants`: each variant and endpoint, with each hole's reason; what is missing is one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.endpoints import ENDPOINTS
from apps.variant import INSTALL
from apps.variants import VARIANTS
from harness import catalogue, show

KEYS = {"name", "family", "interface", "server", "framework", "command", "budget", "endpoints"}


def test_every_variant_is_listed_with_every_endpoint() -> None:
    rows = catalogue.variants()
    assert [row["name"] for row in rows] == list(VARIANTS)
    assert len(rows) >= 36
    for row in rows:
        assert row.keys() >= KEYS
        assert list(row["endpoints"]) == list(ENDPOINTS)
        missing = VARIANTS[row["name"]].missing
        holes = {name for name, reason in row["endpoints"].items() if reason != "ok"}
        assert holes == (set(ENDPOINTS) if missing else set(VARIANTS[row["name"]].holes))


def test_a_server_that_is_not_installed_is_a_hole_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = replace(VARIANTS["waitress"], name="absent", needs=("no_such_server",))
    monkeypatch.setattr(catalogue, "VARIANTS", {"absent": absent, "asgi": VARIANTS["asgi"]})
    rows = catalogue.variants()
    assert set(rows[0]["endpoints"].values()) == {f"no_such_server not installed: {INSTALL}"}
    assert set(rows[1]["endpoints"].values()) == {"ok"}
    show.catalogue("variants", rows)
    shown = capsys.readouterr().out
    assert f"no_such_server not installed: {INSTALL}\n  nothing: absent\n" in shown


def test_the_table_for_people_is_readable_on_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = catalogue.variants()
    show.catalogue("variants", rows)
    lines = capsys.readouterr().out.splitlines()
    matrix = next(number for number, line in enumerate(lines) if line.split()[-1:] == [list(ENDPOINTS)[-1]])
    assert all(len(line.rstrip()) <= 100 for line in lines[matrix : matrix + len(rows) + 1])
    head = lines[matrix]
    for row, line in zip(rows, lines[matrix + 1 :], strict=False):
        assert line.startswith(row["name"])
        for endpoint, reason in row["endpoints"].items():
            mark = line[head.index(f" {endpoint}") + 1 :].split(" ")[0]
            assert mark == ("ok" if reason == "ok" else "–")
    reasons = {reason for row in rows for reason in row["endpoints"].values()} - {"ok"}
    assert all(lines.count(reason) == 1 for reason in reasons)
