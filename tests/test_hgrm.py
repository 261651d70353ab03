"""The .hgrm file, against a case worked by hand, the grammar of HdrHistogram's plotters, and its own histogram."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hgrm import TICKS, bars, hgrm, lines
from harness.histogram import LIMIT_US, Histogram

VALUES = st.lists(st.integers(0, LIMIT_US - 1) | st.integers(0, 5_000), min_size=1, max_size=300)

# Four samples of 0.1 … 0.4 ms. Up to 50 % a step is 100 / (5 · 2) = 10 points, up to 75 % it is 5, then 2.5. A line's
# value is that of the first sample at which so many per cent are reached: up to 25 % the first, up to 50 % the second …
BY_HAND = """\
       Value     Percentile TotalCount 1/(1-Percentile)

       0.100 0.000000000000          1           1.00
       0.100 0.100000000000          1           1.11
       0.100 0.200000000000          1           1.25
       0.200 0.300000000000          2           1.43
       0.200 0.400000000000          2           1.67
       0.200 0.500000000000          2           2.00
       0.300 0.550000000000          3           2.22
       0.300 0.600000000000          3           2.50
       0.300 0.650000000000          3           2.86
       0.300 0.700000000000          3           3.33
       0.300 0.750000000000          3           4.00
       0.400 0.775000000000          4           4.44
       0.400 1.000000000000          4
#[Mean    =        0.250, StdDeviation   =        0.112]
#[Max     =        0.400, Total count    =            4]
#[Buckets =           26, SubBuckets     =         2048]
"""

HEAD = re.compile(r" +Value +Percentile +TotalCount +1/\(1-Percentile\)\n\n")
LINE = re.compile(r" *(\d+\.\d{3}) ([01]\.\d{12}) +(\d+)(?: +(\d+\.\d\d))?\n")
FOOT = re.compile(
    r"#\[Mean    = +(?P<mean>\d+\.\d{3}), StdDeviation   = +(?P<sd>\d+\.\d{3})\]\n"
    r"#\[Max     = +(?P<max>\d+\.\d{3}), Total count    = +(?P<n>\d+)\]\n"
    r"#\[Buckets = +\d+, SubBuckets     = +2048\]\n"
)


def test_four_samples_by_hand() -> None:
    assert hgrm(Histogram.of([100, 200, 300, 400])) == BY_HAND


@given(values=VALUES)
@settings(deadline=None, max_examples=80)
def test_it_keeps_to_the_grammar_and_says_what_the_histogram_says(values: list[int]) -> None:
    histogram = Histogram.of(values)
    text = hgrm(histogram)
    head = HEAD.match(text)
    assert head is not None
    at, found = head.end(), []
    while line := LINE.match(text, at):
        found.append(line)
        at = line.end()
    foot = FOOT.fullmatch(text[at:])
    assert foot is not None, text[at:]
    assert [line for line in found if line[4] is None] == found[-1:], "only the last line, of 100 %, has no inverse"
    shares, counts = [float(line[2]) for line in found], [int(line[3]) for line in found]
    assert shares == sorted(shares)
    assert counts == sorted(counts)
    assert (shares[-1], counts[-1], int(foot["n"])) == (1.0, len(values), len(values))
    assert float(foot["max"]) == float(found[-1][1]) == pytest.approx(histogram.max_us / 1000, abs=0.0006)
    for line in found[:-1]:
        share = float(line[2])
        assert float(line[1]) == pytest.approx(histogram.quantile_us(share) / 1000, abs=0.0006)
        assert float(line[4]) == pytest.approx(1 / (1 - share), abs=0.006)


def test_five_steps_halve_what_is_left() -> None:
    shares = [line.share for line in lines(Histogram.of(range(100_000)))]
    for halvings in range(8):
        low, high = 1 - 0.5**halvings, 1 - 0.5 ** (halvings + 1)
        assert len([share for share in shares if low <= share < high]) == TICKS
    assert {0.5, 0.75, 0.875}.issubset(shares)


def test_one_sample_and_none() -> None:
    assert [tuple(line) for line in lines(Histogram.of([7]))] == [(7, 0.0, 1), (7, 1.0, 1)]
    text = hgrm(Histogram.of([]))
    head = HEAD.match(text)
    assert head is not None
    foot = FOOT.fullmatch(text[head.end() :])
    assert foot is not None
    assert int(foot["n"]) == 0


@given(values=VALUES)
@settings(deadline=None, max_examples=80)
def test_bars_hold_every_sample_once(values: list[int]) -> None:
    found = bars(Histogram.of(values))
    assert sum(bar.samples for bar in found) == len(values)
    assert 1 <= len(found) <= 16
    edges = [bar.upto_us for bar in found]
    assert edges == sorted(set(edges))
    assert found[0].samples
    assert found[-1].samples
    assert edges[-1] >= max(values)


def test_no_samples_no_bars() -> None:
    assert bars(Histogram.of([])) == []
