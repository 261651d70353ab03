"""When arrivals are due. In: a pattern, a rate, a duration, a seed. Out: ascending times in seconds from the start.

Pure, no clock: a schedule follows from its seed alone, so neither the server nor the generator can shift it. It comes
in blocks, as ten hours of 10 000/s are 360 million arrivals; block by block it is, bit for bit, what it is as a whole.
ARRIVALS, the table at the end, holds every pattern; adding one is a generator and its row. What a pattern can be told
besides (its shape) are the keywords of its generator: a scenario's `shape` may name these and no others.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Parts = NDArray[np.int64]
Block = TypeVar("Block", Times, Parts)
Shape = Mapping[str, "float | tuple[float, ...]"]

PLAIN: Shape = MappingProxyType({})
BLOCK = 2048  # arrivals drawn at a time: 0.1-0.2 ms of the hub's time


def constant(rate: float, duration_s: float, rng: np.random.Generator) -> Iterator[Times]:  # noqa: ARG001  one signature
    """Evenly spaced: ⌈rate · duration⌉ arrivals, the first at 0."""
    for numbers in _numbers(rate * duration_s):
        yield numbers / rate


def poisson(rate: float, duration_s: float, rng: np.random.Generator) -> Iterator[Times]:
    """Independent exponential gaps of mean 1/rate, as from very many independent users (Palm-Khintchine)."""
    last = 0.0
    while last < duration_s:
        gaps = rng.exponential(1 / rate, BLOCK)
        gaps[0] += last  # a sum carried on is the same, bit for bit, as one sum over all gaps
        times = np.cumsum(gaps)
        last = float(times[-1])
        yield times[: int(np.searchsorted(times, duration_s))]


def ramp(
    rate: float,
    duration_s: float,
    rng: np.random.Generator,  # noqa: ARG001
    *,
    through: Sequence[float] = (0.0, 1.0),
) -> Iterator[Times]:
    """Straight from 0 to the rate, so ½·a·t² arrivals by t; or through several shares of it, evenly apart in time."""
    rates = rate * _shares("through", through, 2)
    yield from _paced(rates[:-1], rates[1:], duration_s)


def steps(
    rate: float,
    duration_s: float,
    rng: np.random.Generator,  # noqa: ARG001
    *,
    at: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
) -> Iterator[Times]:
    """One constant rate after another, each for as long; given as shares of the rate."""
    rates = rate * _shares("at", at, 1)
    yield from _paced(rates, rates, duration_s)


def burst(
    rate: float,
    duration_s: float,
    rng: np.random.Generator,  # noqa: ARG001
    *,
    every_s: float = 1.0,
) -> Iterator[Times]:
    """All arrivals of every_s seconds at once, the first burst at 0; the rate is that on average."""
    if not isinstance(every_s, int | float) or not 0.001 <= every_s <= 86_400:
        raise ValueError("every_s is a number of seconds, from 0.001 to 86400")
    for numbers in _numbers(rate * duration_s):
        yield np.floor(np.round(numbers / (rate * every_s), 9)) * every_s


def _numbers(expected: float) -> Iterator[Times]:
    """0, 1, 2, … ⌈expected⌉ - 1, a block at a time; a product's rounding noise makes no arrival."""
    count = math.ceil(round(expected, 6))
    for begin in range(0, count, BLOCK):
        yield np.arange(begin, min(begin + BLOCK, count), dtype=np.float64)


def _shares(name: str, shares: Sequence[float], fewest: int) -> Times:
    values = np.asarray(shares, np.float64)
    if values.ndim != 1 or not fewest <= len(values) <= 100 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} is a list of {fewest} to 100 shares of the rate, each from 0 to 1")
    if not values.any():
        raise ValueError(f"{name} needs a share above 0")
    return values


def _paced(begins: Times, ends: Times, duration_s: float) -> Iterator[Times]:
    """Arrival k comes when the rate, straight from begins[i] to ends[i] in piece i, has integrated to k."""
    length = duration_s / len(begins)
    knots = np.concatenate([[0.0], np.cumsum((begins + ends) / 2 * length)])
    slopes = (ends - begins) / length
    for numbers in _numbers(float(knots[-1])):
        piece = np.minimum(np.searchsorted(knots, numbers, side="right") - 1, len(begins) - 1)
        into, begin = numbers - knots[piece], begins[piece]
        # the root of begin·t + ½·slope·t² = into, in the form that cancels nothing (Numerical Recipes, §5.6)
        below = begin + np.sqrt(np.maximum(begin**2 + 2 * slopes[piece] * into, 0.0))
        within = np.divide(2 * into, below, out=np.zeros_like(into), where=below > 0)
        yield np.minimum(piece * length + np.minimum(within, length), np.nextafter(duration_s, 0.0))


def parts(weights: Sequence[int], n: int, rng: np.random.Generator) -> Parts:
    """Which part of the mix each of n arrivals asks for, by weight. A stream of draws: block by block the same."""
    if len(weights) == 1:
        return np.zeros(n, np.int64)
    share = np.asarray(weights, float)
    return rng.choice(len(weights), size=n, p=share / share.sum()).astype(np.int64)


def stagger(users: int, over_s: float) -> Times:
    """When each closed user begins: evenly over one expected wait, so that they do not march in step."""
    return np.linspace(0.0, over_s, users, endpoint=False)


def blocks(pattern: str, rate: float, duration_s: float, seed: int, shape: Shape = PLAIN) -> Iterator[Times]:
    """The schedule of one Trial, in blocks that are never empty: the same seed gives the same schedule."""
    drawn = ARRIVALS[pattern](rate, duration_s, np.random.default_rng(seed), **shape)
    return (block for block in drawn if len(block))


def draw(pattern: str, rate: float, duration_s: float, seed: int, shape: Shape = PLAIN) -> Times:
    """The whole of it."""
    return np.concatenate([np.empty(0), *blocks(pattern, rate, duration_s, seed, shape)])


def share(block: Block, k: int, n: int, begin: int = 0) -> Block:
    """What worker k of n takes: every n-th arrival from the k-th. begin: how many arrivals came before this block."""
    return block[(k - begin) % n :: n]


def calls(
    times: Iterator[Times], weights: Sequence[int], seed: int, k: int = 0, n: int = 1
) -> Iterator[tuple[Times, Parts]]:
    """Worker k's arrivals with the part of the mix that each asks for: all n together make what one would."""
    rng, begin = np.random.default_rng(seed), 0
    for block in times:
        chosen = parts(weights, len(block), rng)
        mine = share(block, k, n, begin)
        if len(mine):
            yield mine, share(chosen, k, n, begin)
        begin += len(block)


ARRIVALS: dict[str, Callable[..., Iterator[Times]]] = {
    "constant": constant,
    "poisson": poisson,
    "ramp": ramp,
    "steps": steps,
    "burst": burst,
}


def shape_of(words: Iterable[str]) -> dict[str, float | tuple[float, ...]]:
    """A shape as a command line says it: `key=1`, `key=0,0.5,1` (a list; of one: `key=1,`). Raises ValueError."""
    shape: dict[str, float | tuple[float, ...]] = {}
    for word in words:
        key, _, text = word.partition("=")
        try:
            numbers = tuple(float(number) for number in text.removesuffix(",").split(","))
        except ValueError:
            raise ValueError(f"{word!r:.80}: write it as key=1 or key=0,0.5,1") from None
        if key in shape:
            raise ValueError(f"{key!r:.80} is given twice; a list is key=0,0.5,1")
        shape[key] = numbers if "," in text else numbers[0]
    return shape


def check(pattern: str, shape: Mapping[str, Any]) -> None:
    """Raises ValueError, saying what is allowed, for what no schedule can be drawn of."""
    if pattern not in ARRIVALS:
        raise ValueError(f"no such pattern; there are {', '.join(ARRIVALS)}")
    keywords = inspect.signature(ARRIVALS[pattern]).parameters.values()
    allowed = [keyword.name for keyword in keywords if keyword.kind is keyword.KEYWORD_ONLY]
    if unknown := sorted(shape.keys() - set(allowed)):
        raise ValueError(
            f"arrivals = {pattern!r} takes no {unknown[0]}; it takes {' and '.join(allowed) or 'no shape'}"
        )
    next(blocks(pattern, 1.0, 1.0, 0, shape), None)  # the pattern itself refuses what it can't use
