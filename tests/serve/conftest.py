"""What tests of containers share: an engine, or why there is none; and somebody else's container beside ours."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import EnvironmentFault
from harness.serve.compose import Engine, Project, docker, engine


@pytest.fixture(scope="session")
def docker_engine() -> Engine:
    try:
        return engine()
    except EnvironmentFault as fault:
        pytest.skip(str(fault))


@pytest.fixture(scope="module")
def project(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A run's project with its image, for as long as a module's tests."""
    with Project(tmp_path_factory.mktemp("logs"), variant="asgi") as project:
        yield project


@pytest.fixture
def neighbour(project: Project) -> Iterator[str]:
    """A container of somebody else's, of the same image."""
    image, name = str(project.facts["image"]), f"neighbour-{uuid.uuid4().hex[:8]}"
    docker("run", "--detach", "--name", name, "--network=none", image, "sleep", "600")
    yield name
    docker("rm", "--force", name)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"
