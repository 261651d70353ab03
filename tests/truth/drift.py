"""A machine that drifts, simulated. In: a plan's shape. Out: throughputs by experiment, block and variant.

Every slot of time has a level from a stationary AR(1) process (sd 3 %, φ = .9 from one Trial to the next), and each
Trial its own noise. Within a block the variants take turns in random order, as `harness.trial.plan` has them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]

DRIFT, PHI = 0.03, 0.9


def levels(rng: np.random.Generator, experiments: int, slots: int) -> Floats:
    """Logarithms of the machine's speed, slot by slot."""
    shocks = rng.normal(0, DRIFT * np.sqrt(1 - PHI**2), (experiments, slots))
    shocks[:, 0] = rng.normal(0, DRIFT, experiments)
    drift: Floats = lfilter([1], [1, -PHI], shocks, axis=1)
    return drift


def in_blocks(rng: np.random.Generator, experiments: int, blocks: int, effects: Floats, noise: float) -> Floats:
    """experiments × blocks × variants: throughputs, the variants of a block in random order. effects: logarithms."""
    variants = len(effects)
    machine = levels(rng, experiments, blocks * variants).reshape(experiments, blocks, variants)
    turns = rng.permuted(np.broadcast_to(np.arange(variants), machine.shape), axis=2)
    met = np.take_along_axis(machine, turns, axis=2)
    seen: Floats = 1000 * np.exp(effects + met + rng.normal(0, noise, machine.shape))
    return seen


def one_after_the_other(rng: np.random.Generator, experiments: int, repeats: int, noise: float) -> Floats:
    """experiments × 2 × repeats: all Trials of A, then all of B, which is the same server."""
    machine = levels(rng, experiments, 2 * repeats)
    seen: Floats = 1000 * np.exp(machine + rng.normal(0, noise, machine.shape))
    return seen.reshape(experiments, 2, repeats)
