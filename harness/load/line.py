"""Who waits for a connection. In: arrivals, in the order in which they were taken up. Out: the same, in that order.

An overload makes this line as long as its rate × the time-out. So an arrival takes 24 bytes in it, in blocks of which
those in the middle are never touched, where a tuple of two floats takes 150.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterator
from struct import Struct

import numpy as np
from numpy.typing import NDArray

BLOCK = 2048  # arrivals
_WIDTH = 3  # numbers of each
_PACKED = Struct("=3d").pack


class Line:
    """First come, first served; the part of the mix, the intended moment and that of the taking up of each."""

    __slots__ = ("_blocks", "_first")

    def __init__(self) -> None:
        self._blocks: deque[array[float]] = deque()  # never an empty one
        self._first = 0  # where the first arrival begins in the first block

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def join(self, part: int, intended: float, taken: float) -> None:
        if not self._blocks or len(self._blocks[-1]) == BLOCK * _WIDTH:
            self._blocks.append(array("d"))
        self._blocks[-1].frombytes(_PACKED(part, intended, taken))

    def leave(self) -> tuple[int, float, float]:
        """The first one."""
        part, intended, taken = self._blocks[0][self._first : self._first + _WIDTH]
        self._forget(1)
        return int(part), intended, taken

    def overdue(self, limit: float = math.inf) -> Iterator[NDArray[np.float64]]:
        """Those who were taken up before this moment leave, a block at a time: rows of part, intended, taken."""
        while self._blocks and self._blocks[0][self._first + 2] < limit:
            waiting = np.frombuffer(self._blocks[0][self._first :]).reshape(-1, _WIDTH)
            count = int(np.searchsorted(waiting[:, 2], limit))
            self._forget(count)
            yield waiting[:count]

    def _forget(self, count: int) -> None:
        self._first += count * _WIDTH
        if self._first == len(self._blocks[0]):
            self._blocks.popleft()
            self._first = 0
