"""uvicorn inside gunicorn. In: nothing. Out: the worker class with the options that its command line has not."""

from __future__ import annotations

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):  # type: ignore[misc]  # it ships no types
    """As the variant `asgi` is started: left to itself it would choose its loop and parser by what is installed."""

    CONFIG_KWARGS = {
        "loop": "uvloop",
        "http": "httptools",
        "ws": "wsproto",
        "ws_per_message_deflate": False,
        "ws_ping_interval": 0,
        "interface": "asgi3",
        "lifespan": "off",
        "proxy_headers": False,
        "access_log": False,
    }
