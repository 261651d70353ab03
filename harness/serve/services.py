"""The services of docker-compose.yml: one a row of VARIANTS. In: the file. Out: the file, brought up to date.

`make services` writes them, so that a variant is added by its row alone; a test says when it was forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from apps.variants import VARIANTS

PLACE = Path("docker-compose.yml")
BEGIN, END = "services:\n", "\n  load:\n"


def written(text: str, names: Iterable[str]) -> str:
    """The text of a compose file with exactly these variants as its first services."""
    head, rest = text.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    return head + BEGIN + "".join(map(_service, names)) + END + tail


def _service(name: str) -> str:
    return f"  {name}:\n    <<: *server\n    command: python -m apps {name} --host 0.0.0.0 --port 8000\n"


if __name__ == "__main__":
    PLACE.write_text(written(PLACE.read_text(encoding="utf-8"), VARIANTS), encoding="utf-8")
