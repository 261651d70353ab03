"""The endpoints in FastAPI, `async def`. In: a request, as FastAPI has it. Out: the answer as a response.

FastAPI's requests, responses and WebSockets are Starlette's, and so are the functions that answer. What FastAPI adds
is measured: its routes, and what it does for each call before and after the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi import FastAPI

from apps import trace
from apps.endpoints import ROUTES, Endpoint
from apps.frameworks.starlette import HANDLERS, answer, converse

Views = Mapping[str, Callable[..., Any]]  # method -> the function that answers
VIEWS: Views = {"GET": answer, "POST": answer, "WS": converse}


def mounted(endpoints: Iterable[Endpoint], views: Views = VIEWS) -> FastAPI:
    """An application with a route for each of these."""
    made = FastAPI(openapi_url=None, redirect_slashes=False, exception_handlers=HANDLERS)
    for endpoint in endpoints:
        if endpoint.kind == "socket":
            made.add_api_websocket_route(endpoint.path, views["WS"])
        else:
            made.add_api_route(endpoint.path, views[endpoint.method], methods=[endpoint.method])
    made.add_api_websocket_route("/{path:path}", views["WS"])  # so that a refusal is said, and not only done
    return made


app = trace.asgi(mounted(ROUTES.values()))
