"""The certificate that is kept. In: the machine's facts. Out: what `gatebench selftest` found out on it, or None.

It is kept in the user's cache under a digest of whatever could change it: the machine, this boot of it, the versions,
the source of the generator and of what proves it; so it is measured once, and never believed on another machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from harness import facts
from harness.recording import Model, Number, write_whole
from harness.trial import Data

BOOT = Path("/proc/sys/kernel/random/boot_id")
KEPT_FACTS = ("cpu", "cpus", "allowed_cpus", "memory_mb", "kernel", "python", "versions", "governor", "clocksource")
PROVED_BY = ("histogram.py", "proving.py", "selftest.py", "truth.py")
MAX_BYTES = 1 << 16


class Check(Data):
    """One thing the instrument had to do. remedy: what to do where it is not ok. tries: how often it was looked at."""

    name: Annotated[str, Field(max_length=100)]
    expected: Annotated[str, Field(max_length=100)]
    measured: float | None
    unit: Annotated[str, Field(max_length=20)]
    ok: bool
    remedy: Annotated[str, Field(max_length=300)] = ""
    tries: Annotated[int, Field(ge=1)] = 1


class Certificate(Data):
    """Two ceilings, in requests a second, and every check."""

    closed_ceiling_rps: Number
    open_ceiling_rps: Number
    wrk_rps: Number | None = None
    checks: tuple[Check, ...]
    ok: bool
    made_at: Annotated[str, Field(max_length=64)]
    seconds: Number

    @property
    def ceilings(self) -> dict[Model, float]:
        """By arrival model: what a Recording's head keeps, and the gate at 70 % reads."""
        return {"closed": self.closed_ceiling_rps, "open": self.open_ceiling_rps}


def digest() -> str:
    """What a certificate holds for."""
    known: dict[str, Any] = {name: facts.FACTS[name]() for name in KEPT_FACTS}
    known["boot"] = BOOT.read_text(encoding="utf-8").strip() if BOOT.exists() else None
    made_of = hashlib.blake2b(json.dumps(known, sort_keys=True, default=str).encode(), digest_size=16)
    ours = facts.ROOT / "harness"
    for path in (*sorted((ours / "load").glob("*.py")), *(ours / name for name in PROVED_BY)):
        made_of.update(path.read_bytes())
    return made_of.hexdigest()


def place() -> Path:
    """Where this machine's certificate is, or would be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "gatebench" / f"certificate-{digest()}.json"


def kept() -> Certificate | None:
    """This machine's certificate; None where there is none, or none that can be read."""
    try:
        path = place()
        if path.stat().st_size > MAX_BYTES:
            return None
        return Certificate.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, RuntimeError):  # RuntimeError: a user without a home
        return None


def keep(certificate: Certificate) -> Path | None:
    """Writes it; None where the cache can't be written: it still is an answer."""
    try:
        path = place()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # refused here, with its own words, not half-way
            pass
        write_whole(path, (certificate.model_dump_json(indent=1) + "\n").encode())
    except (OSError, RuntimeError):
        return None
    return path


def told(certificate: Certificate) -> dict[str, Any]:
    """As plain data: what `run.json` and `--json` hold."""
    return certificate.model_dump(mode="json")
