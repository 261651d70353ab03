"""The raw RSGI adapter. In: a connection's scope and protocol, as Granian has them. Out: the endpoint's answer.

RSGI keeps HTTP in the server: an application gets no messages, but awaits what it needs and calls what it answers.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Any

from apps.effects import AWAITING, Body, Emit, Left, Program, Receive, pull_async, push_async
from apps.endpoints import Call, as_json, call

GONE, BYTES = 0, 1  # kinds of a message; the third is text


async def app(scope: Any, protocol: Any) -> None:
    """The application, for Granian."""
    if scope.proto == "ws":
        answer = call("WS", scope.path, scope.query_string)
        await converse(answer, protocol)
        return
    answer = call(scope.method, scope.path, scope.query_string, scope.headers.get("content-length"))
    headers = [("content-type", answer.content_type)]
    if answer.kind == "stream":
        await stream(answer, protocol.response_stream(answer.status, headers), protocol)
        return

    async def body(_effect: Body, _began: float) -> bytes:
        whole: bytes = await protocol()
        return whole

    whole = await push_async(answer.program, {**AWAITING, Body: body} if scope.method == "POST" else AWAITING)
    protocol.response_bytes(answer.status, headers, as_json(whole) if answer.kind == "document" else whole)


async def stream(answer: Call, transport: Any, protocol: Any) -> None:
    """Items as they come, until the program ends or the client leaves: whichever is first ends the other."""
    forwarding = asyncio.ensure_future(_forward(answer.program, transport))
    leaving = asyncio.ensure_future(protocol.client_disconnect())
    try:
        await asyncio.wait((forwarding, leaving), return_when=asyncio.FIRST_COMPLETED)
        if forwarding.done():
            forwarding.result()  # raises what went wrong in the program
    finally:
        forwarding.cancel()
        leaving.cancel()


async def _forward(program: Program, transport: Any) -> None:
    async with aclosing(pull_async(program)) as items:
        async for item in items:
            await transport.send_bytes(item)


async def converse(answer: Call, protocol: Any) -> None:
    """A WebSocket conversation, until either side ends it; or the refusal of one, which RSGI leaves without a body."""
    if answer.kind != "socket":
        answer.program.close()
        protocol.close(answer.status)
        return
    transport = await protocol.accept()

    async def emit(effect: Emit, _began: float) -> None:
        send = transport.send_str if isinstance(effect.data, str) else transport.send_bytes
        await send(effect.data)

    async def next_message(_effect: Receive, _began: float) -> bytes | str:
        message = await transport.receive()
        if message.kind == GONE:
            raise Left
        data: bytes | str = message.data
        return data

    with suppress(Left, RuntimeError):  # RSGI's own word for a client that broke off is a RuntimeError
        await push_async(answer.program, {**AWAITING, Emit: emit, Receive: next_message})
    protocol.close()
