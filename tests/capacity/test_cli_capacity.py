"""`gatebench capacity` and `gatebench plan` as their users meet them: wrong words, and real servers of known truth."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from harness.capacity.told import Answer
from harness.capacity.verbs import code_of
from harness.cli import main
from harness.proving import serving
from harness.recording import read_run
from tests.gate import Gate, wait_for
from tests.quietness import Quiet

# As DESIGN.md writes them.
KEYS = {"variant", "scenario", "slo", "sustained_rps", "low", "high", "smallest_failed_rps", "limited_by"}
KEYS |= {"reason", "seconds", "steps"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("capacity", "--slo", "p99.9<200ms"), 2, "--slo: 'p99.9' can't be promised; there are p50, p90, p99, errors"),
        (("capacity", "--slo", "errors<0.1%"), 2, "--slo: a promise needs a response time"),
        (("capacity", "asig"), 2, "no variant 'asig'; did you mean asgi"),
        (("capacity", "--scenario", "quick"), 2, "quick holds 6 scenarios, and a capacity is of one; choose one of"),
        (("capacity", "--url", "http://192.0.2.1/", "--slo", "p99<1s"), 2, "192.0.2.1 is 192.0.2.1, not this machine"),
        (("capacity", "--server-cpus", "x"), 2, "--server-cpus 'x': write it as 0-2,4"),
        (("capacity", "wsgi-sync", "--scenario", "quick/ws", "--slo", "p99<1s"), 4, "nobody can serve it: wsgi-sync:"),
        (("plan",), 2, "say how much: --rate 900, or --requests-per-day 500000 --peak-factor 4"),
        (("plan", "--rate", "9", "--peak-factor", "2"), 2, "--peak-factor belongs to --requests-per-day"),
        (("plan", "--rate", "9", "--memory", "8 bags"), 2, "write it as 8GB or 512MB"),
    ],
)
def test_wrong_words_are_answered_in_a_line(
    words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    shown = capsys.readouterr()
    assert ended.value.code == code
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


def answer(outcome: str, sustained: float | None) -> Answer:
    return Answer.model_validate(
        dict.fromkeys(("low", "high", "smallest_failed_rps"))
        | {"variant": "v", "scenario": "s", "slo": "p99<1ms", "sustained_rps": sustained, "limited_by": "none"}
        | {"reason": "", "seconds": 1.0, "steps": (), "outcome": outcome}
    )


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([("found", 10.0)], 0),
        ([("found", 10.0), ("generator", None)], 0),
        ([("found", 10.0), ("impossible", None)], 3),
        ([("impossible", None)], 3),
        ([("generator", None)], 4),
        ([], 4),
    ],
)
def test_the_exit_code_says_whether_there_is_an_answer(answers: list[tuple[str, float | None]], code: int) -> None:
    assert code_of(tuple(answer(*one) for one in answers)) == code


@pytest.mark.slow
def test_a_url_is_searched_and_its_folder_reported(gate: Gate, tmp_path: Path) -> None:
    """One server of 25 ms, 40/s at most: nothing of the machine comes near it."""
    with serving("mdc", 1, 25) as known:
        url = f"http://127.0.0.1:{known.port}/"
        words = ("--slo", "p99<300ms", "--budget-s", 60, "--results", tmp_path, "--name", "r", "--json")
        ended = gate("capacity", "--url", url, *words)
    (row,) = json.loads(ended.out)
    assert row.keys() >= KEYS
    assert (row["variant"], row["slo"]) == ("url", "p99<300ms")
    assert "at most 1 min 0 s" in ended.err.splitlines()[0], "it says beforehand how long it takes"
    assert ended.seconds < 80
    if row["sustained_rps"] is None:  # on a machine that is busy, the generator may be to blame for every trial
        assert ended.code == 4
    else:
        assert ended.code == 0
        assert 10 < row["sustained_rps"] < 42
    assert row["steps"][0]["purpose"] == "bracket"
    read = read_run(tmp_path / "r")
    assert len(read.recordings) == len(row["steps"])
    assert 'id="chart-capacity"' in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    again = gate("report", tmp_path / "r")
    assert again.code == 0


@pytest.mark.slow
def test_ctrl_c_keeps_the_trials_and_leaves_nothing(gate: Gate, tmp_path: Path) -> None:
    words = (
        "capacity",
        "asgi",
        "--scenario",
        "sleep?ms=20",
        "--slo",
        "p99<200ms",
        "--results",
        tmp_path,
        "--name",
        "r",
    )
    command = gate.start(*words)
    wait_for(lambda: len(list(tmp_path.glob("r/trials/*.gz"))) >= 1 or None, f"a trial: {command.err}", 40)
    time.sleep(1.0)
    command.signal(signal.SIGINT)
    ended = command.ended(10)
    command.assert_nothing_left()
    assert ended.code == 130
    manifest = read_run(tmp_path / "r").manifest
    assert manifest["outcome"] == "interrupted"


@pytest.mark.slow
@pytest.mark.realtime
@pytest.mark.long
def test_a_token_bucket_is_found_within_two_per_cent(gate: Gate, tmp_path: Path, quiet: Quiet) -> None:
    """PROOFS, capacity: 400 a second, each 2.5 ms, first come, first served. Under Poisson arrivals it is M/D/1, which
    holds p99 < 200 ms up to 0.9713 of that (Erlang, 1909)."""
    exact = 0.9713 * 400

    def proof() -> None:
        with serving("mdc", 1, 2.5) as known:
            words = ("--url", f"http://127.0.0.1:{known.port}/", "--slo", "p99<200ms", "--json")
            name = f"r{time.monotonic_ns()}"
            told = gate.start("capacity", *words, "--results", tmp_path, "--name", name).ended(240)
        assert told.code == 0, told.err
        (row,) = json.loads(told.out)
        print(*(row[name] for name in ("sustained_rps", "likely_rps", "low", "high", "reason")))
        assert abs(row["likely_rps"] / exact - 1) < 0.02, row
        assert 0.95 * exact < row["sustained_rps"] < 1.02 * exact, "below what is likely, so as not to promise too much"

    quiet.proved(proof)
