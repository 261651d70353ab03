"""The endpoints in Bottle. In: a request, as Bottle has it. Out: the answer, for Bottle to make a response of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bottle import BaseRequest, Bottle, request, response

from apps import trace
from apps.effects import BLOCKING, Body, pull, push
from apps.endpoints import LARGEST_BODY, ROUTES, call, refusal

TABLE = {**BLOCKING, Body: lambda _effect, _began: request.body.read()}
BaseRequest.MEMFILE_MAX = LARGEST_BODY  # a body of more than 100 KB would go through a file, here alone


def answer() -> bytes | Iterable[bytes] | dict[str, Any]:
    """The view of every route: Bottle streams an iterable, and makes JSON of a dict."""
    environ = request.environ
    # Bottle decodes PATH_INFO and drops what is no UTF-8: /pi%ffng would be /ping.
    path, length = environ["bottle.raw_path"], environ.get("CONTENT_LENGTH")
    upgrade = environ.get("HTTP_UPGRADE", "").lower() == "websocket"
    found = call("WS" if upgrade else request.method, path, request.query_string, length)
    if found.kind == "socket":
        found = refusal(501, "upgrade", "websocket", "none: Bottle has no WebSocket")
    response.status, response.content_type = found.status, found.content_type
    return pull(found.program) if found.kind == "stream" else push(found.program, TABLE)


app = Bottle()
for endpoint in ROUTES.values():
    if endpoint.kind != "socket":
        app.route(endpoint.path, endpoint.method, answer)
app.route("<:re:.*>", "ANY", answer)  # no such path, or not this method: its errors would be HTML
app = trace.wsgi(app)
