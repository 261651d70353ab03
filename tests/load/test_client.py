"""The lean client gives every call exactly one outcome, the right one, whatever the server does.

The calls are made by client_script.py, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("client_script.py")
ROOT = SCRIPT.parents[2]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]  # gevent prints what a callback raises
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_right_answers_come_over_one_connection(found: dict[str, Any]) -> None:
    assert found["right"]["outcomes"] == ["", "", ""]
    assert found["right"]["connections"] == 1
    assert found["any body"]["outcomes"] == [""]


@pytest.mark.parametrize(
    ("path", "outcome", "connections"),
    [
        ("/wrong", "wrong body", 1),  # a whole reply: the connection is as good as before
        ("/500", "status 500", 1),
        ("/bytes", "", 1),
        ("/says-close", "", 2),
        ("/reset", "reset", 2),
        ("/truncated", "truncated", 2),
        ("/cut-by-reset", "reset", 2),
        ("/switch", "status 101", 2),
        ("/none", "status 204", 1),
        ("/unchanged", "status 304", 1),
        ("/truncated-head", "truncated", 2),
        ("/truncated-chunks", "truncated", 2),
        ("/closed", "closed without an answer", 2),
        ("/delimited", "", 2),
        ("/delimited-wrong", "wrong body", 2),
        ("/garbage", "protocol", 2),
        ("/surplus", "protocol", 2),
        ("/surplus-chunked", "protocol", 2),
        ("/chunked", "", 1),
        ("/big", "", 1),
    ],
)
def test_each_reply_has_its_kind_and_the_next_call_succeeds(
    found: dict[str, Any], path: str, outcome: str, connections: int
) -> None:
    assert found[path]["outcomes"] == [outcome, ""]
    assert found[path]["connections"] == connections


def test_a_chunked_body_is_compared_too(found: dict[str, Any]) -> None:
    assert found["/chunked-at-once"]["outcomes"] == ["", "wrong body", ""]
    assert found["/chunked-at-once"]["connections"] == 1


def test_an_idle_connection_closed_by_the_server_costs_nothing(found: dict[str, Any]) -> None:
    assert found["idle"]["outcomes"] == ["", "", ""]
    assert found["idle"]["connections"] == 2
    assert found["seen"]["/idle"] == 2


@pytest.mark.parametrize("case", ["goodbye", "goodbye-reset"])
def test_a_connection_closed_before_a_request_is_replaced_once_and_counts_once(
    found: dict[str, Any], case: str
) -> None:
    assert found[case]["outcomes"] == ["", ""]
    assert found[case]["connections"] == 2
    assert found["seen"][f"/{case}"] == 2
    first, second = found["peers"][f"/{case}"]
    assert first != second


@pytest.mark.parametrize(("case", "kind"), [("stale", "closed without an answer"), ("stale reset", "reset")])
def test_a_request_that_the_server_read_is_never_sent_again(found: dict[str, Any], case: str, kind: str) -> None:
    assert found[case]["outcomes"] == ["", kind]
    assert found[case]["connections"] == 1
    assert found["seen"]["/" + case.replace(" ", "-")] == 2


def test_it_is_sent_again_only_once(found: dict[str, Any]) -> None:
    assert found["never"]["outcomes"] == ["", "closed without an answer"]
    assert found["never"]["connections"] == 2
    assert found["seen"]["/never"] == 2


def test_after_a_part_of_a_reply_nothing_is_sent_again(found: dict[str, Any]) -> None:
    assert found["partly"]["outcomes"] == ["", "truncated"]
    assert found["seen"]["/partly"] == 2


def test_a_fresh_connection_that_fails_is_not_tried_again(found: dict[str, Any]) -> None:
    assert found["/closed"]["connections"] == found["/reset"]["connections"] == 2  # its own and the next call's


def test_bytes_that_nobody_asked_for_are_nobodys_answer(found: dict[str, Any]) -> None:
    assert found["unasked"]["outcomes"] == ["", ""]
    assert found["unasked"]["connections"] == 2


def test_a_late_reply_is_never_paired_with_the_next_request(found: dict[str, Any]) -> None:
    overdue = found["overdue"]
    assert overdue["outcomes"] == ["timeout", "", ""]
    assert overdue["after"] == ["", ""]
    assert overdue["connections"] == 2
    assert 0.05 <= overdue["spans"][0] < 0.14, "it ended when it was ended, not when the reply came"


def test_service_lasts_from_the_attempt_to_the_last_byte(found: dict[str, Any]) -> None:
    assert found["slow"]["outcomes"] == [""]
    assert 0.15 <= found["slow"]["spans"][0] < 1.0
    assert found["/chunked"]["spans"][0] >= 0.03, "ended with the first piece"


def test_after_close_nothing_is_told(found: dict[str, Any]) -> None:
    assert found["closed by us"] == []


def test_a_handshake_that_takes_its_time_is_part_of_service(found: dict[str, Any]) -> None:
    late = found["let in late"]
    assert late["pending"] == []
    assert late["outcomes"] == [""]
    assert late["got"][0] >= 30_000_000
    assert 0.9 < late["spans"][0] < 4  # Linux sends SYN again after 1 s


def test_refused_is_told_each_time(found: dict[str, Any]) -> None:
    assert found["refused"] == ["refused", "refused"]


@pytest.mark.parametrize(
    ("case", "outcomes"), [("told", ["no descriptors"]), ("ended first", ["timeout"]), ("closed first", [])]
)
def test_a_call_without_a_socket_has_one_outcome(found: dict[str, Any], case: str, outcomes: list[str]) -> None:
    assert found[f"no descriptors, {case}"] == outcomes


def test_a_head_reply_has_no_body_and_the_connection_goes_on(found: dict[str, Any]) -> None:
    assert found["head"] == {"outcomes": ["", "", ""], "connections": 1}


def test_any_method_headers_and_body_are_sent_as_given(found: dict[str, Any]) -> None:
    head, whole, empty = found["sent"].pop("asked")
    assert found["sent"] == {"outcomes": [""] * 6, "connections": 1}
    lines = head.split("\r\n")
    assert lines[0] == "POST /right HTTP/1.1"
    assert [line for line in lines if line.startswith("X-A")] == ["X-A: 1", "X-A: 2"]
    assert [line for line in lines if line.lower().startswith("host")] == ["host: other"]
    assert "Content-Length: 80000" in lines
    assert whole
    assert "Content-Length: 0" in empty.split("\r\n")


def test_without_keep_alive_each_request_has_its_connection(found: dict[str, Any]) -> None:
    assert found["alone"]["outcomes"] == ["", "", ""]
    assert found["alone"]["connections"] == 2  # after the one that an earlier request had left open
    assert "Connection: close" in found["alone"]["asked"].split("\r\n")


def test_a_reply_to_half_a_request_is_read_and_the_connection_dropped(found: dict[str, Any]) -> None:
    assert found["refused early"] == ["status 413", ""]


def test_half_a_request_that_is_reset_is_never_sent_again(found: dict[str, Any]) -> None:
    assert found["dropped"] == ["", "reset", "", 1]


@pytest.mark.parametrize("path", ["/huge", "/huge-chunks"])
def test_a_body_of_any_size_takes_no_memory(found: dict[str, Any], path: str) -> None:
    assert found[f"{path} None"]["outcomes"] == [""]
    assert found[f"{path} b'pong'"]["outcomes"] == ["wrong body"]
    for expected in ("None", "b'pong'"):
        assert found[f"{path} {expected}"]["grown"] < 8_000_000
