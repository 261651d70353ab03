"""The lean parser and h11, a well-kept one, read the same bytes alike, in whatever pieces they come."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.load.http import ProtocolError, Response


class Read(NamedTuple):
    status: int
    body: bytes
    reusable: bool


def by_h11(pieces: list[bytes], method: str = "GET", *, ended: bool = True) -> Read | None:
    """None = refused, or not whole."""
    ours = h11.Connection(h11.CLIENT)
    ours.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    ours.send(h11.EndOfMessage())
    status, body, whole = 0, b"", False
    try:
        for piece in [*pieces, b""] if ended else pieces:
            ours.receive_data(piece)
            while not whole and (event := ours.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    whole = True
                elif isinstance(event, h11.ConnectionClosed):
                    return None
            if whole:
                break
    except h11.RemoteProtocolError:
        return None
    return Read(status, body, ours.their_state is h11.DONE) if whole and not ours.trailing_data[0] else None


def by_us(pieces: list[bytes], method: str = "GET") -> Read | None:
    response = Response(bodiless=method == "HEAD")
    try:
        whole = False
        for piece in pieces:
            if whole:  # bytes that nobody asked for: the client drops the connection
                return None
            whole = response.feed(piece)
    except ProtocolError:
        return None
    whole = whole or response.end()
    if not whole or response.head is None:
        return None
    return Read(response.head.status, bytes(response.body), response.head.keep)


tokens = st.text("abcXYZ-", min_size=1, max_size=8).map(lambda text: b"X" + text.encode())
values = st.text("abc 123;,=\t", max_size=12).map(lambda text: text.strip().encode())
extras = st.lists(st.tuples(tokens, values), max_size=4).map(
    lambda pairs: b"".join(b"%s:%s\r\n" % (name, value) for name, value in pairs)
)
interims = st.lists(
    st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"]), max_size=2
).map(b"".join)
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"])
statuses = st.sampled_from([200, 201, 204, 206, 301, 304, 404, 500, 599])
connections = st.sampled_from(
    [b"", b"Connection: close\r\n", b"connection: keep-alive\r\n", b"Connection: x, Close\r\n"]
)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bool]:
    """A whole response, and whether only the end of the connection ends it."""
    chunks = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=5))
    body = b"".join(chunks)
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    line = b"%s %d %s\r\n" % (draw(versions), draw(statuses), draw(st.sampled_from([b"OK", b"", b"So it is"])))
    head = draw(interims) + line + draw(extras) + draw(connections)
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, False
    if framing == "close":
        return head + b"\r\n" + body, True
    size = draw(st.sampled_from([b"%x", b"%X", b"00%x", b"%x;name=value"]))
    framed = b"".join(size % len(chunk) + b"\r\n" + chunk + b"\r\n" for chunk in chunks)
    trailer = draw(st.sampled_from([b"", b"Trailer: x\r\n"]))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailer + b"\r\n", False


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[low:high] for low, high in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 1000), max_size=15)


@given(made=responses(), cuts=cuts, method=st.sampled_from(["GET", "GET", "HEAD"]))
@settings(deadline=None, max_examples=400)
def test_what_h11_reads_we_read_alike(made: tuple[bytes, bool], cuts: list[int], method: str) -> None:
    data, until_closed = made
    theirs = by_h11([data], method)
    if theirs is None:  # such as a 204 with a body: bytes too many
        assert by_us([data], method) is None
        return
    ours = by_us(pieces_of(data, cuts), method)
    assert ours is not None
    assert ours[:2] == theirs[:2]
    assert ours.reusable <= theirs.reusable, "a connection that is not to be used again was kept"
    if not until_closed and b"HTTP/1.0 " not in data:  # both are never used again
        assert ours.reusable == theirs.reusable, "a good connection was dropped"


@given(made=responses(), at=st.integers(0, 10_000), put=st.binary(max_size=3), cut=st.integers(0, 4), more=cuts)
@example(
    made=(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 3\r\n\r\npong", False),
    at=0,
    put=b"",
    cut=0,
    more=[],
)
@example(  # the CR before Transfer-Encoding is lost: h11 takes a bare LF for a line's end, we refuse it
    made=(b"HTTP/1.1 200 OK\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", False),
    at=21,
    put=b"",
    cut=1,
    more=[],
)
@settings(deadline=None, max_examples=600)
def test_of_damaged_bytes_we_never_read_something_else(
    made: tuple[bytes, bool], at: int, put: bytes, cut: int, more: list[int]
) -> None:
    """Either may refuse what the other takes, but what both take must be the same."""
    at %= len(made[0]) + 1
    data = made[0][:at] + put + made[0][at + cut :]
    theirs, ours = by_h11([data]), by_us(pieces_of(data, more))
    if theirs is not None and ours is not None:
        assert ours[:2] == theirs[:2]
        assert ours.reusable <= theirs.reusable


@given(made=responses(), first=cuts, second=cuts)
@settings(deadline=None, max_examples=200)
def test_pieces_make_no_difference_to_damage(made: tuple[bytes, bool], first: list[int], second: list[int]) -> None:
    data = made[0][: max(len(made[0]) - len(first), 0)]
    assert by_us(pieces_of(data, first)) == by_us(pieces_of(data, second))


@pytest.mark.parametrize("stop", range(60))
def test_every_cut_is_seen(stop: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n"
    assert (by_us([data[:stop]]) is None) == (stop < len(data))
    assert (by_h11([data[:stop]]) is None) == (stop < len(data))


def test_the_comparison_can_fail() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong"
    assert by_h11([data]) == by_us([data]) == Read(200, b"pong", True)
    assert by_us([data.replace(b"pong", b"pang")]) != by_h11([data])
