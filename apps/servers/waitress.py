"""Waitress. In: waitress-serve's arguments. Out: the server, which does not log each call that has to wait.

At 100 calls on 16 threads Waitress would write a line a call, which no other server does.
"""

from __future__ import annotations

import logging
import sys

from waitress.runner import run

if __name__ == "__main__":
    logging.getLogger("waitress").setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    sys.exit(run())
