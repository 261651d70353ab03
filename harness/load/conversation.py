"""What event streams and WebSockets share. In: a call that is due. Out: exactly one outcome of it, in its Track.

Slow conversations, in which order matters more than speed: each has a greenlet and reads like a book.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import gevent
from gevent import socket
from wsproto.utilities import ProtocolError as WebSocketError

from harness.load.client import Address, kind_of
from harness.load.http import ProtocolError
from harness.load.recorder import TIMEOUT, UNFINISHED, Recorder, Track
from harness.trial import Part

now = time.monotonic


class Broken(Exception):
    """The conversation ended otherwise than planned; its text is the kind of error."""


class Due(NamedTuple):
    """When a call was due, and when it was taken up."""

    intended: float
    taken: float


Conversation = Callable[[Address, str, Part, Recorder, Due, float], None]
FAILURES = (Broken, OSError, ProtocolError, WebSocketError, gevent.Timeout)


def dial(address: Address) -> socket.socket:
    sock = socket.create_connection(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@contextmanager
def settled(track: Track, due: Due, timeout_s: float, attempted: float | None = None) -> Iterator[float]:
    """Gives a call exactly one outcome in `track`, and passes an error on; yields the moment of the attempt."""
    track.offer(due.intended)
    attempted = now() if attempted is None else attempted
    error: BaseException | None = None
    try:
        with gevent.Timeout(timeout_s):
            yield attempted
    except BaseException as caught:
        error = caught
    track.settle(kind(error), *due, attempted, now())
    if error is not None:
        raise error


def kind(error: BaseException | None) -> str:
    """The kind of an outcome, for counting; '' is a right one."""
    match error:
        case None:
            return ""
        case gevent.Timeout():
            return TIMEOUT
        case gevent.GreenletExit():
            return UNFINISHED
        case OSError():
            return kind_of(error)
        case ProtocolError() | WebSocketError():
            return "protocol"
        case _:
            return str(error) or type(error).__name__
