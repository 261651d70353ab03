"""Every way of serving the endpoints that is measured, one row each. In: nothing. Out: VARIANTS.

To add a variant: add its row. The numbers stand in its budget, once; the command takes them from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from apps.variant import Budget, Variant

# No control socket: it is one fixed path a user, which two servers would fight for, and one more thread.
# No worker timeout: to kill a slow worker would be to measure the arbiter.
GUNICORN = (
    "gunicorn apps.wsgi:app --bind {host}:{port} --workers {processes} --backlog {backlog} --no-control-socket"
    " --timeout 0 --graceful-timeout 1 --worker-tmp-dir {tmp} --log-level warning"
)
# What WSGI servers don't do is off here, too: pings, deflate, a middleware that reads proxies' headers.
# uvicorn logs each WebSocket that opens at level info, whatever --no-access-log says.
UVICORN = (
    "uvicorn apps.asgi:app --interface asgi3 --host {host} --port {port} --workers {processes} --backlog {backlog}"
    " --loop {loop} --http httptools --ws wsproto --ws-per-message-deflate false --ws-ping-interval 0 --lifespan off"
    " --timeout-keep-alive {keep_alive_s} --timeout-graceful-shutdown 1 --no-proxy-headers --no-access-log"
    " --log-level warning"
)
POOLED = "--keep-alive {keep_alive_s} --worker-connections {worker_connections}"


SERVERS = (
    Variant(
        name="wsgi-sync",
        family="wsgi",
        interface="wsgi",
        server="gunicorn",
        framework="raw",
        model="4 processes, one call each at a time",
        command_line=f"{GUNICORN} --worker-class sync",
        budget=Budget(processes=4, slots=4, worker_connections=None, loop=None, keep_alive_s=None),
        holes={"ws": "one open WebSocket takes a whole sync process: with as many as processes, nobody else is served"},
    ),
    Variant(
        name="wsgi-threads",
        family="wsgi",
        interface="wsgi",
        server="gunicorn",
        framework="raw",
        model="1 process, 16 threads",
        command_line=f"{GUNICORN} --worker-class gthread --threads {{threads}} {POOLED}",
        budget=Budget(processes=1, slots=16, worker_connections=20_000, loop=None),
    ),
    Variant(
        name="wsgi-gevent",
        family="gevent",
        interface="wsgi",
        server="gunicorn",
        framework="raw",
        model="1 process, a greenlet a connection",
        command_line=f"{GUNICORN} --worker-class gevent {POOLED}",
        budget=Budget(processes=1, slots=None, worker_connections=20_000, loop="libev"),
    ),
    Variant(
        name="asgi",
        family="asgi",
        interface="asgi",
        server="uvicorn",
        framework="raw",
        model="1 process, a task a call",
        command_line=UVICORN,
        budget=Budget(processes=1, slots=None, worker_connections=None, loop="uvloop"),
    ),
)

FRAMEWORKS: tuple[Variant, ...] = ()

BRIDGES: tuple[Variant, ...] = ()

MISTAKES: tuple[Variant, ...] = ()


def _by_name(variants: Iterable[Variant]) -> Mapping[str, Variant]:
    return {variant.name: variant for variant in variants}


VARIANTS = _by_name((*SERVERS, *FRAMEWORKS, *BRIDGES, *MISTAKES))
