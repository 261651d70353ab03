"""Fixtures that every folder of tests shares."""

from tests.gate import gate
from tests.quietness import prover, quiet

__all__ = ["gate", "prover", "quiet"]
