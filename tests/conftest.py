"""Fixtures that every folder of tests shares. In CI properties are tried on the same examples each time."""

import os

from hypothesis import settings

from tests.gate import gate
from tests.quietness import prover, quiet

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

__all__ = ["gate", "prover", "quiet"]
