"""A request, prepared once and sent many times. In: what a scenario says of it. Out: its bytes, and what is right.

Pure. A Call is shared by all who send it.
"""

from __future__ import annotations

from collections.abc import Iterable


class Call:
    """One prepared request. expected: the exact body of a right answer, None = any.

    bodiless: it is a HEAD. keep: whether the connection may be used again. known: the last reply that was found right;
    one that is the same byte for byte need not be read again.
    """

    __slots__ = ("bodiless", "expected", "keep", "known", "request")

    def __init__(self, request: bytes, expected: bytes | None, *, bodiless: bool = False, keep: bool = True) -> None:
        self.request = request
        self.expected = expected
        self.bodiless = bodiless
        self.keep = keep
        self.known: bytes | None = None

    def judge(self, status: int, body: bytes | bytearray, size: int) -> str:
        """'' for a right answer, else the kind of error. body: at least as much of it as is expected."""
        if self.expected is None:
            return "" if 200 <= status < 300 or status == 304 else f"status {status}"
        if status != 200:
            return f"status {status}"
        return "" if size == len(self.expected) and body == self.expected else "wrong body"


def prepared(
    host: str,
    target: str,
    expected: bytes | None = None,
    *,
    method: str = "GET",
    headers: Iterable[str] = (),
    body: bytes = b"",
    keep: bool = True,
) -> Call:
    """A request's bytes, made once. target: path and query. headers: lines; they replace our own of the same name."""
    own = {"host": f"Host: {host}", "user-agent": "User-Agent: gatebench", "accept": "Accept: */*"}
    given = [line.strip() for line in headers]
    for line in given:
        own.pop(line.partition(":")[0].lower(), None)
    lines = [f"{method} {target} HTTP/1.1", *own.values(), *given]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    if not keep:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    bodiless = method == "HEAD"
    return Call(head + body, b"" if bodiless and expected is not None else expected, bodiless=bodiless, keep=keep)
