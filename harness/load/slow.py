"""A slow client. In: a request, prepared, and over how many seconds it is sent. Out: one outcome, in its Track.

As over a poor line, the head comes a piece at a time, and is whole with the last one. Who reads requests with a worker
of few has one less meanwhile. The sending is part of service: the declared `slow_s` is the least that it takes.
"""

from __future__ import annotations

import itertools
from contextlib import closing

import gevent
from gevent import socket

from harness.load.call import Call
from harness.load.client import Address
from harness.load.conversation import Broken, Due, dial, now, settled
from harness.load.http import Response
from harness.load.recorder import Recorder
from harness.trial import Part

PIECES = 10


def slow(
    call: Call,
    address: Address,
    target: str,  # noqa: ARG001  stands in the call
    part: Part,
    recorder: Recorder,
    due: Due,
    timeout_s: float,
) -> None:
    """One request in pieces, the first at once and the last after `slow_s`, and the whole reply to it.

    The time-out is the server's: the client's own slowness comes on top.
    """
    with settled(recorder.track(part.row), due, part.slow_s + timeout_s) as begun, closing(dial(address)) as sock:
        for number, piece in enumerate(pieces(call.request)):
            gevent.sleep(max(begun + part.slow_s * number / (PIECES - 1) - now(), 0))
            sock.sendall(piece)
        response = _reply(sock, call)
        assert response.head is not None
        if wrong := call.judge(response.head.status, response.body, response.size):
            raise Broken(wrong)


def pieces(request: bytes) -> list[bytes]:
    """The request cut into PIECES of nearly one size."""
    cuts = [len(request) * number // PIECES for number in range(PIECES + 1)]
    return [request[begin:end] for begin, end in itertools.pairwise(cuts)]


def _reply(sock: socket.socket, call: Call) -> Response:
    response = Response(bodiless=call.bodiless, kept=0 if call.expected is None else len(call.expected))
    while data := sock.recv(65_536):
        if response.feed(data):
            return response
    if not response.end():
        raise Broken("truncated" if response.begun else "closed without an answer")
    return response
