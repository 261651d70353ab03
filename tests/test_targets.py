"""Load goes to this machine, or where the user's list says; to metadata addresses never."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.targets import Target, checked, configuration, parse


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's configuration, empty; write to it what is allowed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = configuration()
    assert path == tmp_path / "gatebench" / "config.toml"
    path.parent.mkdir()
    return path


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def answer(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:8000/sleep?ms=5", Target("url", "127.0.0.1", 8000, "/sleep?ms=5", "ms=5")),
        ("http://127.9.8.7:8000", Target("url", "127.9.8.7", 8000, "/", "")),
        ("http://127.0.0.1/", Target("url", "127.0.0.1", 80, "/", "")),
        ("http://[::1]:81/x", Target("url", "::1", 81, "/x", "")),
        ("ws://127.0.0.1:1/ws", Target("ws", "127.0.0.1", 1, "/ws", "")),
        ("sse://127.0.0.1:65535/sse", Target("sse", "127.0.0.1", 65_535, "/sse", "")),
        ("HTTP://127.0.0.1:8000/%41?q=%20", Target("url", "127.0.0.1", 8000, "/%41?q=%20", "q=%20")),
        ("http://127.0.0.1:8000/a#fragment", Target("url", "127.0.0.1", 8000, "/a", "")),
    ],
)
def test_this_machine_is_accepted(url: str, target: Target) -> None:
    assert parse(url) == target


def test_a_name_of_this_machine_becomes_its_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "::1", "127.0.0.1")
    assert parse("http://localhost:8000/").host == "127.0.0.1"
    resolving(monkeypatch, "::1")
    assert parse("http://localhost:8000/").host == "::1"


@pytest.mark.parametrize("host", ["192.0.2.7", "10.0.0.1", "0.0.0.0", "8.8.8.8", "[2001:db8::1]", "[::]"])
def test_others_are_refused_with_the_remedy(host: str, settings: Path) -> None:
    bare = host.strip("[]")
    with pytest.raises(UsageError, match="not this machine") as refusal:
        parse(f"http://{host}:8000/")
    assert f'put allow = ["{bare}:8000"] into {settings}' in str(refusal.value)


@pytest.mark.parametrize("addresses", [("127.0.0.1", "192.0.2.7"), ("192.0.2.7",)])
def test_a_name_is_judged_by_all_of_its_addresses(monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]) -> None:
    resolving(monkeypatch, *addresses)
    with pytest.raises(UsageError, match=r"trap is 192\.0\.2\.7, not this machine"):
        checked("trap", 80)


def test_the_list_allows_a_host_or_an_address_on_one_port_only(monkeypatch: pytest.MonkeyPatch, settings: Path) -> None:
    resolving(monkeypatch, "192.0.2.7")
    settings.write_text('allow = ["mine:8000", "192.0.2.7:9000"]')
    assert checked("mine", 8000) == "192.0.2.7"
    assert checked("other", 9000) == "192.0.2.7"
    for host, port in (("mine", 8001), ("other", 8000), ("min", 8000)):
        with pytest.raises(UsageError, match="not this machine"):
            checked(host, port)


def test_a_name_is_kept_for_load_workers_who_look_it_up_themselves(
    monkeypatch: pytest.MonkeyPatch, settings: Path
) -> None:
    resolving(monkeypatch, "192.0.2.7")
    settings.write_text('allow = ["mine:8000"]')
    assert parse("http://mine:8000/") == Target("url", "192.0.2.7", 8000, "/", "", "mine")


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254"])
def test_link_local_is_refused_whatever_the_list_says(
    monkeypatch: pytest.MonkeyPatch, settings: Path, address: str
) -> None:
    resolving(monkeypatch, address)
    settings.write_text(f'allow = ["metadata:80", "{address}:80"]')
    with pytest.raises(UsageError, match="link-local address: never a target"):
        checked("metadata", 80)


@pytest.mark.parametrize("text", ["allow = 5", "allow = [5]", 'allow = "a:1"', "allow = ", b"\xff"])
def test_a_damaged_list_allows_nothing_and_is_named(settings: Path, text: str | bytes) -> None:
    settings.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"config\.toml"):
        parse("http://192.0.2.7:8000/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "//127.0.0.1:8000",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://127.0.0.1/",
        "http://",
        "http:///path",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:http/",
        "http://127.0.0.1:0/",  # and not port 80 instead
        "http://[::1/",
        "http://[nonsense]/",
        "http://user@127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://:secret@127.0.0.1/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\r\nX-Injected: 1",
        "http://127.0.0.1/a\nb",  # not silently /ab
        "http://127.0.0.1/a\tb",
        "http://127.0.0.1/a\x00b",
        "http://127.0.0.1/a\x7fb",
        "http://127.0.0.1/é",
        "http://127.0.0.1/?q=a b",
        "http://127.0.0.1\x00/",
        "http://a..b/",
        f"http://{'a' * 64}/",
        "http://no-such-host.invalid/",
    ],
)
def test_what_is_no_target_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(url)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "url", ["http://u:secret@127.0.0.1/", "ftp://u:secret@127.0.0.1/", "http://u:secret@127.0.0.1:99999/"]
)
def test_a_password_is_never_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(url)
    assert "secret" not in str(refusal.value)
