"""Event streams are read as WHATWG HTML §9.2 says, however the bytes come."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.load.events import MAX_EVENT, Event, EventParser
from harness.load.http import ProtocolError


def read(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"id: 0\ndata: a\n\n", [(b"0", b"a")]),
        (b"id: 0\r\ndata: a\r\n\r\n", [(b"0", b"a")]),
        (b"id: 0\rdata: a\r\r", [(b"0", b"a")]),
        (b"id: 0\rdata: a\r\n\n", [(b"0", b"a")]),  # mixed line ends
        (b"data: a\n\r", [(b"", b"a")]),
        (b"data: a\r\n\n\r\r\n", [(b"", b"a")]),  # further blank lines are no events
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"data: a\n\xef\xbb\xbfdata: b\n\n", [(b"", b"a")]),  # a BOM elsewhere is part of a field's name
        (b"data: a\ndata:b\ndata:  c\ndata\n\n", [(b"", b"a\nb\n c\n")]),
        (b": hello\ndata: a\n: and\nretry: 99\nevent: x\nother: y\nnothing\n\n", [(b"", b"a")]),
        (b": only a comment\n\nid: 7\n\nretry: 1\n\ndata: a\n\n", [(b"7", b"a")]),  # without data: no event
        (b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", [(b"1", b"a"), (b"1", b"b"), (b"", b"c")]),
        (b"id: 1\nid: 2\0\ndata: a\n\n", [(b"1", b"a")]),
        (b"data:\n\n", [(b"", b"")]),
        (b"data: a", []),
        (b"data: a\n", []),  # no blank line: the end of the stream discards it
        (b"data: a\ndata: b\n\ndata: c", [(b"", b"a\nb")]),
    ],
)
def test_a_stream_in_one_piece_in_bytes_and_split_anywhere(data: bytes, events: list[tuple[bytes, bytes]]) -> None:
    assert read(data) == events
    assert read(*(data[at : at + 1] for at in range(len(data)))) == events
    for cut in range(len(data)):
        assert read(data[:cut], data[cut:]) == events


def test_an_event_is_there_as_soon_as_it_is_whole() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\r") == [(b"", b"a")], "waited for an LF that may never come"
    assert parser.feed(b"\n") == []
    assert parser.feed(b"data: b\n\n") == [(b"", b"b")]


lines = st.text("ab :\xfc", max_size=6).map(str.encode)
events = st.lists(st.lists(lines, min_size=1, max_size=3), max_size=5)


@given(
    events=events,
    ends=st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=1, max_size=9),
    noise=st.sampled_from([b"", b": ping", b"retry: 5", b"event: x"]),
    cuts=st.lists(st.integers(0, 500), max_size=15),
)
@settings(deadline=None, max_examples=300)
def test_any_events_with_any_line_ends_in_any_pieces(
    events: list[list[bytes]], ends: list[bytes], noise: bytes, cuts: list[int]
) -> None:
    end = itertools.cycle(ends)
    text: list[bytes] = []
    for number, data in enumerate(events):
        text += [b"id: %d" % number, *([noise] if noise else []), *(b"data: " + line for line in data), b""]
    # "\r" before an empty line that ends in "\n" would read as one line end: not two
    raw = b"".join(line + (b"\n" if b"\r" in ends and b"\n" in ends else next(end)) for line in text)
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    expected = [(b"%d" % number, b"\n".join(data)) for number, data in enumerate(events)]
    assert read(*(raw[low:high] for low, high in itertools.pairwise(edges))) == expected


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 999 + b"\n", b"data: " + b"x" * 999])
def test_an_endless_event_is_refused(piece: bytes) -> None:
    with pytest.raises(ProtocolError, match="1 MB"):
        read(*[piece] * (2 * MAX_EVENT // len(piece)))
