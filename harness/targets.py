"""Where load may be sent. In: a URL. Out: a Target with the one address that was checked, or a refusal in one line.

Loopback only, unless `host:port` stands in the list `allow` of the user's configuration; link-local addresses, where
clouds keep their metadata, never. The address is resolved once, checked and
used as it is: a name can't change its mind.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tomllib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from harness.errors import UsageError

SCHEMES = {"http": "url", "ws": "ws", "sse": "sse"}  # scheme → the row that it is recorded as


class Target(NamedTuple):
    """row: how it is recorded. host: a checked address. path: with its query. name: it was asked for by; '' = none."""

    row: str
    host: str
    port: int
    path: str
    query: str
    name: str = ""


def configuration() -> Path:
    """The user's one file of settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "gatebench" / "config.toml"


def allowed() -> frozenset[str]:
    path = configuration()
    if not path.is_file():
        return frozenset()
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("allow", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise UsageError(f'{path}: allow must be a list such as ["192.0.2.7:8000"]')
    return frozenset(entries)


def parse(url: str) -> Target:
    """The target of a URL. Raises UsageError for what can't or may not be loaded."""
    shown = ascii(url.rpartition("@")[2])[1:-1]  # never a password, always one line
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise UsageError(f"{shown}: a URL must be percent-encoded")
    try:
        parts = urlsplit(url)
        port = 80 if parts.port is None else parts.port
    except ValueError as error:
        raise UsageError(f"{shown}: {error}") from None
    if port == 0:
        raise UsageError(f"{shown}: no server listens on port 0")
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise UsageError(
            f"{shown}: not a URL that can be loaded; it begins with {', '.join(f'{name}://' for name in SCHEMES)}"
        )
    if parts.username or parts.password:
        raise UsageError(f"{url.rpartition('@')[2]}: a URL with a password in it is not taken")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = checked(parts.hostname, port)
    name = "" if parts.hostname == host else parts.hostname
    return Target(SCHEMES[parts.scheme], host, port, path, parts.query, name)


def checked(host: str, port: int) -> str:
    """The address of a host that may be loaded; UsageError otherwise."""
    try:
        addresses = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host}: {getattr(error, 'strerror', None) or error}") from None
    for address in addresses:
        known = ipaddress.ip_address(address.partition("%")[0])
        known = getattr(known, "ipv4_mapped", None) or known
        if known.is_link_local:
            raise UsageError(f"{host} is {address}, a link-local address: never a target")
        if not known.is_loopback and not {f"{host}:{port}", f"{address}:{port}"} & allowed():
            remedy = f'if it is yours, put allow = ["{host}:{port}"] into {configuration()}'
            raise UsageError(f"{host} is {address}, not this machine; {remedy}")
    # IPv4 first: what a server on `localhost` binds unless told otherwise
    return min(addresses, key=lambda address: ":" in address)
