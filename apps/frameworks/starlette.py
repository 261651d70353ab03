"""The endpoints in Starlette. In: a request or a WebSocket, as Starlette has them. Out: the answer as a response."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from apps import asgi, trace
from apps.effects import AWAITING, Body, pull_async, push_async
from apps.endpoints import ROUTES, Call


async def answer(request: Request) -> Response:
    """The endpoint of every route."""
    found = asgi.called(request.scope)
    if found.kind == "stream":  # Starlette cancels it when the client leaves
        return StreamingResponse(pull_async(found.program), found.status, media_type=found.content_type)
    return reply(found, await push_async(found.program, {**AWAITING, Body: lambda _effect, _began: request.body()}))


async def refuse(request: Request, _error: Exception) -> Response:
    """What the router refuses is answered here, as its own errors would be text."""
    return await answer(request)


async def left(_request: Request, _error: Exception) -> Response:
    """Who leaves in the middle of a request's body gets no answer."""
    return Response()


def reply(found: Call, body: Any) -> Response:
    """A whole answer."""
    if found.kind == "document":
        return JSONResponse(body, found.status)
    return Response(body, found.status, media_type=found.content_type)


async def converse(websocket: WebSocket) -> None:
    """The endpoint of every WebSocket; one that is not to be had gets an ordinary answer instead."""
    found = asgi.called(websocket.scope)
    if found.kind != "socket":
        await websocket.send_denial_response(reply(found, await push_async(found.program)))
        return
    with suppress(WebSocketDisconnect):
        await asgi.converse(found.program, websocket.receive, websocket.send)


HANDLERS: dict[Any, Any] = {404: refuse, 405: refuse, ClientDisconnect: left}
app = Starlette(
    routes=[
        *(
            WebSocketRoute(path, converse) if to.kind == "socket" else Route(path, answer, methods=[to.method])
            for path, to in ROUTES.items()
        ),
        WebSocketRoute("/{path:path}", converse),  # so that a refusal is said, and not only done
    ],
    exception_handlers=HANDLERS,
)
app.router.redirect_slashes = False
app = trace.asgi(app)
