"""Comparisons of Runs and variants: every verdict, what refuses them, regressions, the table for a pull request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.blocks import values_of
from harness.compare import (
    NO_REFERENCE,
    Difference,
    caveat,
    check,
    differences,
    markdown,
    obstacles,
    of_runs,
    of_variants,
    regressions,
    rows_of,
)
from harness.errors import UsageError
from tests.made_up import FACTS, blocks, recording

# DESIGN.md: `compare` → these keys, first and in this order
KEYS = ["variant", "scenario", "endpoint", "metric", "base", "new", "ratio", "low", "high", "verdict"]


def noisy(speed: float, n: int = 8, noise: float = 0.01, seed: int = 8) -> list[float]:
    rng = np.random.default_rng([seed, round(speed), n])
    return [speed * (1 + rng.normal(0, noise)) for _ in range(n)]


def by(found: list[Difference], variant: str, metric: str = "throughput_rps") -> Difference:
    (row,) = (row for row in found if (row.variant, row.metric) == (variant, metric))
    return row


# -- variants of one run ---------------------------------------------------------------------------------------------


def test_variants_of_one_run_are_paired_by_block() -> None:
    drift, rng = np.linspace(1, 1.5, 8), np.random.default_rng(8)
    speeds: dict[str, list[float]] = {
        "wsgi": list(2000 * drift * (1 + rng.normal(0, 0.005, 8))),
        "asgi": list(2200 * drift * (1 + rng.normal(0, 0.005, 8))),
        "same": list(2000 * drift * (1 + rng.normal(0, 0.005, 8))),
    }
    found = differences(of_variants(values_of(blocks(speeds)), "wsgi", ["asgi", "same"]))
    assert [(row.variant, row.metric) for row in found] == [
        (variant, metric) for variant in ("asgi", "same") for metric in ("throughput_rps", "p50_ms", "p99_ms")
    ]
    faster, same = by(found, "asgi"), by(found, "same")
    assert faster.verdict == by(found, "asgi", "p50_ms").verdict == "faster"
    assert faster.ratio == pytest.approx(1.1, rel=0.02)
    assert by(found, "asgi", "p50_ms").ratio == pytest.approx(1 / 1.1, rel=0.02)
    assert faster.low is not None
    assert 1.05 < faster.low < 1.12
    assert same.verdict == "same"
    assert (faster.blocks, faster.level, faster.arrivals, faster.lens) == (8, 16, "closed", "equal-cpu")


def test_what_is_not_there_is_named() -> None:
    values = values_of(blocks({"wsgi": noisy(2000), "asgi": noisy(50, 2)}))
    found = differences(of_variants(values, "wsgi", ["asgi", "gone"]))
    assert by(found, "gone").reason == "no usable trial in gone"
    assert by(found, "asgi", "p99_ms").reason == "too few samples in asgi"
    assert by(found, "asgi", "p99_ms").ratio is None
    assert by(found, "gone").verdict == by(found, "asgi", "p99_ms").verdict == "unknown"
    assert of_variants(values, "neither", ["nor"]) == []


def test_a_difference_within_the_noise_floor_is_none() -> None:
    speeds = {"wsgi": noisy(2000), "asgi": noisy(2100), "wsgi/aa": noisy(2160, seed=9)}
    found = by(differences(of_variants(values_of(blocks(speeds)), "wsgi", ["asgi"])), "asgi")
    assert found.verdict == "unknown"
    assert "two identical variants were" in found.reason


# -- two runs --------------------------------------------------------------------------------------------------------


def test_two_runs_are_compared_variant_by_variant() -> None:
    old = values_of(blocks({"asgi": noisy(4000), "wsgi": noisy(2000), "wsgi/aa": noisy(2000, seed=9)}))
    new = values_of(blocks({"asgi": noisy(3600), "wsgi": noisy(2000, seed=10)}))
    found = differences(of_runs(old, new), tolerance=0.05)
    assert {row.variant for row in found} == {"asgi", "wsgi"}
    slower = by(found, "asgi")
    assert (slower.verdict, slower.regression) == ("slower", True)
    assert slower.ratio == pytest.approx(0.9, rel=0.02)
    assert slower.base == pytest.approx(4000, rel=0.01)
    assert slower.new == pytest.approx(3600, rel=0.01)
    assert NO_REFERENCE in caveat(None)
    assert by(found, "wsgi").verdict in ("same", "unknown")
    assert {row.variant for row in regressions(found)} == {"asgi"}


def test_a_regression_is_larger_than_the_tolerance() -> None:
    old, new = (values_of(blocks({"asgi": noisy(speed)})) for speed in (4000, 3600))
    assert by(differences(of_runs(old, new), tolerance=0.2), "asgi").verdict == "slower"
    assert regressions(differences(of_runs(old, new), tolerance=0.2)) == []
    assert len(regressions(differences(of_runs(old, new)))) == 3
    assert regressions(differences(of_runs(new, old))) == [], "faster is no regression"


def test_a_reference_takes_out_what_changed_for_both() -> None:
    old = values_of(blocks({"asgi": noisy(4000), "wsgi": noisy(2000)}))
    new = values_of(blocks({"asgi": noisy(3200), "wsgi": noisy(1600)}))  # a slower day
    assert by(differences(of_runs(old, new)), "asgi").verdict == "slower"
    found = by(differences(of_runs(old, new, "wsgi")), "asgi")
    assert found.verdict in ("same", "unknown")
    assert found.ratio == pytest.approx(1, abs=0.02)
    assert caveat("wsgi").startswith("As ratios to wsgi of the same run")
    assert by(differences(of_runs(old, new, "wsgi")), "wsgi").verdict == "slower", "itself it can only be told plainly"
    assert by(differences(of_runs(old, new, "none")), "asgi").verdict == "unknown"


def test_an_answer_that_is_gone_is_a_regression() -> None:
    old = values_of(blocks({"asgi": noisy(4000), "wsgi": noisy(2000)}))
    new = values_of(blocks({"asgi": noisy(4000), "fresh": noisy(2000)}))
    found = differences(of_runs(old, new))
    gone, fresh = by(found, "wsgi"), by(found, "fresh")
    assert (gone.verdict, gone.regression, gone.reason) == ("unknown", True, "no usable trial in the new run")
    assert (fresh.verdict, fresh.regression, fresh.reason) == ("unknown", False, "no usable trial in the base run")


def test_one_block_supports_no_claim() -> None:
    old, new = (values_of(blocks({"asgi": [speed]})) for speed in (4000, 400))
    found = by(differences(of_runs(old, new)), "asgi")
    assert (found.verdict, found.low, found.regression) == ("unknown", None, False)


# -- what refuses them -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"kernel": "6.2"}, 'kernel: "6.1" → "6.2"'),
        ({"cpu": None}, 'cpu: "one of tests" → null'),
        ({"versions": {"uvicorn": "0.55"}}, 'version of uvicorn: "0.54" → "0.55"'),
        ({"versions": {"uvicorn": "0.54", "gevent": "1"}}, 'version of gevent: not known → "1"'),
        ({"versions": "odd"}, 'version of uvicorn: "0.54" → not known'),
    ],
)
def test_a_changed_fact_blocks_and_is_named(facts: dict[str, Any], named: str) -> None:
    old, new = blocks({"asgi": [4000]}), blocks({"asgi": [4000]}, facts=FACTS | facts)
    assert obstacles(old, new) == [named]
    with pytest.raises(UsageError, match="--across-machines") as refused:
        check(old, new)
    assert named in str(refused.value)
    check(old, new, across_machines=True)


def test_the_source_is_what_runs_are_compared_for() -> None:
    old, new = blocks({"asgi": [4000]}), blocks({"asgi": [4000]}, facts=FACTS | {"source": "def"})
    check(old, new)
    assert obstacles(old, old) == []


def test_a_machine_that_changed_within_a_run_is_noticed() -> None:
    mixed = [*blocks({"asgi": [4000]}), *blocks({"wsgi": [4000]}, facts=FACTS | {"kernel": "6.2"})]
    assert obstacles(mixed, mixed) == ['kernel: "6.1" and "6.2" → "6.1" and "6.2"']


def test_other_questions_and_lenses_are_refused_on_any_machine() -> None:
    old = [recording([100] * 3)]
    with pytest.raises(UsageError, match="asked different things under one name: s"):
        check(old, [recording([100] * 4)], across_machines=True)
    with pytest.raises(UsageError, match="different lenses"):
        check(old, [recording([100] * 3, lens="as-configured")], across_machines=True)
    check(old, [recording([100] * 3, repeats=9)])
    check(old, [recording([100] * 3, level=32)])


# -- what is printed -------------------------------------------------------------------------------------------------


def made(**changed: Any) -> Difference:
    plain: dict[str, Any] = {
        "variant": "asgi", "scenario": "quick", "endpoint": "sleep", "metric": "p99_ms", "base": 51.23, "new": 61.5,
        "ratio": 1.2, "low": 1.1, "high": 1.3, "verdict": "slower", "level": 500, "arrivals": "poisson",
        "lens": "equal-cpu", "blocks": 8, "regression": True, "reason": "by 20.0% over 8 blocks",
    }  # fmt: skip
    return Difference(**(plain | changed))


def test_json_has_the_keys_of_design() -> None:
    (row,) = rows_of([made()])
    assert list(row)[: len(KEYS)] == KEYS
    assert row["verdict"] == "slower"


def test_markdown_for_a_pull_request() -> None:
    text = markdown(
        [
            made(),
            made(verdict="same", regression=False, arrivals="closed", level=16, base=12_345.6, metric="throughput_rps"),
            made(verdict="unknown", ratio=None, low=None, high=None, regression=False, new=None),
            made(verdict="faster", ratio=0.5, low=None, high=None, regression=False),
        ],
        "main against this branch",
    )
    lines = text.splitlines()
    assert lines[0] == "### `main against this branch`"
    assert lines[2] == "4 comparisons: 1 faster, 1 slower, 1 same, 1 not known. 1 regression."
    assert lines[6].startswith("| `quick` | `500/s poisson` | `sleep` | `asgi` | `p99_ms` | 51.23 | 61.5 | 1.200 [1.1")
    assert lines[6].endswith(" – 1.300] | **slower** ⚠ |")
    assert "| `16 users` |" in lines[7]
    assert "| 12,346 | 61.5 |" in lines[7]
    assert lines[8].endswith("| n/a | n/a | ~ |")
    assert "| 0.500 ~ | faster |" in lines[9]


def test_markdown_defuses_what_a_foreign_run_holds() -> None:
    text = markdown([made(endpoint="`x` | <img src=x> \n# head \\")])
    (row,) = (line for line in text.splitlines() if "img" in line)
    assert row.count("|") == 10
    assert "<" not in row
    assert "`x img src=x # head`" in row
