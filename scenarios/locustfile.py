"""The six endpoints for a plain Locust, page included: `locust -f scenarios/locustfile.py --host http://127.0.0.1:8000`

Each class is a closed user of one endpoint, as in `quick.toml`; choose with Locust's own `--class-picker`, or by name.
Start a server first: `python -m apps asgi --port 8000`. For open arrivals, verdicts and reports: `gatebench run`.
"""

from harness.load.plain import locust_user
from harness.measure import expected_of, target
from harness.scenarios import load

_PARTS = {part.endpoint: part for scenario in load(["quick"]) for part in scenario.mix}
_USERS = [locust_user(part, target(part), expected_of(part)) for part in _PARTS.values()]

globals().update({user.__name__: user for user in _USERS})
