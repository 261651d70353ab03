"""gatebench's harness: makes Trials, takes Recordings, judges and draws them. `load_run(path)` gives pandas frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from harness.recording import Frames

__version__ = "0.1.0"


def load_run(path: str | Path) -> Frames:
    """Reads a run's folder into pandas frames: one row a trial, a second, a resource sample, a cell."""
    from harness.recording import frames  # pandas costs 0.4 s, which `gatebench --help` need not pay

    return frames(path)
