"""The endpoints in FastAPI, plain `def`. In: a request, as FastAPI has it. Out: the answer, performed blocking.

What is not `async def` FastAPI hands to the thread pool of anyio, which has 40 threads: the 41st call waits. An event
stream is handed to it event by event, and holds a thread while it waits for the next. A WebSocket must be `async def`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import closing
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.concurrency import iterate_in_threadpool
from fastapi.responses import StreamingResponse

from apps import trace
from apps.asgi import called
from apps.effects import BLOCKING, Body, Program, pull, push
from apps.endpoints import ROUTES
from apps.frameworks.fastapi import VIEWS, mounted
from apps.frameworks.starlette import reply


def answer(request: Request) -> Response:
    """The function of every GET route."""
    found = called(request.scope)
    if found.kind == "stream":
        return StreamingResponse(items(found.program), found.status, media_type=found.content_type)
    return reply(found, push(found.program))


async def items(program: Program) -> AsyncGenerator[bytes, None]:
    """What a StreamingResponse makes of a plain generator; but it would not close it when the client leaves."""
    with closing(pull(program)) as blocking:
        async for item in iterate_in_threadpool(blocking):
            yield item


async def body(request: Request) -> bytes:
    """The request's body, which only an `async def` can wait for; not that of a call which is refused."""
    return await request.body() if called(request.scope).status == 200 else b""


def receive(request: Request, data: Annotated[bytes, Depends(body)]) -> Response:
    """The function of every POST route."""
    found = called(request.scope)
    return reply(found, push(found.program, {**BLOCKING, Body: lambda _effect, _began: data}))


app = trace.asgi(mounted(ROUTES.values(), {**VIEWS, "GET": answer, "POST": receive}))
