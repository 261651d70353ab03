"""Holds as many event streams and WebSockets as come. In: a port's number on standard output. Out: nothing else.

`python tests/truth/crowd_server.py EVENTS INTERVAL_S`: every stream gets so many events, so far apart; every WebSocket
gets its frames back. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import sys
from typing import cast

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Peer(asyncio.Protocol):
    """One stream or socket; which one, its first bytes say."""

    events, interval_s = 0, 0.0

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
            self._transport.write(bytes([data[0], len(clear)]) + clear)
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
            self._tell(0, asyncio.get_running_loop().time())

    def _tell(self, number: int, start: float) -> None:
        if self._transport is None:
            return
        if number == self.events:
            self._transport.write(b"0\r\n\r\n")
            return
        text = b"id: %d\ndata: x\n\n" % number
        self._transport.write(b"%x\r\n%s\r\n" % (len(text), text))
        asyncio.get_running_loop().call_at(start + (number + 1) * self.interval_s, self._tell, number + 1, start)


async def main() -> None:
    Peer.events, Peer.interval_s = int(sys.argv[1]), float(sys.argv[2])
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(Peer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main())
