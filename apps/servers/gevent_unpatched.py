"""gevent's own WSGI server with nothing patched. In: --host, --port, --backlog. Out: the raw WSGI adapter, served.

A classic mistake: each call has its greenlet, and every wait blocks all of them. gunicorn's gevent worker always
patches before it loads an application, so that with it the mistake cannot be made.
"""

from __future__ import annotations

import argparse
import sys

from gevent.pywsgi import WSGIServer

from apps.wsgi import app


def main() -> None:
    parser = argparse.ArgumentParser("gevent_unpatched", description="Serves apps.wsgi:app by gevent, unpatched.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backlog", type=int, required=True)
    chosen = parser.parse_args()
    WSGIServer((chosen.host, chosen.port), app, backlog=chosen.backlog, log=None, error_log=sys.stderr).serve_forever()


if __name__ == "__main__":
    main()
