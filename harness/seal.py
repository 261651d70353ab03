"""Whether a run's files are still what was measured. In: a run's folder. Out: SHA256SUMS in it; what differs from that.

`sha256sum -c SHA256SUMS` in the folder says the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

NAME = "SHA256SUMS"
MANIFEST = "run.json"
TRIALS = "trials/*.jsonl.gz"
MAX_BYTES = 64 << 20  # of a sealed file; larger ones are refused as recordings anyway
MAX_SEALS_BYTES = 8 << 20


def digest_of(path: Path) -> str:
    """SHA-256 in hexadecimal (FIPS 180-4). Raises OSError."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def lines(folder: Path) -> bytes:
    """What SHA256SUMS is to hold: recordings that stand in it already keep their digest, so that nobody can change them
    and seal them anew by a resumed run."""
    known = read(folder)
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.glob(TRIALS))]
    sums = {name: known.get(name) or digest_of(folder / name) for name in files}
    sums[MANIFEST] = digest_of(folder / MANIFEST)
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()


def read(folder: Path) -> dict[str, str]:
    """Name → digest; empty where there is no such file, or where it is none."""
    try:
        with (folder / NAME).open("rb") as source:
            text = source.read(MAX_SEALS_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        return {}
    found = (re.fullmatch(r"([0-9a-f]{64})  ([^\0\\]{1,300})", line) for line in text.splitlines())
    return {one[2]: one[1] for one in found if one}


def broken(folder: Path) -> dict[str, str]:
    """Name → what is wrong with it: changed, missing, or not among those that were sealed. Nothing without seals."""
    known = read(folder)
    if not known:
        return {}
    ended = _ended(folder)
    here = {path.relative_to(folder).as_posix(): path for path in [*folder.glob(TRIALS), folder / MANIFEST]}
    told = {name: f"is missing, but stands in {NAME}" for name in known if name not in here and _is_ours(name)}
    for name, path in here.items():
        if name not in known and ended:
            told[name] = f"does not stand in {NAME}: it was put there after the run"
        elif name in known and not _is(path, known[name]):
            told[name] = f"was changed since it was measured: its SHA-256 is not that of {NAME}"
    return dict(sorted(told.items()))


def _ended(folder: Path) -> bool:
    """Whether the run came to its end: one that was killed could not seal what it measured last."""
    try:
        with (folder / MANIFEST).open("rb") as source:
            manifest = json.loads(source.read(1 << 20))
    except (OSError, ValueError, RecursionError):
        return True
    return not isinstance(manifest, dict) or manifest.get("outcome") != "running"


def _is_ours(name: str) -> bool:
    return name == MANIFEST or re.fullmatch(r"trials/[^/]+\.jsonl\.gz", name) is not None


def _is(path: Path, digest: str) -> bool:
    try:
        return path.stat().st_size > MAX_BYTES or digest_of(path) == digest
    except OSError:
        return False
