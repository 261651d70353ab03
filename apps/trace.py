"""When each request came into an application, and left it. In: an application. Out: the same one, stamped.

Thin middleware for any WSGI or ASGI application, by one import: `app = wsgi(app)` or `app = asgi(app)`. Off unless
GATEBENCH_TRACE names a folder: the application comes back as it is, and nothing is added to a request. Only requests
that carry HEADER, a number of their own, are stamped. Each process writes a file of its own there, `PID.trace`, of
STAMPs: number; entry and exit, in ns of the monotonic clock, which all processes of a host share; CPU that its thread
spent inside, in ns, UNKNOWN where greenlets share the thread; that thread. Written each second, and at the end.

Entry: the call. Exit: its return with a list; the last piece that a server takes of another iterable; the last piece
that is handed to an ASGI server's `send`. So what a server writes after that lies outside, and what it reads before.

`python -m apps.trace` says what it costs.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from struct import Struct
from typing import Any, TypeVar

FOLDER = os.environ.get("GATEBENCH_TRACE", "")
HEADER = "X-Gatebench-Id"
STAMP = Struct("=QQQqQ")
UNKNOWN = -1
SUFFIX = ".trace"
EACH_S = 1.0

_KEY, _NAME = "HTTP_" + HEADER.upper().replace("-", "_"), HEADER.lower().encode()
_clock = time.monotonic_ns
App = TypeVar("App", bound=Callable[..., Any])


class Log:
    """The stamps of this process, until they are written. A forked child has a file and a writer of its own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._stamps: deque[bytes] = deque()
        self._guard = threading.Lock()
        self._pid = 0
        self._file = -1

    def add(self, number: int, entry: int, left: int, spent: int) -> None:
        """left: when it was left. spent: CPU."""
        if self._pid != os.getpid():
            self._begin()
        self._stamps.append(STAMP.pack(number, entry, left, spent, threading.get_native_id()))

    def write(self) -> None:
        """Writes what there is. A folder that has gone is nobody's fault here: a request must not fail for it."""
        with self._guard, contextlib.suppress(OSError):
            taken = []
            with contextlib.suppress(IndexError):
                while True:  # others append meanwhile: to take one at a time loses none
                    taken.append(self._stamps.popleft())
            if taken and self._pid == os.getpid():
                os.write(self._file, b"".join(taken))

    def _begin(self) -> None:
        with self._guard:
            if self._pid == os.getpid():
                return
            self._stamps.clear()  # the parent's, which writes them itself
            with contextlib.suppress(OSError):
                path = os.path.join(self._folder, f"{os.getpid()}{SUFFIX}")
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._pid = os.getpid()
            threading.Thread(target=self._run, name="trace", daemon=True).start()
            atexit.register(self.write)

    def _run(self) -> None:
        pid = os.getpid()
        while self._pid == pid:
            time.sleep(EACH_S)  # looked up each time: gevent may have patched it
            self.write()


_LOGS: dict[str, Log] = {}


def _log(folder: str) -> Log:
    return _LOGS.setdefault(folder, Log(folder))


def _number(text: str | bytes) -> int | None:
    """Below 2**64; None for what is none."""
    return int(text) if text.isdigit() and len(text) < 20 and (isinstance(text, bytes) or text.isascii()) else None


# -- WSGI ------------------------------------------------------------------------------------------------------------


def _unknown() -> int:
    return 0


def _cpu_clock() -> Callable[[], int]:
    """The CPU that this thread has spent so far; where greenlets share it, nobody can tell whose it was."""
    monkey: Any = sys.modules.get("gevent.monkey")
    shared = monkey is not None and monkey.is_module_patched("threading")
    return _unknown if shared else time.thread_time_ns


def wsgi(app: App, folder: str = FOLDER) -> App:
    """A WSGI application, stamped if there is a folder for the stamps."""
    if not folder:
        return app
    log, cpu = _log(folder), _cpu_clock()

    def traced(environ: dict[str, Any], start_response: Any) -> Any:
        number = _number(environ.get(_KEY, ""))
        if number is None:
            return app(environ, start_response)
        visit = Visit(log, number, cpu)
        try:
            body = app(environ, start_response)
        except BaseException:
            visit.end()
            raise
        visit.hand_out()
        if isinstance(body, list | tuple):  # a server may look at its length
            visit.end()
            return body
        return Pieces(body, visit)

    return traced  # type: ignore[return-value]  # which takes and gives what the other does


class Visit:
    """One request inside a WSGI application. CPU counts while the application runs, not while its server does."""

    __slots__ = ("_cpu", "_entry", "_left", "_log", "_number", "_since", "_spent")

    def __init__(self, log: Log, number: int, cpu: Callable[[], int]) -> None:
        self._log, self._number, self._cpu = log, number, cpu
        self._spent = self._left = 0
        self._since = cpu()
        self._entry = _clock()

    def come_back(self) -> None:
        """The server asks for another piece."""
        self._since = self._cpu()

    def hand_out(self) -> None:
        """The server has got something."""
        self._left = _clock()
        self._spent += self._cpu() - self._since

    def end(self) -> None:
        """Once; whatever is asked afterwards."""
        if self._number >= 0:
            spent = UNKNOWN if self._cpu is _unknown else self._spent
            self._log.add(self._number, self._entry, self._left or _clock(), spent)
            self._number = -1


class Pieces:
    """A body that comes piece by piece."""

    def __init__(self, body: Iterable[bytes], visit: Visit) -> None:
        self._body, self._visit = body, visit
        self._items: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._visit.come_back()
        try:
            if self._items is None:
                self._items = iter(self._body)
            piece = next(self._items)
        except BaseException:  # StopIteration, most often
            self._visit.end()
            raise
        self._visit.hand_out()
        return piece

    def close(self) -> None:
        self._visit.end()
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


# -- ASGI ------------------------------------------------------------------------------------------------------------


def asgi(app: App, folder: str = FOLDER) -> App:
    """An ASGI application, stamped if there is a folder for the stamps: its HTTP requests, not its WebSockets."""
    if not folder:
        return app
    log = _log(folder)

    async def traced(scope: Any, receive: Any, send: Any) -> None:
        found = next((value for name, value in scope.get("headers", ()) if name == _NAME), b"")
        number = _number(found) if scope["type"] == "http" else None
        if number is None:
            await app(scope, receive, send)
            return
        entry = _clock()
        left = spent = 0

        def sending(message: Any) -> Any:
            nonlocal left, spent
            if message["type"] == "http.response.body" and not message.get("more_body"):
                left, spent = _clock(), steps.spent_so_far()
            return send(message)

        steps = Steps(app(scope, receive, sending))
        try:
            await steps
        finally:
            log.add(number, entry, left or _clock(), spent if left else steps.spent_so_far())

    return traced  # type: ignore[return-value]  # which takes and gives what the other does


class Steps:
    """Waits for an awaitable as `await` does, and counts the CPU of the thread in each step between two waits.

    What the application leaves to tasks and threads of its own is not in it.
    """

    __slots__ = ("_awaited", "_since", "_spent")

    def __init__(self, awaited: Awaitable[Any]) -> None:
        self._awaited: Any = awaited.__await__()
        self._spent = 0
        self._since: int | None = None  # None: it waits

    def spent_so_far(self) -> int:
        return self._spent + (0 if self._since is None else time.thread_time_ns() - self._since)

    def __await__(self) -> Generator[Any, Any, Any]:
        resume, value = self._awaited.send, None
        while True:
            self._since = time.thread_time_ns()
            try:
                wanted = resume(value)
            except StopIteration as end:
                return end.value
            finally:
                self._spent, self._since = self.spent_so_far(), None
            try:
                value, resume = (yield wanted), self._awaited.send
            except BaseException as error:  # a cancellation, for one
                value, resume = error, self._awaited.throw


# -- what it costs ---------------------------------------------------------------------------------------------------


def cost(folder: str, rounds: int = 20_000) -> dict[str, float]:
    """CPU µs that stamping adds to a request: an application that does nothing, with it less without it."""
    environ = {_KEY: "1", "REQUEST_METHOD": "GET"}
    scope = {"type": "http", "headers": [(b"host", b"a"), (b"accept", b"*/*"), (_NAME, b"1")]}

    def plain(_environ: dict[str, Any], _start: Any) -> list[bytes]:
        return [b"pong"]

    async def awaited(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start"})
        await send({"type": "http.response.body"})

    async def swallow(_message: Any) -> None:
        return

    def drive(call: Callable[[], Any]) -> None:
        with contextlib.suppress(StopIteration):
            call().send(None)

    def each_us(call: Callable[[], Any]) -> float:
        began = time.thread_time_ns()
        for _ in range(rounds):
            call()
        return (time.thread_time_ns() - began) / rounds / 1000

    stamped, stamped_async = wsgi(plain, folder), asgi(awaited, folder)
    return {
        "wsgi": each_us(lambda: stamped(environ, None)) - each_us(lambda: plain(environ, None)),
        "asgi": each_us(lambda: drive(lambda: stamped_async(scope, None, swallow)))
        - each_us(lambda: drive(lambda: awaited(scope, None, swallow))),
    }


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        words = ", ".join(f"{interface} {us:.1f} µs" for interface, us in cost(scratch).items())
    sys.stdout.write(f"CPU that stamping adds to a request: {words}\n")
