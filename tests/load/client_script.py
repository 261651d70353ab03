"""Asks a scripted server everything that a Connection must survive. In: nothing. Out: one JSON object of outcomes.

A process of its own: gevent's hub stays out of the tests' process. The server runs in plain threads, and answers by
path: SCRIPTS, below.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import gevent
import psutil
from gevent.event import Event

from harness.load import client
from harness.load.call import Call, prepared
from harness.load.client import Connection, now

Reply = Callable[[socket.socket, int], None]  # the connection, and which request on it this is
SEEN: Counter[str] = Counter()  # path → requests that the server read
ASKED: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)  # path → head and body of each
PEERS: defaultdict[str, list[int]] = defaultdict(list)  # path → the connection of each


def reply(body: bytes, status: bytes = b"200 OK", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body)


def saying(data: bytes) -> Reply:
    return lambda peer, _: peer.sendall(data)


def closing(data: bytes) -> Reply:
    def act(peer: socket.socket, _: int) -> None:
        peer.sendall(data)
        hang_up(peer)

    return act


def hang_up(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_RDWR)


def reset(peer: socket.socket, _: int) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def in_pieces(data: bytes, size: int, pause_s: float) -> Reply:
    def act(peer: socket.socket, _: int) -> None:
        for at in range(0, len(data), size):
            peer.sendall(data[at : at + size])
            time.sleep(pause_s)

    return act


def goodbye(peer: socket.socket, _: int) -> None:
    """A right answer, and the end of the connection, which no header announced."""
    peer.sendall(reply(b"pong"))
    hang_up(peer)


def goodbye_reset(peer: socket.socket, _: int) -> None:
    peer.sendall(reply(b"pong"))
    time.sleep(0.02)
    reset(peer, 0)


def goodbye_for_ever(peer: socket.socket, number: int) -> None:
    if SEEN["/never"] == 1:
        goodbye(peer, number)
    else:
        hang_up(peer)


def cut_by_reset(peer: socket.socket, number: int) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour")
    time.sleep(0.02)  # or the reset would overtake them
    reset(peer, number)


def huge(peer: socket.socket, _: int) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE)
    piece = bytes(1 << 20)
    for _ in range(HUGE >> 20):
        peer.sendall(piece)


def huge_chunks(peer: socket.socket, _: int) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20))
    for _ in range(HUGE >> 22):
        peer.sendall(piece)
    peer.sendall(b"0\r\n\r\n")


def once_kept(then: Reply) -> Reply:
    """The first request on a connection is answered; what happens to the second is `then`."""
    return lambda peer, number: peer.sendall(reply(b"pong")) if number == 1 else then(peer, number)


def idle_closed(peer: socket.socket, number: int) -> None:
    peer.sendall(reply(b"pong"))
    if SEEN["/idle"] == 1:
        hang_up(peer)


def unasked(peer: socket.socket, number: int) -> None:
    peer.sendall(reply(b"pong"))
    if SEEN["/unasked"] == 1:
        time.sleep(0.03)
        peer.sendall(reply(b"evil"))


def slow(peer: socket.socket, number: int) -> None:
    time.sleep(0.15)
    peer.sendall(reply(b"late"))


HUGE = 1 << 30
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40 + b"0\r\n\r\n"
SCRIPTS: dict[str, Reply] = {
    "/right": saying(reply(b"pong")),
    "/wrong": saying(reply(b"pang")),
    "/500": saying(reply(b"pong", b"500 Oh")),
    "/says-close": saying(reply(b"pong", extra=b"Connection: close\r\n")),
    "/reset": reset,
    "/truncated": closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour"),
    "/truncated-head": closing(b"HTTP/1.1 200 OK\r\nContent-"),
    "/truncated-chunks": closing(CHUNKS[:80]),
    "/closed": closing(b""),
    "/delimited": closing(b"HTTP/1.1 200 OK\r\n\r\npong"),
    "/delimited-wrong": closing(b"HTTP/1.1 200 OK\r\n\r\npang"),
    "/chunked": in_pieces(CHUNKS, 7, 0.001),
    "/chunked-at-once": saying(CHUNKS),
    "/bytes": in_pieces(b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"pong"), 1, 0.0005),
    "/big": saying(reply(bytes(3_000_000))),
    "/garbage": saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "/surplus": saying(reply(b"pong") + b"more"),
    "/surplus-chunked": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\nmore"),
    "/idle": idle_closed,
    "/unasked": unasked,
    "/stale": once_kept(closing(b"")),
    "/stale-reset": once_kept(reset),
    "/goodbye": goodbye,
    "/goodbye-reset": goodbye_reset,
    "/never": goodbye_for_ever,
    "/cut-by-reset": cut_by_reset,
    "/none": saying(b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"),
    "/unchanged": saying(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "/switch": saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "/length-only": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
    "/huge": huge,
    "/huge-chunks": huge_chunks,
    "/partly": once_kept(closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour")),
    "/slow": slow,
}


def length_of(head: bytes) -> int:
    return next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)


class Server:
    """Answers by SCRIPTS on a loopback port, a thread a connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            self.connections += 1
            threading.Thread(target=self._serve, args=(peer, self.connections), daemon=True).start()

    def _serve(self, peer: socket.socket, connection: int) -> None:
        buffer, number = b"", 0
        try:
            while data := peer.recv(65_536):
                buffer += data
                while b"\r\n\r\n" in buffer:
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    path = head.split(b" ", 2)[1].decode()
                    if path == "/too-large":  # refused by its head, and read no further
                        peer.sendall(reply(b"no", b"413 Too Large"))
                        return
                    if path == "/dropped":
                        SEEN[path] += 1
                        reset(peer, 0)
                        return
                    number += 1
                    while len(buffer) < length_of(head):
                        buffer += peer.recv(65_536)
                    body, buffer = buffer[: length_of(head)], buffer[length_of(head) :]
                    ASKED[path].append((head.decode(), body.decode()))
                    SEEN[path] += 1
                    PEERS[path].append(connection)
                    SCRIPTS[path](peer, number)
        except OSError:
            pass  # the client has left, or a script has
        finally:
            peer.close()


class Asker:
    """One Connection and every outcome that it told."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.outcomes: list[str] = []
        self.spans: list[float] = []
        self.at_once: list[str] = []  # paths asked in the very callback that tells an outcome, as a closed user does
        self._told = Event()
        self.connection = Connection(address, self._done)

    def _done(self, connection: Connection, error: str) -> None:
        assert connection is self.connection
        assert not connection.busy, "told before it is free"
        self.outcomes.append(error)
        self.spans.append(connection.ended - connection.attempted)
        if self.at_once:
            time.sleep(0.05)  # the hub stands still meanwhile, and can't see what the server does
            self.begin(self.at_once.pop())
        else:
            self._told.set()

    def begin(self, path: str, expected: bytes | None = b"pong", **more: Any) -> None:
        self._told.clear()
        call: Call = prepared("test", path, expected, **more)
        self.connection.begin(call, now(), now(), now())

    def ask(self, path: str, expected: bytes | None = b"pong", patience_s: float = 3.0, **more: Any) -> str:
        self.begin(path, expected, **more)
        return self.outcomes[-1] if self._told.wait(patience_s) else "nothing was told"


def scripted(server: Server) -> dict[str, Any]:
    """Every script, each followed by a right answer on the same Connection; then those that mind what came before."""
    found: dict[str, Any] = {}

    def case(name: str, *asks: tuple[str, bytes | None] | float, settle_s: float = 0.0) -> None:
        """Asks one after the other on one Connection; a number is a pause."""
        opened, asker = server.connections, Asker(server.address)
        for ask in asks:
            if isinstance(ask, float):
                gevent.sleep(ask)
            else:
                asker.ask(*ask)
        gevent.sleep(settle_s)
        asker.connection.close()
        found[name] = {"outcomes": asker.outcomes, "connections": server.connections - opened, "spans": asker.spans}

    pong, right = b"pong", ("/right", b"pong")
    case("right", right, right, right)
    case("any body", ("/wrong", None))
    for path in SCRIPTS:
        if path not in ("/chunked", "/chunked-at-once", "/big", "/huge", "/huge-chunks"):
            case(path, (path, pong), right)
    case("/chunked", ("/chunked", b"x" * 40), right)
    case("/chunked-at-once", ("/chunked-at-once", b"x" * 40), ("/chunked-at-once", b"y" * 40), right)
    case("/big", ("/big", None), right)
    SEEN.clear()
    PEERS.clear()
    case("idle", ("/idle", pong), 0.05, ("/idle", pong), right)
    case("unasked", ("/unasked", pong), 0.08, right)
    case("stale", ("/stale", pong), ("/stale", pong), settle_s=0.05)
    case("stale reset", ("/stale-reset", pong), ("/stale-reset", pong), settle_s=0.05)
    case("partly", ("/partly", pong), ("/partly", pong), settle_s=0.05)

    for name in ("goodbye", "goodbye-reset", "never"):
        opened, asker = server.connections, Asker(server.address)
        asker.at_once = [f"/{name}"]
        asker.ask(f"/{name}")
        found[name] = {"outcomes": asker.outcomes, "connections": server.connections - opened}
    return found


def forms(server: Server) -> dict[str, Any]:
    """Requests of other methods, with headers and bodies; connections that are not kept."""
    ASKED.clear()
    asker, opened = Asker(server.address), server.connections
    head = [
        asker.ask("/length-only", method="HEAD"),
        asker.ask("/length-only", None, method="HEAD"),
        asker.ask("/right"),
    ]
    kept = server.connections - opened
    body = "ü" * 40_000
    sent = [
        asker.ask("/right", method="POST", headers=["X-A: 1", "host: other", "X-A: 2"], body=body.encode()),
        asker.ask("/right", method="POST"),
        asker.ask("/right", method="DELETE"),
        asker.ask("/none", None),
        asker.ask("/unchanged", None),
        asker.ask("/right"),
    ]
    several = server.connections - opened
    opened = server.connections
    alone = [asker.ask("/right", keep=False) for _ in range(3)]  # the first over the one that is open
    unkept = ASKED["/right"][-1][0]
    connections = server.connections - opened
    early, big = Asker(server.address), bytes(30_000_000)
    refused = [early.ask("/too-large", None, method="PUT", body=big), early.ask("/right")]
    dropped = Asker(server.address)
    dropping = [
        dropped.ask("/right"),
        dropped.ask("/dropped", method="PUT", body=big),  # on a connection that had been kept
        dropped.ask("/right"),
    ]
    told = ASKED["/right"][1]
    return {
        "head": {"outcomes": head, "connections": kept},
        "sent": {"outcomes": sent, "connections": several, "asked": [told[0], told[1] == body, ASKED["/right"][2][0]]},
        "alone": {"outcomes": alone, "connections": connections, "asked": unkept},
        "refused early": refused,
        "dropped": [*dropping, SEEN["/dropped"]],
    }


def sizes(server: Server) -> dict[str, Any]:
    """How much memory bodies take that are larger than any memory should be."""
    process, found = psutil.Process(), {}
    for path in ("/huge", "/huge-chunks"):
        for expected in (None, b"pong"):
            asker = Asker(server.address)
            asker.begin(path, expected)
            before = most = process.memory_info().rss
            deadline = now() + 30
            while not asker.outcomes and now() < deadline:
                gevent.sleep(0.05)
                most = max(most, process.memory_info().rss)
            found[f"{path} {expected!r}"] = {"outcomes": asker.outcomes, "grown": most - before}
    return found


def ended_by_us(server: Server) -> dict[str, Any]:
    """Calls that we end, and one that we wait for."""
    overdue, opened = Asker(server.address), server.connections
    overdue.begin("/slow", b"late")
    gevent.sleep(0.05)
    overdue.connection.expire("timeout")
    after = overdue.ask("/right")
    gevent.sleep(0.2)  # the late reply would come now
    then = overdue.ask("/right")
    overdue.connection.expire("timeout")  # nothing is under way
    connections = server.connections - opened

    waited = Asker(server.address)
    waited.ask("/slow", b"late")

    left = Asker(server.address)
    left.begin("/slow", b"late")
    gevent.sleep(0.05)
    left.connection.close()
    gevent.sleep(0.2)
    return {
        "overdue": {
            "outcomes": overdue.outcomes,
            "after": [after, then],
            "connections": connections,
            "spans": overdue.spans,
        },
        "slow": {"outcomes": waited.outcomes, "spans": waited.spans},
        "closed by us": left.outcomes,
    }


def never_connected() -> dict[str, Any]:
    """Calls that reach nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody: tuple[str, int] = listener.getsockname()
    refused = Asker(nobody)
    refused.ask("/right")
    refused.ask("/right")
    found: dict[str, Any] = {"refused": refused.outcomes}

    def no_descriptors(*_: int) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    plain, client._socket = client._socket, no_descriptors
    for name, asker in (("told", Asker(nobody)), ("ended first", Asker(nobody)), ("closed first", Asker(nobody))):
        asker.begin("/right")
        if name == "ended first":
            asker.connection.expire("timeout")  # before the hub can tell that there was no socket
        elif name == "closed first":
            asker.connection.close()
        gevent.sleep(0.03)
        found[f"no descriptors, {name}"] = asker.outcomes
    client._socket = plain

    return found


def let_in_late() -> dict[str, Any]:
    """A handshake that takes its time: nobody is let in while the listener's queue is full, until SYN is sent again."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        with socket.create_connection(listener.getsockname()):  # is all that the queue holds
            asker = Asker(listener.getsockname())
            asker.begin("/right", method="PUT", body=bytes(30_000_000))  # more than the kernel takes in one go
            gevent.sleep(0.2)
            pending = list(asker.outcomes)
            listener.accept()[0].close()
        got: list[int] = []

        def serve() -> None:
            peer, _ = listener.accept()
            data, size = peer.recv(65_536), 0
            while data and size < 30_000_000:
                size += len(data)
                data = peer.recv(65_536) if size < 30_000_000 else b""
            got.append(size)
            peer.sendall(reply(b"pong"))
            peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        asker._told.wait(5)
        thread.join(5)
    return {"let in late": {"pending": pending, "outcomes": asker.outcomes, "got": got, "spans": asker.spans}}


def main() -> dict[str, Any]:
    server = Server()
    found = scripted(server)
    found |= {"seen": dict(SEEN), "peers": dict(PEERS)}
    found |= forms(server) | sizes(server) | ended_by_us(server) | never_connected() | let_in_late()
    return found


if __name__ == "__main__":
    print(json.dumps(main()))
