"""HTTP/1.1 responses read the same however the bytes come, and what is none is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.load.http import KEPT_BODY, MAX_HEAD, Head, ProtocolError, Response, parse_head

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n"
ADORNED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\n\r\n"
    b'2;name=value\r\npo\r\n0B ; quoted="x"\r\nng\r\n0\r\n\r\nxx\r\n000;last\r\nTrailer: x\r\nOther: y\r\n\r\n'
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + LENGTH
WHOLE = [
    (LENGTH, 200, b"pong", True),
    (CHUNKED, 200, b"pong", True),
    (ADORNED, 200, b"png\r\n0\r\n\r\nxx".replace(b"png", b"pong"), True),
    (INTERIM, 200, b"pong", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", 204, b"", True),
    (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, b"", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
    (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nno", 500, b"no", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    (b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:  2 \r\n\r\nok", 200, b"ok", True),
    (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 101, b"", False),
]
OPEN_ENDED = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nuntil the end"


def fed(pieces: list[bytes]) -> Response:
    """The response after all pieces, of which only the last may make it whole."""
    response = Response()
    answers = [response.feed(piece) for piece in pieces]
    assert answers == [False] * (len(pieces) - 1) + [True]
    return response


@pytest.mark.parametrize(("data", "status", "body", "keep"), WHOLE)
def test_a_whole_response(data: bytes, status: int, body: bytes, keep: bool) -> None:
    response = fed([data])
    assert response.head is not None
    assert (response.head.status, bytes(response.body), response.head.keep) == (status, body, keep)
    assert response.size == len(body)
    assert response.end() is not response.head.chunked


@pytest.mark.parametrize(("data", "status", "body", "keep"), WHOLE)
def test_it_reads_the_same_split_at_every_byte(data: bytes, status: int, body: bytes, keep: bool) -> None:
    for cut in range(1, len(data)):
        response = fed([data[:cut], data[cut:]])
        assert response.head is not None
        assert (response.head.status, bytes(response.body), response.head.keep) == (status, body, keep)
    assert bytes(fed([data[at : at + 1] for at in range(len(data))]).body) == body


@given(
    body=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    trailer=st.sampled_from([b"", b"A: b\r\n"]),
)
@example(body=[b"\r\n\r\n", b"0\r\n\r\n"], cuts=[], trailer=b"")
@settings(deadline=None, max_examples=150)
def test_any_chunks_in_any_pieces_make_the_body(body: list[bytes], cuts: list[int], trailer: bytes) -> None:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in body)
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailer + b"\r\n"
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    response = fed([data[low:high] for low, high in itertools.pairwise(edges)])
    assert bytes(response.body) == b"".join(body)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    response = Response()
    assert not response.feed(OPEN_ENDED[:50])
    assert not response.feed(OPEN_ENDED[50:])
    assert response.end()
    assert bytes(response.body) == b"until the end"
    assert response.head == Head(200, None, False, False)


@pytest.mark.parametrize("data", [LENGTH, CHUNKED, ADORNED, INTERIM])
def test_what_the_server_cuts_off_is_not_whole(data: bytes) -> None:
    for cut in range(len(data)):
        response = Response()
        assert not response.feed(data[:cut])
        assert not response.end(), f"taken for whole after {cut} of {len(data)} bytes"


@pytest.mark.parametrize(
    "data",
    [
        LENGTH + b"!",
        b"HTTP/1.1 204 No Content\r\n\r\nx",
        b"HTTP/1.1 304 Not Modified\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx",
        CHUNKED + b"!",
        CHUNKED + LENGTH,
    ],
)
def test_more_than_one_response_is_too_much(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Response().feed(data)


@pytest.mark.parametrize(
    "line", [b"", b"x", b"-5", b"+5", b"0x5", b"0_5", b"-2", b"-0", b"5 5", b"\xff", b";x", b" ", b"g", b"5\n"]
)
def test_a_chunks_size_is_hexadecimal_and_nothing_else(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        Response().feed(CHUNKED.partition(b"4\r\n")[0] + line + b"\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize("framed", [b"4\r\npongs\r\n0\r\n\r\n", b"4\r\npongs\r\n\r\n", b"4\r\npong" + b"x" * 2_000])
def test_a_chunk_longer_than_it_says_is_refused(framed: bytes) -> None:
    with pytest.raises(ProtocolError):
        Response().feed(CHUNKED.partition(b"4\r\n")[0] + framed)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: "])
def test_an_endless_head_is_refused(start: bytes) -> None:
    response = Response()
    response.feed(start)
    for _ in range(MAX_HEAD // 1_000 - 1):
        assert not response.feed(b"x" * 1_000)
    with pytest.raises(ProtocolError, match="64 KB"):
        response.feed(b"x" * 2_000)


def test_an_endless_chunk_line_is_refused() -> None:
    response = Response()
    response.feed(CHUNKED.partition(b"4\r\n")[0])
    for _ in range(10):
        assert not response.feed(b"1" * 100)
    with pytest.raises(ProtocolError, match="chunk"):
        response.feed(b"1" * 100)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/2 200",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1  200",
        b"http/1.1 200 OK",
        b"SSH-2.0-OpenSSH",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4, 4",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x4",
        b"HTTP/1.1 200 OK\r\nContent-Length:",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 4",
    ],
)
def test_what_is_no_head_is_refused(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_head(head)


def test_a_reply_to_head_has_a_length_but_no_body() -> None:
    assert parse_head(LENGTH.partition(b"\r\n\r\n")[0], bodiless=True) == Head(200, 0, False, True)
    assert parse_head(LENGTH.partition(b"\r\n\r\n")[0]) == Head(200, 4, False, True)


def test_a_status_line_without_words_will_do() -> None:
    assert parse_head(b"HTTP/1.1 200\r\nContent-Length: 4").status == 200


def test_chunks_win_over_a_length() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked")
    assert (head.length, head.chunked) == (None, True)


def test_of_a_huge_body_only_the_length_is_kept() -> None:
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")
    for _ in range(49):
        assert not response.feed(bytes(100_000))
    assert response.feed(bytes(100_000))
    assert response.size == 5_000_000
    assert len(response.body) <= KEPT_BODY + 100_000
