"""The endpoints in Pyramid. In: a request, as Pyramid has it. Out: the answer as a Pyramid response, or to render."""

from __future__ import annotations

import warnings
from typing import Any

from apps import trace
from apps.effects import BLOCKING, Body, pull, push
from apps.endpoints import LARGEST_BODY, ROUTES, call, refusal

with warnings.catch_warnings():  # it imports two modules of which Python says that they will be gone
    warnings.simplefilter("ignore")
    from pyramid.config import Configurator
    from pyramid.exceptions import URLDecodeError
    from pyramid.request import Request
    from pyramid.response import Response

Request.request_body_tempfile_limit = LARGEST_BODY  # a body of more than 10 KB would go through a file, here alone


def answer(request: Request) -> Any:
    """The view of every route, and of what the router refuses, too: its errors would be HTML."""
    environ = request.environ
    upgrade = environ.get("HTTP_UPGRADE", "").lower() == "websocket"
    method, length = "WS" if upgrade else request.method, environ.get("CONTENT_LENGTH")
    found = call(method, environ["PATH_INFO"], request.query_string, length)
    if found.kind == "socket":
        found = refusal(501, "upgrade", "websocket", "none: Pyramid has no WebSocket")
    if found.kind == "document":
        return push(found.program)  # the route's renderer makes JSON of it
    head = {"status": found.status, "content_type": found.content_type}
    if found.kind == "stream":
        return Response(app_iter=pull(found.program), **head)
    table = {**BLOCKING, Body: lambda _effect, _began: request.body} if method == "POST" else BLOCKING
    return Response(push(found.program, table), **head)


with Configurator() as config:
    for endpoint in ROUTES.values():
        if endpoint.kind != "socket":
            config.add_route(endpoint.name, endpoint.path)
            config.add_view(answer, route_name=endpoint.name, request_method=endpoint.method, renderer="json")
    config.add_notfound_view(answer)
    config.add_exception_view(answer, context=URLDecodeError)  # a path in no encoding that Pyramid knows
app = trace.wsgi(config.make_wsgi_app())
