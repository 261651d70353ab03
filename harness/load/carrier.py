"""Locust's runners, made fit to carry our messages. In: a runner. Out: the same, deaf to what we do not use.

Importing this module also settles what Locust leaves to chance: heartbeats by the monotonic clock (a jump of the wall
clock by a minute would make every worker leave), a lost master noticed in seconds, and no words on standard error.
"""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any

import locust.runners
from locust.exception import RPCReceiveError

from harness.load.fleet import WORD

# what each side takes besides our own; anything else (spawn, locustfile, update_user_class …) is dropped unread
MASTER_TAKES = frozenset({WORD, "client_ready", "client_stopped", "heartbeat", "spawning_complete", "quit"})
WORKER_TAKES = frozenset({WORD, "ack", "heartbeat", "quit"})
MASTER_SILENT_S = 5  # then a worker ends its load: nobody is left who wants it

locust.runners.time = SimpleNamespace(time=time.monotonic)
locust.runners.MASTER_HEARTBEAT_TIMEOUT = MASTER_SILENT_S
locust.runners.WORKER_LOG_REPORT_INTERVAL = -1
locust.runners.CONNECT_TIMEOUT, locust.runners.CONNECT_RETRY_COUNT = 1, 120
logging.getLogger("locust").setLevel(logging.CRITICAL)


def restrict(runner: Any, types: frozenset[str]) -> None:
    """From now on the runner handles messages of these types only."""
    handle = runner.handle_message

    def handle_known(*arguments: Any) -> None:
        if arguments[-1].type in types:
            handle(*arguments)

    runner.handle_message = handle_known


def harden(server: Any) -> None:
    """Bytes that are no message are an error that Locust's listener survives, whatever they are."""
    receive = server.recv_from_client

    def receive_checked() -> Any:
        try:
            address, message = receive()
        except (ValueError, TypeError, IndexError, RecursionError) as error:
            raise RPCReceiveError("not a message") from error
        if message.node_id != address or not isinstance(message.type, str):
            raise RPCReceiveError("not a message", addr=None)
        return address, message

    server.recv_from_client = receive_checked
