"""PROOFS T16: the tests themselves are tested. Each lie below is told in a copy of the package, and a test must notice.

MUTATIONS, the table at the end, names the file, the one string that is replaced, and the tests that must fail then. A
row whose string is no longer found fails: move it along with the code that it spoils.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("apps", "harness", "scenarios", "tests")
AT_A_TIME = 2


class Mutation(NamedTuple):
    lie: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


Outcome = subprocess.CompletedProcess[str] | str  # of pytest; or why there is none


def copied(to: Path) -> Path:
    for name in COPIED:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    shutil.copy(ROOT / "pyproject.toml", to)
    # compiled once; each file is still held against its compiled form by its content, never by its time
    compileall.compile_dir(to, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return to


def outcome_of(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """These tests, run on the copy by a pytest of its own."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    argv += ["--hypothesis-profile=lies", *tests]
    # without CI, too: there pytest prints whole differences, and that of two long lists takes minutes
    env = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith(("PYTEST", "COV"))}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)}
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # Locust's and others' take half a second
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def told(mutation: Mutation, folder: Path) -> Outcome:
    """What the tests say of this lie in the copy, which is put right again; why it can't be told, where it can't."""
    path = folder / mutation.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        return f"{mutation.file} holds this {source.count(mutation.old)} times, not once"
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        compile(path.read_text(encoding="utf-8"), str(path), "exec")
        return outcome_of(folder, *mutation.tests)
    finally:
        path.write_text(source, encoding="utf-8")


class Telling(NamedTuple):
    """The copies that lies are told in, each by one at a time; what came of each lie, and of none at all."""

    folders: tuple[Path, ...]
    of_none: Future[Outcome]
    of: dict[str, Future[Outcome]]


@pytest.fixture(scope="module")
def telling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telling]:
    """Every lie that is asked for is being told, two at a time."""
    folders = tuple(copied(tmp_path_factory.mktemp("copy")) for _ in range(AT_A_TIME))
    free = list(folders)
    items = [item for item in request.session.items if "mutation" in getattr(item, "fixturenames", ())]
    asked: list[Mutation] = [item.callspec.params["mutation"] for item in items]  # type: ignore[attr-defined]

    def tell(mutation: Mutation | None) -> Outcome:
        folder = free.pop()
        try:
            return told(mutation, folder) if mutation else outcome_of(folder, *EVERY_TEST)
        finally:
            free.append(folder)

    pool = ThreadPoolExecutor(AT_A_TIME)
    yield Telling(folders, pool.submit(tell, None), {mutation.lie: pool.submit(tell, mutation) for mutation in asked})
    pool.shutdown(cancel_futures=True)


@pytest.mark.slow
def test_the_copy_as_it_is_passes(telling: Telling) -> None:
    done = telling.of_none.result()
    assert not isinstance(done, str)
    assert done.returncode == 0, done.stdout + done.stderr
    where = [sys.executable, "-c", "import harness; print(harness.__file__)"]
    for folder in telling.folders:
        env = os.environ | {"PYTHONPATH": str(folder)}
        found = subprocess.run(where, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
        assert found.startswith(str(folder)), "it is not the copy that is tested"


def test_no_lie_is_told_twice() -> None:
    assert len({(mutation.file, mutation.old, mutation.new) for mutation in MUTATIONS}) == len(MUTATIONS)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mutation" in metafunc.fixturenames:
        metafunc.parametrize("mutation", MUTATIONS, ids=[mutation.lie for mutation in MUTATIONS])


@pytest.mark.slow
def test_a_lie_is_noticed(mutation: Mutation, telling: Telling) -> None:
    done = telling.of[mutation.lie].result()
    assert not isinstance(done, str), done
    # 1: a test failed. Anything else (no such test, nothing imports) is no proof
    assert done.returncode == 1, f"nobody noticed ({done.returncode}):\n{done.stdout}{done.stderr}"
    assert "error" not in done.stdout.splitlines()[-1], done.stdout


RECORDER, TRUTH = "tests/load/test_recorder.py", "tests/truth/test_truth_histogram.py"
HISTOGRAM, SCHEDULE = "tests/test_histogram.py", "tests/load/test_schedule.py"
PHYSICS, STATS, NO_DATA = "tests/test_physics.py", "tests/test_stats.py", "tests/truth/test_no_data.py"

MUTATIONS = (
    Mutation(
        "response is measured from the actual send",
        "harness/load/recorder.py",
        '"response": ticks[:, 3] - ticks[:, 0]',
        '"response": ticks[:, 3] - ticks[:, 2]',
        (f"{TRUTH}::test_however_seconds_are_closed_nothing_is_lost_or_counted_twice",),
    ),
    Mutation(
        "an arrival that is taken up late was due late",
        "harness/load/open_flow.py",
        "self._take_up(self._parts[self._sent], intended, taken)",
        "self._take_up(self._parts[self._sent], taken, taken)",
        ("tests/load/test_open_flow.py::test_a_held_hub_is_lateness_from_the_intended_moment",),
    ),
    Mutation(
        "what was never sent is forgotten",
        "harness/load/open_flow.py",
        "            track.settle_all(kind, due[mine], ended, None if taken is None else taken[mine])\n",
        "",
        ("tests/load/test_open_flow.py::test_what_was_never_sent_is_settled_and_counted",),
    ),
    Mutation(
        "errors are dropped",
        "harness/load/recorder.py",
        '        self.counts[self._recorder.second(intended)]["failed"] += 1\n',
        "",
        (f"{RECORDER}::test_errors_are_counted_by_kind_and_are_neither_latency_nor_throughput",),
    ),
    Mutation(
        "errors are throughput",
        "harness/load/recorder.py",
        '        self.counts[self._recorder.second(intended)]["failed"] += 1\n',
        "        self.counts[self._recorder.second(intended)].update(failed=1, finished=1)\n",
        (f"{RECORDER}::test_errors_are_counted_by_kind_and_are_neither_latency_nor_throughput",),
    ),
    Mutation(
        "unfinished requests are dropped",
        "harness/load/recorder.py",
        "        elif kind in OVERDUE:\n            self._overdue(",
        "        elif kind == UNFINISHED:\n            return\n        elif kind:\n            self._overdue(",
        (f"{RECORDER}::test_what_never_came_enters_with_its_age",),
    ),
    Mutation(
        "timeouts stay out of the percentiles",
        "harness/load/recorder.py",
        "        self._ages.frombytes(_PACKED(intended, taken, attempted, now))\n",
        "",
        (f"{RECORDER}::test_what_never_came_enters_with_its_age",),
    ),
    Mutation(
        "who was never sent was served at once",
        "harness/load/recorder.py",
        '            kinds = {"lateness": lateness, "response": ticks[:, 2] - ticks[:, 0]}\n',
        '            kinds = {"lateness": lateness, "service": lateness * 0, "response": ticks[:, 2] - ticks[:, 0]}\n',
        (f"{RECORDER}::test_who_waited_in_vain_was_blocked_and_never_served",),
    ),
    Mutation(
        "who waits in vain is forgotten",
        "harness/load/open_flow.py",
        "            self._settle_waiting(NO_CONNECTION, waited, ended)\n",
        "",
        ("tests/load/test_line.py::test_an_overload_of_a_minute_holds_a_time_out_of_it_and_counts_add_up",),
    ),
    Mutation(
        "a second that was closed loses what comes later",
        "harness/load/recorder.py",
        "        for second in sorted(self.counts.keys() | self.bins.keys()):\n            if second < before:\n",
        "        for second in sorted(self.counts.keys() & self.bins.keys()):\n            if second < before:\n",
        (f"{RECORDER}::test_a_call_belongs_to_the_second_it_was_due_and_finishes_in_another",),
    ),
    Mutation(
        "percentiles are averaged",
        "harness/intervals.py",
        "    pooled_ms = quantile_ms(pool, q)\n",
        "    pooled_ms = float(np.mean([trial.quantile_us(q) / 1000 for trial in some] or [0]))\n",
        (f"{STATS}::test_trials_weigh_by_their_samples", f"{STATS}::test_percentiles_are_of_the_pool_and_no_average"),
    ),
    Mutation(
        "an average of medians",
        "harness/histogram.py",
        "        np.add.at(counts, inverse, np.concatenate([part.counts for part in some]))\n",
        "        np.add.at(counts, inverse, 1)\n",
        (f"{TRUTH}::test_percentiles_of_seconds_are_merged_never_averaged",),
    ),
    Mutation(
        "what is out of range is dropped",
        "harness/histogram.py",
        "    clipped = np.clip(values_us, 0, LIMIT_US - 1)\n",
        "    clipped = values_us[(values_us >= 0) & (values_us < LIMIT_US)]\n",
        (f"{HISTOGRAM}::test_values_out_of_range_are_counted",),
    ),
    Mutation(
        "ranks are rounded down",
        "harness/histogram.py",
        "math.ceil(round(q * self.n, 6))",
        "math.floor(round(q * self.n, 6))",
        (f"{HISTOGRAM}::test_the_rank_is_rounded_up_but_not_by_the_noise_of_a_product",),
    ),
    Mutation(
        "the clock on the wall",
        "harness/load/client.py",
        "now = time.monotonic\n",
        "now = time.time\n",
        ("tests/truth/test_truth_clock.py::test_an_hour_to_and_fro_changes_nothing[closed]",),
    ),
    Mutation(
        "the lateness gate is skipped",
        "harness/physics.py",
        "    lateness,\n",
        "",
        (f"{PHYSICS}::test_evidence_and_its_verdict",),
    ),
    Mutation(
        "the gate of late starts is skipped",
        "harness/physics.py",
        "    late,\n",
        "",
        (f"{PHYSICS}::test_evidence_and_its_verdict",),
    ),
    Mutation(
        "lost requests are no matter",
        "harness/physics.py",
        "    sums,\n",
        "",
        (f"{PHYSICS}::test_evidence_and_its_verdict",),
    ),
    Mutation(
        "a verdict without data",
        "harness/physics.py",
        "    nothing,\n",
        "",
        (f"{NO_DATA}::test_a_cell_of_a_run_without_data_has_no_number_either",),
    ),
    Mutation(
        "a percentile without the samples for it",
        "harness/load_url.py",
        "histogram.n >= samples_needed(q) if q < 1 else histogram.n > 0",
        "histogram.n > 0",
        (f"{NO_DATA}::test_a_percentile_is_named_when_it_has_the_samples_and_not_one_before",),
    ),
    Mutation(
        "many comparisons risk no more than one",
        "harness/paired.py",
        "    risks = holm([ratio.p for ratio in ratios], 1 - confidence)\n",
        "    risks = [1 - confidence] * len(ratios)\n",
        ("tests/test_paired.py::test_a_larger_family_asks_for_more",),
    ),
    Mutation(
        "servers at the load's own ceiling are ranked",
        "harness/ranking.py",
        "if {*pair} <= {*tied} else claim",
        "if not pair else claim",
        ("tests/test_ranking.py::test_what_something_shared_limits_is_never_told_apart",),
    ),
    Mutation(
        "identical servers are not looked at",
        "harness/blocks.py",
        "        session[kind] = max(session.get(kind, 0.0), floor_of(variants))\n",
        "        session[kind] = 0.0\n",
        ("tests/test_blocks.py::test_a_cell_without_a_pair_has_the_floor_of_its_session",),
    ),
    Mutation(
        "a file that was changed is believed",
        "harness/seal.py",
        "digest_of(path) == digest",
        "len(digest) == 64",
        ("tests/test_seal.py::test_a_recording_that_was_changed_is_left_out_and_named",),
    ),
    Mutation(
        "random arrivals are even",
        "harness/load/schedule.py",
        "rng.exponential(1 / rate, BLOCK)",
        "np.full(BLOCK, 1 / rate)",
        (f"{SCHEDULE}::test_poisson_gaps_are_exponential_and_independent",),
    ),
    Mutation(
        "every worker sends the whole schedule",
        "harness/load/schedule.py",
        "    return block[(k - begin) % n :: n]\n",
        "    return block\n",
        (f"{SCHEDULE}::test_all_workers_together_send_what_one_would",),
    ),
)
EVERY_TEST = tuple(dict.fromkeys(test for mutation in MUTATIONS for test in mutation.tests))
