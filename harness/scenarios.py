"""Scenario files. In: TOML, one file a question. Out: Scenarios, or one line naming file, key and what is allowed.

A file's top-level keys describe a scenario; where it has `[[scenario]]` tables, each of these is one, and the top-level
keys are their defaults. `variants` says whom it is asked of unless told: names, or words for groups. Declared waits
come from the endpoints themselves, whose effects are summed without waiting.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from apps import endpoints
from apps.effects import Query, Sleep, Until
from apps.variants import BRIDGES, FRAMEWORKS, MISTAKES, SERVERS, VARIANTS
from harness.errors import UsageError
from harness.trial import Data, Part, Scenario, Slo

FOLDER = Path(__file__).resolve().parents[1] / "scenarios"
BASE = ("wsgi-sync", "wsgi-threads", "wsgi-gevent", "asgi")  # whom a question is asked of that does not say
COMPUTED = ("wait_s", "pool_s")  # fields that follow from the endpoint, so no file may set them


class Work(NamedTuple):
    """What one call costs at least: wait_s in all, pool_s of it holding a database connection."""

    wait_s: float
    pool_s: float


def work(endpoint: str, query: str) -> Work:
    """The declared work of a call, by running its program without waiting. Raises UsageError for a refused query."""
    row = endpoints.ENDPOINTS[endpoint]
    call = endpoints.call(row.method, row.path, query, "0")
    if call.status != 200:
        refusal = json.loads(endpoints.expected_body(endpoint, query))
        raise UsageError(
            f"{endpoint}?{query}: {refusal['refused']} = {refusal['got']!r}, allowed: {refusal['allowed']}"
        )
    slept = until = held = 0.0
    for effect in endpoints.effects_of(call.program):
        match effect:
            case Sleep(seconds):
                slept += seconds
            case Until(seconds):
                until = max(until, seconds)
            case Query(seconds):
                held += seconds
    return Work(slept + until + held, held)


def completed(part: Part) -> Part:
    """The part with its declared waits filled in, and its endpoint's method unless told."""
    if part.endpoint not in endpoints.ENDPOINTS:
        raise UsageError(f"no endpoint {part.endpoint!r}; {nearest(part.endpoint, endpoints.ENDPOINTS)}")
    if part.slow_s and part.endpoint in ("sse", "ws"):
        raise UsageError(f"{part.endpoint}: slow_s is for a request and its reply, not for a conversation")
    if endpoints.ENDPOINTS[part.endpoint].kind == "socket":
        return part.model_copy(update={"wait_s": (part.echoes - 1) * part.interval_ms / 1000})
    cost = work(part.endpoint, part.query)
    method = {} if "method" in part.model_fields_set else {"method": endpoints.ENDPOINTS[part.endpoint].method}
    return part.model_copy(update=cost._asdict() | method)


def parse(text: str, name: str, file: str) -> list[Scenario]:
    """The scenarios of one file. name: what a file with a single scenario is called. file: for messages."""
    try:
        top = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: {error}") from None
    entries = top.pop("scenario", None)
    if entries is None:
        return [_scenario(top | {"name": name}, file, ())]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{file}: `scenario` must be tables, each begun by [[scenario]]")
    return [
        _scenario(top | entry | {"name": f"{name}/{entry.get('name', number)}"}, file, ("scenario", number))
        for number, entry in enumerate(entries)
    ]


def _scenario(given: dict[str, Any], file: str, place: tuple[str | int, ...]) -> Scenario:
    mix = given.get("mix")
    for number, part in enumerate(mix if isinstance(mix, list) else ()):
        for key in COMPUTED:
            if isinstance(part, dict) and key in part:
                raise UsageError(
                    f"{file}: {_key((*place, 'mix', number, key))}: follows from the endpoint; leave it out"
                )
    try:
        scenario = Scenario.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{file}: {_key((*place, *first['loc']))}: {_allowed(first)}") from None
    try:
        names_of(scenario.variants)
    except UsageError as error:
        raise UsageError(f"{file}: {_key((*place, 'variants'))}: {error}") from None
    try:
        return scenario.model_copy(update={"mix": tuple(completed(part) for part in scenario.mix)})
    except UsageError as error:
        raise UsageError(f"{file}: {_key((*place, 'mix'))}: {error}") from None


def _key(place: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".") or "the file"


def _allowed(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        inner: dict[object, type[Data]] = {"mix": Part, "slo": Slo}
        model = inner.get(error["loc"][0], Scenario) if len(error["loc"]) > 1 else Scenario
        known = [key for key in model.model_fields if key not in (*COMPUTED, "name")]
        return f"unknown key; allowed: {', '.join(known)}"
    return cast("str", error["msg"]).removeprefix("Value error, ")


def groups() -> dict[str, tuple[str, ...]]:
    """The words that stand for several variants."""
    tables = {"servers": SERVERS, "frameworks": FRAMEWORKS, "bridges": BRIDGES, "mistakes": MISTAKES}
    named = {word: tuple(variant.name for variant in table) for word, table in tables.items()}
    return {"base": BASE, **named, "all": tuple(VARIANTS)}


def names_of(words: Iterable[str]) -> tuple[str, ...]:
    """The variants that words mean, each once: names, and words for groups. Raises UsageError for an unknown one."""
    found: list[str] = []
    for word in words:
        if word in VARIANTS:
            found.append(word)
        elif word in groups():
            found += groups()[word]
        else:
            raise UsageError(f"no variant {word!r}; {nearest(word, [*VARIANTS, *groups()])}")
    return tuple(dict.fromkeys(found))


def available() -> dict[str, Path]:
    """Every scenario file that comes with the project, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def load(names: Iterable[str]) -> list[Scenario]:
    """Scenarios by name, or by the path of a file. Raises UsageError, with the nearest names, for an unknown one."""
    known = available()
    scenarios: list[Scenario] = []
    for name in names:
        path = known.get(name) or Path(name)
        if path.suffix != ".toml" or not path.is_file():
            raise UsageError(f"no scenario {name!r}; {nearest(name, known)}")
        try:
            scenarios += parse(path.read_text(encoding="utf-8"), path.stem, path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {error}") from None
    if twice := [name for name, count in Counter(one.name for one in scenarios).items() if count > 1]:
        raise UsageError(f"scenario {twice[0]!r} is asked for twice")
    return scenarios


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant, in words."""
    known = list(known)
    close = difflib.get_close_matches(name, known, 3, 0.4)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(known)}"
