"""Serves one variant: `python -m apps NAME --port P`. In: its name. Out: this process becomes its real server."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import replace
from typing import Any

from apps.variant import Budget, Variant
from apps.variants import VARIANTS

NUMBERS = ("processes", "slots", "worker_connections", "keep_alive_s", "db_connections", "backlog")  # of a budget
# Servers read options from these, behind the back of the command that a report prints.
FOREIGN = ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "HTTPD")
FOREIGN_PREFIXES = ("UVICORN_", "GRANIAN_", "UWSGI_", "WERKZEUG_", "SANIC_", "FLASK_", "QUART_")


def environment(variant: Variant, trace: str | None = None) -> dict[str, str]:
    """What the server's processes find in their environment. trace: a folder for stamps."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in FOREIGN and not name.startswith(FOREIGN_PREFIXES)
    }
    return kept | {
        "GATEBENCH_VARIANT": variant.name,
        "GATEBENCH_DB_CONNECTIONS": str(variant.budget.db_connections_per_process),
        **({"GATEBENCH_TRACE": trace} if trace else {}),
    }


def unknown(name: str) -> str:
    """One line that helps."""
    import difflib  # noqa: PLC0415  start-up is measured, too, and seldom fails

    nearest = difflib.get_close_matches(name, VARIANTS, n=1, cutoff=0)
    return f"apps: no variant is named {name!r}; the nearest is {nearest[0]}, and there are: {', '.join(VARIANTS)}"


def changed(budget: Budget, words: str) -> Budget:
    """The budget with other numbers, written as `slots=8,processes=2`. Raises ValueError for what it has not."""
    numbers: dict[str, Any] = {}
    for word in words.split(","):
        name, _, value = word.partition("=")
        if name not in NUMBERS:
            raise ValueError(f"there are {', '.join(NUMBERS)}; write it as slots=8,processes=2")
        numbers[name] = int(value)
    return replace(budget, **numbers)


def main() -> int:
    parser = argparse.ArgumentParser("apps", description="Becomes the real server of one variant.")
    parser.add_argument("name", help=", ".join(VARIANTS))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--budget", metavar="NAME=N,…", help="other numbers than its row's, such as slots=8")
    parser.add_argument("--trace", metavar="FOLDER", help="write there when each request came in and left")
    parser.add_argument("--print", action="store_true", help="show the command instead")
    chosen = parser.parse_args()
    variant = VARIANTS.get(chosen.name)
    if variant is None:
        print(unknown(chosen.name), file=sys.stderr)  # noqa: T201
        return 2
    if chosen.budget:
        try:
            variant = replace(variant, budget=changed(variant.budget, chosen.budget))
        except ValueError as error:
            print(f"apps: --budget {chosen.budget}: {error}", file=sys.stderr)  # noqa: T201
            return 2
    command = variant.command(chosen.port, chosen.host)
    if not chosen.print:
        found = environment(variant, chosen.trace and os.path.abspath(chosen.trace))
        os.execve(command[0], command, found)  # noqa: S606  no shell, and none wanted
    print(shlex.join(command))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
