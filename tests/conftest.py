"""Fixtures that every folder of tests shares. In CI properties are tried on the same examples each time."""

import os
import signal

from hypothesis import Phase, settings

from tests.gate import gate
from tests.quietness import prover, quiet

settings.register_profile("ci", derandomize=True)
# a lie need only be noticed: its smallest example is of no interest
settings.register_profile("lies", derandomize=True, phases=(Phase.explicit, Phase.generate))
if os.environ.get("CI"):
    settings.load_profile("ci")

# begun by nohup, or with & in a script, these would be ignored by whatever the tests start, which a run respects
for one in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(one) == signal.SIG_IGN:
        signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)

__all__ = ["gate", "prover", "quiet"]
