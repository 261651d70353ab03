"""Scripted servers on a free port of loopback: what a peer does to a connection, said in Python, a thread each.

For faults that no real server can be asked for. A script is a function of the connection and its number.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from harness.proving import Prover
from harness.recording import Recording
from harness.trial import Part, Scenario

Script = Callable[[socket.socket, int], None]


class Peers:
    """Accepts and hands each connection to the script; counts what the scripts tell it."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._lock = threading.Lock()
        self.port: int = self._listener.getsockname()[1]
        self.counts: Counter[str] = Counter()
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, what: str) -> int:
        """How many there were before."""
        with self._lock:
            self.counts[what] += 1
            return self.counts[what] - 1

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return  # closed
            number = self.count("connection")
            threading.Thread(target=self._serve, args=(peer, number), daemon=True).start()

    def _serve(self, peer: socket.socket, number: int) -> None:
        with peer:
            try:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._script(peer, number)
            except OSError:
                return  # the client has left, or the script has

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def peers(script: Script) -> Iterator[Peers]:
    found = Peers(script)
    try:
        yield found
    finally:
        found.close()


def requests(peer: socket.socket) -> Iterator[bytes]:
    """The heads of the requests that come; none has a body."""
    buffer = b""
    while data := peer.recv(65_536):
        buffer += data
        while b"\r\n\r\n" in buffer:
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            yield head


def reset(peer: socket.socket) -> None:
    """The kernel sends a reset instead of an orderly end."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def leave(peer: socket.socket) -> None:
    """An orderly end, at once."""
    peer.shutdown(socket.SHUT_RDWR)


def drain(peer: socket.socket) -> None:
    """Says nothing more, until the client leaves."""
    while peer.recv(65_536):
        pass


# -- event streams ---------------------------------------------------------------------------------------------------

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(number: int) -> bytes:
    return chunk(b"id: %d\ndata: x\n\n" % number)


# -- WebSockets ------------------------------------------------------------------------------------------------------

TEXT, BINARY, CLOSE, PING, PONG, REST = 1, 2, 8, 9, 10, 0


def accept(peer: socket.socket) -> None:
    """Agrees to a WebSocket."""
    head = next(requests(peer))
    key = next(
        line.partition(b":")[2].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    )
    answer = base64.b64encode(
        hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    )
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    peer.sendall(upgrade + b"Sec-WebSocket-Accept: " + answer + b"\r\n\r\n")


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """An unmasked frame, as a server sends them; of less than 64 KB."""
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack(">H", len(payload))
    return bytes([opcode | (0x80 if last else 0)]) + size + payload


def frames(peer: socket.socket) -> Iterator[tuple[int, bytes]]:
    """What the client sends: opcode and unmasked payload. Refuses a frame that is not masked."""
    stream = peer.makefile("rb")
    while start := stream.read(2):
        assert start[1] & 0x80, "not masked"
        size = start[1] & 0x7F
        size = struct.unpack(">H", stream.read(2))[0] if size == 126 else size
        mask = stream.read(4)
        yield start[0] & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(stream.read(size)))


EVERY = range(100)  # seconds: of a stream that begins in the last one, events are due later

# -- the load --------------------------------------------------------------------------------------------------------


def asked(part: Part, *, users: int = 0, rate: float = 0, duration_s: int = 2, **more: float) -> Scenario:
    levels = {"users": (users,)} if users else {"rates": (rate,)}
    arrivals = "closed" if users else "constant"
    settings = {"timeout_s": 1.0, "warmup_s": 0} | more
    words = {"name": "peers", "question": "What does this peer do to its clients?", "arrivals": arrivals}
    return Scenario.model_validate({**words, **levels, **settings, "mix": (part,), "duration_s": duration_s})


def told(prover: Prover, server: Peers, scenario: Scenario) -> Recording:
    """What the load process says of such a peer; nothing of it may be lost, and it must be alive afterwards."""
    recording = prover.drive(server.port, scenario)
    for name in recording.names:
        assert recording.counts(name, EVERY).add_up, (name, recording.counts(name, EVERY))
    assert recording.end.outcome == "complete", recording.end.reason
    assert psutil.pid_exists(prover.generator.pid)
    return recording


def counted(recording: Recording, name: str) -> dict[str, int]:
    """The four counts and what was offered, of the whole Trial."""
    return recording.counts(name, EVERY)._asdict()


def shown(recording: Recording) -> str:
    """For the message of an assertion."""
    return json.dumps({name: counted(recording, name) for name in recording.names} | {"errors": recording.end.errors})
