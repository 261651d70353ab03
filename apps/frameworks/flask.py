"""The endpoints in Flask. In: a request, as Flask has it. Out: the answer as a Flask response."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound

from apps import trace
from apps.effects import BLOCKING, Body, pull, push
from apps.endpoints import ROUTES, call
from apps.wsgi import converse

TABLE = {**BLOCKING, Body: lambda _effect, _began: request.get_data()}


class Conversed(Response):
    """What a view answers when its WebSocket is over: gunicorn has nothing left to send.

    flask-sock ends so, too. It is not used, as each of its connections costs a second thread.
    """

    def __call__(self, *_: object) -> Any:
        raise StopIteration


def answer(*_: Exception) -> Response:
    """The view of every route, and of what the router refuses, too: its errors would be HTML."""
    environ, raw_query = request.environ, request.query_string.decode("latin-1")
    upgrade = environ.get("HTTP_UPGRADE", "").lower() == "websocket"
    method, length = "WS" if upgrade else request.method, environ.get("CONTENT_LENGTH")
    found = call(method, environ["PATH_INFO"], raw_query, length)
    if found.kind == "socket":
        converse(environ, found.program)
        return Conversed()
    if found.kind == "stream":
        return Response(pull(found.program), found.status, content_type=found.content_type)
    if found.kind == "document":
        return jsonify(push(found.program))
    return Response(push(found.program, TABLE), found.status, content_type=found.content_type)


app = Flask(__name__, static_folder=None)
app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
for endpoint in ROUTES.values():
    upgrades = endpoint.kind == "socket"
    methods = ["GET" if upgrades else endpoint.method]
    app.add_url_rule(endpoint.path, endpoint.name, answer, methods=methods, websocket=upgrades)
for refused in (BadRequest, NotFound, MethodNotAllowed):  # a bad request: an upgrade of what is no WebSocket, or none
    app.register_error_handler(refused, answer)
app.wsgi_app = trace.wsgi(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's documentation has it
