"""`gatebench compare` and `audit` as their users meet them: runs on disk, words, exit codes, JSON, a chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import cli
from harness.compare import caveat
from harness.recording import save
from tests.made_up import FACTS, blocks

# DESIGN.md: `compare` → these keys, first and in this order
KEYS = ["variant", "scenario", "endpoint", "metric", "base", "new", "ratio", "low", "high", "verdict"]


def noisy(speed: float, seed: int, n: int = 8, noise: float = 0.004) -> list[float]:
    return list(speed * (1 + np.random.default_rng(seed).normal(0, noise, n)))


def stored(folder: Path, speeds: Mapping[str, Sequence[float]], **options: Any) -> Path:
    (folder / "trials").mkdir(parents=True)
    for one in blocks(speeds, **options):
        save(one, folder / "trials")
    (folder / "run.json").write_text("{}")
    return folder


class Told:
    """What the command printed, and how it ended."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        printed = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(capsys)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    base = {"asgi": noisy(4000, 1), "wsgi": noisy(2000, 2)}
    return {
        "base": stored(tmp_path / "base", base),
        "same": stored(tmp_path / "same", {"asgi": noisy(4000, 3), "wsgi": noisy(2000, 4)}),
        "slow": stored(tmp_path / "slow", {"asgi": noisy(3400, 5), "wsgi": noisy(2000, 6)}),
    }


def test_two_runs_and_a_regression(told: Told, runs: dict[str, Path]) -> None:
    code, out, err = told("compare", runs["base"], runs["slow"], "--json")
    rows = json.loads(out)
    assert code == 3
    assert err == f"{caveat(None)}\n"
    assert [list(row)[: len(KEYS)] for row in rows] == [KEYS] * len(rows)
    by = {(row["variant"], row["metric"]): row for row in rows}
    assert by["asgi", "throughput_rps"]["verdict"] == "slower"
    assert by["asgi", "throughput_rps"]["ratio"] == pytest.approx(0.85, rel=0.02)
    assert {row["verdict"] for row in rows if row["variant"] == "wsgi"} <= {"same", "unknown"}
    assert told("compare", runs["base"], runs["same"])[0] == 0
    assert told("compare", runs["base"], runs["slow"], "--tolerance", 0.3)[0] == 0, "15 % is less than 30 %"
    assert told("compare", runs["slow"], runs["base"])[0] == 0, "faster is no regression"


def test_a_table_for_people_and_one_for_a_pull_request(told: Told, runs: dict[str, Path]) -> None:
    code, out, _ = told("compare", runs["base"], runs["slow"])
    assert code == 3
    assert "slower ⚠" in out
    assert "6 comparisons: " in out
    code, out, _ = told("compare", runs["base"], runs["slow"], "--markdown", "--reference", "wsgi")
    assert code == 3
    assert out.startswith("### `base → slow`\n\n6 comparisons: ")
    assert "**slower** ⚠ |" in out


def test_two_variants_of_one_run(told: Told, runs: dict[str, Path]) -> None:
    code, out, _ = told("compare", runs["base"], "--base", "wsgi", "--new", "asgi", "--json")
    (row,) = (row for row in json.loads(out) if row["metric"] == "throughput_rps")
    assert (code, row["variant"], row["verdict"]) == (0, "asgi", "faster")
    assert row["low"] < row["ratio"] < row["high"]
    assert told("compare", runs["base"], "--base", "asgi")[0] == 3, "all others unless told: wsgi is slower"


def test_a_changed_fact_blocks_and_is_named(told: Told, runs: dict[str, Path], tmp_path: Path) -> None:
    other = stored(tmp_path / "other", {"asgi": noisy(4000, 7)}, facts=FACTS | {"kernel": "6.2"})
    code, out, err = told("compare", runs["base"], other)
    assert (code, out) == (2, "")
    assert 'the runs differ in facts: kernel: "6.1" → "6.2" (--across-machines' in err
    for extra in ((), ("--markdown",)):
        code, out, _ = told("compare", runs["base"], other, "--across-machines", *extra)
        assert code == 3, "wsgi is gone"
        assert out.count("measured at different times") == 1
        assert 'The runs differ in facts: kernel: "6.1" → "6.2".' in out
    assert told("compare", runs["base"], stored(tmp_path / "source", {"asgi": noisy(4000, 8), "wsgi": noisy(2000, 9)},
                facts=FACTS | {"source": "def"}))[0] == 0  # fmt: skip


def test_three_runs_are_a_history_with_a_chart(told: Told, tmp_path: Path) -> None:
    folders = [
        stored(tmp_path / f"r{place}", {"asgi": noisy(speed, place, 3), "wsgi": noisy(2000, 99 + place, 3)})
        for place, speed in enumerate([4000] * 7 + [3400] * 7)
    ]
    code, out, err = told("compare", *folders, "--reference", "wsgi", "--json")
    assert code == 3
    by = {(row["variant"], row["metric"]): row for row in json.loads(out)}
    row = by["asgi", "throughput_rps"]
    assert list(row)[: len(KEYS)] == KEYS
    assert (row["verdict"], row["reference"], len(row["points"])) == ("slower", "wsgi", 14)
    assert [change["run"] for change in row["changes"]] == ["r7"]
    assert row["ratio"] == pytest.approx(0.85, rel=0.02)
    chart = folders[-1] / "history.html"
    assert err == f"chart: {chart}\n"
    page = chart.read_text(encoding="utf-8")
    assert "asgi (s, sleep, throughput_rps): changed against wsgi: -15." in page
    assert "default-src 'none'; script-src &#39;sha256-" in page
    code, out, err = told("compare", *folders[:4], "--to", tmp_path / "h.html")
    assert code == 0, "nothing changed"
    assert "4 runs are too few to see a change; 12 at least" in out
    assert (tmp_path / "h.html").exists()
    assert told("compare", *folders, "--markdown")[1].startswith("3 histories as ratios to `asgi`")


def test_what_cannot_be_compared_is_exit_4(told: Told, runs: dict[str, Path], tmp_path: Path) -> None:
    other = stored(tmp_path / "other", {"daphne": noisy(900, 1)})
    code, _, err = told("compare", runs["base"], other)
    assert (code, err) == (4, "gatebench: nothing can be compared: no cell has usable trials on both sides\n")
    dead = stored(tmp_path / "dead", {"asgi": [400, 400]}, outcome="server_died")
    assert told("compare", runs["base"], dead)[0] == 4
    assert told("compare", runs["base"], other, dead)[0] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{base}", "name the variant to compare with, --base VARIANT; there are asgi, wsgi"),
        ("{base} --base agsi", "no usable trial of 'agsi'; did you mean asgi or wsgi?"),
        ("{base} --base asgi --new asgi", "--new: other variants than asgi"),
        ("{base} --base asgi --reference wsgi", "--reference is of two runs and more"),
        ("{base} {same} --base asgi", "--base and --new name variants of one run"),
        ("{base} {same} --reference x", "no usable trial of 'x'"),
        ("{base} {same} --to x.html", "--to is of the chart of three runs and more"),
        ("{base} {same} {slow} --to x.gif", "--to x.gif: it ends with .html, .png, .svg, .pdf"),
        ("{base} {same} --tolerance -1", "-1.0 is not in the range"),
        ("{base} nowhere", "nowhere is no run"),
        ("", "Missing argument"),
    ],
)
def test_wrong_words_are_one_line(told: Told, runs: dict[str, Path], words: str, said: str) -> None:
    code, out, err = told("compare", *words.format(**runs).split())
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_damaged_run_is_compared_and_told(told: Told, runs: dict[str, Path]) -> None:
    next((runs["same"] / "trials").iterdir()).write_bytes(b"torn")
    code, _, err = told("compare", runs["base"], runs["same"])
    assert code == 2
    assert "not a readable recording" in err


# -- audit -----------------------------------------------------------------------------------------------------------

TABLE = """server,RPS,clients,slots,wait_ms
one thread,413,64,1,100
honest,9.8,64,1,100
"""


def test_an_audit_is_a_sentence_a_row(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TABLE, encoding="utf-8")
    columns = ("--column", "name=server", "--column", "throughput_rps=RPS", "--column", "concurrency=clients")
    code, out, err = told("audit", path, *columns)
    assert (code, err) == (0, "")
    assert out.startswith("1 one thread: impossible (slots): ")
    assert "\n2 honest: " in out
    code, out, _ = told("audit", path, *columns, "--json")
    rows = json.loads(out)
    assert [list(row)[:4] for row in rows] == [["row", "verdict", "law", "reason"]] * 2
    assert rows[0]["verdict"] == "impossible"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("audit nowhere.csv", "nowhere.csv: No such file or directory; name a CSV file"),
        ("audit .", "Is a directory"),
        ("audit {path} --column speed=RPS", "write COLUMN=HEADING"),
        ("audit {path}", "is known; --column COLUMN=HEADING maps them"),
    ],
)
def test_an_audit_of_nothing_is_one_line(told: Told, tmp_path: Path, words: str, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("server,RPS\nx,1\n", encoding="utf-8")
    code, out, err = told(*words.format(path=path).split())
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_an_audited_table_has_a_limit(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"name,throughput_rps\n" + b"x,1\n" * 300_000)
    code, _, err = told("audit", path)
    assert code == 2
    assert "larger than 1 MB" in err
