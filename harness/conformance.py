"""What every server must prove before it is loaded. In: an address, its Variant, the run's token. Out: Findings.

Nothing here takes a server's word: answers are compared with what the endpoint itself computes, waits and
concurrency with the clock of this side. A check that noise can spoil is tried up to three times, and its finding
says so; that a server is too *fast* is believed at once, as no noise makes a wait shorter.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from wsproto.events import CloseConnection, Message
from wsproto.utilities import ProtocolError

from apps.endpoints import ENDPOINTS, expected
from apps.variant import Variant
from harness.wire import Address, Answer, Conversation, Question, fetch, questions

ATTEMPTS = 3
LATE_MS = 30  # later than that an event was held back, even on a machine that does other things, too
LEFT_S = 1.0  # after that a program whose client has left runs for ever


@dataclass(frozen=True)
class Finding:
    """What one check expected and measured; the sentence is for people."""

    check: str
    endpoint: str
    expected: str
    measured: str
    ok: bool
    sentence: str


@dataclass(frozen=True)
class Target:
    """The server that is checked, and what it claims to be."""

    address: Address
    variant: Variant
    token: str


Check = Callable[[Target, str], Finding]


def check(address: Address, variant: Variant, token: str, *, full: bool = True) -> list[Finding]:
    """Every finding about a server; not full: a probe of some milliseconds, whether it is still ours and answers."""
    target = Target(address, variant, token)
    findings = [_checked(identity, target, "state")]
    if not full:
        return [*findings, _checked(answers, target, "ping")]
    if refusals(findings):  # somebody else's server is not to be asked for more
        return findings
    return findings + [_checked(each, target, endpoint) for each, endpoints in CHECKS for endpoint in endpoints]


def refusals(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that forbid to load this server."""
    return [finding for finding in findings if not finding.ok]


def _checked(each: Check, target: Target, endpoint: str) -> Finding:
    """One finding, come what may: a hole is skipped; to hang, to break off or to answer nonsense is to be refused."""
    if reason := target.variant.holes.get(endpoint):
        sentence = f"/{endpoint} {each.__name__}: skipped: {reason}"
        return Finding(each.__name__, endpoint, "a stated hole", "skipped", True, sentence)
    try:
        return each(target, endpoint)
    except (OSError, http.client.HTTPException, ProtocolError, ValueError, LookupError, TypeError) as error:
        return _found(each.__name__, endpoint, "an answer", f"{type(error).__name__}: {error}", ok=False)


def _found(name: str, endpoint: str, wanted: str, measured: str, *, ok: bool) -> Finding:
    sentence = f"/{endpoint} {name}: {measured}" + ("" if ok else f"; expected: {wanted}")
    return Finding(name, endpoint, wanted, measured, ok, sentence)


def _wanted(path: str, method: str = "GET") -> Answer:
    bare, _, raw_query = path.partition("?")
    return Answer(*expected(method, bare, raw_query))


def _alike(target: Target, name: str, endpoint: str, requests: Sequence[tuple[str, str]]) -> Finding:
    """That each (method, path) is answered byte for byte as it must be; the first difference is shown."""
    for method, path in requests:
        answer, _ = fetch(target.address, path, method)
        if answer != (wanted := _wanted(path, method)):
            return _found(name, endpoint, str(wanted), f"{method} {path} was answered {answer}", ok=False)
    return _found(name, endpoint, "the same bytes", f"the same bytes, {len(requests)} of {len(requests)}", ok=True)


# The checks: each asks one server about one endpoint, and may raise what _checked knows.


def identity(target: Target, endpoint: str) -> Finding:
    """It is the server that this run started, and no other that found the port free."""
    answer, _ = fetch(target.address, f"/{endpoint}")
    wanted = f"token {target.token}, variant {target.variant.name}"
    try:
        state = json.loads(answer.body)
        measured = f"token {state['token']}, variant {state['variant']}"
    except (ValueError, LookupError, TypeError):
        measured = str(answer)
    return _found("identity", endpoint, wanted, measured, ok=measured == wanted)


def answers(target: Target, endpoint: str) -> Finding:
    """Status, content type and body; with parameters drawn at random, which no cache can have seen."""
    parameters = ENDPOINTS[endpoint].parameters.values()
    draws = ("&".join(f"{p.name}={p.low + random.randint(1, 20)}" for p in parameters) for _ in range(2))
    paths = [f"/{endpoint}", *(f"/{endpoint}?{draw}" for draw in draws if draw)]
    return _alike(target, "answers", endpoint, [("GET", path) for path in paths])


def invalid(target: Target, endpoint: str) -> Finding:
    """What is not allowed gets the same 400, 404 and 405 from every server."""
    row = ENDPOINTS[endpoint]
    requests = [("POST", row.path), ("GET", f"{row.path}/nope")]
    if row.kind == "socket":
        return _alike(target, "invalid", endpoint, [*requests, ("GET", row.path)])
    queries = ["nope=1"]
    for p in row.parameters.values():
        values = ("-1", "abc", "", "+5", "%35", "1e3", str(p.high + 1), "10**9", "9" * 99)
        queries += [f"{p.name}={value}" for value in values] + [f"{p.name}={p.low}&{p.name}={p.low}"]
    return _alike(target, "invalid", endpoint, requests + [("GET", f"{row.path}?{query}") for query in queries])


def waits(target: Target, endpoint: str) -> Finding:
    """A wait is never shorter than asked; how far off it is, is told."""
    asked_ms = 5
    took_ms = sorted(fetch(target.address, f"/{endpoint}?ms={asked_ms}")[1] * 1000 for _ in range(8))
    errors = f"{took_ms[0] - asked_ms:+.2f} to {took_ms[-1] - asked_ms:+.2f} ms"
    measured = f"waits of {asked_ms} ms were off by {errors}, the way there and back included"
    return _found("waits", endpoint, f"never shorter than {asked_ms} ms", measured, ok=took_ms[0] >= asked_ms)


def work(target: Target, endpoint: str) -> Finding:
    """The arithmetic is done anew for each call: the second takes roughly as long as it takes here."""
    path = f"/{endpoint}?n={random.randint(150_000, 250_000)}"
    began = time.thread_time()
    wanted = _wanted(path)
    here_ms = (time.thread_time() - began) * 1000
    (first, _), (second, took_s) = fetch(target.address, path), fetch(target.address, path)
    ok = first == second == wanted and took_s * 1000 >= here_ms / 4  # other cores are faster, but not that much
    measured = f"{path} took {took_s * 1000:.1f} ms the second time, {here_ms:.1f} ms here; {second}"
    return _found("work", endpoint, f"at least {here_ms / 4:.1f} ms, and {wanted}", measured, ok=ok)


def concurrency(target: Target, endpoint: str) -> Finding:
    """Parallel waits take one wait, or one for each round that the slots make of them."""
    slots = target.variant.budget.slots
    return _rounds(target, "concurrency", endpoint, calls=8, each_ms=100, width=slots)


def slots(target: Target, endpoint: str) -> Finding:
    """Exactly as many slots as claimed: 8 calls cannot tell 16 from 17, nor from a thread pool of 10."""
    width = target.variant.budget.slots
    return _rounds(target, "slots", endpoint, calls=2 * (width or 16), each_ms=100, width=width)


def pool(target: Target, endpoint: str) -> Finding:
    """As many queries at a time as there are connections, or slots."""
    budget = target.variant.budget
    width = min(budget.slots or budget.db_connections, budget.db_connections)
    return _rounds(target, "pool", endpoint, calls=16, each_ms=50, width=width)


def _rounds(target: Target, name: str, endpoint: str, *, calls: int, each_ms: int, width: int | None) -> Finding:
    """That `calls` parallel calls take as many rounds as `width` at a time make of them."""
    path = f"/{endpoint}?ms={each_ms}"
    rounds = math.ceil(calls / min(width or calls, calls))
    low_ms, high_ms = rounds * each_ms, (rounds + 0.8) * each_ms

    def attempt() -> tuple[Finding, bool]:
        took_ms, wrong = _together(target, calls, path)
        measured = f"{calls} parallel calls of {each_ms} ms took {took_ms:.0f} ms{wrong}"
        wanted = f"{rounds} x {each_ms} ms, so {low_ms} to {high_ms:.0f} ms, and each {_wanted(path)}"
        ok = not wrong and low_ms <= took_ms <= high_ms
        return _found(name, endpoint, wanted, measured, ok=ok), not wrong and took_ms > high_ms

    return _patiently(attempt)


def _patiently(attempt: Callable[[], tuple[Finding, bool]]) -> Finding:
    """The first finding that is right, or that noise cannot excuse, or the last."""
    number = 1
    finding, excusable = attempt()
    while not finding.ok and excusable and number < ATTEMPTS:
        number += 1
        finding, excusable = attempt()
    tries = "" if number == 1 else f" (attempt {number} of {ATTEMPTS})"
    return replace(finding, measured=finding.measured + tries, sentence=finding.sentence + tries)


def _together(target: Target, calls: int, path: str) -> tuple[float, str]:
    """Milliseconds from the first question to the last answer; and the first wrong answer, in words."""
    with questions(target.address, calls) as asked, ThreadPoolExecutor(calls) as threads:
        began = time.monotonic()
        for question in asked:
            question.ask(path)
        got = list(threads.map(Question.answer, asked))  # threads, as each must close as soon as it is answered
        took_ms = (time.monotonic() - began) * 1000
    return took_ms, next((f", and one was answered {answer}" for answer in got if answer != _wanted(path)), "")


def stream(target: Target, endpoint: str) -> Finding:
    """Events arrive one by one: none before it is due, and none late."""
    return _patiently(lambda: _streamed(target, endpoint, events=5, interval_ms=40))


def _streamed(target: Target, endpoint: str, *, events: int, interval_ms: int) -> tuple[Finding, bool]:
    path = f"/{endpoint}?events={events}&interval_ms={interval_ms}"
    with questions(target.address, 1) as (question,):
        question.ask(path)
        pieces = list(question.pieces())
        got = question.answered(b"".join(piece for _, piece in pieces))
    at_ms = [at_s * 1000 for at_s, piece in pieces for _ in range(piece.count(b"\n\n"))]
    lag_ms = [at - number * interval_ms for number, at in enumerate(at_ms)]
    early, late = min(lag_ms, default=0) < 0, max(lag_ms, default=0) > LATE_MS
    same = got == _wanted(path)
    measured = f"events came {', '.join(f'{at:.1f}' for at in at_ms)} ms after the call" + ("" if same else f": {got}")
    wanted = f"{events}, one each {interval_ms} ms, none early and none {LATE_MS} ms late: {_wanted(path)}"
    return _found("stream", endpoint, wanted, measured, ok=same and not early and not late), same and not early


def leaving(target: Target, endpoint: str) -> Finding:
    """A client that leaves in the middle ends what it had begun."""
    with _streaming(target, endpoint) if ENDPOINTS[endpoint].kind == "stream" else _conversing(target, endpoint):
        seen = _live(target, lambda counts: sum(counts) > 0) if _answers_meanwhile(target) else "an unseen number"
    left = _live(target, lambda counts: sum(counts) == 0)
    measured = f"{seen} live before the client left, {left} within {LEFT_S:g} s after"
    return _found("leaving", endpoint, "some before, 0 after", measured, ok=seen != 0 and left == 0)


@contextlib.contextmanager
def _streaming(target: Target, endpoint: str) -> Iterator[None]:
    with questions(target.address, 1) as (question,):
        question.ask(f"/{endpoint}?events=10000&interval_ms=10")
        next(question.pieces(), None)
        yield


@contextlib.contextmanager
def _conversing(target: Target, endpoint: str) -> Iterator[None]:
    with contextlib.closing(Conversation(target.address, f"/{endpoint}")):
        yield


def _answers_meanwhile(target: Target) -> bool:
    """Whether the process that serves one client has a slot for the question how many it serves."""
    budget = target.variant.budget
    return budget.slots is None or budget.slots > budget.processes


def _live(target: Target, enough: Callable[[Iterable[int]], bool]) -> int | str:
    """The live programs of all processes as soon as they are `enough`; otherwise what was last seen of them.

    Which process answers is the kernel's choice. As many connections as there are processes, opened before any
    asks, reach all of them that are free; and it is tried until each has spoken.
    """
    processes = target.variant.budget.processes
    live: dict[int, int] = {}
    deadline = time.monotonic() + LEFT_S
    while time.monotonic() < deadline:
        with questions(target.address, processes) as asked:
            for question in asked:
                question.ask("/state")
            for question in asked:
                state = json.loads(question.answer().body)
                live[state["pid"]] = state["live"]
        if len(live) == processes and enough(live.values()):
            return sum(live.values())
        time.sleep(0.005)
    return sum(live.values()) if len(live) == processes else f"{live} by process, of {processes}"


def echo(target: Target, endpoint: str) -> Finding:
    """A WebSocket sends back what it is sent: text, bytes, nothing, several at once, fragments; and says goodbye."""
    messages: list[str | bytes] = ["text \u00e9\u20ac\U0001f600", bytes(range(256)), "", b"", "x" * 70_000]
    got: list[str | bytes | None] = []
    with contextlib.closing(Conversation(target.address, f"/{endpoint}")) as conversation:
        for message in messages:
            conversation.send(Message[Any](data=message))
            got.append(conversation.next())
        conversation.send(*(Message[Any](data=message) for message in messages))
        got += [conversation.next() for _ in messages]
        conversation.send(Message(data="frag", message_finished=False), Message(data="ment"))
        got.append(conversation.next())
        conversation.send(CloseConnection(code=1000))
        got.append(conversation.next())
    wanted = [*messages, *messages, "fragment", None]
    wrong = [
        f"; {sent!r:.40} came back as {back!r:.40}" for sent, back in zip(wanted, got, strict=True) if sent != back
    ]
    measured = f"{len(wanted) - len(wrong)} of {len(wanted)} came back{''.join(wrong[:1])}"
    return _found("echo", endpoint, "each message as it was sent, and a goodbye", measured, ok=not wrong)


REPLIES = tuple(name for name, endpoint in ENDPOINTS.items() if endpoint.kind == "reply")

# To add a check: write its function, and its row with the endpoints that it is for.
CHECKS: tuple[tuple[Check, tuple[str, ...]], ...] = (
    (answers, REPLIES),
    (invalid, tuple(ENDPOINTS)),
    (waits, ("sleep", "db")),
    (work, ("cpu",)),
    (concurrency, ("sleep",)),
    (slots, ("sleep",)),
    (pool, ("db",)),
    (stream, ("sse",)),
    (leaving, ("sse", "ws")),
    (echo, ("ws",)),
)
