"""What a scenario says of a request is sent as it says, and what could not be sent safely is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.load.call import prepared
from harness.load.sse import planned
from harness.measure import expected_of
from harness.trial import Part


def lines(**more: Any) -> list[bytes]:
    return prepared("host:1", "/path?a=b", **more).request.split(b"\r\n")


def test_a_plain_request() -> None:
    assert lines()[0] == b"GET /path?a=b HTTP/1.1"
    assert b"Host: host:1" in lines()
    assert lines()[-2:] == [b"", b""]
    assert not [line for line in lines() if line.startswith((b"Content-Length", b"Connection"))]


def test_given_headers_replace_ours_whatever_their_case() -> None:
    found = lines(headers=["hOST: other", "X: 1", "ACCEPT:text/html", "X: 2"])
    assert [line for line in found if line.lower().startswith((b"host", b"accept", b"x"))] == [
        b"hOST: other",
        b"X: 1",
        b"ACCEPT:text/html",
        b"X: 2",
    ]


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("GET", b"", None), ("DELETE", b"", None), ("POST", b"", b"0"), ("PUT", b"ab", b"2"), ("GET", b"abc", b"3")],
)
def test_a_body_says_its_length(method: str, body: bytes, length: bytes | None) -> None:
    found = lines(method=method, body=body)
    told = [line.removeprefix(b"Content-Length: ") for line in found if line.startswith(b"Content-Length")]
    assert told == ([] if length is None else [length])
    assert found[-1] == body


def test_not_kept_alive_says_so() -> None:
    assert b"Connection: close" in lines(keep=False)
    assert not prepared("h", "/", keep=False).keep


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(200, b"pong", ""), (200, b"pang", "wrong body"), (200, b"pon", "wrong body"), (201, b"pong", "status 201")],
)
def test_where_the_body_is_known_only_it_is_right(status: int, body: bytes, kind: str) -> None:
    assert prepared("h", "/", b"pong").judge(status, body, len(body)) == kind


@pytest.mark.parametrize(
    ("status", "kind"), [(200, ""), (201, ""), (204, ""), (304, ""), (302, "status 302"), (404, "status 404")]
)
def test_where_it_is_not_any_success_is_right(status: int, kind: str) -> None:
    assert prepared("h", "/").judge(status, b"", 9) == kind


def test_a_body_longer_than_expected_is_wrong_though_it_begins_right() -> None:
    assert prepared("h", "/", b"pong").judge(200, b"pong", 5) == "wrong body"


@pytest.mark.parametrize(
    "bad",
    [
        {"method": "get"},
        {"method": "GET /x HTTP/1.1\r\nX:"},
        {"method": ""},
        {"method": "CONNECT"},
        {"method": "TRACE"},
        {"headers": ["no colon"]},
        {"headers": ["X: a\r\nInjected: b"]},
        {"headers": ["X: a\nInjected: b"]},
        {"headers": ["X: a\n"]},
        {"headers": ["X: \xfc"]},
        {"headers": ["X y: a"]},
        {"headers": [": a"]},
        {"headers": ["X: " + "a" * 2000]},
        {"headers": ["X: a"] * 33},
        {"headers": ["content-LENGTH: 5"]},
        {"headers": ["Transfer-Encoding: chunked"]},
        {"headers": ["Connection: close"]},
        {"body": "x" * 65_537},
        {"query": "a b"},
        {"query": "a\r\nX: b"},
    ],
)
def test_what_cannot_be_sent_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Part.model_validate({"endpoint": "ping"} | bad)


def test_what_can_be_sent_is_taken() -> None:
    part = Part(endpoint="ping", method="POST", headers=("X-A: b c", "Y:z"), body="ü\r\n\0")
    assert hash(part)
    found = prepared("h", "/", method=part.method, headers=part.headers, body=part.body.encode()).request
    assert found.endswith(b"\r\n\r\n\xc3\xbc\r\n\0")
    assert b"Content-Length: 5\r\n" in found


def test_only_a_plain_question_has_an_answer_that_is_known() -> None:
    assert expected_of(Part(endpoint="ping")) == "pong"
    assert expected_of(Part(endpoint="ping", method="POST")) is None
    assert expected_of(Part(endpoint="sse")) is None
    head = prepared("h", "/", b"pong", method="HEAD")
    assert head.bodiless
    assert head.judge(200, b"", 0) == ""


@pytest.mark.parametrize(
    ("query", "plan"),
    [
        ("events=10&interval_ms=20", (10, 0.02)),
        ("interval_ms=2.5", (0, 0.0025)),
        ("", (0, 0.0)),
        ("events=x&interval_ms=nan", (0, 0.0)),
        ("events=-1&interval_ms=1e9", (0, 0.0)),
        ("events=99999999999", (0, 0.0)),
    ],
)
def test_what_a_query_plans(query: str, plan: tuple[int, float]) -> None:
    assert planned(query) == plan
