"""What a load needs of this machine before it begins. In: Scenarios. Out: nothing, or what is missing in one line.

Said first, because a generator that runs out in the middle would have to void everything, and might be taken for a
server that fails.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Iterable

from harness.errors import EnvironmentFault
from harness.trial import Scenario

OWN = 100  # files, pipes, timers and libraries of the generator and of a server
STALL_S = 1.0  # an open load has to survive a server that stops for so long


def descriptors_for(scenario: Scenario) -> int:
    """How many sockets it can take: a user each; or what arrives while a server stalls, up to the cap."""
    if scenario.arrivals == "closed":
        return int(max(scenario.levels)) + OWN
    arriving = math.ceil(max(scenario.levels) * (scenario.wait_s + STALL_S))
    return min(arriving, scenario.connections) + OWN


def check_descriptors(scenarios: Iterable[Scenario]) -> None:
    """Raises the soft limit as far as it may be. EnvironmentFault when that is not enough for these loads."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, 1 << 20)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for scenario in scenarios:
        needed = descriptors_for(scenario)
        if needed > hard:
            raise EnvironmentFault(
                f"{scenario.name} may need {needed} descriptors and {hard} are allowed: `ulimit -n {needed}` where the "
                "harness is started (root may raise it), or ask for less"
            )
