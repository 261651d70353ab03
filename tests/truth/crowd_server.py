"""Holds as many event streams and WebSockets as come. In: a plan. Out: its port, and a log of what it really did.

`python tests/truth/crowd_server.py EVENTS INTERVAL_S [MEAN_S LOG]`: every stream gets so many events, so far apart;
every WebSocket gets its frames back. MEAN_S: each event but the first of a stream, and each echo, is held back by an
exponential time of this mean. LOG: a file of two doubles for each such event (due by event 0 and the interval; sent)
and each echo (arrived; departed), in monotonic seconds. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE = 8  # an opcode: RFC 6455 §5.2
MOMENTS = struct.Struct("<dd")
now = time.monotonic


class Peer(asyncio.Protocol):
    """One stream or socket; which one, its first bytes say."""

    events, interval_s, mean_s = 0, 0.0, 0.0
    draw = random.Random(1)
    log = bytearray()

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._socket = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._socket:  # one small frame at a time: unmasked, it goes back
            mask, payload = data[2:6], data[6:]
            clear = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
            frame = bytes([data[0], len(clear)]) + clear
            if data[0] & 0x0F == CLOSE:
                self._transport.write(frame)
            else:
                self._after(self._held_s(), self._echo, now(), frame)
            return
        key = next(
            (line[18:].strip() for line in data.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")), b""
        )
        if key:
            self._socket = True
            answer = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
            self._transport.write(UPGRADE + b"Sec-WebSocket-Accept: " + answer + b"\r\n\r\n")
        else:
            self._transport.write(STREAM)
            self._tell(0, now())

    def _held_s(self) -> float:
        return self.draw.expovariate(1 / self.mean_s) if self.mean_s else 0.0

    def _after(self, delay_s: float, what: Callable[..., None], *given: object) -> None:
        if delay_s > 0:
            asyncio.get_running_loop().call_later(delay_s, what, *given)
        else:
            what(*given)

    def _echo(self, arrived: float, frame: bytes) -> None:
        if self._transport is not None:
            self.log += MOMENTS.pack(arrived, now())
            self._transport.write(frame)

    def _tell(self, number: int, start: float) -> None:
        """start: when event 0 was sent. An event that is held back holds back those behind it, as in any stream."""
        if self._transport is None:
            return
        if number == self.events:
            self._transport.write(b"0\r\n\r\n")
            return
        if number:
            self.log += MOMENTS.pack(start + number * self.interval_s, now())
        text = b"id: %d\ndata: x\n\n" % number
        self._transport.write(b"%x\r\n%s\r\n" % (len(text), text))
        held_s = self._held_s() if number + 1 < self.events else 0.0
        self._after(start + (number + 1) * self.interval_s + held_s - now(), self._tell, number + 1, start)


async def main() -> None:
    Peer.events, Peer.interval_s = int(sys.argv[1]), float(sys.argv[2])
    Peer.mean_s = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(Peer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    await ended.wait()
    if len(sys.argv) > 4:
        Path(sys.argv[4]).write_bytes(Peer.log)


if __name__ == "__main__":
    uvloop.run(main())
