"""Stamps: off, nothing is added; on, each numbered request is stamped once, however it ends. Its cost is printed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from apps import trace
from apps.trace import HEADER, STAMP, UNKNOWN, Log, asgi, wsgi
from tests.gate import ROOT

BUSY_S = 0.02


class Stamp(NamedTuple):
    number: int
    entry: int
    left: int
    spent: int
    thread: int


def stamped(app: Any, folder: Path) -> Any:
    return wsgi(app, str(folder))


def stamps(folder: Path) -> list[Stamp]:
    log = trace._LOGS.get(str(folder))
    if log is not None:
        log.write()
    return [
        Stamp(*fields) for path in sorted(folder.glob("*.trace")) for fields in STAMP.iter_unpack(path.read_bytes())
    ]


def busy() -> None:
    began = time.thread_time()
    while time.thread_time() < began + BUSY_S:
        pass


def environ(number: object = 7) -> dict[str, Any]:
    return {"HTTP_X_GATEBENCH_ID": str(number)}


def test_off_the_application_comes_back_as_it_is() -> None:
    def app(environ: Any, start: Any) -> list[bytes]:
        return []

    assert not trace.FOLDER
    assert wsgi(app) is app
    assert asgi(app) is app


# -- WSGI ------------------------------------------------------------------------------------------------------------


def test_a_list_is_stamped_when_it_is_returned(tmp_path: Path) -> None:
    body = [b"pong"]

    def app(environ: Any, start: Any) -> list[bytes]:
        busy()
        time.sleep(0.02)
        return body

    before = time.monotonic_ns()
    assert stamped(app, tmp_path)(environ(2**63), None) is body
    (one,) = stamps(tmp_path)
    assert before <= one.entry < one.left <= time.monotonic_ns()
    assert one.number == 2**63
    assert one.thread == threading.get_native_id()
    assert one.left - one.entry >= 1e9 * (BUSY_S + 0.02)
    assert 1e9 * BUSY_S <= one.spent <= one.left - one.entry - 0.019e9


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "\u00b2", "9" * 20, " 7"])
def test_without_a_number_nothing_is_stamped(tmp_path: Path, number: str) -> None:
    app = stamped(lambda environ, start: [b"pong"], tmp_path)
    assert app(environ(number), None) == [b"pong"]
    assert app({}, None) == [b"pong"]
    assert stamps(tmp_path) == []


def test_pieces_are_stamped_by_the_last_one_and_only_the_application_s_cpu_counts(tmp_path: Path) -> None:
    closed: list[bool] = []

    def app(environ: Any, start: Any) -> Iterator[bytes]:
        try:
            for _ in range(3):
                busy()
                yield b"piece"
        finally:
            closed.append(True)

    pieces = stamped(app, tmp_path)(environ(), None)
    taken = []
    for piece in pieces:
        taken.append(piece)
        last = time.monotonic_ns()
        busy()  # the server's own work
    pieces.close()
    (one,) = stamps(tmp_path)
    assert (taken, closed) == ([b"piece"] * 3, [True])
    assert last - 2e6 <= one.left <= last
    assert 3e9 * BUSY_S <= one.spent <= 4e9 * BUSY_S


def test_a_reader_that_leaves_and_an_application_that_fails_are_stamped_once(tmp_path: Path) -> None:
    def endless(environ: Any, start: Any) -> Iterator[bytes]:
        while True:
            yield b"more"

    def failing(environ: Any, start: Any) -> list[bytes]:
        raise KeyError("ours")

    def failing_later(environ: Any, start: Any) -> Iterator[bytes]:
        yield b"one"
        raise KeyError("ours")

    pieces = stamped(endless, tmp_path)(environ(1), None)
    next(pieces)
    pieces.close()
    pieces.close()
    with pytest.raises(KeyError):
        stamped(failing, tmp_path)(environ(2), None)
    with pytest.raises(KeyError):
        list(stamped(failing_later, tmp_path)(environ(3), None))
    assert [one.number for one in stamps(tmp_path)] == [1, 2, 3]


def test_greenlets_have_no_cpu_of_their_own(tmp_path: Path) -> None:
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "from apps.trace import wsgi\n"
        f"wsgi(lambda environ, start: [b''], {str(tmp_path)!r})({environ()!r}, None)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=30)
    (one,) = stamps(tmp_path)  # written at its end
    assert one.spent == UNKNOWN


# -- ASGI ------------------------------------------------------------------------------------------------------------


def scope(number: object = 7, kind: str = "http") -> dict[str, Any]:
    return {"type": kind, "headers": [(b"host", b"a"), (HEADER.lower().encode(), str(number).encode())]}


def asked(app: Any, asked_for: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        await asyncio.sleep(0)
        busy()  # the server's own work

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    asyncio.run(app(asked_for, receive, send))
    return sent


def test_an_asgi_answer_is_stamped_when_its_last_piece_is_handed_over(tmp_path: Path) -> None:
    moments = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        busy()
        await asyncio.sleep(0.02)
        await send({"type": "http.response.start"})
        busy()
        moments.append(time.monotonic_ns())
        await send({"type": "http.response.body", "body": b"x"})
        busy()

    assert len(asked(asgi(app, str(tmp_path)), scope())) == 2
    (one,) = stamps(tmp_path)
    assert 0 <= one.left - moments[0] < 2e6
    # our own two, and what the server did for the first message in our task: not what came after the answer
    assert 3e9 * BUSY_S <= one.spent <= 4e9 * BUSY_S
    assert one.left - one.entry - one.spent >= 0.019e9


@pytest.mark.parametrize("asked_for", [scope("x"), scope(7, "websocket"), {"type": "lifespan"}])
def test_other_connections_pass_untouched(tmp_path: Path, asked_for: dict[str, Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.body"})

    assert len(asked(asgi(app, str(tmp_path)), asked_for)) == 1
    assert stamps(tmp_path) == []


def test_what_is_awaited_is_the_application_s_own_affair(tmp_path: Path) -> None:
    """Errors, cancellation and results pass both ways, as through `await`."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            raise

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        raise KeyError("ours")

    async def main() -> None:
        task = asyncio.ensure_future(asgi(app, str(tmp_path))(scope(1), None, None))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(KeyError):
            await asgi(failing, str(tmp_path))(scope(2), None, None)

    asyncio.run(main())
    assert seen == ["cancelled"]
    assert [one.number for one in stamps(tmp_path)] == [1, 2]


# -- files -----------------------------------------------------------------------------------------------------------


def test_what_threads_add_together_is_written_once_and_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "EACH_S", 0.05)
    log = Log(str(tmp_path))

    def add(first: int) -> None:
        for number in range(first, first + 1000):
            log.add(number, 1, 2, 3)

    threads = [threading.Thread(target=add, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 5
    while len(found := stamps(tmp_path)) < 4000 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sorted(one.number for one in found) == list(range(4000))
    assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}.trace"]


def test_a_forked_child_has_a_file_of_its_own_and_writes_nobody_else_s(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from apps.trace import wsgi\n"
        f"app = wsgi(lambda environ, start: [b''], {str(tmp_path)!r})\n"
        f"app({environ(1)!r}, None)\n"
        "child = os.fork()\n"
        f"app({environ(2)!r} if child else {environ(3)!r}, None)\n"
        "if child: os.waitpid(child, 0)\n"
        "sys.exit()\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True, timeout=30)
    files = {path: [fields[0] for fields in STAMP.iter_unpack(path.read_bytes())] for path in tmp_path.iterdir()}
    assert sorted(files.values()) == [[1, 2], [3]]


def test_a_folder_that_is_not_there_fails_no_request(tmp_path: Path) -> None:
    folder = str(tmp_path / "gone")
    assert wsgi(lambda environ, start: [b"pong"], folder)(environ(), None) == [b"pong"]
    trace._LOGS[folder].write()


def test_its_cost_is_some_microseconds(tmp_path: Path) -> None:
    """CPU, not time; the bound is for what would be a mistake, such as a file opened for each request."""
    cost = trace.cost(str(tmp_path), rounds=5000)
    print(", ".join(f"{interface}: {us:.1f} µs CPU a request" for interface, us in cost.items()))
    assert all(0 < us < 100 for us in cost.values())
