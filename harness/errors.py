"""Whose fault it is, as few exceptions: each carries the exit code of DESIGN's command line and says what to do."""

from __future__ import annotations

import signal


class GatebenchError(Exception):
    """An expected failure; its text is the one line that a user reads."""

    exit_code = 1


class UsageError(GatebenchError):
    """Usage, configuration, a refused target, a damaged file."""

    exit_code = 2


class NothingUsable(GatebenchError):
    """No cell can be used, so there is no answer."""

    exit_code = 4


class ServerFailed(GatebenchError):
    """A server under test did not start, answered wrongly or died."""

    exit_code = 5


class EnvironmentFault(GatebenchError):
    """Port, descriptors, disk, docker, a missing package: named with its remedy."""

    exit_code = 6


class Interrupted(GatebenchError):
    """A signal asked for the end; what was measured is kept."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}; what was measured is kept")
        self.exit_code = 128 + signum
