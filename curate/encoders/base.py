"""What an encoder is: the protocol, the spec that asks for one, and unit rows.

Nothing heavy is imported here, so the command line may import it for its options.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

PRECISIONS = ("fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")
EXACT: Final = "exact"
SCALED: Final = "scaled"
DECODINGS = (EXACT, SCALED)
"""How a JPEG becomes pixels: whole, or at a reduced size of which the input is made."""
DECODING = "jpeg"
"""The key under which `Encoder.preprocessing` tells of a reduced size."""
_LEAST = 128
_TIMES = 2
WHITENED = "+white"
"""How the names of encoders end whose vectors are whitened."""


@runtime_checkable
class Encoder(Protocol):
    """An image encoder with its preprocessing; the two are never chosen apart.

    Attributes:
        name: the encoder's name without machine-dependent folders.
        dim: width of a vector.
        batch_size: how many images a caller should hand to `encode` at once; a smaller batch is
            padded, a larger one is cut, and neither changes a bit of any vector.
        input_shape: shape of one preprocessed image.
        input_dtype: dtype of one preprocessed image.
    """

    # Properties, because nobody may set them: an implementation may be frozen.
    @property
    def name(self) -> str: ...  # noqa: D102 - the class docstring says it, here and below
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def input_shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def input_dtype(self) -> np.dtype[np.generic]: ...  # noqa: D102

    def preprocess(self, image: Image) -> NDArray[np.generic]:
        """RGB PIL image -> array of `input_shape` and `input_dtype`."""
        ...

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """(n, *input_shape) -> (n, dim) float32 unit rows.

        An image has the same vector, bit for bit, whatever n, its position and its neighbours.
        A row without a direction (zero or non-finite features) is NaN throughout.
        """
        ...

    def weights_digest(self) -> str:
        """Sha256 (hex) of all weights as they are used."""
        ...

    def preprocessing(self) -> dict[str, object]:
        """JSON-able statement of the preprocessing."""
        ...


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """An encoder that also reads text, into the same space."""

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts -> (N, dim) float32 unit rows, with the guarantees of `encode`."""
        ...


def least_side(encoder: Encoder) -> int | None:
    """Pixels that a JPEG's shorter side has at least when it is decoded for an encoder; None: all.

    An encoder to which JPEGs may be given at a reduced size (`curate.images.read_picture`) has the
    attribute `least_side`, which says so.
    """
    return getattr(encoder, "least_side", None)


@dataclass(frozen=True)
class EncoderSpec:
    """All that decides an encoder; hashable, so a worker can keep the model it has loaded.

    Attributes:
        name: `prefix:rest`, for example `open_clip:ViT-B-32/openai` (see `load_encoder`).
        weights: local weights file or folder, instead of the published one.
        precision: fp32, or bf16 (the model is cast; features are normalised in fp32).
        device: auto (cuda where there is one), cpu or cuda.
        compile: run the model through torch.compile. Last bits may differ from the plain model.
        decode: exact, or scaled: JPEGs are decoded at a reduced size where they are much larger
            than the input (`scaled_side`). Vectors of one decoding are compared with its own only.
        batch_size: images per call; None takes the encoder's default. On CUDA it is also the
            shape of the computation, so another value may change last bits there; on CPU never.
        whiten: vectors of the encoder, a file or folder, that a whitening is fitted to; None leaves
            vectors as they are.
    """

    name: str
    weights: str | None = None
    precision: str = "fp32"
    device: str = "auto"
    compile: bool = False
    batch_size: int | None = None
    decode: str = EXACT
    whiten: str | None = None


def scaled_side(input_shape: tuple[int, ...]) -> int:
    """Shorter side that a JPEG keeps at least where it is decoded at a reduced size for a network.

    Twice the longest side of the input, and 128, as less moves vectors much further (measured by
    benchmarks/scaled_decoding.py); a view may cut some of it away besides.
    """
    return max(_LEAST, _TIMES * max(input_shape))


def stated_decoding(least: int | None) -> dict[str, object]:
    """What `Encoder.preprocessing` says of a reduced size; nothing where images are whole."""
    if least is None:
        return {}
    return {DECODING: {"decode": SCALED, "by": "DCT", "least_side": least}}


def decoding_of(preprocessing: Mapping[str, object]) -> str:
    """The decoding that a stated preprocessing is with: exact or scaled."""
    return SCALED if DECODING in preprocessing else EXACT


def normalise(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to unit length, (n, d) any float -> (n, d) float32.

    Length is summed in float64, so neither overflow nor the order of summation shows in fp32.
    A row of length zero, or with a non-finite entry, has no direction and becomes NaN throughout.
    """
    rows = np.ascontiguousarray(features, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    usable = np.isfinite(length) & (length > 0)
    unit = rows / np.where(usable, length, 1.0)
    return np.where(usable, unit, np.nan).astype(np.float32)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known name nearest to a word, or nothing if none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def brief(error: Exception, limit: int = 300) -> str:
    """An error of a library in one line."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= limit else f"{words[:limit]}..."
