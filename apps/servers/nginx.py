"""nginx in front of sync workers, as gunicorn's documentation asks. In: gunicorn's command. Out: both, as one server.

nginx takes a request whole before it asks a worker for the answer, and takes the answer whole before a slow client
has read it (proxy_buffering): that is the remedy. An event stream must not wait to be whole, so its location is the
one without.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import sys
from pathlib import Path

from apps.effects import push
from apps.endpoints import LARGEST_BODY, call
from apps.servers.together import run, scratch
from apps.variant import found

CONFIGURATION = """\
daemon off;
worker_processes 1;
{user}
pid nginx.pid;
error_log stderr crit;  # a line for each refusal would be an access log
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size {largest};
    client_body_buffer_size {largest};
    error_page 413 @large;
    keepalive_timeout {keep_alive}s;
    keepalive_requests 1000000000;
    upstream workers {{ server unix:{socket} fail_timeout=0; }}
    server {{
        listen {host}:{port} backlog={backlog};
        proxy_set_header Host $http_host;
        proxy_read_timeout 1h;  # a call may wait long for one of few workers
        location / {{ proxy_pass http://workers; }}
        location = /sse {{ proxy_pass http://workers; proxy_buffering off; }}
        location @large {{ default_type application/json; return 413 '{refusal}'; }}
    }}
}}
"""


def user() -> str:
    """The line that lets nginx's worker run as whoever started it, like every other server; only root may say so."""
    return "user root root;" if os.geteuid() == 0 else ""


def refusal() -> str:
    """What the endpoint would say to a body that is too large, with nginx's name for its length.

    A worker refuses such a body unread. nginx, still sending it, would never see that and answer 502.
    """
    length = str(LARGEST_BODY + 1)
    return push(call("POST", "/echo", "", length).program).decode().replace(length, "$http_content_length")


def listening(path: Path) -> bool:
    """Whether somebody accepts there: before that nginx would answer 502."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def main() -> int:
    parser = argparse.ArgumentParser("apps.servers.nginx")
    for option in ("--host", "--port", "--backlog", "--connections", "--keep-alive"):
        parser.add_argument(option, required=True)
    parser.add_argument("gunicorn", nargs=argparse.REMAINDER, help="gunicorn's command, without --bind")
    chosen = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with scratch() as folder:
        path = folder / "gunicorn.sock"
        words = {"user": user(), "socket": path, "largest": LARGEST_BODY, "refusal": refusal(), **vars(chosen)}
        (folder / "nginx.conf").write_text(CONFIGURATION.format_map(words))
        program, *arguments = chosen.gunicorn
        gunicorn = [found(program) or program, *arguments, "--bind", f"unix:{path}"]
        nginx = [found("nginx") or "nginx", "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"]
        return run([(gunicorn, lambda: listening(path)), (nginx, lambda: True)])


if __name__ == "__main__":
    sys.exit(main())
