"""Traced calls: the same request with a number in its head, and the same knowledge of right replies."""

from __future__ import annotations

from pathlib import Path

from harness.load.call import prepared
from harness.load.client import Connection
from harness.load.order import SENT, Order
from harness.load.traced import Notes, Numbered
from harness.trial import Part, Scenario


def order(folder: Path, worker: int) -> Order:
    asked = Scenario(
        name="t", question="Is each call numbered?", arrivals="closed", users=(2,), mix=(Part(endpoint="ping"),)
    )
    base = Order(
        scenario=asked, level=2, seed=1, host="127.0.0.1", port=1, targets=("/ping",), expected=("pong",), rows=""
    )
    return base.model_copy(update={"trace": str(folder), "first_id": 1 << 40, "worker": worker, "workers": 2})


def test_a_number_stands_in_the_head_and_nothing_else_changes() -> None:
    call = prepared("h:1", "/echo?x=1", b"right", method="POST", headers=["X-Own: yes"], body=b"a\r\nb")
    line, rest = call.request.split(b"\r\n", 1)
    numbered = Numbered(call, 2**62)
    assert numbered.request == line + b"\r\nX-Gatebench-Id: 4611686018427387904\r\n" + rest
    assert (numbered.expected, numbered.bodiless, numbered.keep) == (call.expected, call.bodiless, call.keep)


def test_what_one_call_has_learnt_all_know() -> None:
    call = prepared("h:1", "/ping", b"pong")
    one, other = Numbered(call, 1), Numbered(call, 2)
    one.known = b"whole reply"
    assert call.known == other.known == Numbered(call, 3).known == b"whole reply"


def test_workers_never_give_the_same_number(tmp_path: Path) -> None:
    notes = [Notes(order(tmp_path, worker)) for worker in (0, 1)]
    numbers = [[next(each.numbers) for _ in range(3)] for each in notes]
    assert numbers == [[1 << 40, (1 << 40) + 1, (1 << 40) + 2], [(257 << 32) + n for n in range(3)]]
    connection = Connection(("127.0.0.1", 1), lambda _connection, _error: None)
    connection.intended, connection.taken, connection.attempted, connection.ended, connection.part = 1, 2, 3, 4, 5
    for each, mine in zip(notes, numbers, strict=True):
        each.add(mine[0], connection)
        each.close()
    found = {path: SENT.unpack(path.read_bytes()) for path in tmp_path.iterdir()}
    assert sorted(found.values()) == [(1 << 40, 1, 2, 3, 4, 5), (257 << 32, 1, 2, 3, 4, 5)]
