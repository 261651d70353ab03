"""Werkzeug's development server, with a thread a connection. In: an address. Out: the server, without its log lines."""

from __future__ import annotations

import argparse
import logging
import signal

from werkzeug.serving import ThreadedWSGIServer

from apps.wsgi import app


def main() -> None:
    parser = argparse.ArgumentParser("apps.servers.werkzeug")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backlog", type=int, required=True)
    chosen = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line a call
    ThreadedWSGIServer.request_queue_size = chosen.backlog
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ThreadedWSGIServer(chosen.host, chosen.port, app).serve_forever()


if __name__ == "__main__":
    main()
