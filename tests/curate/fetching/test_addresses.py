"""Addresses as they are asked for, and what is public."""

import socket

import pytest

from curate.fetching.addresses import asked_url, check_public, connect, is_public, redirected_url
from curate.fetching.limits import Clock, FetchError, FetchLimits


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://a.example", "http://a.example/"),
        (" HTTPS://a.example/x y#part ", "https://a.example/x%20y"),
        ("http://bücher.example/ä?ö=ü", "http://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC"),
        ("http://a.example/%41%zz?q=a+b&c=%26", "http://a.example/%41%zz?q=a+b&c=%26"),
        ("http://a.example:8080/\r\nX: y", "http://a.example:8080/X:%20y"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
    ],
)
def test_an_address_goes_over_the_wire_in_ascii(given: str, asked: str) -> None:
    assert asked_url(given) == asked
    assert asked_url(asked) == asked


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("URL:http://a.example/x", "only http and https"),
        ("http:///x", "no host"),
        ("http://me:secret@a.example/x", "user or password"),
        ("http://[::1/x", "no such address"),
        ("http://a.example:99999/x", "no such address"),
        ("http://" + "ä" * 90 + ".example/", "no such address"),
    ],
)
def test_what_cannot_be_asked_for_says_why(given: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason) as caught:
        asked_url(given)
    assert "secret" not in str(caught.value)


def test_redirects_are_relative_and_may_be_utf8() -> None:
    base = "https://a.example/x/y?z"
    assert redirected_url(base, "../w") == "https://a.example/w"
    assert redirected_url(base, "//b.example/v") == "https://b.example/v"
    assert redirected_url(base, "ä".encode().decode("latin-1")) == "https://a.example/x/%C3%A4"
    with pytest.raises(FetchError, match="redirected: only"):
        redirected_url(base, "javascript:alert(1)")


def test_private_addresses_are_told_from_public_ones() -> None:
    public = ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
    private = [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.9.9", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1"),
        *("::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "ff02::1"),
    ]
    assert [address for address in public if not is_public(address)] == []
    assert [address for address in private if is_public(address)] == []


def test_a_private_address_is_never_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0.2)
        clock = Clock(FetchLimits(timeout=1))
        with pytest.raises(FetchError, match="not of the public"):
            connect("localhost", port, clock, public_only=True)
        with pytest.raises(TimeoutError):
            server.accept()
        connect("localhost", port, clock, public_only=False).close()
        server.accept()[0].close()
    with pytest.raises(FetchError, match="not of the public"):
        check_public("localhost")
    check_public("nothing.invalid")  # only a proxy may know it


def test_nothing_is_connected_to_after_the_deadline() -> None:
    clock = Clock(FetchLimits(deadline=0.001))
    clock.extend(-1)
    with pytest.raises(FetchError, match=r"not done after 0\.001 s"):
        connect("127.0.0.1", 9, clock, public_only=False)
