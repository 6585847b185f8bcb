"""`builtin:layout`: a weight-free image descriptor for near-duplicate search by plain cosine.

What it computes, for one image:

1. thumbnail: 32x32 RGB, `PIL.Image.resize` with the `BOX` filter; the aspect ratio is ignored;
2. an 8x8 low-frequency DCT of luminance and of two colour differences, without the three constant
   terms (189 numbers), the frequencies levelled by a power of their height;
3. a 6x6 DCT of five maps of the edges in luminance: the signed and the unsigned steps across and
   down, and the two diagonals' difference, each step as its square root (180 numbers). They tell
   apart what two blurred pictures share, and stay when a copy is moved by a pixel or two;
4. saturation within each of the two groups, s = c / sqrt(c^2 + knee^2), where the knee grows with
   the image's own mean square: a strong edge or a large gradient counts no more than any other
   clear structure, what lies far below the knee (noise, a blank sky) counts little, and contrast
   cancels;
5. a linear map to 110 numbers about a shipped mean, fitted by `fit_layout` (generalised
   eigenvectors of total against within-copy covariance), times a gate that closes as the image
   loses its edges;
6. beside it 18 numbers that code the mean colour, at a small fixed length: next to nothing in an
   ordinary image, everything in a blank one, so that blank images are copies of each other if and
   only if their colours agree, and nearly blank ones need the same colour as well;
7. unit length.

Nothing is trained by gradient and nothing is downloaded: the basis is 82 KB of int16, fitted only
on generated images and on freely licensed photographs of clothes.

Bit-exact by construction: every sum (the DCT passes, the energies, the projection, the squared
length) adds integers that stay below 2^53 in float64, so it has no rounding and no order; the rest
is elementwise + * / sqrt, which IEEE 754 rounds correctly. The same thumbnail therefore gives the
same bytes in any batch, at any position, with any number of threads and any BLAS. The bounds stand
beside the code.

The map keeps mirror images apart in an even and an odd block, so the descriptor of a mirrored
thumbnail is that of the thumbnail with some signs flipped (`LayoutEncoder.mirror`), exactly.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from curate.encoders.base import stated_decoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 32
"""Side of the thumbnail in pixels."""
SCALED_SIDE = 2 * SIDE
"""Shorter side that a JPEG keeps at least where it is decoded at a reduced size: a sum over blocks
of pixels hardly notices, see docs/benchmarks.md."""
BANDS = 8
"""Frequencies kept along each axis, the constant one included."""
COLOURED = (BANDS * BANDS - 1) * 3
"""Length of the DCT of the picture: (row frequency, column frequency, colour), no constants."""
EDGE_MAPS = 5
EDGE_BANDS = 6
"""Frequencies kept of an edge map along each axis, the constant one included."""
FEATURES = COLOURED + EDGE_MAPS * EDGE_BANDS * EDGE_BANDS
"""Length of all that is saturated and mapped; the edges are (map, row, column frequency)."""
PERIODS = (64, 128, 512)
"""Periods of the colour code in grey levels: powers of two, so that the waves are integers. The
longest keeps black and white apart, which are one phase at a period of 256."""
LINEAR = 110
"""Numbers that describe structure."""
CODE = 3 * 2 * len(PERIODS)
"""Numbers that code the mean colour."""
DIM = LINEAR + CODE
"""Length of the descriptor, 128."""
LEVELLING = 0.75
"""Power of the frequency that a DCT coefficient is multiplied by."""
KNEE = 30.0
"""Saturation knee of a levelled DCT coefficient, in grey levels times pixels."""
EDGE_KNEE = 10.9
"""Saturation knee of the edges, in square roots of levels of R + G + B times pixels."""
SHARE = 0.5
"""Share of the picture's mean square, over all its coefficients, in their knees."""
COLOUR_SHARE = 0.3
"""Share of the mean square of the three colours at the same frequency in their knees."""
EDGE_SHARE = 1.0
"""Share of the edges' mean square in their knees. All these constants are chosen on planted copies:
changed crops of photographs that took no part in the fit, among crops of others."""
GATE = 4.33
"""Mean height of the edges, in levels of R + G + B, at which the gate is half open."""
BASIS_FILE = "layout_basis.npz"
CHUNK = 512
"""Images per internal step: bounds memory and cannot change the result."""

_DCT_BITS = 18
_FEATURE_BITS = 20
_LENGTH_BITS = 22
_CODE_BITS = 19
_WEIGHT_BITS = 10
_ROOT_BITS = 6
_ENERGY_BITS = 4
_EDGE_ENERGY_BITS = 8
_HIGHEST = 3 * 255
_MID_GREY = 128.0
# Luminance and two colour differences, as integers so that sums stay exact; unit length is
# restored by the scale. Columns: outputs; rows: R, G, B.
_COLOUR = np.array([[1, 1, -1], [1, 0, 2], [1, -1, -1]], dtype=np.float64)


class Basis(NamedTuple):
    """The fitted part.

    Attributes:
        columns: (FEATURES, LINEAR) int16.
        offset: (LINEAR,) int64, the projected mean.
        gain: () int64, factor of the colour code.
    """

    columns: NDArray[np.int16]
    offset: NDArray[np.int64]
    gain: NDArray[np.int64]


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Shrink or enlarge an image to the fixed size that the descriptor reads.

    Args:
        image: RGB image of any size from 1x1.

    Returns:
        (SIDE, SIDE, 3) uint8. A 32x32 image comes back unchanged.

    Raises:
        ValueError: the image is not RGB.
    """
    if image.mode != "RGB":
        raise ValueError(f"expected an RGB image, got mode {image.mode!r}")
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.array(small, dtype=np.uint8)


def dct_rows() -> NDArray[np.float64]:
    """Lowest rows of the orthonormal DCT-II of length SIDE, in fixed point.

    Returns:
        (BANDS, SIDE) float64 holding integers, |m| <= 2^16, that are exactly even or odd under
        reversal of the row; divide by 2^_DCT_BITS for the orthonormal DCT.
    """
    k, x = np.arange(BANDS)[:, None], np.arange(0.5, SIDE // 2)
    gain = np.sqrt(np.where(k == 0, 1.0, 2.0) / SIDE) * 2.0**_DCT_BITS
    half = np.rint(np.cos(np.pi * k * x / SIDE) * gain)
    return np.concatenate([half, half[:, ::-1] * np.where(k % 2, -1.0, 1.0)], axis=1)


class _Operators(NamedTuple):
    """What `picture_dct` multiplies by, all float64."""

    across: NDArray[np.float64]  # (SIDE*3, BANDS*3), columns and colours at once
    down: NDArray[np.float64]  # (SIDE, BANDS), rows
    scale: NDArray[np.float64]  # (COLOURED,), to levelled grey levels times pixels


@lru_cache(maxsize=1)
def _operators() -> _Operators:
    rows = dct_rows()
    across = np.einsum("kx,ro->xrko", rows, _COLOUR).reshape(SIDE * 3, BANDS * 3)
    k = np.arange(BANDS)
    # Rounded, so that a last bit of the platform's power function cannot show.
    weight = np.rint(np.hypot(k[:, None], k) ** LEVELLING * 2.0**_WEIGHT_BITS)
    unit = 2.0 ** (2 * _DCT_BITS + _WEIGHT_BITS) * np.sqrt((_COLOUR**2).sum(axis=0))
    scale = (weight[:, :, None] / unit).reshape(-1)[3:]
    return _Operators(across, np.ascontiguousarray(rows.T), scale)


def _mean_square(c: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """(n, 1) mean square of the rows of c (n, k), through integers in steps of 2^-bits."""
    whole = np.rint(c * 2.0**bits)
    total: NDArray[np.float64] = (whole * whole).sum(axis=1, keepdims=True)
    mean: NDArray[np.float64] = total / (c.shape[1] * 4.0**bits)
    return mean


def _saturate(c: NDArray[np.float64], square: NDArray[np.float64]) -> NDArray[np.float64]:
    """The coefficients `c` at the squared knees `square`, in steps of 2^-_FEATURE_BITS."""
    level: NDArray[np.float64] = np.rint(c / np.sqrt(c * c + square) * 2.0**_FEATURE_BITS)
    return level


def picture_dct(thumbs: NDArray[np.generic]) -> NDArray[np.float64]:
    """The levelled DCT of images, before saturation.

    Args:
        thumbs: (n, SIDE, SIDE, 3) uint8.

    Returns:
        (n, COLOURED) float64 in grey levels times pixels, below 2^16.
    """
    across, down, scale = _operators()
    n = len(thumbs)
    pixels = thumbs.reshape(n * SIDE, SIDE * 3).astype(np.float64) - _MID_GREY
    # Exact: 32 pixels, three colours of total weight <= 4: 2^7 (pixel) 2^16 (wave) 2^7 = 2^30 ...
    columns = (pixels @ across).reshape(n, SIDE, BANDS * 3)
    # ... and 32 terms of that times 2^16 stay within 2^51.
    turned = np.ascontiguousarray(columns.transpose(0, 2, 1)).reshape(n * BANDS * 3, SIDE)
    both = (turned @ down).reshape(n, BANDS, 3, BANDS).transpose(0, 3, 1, 2)
    scaled: NDArray[np.float64] = both.reshape(n, BANDS * BANDS * 3)[:, 3:] * scale
    return scaled


@lru_cache(maxsize=1)
def _roots() -> NDArray[np.int16]:
    """Signed square roots of -_HIGHEST.._HIGHEST in steps of 2^-_ROOT_BITS, below 2^11."""
    step = np.arange(-_HIGHEST, _HIGHEST + 1)
    return np.rint(np.sign(step) * np.sqrt(np.abs(step)) * 2.0**_ROOT_BITS).astype(np.int16)


def edge_maps(thumbs: NDArray[np.generic]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Steps of luminance between the neighbours of each pixel, the border repeated.

    Args:
        thumbs: (n, SIDE, SIDE, 3) uint8.

    Returns:
        (n, EDGE_MAPS, SIDE, SIDE) square roots in steps of 2^-_ROOT_BITS: unsigned across and
        down, the diagonals' difference, signed across and down; (n, 1) sum of the unsigned steps
        across and down, in levels of R + G + B.
    """
    r, g, b = (thumbs[..., k].astype(np.int16) for k in range(3))
    light = np.pad(r + g + b, ((0, 0), (1, 1), (1, 1)), "edge")
    across = light[:, 1:-1, 2:] - light[:, 1:-1, :-2]
    down = light[:, 2:, 1:-1] - light[:, :-2, 1:-1]
    falling, rising = light[:, 2:, 2:] - light[:, :-2, :-2], light[:, 2:, :-2] - light[:, :-2, 2:]
    roots = _roots()
    out = np.empty((len(thumbs), EDGE_MAPS, SIDE, SIDE), dtype=np.int16)
    out[:, 3], out[:, 4] = roots[across + _HIGHEST], roots[down + _HIGHEST]
    np.abs(out[:, 3:5], out=out[:, :2])
    out[:, 2] = np.abs(roots[falling + _HIGHEST]) - np.abs(roots[rising + _HIGHEST])
    height = np.abs(across) + np.abs(down)
    return out, height.sum(axis=(1, 2), dtype=np.int64)[:, None]


def edge_dct(maps: NDArray[np.int16]) -> NDArray[np.float64]:
    """Lowest DCT coefficients of edge maps.

    Args:
        maps: (n, EDGE_MAPS, SIDE, SIDE), from `edge_maps`.

    Returns:
        (n, EDGE_MAPS, EDGE_BANDS^2) float64 in roots of levels times pixels, below 2^10.
    """
    rows = dct_rows()[:EDGE_BANDS]
    n = len(maps)
    # Exact: a row's entries add up to less than 2^20.51 in size, and 2^11 (root) 2^41.02 < 2^53.
    columns = (maps.reshape(-1, SIDE).astype(np.float64) @ rows.T).reshape(-1, SIDE, EDGE_BANDS)
    turned = np.ascontiguousarray(columns.transpose(0, 2, 1)).reshape(-1, SIDE)
    both = (turned @ rows.T).reshape(n, EDGE_MAPS, EDGE_BANDS, EDGE_BANDS).transpose(0, 1, 3, 2)
    scaled = both.reshape(n, EDGE_MAPS, -1) / 2.0 ** (2 * _DCT_BITS + _ROOT_BITS)
    return np.ascontiguousarray(scaled)


def features(thumbs: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The structure of images, before the linear map, and how much of it there is.

    Args:
        thumbs: (n, SIDE, SIDE, 3) uint8.

    Returns:
        (n, FEATURES) float64 holding integers, |s| <= 2^_FEATURE_BITS; (n, 1) gate, 0 in a blank
        image and near 1 in an ordinary one.
    """
    n = len(thumbs)
    c = picture_dct(thumbs)
    maps, height = edge_maps(thumbs)
    d = edge_dct(maps)
    # Exact: integers below 2^(16 + 4) and 2^(10 + 8), their squares times fewer than 2^8 terms.
    energy = _mean_square(c, _ENERGY_BITS)
    # Without the constant terms, which are large in two of the maps.
    edge_energy = _mean_square(d[:, :, 1:].reshape(n, -1), _EDGE_ENERGY_BITS)
    c2 = (c * c).reshape(n, -1, 3)
    # Written out, for the order of the terms.
    same = COLOUR_SHARE / 3 * (c2[:, :, 0] + c2[:, :, 1] + c2[:, :, 2])
    knee = (KNEE * KNEE + SHARE * energy) + np.repeat(same, 3, axis=1)
    edge_knee = EDGE_KNEE * EDGE_KNEE + EDGE_SHARE * edge_energy
    both = np.concatenate([_saturate(c, knee), _saturate(d.reshape(n, -1), edge_knee)], axis=1)
    gate: NDArray[np.float64] = height / (height + GATE * (SIDE * SIDE))
    return both, gate


def colour_code(thumbs: NDArray[np.generic]) -> NDArray[np.float64]:
    """The mean colour of images as triangle waves, two a quarter apart per channel and period.

    Args:
        thumbs: (n, SIDE, SIDE, 3) uint8.

    Returns:
        (n, CODE) float64 holding integers, |t| <= 2^_CODE_BITS.
    """
    total = thumbs.reshape(len(thumbs), SIDE * SIDE, 3).sum(axis=1, dtype=np.int64)
    waves = []
    for period in (p * SIDE * SIDE for p in PERIODS):
        for shift in (0, period // 4):
            # Periods are powers of two, so the last factor brings each wave to the same height.
            wave = 4 * np.abs((total + shift) % period - period // 2) - period
            waves.append(wave * (2**_CODE_BITS // period))
    return np.concatenate(waves, axis=1).astype(np.float64)


def mirror_parity() -> NDArray[np.float64]:
    """(FEATURES,) float64: -1 where a feature changes sign when the image is mirrored, else 1."""
    wave = np.where(np.arange(BANDS) % 2, -1.0, 1.0)
    picture = np.broadcast_to(wave[None, :, None], (BANDS, BANDS, 3)).reshape(-1)[3:]
    # The diagonals change places, and a signed step across changes sign.
    maps = np.array([1.0, 1.0, -1.0, -1.0, 1.0])
    edges = maps[:, None, None] * np.broadcast_to(wave[:EDGE_BANDS], (EDGE_BANDS, EDGE_BANDS))
    return np.concatenate([picture, edges.reshape(-1)])


def describe(thumbs: NDArray[np.generic], basis: Basis) -> NDArray[np.float32]:
    """Unit descriptors of thumbnails.

    Args:
        thumbs: (n, SIDE, SIDE, 3) uint8.
        basis: the fitted map.

    Returns:
        (n, DIM) float32, every row of unit length to float32 rounding. None is without direction,
        for the two waves of a colour code are never zero together.
    """
    found, gate = features(thumbs)
    # Exact: 369 terms of |feature| <= 2^20 times |column| <= 2^15 stay below 2^44.
    structure = found @ basis.columns.astype(np.float64) - basis.offset
    raw = np.concatenate([structure * gate, colour_code(thumbs) * basis.gain], axis=1)
    # Bring the largest entry to 2^22: then 128 squares of integers stay below 2^51.
    peak = np.abs(raw).max(axis=1, keepdims=True)
    whole = np.rint(raw / peak * 2.0**_LENGTH_BITS)
    length = np.sqrt((whole * whole).sum(axis=1, keepdims=True))
    # + 0.0 turns -0.0 into 0.0, so that equal vectors have equal bytes.
    unit: NDArray[np.float64] = whole / length + 0.0
    return unit.astype(np.float32)


@lru_cache(maxsize=1)
def load_basis() -> Basis:
    """Read the basis that the package ships.

    Raises:
        ValueError: the file does not have the shapes and dtypes that this module states.
    """
    data = resources.files(__package__).joinpath(BASIS_FILE).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        basis = Basis(*(stored[field] for field in Basis._fields))
    found = [(array.shape, array.dtype.str) for array in basis]
    if found != [((FEATURES, LINEAR), "<i2"), ((LINEAR,), "<i8"), ((), "<i8")]:
        raise ValueError(f"{BASIS_FILE}: unexpected contents {found}")
    return basis


class LayoutEncoder:
    """`builtin:layout` as an `Encoder`; holds nothing but the read-only basis.

    Attributes:
        name: `builtin:layout`.
        dim: 128.
        batch_size: a good number of images per call; any other gives the same bytes.
        input_shape: shape of one thumbnail.
        input_dtype: uint8.
        least_side: see `curate.encoders.base.least_side`.
        mirror_signs: (dim,) float32 of +1 and -1, see `mirror`.
    """

    name: str = "builtin:layout"
    dim: int = DIM
    batch_size: int = CHUNK
    input_shape: tuple[int, ...] = (SIDE, SIDE, 3)
    input_dtype: np.dtype[np.generic] = np.dtype(np.uint8)

    def __init__(self, least_side: int | None = None) -> None:
        self.least_side = least_side
        self._basis = load_basis()
        turned = self._basis.columns * mirror_parity()[:, None] != self._basis.columns
        signs = np.where(turned.any(axis=0), -1.0, 1.0)
        self.mirror_signs = np.append(signs, np.ones(CODE)).astype(np.float32)

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """Decoded RGB image of any size -> (32, 32, 3) uint8 thumbnail."""
        return thumbnail(image)

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Describe thumbnails.

        Args:
            batch: (n, 32, 32, 3) uint8 from `preprocess`; n may be 0.

        Returns:
            (n, dim) float32 unit rows; row i depends on thumbnail i only, to the last bit.

        Raises:
            ValueError: wrong shape or dtype.
        """
        if batch.shape[1:] != self.input_shape or batch.dtype != self.input_dtype:
            raise ValueError(f"expected (n, 32, 32, 3) uint8, got {batch.shape} {batch.dtype}")
        out = np.empty((len(batch), self.dim), dtype=np.float32)
        for start in range(0, len(batch), CHUNK):
            part = batch[start : start + CHUNK]
            out[start : start + CHUNK] = describe(part, self._basis)
        return out

    def mirror(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Descriptors of the horizontally mirrored thumbnails, without encoding again.

        Args:
            vectors: (n, dim) float32 from `encode`.

        Returns:
            (n, dim) float32, byte-equal to `encode(batch[:, :, ::-1])`.
        """
        # + 0.0 turns -0.0 into 0.0, so that equal vectors have equal bytes.
        return vectors * self.mirror_signs + np.float32(0.0)

    def fingerprint_data(self) -> bytes:
        """Bytes that identify the descriptor, to be hashed: every constant, then the basis."""
        bits = (_DCT_BITS, _FEATURE_BITS, _CODE_BITS, _LENGTH_BITS, _WEIGHT_BITS, _ROOT_BITS)
        sizes = (SIDE, BANDS, EDGE_BANDS, DIM, PERIODS, *bits, _ENERGY_BITS, _EDGE_ENERGY_BITS)
        shape = (LEVELLING, KNEE, EDGE_KNEE, SHARE, COLOUR_SHARE, EDGE_SHARE, GATE)
        head = repr((self.name, sizes, shape, _COLOUR.tolist())).encode()
        return head + b"".join(array.tobytes() for array in self._basis)

    def weights_digest(self) -> str:
        """Sha256 (hex) of `fingerprint_data`."""
        return hashlib.sha256(self.fingerprint_data()).hexdigest()

    def preprocessing(self) -> dict[str, object]:
        """JSON-able statement of the preprocessing."""
        return {
            "transform": "pil-resize",
            "filter": "BOX",
            "size": [SIDE, SIDE],
            "aspect": "ignored",
            **stated_decoding(self.least_side),
        }
