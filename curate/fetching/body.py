"""The body of an answer: whole, within its limit, unpacked, and no text."""

from __future__ import annotations

import codecs
import re
import zlib
from typing import TYPE_CHECKING

from curate.fetching.limits import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

    from curate.fetching.connections import TimedResponse

_PIECE = 1 << 16
_HEAD = 512  # bytes that tell text from an image
_ASCII_IMAGE = re.compile(rb"P[1-3]\s")  # portable bitmaps are the one image format in words
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_ANY_ZLIB = 47  # zlib's window bits by which it takes gzip and zlib alike


def read_image(response: TimedResponse, max_bytes: int) -> bytes:
    """The body of a response, whole and unpacked.

    A body of which the server does not say how long it is ends where the connection ends; only
    decoding can tell whether such an image was cut.

    Raises:
        FetchError: it is shorter or longer than it should be, larger than `max_bytes` (before or
            after unpacking), empty, packed in an unknown way, or text.
        OSError: the connection broke.
        http.client.HTTPException: the chunks of the body make no sense.
    """
    lengths = set(response.headers.get_all("Content-Length", []))
    if len(lengths) > 1:
        raise FetchError("the server states several lengths")
    if not response.chunked and (response.length or 0) > max_bytes:
        raise _too_large(max_bytes)
    pieces = _chunked(response) if response.chunked else _plain(response)
    body = _unpacked(_bounded(pieces, max_bytes), response.headers, max_bytes)
    if not body:
        raise FetchError("the body is empty", passing=True)
    if _is_text(body):
        raise FetchError("the body is text, no image")
    return body


def _too_large(max_bytes: int) -> FetchError:
    return FetchError(f"larger than {max_bytes} bytes")


def _chunked(response: TimedResponse) -> Iterator[bytes]:
    while piece := response.read(_PIECE):
        yield piece


def _plain(response: TimedResponse) -> Iterator[bytes]:
    """What comes until the stated length, then a look whether more comes, or until the end."""
    stated, got, stream = response.length, 0, response.fp
    while stated is None or got < stated:
        piece = stream.read(_PIECE if stated is None else min(_PIECE, stated - got))
        if not piece:
            break
        got += len(piece)
        yield piece
    if stated is None:
        return
    if got < stated:
        raise FetchError(f"the body ends after {got} of {stated} bytes", passing=True)
    response.timed.hurry()
    try:
        surplus = stream.peek(1)
    except OSError:
        return
    if surplus.strip(b"\r\n"):  # old servers end a body with an empty line
        raise FetchError(f"the body is longer than the {stated} bytes that were stated")


def _bounded(pieces: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        yield piece


def _unpacked(pieces: Iterator[bytes], headers: Message, max_bytes: int) -> bytes:
    """Undo a packing that we did not ask for."""
    packing = (headers.get("Content-Encoding") or "identity").strip().lower()
    if packing in ("", "identity"):
        return b"".join(pieces)
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise FetchError(f"packed as {packing[:20]!r}, which was not asked for")
    return b"".join(_bounded(_inflated(pieces), max_bytes))


def _inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack piece by piece, never more than a piece at a time: a bomb must not go off."""
    unpacker = zlib.decompressobj(_ANY_ZLIB)
    try:
        for piece in pieces:
            data = piece
            while data and not unpacker.eof:
                yield unpacker.decompress(data, _PIECE)
                data = unpacker.unconsumed_tail
        while not unpacker.eof and (rest := unpacker.decompress(b"", _PIECE)):
            yield rest
    except zlib.error as error:
        raise FetchError("the packed body is damaged") from error
    if not unpacker.eof:
        raise FetchError("the packed body is cut", passing=True)


def _is_text(body: bytes) -> bool:
    """Whether a body is words, such as a page that says that the image is gone."""
    head = body[:_HEAD]
    if _ASCII_IMAGE.match(head):
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)
