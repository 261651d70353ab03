"""Servers that run elsewhere: checked, asked who they are, never started."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from apps.variants import VARIANTS
from harness import conformance
from harness.errors import ServerFailed, UsageError
from harness.serve import process, url
from harness.serve.backends import BACKENDS, Wishes, fate, watched
from harness.serve.url import UNKNOWN, Remote, Target, targets


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "gatebench" / "config.toml"
    path.parent.mkdir()
    return path


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Target]:
    """A server that gives the same answer to all."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name upstream
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Target("prod", ("127.0.0.1", int(server.server_address[1])))
        server.shutdown()


def state(**said: Any) -> bytes:
    return json.dumps({"pid": 1, "live": 0, **said}).encode()


def test_targets_are_named_addresses_of_allowed_machines(settings: Path) -> None:
    settings.write_text('allow = ["192.0.2.7:8000"]')
    assert targets(["a=http://127.0.0.1:8000", "b.2=http://192.0.2.7:8000/"]) == {
        "a": Target("a", ("127.0.0.1", 8000)),
        "b.2": Target("b.2", ("192.0.2.7", 8000)),
    }


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "--target NAME=http://host:port"),
        (["http://127.0.0.1:8000"], "write it as NAME=http://host:port"),
        (["a/b=http://127.0.0.1:8000"], "write it as NAME=http://host:port"),
        (["\x1b[31m=http://127.0.0.1:8000"], r"\x1b[31m"),
        (["a=http://127.0.0.1:8000", "a=http://127.0.0.1:8001"], "given twice"),
        (["a=http://127.0.0.1:8000/sleep"], "the scenarios have the paths"),
        (["a=ws://127.0.0.1:8000"], "write it as a=http://host:port"),
        (["a=https://127.0.0.1:8000"], "not a URL that can be loaded"),
        (["a=http://192.0.2.8:8000"], "not this machine"),
        (["a=http://169.254.169.254"], "never a target"),
        (["a=http://user:secret@127.0.0.1:8000"], "password"),
    ],
)
def test_other_targets_are_refused_in_one_line(texts: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        targets(texts)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_server_of_ours_is_known_by_what_it_says() -> None:
    with answering(200, state(token="", variant="wsgi-gevent")) as target:
        found = url.variants({"prod": target})["prod"]
        row = VARIANTS["wsgi-gevent"]
        assert (found.name, found.family, found.budget) == ("prod", row.family, row.budget)
        with url.serve(target, found, cpus=frozenset({0}), folder=Path("logs"), port=None) as server:
            assert (server.token, server.claims, server.address) == ("", "wsgi-gevent", target.address)
            assert server.alive()
            assert server.descendants() == []
            assert watched(server) is None
            assert fate(server) == "is elsewhere"


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b"no such page"), (200, b"[]"), (200, b'{"hello": 1}'), (200, state(variant="<script>", token="x"))],
)
def test_a_server_that_does_not_say_what_it_is_stays_unknown(status: int, body: bytes) -> None:
    with answering(status, body) as target:
        found = url.variants({"prod": target})["prod"]
        assert (found.name, found.family, found.server, found.budget) == ("prod", "unknown", "unknown", UNKNOWN)
        assert found.budget.slots is None
        with url.serve(target, found) as server:
            assert server.claims == ""
            assert (server.token is None) == (b"script" not in body)


def test_nothing_there_is_said_with_the_remedy() -> None:
    target = Target("asgi", ("127.0.0.1", process.free_port()))
    with pytest.raises(
        ServerFailed, match=r"nothing answers at 127\.0\.0\.1:\d+ .*python -m apps asgi --host"
    ) as fault:
        url.variants({"asgi": target})
    assert "\n" not in str(fault.value)


def test_a_server_that_became_another_is_not_loaded() -> None:
    with answering(200, state(token="", variant="asgi")) as target:
        planned = url.variants({"prod": Target("prod", target.address)})
    with (
        answering(200, state(token="", variant="wsgi-sync")) as other,
        pytest.raises(ServerFailed, match="now says that it is wsgi-sync"),
        url.serve(other, planned["prod"]),
    ):
        pass


def test_the_backend_drives_a_real_server_that_somebody_else_has_started(tmp_path: Path) -> None:
    with process.serve(VARIANTS["asgi"], folder=tmp_path) as real:
        asked = targets([f"prod=http://127.0.0.1:{real.address[1]}"])
        variants = url.variants(asked)
        with BACKENDS["url"](Wishes(tmp_path, variants, asked)) as backend:
            assert backend.facts["targets"] == {"prod": f"127.0.0.1:{real.address[1]}"}
            with backend.serve(variants["prod"], cpus=None, folder=tmp_path, port=None) as server:
                assert isinstance(server, Remote)
                assert server.token == real.token
                findings = conformance.check(server.address, VARIANTS[server.claims], str(server.token), full=False)
                assert not conformance.refusals(findings)
        assert real.alive()
