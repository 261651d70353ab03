"""The endpoints in Sanic, on its own server. In: a request or a WebSocket, as Sanic has them. Out: its responses.

`python -m apps.frameworks.sanic` serves them: Sanic's own command has no option for the backlog, which would be 100.
"""

from __future__ import annotations

import argparse
import logging
from contextlib import aclosing

from sanic import HTTPResponse, Request, Sanic, Websocket, json
from sanic.exceptions import MethodNotAllowed, NotFound

from apps.effects import AWAITING, Body, Emit, Receive, pull_async, push_async
from apps.endpoints import ROUTES, Call, call


def called(request: Request) -> Call:
    """What a request asks for."""
    upgrade = request.headers.get("upgrade", "").lower() == "websocket"
    method = "WS" if upgrade else request.method
    return call(method, request.path, request.query_string, request.headers.get("content-length"))


async def answer(request: Request, *_: Exception) -> HTTPResponse | None:
    """The handler of every route, and of what the router refuses, too: its errors would be HTML."""
    found = called(request)
    if found.kind == "stream":
        response = await request.respond(status=found.status, content_type=found.content_type)
        async with aclosing(pull_async(found.program)) as items:
            async for item in items:
                await response.send(item)
        await response.eof()
        return None

    async def body(_effect: Body, _began: float) -> bytes:
        return request.body  # which Sanic has received before it called

    said = await push_async(found.program, {**AWAITING, Body: body})
    if found.kind == "document":
        return json(said)
    return HTTPResponse(said, found.status, content_type=found.content_type)


async def refuse(request: Request) -> HTTPResponse | None:
    """Runs before a WebSocket's handler, which Sanic would call after the handshake, when it is too late to refuse."""
    request.ctx.found = called(request)
    return None if request.ctx.found.kind == "socket" else await answer(request)


async def converse(request: Request, websocket: Websocket) -> None:
    """The handler of every WebSocket. Sanic cancels it when the client leaves."""

    async def emit(effect: Emit, _began: float) -> None:
        await websocket.send(effect.data)

    talking = {**AWAITING, Emit: emit, Receive: lambda _effect, _began: websocket.recv()}
    await push_async(request.ctx.found.program, talking)


app = Sanic("gatebench", configure_logging=False)
app.config.update(WEBSOCKET_MAX_SIZE=2**24, WEBSOCKET_PING_INTERVAL=None, GRACEFUL_SHUTDOWN_TIMEOUT=1)  # as others
app.config.update(RESPONSE_TIMEOUT=120)  # a call may take a minute
for endpoint in ROUTES.values():
    if endpoint.kind == "socket":
        app.add_websocket_route(converse, endpoint.path, name=endpoint.name)
        app.register_named_middleware(refuse, [f"gatebench.{endpoint.name}"])
    else:
        app.add_route(answer, endpoint.path, methods=[endpoint.method], name=endpoint.name)
for refused in (NotFound, MethodNotAllowed):
    app.exception(refused)(answer)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    for option in ("--port", "--backlog", "--keep-alive"):
        parser.add_argument(option, type=int)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    app.config.KEEP_ALIVE_TIMEOUT = chosen.keep_alive
    app.run(chosen.host, chosen.port, backlog=chosen.backlog, single_process=True, motd=False, access_log=False)
