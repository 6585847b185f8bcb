"""Servers on this machine that tests read from: a web server with faults, and S3."""

import http.server
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fsspec


@dataclass
class Faults:
    """What a web server does wrong, and what it has been asked.

    Attributes:
        broken: answers of status 500 that come before the next good one, by path.
        cut: bytes that are missing at the end of a body, by path, as often as `times` says.
        ranges: whether it heeds ranges.
        tags: whether it sends ETags.
        asked: path, first byte, last byte (inclusive) of every range that was answered.
    """

    broken: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    times: int = 10**9
    ranges: bool = True
    tags: bool = True
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    def bytes_of(self, part: str) -> int:
        """Bytes that were asked for of paths that contain `part`."""
        return sum(last - first + 1 for path, first, last in self.asked if part in path)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    faults: Faults
    lock: threading.Lock

    def do_GET(self) -> None:
        path = self.root / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self._send(404, b"", {})
            return
        with self.lock:
            if self.faults.broken.get(self.path, 0) > 0:
                self.faults.broken[self.path] -= 1
                self._send(500, b"", {})
                return
        stat = path.stat()
        tag = {"ETag": f'"{_version(path)}"'} if self.faults.tags else {}
        if not self.faults.ranges or "Range" not in self.headers:
            self._send(200, path.read_bytes(), tag)
            return
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        self._send_range(path, int(first), min(int(last), stat.st_size - 1), tag)

    def _send_range(self, path: Path, first: int, last: int, headers: dict[str, str]) -> None:
        size = path.stat().st_size
        if first >= size:
            self._send(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
            return
        with self.lock:
            self.faults.asked.append((self.path, first, last))
            cut = self.faults.cut.get(self.path, 0) if self.faults.times > 0 else 0
            self.faults.times -= bool(cut)
        with path.open("rb") as stream:
            stream.seek(first)
            data = stream.read(last - first + 1)
        self._send(206, data, {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}, cut)

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: max(0, len(body) - cut)])
        self.close_connection = cut > 0

    def log_message(self, *args: object) -> None: ...


def _version(path: Path) -> int:
    """A digest; of a large file its time, as hashing would be most of the work."""
    stat = path.stat()
    return zlib.crc32(path.read_bytes()) if stat.st_size < 1 << 20 else stat.st_mtime_ns


@contextmanager
def web_server(root: Path) -> Iterator[tuple[str, Faults]]:
    """Serve a folder; gives its address, and what can go wrong and is counted."""
    faults = Faults()
    names = {"root": root, "faults": faults, "lock": threading.Lock()}
    handler = type("Handler", (_Handler,), names)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", faults
        server.shutdown()


@contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """An S3 server with one bucket, which fsspec finds; gives the bucket's URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s"}
    before = fsspec.config.conf.get("s3")
    fsspec.config.conf["s3"] = settings
    try:
        fsspec.filesystem("s3").mkdir(bucket)
        yield f"s3://{bucket}"
    finally:
        fsspec.config.conf.pop("s3")
        if before is not None:
            fsspec.config.conf["s3"] = before
        server.stop()
