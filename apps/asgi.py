"""The raw ASGI adapter. In: a connection's scope, receive and send. Out: the endpoint's answer, performed awaiting.

An ASGI application that only sends is never told that its client has left, and streams to nobody until its end.
So a stream runs beside a watcher of the disconnect, and whichever ends first ends the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from apps.effects import AWAITING, Emit, Left, Program, Receive, pull_async, push_async
from apps.endpoints import Call, call

Message = dict[str, Any]
Receiver = Callable[[], Awaitable[Message]]
Sender = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receiver, send: Sender) -> None:
    """The application, for any ASGI server; without lifespan, as there is nothing to start."""
    plain = scope["type"] == "http"
    answer = call(scope["method"] if plain else "WS", scope["path"], scope["query_string"].decode("latin-1"))
    if answer.kind == "socket":
        await converse(answer.program, receive, send)
    elif answer.kind == "stream":
        await stream(answer, receive, send)
    else:
        await reply(answer, send, "http" if plain else "websocket.http")


async def reply(answer: Call, send: Sender, protocol: str) -> None:
    """A whole answer at once. Protocol `websocket.http` is how ASGI spells an answer to a refused upgrade."""
    body = await push_async(answer.program)
    headers = [(b"content-type", answer.content_type.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": protocol + ".response.start", "status": answer.status, "headers": headers})
    await send({"type": protocol + ".response.body", "body": body})


async def stream(answer: Call, receive: Receiver, send: Sender) -> None:
    """Items as they come, until the program ends or the client leaves."""
    headers = [(b"content-type", answer.content_type.encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    forwarding = asyncio.ensure_future(_forward(answer.program, send))
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        done, _ = await asyncio.wait((forwarding, leaving), return_when=asyncio.FIRST_COMPLETED)
        if forwarding in done:
            forwarding.result()  # raises what went wrong in the program
    finally:  # also when the server cancels this very call
        forwarding.cancel()
        leaving.cancel()


async def _forward(program: Program, send: Sender) -> None:
    async with aclosing(pull_async(program)) as items:
        async for item in items:
            await send({"type": "http.response.body", "body": item, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receiver) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # the request's empty body comes first


async def converse(program: Program, receive: Receiver, send: Sender) -> None:
    """A WebSocket conversation, until either side ends it."""

    async def emit(effect: Emit, _began: float) -> None:
        kind = "text" if isinstance(effect.data, str) else "bytes"
        await send({"type": "websocket.send", kind: effect.data})

    async def next_message(_effect: Receive, _began: float) -> bytes | str:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            raise Left
        data: bytes | str | None = message.get("text")
        return message["bytes"] if data is None else data

    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    try:
        await push_async(program, {**AWAITING, Emit: emit, Receive: next_message})
        await send({"type": "websocket.close", "code": 1000})
    except (Left, OSError):
        pass  # the client ended it, or broke off: either is how conversations end
