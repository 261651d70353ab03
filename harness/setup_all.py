"""Installs every server and framework that is measured. In: requirements-all.lock. Out: a sentence on what is missing.

What fails stops nothing else: without a compiler or Apache all but two packages are still there. In groups, therefore:
what Debian has (as root), what comes as wheels, and each package that must be compiled.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from apps.variant import found
from apps.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements-all.lock"
POLICY = Path("/usr/sbin/policy-rc.d")  # what Debian asks whether a service may be started
PYTHON_H = Path(sysconfig.get_paths()["include"], "Python.h")
PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes")
# Built by what the lock has installed, and never from a cache, which takes all Pythons of a version for one.
BUILDING = ("--no-deps", "--no-build-isolation", "--use-pep517", "--no-cache-dir")

# package -> whether what it brings is there
DEBIAN: Mapping[str, bool] = {
    "apache2": found("apache2") is not None,
    "apache2-dev": found("apxs") is not None,
    "gcc": found("gcc") is not None,
    "libc6-dev": Path("/usr/include/stdio.h").exists(),
    "nginx": found("nginx") is not None,
    "python3-dev": PYTHON_H.exists(),
}
# compiled package -> what Debian must have provided for it
COMPILED: Mapping[str, tuple[str, ...]] = {
    "uwsgi": ("gcc", "libc6-dev", "python3-dev"),
    "mod-wsgi": ("gcc", "libc6-dev", "python3-dev", "apache2-dev"),
}


def requirements(lock: str) -> list[tuple[str, str]]:
    """Each package of a lock, with its lines; twice where the version depends on the machine."""
    blocks = (block for block in re.split(r"^(?=\w)", lock, flags=re.MULTILINE) if block.strip())
    return [(block.partition("==")[0], block) for block in blocks]


def main(marker: Path) -> int:
    """Installs what is not there; leaves the marker when nothing is missing, so that make does not ask again."""
    lacking = debian([package for package, there in DEBIAN.items() if not there])
    packages = requirements(LOCK.read_text())
    wheels([lines for name, lines in packages if name not in COMPILED])
    for name, needed in COMPILED.items():
        if absent := set(needed) & lacking:
            say(f"{name} cannot be built without {', '.join(sorted(absent))}")
        else:
            pip(name, [lines for package, lines in packages if package == name], *BUILDING)
    importlib.invalidate_caches()
    missing = {name: variant.missing for name, variant in VARIANTS.items() if variant.missing}
    for name, needed in missing.items():
        say(f"{name} will be missing: {' and '.join(needed)} not installed")
    if not missing:
        marker.touch()
        say(f"all {len(VARIANTS)} variants can be served")
    return 0


def debian(packages: Sequence[str]) -> set[str]:
    """Installs them if it may; those that are still not there."""
    if not packages:
        return set()
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        say(f"not installed, as only root may, on Debian: {' '.join(command[:2] + command[4:])}")
        return set(packages)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    say(f"installing from Debian: {' '.join(packages)}")
    with services_stay_down():
        for step in (["apt-get", "update", "-qq"], command):
            done = subprocess.run(step, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                say(f"{' '.join(step[:2])}: {reason(done.stderr)}")
                return set(packages)
    return set()


@contextlib.contextmanager
def services_stay_down() -> Iterator[None]:
    """Web servers that Debian installs would start at once, on port 80. A policy that is there already stays."""
    try:
        with POLICY.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink()


def wheels(packages: Sequence[str]) -> None:
    """All at once; one by one where that fails, so that the others are there."""
    say(f"installing {len(packages)} packages into {sys.prefix}")
    if not pip("at least one package", packages):
        for lines in packages:
            pip(lines.split()[0], [lines], "--no-deps")


def pip(what: str, packages: Sequence[str], *options: str) -> bool:
    """Whether pip could install these lines of the lock."""
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as file:
        file.write("".join(packages))
        file.flush()
        command = [*PIP, *options, "--requirement", file.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"{what} could not be installed: {reason(done.stderr)}")
    return done.returncode == 0


def reason(text: str) -> str:
    """The last line that is an error, or else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith(("ERROR", "E:"))]
    return (errors or lines or ["no reason was given"])[-1]


def say(line: str) -> None:
    print(f"setup-all: {line}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
