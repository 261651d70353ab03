"""What is asked. In: variants, scenarios, repeats, a seed. Out: `plan()`, a Run's Trials in their random order.

Pure: no clock, no I/O. The order is randomised in complete blocks: each block (one repeat) holds every variant once, in
random order, and each variant meets every scenario and level once, in an order that all variants of the block share, so
that drift of the machine falls on all alike (Fisher, The Design of Experiments, 1935).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _known(arrivals: str) -> str:
    if arrivals != "closed":
        from harness.load import schedule  # noqa: PLC0415  its table is the one list of patterns; numpy takes its time

        if arrivals not in schedule.ARRIVALS:
            raise ValueError(f"there are closed, {', '.join(schedule.ARRIVALS)}")
    return arrivals


Arrivals = Annotated[str, AfterValidator(_known)]
Lens = Annotated[str, Field(pattern=r"^(equal-cpu|equal-slots=[1-9][0-9]{0,4}|equal-memory|as-configured)$")]
HeaderLine = Annotated[
    str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}: ?[!-~]([ -~]{0,1023})$")
]  # one line: no CR/LF
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,63}$")]


# What a prediction adds to the loads themselves, in seconds, as measured on two cores.
TRIAL_S, SERVER_S, CONFORMANCE_S = 0.3, 1.1, 2.0
TWIN = "/aa"  # a variant of this ending is the same one measured once more: what differs between both is noise
OURS = ("connection", "content-length", "expect", "transfer-encoding", "upgrade")  # headers that frame a message


class Data(BaseModel):
    """Frozen, strict about unknown keys and about numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Part(Data):
    """One endpoint in a scenario's mix. wait_s and pool_s: what a call waits at least, and holds a connection for.

    body: what is sent with a request; what each message of a WebSocket holds, where it stands in for our own text.
    slow_s: a slow client, who sends its request in pieces over so many seconds; its row is `endpoint:slow`.
    """

    endpoint: Name
    query: Annotated[str, Field(max_length=512, pattern=r"^[!-~]*$")] = ""
    method: Annotated[str, Field(pattern=r"^[A-Z]{1,16}$")] = "GET"
    headers: Annotated[tuple[HeaderLine, ...], Field(max_length=32)] = ()
    body: Annotated[str, Field(max_length=65_536)] = ""
    binary: bool = False  # WebSocket messages are sent as bytes
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    echoes: Annotated[int, Field(ge=1, le=100_000)] = 10
    interval_ms: Annotated[float, Field(ge=0, le=60_000)] = 50.0
    slow_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    wait_s: Annotated[float, Field(ge=0)] = 0.0
    pool_s: Annotated[float, Field(ge=0)] = 0.0

    @property
    def row(self) -> str:
        """The row that holds its whole calls."""
        return f"{self.endpoint}:slow" if self.slow_s else self.endpoint

    @property
    def soonest_s(self) -> float:
        """Before this no whole answer can come: the request is sent so slowly, and then the endpoint waits."""
        return self.slow_s + self.wait_s

    @model_validator(mode="after")
    def _sendable(self) -> Part:
        if self.method in ("CONNECT", "TRACE"):
            raise ValueError(f"method {self.method}: it asks a proxy, not an application")
        for line in self.headers:
            if line.partition(":")[0].lower() in OURS:
                raise ValueError(f"{line!r}: the client sets this header itself")
        return self


class Slo(Data):
    """What users were promised: response times at most, in ms, and the share of arrivals that may fail."""

    p50_ms: Annotated[float, Field(gt=0)] | None = None
    p90_ms: Annotated[float, Field(gt=0)] | None = None
    p99_ms: Annotated[float, Field(gt=0)] | None = None
    errors: Annotated[float, Field(ge=0, le=1)] | None = None


class Scenario(Data):
    """What clients do. users: levels of a closed scenario; rates: of an open one, in arrivals a second.

    shape: what the arrival pattern can be told besides; its words stand in `harness.load.schedule`.
    fresh_server: each Trial has a server of its own, where its memory is the question.
    aa: one variant is measured twice in each block, so that identical servers show what noise is.
    variants: whom it is asked of unless told, in words of `harness.scenarios.names_of`.
    """

    name: Name
    question: Annotated[str, Field(min_length=10, max_length=300)]
    arrivals: Arrivals
    mix: Annotated[tuple[Part, ...], Field(min_length=1, max_length=32)]
    users: tuple[Annotated[int, Field(ge=1, le=20_000)], ...] = ()
    rates: tuple[Annotated[float, Field(gt=0, le=200_000)], ...] = ()
    shape: Mapping[str, float | tuple[float, ...]] = {}
    duration_s: Annotated[int, Field(ge=1, le=86_400)] = 10
    warmup_s: Annotated[int, Field(ge=0, le=3600)] = 1
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    connections: Annotated[int, Field(ge=1, le=65_536)] = 4096
    keep_alive: bool = True  # False: a new connection for each request
    fresh_server: bool = False
    aa: bool = False
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    slo: Slo = Slo()
    variants: Annotated[tuple[Name, ...], Field(max_length=256)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        wanted, other = ("users", "rates") if self.arrivals == "closed" else ("rates", "users")
        if not getattr(self, wanted) or getattr(self, other):
            raise ValueError(f"arrivals = {self.arrivals!r} needs {wanted} = [...] and no {other}")
        if self.arrivals != "closed":
            from harness.load import schedule  # noqa: PLC0415

            schedule.check(self.arrivals, self.shape)
        elif self.shape:
            raise ValueError("arrivals = 'closed' takes no shape")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"each of {wanted} once: {list(self.levels)}")
        if self.warmup_s >= self.duration_s:
            raise ValueError(f"warmup_s ({self.warmup_s}) must be less than duration_s ({self.duration_s})")
        return self

    @property
    def levels(self) -> tuple[float, ...]:
        return tuple(map(float, self.users or self.rates))

    @property
    def wait_s(self) -> float:
        """The mean declared wait of a request of the mix, in seconds."""
        return sum(part.weight * part.wait_s for part in self.mix) / sum(part.weight for part in self.mix)

    @property
    def longest_s(self) -> float:
        """The longest declared wait of the mix, a slow client's own included."""
        return max(part.soonest_s for part in self.mix)

    @property
    def drain_s(self) -> float:
        """How long after the last arrival answers are still waited for: the longest wait, and some time above it."""
        return self.longest_s + min(self.timeout_s, 1.0 + self.longest_s)

    @property
    def given_up_s(self) -> float:
        """When a load process that has not ended is given up."""
        return self.duration_s + max(self.timeout_s, self.drain_s) + 5


class Subject(Data):
    """The variant as it was asked: its row, copied, so that an old Recording explains itself."""

    name: Name
    family: str
    interface: str
    server: str
    framework: str
    command: tuple[str, ...] = ()
    budget: Mapping[str, int | float | str | bool | None] = {}

    @property
    def slots(self) -> int | None:
        """How many calls it can work on at once; None = bounded by its connections only."""
        slots = self.budget.get("slots")
        return int(slots) if isinstance(slots, int | float) else None


class Trial(Data):
    """One question put to one server: variant × scenario × load level × repeat."""

    variant: Name
    scenario: Scenario
    level: Annotated[float, Field(gt=0)]
    repeat: Annotated[int, Field(ge=0)]
    seed: int
    lens: Lens = "equal-cpu"

    @property
    def cell(self) -> tuple[str, str, float]:
        return self.variant, self.scenario.name, self.level

    @property
    def key(self) -> str:
        """Its name inside a run, safe as a file's name."""
        text = f"{self.scenario.name}-{self.level:.12g}-{self.variant}-r{self.repeat}"
        return text.replace("/", "~")  # which no name may hold, so that no two Trials share a file


def is_twin(variant: str) -> bool:
    return variant.endswith(TWIN)


def twinned(
    scenarios: Sequence[Scenario],
    chosen: Mapping[str, tuple[str, ...]],
    holes: Mapping[str, Collection[str]],
    *,
    every: bool = False,
    repeats: int | None = None,
) -> tuple[str | None, dict[str, tuple[str, ...]]]:
    """The variant that is measured twice in each block, and whom each scenario is asked of with its twin.

    It is the first that can serve the most of the scenarios that want a pair; every: all of them do. One repeat has no
    interval, so it needs no noise floor. None: nobody is measured twice.
    """
    pairs = [one for one in scenarios if (every or one.aa) and (repeats or one.repeats) > 1]

    def serves(name: str, scenario: Scenario) -> bool:
        asked = {part.endpoint for part in scenario.mix}
        return name in chosen[scenario.name] and not asked & set(holes.get(name, ()))

    names = dict.fromkeys(name for scenario in pairs for name in chosen[scenario.name])
    name = max(names, key=lambda one: sum(serves(one, scenario) for scenario in pairs), default=None)
    wanted = {scenario.name for scenario in pairs if name is not None and serves(name, scenario)}
    both = {asked: (*some, f"{name}{TWIN}") if asked in wanted else some for asked, some in chosen.items()}
    return (name, both) if wanted else (None, dict(chosen))


def plan(
    variants: Sequence[str],
    scenarios: Sequence[Scenario],
    *,
    seed: int,
    holes: Mapping[str, Iterable[str]] = {},
    only: Mapping[str, Collection[str]] = {},
    repeats: int | None = None,
    lens: Lens = "equal-cpu",
) -> list[Trial]:
    """All Trials in the order in which they are to be measured.

    holes: variant → endpoints that it cannot serve; scenarios that need one are left out for it.
    only: scenario → the variants that it is asked of; of all of them where this says nothing.
    repeats: overrides each scenario's own.
    """
    trials: list[Trial] = []
    blocks = max((repeats or scenario.repeats for scenario in scenarios), default=0)
    for block in range(blocks):
        asked = [
            (scenario, level)
            for scenario in scenarios
            if block < (repeats or scenario.repeats)
            for level in scenario.levels
        ]
        shuffler = random.Random(f"{seed}/{block}")
        shuffler.shuffle(asked)
        for variant in shuffler.sample(list(variants), len(variants)):
            missing = set(holes.get(variant, ()))
            trials += [
                Trial(
                    variant=variant,
                    scenario=scenario,
                    level=level,
                    repeat=block,
                    seed=derived_seed(seed, scenario.name, level, block),
                    lens=lens,
                )
                for scenario, level in asked
                if not missing & {part.endpoint for part in scenario.mix}
                and variant in only.get(scenario.name, variants)
            ]
    return trials


def predicted_s(trials: Sequence[Trial]) -> float:
    """How long a plan will take: the loads, and what lies between them."""
    servers = len({(trial.variant, trial.repeat, trial.scenario.fresh_server and trial.key) for trial in trials})
    variants = len({trial.variant.removesuffix(TWIN) for trial in trials})  # a twin is the same server: probed only
    loads = sum(trial.scenario.duration_s + TRIAL_S + trial.scenario.longest_s for trial in trials)
    return loads + SERVER_S * servers + CONFORMANCE_S * variants


def derived_seed(seed: int, *parts: object) -> int:
    """The same for every variant of a block, so that all meet the same schedule."""
    digest = hashlib.blake2b("/".join(map(str, (seed, *parts))).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")
