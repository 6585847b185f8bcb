"""Perceptual hashes as encoders: a hash of 64 bits becomes a unit vector of 64 signs.

Bit i of the hash gives +1/8 or -1/8. Two such vectors whose hashes differ in h bits have the cosine
(64 - 2 h) / 64 = 1 - h / 32, exactly, in float16 as well: so a join at a cosine of 1 - h / 32 finds
the pairs within Hamming distance h, and `distance` gives h back.

The hashes are those of the `imagehash` package (Buchner), which imagededup and cleanvision know
too: `phash:phash` (signs of a DCT about their median), `phash:dhash` (steps from column to column)
and `phash:whash` (Haar wavelets about their median). All read luminance only and reduce an image
to 8 x 8 numbers: images without structure have equal hashes whatever their colours.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.encoders.base import EncoderSpec, nearest
from curate.errors import CurateError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

BITS = 64
KINDS = ("phash", "dhash", "whash")
_SIDE = 8
_BATCH = 256


def cosine(distance: int) -> float:
    """The cosine of two vectors whose hashes differ in so many bits."""
    return 1 - 2 * distance / BITS


@dataclass(frozen=True)
class HashEncoder:
    """An `Encoder` of one kind of hash. Attributes: kind: one of `KINDS`."""

    kind: str

    @property
    def name(self) -> str:
        """`phash:KIND`."""
        return f"phash:{self.kind}"

    @property
    def dim(self) -> int:
        """One number per bit."""
        return BITS

    @property
    def batch_size(self) -> int:
        """Images per call, see `Encoder`."""
        return _BATCH

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The bits; hashing is the preprocessing."""
        return (BITS,)

    @property
    def input_dtype(self) -> np.dtype[np.generic]:
        """0 or 1."""
        return np.dtype(np.int8)

    def preprocess(self, image: Image) -> NDArray[np.generic]:
        """RGB PIL image -> its hash, (64,) int8 of 0 and 1, row by row."""
        import imagehash

        found = getattr(imagehash, self.kind)(image, hash_size=_SIDE)
        return np.asarray(found.hash, dtype=np.int8).reshape(BITS)

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """(n, 64) -> (n, 64) float32: one eighth where a bit is set, else minus one eighth."""
        step = np.float32(1 / _SIDE)
        return np.where(np.asarray(batch) > 0, step, -step)

    def weights_digest(self) -> str:
        """Sha256 (hex) of the name, as a hash has no weights."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    def preprocessing(self) -> dict[str, object]:
        """Which hash of which version of the package."""
        version = importlib.metadata.version("imagehash")
        return {"transform": "imagehash", "hash": self.kind, "size": _SIDE, "version": version}


def load_hash(spec: EncoderSpec) -> HashEncoder:
    """Load `phash:KIND`; precision and device do not matter.

    Raises:
        CurateError: unknown kind, or weights for it.
    """
    kind = spec.name.partition(":")[2]
    if kind not in KINDS:
        raise CurateError(
            f"encoder {spec.name}: no such hash{nearest(kind, KINDS)}; "
            f"hashes: {', '.join(f'phash:{known}' for known in KINDS)}"
        )
    if spec.weights is not None:
        raise CurateError(f"weights {spec.weights}: a hash such as {spec.name} has none")
    return HashEncoder(kind)
