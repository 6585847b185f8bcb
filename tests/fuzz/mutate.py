"""Seeded mutations of files: bytes in, bytes out, the same bytes for the same seed and corpus.

Format-blind on purpose, so that one helper serves images and tars: sizes written as binary numbers
of either byte order and as runs of ASCII digits (tar's octal, PNM's decimal) are both edited.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MAX_STEPS: Final = 4
_HEADER: Final = 512
_LONGEST_BLOCK: Final = 600  # a little over one tar block


def mutations(seed: int, corpus: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield `count` damaged variants of files of `corpus`, each after 1 to 4 steps, mostly few."""
    rng = random.Random(seed)
    for _ in range(count):
        data = rng.choice(corpus)
        for _ in range(min(rng.randint(1, _MAX_STEPS), rng.randint(1, _MAX_STEPS))):
            data = rng.choice(_STEPS)(rng, data, corpus)
        yield data


def _place(rng: random.Random, data: bytes) -> int:
    """Pick an offset in 0..len(data); half of the picks fall in the first block, the header."""
    near = min(len(data), _HEADER)
    return rng.randint(0, near if rng.random() < 0.5 else len(data))


def _block(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = _place(rng, data)
    return start, min(len(data), start + rng.randint(1, _LONGEST_BLOCK))


def _flip_bits(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    out = bytearray(data)
    for _step in range(rng.randint(1, 8) if data else 0):
        out[min(_place(rng, data), len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(out)


def _set_byte(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.choice((b"\0", b"\x01", b"\x7f", b"\x80", b"\xff")) + data[at + 1 :]


def _cut_end(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _delete(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _block(rng, data)
    return data[:start] + data[end:]


def _insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.randint(1, 64)) + data[at:]


def _duplicate(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _block(rng, data)
    return data[:end] + data[start:end] * rng.randint(1, 3) + data[end:]


def _swap(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    a, b, c = sorted(_place(rng, data) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _edit_number(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Overwrite 2, 4 or 8 bytes, read as a number, with a neighbour or an extreme value."""
    at, width = _place(rng, data), rng.choice((2, 4, 8))
    little = rng.random() < 0.5
    old = int.from_bytes(data[at : at + width], "little" if little else "big")
    top = 1 << (8 * width)
    new = rng.choice((0, 1, old - 1, old + 1, old * 2, len(data), top // 2, top // 2 - 1, top - 1))
    field = (new % top).to_bytes(width, "little" if little else "big")
    return data[:at] + field + data[at + width :]


def _edit_digits(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Replace one of the runs of ASCII digits by another number, of the same length or not."""
    runs = list(re.finditer(rb"[0-9]+", data[: 2**16]))
    if not runs:
        return data
    run = rng.choice(runs)
    length = run.end() - run.start()
    same = b"%0*d" % (length, rng.randrange(2 ** (3 * length)))
    new = rng.choice((same, b"0" * length, b"7" * length, b"-1", b"9" * 20))
    return data[: run.start()] + new + data[run.end() :]


def _splice(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    other = rng.choice(corpus)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


_STEPS: Final[tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...]] = (
    _flip_bits,
    _set_byte,
    _cut_end,
    _delete,
    _insert,
    _duplicate,
    _swap,
    _edit_number,
    _edit_digits,
    _splice,
)
