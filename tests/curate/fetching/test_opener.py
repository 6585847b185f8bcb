"""One image at a time through the opener, from a server that lies, drips, loops and bombs."""

import ssl
import subprocess
import threading
import time
import tracemalloc
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from image_server import BODIES, GOOD, ImageServer, image_server

from curate import __version__
from curate.fetching.limits import FetchError, FetchLimits
from curate.fetching.opener import GuardedOpener
from curate.fetching.pace import Pace
from curate.fetching.robots import OPT_OUTS, REASON

LIMITS = FetchLimits(timeout=1, deadline=2.5, max_bytes=1 << 20, opt_outs=OPT_OUTS)


@pytest.fixture(scope="module")
def served() -> Iterator[ImageServer]:
    with image_server() as state:
        yield state


@pytest.fixture
def pace(tmp_path: Path) -> Iterator[Pace]:
    kept = Pace(tmp_path / "pace", None)
    yield kept
    kept.close()


def fetch(url: str, pace: Pace, limits: FetchLimits = LIMITS) -> bytes:
    with GuardedOpener(limits, pace).open(url, timeout=77) as answer:
        data = answer.read()
    assert isinstance(data, bytes)
    return data


@pytest.mark.parametrize(
    "path", ["/ok0", "/not-html", "/chunks", "/gzip", "/unstated", "/hop5", "/noai-other"]
)
def test_an_image_comes_whole(served: ImageServer, pace: Pace, path: str) -> None:
    assert fetch(served.address + path, pace) == GOOD


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "HTTP Error 404: Not Found"),
        ("/partial", "HTTP Error 206: Partial Content"),
        ("/page", "the body is text, no image"),
        ("/empty", "the body is empty"),
        ("/cut", f"the body ends after {len(GOOD)} of {len(GOOD) + 500} bytes"),
        ("/long", f"longer than the {len(GOOD) - 500} bytes that were stated"),
        ("/two-lengths", "the server states several lengths"),
        ("/cut-chunks", "IncompleteRead"),
        ("/says-huge", "larger than 1048576 bytes"),
        ("/endless", "larger than 1048576 bytes"),
        ("/endless-chunks", "larger than 1048576 bytes"),
        ("/bomb", "larger than 1048576 bytes"),
        ("/cut-gzip", "the packed body is cut"),
        ("/bad-gzip", "the packed body is damaged"),
        ("/brotli", "packed as 'br', which was not asked for"),
        ("/slow", "timed out"),
        ("/no-http", r"\?\?\? hello|\?.*hello"),
        ("/hang-up", "closed connection without response"),
        ("/circle", "redirected in a circle"),
        ("/hop6", "more than 5 redirects"),
        ("/to-ftp", "redirected: only http and https are fetched, not 'ftp'"),
        ("/to-nowhere", "redirected to no address"),
        ("/noai", REASON),
    ],
)
def test_a_bad_answer_is_a_reason(served: ImageServer, pace: Pace, path: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason) as caught:
        fetch(served.address + path, pace)
    assert len(str(caught.value)) <= 200


@pytest.mark.parametrize("path", ["/drip", "/drip-headers"])
def test_a_server_that_drips_is_left_at_the_deadline(
    served: ImageServer, pace: Pace, path: str
) -> None:
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"not done after 2\.5 s"):
        fetch(served.address + path, pace)
    assert 2 < time.monotonic() - start < 5


def test_a_bomb_takes_no_more_memory_than_the_limit(served: ImageServer, pace: Pace) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FetchError, match="larger"):
            fetch(served.address + "/bomb", pace)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_redirect_to_a_file_opens_nothing(
    served: ImageServer, pace: Pace, tmp_path: Path
) -> None:
    (tmp_path / "secret.jpg").write_bytes(GOOD)
    served.target = (tmp_path / "secret.jpg").as_uri()
    with pytest.raises(FetchError, match="redirected: only http and https"):
        fetch(served.address + "/to-target", pace)
    with pytest.raises(FetchError, match="only http and https"):
        fetch(served.target, pace)


def test_redirects_are_followed_with_their_letters(served: ImageServer, pace: Pace) -> None:
    assert fetch(served.address + "/redirect", pace) == BODIES["/ok1"]
    assert fetch(served.address + "/redirect-words", pace) == BODIES["/ok1"]
    assert served.asked[-1] == "/ok1?b%C3%BCcher%20und%20mehr"
    assert fetch(served.address + "/ok2?käse=1 2", pace) == BODIES["/ok2"]
    assert served.asked[-1] == "/ok2?k%C3%A4se=1%202"


def test_we_say_who_we_are(served: ImageServer, pace: Pace) -> None:
    fetch(served.address + "/ok0", pace)
    assert served.agents[-1] == f"curate/{__version__} (compatible)"
    known = replace(LIMITS, token="mybot", contact="https://example.org/bot")
    fetch(served.address + "/ok0", pace, known)
    assert served.agents[-1] == (
        f"curate/{__version__} (compatible; mybot; +https://example.org/bot)"
    )


def test_an_opt_out_that_names_us_counts(served: ImageServer, pace: Pace) -> None:
    assert fetch(served.address + "/noai-mine", pace) == GOOD
    with pytest.raises(FetchError, match="disallowed"):
        fetch(served.address + "/noai-mine", pace, replace(LIMITS, token="MyBot"))
    assert fetch(served.address + "/noai", pace, replace(LIMITS, opt_outs=())) == GOOD


def test_a_busy_server_is_asked_again_when_it_says(served: ImageServer, pace: Pace) -> None:
    start = time.monotonic()
    assert fetch(served.address + "/busy-once", pace) == GOOD
    assert 0.9 < time.monotonic() - start < 2.5


def test_again_at_once_means_after_a_second_and_not_for_ever(
    served: ImageServer, pace: Pace
) -> None:
    with pytest.raises(FetchError, match=r"503|left alone"):
        fetch(served.address + "/busy-now", pace)
    assert served.asked.count("/busy-now") <= 3


def test_a_host_that_wants_quiet_is_not_asked_for_other_images(pace: Pace) -> None:
    with image_server() as served:
        with pytest.raises(FetchError, match="left alone for longer than the limit"):
            fetch(served.address + "/busy-long", pace)
        start = time.monotonic()
        with pytest.raises(FetchError, match="left alone"):
            fetch(served.address + "/ok0", pace)
        assert time.monotonic() - start < 2
        assert served.asked == ["/busy-long"]


def test_what_may_pass_is_tried_again_and_nothing_else(served: ImageServer, pace: Pace) -> None:
    patient = replace(LIMITS, retries=2, deadline=5)
    assert fetch(served.address + "/broken-twice", pace, patient) == GOOD
    before = len(served.asked)
    with pytest.raises(FetchError, match="404"):
        fetch(served.address + "/missing", pace, patient)
    assert len(served.asked) == before + 1


def test_unknown_names_and_closed_ports_are_reasons(pace: Pace) -> None:
    with pytest.raises(FetchError, match=r"not known|resolution|No address"):
        fetch("http://nothing.invalid/a.jpg", pace)
    with pytest.raises(FetchError, match="refused"):
        fetch("http://127.0.0.1:9/a.jpg", pace)


def test_images_come_over_ipv6(pace: Pace) -> None:
    with image_server(host="::1") as served:
        assert fetch(served.address + "/ok1", pace) == BODIES["/ok1"]


def test_public_only_refuses_this_machine(served: ImageServer, pace: Pace) -> None:
    before = len(served.asked)
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"):
        url = f"http://{host}:{served.address.rpartition(':')[2]}/ok0"
        with pytest.raises(FetchError, match="not of the public internet"):
            fetch(url, pace, replace(LIMITS, public_only=True))
    assert len(served.asked) == before


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for 127.0.0.1 that it signed itself."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def test_a_certificate_must_be_of_an_authority_we_know(
    tmp_path: Path, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with image_server(tls=certificate(tmp_path)) as served:
        with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(served.address + "/ok0", pace)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert fetch(served.address + "/ok0", pace) == GOOD


def test_a_proxy_is_asked_for_plain_addresses_of_the_outside(
    served: ImageServer, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", served.address)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(FetchError, match="404"):
        fetch("http://far.example/a.jpg", pace)
    assert served.asked[-1] == "http://far.example/a.jpg"
    with pytest.raises(FetchError, match="not of the public internet"):
        fetch("http://127.0.0.1:1/a.jpg", pace, replace(LIMITS, public_only=True))
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(FetchError, match="unknown url type: socks5"):
        fetch("http://far.example/a.jpg", pace)


def test_threads_share_the_rate_of_a_host(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace", 10)
    with image_server() as served:
        urls = [f"{served.address}/ok{number % 3}" for number in range(8)]
        threads = [threading.Thread(target=fetch, args=(url, pace)) for url in urls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gaps = [b - a for a, b in zip(served.times, served.times[1:], strict=False)]
    pace.close()
    assert len(gaps) == 7
    assert served.times[-1] - served.times[0] > 0.6


def test_an_installed_opener_serves_urlopen(served: ImageServer, pace: Pace) -> None:
    urllib.request.install_opener(GuardedOpener(LIMITS, pace))
    try:
        request = urllib.request.Request(served.address + "/ok0", headers={"User-Agent": "Firefox"})
        with urllib.request.urlopen(request, timeout=3) as answer:
            assert answer.read() == GOOD
            assert answer.headers.get_all("X-Robots-Tag", []) == []
        assert served.agents[-1].startswith("curate/")
        with pytest.raises(FetchError):
            urllib.request.urlopen("file:///etc/hostname")
    finally:
        urllib.request.install_opener(None)  # type: ignore[arg-type]
