"""WSGI behind ASGI: what is done to keep an old application on a new server. In: nothing. Out: an ASGI application.

Each is a factory, which imports what it needs when it is chosen: `uvicorn apps.frameworks.bridges:NAME --factory`.
None of them knows WebSockets, and none tells the WSGI application that its client has left.
"""

from __future__ import annotations

import warnings
from typing import Any

from apps import trace

THREADS = 16  # of a2wsgi, as many as wsgi-threads has; its default is 10
FLASK_ANSWERS = ("cpu", "echo", "file", "json", "mix")


def asgiref() -> Any:
    """asgiref's: one thread for all calls."""
    from asgiref.wsgi import WsgiToAsgi  # noqa: PLC0415

    from apps.wsgi import app  # noqa: PLC0415

    return WsgiToAsgi(app)


def a2wsgi() -> Any:
    """a2wsgi's: a thread pool of its own."""
    from a2wsgi import WSGIMiddleware  # noqa: PLC0415

    from apps.wsgi import app  # noqa: PLC0415

    return WSGIMiddleware(app, workers=THREADS)


def starlette() -> Any:
    """Starlette's, which FastAPI has, too: the thread pool of anyio, which has 40 threads."""
    with warnings.catch_warnings(action="ignore"):  # that it is deprecated, in favour of a2wsgi
        from starlette.middleware.wsgi import WSGIMiddleware  # noqa: PLC0415

    from apps.wsgi import app  # noqa: PLC0415

    return WSGIMiddleware(app)


def fastapi_flask() -> Any:
    """A Flask application on its way to FastAPI: what waits, streams or talks has moved, the rest is still mounted.

    This is how migrations are advised to go: FastAPI in front, the old application mounted at `/` behind it, through
    a2wsgi, and routes that move one by one, those first that gain most. FastAPI answers /ping, /sleep, /db, /sse,
    /ws, /poll, /stream and /state; Flask answers /cpu, /echo, /file, /json, /mix, and whatever nobody knows.
    """
    from a2wsgi import WSGIMiddleware  # noqa: PLC0415

    from apps.endpoints import ROUTES  # noqa: PLC0415
    from apps.frameworks import fastapi, flask  # noqa: PLC0415

    app = fastapi.mounted(endpoint for endpoint in ROUTES.values() if endpoint.name not in FLASK_ANSWERS)
    app.mount("/", WSGIMiddleware(flask.app, workers=THREADS))
    return trace.asgi(app)  # where Flask answers, both stamp: the outer one counts
