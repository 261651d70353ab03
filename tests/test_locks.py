"""The locks hold exact versions with hashes and no address; `make setup-all` installs from them in groups."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from apps.variants import VARIANTS
from harness import setup_all

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"": "requirements.lock", "dev": "requirements-dev.lock", "all": "requirements-all.lock"}


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS.values())
def test_every_package_has_its_hashes_and_none_an_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    for name, lines in setup_all.requirements(text):
        assert re.match(rf"{re.escape(name)}==\S+", lines)
        assert "--hash=sha256:" in lines


@pytest.mark.parametrize(("extra", "lock"), LOCKS.items())
def test_a_lock_holds_what_the_project_asks_for(extra: str, lock: str) -> None:
    asked = PROJECT["dependencies"] + (PROJECT["optional-dependencies"][extra] if extra else [])
    names = {re.split(r"[\[<>=]", each)[0].lower().replace("_", "-") for each in asked}
    assert names <= pins(lock).keys()


def test_the_locks_agree_so_that_all_can_be_installed_together() -> None:
    base, dev, everything = (pins(lock) for lock in LOCKS.values())
    assert base.items() <= dev.items()
    assert base.items() <= everything.items()
    assert {name: dev[name] for name in dev.keys() & everything.keys()}.items() <= everything.items()


def test_each_package_has_its_line_in_the_documentation() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text().lower()
    for each in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["all"]:
        name = re.split(r"[\[<>=]", each)[0].lower()
        assert re.search(rf"\b{re.escape(name)}\b", text), name


class Calls:
    """What setup-all would have run; what it asks for fails."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.commands: list[Sequence[str]] = []
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        asked = Path(command[-1]).read_text() if command[-2] == "--requirement" else ""
        self.asked.append(asked)
        bad = any(f"{name}==" in asked or name in command for name in self.failing)
        return subprocess.CompletedProcess(command, int(bad), "", "noise\nERROR: no such thing\n" if bad else "")


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which Debian's packages are all there."""
    monkeypatch.setattr(setup_all, "DEBIAN", dict.fromkeys(setup_all.DEBIAN, True))


@pytest.mark.usefixtures("complete")
def test_wheels_come_at_once_and_each_compiled_package_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = Calls()
    monkeypatch.setattr(subprocess, "run", calls)
    assert setup_all.main(tmp_path / "marker") == 0
    wheels, *compiled = calls.asked
    assert not {name for name in setup_all.COMPILED if f"\n{name}==" in f"\n{wheels}"}
    assert [each.partition("==")[0] for each in compiled] == list(setup_all.COMPILED)
    assert all("--require-hashes" in command for command in calls.commands)
    assert all({"--no-cache-dir", "--no-build-isolation"} <= set(command) for command in calls.commands[1:])
    assert not [command for command in calls.commands if command[0] != sys.executable]
    assert (tmp_path / "marker").exists() == (not any(variant.missing for variant in VARIANTS.values()))


@pytest.mark.usefixtures("complete")
def test_one_package_that_fails_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = Calls("granian", "uwsgi")
    monkeypatch.setattr(subprocess, "run", calls)
    assert setup_all.main(tmp_path / "marker") == 0
    alone = [asked.partition("==")[0] for asked in calls.asked[1:]]
    assert set(alone) == set(pins("requirements-all.lock"))
    said = capsys.readouterr().err
    assert "setup-all: granian==" in said
    assert "setup-all: uwsgi could not be installed: ERROR: no such thing" in said


def test_without_root_it_says_what_to_install_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = Calls()
    monkeypatch.setattr(subprocess, "run", calls)
    monkeypatch.setattr(setup_all, "DEBIAN", dict.fromkeys(setup_all.DEBIAN, True) | {"gcc": False, "nginx": False})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert setup_all.main(tmp_path / "marker") == 0
    said = capsys.readouterr().err
    assert "apt-get install --no-install-recommends gcc nginx" in said
    assert "uwsgi cannot be built without gcc" in said
    assert len(calls.commands) == 1


def test_services_are_not_started_and_a_policy_of_somebody_s_own_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(setup_all, "POLICY", policy)
    with setup_all.services_stay_down():
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("somebody's own")
    with setup_all.services_stay_down():
        assert policy.read_text() == "somebody's own"
    assert policy.read_text() == "somebody's own"
