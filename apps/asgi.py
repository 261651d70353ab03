"""The raw ASGI adapter. In: a connection's scope, receive and send. Out: the endpoint's answer, performed awaiting.

An ASGI application that only sends is never told that its client has left, and streams to nobody until its end.
So a stream runs beside a watcher of the disconnect, and whichever ends first ends the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, suppress
from typing import Any

from apps import trace
from apps.effects import AWAITING, Awaiting, Body, Emit, Left, Program, Receive, pull_async, push_async
from apps.endpoints import Call, as_json, call

Message = MutableMapping[str, Any]
Receiver = Callable[[], Awaitable[Message]]
Sender = Callable[[Message], Awaitable[None]]


@trace.asgi
async def app(scope: Message, receive: Receiver, send: Sender) -> None:
    """The application, for any ASGI server."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    answer = called(scope)
    if answer.kind == "socket":
        await converse(answer.program, receive, send)
    elif answer.kind == "stream":
        await stream(answer, pull_async(answer.program), receive, send)
    elif scope.get("method") == "POST":
        with suppress(Left):  # in the middle of its own body: there is nobody to answer
            await reply(scope, answer, await push_async(answer.program, with_body(receive)), send)
    else:
        await reply(scope, answer, await push_async(answer.program), send)


async def lifespan(receive: Receiver, send: Sender) -> None:
    """There is nothing to start and nothing to stop; servers that ask are told so, as their logs complain otherwise."""
    asked = ""
    while asked != "lifespan.shutdown":
        asked = (await receive())["type"]
        await send({"type": asked + ".complete"})


def called(scope: Message) -> Call:
    """What a connection asks for."""
    method = scope["method"] if scope["type"] == "http" else "WS"
    length = None
    if method == "POST":
        length = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-length"), None)
    return call(method, scope["path"], scope["query_string"].decode("latin-1"), length)


async def reply(scope: Message, answer: Call, body: Any, send: Sender) -> None:
    """A whole answer at once."""
    if answer.kind == "document":
        body = as_json(body)
    protocol = "http"
    if scope["type"] == "websocket":  # an upgrade that is refused
        if "websocket.http.response" not in (scope.get("extensions") or ()):
            await send({"type": "websocket.close"})  # a server without the extension answers 403 by itself
            return
        protocol = "websocket.http"
    headers = [(b"content-type", answer.content_type.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": protocol + ".response.start", "status": answer.status, "headers": headers})
    await send({"type": protocol + ".response.body", "body": body})


def with_body(receive: Receiver) -> Awaiting:
    """The table for a request that brings a body."""

    async def body(_effect: Body, _began: float) -> bytes:
        return await received(receive)

    return {**AWAITING, Body: body}


async def received(receive: Receiver) -> bytes:
    """The whole body, which is no longer than the server has checked it to be; Left when its end never comes."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Left
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def stream(answer: Call, items: AsyncGenerator[bytes, None], receive: Receiver, send: Sender) -> None:
    """Items as they come, until the program ends or the client leaves."""
    headers = [(b"content-type", answer.content_type.encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    forwarding = asyncio.ensure_future(_forward(items, send))
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        done, _ = await asyncio.wait((forwarding, leaving), return_when=asyncio.FIRST_COMPLETED)
        if forwarding in done:
            forwarding.result()  # raises what went wrong in the program
    finally:  # also when the server cancels this very call
        forwarding.cancel()
        leaving.cancel()


async def _forward(items: AsyncGenerator[bytes, None], send: Sender) -> None:
    async with aclosing(items):
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
