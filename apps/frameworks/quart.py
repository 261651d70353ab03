"""The endpoints in Quart. In: a request or a WebSocket, as Quart has them. Out: the answer as a Quart response."""

from __future__ import annotations

from typing import Any

from quart import Quart, Response, has_websocket_context, jsonify, request, websocket
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound

from apps import trace
from apps.effects import AWAITING, Body, Emit, Receive, pull_async, push_async
from apps.endpoints import ROUTES, Call, call

TABLE = {
    **AWAITING,
    Body: lambda _effect, _began: request.get_data(),
    Emit: lambda effect, _began: websocket.send(effect.data),
    Receive: lambda _effect, _began: websocket.receive(),  # cancelled when the client leaves
}


def called() -> Call:
    """What is asked for."""
    if has_websocket_context():
        return call("WS", websocket.path, websocket.query_string.decode("latin-1"))
    raw_query, length = request.query_string.decode("latin-1"), request.headers.get("Content-Length")
    return call(request.method, request.path, raw_query, length)


async def answer(*_: Exception) -> Response:
    """The view of every route, and of what the router refuses, too: its errors would be HTML."""
    found = called()
    if found.kind == "stream":
        return Response(pull_async(found.program), found.status, content_type=found.content_type)
    return reply(found, await push_async(found.program, TABLE))


def reply(found: Call, body: Any) -> Response:
    """A whole answer."""
    return jsonify(body) if found.kind == "document" else Response(body, found.status, content_type=found.content_type)


async def converse() -> Response | None:
    """The view of every WebSocket; one that is not to be had gets an ordinary answer instead."""
    found = called()
    if found.kind != "socket":
        return reply(found, await push_async(found.program))
    await websocket.accept()
    await push_async(found.program, TABLE)
    return None


app = Quart(__name__, static_folder=None)
app.config["RESPONSE_TIMEOUT"] = None  # an event stream may take longer than a minute
app.url_map.merge_slashes = False  # it would redirect
for path, to in ROUTES.items():
    if to.kind == "socket":
        app.add_websocket(path, to.name, converse)
    else:
        app.add_url_rule(path, to.name, answer, methods=[to.method], provide_automatic_options=False)
for refused in (BadRequest, NotFound, MethodNotAllowed):  # a bad request: an upgrade of what is no WebSocket, or none
    app.register_error_handler(refused, answer)
app.asgi_app = trace.asgi(app.asgi_app)  # type: ignore[method-assign]  # as Quart's documentation has it
