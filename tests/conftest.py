"""Fixtures that every folder of tests shares. In CI properties are tried on the same examples each time."""

import os

from hypothesis import Phase, settings

from tests.gate import gate
from tests.quietness import prover, quiet

settings.register_profile("ci", derandomize=True)
# a lie need only be noticed: its smallest example is of no interest
settings.register_profile("lies", derandomize=True, phases=(Phase.explicit, Phase.generate))
if os.environ.get("CI"):
    settings.load_profile("ci")

__all__ = ["gate", "prover", "quiet"]
