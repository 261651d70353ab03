"""Event streams as a user meets them. In: an address and a Part. Out: moments, written to Tracks.

Rows: `sse` is the whole stream, `sse:first` the time to the first event, `sse:event` each further event's lateness
against event 0 and the interval, `sse:gap` how much too long a silence between two events was, where it was much too
long. A stream whose events were due apart and came all at once is none: it fails as "buffered".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import parse_qs

from harness.load.call import prepared
from harness.load.client import Address
from harness.load.conversation import Broken, Due, dial, kind, now, settled
from harness.load.events import Event, EventParser
from harness.load.http import Response
from harness.load.recorder import TIMEOUT, UNFINISHED, Recorder
from harness.trial import Part

GAP_S = 0.05  # a silence is a gap when it is longer than planned by as much again, and by this at least
AT_ONCE = 0.1  # events that come within this share of the time they were due in have come at once …
APART_S = 0.05  # … if that was at least so long, and they are at least
SEVERAL = 3


class Stream:
    """What one stream has shown so far, held against its plan. planned, interval_s: 0 where it does not say."""

    __slots__ = ("_early", "_first", "_gap", "_last", "_later", "count", "interval_s", "planned", "start")

    def __init__(self, recorder: Recorder, planned: int, interval_s: float) -> None:
        self._first = recorder.track("sse:first")
        self._later = recorder.track("sse:event")
        self._gap = recorder
        self._early: list[float] | None = []  # when events were due that came at once; None = they come apart
        self._last = 0.0
        self.planned = planned
        self.interval_s = interval_s
        self.count = 0
        self.start = 0.0

    def came(self, event: Event, moment: float, due: Due, attempted: float) -> None:
        if self.planned and self.count >= self.planned:
            raise Broken("more events than planned")
        if self.planned and event.id != b"%d" % self.count:
            raise Broken("events out of order")
        if not self.count:
            self.start = moment
            self._first.completed(*due, attempted, moment)
        elif self.interval_s:
            self._on_time(moment)
        self._last = moment
        self.count += 1

    def _on_time(self, moment: float) -> None:
        expected = self.start + self.count * self.interval_s
        self._later.offer(expected)
        if self._early is None:
            self._completed(expected, moment)
        elif moment - self.start < AT_ONCE * self.count * self.interval_s:
            self._early.append(expected)  # perhaps all will come so
        else:
            self._release()
            self._completed(expected, moment)
        usual = self._last + self.interval_s
        if moment - usual > max(self.interval_s, GAP_S):
            gap = self._gap.track("sse:gap")
            gap.offer(usual)
            gap.completed(usual, usual, usual, moment)

    def _completed(self, expected: float, moment: float) -> None:
        self._later.completed(expected, expected, expected, max(moment, expected))

    def _release(self) -> None:
        """The events held back were only early."""
        for expected in self._early or ():
            self._completed(expected, expected)
        self._early = None

    def ended(self) -> None:
        """The server has ended it. Raises Broken where it was not as planned."""
        if self.count < self.planned or not self.count:
            raise Broken("incomplete stream")
        early = self._early or []
        if len(early) == self.count - 1 >= SEVERAL - 1 and len(early) * self.interval_s >= APART_S:
            for expected in early:
                self._later.failed(expected, "buffered event")
            self._early = None
            raise Broken("buffered")
        self._release()

    def broken(self, due: Due, error: BaseException) -> None:
        """What it owes: each event still planned; if we cut it short ourselves, only what was due by now."""
        moment = now()
        outcome = kind(error) if kind(error) in (TIMEOUT, UNFINISHED) else "missing event"
        self._release()
        if not self.count:
            self._first.settle(outcome, *due, due.taken, moment)
        start = self.start if self.count else due.intended
        for number in range(max(self.count, 1), self.planned):
            expected = start + number * self.interval_s
            if outcome != UNFINISHED or expected <= moment:
                self._later.offer(expected)
                self._later.settle(outcome, expected, expected, expected, max(moment, expected))


def sse(address: Address, target: str, part: Part, recorder: Recorder, due: Due, timeout_s: float) -> None:
    """One whole event stream, each event counted when it has come whole.

    The query may say how many events are due, and when; a stream that does not say is read to its end.
    """
    stream = Stream(recorder, *planned(part.query))
    with settled(recorder.track("sse"), due, timeout_s + stream.planned * stream.interval_s) as attempted:
        recorder.track("sse:first").offer(due.intended)
        try:
            for moment, event in _events(address, target, part):
                stream.came(event, moment, due, attempted)
            stream.ended()
        except BaseException as error:
            stream.broken(due, error)
            raise


def planned(query: str) -> tuple[int, float]:
    """How many events a query asks for, and how many seconds apart; 0 where it does not say."""
    asked = parse_qs(query)
    events, interval_ms = asked.get("events", [""])[0], asked.get("interval_ms", [""])[0]
    number = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
    return (
        int(events) if events.isascii() and events.isdigit() and len(events) < 8 else 0,
        float(interval_ms) / 1000 if number.fullmatch(interval_ms) else 0.0,
    )


def _events(address: Address, target: str, part: Part) -> Iterator[tuple[float, Event]]:
    """The events of one stream with the moments at which they had come whole."""
    given = ("Accept: text/event-stream", "Cache-Control: no-store", *part.headers)
    host = f"{address[0]}:{address[1]}"
    call = prepared(host, target, method=part.method, headers=given, body=part.body.encode())
    with closing(dial(address)) as sock:
        sock.sendall(call.request)
        response, parser, whole = Response(bodiless=call.bodiless), EventParser(), False
        while not whole:
            data = sock.recv(65_536)
            moment = now()
            whole = response.feed(data) if data else True
            if response.head is not None and response.head.status != 200:
                raise Broken(f"status {response.head.status}")
            for event in parser.feed(bytes(response.body)):
                yield moment, event
            response.body.clear()
            if not data and not response.end():
                raise Broken("truncated" if response.begun else "closed without an answer")
