"""What a search keeps in its folder, beside its Recordings. In: how it goes. Out: `run.json` and `capacity.json`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import certificate
from harness.capacity import told
from harness.capacity.asking import Asked
from harness.recording import write_whole


@dataclass
class Progressing:
    """What a search has come to so far."""

    document: told.Document
    outcome: str = "running"
    reason: str = ""
    failures: dict[str, str] = field(default_factory=dict)
    conformance: dict[str, list[str]] = field(default_factory=dict)
    loaded_s: float = 0.0
    begin: float = field(default_factory=time.monotonic)
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())


def note(asked: Asked, folder: Path, state: Progressing) -> None:
    """`run.json` as every run has it, and `capacity.json` beside it. EnvironmentFault when the disk is full."""
    wall_s = time.monotonic() - state.begin
    kept = certificate.kept()
    manifest: dict[str, Any] = {
        "format": 1,
        "started_at": state.started_at,
        "command": asked.command,
        "seed": asked.seed,
        "scenarios": [asked.scenario.model_dump(mode="json")],
        "variants": list(asked.names),
        "holes": {name: dict(reasons) for name, reasons in asked.holes.items()},
        "lens": "equal-cpu",
        "processes": 1,
        "backend": "url" if asked.target else "process",
        "outcome": state.outcome,
        "reason": state.reason,
        "failures": state.failures,
        "certificate": certificate.told(kept) if kept else None,
        "conformance": state.conformance,
        "loaded_s": round(state.loaded_s, 1),
        "wall_s": round(wall_s, 1),
        "measured_share": round(min(state.loaded_s / wall_s, 1.0), 3) if wall_s else None,
    }
    write_whole(folder / "run.json", (json.dumps(manifest, indent=1) + "\n").encode())
    write_whole(folder / "capacity.json", (state.document.model_dump_json(indent=1) + "\n").encode())
