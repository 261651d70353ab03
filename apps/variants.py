"""Every way of serving the endpoints that is measured, one row each. In: nothing. Out: VARIANTS.

To add a variant: add its row. The numbers stand in its budget, once; the command takes them from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

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
GUNICORN_ASGI = GUNICORN.replace("apps.wsgi", "apps.asgi")
# Its own ASGI worker listens anew with asyncio's default, whatever it is told.
_WITHOUT_BACKLOG = GUNICORN_ASGI.replace(" --backlog {backlog}", "")
# Only its HTTP router keeps connections alive without pinning a thread; it is a process of its own.
UWSGI = (
    "uwsgi --http {host}:{port} --http-keepalive={keep_alive_s} --http-websockets --http-auto-chunked"
    " --http-timeout 3600 --socket-timeout 60 --listen {backlog} --master --die-on-term --need-app"
    " --single-interpreter --lazy-apps --processes {processes} --virtualenv {prefix} --module apps.wsgi:app"
    " --disable-logging --ignore-sigpipe --ignore-write-errors"
)
_UWSGI_HOLES = {"ws": "uWSGI does not tell an application whether a message was text or binary, so none can echo it"}
MOD_WSGI = (
    "python -m apps.servers.mod_wsgi --connections {worker_connections} mod_wsgi-express start-server apps.wsgi"
    " --application-type module --callable-object app --host {host} --port {port} --processes {processes}"
    " --threads {threads} --server-backlog {backlog} --daemon-backlog {backlog} --keep-alive-timeout {keep_alive_s}"
    " --server-mpm event --request-timeout 0 --queue-timeout 3600 --socket-timeout 3600 --shutdown-timeout 1"
    " --disable-reloading --locale C.UTF-8 --log-to-terminal"
)
WAITRESS = (
    "python -m apps.servers.waitress --host={host} --port={port} --threads={threads} --backlog={backlog}"
    " --connection-limit={worker_connections} --channel-timeout={keep_alive_s} --asyncore-use-poll"
    " --no-log-socket-errors apps.wsgi:app"
)
# Left to itself, Granian would serve WSGI with 512 threads. It closes an idle connection when its time for the head of
# a request is over, and that is a minute at most. It warns of every number of threads above that of the CPUs.
GRANIAN = (
    "granian --host {host} --port {port} --workers {processes} --runtime-threads 1 --http 1 --backlog {backlog}"
    " --backpressure {worker_connections} --http1-header-read-timeout 60000 --no-access-log --log-level error"
)
HYPERCORN = (
    "hypercorn apps.asgi:app --bind {host}:{port} --workers {processes} --worker-class {loop} --backlog {backlog}"
    " --keep-alive {keep_alive_s} --graceful-timeout 1 --log-level warning"
)
NGINX = (
    "python -m apps.servers.nginx --host {host} --port {port} --backlog {backlog} --connections {worker_connections}"
    f" --keep-alive {{keep_alive_s}} {GUNICORN.replace(' --bind {host}:{port}', '')} --worker-class sync"
)
# Its own --port would listen with a backlog of 50.
DAPHNE = (
    "daphne --endpoint tcp:port={port}:interface={host}:backlog={backlog} --verbosity 0 --ping-interval 3600"
    " --websocket_timeout -1 apps.asgi:app"
)


_SYNC = Variant(
    name="wsgi-sync",
    family="wsgi",
    interface="wsgi",
    server="gunicorn",
    framework="raw",
    model="4 processes, one call each at a time",
    command_line=f"{GUNICORN} --worker-class sync",
    budget=Budget(processes=4, slots=4, worker_connections=None, loop=None, keep_alive_s=None),
    holes={"ws": "one open WebSocket takes a whole sync process: with as many as processes, nobody else is served"},
)
_THREADS = Variant(
    name="wsgi-threads",
    family="wsgi",
    interface="wsgi",
    server="gunicorn",
    framework="raw",
    model="1 process, 16 threads",
    command_line=f"{GUNICORN} --worker-class gthread --threads {{threads}} {POOLED}",
    budget=Budget(processes=1, slots=16, worker_connections=20_000, loop=None),
)
_GEVENT = Variant(
    name="wsgi-gevent",
    family="gevent",
    interface="wsgi",
    server="gunicorn",
    framework="raw",
    model="1 process, a greenlet a connection",
    command_line=f"{GUNICORN} --worker-class gevent {POOLED}",
    budget=Budget(processes=1, slots=None, worker_connections=20_000, loop="libev"),
)
_ASGI = Variant(
    name="asgi",
    family="asgi",
    interface="asgi",
    server="uvicorn",
    framework="raw",
    model="1 process, a task a call",
    command_line=UVICORN,
    budget=Budget(processes=1, slots=None, worker_connections=None, loop="uvloop"),
)

_ON_ASYNCIO = replace(_ASGI.budget, loop="asyncio")
_GRANIAN_BUDGET = replace(_ASGI.budget, worker_connections=20_000, keep_alive_s=60)


def _threads(name: str, server: str, command_line: str, *needs: str, **changes: Any) -> Variant:
    """wsgi-threads behind another server."""
    holes = {"ws": f"{server} gives an application no access to the client's socket"}
    row = replace(_THREADS, name=name, server=server, command_line=command_line, needs=needs, holes=holes)
    return replace(row, **changes)


def _tasks(name: str, server: str, command_line: str, *needs: str, **changes: Any) -> Variant:
    """asgi behind another server."""
    return replace(replace(_ASGI, name=name, server=server, command_line=command_line, needs=needs), **changes)


SERVERS = (
    _SYNC,
    _THREADS,
    replace(
        _THREADS,
        name="wsgi-threads-2x8",
        model="2 processes, 8 threads each",
        budget=replace(_THREADS.budget, processes=2),
    ),
    replace(
        _THREADS,
        name="wsgi-threads-4x4",
        model="4 processes, 4 threads each",
        budget=replace(_THREADS.budget, processes=4),
    ),
    _threads(
        "uwsgi-threads",
        "uwsgi",
        f"{UWSGI} --threads {{threads}}",
        "uwsgi",
        model="1 process, 16 threads; its HTTP router before them",
        budget=replace(_THREADS.budget, worker_connections=None),
        holes=_UWSGI_HOLES,
    ),
    _threads(
        "mod-wsgi",
        "mod_wsgi",
        MOD_WSGI,
        "mod_wsgi-express",
        "apache2",
        model="1 process, 16 threads; Apache's event MPM before them",
        budget=replace(_THREADS.budget, worker_connections=1024),  # each is a thread of Apache's while it is served
    ),
    _threads("waitress", "waitress", WAITRESS, "waitress"),
    _threads(
        "granian-wsgi",
        "granian",
        f"{GRANIAN} --interface wsgi apps.wsgi:app --blocking-threads {{threads}} --runtime-mode mt",
        "granian",
        model="1 process, 16 threads; HTTP in Rust",
        budget=replace(_THREADS.budget, keep_alive_s=60),
    ),
    _threads(
        "werkzeug",
        "werkzeug",
        "python -m apps.servers.werkzeug --host {host} --port {port} --backlog {backlog}",
        "werkzeug",
        model="development server: 1 process, a new thread a connection",
        budget=Budget(processes=1, slots=None, worker_connections=None, loop=None, keep_alive_s=None),
        holes={},
    ),
    _GEVENT,
    replace(
        _GEVENT,
        name="uwsgi-gevent",
        server="uwsgi",
        model="1 process, a greenlet a connection; its HTTP router before them",
        command_line=f"{UWSGI} --gevent {{worker_connections}} --gevent-early-monkey-patch",
        needs=("uwsgi",),
        holes=_UWSGI_HOLES,
    ),
    _ASGI,
    _tasks(
        "asgi-h11",
        "uvicorn",
        UVICORN.replace("--http httptools", "--http h11"),
        "h11",
        model="1 process, a task a call; all in Python: asyncio and h11",
        budget=_ON_ASYNCIO,
    ),
    _tasks(
        "gunicorn-asgi",
        "gunicorn",
        f"{_WITHOUT_BACKLOG} --worker-class asgi --asgi-loop {{loop}} --asgi-lifespan off --http-parser python"
        " --keep-alive {keep_alive_s}",
        model="1 process, a task a call; gunicorn's own worker",
        budget=replace(_ASGI.budget, backlog=100),
    ),
    _tasks(
        "gunicorn-uvicorn",
        "gunicorn",
        f"{GUNICORN_ASGI} --worker-class apps.servers.uvicorn_worker.Worker --keep-alive {{keep_alive_s}}",
        "uvicorn_worker",
        model="1 process, a task a call; uvicorn as gunicorn's worker",
    ),
    _tasks(
        "hypercorn-asyncio",
        "hypercorn",
        HYPERCORN,
        "hypercorn",
        model="1 process, a task a call; on asyncio",
        budget=_ON_ASYNCIO,
    ),
    _tasks("hypercorn-uvloop", "hypercorn", HYPERCORN, "hypercorn", model="1 process, a task a call; on uvloop"),
    _tasks(
        "daphne",
        "daphne",
        DAPHNE,
        "daphne",
        model="1 process, a task a call; Twisted on asyncio",
        budget=replace(_ON_ASYNCIO, keep_alive_s=60),  # Twisted's own number
        holes={"ws": "daphne never sends an empty message, text or binary: an echo of it does not come back"},
    ),
    _tasks(
        "granian-asgi",
        "granian",
        f"{GRANIAN} --interface asginl apps.asgi:app --loop {{loop}} --runtime-mode mt",
        "granian",
        model="1 process, a task a call; HTTP in Rust",
        budget=_GRANIAN_BUDGET,
    ),
    _tasks(
        "granian-rsgi",
        "granian",
        f"{GRANIAN} --interface rsgi apps.rsgi:app --loop {{loop}} --runtime-mode st",
        "granian",
        model="1 process, a task a call; HTTP in Rust, its own interface",
        interface="rsgi",
        budget=_GRANIAN_BUDGET,
    ),
)


def _mounted(raw: Variant, name: str, module: str, framework: str, **changes: Any) -> Variant:
    """A framework in the raw adapter's place. All else stays the same, so that frameworks are all that is compared."""
    _, _, rest = raw.command_line.partition(":app")
    command_line = f"{raw.command_line.split()[0]} apps.frameworks.{module}:app{rest}"
    return replace(raw, name=name, framework=framework, command_line=command_line, **changes)


# Of WSGI frameworks, only Flask has routes for WebSockets. A raw one in front of another would be no part of it.
_NO_SOCKET = {"ws": "this framework has no WebSocket under WSGI: a raw one in front of it would measure wsgi-threads"}

FRAMEWORKS: tuple[Variant, ...] = (
    _mounted(_THREADS, "flask", "flask", "flask", needs=("flask",)),
    _mounted(_THREADS, "django", "django_wsgi", "django", needs=("django",), holes=_NO_SOCKET),
    _mounted(_THREADS, "bottle", "bottle", "bottle", needs=("bottle",), holes=_NO_SOCKET),
    _mounted(_THREADS, "pyramid", "pyramid", "pyramid", needs=("pyramid",), holes=_NO_SOCKET),
    _mounted(_GEVENT, "flask-gevent", "flask", "flask", needs=("flask",)),
    _mounted(_ASGI, "starlette", "starlette", "starlette", needs=("starlette",)),
    _mounted(_ASGI, "fastapi", "fastapi", "fastapi", needs=("fastapi",)),
    _mounted(
        _ASGI,
        "fastapi-def",
        "fastapi_def",
        "fastapi",
        needs=("fastapi",),
        model="1 process, plain def in a pool of 40 threads",
        budget=replace(_ASGI.budget, slots=40),
    ),
    _mounted(
        _ASGI,
        "fastapi-typed",
        "fastapi_typed",
        "fastapi",
        needs=("fastapi",),
        model="1 process, a task a call; /json validated by pydantic",
    ),
    _mounted(
        _ASGI,
        "quart",
        "quart",
        "quart",
        needs=("quart",),
        holes={"ws": "Quart breaks the connection on an empty binary frame, which it takes for a missing text"},
    ),
    _mounted(
        _ASGI,
        "django-asgi",
        "django_asgi",
        "django",
        needs=("django",),
        model="1 process, an async view a call",
        holes={"ws": "Django has no WebSocket: Channels adds it, and is a variant of its own"},
    ),
    _mounted(_ASGI, "channels", "channels", "channels", needs=("channels", "django")),
    replace(
        _ASGI,
        name="sanic",
        server="sanic",
        framework="sanic",
        needs=("sanic",),
        command_line=(
            "python -m apps.frameworks.sanic --host {host} --port {port} --backlog {backlog}"
            " --keep-alive {keep_alive_s}"
        ),
    ),
)


def _bridge(name: str, factory: str, model: str, slots: int | None, *needs: str, **changes: Any) -> Variant:
    """An old application behind the server that all ASGI frameworks have. Slots: the bridge's threads."""
    app = f"apps.frameworks.bridges:{factory} --factory"
    row = replace(_ASGI, name=name, needs=needs, model=model, command_line=UVICORN.replace("apps.asgi:app", app))
    return replace(row, budget=replace(_ASGI.budget, slots=slots), **changes)


_WSGI = {
    "family": "wsgi",
    "interface": "wsgi",
    "holes": {
        "ws": "the bridge gives a WSGI application no socket, and refuses every WebSocket itself",
        "sse": "the bridge does not tell that a client has left: its stream goes on to the end, and holds a thread",
    },
}

BRIDGES: tuple[Variant, ...] = (
    _bridge("wsgi-to-asgi", "asgiref", "1 process, 1 thread for all calls (asgiref)", 1, "asgiref", **_WSGI),
    _bridge("a2wsgi", "a2wsgi", "1 process, 16 threads (a2wsgi)", 16, "a2wsgi", **_WSGI),
    _bridge("starlette-wsgi", "starlette", "1 process, 40 threads (starlette)", 40, "starlette", **_WSGI),
    _bridge(
        "fastapi-flask",
        "fastapi_flask",
        "1 process, what waits is a task, the rest has 16 threads (a2wsgi)",
        None,
        "fastapi",
        "flask",
        "a2wsgi",
        framework="fastapi and flask",
    ),
)

_TO_THREAD = min(32, (os.cpu_count() or 1) + 4)  # asyncio's own rule

MISTAKES: tuple[Variant, ...] = (
    replace(
        _ASGI,
        name="asgi-blocking",
        model="1 process, what blocks inside `async def`",
        command_line=UVICORN.replace("apps.asgi:app", "apps.mistakes:blocking"),
        budget=replace(_ASGI.budget, slots=1),
        holes={
            "sse": "a stream that blocks never lets its event loop see that its client has left: it runs to its end"
        },
    ),
    replace(
        _ASGI,
        name="asgi-to-thread",
        model=f"1 process, what blocks in asyncio's {_TO_THREAD} threads",
        command_line=UVICORN.replace("apps.asgi:app", "apps.mistakes:to_thread"),
        budget=replace(_ASGI.budget, slots=_TO_THREAD),
    ),
    replace(
        _GEVENT,
        name="gevent-unpatched",
        server="gevent",
        model="1 process, a greenlet a connection, nothing patched",
        command_line="python -m apps.servers.gevent_unpatched --host {host} --port {port} --backlog {backlog}",
        budget=replace(_GEVENT.budget, slots=1, worker_connections=None, keep_alive_s=86_400),  # it never closes one
        holes={"ws": "gevent's own server does not offer the client's socket; gunicorn's worker, which does, patches"},
    ),
    replace(
        _SYNC,
        name="nginx-sync",
        server="nginx and gunicorn",
        model="nginx before 4 processes, one call each at a time",
        command_line=NGINX,
        budget=replace(_SYNC.budget, worker_connections=20_000, keep_alive_s=75),
        needs=("nginx",),
    ),
)


def _by_name(variants: Iterable[Variant]) -> Mapping[str, Variant]:
    return {variant.name: variant for variant in variants}


VARIANTS = _by_name((*SERVERS, *FRAMEWORKS, *BRIDGES, *MISTAKES))
