"""Addresses: URLs as they are asked for, and which machines are of the public internet."""

from __future__ import annotations

import ipaddress
import socket
import string
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from curate.fetching.limits import Clock, FetchError

_SCHEMES = ("http", "https")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def asked_url(url: str) -> str:
    """The URL in ASCII, as it goes over the wire: IDNA host, percent-encoded rest, no fragment.

    Raises:
        FetchError: it is neither http nor https, has no host, or holds a password.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
        host = host.encode("idna").decode() if host and not host.isascii() else host
    except ValueError as error:  # UnicodeError is one
        raise FetchError(f"no such address can be: {error}") from error
    if parts.scheme.lower() not in _SCHEMES:
        raise FetchError(f"only http and https are fetched, not {parts.scheme[:20]!r}")
    if not host:
        raise FetchError("the address has no host")
    if "@" in parts.netloc:
        raise FetchError("the address holds a user or password")
    place = f"[{host}]" if ":" in host else host
    place += "" if port is None else f":{port}"
    path, query = (quote(text, safe=string.punctuation) for text in (parts.path, parts.query))
    return urlunsplit((parts.scheme.lower(), place, path or "/", query, ""))


def redirected_url(url: str, location: str) -> str:
    """Where a Location header (as http.client gives it) leads from `url`.

    Raises:
        FetchError: to what is not fetched, such as file: and ftp:.
    """
    text = location.encode("latin-1", "replace").decode("utf-8", "replace")
    try:
        target = urljoin(url, text)
    except ValueError as error:
        raise FetchError(f"redirected to no address: {error}") from error
    try:
        return asked_url(target)
    except FetchError as error:
        raise FetchError(f"redirected: {error}") from error


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet; within an IPv6 one the IPv4 one counts."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        teredo = ip.teredo[1] if ip.teredo else None
        inner = ip.ipv4_mapped or ip.sixtofour or teredo
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def connect(host: str, port: int, clock: Clock, *, public_only: bool) -> socket.socket:
    """A connection to the first address of `host` that answers within the clock.

    With `public_only` the very address that is connected to is looked at, so a name that changes
    between a check and its use does not pass.

    Raises:
        FetchError: no address is public, or the deadline is over.
        OSError: the name is not known, or no address answers.
    """
    failure: Exception = FetchError("the address is not of the public internet")
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if public_only and not is_public(str(place[0])):
            continue
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(clock.allow())
            made.connect(place)
        except OSError as error:
            made.close()
            failure = error
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise failure


def check_public(host: str) -> None:
    """Refuse a host that a proxy is about to reach for us; what only the proxy can look up passes.

    Raises:
        FetchError: one of its addresses is not public.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    if not all(is_public(str(place[0])) for *_, place in found):
        raise FetchError("the address is not of the public internet")
