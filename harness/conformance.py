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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from wsproto.events import CloseConnection, Message
from wsproto.utilities import ProtocolError

from apps.endpoints import ENDPOINTS, LARGEST_BODY, expected, same_document
from apps.variant import Variant
from harness.wire import Address, Answer, Conversation, Question, fetch, questions

ATTEMPTS = 3
HUNG = 3  # checks that wait for an answer in vain, after which a server is asked no more
TIMED_OUT = "TimeoutError"
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
    token: str | None  # None: it has no /state to say who it is


Check = Callable[[Target, str], Finding]
Request = tuple[str, str, bytes | None]  # method, path and query, body; without a body there is no Content-Length


def check(address: Address, variant: Variant, token: str | None, *, full: bool = True) -> list[Finding]:
    """Every finding about a server; not full: a probe of some milliseconds, whether it is still ours and answers."""
    target = Target(address, variant, token)
    findings = [_checked(identity, target, "state")]
    if not full:
        return [*findings, _checked(answers, target, "ping")]
    if refusals(findings):  # somebody else's server is not to be asked for more
        return findings
    for each, endpoint in [(each, endpoint) for each, endpoints in CHECKS for endpoint in endpoints]:
        findings.append(_checked(each, target, endpoint))
        if sum(TIMED_OUT in finding.measured for finding in findings) == HUNG:
            break  # it hangs: to wait for every other check would take minutes
    return findings


def refusals(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that forbid to load this server."""
    return [finding for finding in findings if not finding.ok]


def _checked(each: Check, target: Target, endpoint: str) -> Finding:
    """One finding, come what may: a hole is skipped; to hang, to break off or to answer nonsense is to be refused."""
    if reason := target.variant.holes.get(endpoint):
        sentence = f"/{endpoint} {each.__name__}: skipped: {reason}"
        return Finding(each.__name__, endpoint, "a stated hole", "skipped", True, sentence)
    if target.token is None and each in (identity, leaving, database):
        return Finding(
            each.__name__, endpoint, "a /state", "skipped", True, f"/{endpoint} {each.__name__}: it has no /state"
        )
    try:
        return each(target, endpoint)
    except (OSError, http.client.HTTPException, ProtocolError, ValueError, LookupError, TypeError) as error:
        return _found(each.__name__, endpoint, "an answer", f"{type(error).__name__}: {error}", ok=False)


def _found(name: str, endpoint: str, wanted: str, measured: str, *, ok: bool) -> Finding:
    sentence = f"/{endpoint} {name}: {measured}" + ("" if ok else f"; expected: {wanted}")
    return Finding(name, endpoint, wanted, measured, ok, sentence)


def _wanted(path: str, method: str = "GET", body: bytes | None = None) -> Answer:
    bare, _, raw_query = path.partition("?")
    return Answer(*expected(method, bare, raw_query, body))


def _request(endpoint: str, query: str = "") -> Request:
    """A proper one."""
    row = ENDPOINTS[endpoint]
    return row.method, f"{row.path}?{query}" if query else row.path, b"a body" if row.method == "POST" else None


def _drawn(endpoint: str) -> list[str]:
    """Two queries with parameters drawn at random, which no cache can have seen, and each unlike the others.

    None where there are no parameters.
    """
    columns = [
        [f"{p.name}={value}" for value in random.sample([v for v in range(p.low + 1, p.low + 21) if v != p.default], 2)]
        for p in ENDPOINTS[endpoint].parameters.values()
    ]
    return ["&".join(row) for row in zip(*columns, strict=True)]


def _alike(target: Target, name: str, endpoint: str, requests: Sequence[Request]) -> Finding:
    """That each request is answered byte for byte as it must be; the first difference is shown."""
    for method, path, body in requests:
        answer, _ = fetch(target.address, path, method, body)
        if answer != (wanted := _wanted(path, method, body)):
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


def database(target: Target, endpoint: str) -> Finding:
    """Queries are performed by what waits as all else does there: never by a driver that stops every greenlet."""
    told = str(json.loads(fetch(target.address, "/state")[0].body)["database"])
    return _found("database", endpoint, "queries that wait as all else does", told, ok=not told.startswith("refused"))


def answers(target: Target, endpoint: str) -> Finding:
    """Status, content type and body, for the defaults and for parameters drawn at random."""
    return _alike(target, "answers", endpoint, [_request(endpoint, query) for query in ("", *_drawn(endpoint))])


def document(target: Target, endpoint: str) -> Finding:
    """The same document, whatever its bytes: equal in value and type, its size told."""
    sizes = []
    for query in ("", *_drawn(endpoint)):
        _, path, _ = _request(endpoint, query)
        (answer, _), wanted = fetch(target.address, path), _wanted(path)
        sizes.append(f"{len(answer.body)} bytes for {len(wanted.body)}")
        if not _same(answer, wanted):
            return _found("document", endpoint, str(wanted), f"GET {path} was answered {answer}", ok=False)
    measured = f"equal in value and type; {', '.join(sizes)} of compact JSON"
    return _found("document", endpoint, "the same document", measured, ok=True)


def written(address: Address, path: str) -> bytes:
    """The bytes in which this server writes a document, for whoever counts its replies as right.

    Where they are no such document, or nobody answers, they are the right ones: then each reply counts as wrong.
    """
    wanted = _wanted(path)
    try:
        answer, _ = fetch(address, path)
    except (OSError, http.client.HTTPException):
        return wanted.body
    return answer.body if _same(answer, wanted) else wanted.body


def _same(answer: Answer, wanted: Answer) -> bool:
    return answer[:2] == wanted[:2] and same_document(answer.body, wanted.body)


def invalid(target: Target, endpoint: str) -> Finding:
    """What is not allowed gets the same 400, 404 and 405 from every server, and a body that is not fit 411 and 413."""
    row = ENDPOINTS[endpoint]
    proper, path, body = _request(endpoint)
    wrong = ("GET", path, None) if proper == "POST" else ("POST", path, b"")
    requests: list[Request] = [wrong, ("GET", f"{path}/nope", None)]
    if row.kind == "socket":
        return _alike(target, "invalid", endpoint, [*requests, ("GET", path, None)])
    if body is not None:
        requests += [(proper, path, None), (proper, path, bytes(LARGEST_BODY + 1))]
    queries = ["nope=1"]
    for p in row.parameters.values():
        values = ("-1", "abc", "", "+5", "%35", "1e3", str(p.high + 1), "10**9", "9" * 99)
        queries += [f"{p.name}={value}" for value in values] + [f"{p.name}={p.low}&{p.name}={p.low}"]
    return _alike(target, "invalid", endpoint, requests + [_request(endpoint, query) for query in queries])


def bodies(target: Target, endpoint: str) -> Finding:
    """A request's body comes back as it was sent: none, one byte, every byte, and more than one read takes."""
    method, path, _ = _request(endpoint)
    sent = (b"", b"x", bytes(range(256)), random.randbytes(70_000))
    return _alike(target, "bodies", endpoint, [(method, path, body) for body in sent])


def download(target: Target, endpoint: str) -> Finding:
    """A download of many pieces arrives whole."""
    path = f"/{endpoint}?kb=1001"
    (answer, took_s), wanted = fetch(target.address, path), _wanted(path)
    same = next((at for at, (a, b) in enumerate(zip(answer.body, wanted.body, strict=False)) if a != b), None)
    difference = "" if same is None else f", other bytes from {same}"
    measured = f"{len(answer.body)} bytes in {took_s * 1000:.1f} ms{difference}" + (
        "" if answer == wanted else f": {answer}"
    )
    return _found("download", endpoint, f"{len(wanted.body)} bytes: {wanted}", measured, ok=answer == wanted)


def held(target: Target, endpoint: str) -> Finding:
    """A long poll ends with the news, or with its time; neither sooner nor much later."""
    return _patiently(lambda: _held(target, endpoint, short_ms=60, long_ms=2000))


def _held(target: Target, endpoint: str, *, short_ms: int, long_ms: int) -> tuple[Finding, bool]:
    cases = {"with news": (long_ms, short_ms), "without": (short_ms, long_ms)}
    paths = {name: f"/{endpoint}?timeout_ms={timeout}&news_ms={news}" for name, (timeout, news) in cases.items()}
    took_ms, wrong = {}, ""
    for name, path in paths.items():
        answer, took_s = fetch(target.address, path)
        took_ms[name] = took_s * 1000
        wrong = wrong or ("" if answer == _wanted(path) else f"; {path} was answered {answer}")
    measured = " and ".join(f"held for {ms:.1f} ms {name}" for name, ms in took_ms.items()) + wrong
    wanted = f"{short_ms} to {short_ms + LATE_MS} ms, and {' and '.join(str(_wanted(path)) for path in paths.values())}"
    early, late = min(took_ms.values()) < short_ms, max(took_ms.values()) > short_ms + LATE_MS
    return _found("held", endpoint, wanted, measured, ok=not (wrong or early or late)), not (wrong or early)


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
    width = target.variant.budget.slots
    return _rounds(target, "concurrency", endpoint, calls=min(8, 2 * (width or 8)), each_ms=100, width=width)


def slots(target: Target, endpoint: str) -> Finding:
    """As many slots as claimed and not one more: so many calls are one round, another one makes two."""
    width = target.variant.budget.slots
    if width is None:
        return _rounds(target, "slots", endpoint, calls=32, each_ms=100, width=None)
    one, two = (
        _rounds(target, "slots", endpoint, calls=calls, each_ms=100, width=width) for calls in (width, width + 1)
    )
    both = replace(two, measured=f"{one.measured}; {two.measured}", sentence=f"{one.sentence}; {two.measured}")
    return both if one.ok and two.ok else one if two.ok else two


def pool(target: Target, endpoint: str) -> Finding:
    """As many queries at a time as there are connections, or slots."""
    budget = target.variant.budget
    width = min(budget.slots or budget.db_connections, budget.db_connections)
    return _rounds(target, "pool", endpoint, calls=2 * width, each_ms=50, width=width)


def _rounds(target: Target, name: str, endpoint: str, *, calls: int, each_ms: int, width: int | None) -> Finding:
    """That `calls` parallel calls take as many rounds as `width` at a time make of them.

    A process with threads accepts a call while all of them are busy, and another process may be idle meanwhile: of
    such processes only the bounds are known, from an even split to all calls in one of them.
    """
    path = f"/{endpoint}?ms={each_ms}"
    budget = target.variant.budget
    shared = width is not None and budget.processes > 1 and budget.threads > 1
    width = min(width or calls, calls)
    rounds = math.ceil(calls / width)
    most = math.ceil(calls * budget.processes / width) if shared else rounds
    low_ms, high_ms = rounds * each_ms, (most + 0.8) * each_ms

    def attempt() -> tuple[Finding, bool]:
        took_ms, wrong = _together(target, calls, path)
        measured = f"{calls} parallel calls of {each_ms} ms took {took_ms:.0f} ms{wrong}"
        counted = f"{rounds}" if most == rounds else f"{rounds} to {most}"
        wanted = f"{counted} x {each_ms} ms, so {low_ms} to {high_ms:.0f} ms, and each {_wanted(path)}"
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
    every = target.variant.budget.processes
    before: dict[int, int] = {}
    with _streaming(target, endpoint) if ENDPOINTS[endpoint].kind == "stream" else _conversing(target, endpoint):
        if meanwhile := _answers_meanwhile(target):
            before = _live(target, lambda live: any(live.values()))
    began = {pid for pid, count in before.items() if count}

    def ended(live: dict[int, int]) -> bool:  # as the process that served the client says, or, if unknown, as all say
        return (began <= live.keys() if began else len(live) == every) and not any(live.values())

    left = _live(target, ended)
    ok = bool(began) == meanwhile and ended(left)
    seen = sum(before.values()) if meanwhile else "an unseen number"
    asked = "" if len(left) == every else f", as {len(left)} of {every} processes said"
    measured = f"{seen} live before the client left, {sum(left.values())} within {LEFT_S:g} s after{asked}"
    return _found("leaving", endpoint, "some before, 0 after", measured, ok=ok)


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


def _live(target: Target, enough: Callable[[dict[int, int]], bool]) -> dict[int, int]:
    """The live programs by process as soon as they are `enough`; otherwise what was last seen of them.

    Which process answers is the kernel's choice. As many connections as there are processes, opened before any
    asks, reach all of them that are free; and it is tried again and again.
    """
    processes = target.variant.budget.processes
    live: dict[int, int] = {}
    deadline = time.monotonic() + LEFT_S
    while time.monotonic() < deadline and not (live and enough(live)):
        with questions(target.address, processes) as asked:
            for question in asked:
                question.ask("/state")
            for question in asked:
                state = json.loads(question.answer().body)
                live[state["pid"]] = state["live"]
        time.sleep(0.005)
    return live


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
DOCUMENTS = tuple(name for name, endpoint in ENDPOINTS.items() if endpoint.kind == "document")

# To add a check: write its function, and its row with the endpoints that it is for.
CHECKS: tuple[tuple[Check, tuple[str, ...]], ...] = (
    (database, ("db",)),
    (answers, (*REPLIES, "stream")),
    (document, DOCUMENTS),
    (invalid, tuple(ENDPOINTS)),
    (bodies, ("echo",)),
    (download, ("stream",)),
    (held, ("poll",)),
    (waits, ("sleep", "db", "mix")),
    (work, ("cpu",)),
    (concurrency, ("sleep",)),
    (slots, ("sleep",)),
    (pool, ("db",)),
    (stream, ("sse",)),
    (leaving, ("sse", "ws")),
    (echo, ("ws",)),
)
