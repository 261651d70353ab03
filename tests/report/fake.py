"""Runs that nobody measured, of the real classes. In: variants and their made-up behaviour. Out: a Run."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.histogram import Histogram
from harness.recording import End, Head, Kind, Recording, Row, Run, Sample, packed
from harness.trial import Arrivals, Part, Scenario, Subject, Trial

VARIANTS = ("asgi", "wsgi-gevent", "wsgi-sync", "wsgi-threads")
SLOTS: Mapping[str, int | None] = {"asgi": None, "wsgi-gevent": None, "wsgi-sync": 1, "wsgi-threads": 16}
HOLE = {"wsgi-sync": {"ws": "a sync worker hands over no socket"}}
FACTS = {
    "cpu": {"model": "Example 3000", "cores": 2},
    "os": "Linux 6.1",
    "memory_mb": 8000,
    "versions": {"python": "3.11.2"},
}


def scenario(
    name: str, arrivals: Arrivals = "closed", level: float = 32, endpoint: str = "ping", **more: Any
) -> Scenario:
    levels = {"users": (int(level),)} if arrivals == "closed" else {"rates": (level,)}
    part = Part(endpoint=endpoint, wait_s=more.pop("wait_s", 0.0), pool_s=more.pop("pool_s", 0.0))
    question = more.pop("question", f"Which variant is best at {endpoint}?")
    return Scenario(
        name=name,
        question=question,
        arrivals=arrivals,
        mix=(part,),
        duration_s=3,
        warmup_s=1,
        repeats=4,
        **levels,
        **more,
    )


def subject(variant: str, **more: Any) -> Subject:
    asgi = variant.startswith("asgi")
    budget: dict[str, Any] = {
        "processes": 1, "slots": SLOTS.get(variant), "db_connections": 8, "backlog": 2048, "keep_alive_s": 75,
        "access_log": False, "loop": "uvloop" if asgi else "none",
    }  # fmt: skip
    return Subject(
        name=variant,
        family=more.pop("family", variant.removeprefix("wsgi-")),
        interface="ASGI" if asgi else "WSGI",
        server="uvicorn" if asgi else "gunicorn",
        framework=more.pop("framework", "raw"),
        command=("uvicorn" if asgi else "gunicorn", "--workers", "1", f"{variant}:app"),
        budget=budget | more,
    )


def rows(name: str, times_ms: Callable[[], float], per_second: float, asked: Scenario, rng: random.Random) -> list[Row]:
    """One row a second of a made-up endpoint; in open mode with lateness and response, and what was never finished."""
    made = []
    for second in range(asked.duration_s):
        n = max(round(per_second * rng.uniform(0.985, 1.015)), 1)
        late = (
            max(round(asked.levels[0]) - n, 0)
            if asked.arrivals != "closed" and per_second < 0.9 * asked.levels[0]
            else 0
        )
        service = [round(1000 * times_ms()) for _ in range(n)]
        kinds: dict[Kind, list[int]] = {"service": service}
        if asked.arrivals != "closed":
            lateness = [rng.randrange(40, 160) for _ in range(n)]
            response = [one + two for one, two in zip(service, lateness, strict=True)]
            kinds |= {"lateness": lateness, "blocked": [0] * n, "response": response}
        hist = {kind: packed(Histogram.of(values)) for kind, values in kinds.items()}
        made.append(Row(second=second, row=name, offered=n + late, completed=n, unfinished=late, finished=n, hist=hist))
    return made


def recording(
    variant: str,
    asked: Scenario,
    made: Sequence[Row],
    *,
    repeat: int = 0,
    cpu_s: float = 0.5,
    rss_mb: float = 40.0,
    threads: int = 1,
    facts: Mapping[str, Any] = FACTS,
    end: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    lens: str = "equal-cpu",
) -> Recording:
    samples = [
        Sample(second=second, who="server", cpu_s=cpu_s, rss_mb=rss_mb, threads=threads)
        for second in range(asked.duration_s)
    ]
    head = Head(
        trial=Trial(variant=variant, scenario=asked, level=asked.levels[0], repeat=repeat, seed=7, lens=lens),
        subject=subject(variant, **(about or {})),
        facts=facts,
        started_at=f"2026-11-21T10:{repeat:02}:00Z",
        server_cpus=(0,),
        generator_cpus=(1,),
    )
    return Recording(
        head,
        tuple(made),
        tuple(samples),
        End.model_validate({"outcome": "complete", "loaded_s": 3.0} | dict(end or {})),
    )


# (scenario, variant → (requests a second, ms least, ms spread, CPU seconds a second))
QUESTIONS: Sequence[tuple[Scenario, Mapping[str, tuple[float, float, float, float]]]] = (
    (
        scenario("quick/ping", question="How many requests a second does each manage when there is nothing to do?"),
        {
            "asgi": (6100, 4.2, 1.2, 0.99),
            "wsgi-gevent": (3400, 7.9, 2, 0.98),
            "wsgi-sync": (1900, 15, 2, 0.93),
            "wsgi-threads": (2300, 12, 3, 0.99),
        },
    ),
    (
        scenario("quick/cpu", level=16, endpoint="cpu", question="Does the family matter when the work is arithmetic?"),
        {
            "asgi": (421, 36, 1.5, 0.99),
            "wsgi-gevent": (419, 36, 1.6, 0.99),
            "wsgi-sync": (418, 37, 1, 0.99),
            "wsgi-threads": (377, 31, 15, 0.99),
        },
    ),
    (
        scenario("quick/sleep", "poisson", 200, "sleep", wait_s=0.05, question="Who holds 200/s that each wait 50 ms?"),
        {
            "asgi": (200, 50.2, 0.4, 0.1),
            "wsgi-gevent": (200, 50.4, 1.1, 0.13),
            "wsgi-sync": (20, 1900, 600, 0.02),
            "wsgi-threads": (199, 50.3, 3, 0.16),
        },
    ),
    (
        scenario(
            "quick/db", "poisson", 300, "db", wait_s=0.02, pool_s=0.02, question="Who holds 300 queries/s of 20 ms?"
        ),
        {
            "asgi": (300, 20.2, 4, 0.2),
            "wsgi-gevent": (300, 20.3, 4.4, 0.25),
            "wsgi-sync": (49, 900, 400, 0.06),
            "wsgi-threads": (300, 20.2, 5, 0.3),
        },
    ),
    (
        scenario("quick/sse", level=16, endpoint="sse", wait_s=0.9, question="Who keeps 16 event streams on time?"),
        {
            "asgi": (17.6, 901, 1, 0.1),
            "wsgi-gevent": (17.5, 901, 2, 0.12),
            "wsgi-sync": (1.1, 900, 2, 0.02),
            "wsgi-threads": (17.4, 901, 5, 0.2),
        },
    ),
    (
        scenario("quick/ws", level=16, endpoint="ws", wait_s=0.5, question="Who echoes fastest over 16 WebSockets?"),
        {"asgi": (31.6, 501, 2, 0.1), "wsgi-gevent": (31.2, 502, 3, 0.12), "wsgi-threads": (30.8, 503, 5, 0.2)},
    ),
)
PARTS = {"sse": {"sse:first": 1, "sse:event": 10}, "ws": {"ws:connect": 1, "ws:echo": 10}}


def realistic(folder: Path = Path("quick-1"), repeats: int = 4, **manifest: Any) -> Run:
    """Four variants, six questions: what a run of the default scenario looks like."""
    made = [
        _trial(variant, asked, repeat, *behaviour)
        for asked, behaviours in QUESTIONS
        for variant, behaviour in behaviours.items()
        for repeat in range(repeats)
    ]
    told = {"command": ["gatebench", "run", "quick"], "outcome": "complete", "holes": HOLE, "measured_share": 0.78}
    return Run(folder, tuple(made), told | {"seed": 7} | manifest)


def _trial(
    variant: str, asked: Scenario, repeat: int, rps: float, least_ms: float, spread_ms: float, cpu_s: float
) -> Recording:
    rng = random.Random(f"{asked.name}/{variant}/{repeat}")
    own = rps * rng.uniform(0.992, 1.008)
    endpoint = asked.mix[0].endpoint
    whole = rows(endpoint, lambda: least_ms + rng.lognormvariate(-0.5, 0.8) * spread_ms, own, asked, rng)
    for name, times in PARTS.get(endpoint, {}).items():
        whole += rows(name, lambda: rng.lognormvariate(0, 0.6) * spread_ms, own * times, asked, rng)
    rss_mb = {"asgi": 46.0, "wsgi-gevent": 41.5, "wsgi-sync": 33.1}.get(variant, 36.4)
    threads = 18 if variant == "wsgi-threads" else 1
    return recording(variant, asked, whole, repeat=repeat, cpu_s=cpu_s, rss_mb=rss_mb, threads=threads)


CROWD = tuple(f"wsgi-{name}" for name in ("sync", "threads", "threads-2x8", "threads-4x4", "gevent"))
CROWD += (
    "uwsgi-threads",
    "uwsgi-gevent",
    "mod-wsgi",
    "waitress",
    "werkzeug",
    "granian-wsgi",
    "granian-asgi",
    "granian-rsgi",
)
CROWD += ("asgi", "asgi-h11", "gunicorn-asgi", "gunicorn-uvicorn", "hypercorn-asyncio", "hypercorn-uvloop", "daphne")
CROWD += ("starlette-behind-a-long-bridge",)


def family(variant: str) -> str:
    words = {"gevent": "gevent", "wsgi": "wsgi", "waitress": "wsgi", "werkzeug": "wsgi", "uwsgi": "wsgi"}
    return next((found for word, found in words.items() if word in variant), "asgi")


def crowd(folder: Path = Path("servers-1"), repeats: int = 2, **manifest: Any) -> Run:
    """Some twenty variants, three questions, streams among them: what a run of `servers` looks like."""
    made = []
    for asked, behaviours in (QUESTIONS[0], QUESTIONS[2], QUESTIONS[4]):
        for i, variant in enumerate(CROWD):
            kind = family(variant)
            alike = {"asgi": "asgi", "gevent": "wsgi-gevent"}.get(kind, "wsgi-threads")
            rps, least_ms, spread_ms, cpu_s = behaviours["wsgi-sync" if variant == "wsgi-sync" else alike]
            faster = 1 + (i % 7) / 10 if asked.mix[0].endpoint == "ping" else 1.0
            framework = "starlette" if "starlette" in variant else "raw"
            about = {"family": kind, "framework": framework, "keep_alive_s": None if i % 8 == 0 else 75}
            for repeat in range(repeats):
                one = _trial(variant, asked, repeat, rps * faster, least_ms / faster, spread_ms, cpu_s)
                head = one.head.model_copy(update={"subject": subject(variant, **about)})
                made.append(replace(one, head=head))
    told = {"command": ["gatebench", "run", "servers"], "outcome": "complete", "measured_share": 0.8}
    return Run(folder, tuple(made), told | {"seed": 7} | manifest)


def plain(variant: str, rps: float, repeats: int = 4, asked: Scenario | None = None, **more: Any) -> list[Recording]:
    """Recordings of one variant with just these throughputs: rps ± 1 from repeat to repeat, 5 ms each."""
    asked = asked or scenario("quick/ping")
    rng = random.Random(variant)
    return [
        recording(variant, asked, exact(asked, rps + (-1) ** repeat, rng), repeat=repeat, **more)
        for repeat in range(repeats)
    ]


def exact(asked: Scenario, rps: float, rng: random.Random) -> list[Row]:
    hist = {"service": packed(Histogram.of([rng.randrange(4000, 6000) for _ in range(int(rps))]))}
    count = int(rps)
    return [
        Row.model_validate(
            {"second": second, "row": asked.mix[0].endpoint, "offered": count, "completed": count, "finished": count}
            | {"hist": hist}
        )
        for second in range(asked.duration_s)
    ]


# The milliseconds of CPU that a request costs each variant itself; what it holds at a time is in SLOTS.
OVERHEAD_MS = {"asgi": 0.16, "wsgi-gevent": 0.29, "wsgi-sync": 0.5, "wsgi-threads": 0.42}


def grid(
    folder: Path = Path("mix-1"), variants: Sequence[str] = VARIANTS, repeats: int = 4, users: int = 128, **more: Any
) -> Run:
    """Wait and CPU, three of each: what a run of `mix` looks like. more: of each Recording."""
    made: list[Recording] = []
    for wait_ms in (0, 10, 50):
        for n in (1, 5000, 20_000):
            asked = scenario(f"mix/{wait_ms}ms-{n}", level=users, endpoint="mix", wait_s=wait_ms / 1000)
            part = asked.mix[0].model_copy(update={"query": f"ms={wait_ms}&n={n}"})
            asked = asked.model_copy(update={"mix": (part,)})
            for variant in variants:
                cpu_ms = OVERHEAD_MS.get(variant, 0.3) + n / (11_000 if variant == "asgi" else 12_500)
                slots = min(SLOTS.get(variant) or users, users)
                rps = min(1000 / cpu_ms, 1000 * slots / (cpu_ms + wait_ms))
                made += plain(variant, rps, repeats, asked, **more)
    return Run(folder, tuple(made), {"command": ["gatebench", "run", "mix"], "outcome": "complete", "seed": 7})
