"""The self-test's arithmetic and its certificate, in numbers: no server, no generator, no clock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness import certificate, cli, doctor, facts, selftest
from harness.certificate import Certificate, Check
from harness.load.order import Order, Progress
from harness.physics import judge
from harness.proving import Prover, frozen_responses, quantile, scenario, stalled
from harness.recording import Sample
from harness.selftest import Late, below, highest, least, near, same


def made(*checks: Check) -> Certificate:
    return Certificate(
        closed_ceiling_rps=70_000,
        open_ceiling_rps=24_000,
        wrk_rps=None,
        checks=checks,
        ok=all(check.ok for check in checks),
        made_at="2026-11-21T10:00:00+00:00",
        seconds=50,
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


# -- what a frozen server must look like -----------------------------------------------------------------------------


def test_the_freeze_of_proofs_is_706_ms() -> None:
    """PROOFS T1: S − 0.01·D·(1 − λ/μ) + service; here besides the two or three whom the stop finds inside."""
    times = np.arange(15_000) / 500
    assert quantile(frozen_responses(times, 0.005, 10.0005, 11.0005), 0.99) == pytest.approx(0.706, abs=0.005)
    assert quantile(frozen_responses(np.arange(5_000) / 500, 0.005, 4, 5), 0.99) == pytest.approx(0.905, abs=0.005)


def test_a_freeze_catches_who_is_inside_and_who_comes_meanwhile() -> None:
    times = np.array([0.9, 0.994, 0.9975, 1.0, 1.5, 1.999, 2.0, 2.5])
    expected = [0.005, 0.005, 1.0025, 1.005, 0.505, 0.006, 0.005, 0.005]
    assert frozen_responses(times, 0.005, 1.0, 2.0) == pytest.approx(expected)


@pytest.mark.parametrize(("q", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_quantiles_are_at_nearest_rank(q: float, value: int) -> None:
    assert quantile(list(range(100, 0, -1)), q) == value


# -- the search for the open ceiling ---------------------------------------------------------------------------------


def machine(ceiling: float, hiccups: Set[int] = frozenset()) -> tuple[Callable[[float], Late], list[float]]:
    """A generator that is late beyond its ceiling, and in its tail at those trials that are disturbed."""
    asked: list[float] = []

    def late(rate: float) -> Late:
        asked.append(rate)
        if rate > ceiling:
            return Late(400.0, 500.0)
        return Late(0.1, 50.0 if len(asked) in hiccups else 0.2)

    return late, asked


@pytest.mark.parametrize("ceiling", [700, 3_000, 9_000, 16_000, 24_000, 31_000, 60_000, 120_000])
def test_the_open_ceiling_is_found_from_below(ceiling: float) -> None:
    late, asked = machine(ceiling)
    found = highest(late)
    assert ceiling / 1.13 <= found <= ceiling
    assert len(asked) <= 12


def test_no_rate_at_all_is_no_ceiling() -> None:
    late, asked = machine(100)
    assert highest(late) == 0
    assert len(asked) < 10


def test_a_generator_beyond_the_search_is_given_its_end() -> None:
    late, asked = machine(1e9)
    assert highest(late) <= selftest.MOST_RPS
    assert len(asked) < 12


def test_a_hiccup_is_no_ceiling_and_an_overload_is_not_asked_twice() -> None:
    late, _ = machine(24_000, {1, 3})
    assert 24_000 / 1.13 <= highest(late) <= 24_000
    late, asked = machine(24_000)
    highest(late)
    assert len(asked) == len(set(asked))


# -- the checks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "ok"),
    [
        (below("x", 0.5, 0.5), True),
        (below("x", 0.5, 0.51), False),
        (below("x", 0.5, float("inf")), False),
        (least("x", 100, 100), True),
        (least("x", 100, 99), False),
        (near("x", 905, 909.9, 5), True),
        (near("x", 905, 899.9, 5), False),
        (same("x", 3, 3), True),
        (same("x", 3, 4), False),
    ],
)
def test_a_check_holds_or_says_what_to_do(check: Check, ok: bool) -> None:
    assert check.ok is ok
    assert check.expected
    assert check.remedy
    json.dumps(check.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize(("waited_s", "found_s"), [(0.001, 0.07), (0.3, 0.03)])
def test_a_second_in_which_others_held_the_cpu_proves_no_stall(waited_s: float, found_s: float) -> None:
    samples = [
        Sample.model_validate({"second": second, "who": who, "cpu_s": 0.5} | more)
        for second, stalled_s, late in ((0, 0.03, 0.0), (1, 0.07, waited_s))
        for who, more in (("machine", {"stalled_s": stalled_s}), ("generator", {"waited_s": late}))
    ]
    assert stalled(samples) == found_s
    assert stalled([]) == 0


class Spoilt:
    """A load process that says how it ended, and did nothing."""

    def ensure(self) -> None:
        pass

    def send(self, order: Order) -> None:
        pass

    def progress(self, _timeout_s: float) -> Progress:
        return Progress(state="done", spoilt="1 of 2 load workers was lost: 50 % of the load", notes=("by 2 workers",))


def test_a_load_that_was_spoilt_proves_nothing() -> None:
    prover = Prover()
    prover.generator = Spoilt()  # type: ignore[assignment]
    recording = prover.drive(9, scenario("constant", 10, 1))
    assert (recording.end.outcome, recording.end.notes) == ("generator_failed", ("by 2 workers",))
    assert judge(recording)[:2] == ("VOID", "generator")
    assert judge(recording).reason == "1 of 2 load workers was lost: 50 % of the load"


class Still:
    """A prover on a machine that stood still for so long."""

    def __init__(self, stalled_s: float) -> None:
        self._stalled_s = stalled_s

    def take_stall(self) -> float:
        return self._stalled_s


@pytest.mark.parametrize(("stalled_s", "named"), [(0.0, False), (0.019, False), (0.072, True)])
def test_a_stall_of_the_machine_is_named_where_time_was_checked(stalled_s: float, named: bool) -> None:
    def part(_found: Any) -> Iterator[Check]:
        """a part"""
        yield below("late", 1, 80)
        yield same("requests", 3, 2)

    found = selftest.Found(Still(stalled_s), lambda _line: None)  # type: ignore[arg-type]
    late, requests = selftest._twice(part, found, deadline=0.0)
    assert ("stood still for up to 72 ms" in late.remedy) is named
    assert requests.remedy == selftest.WRONG, "no stall changes a count"


def test_what_fails_is_looked_at_once_more_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def fails_first(_found: Any) -> Iterator[Check]:
        """a part"""
        looks.append(1)
        yield below("x", 1, 2 if len(looks) == 1 else 1)

    found = selftest.Found(Still(0.0), lambda _line: None)  # type: ignore[arg-type]
    assert [(check.ok, check.tries) for check in selftest._twice(fails_first, found, deadline=math.inf)] == [(True, 2)]
    looks.clear()
    assert [(check.ok, check.tries) for check in selftest._twice(fails_first, found, deadline=0.0)] == [(False, 1)]


# -- the certificate -------------------------------------------------------------------------------------------------


def test_it_is_kept_and_found_again(cache: Path) -> None:
    assert certificate.kept() is None
    wanted = made(below("x", 1, 0.5))
    path = certificate.keep(wanted)
    assert path is not None
    assert path.is_relative_to(cache / "gatebench")
    assert certificate.kept() == wanted
    assert wanted.ceilings == {"closed": 70_000, "open": 24_000}


@pytest.mark.parametrize("what", ["boot", "cpu", "versions"])
def test_it_does_not_hold_for_another_machine_or_boot(
    what: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate.keep(made())
    assert certificate.kept() is not None
    if what == "boot":
        other = tmp_path / "boot"
        other.write_text("another boot")
        monkeypatch.setattr(certificate, "BOOT", other)
    else:
        monkeypatch.setitem(facts.FACTS, what, lambda: "other")
    assert certificate.kept() is None


@pytest.mark.parametrize("content", ["", "{}", "null", "x" * 10, '{"ok": true}', " " * (1 << 17)])
def test_what_is_damaged_is_none(content: str, cache: Path) -> None:
    path = certificate.keep(made())
    assert path is not None
    path.write_text(content)
    assert certificate.kept() is None


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert certificate.keep(made()) is None
    assert certificate.kept() is None


def test_the_doctor_says_whether_there_is_one(cache: Path) -> None:
    assert not doctor.instrument().ok
    assert "gatebench selftest" in doctor.instrument().remedy
    certificate.keep(made(below("x", 1, 0.5)))
    assert doctor.instrument().ok
    assert "closed 70,000/s, open 24,000/s; every check passed" in doctor.instrument().found
    certificate.keep(made(below("x", 1, 2)))
    assert not doctor.instrument().ok
    assert "x failed" in doctor.instrument().found


# -- the verb --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("measured", "code"), [(0.5, 0), (2.0, 4)])
def test_the_verb_answers_and_exits(
    measured: float, code: int, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "certify", lambda _say: made(below("lateness", 1, measured)))
    done = CliRunner().invoke(cli.cli, ["selftest", "--json"], standalone_mode=False)
    assert done.return_value == code, done.output
    told = json.loads(done.stdout)
    assert {"closed_ceiling_rps", "open_ceiling_rps", "checks", "ok"} <= told.keys()
    assert {"name", "expected", "measured", "unit", "ok"} <= told["checks"][0].keys()
    assert certificate.kept() is not None, "a failed one is kept as well: the report must say so"
    done = CliRunner().invoke(cli.cli, ["selftest"], standalone_mode=False)
    assert done.return_value == code
    assert "closed ceiling" in done.stdout
    assert (selftest.BUSY in done.stdout.replace("\n", " ")) is (code == 4)
