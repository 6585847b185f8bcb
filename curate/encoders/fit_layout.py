"""Regenerate the basis of `builtin:layout`.

    python -m curate.encoders.fit_layout --photos clothing-00000.tar --out layout_basis.npz

Fitted on nothing but (a) procedural images that this module draws from fixed seeds (1/f noise,
dead leaves, objects before gradients) and (b) random crops of the 420 photographs of
`clothing-00000.tar` (github.com/alexeygrigorev/clothing-dataset, 7ed86a9, free for any purpose),
mirrored and with permuted colour channels at random. No benchmark image takes part.

Each source image is seen three times: as it is and as two edited copies (a small shift, zoom and
stretch; blur; tone; noise; JPEG). With T the covariance of all features and W the covariance
within copies, the columns are the leading solutions of T v = lambda (W + ridge) v, scaled to
lambda^(-0.15): three tenths of the way from leaving the signal's own weights to whitening it. Both
covariances are made even under mirroring, which halves their noise and keeps mirrored images a
matter of signs.

The seeds and the arithmetic are fixed, so the same versions of numpy and Pillow on the same
processor give the same file; elsewhere LAPACK and libjpeg may move a few entries by a unit.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from curate.encoders.layout import (
    CODE,
    FEATURES,
    LINEAR,
    SIDE,
    Basis,
    features,
    mirror_parity,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Draw = Callable[[np.random.Generator], Image.Image]

SOURCE = 80
"""Side of a source image; the unedited view is its central 64 pixels, so that edits can move."""
MARGIN = 8
JITTER = 0.03
"""Typical shift of an edited copy, as a share of the side; zoom and stretch go with it."""
RIDGE = 0.05
"""Added to W, as a share of its mean variance."""
WHITENING = 0.3
CODE_SHARE = 0.2
"""Root mean square length of the colour code as a share of that of the structure: copies with quite
another tone lose up to 4 % of their cosine by it."""
SEED = 20240
COLUMN_LIMIT = 32_000.0
"""Largest entry of the int16 basis."""
FEATURE_UNIT = 2.0**20
"""`features` counts in steps of 2^-20 ..."""
CODE_UNIT = 2.0**19
"""... and `colour_code` in steps of 2^-19."""


# ---------------------------------------------------------------- procedural images


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,) RGB in 0..255, mostly muted: colours of nature are far from uniform in the cube."""
    return 0.4 * rng.uniform(0, 255, 3) + 0.6 * rng.uniform(0, 255)


def _chance(rng: np.random.Generator, odds: float) -> bool:
    return bool(rng.random() < odds)


def _to_image(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def draw_field(rng: np.random.Generator) -> Image.Image:
    """Gaussian noise with amplitude 1/f^a, a in 0.8..2, in a random palette along luminance."""
    fy, fx = np.fft.fftfreq(SOURCE)[:, None], np.fft.rfftfreq(SOURCE)[None]
    stretch = np.exp(rng.normal(0, 0.3))
    frequency = np.hypot(fy * stretch, fx / stretch)
    frequency[0, 0] = np.inf
    shape = (3, *frequency.shape)
    spectrum = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / frequency ** rng.uniform(
        0.8, 2.0
    )
    noise = np.fft.irfft2(spectrum, s=(SOURCE, SOURCE)).transpose(1, 2, 0)
    noise /= noise.std(axis=(0, 1))
    axes = np.column_stack([np.ones(3) + rng.normal(0, 0.4, 3), rng.normal(size=(3, 2))])
    palette = np.linalg.qr(axes)[0] * [1.0, rng.uniform(0.1, 0.6), rng.uniform(0.05, 0.3)]
    return _to_image(_colour(rng) + noise @ palette.T * rng.uniform(10, 70))


def draw_gradient(rng: np.random.Generator) -> Image.Image:
    """A smooth background between four corner colours, half of the time with a horizon."""
    y, x = np.mgrid[0:SOURCE, 0:SOURCE][..., None] / SOURCE
    a, b, c, d = (_colour(rng) for _ in range(4))
    pixels = (a * (1 - x) + b * x) * (1 - y) + (c * (1 - x) + d * x) * y
    if _chance(rng, 0.5):
        below = y + (x - 0.5) * rng.normal(0, 0.1) > rng.uniform(0.3, 0.9)
        pixels = np.where(below, _colour(rng), pixels)
    return _to_image(pixels)


def _add_shape(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    centre: NDArray[np.float64],
    radius: float,
    fill: NDArray[np.float64],
) -> None:
    """An ellipse, a turned rectangle or a ragged polygon."""
    stretch = np.exp(rng.normal(0, 0.5))
    half = np.array([radius * stretch, radius / stretch])
    ink = tuple(int(v) for v in np.clip(fill, 0, 255))
    kind = rng.integers(3)
    if kind == 0:
        draw.ellipse([*(centre - half), *(centre + half)], fill=ink)
        return
    if kind == 1:
        angles = np.arange(4) * np.pi / 2 + np.pi / 4 + rng.normal(0, 0.3)
        reach = np.full(4, 1.3)
    else:
        corners = int(rng.integers(3, 8))
        angles, reach = np.sort(rng.uniform(0, 2 * np.pi, corners)), rng.uniform(0.6, 1.1, corners)
    outline = np.column_stack([np.cos(angles), np.sin(angles)]) * reach[:, None] * half + centre
    draw.polygon([(float(px), float(py)) for px, py in outline], fill=ink)


def _tint(
    rng: np.random.Generator, base: NDArray[np.float64], spread: float
) -> NDArray[np.float64]:
    return base + rng.normal(0, spread) + rng.normal(0, 0.4 * spread, 3)


def draw_leaves(rng: np.random.Generator) -> Image.Image:
    """Dead leaves: shapes with a power law of sizes that occlude each other."""
    image = draw_field(rng) if _chance(rng, 0.5) else draw_gradient(rng)
    draw, base, spread = ImageDraw.Draw(image), _colour(rng), rng.uniform(15, 80)
    for _ in range(int(rng.integers(10, 120))):
        radius = min(3 / np.sqrt(rng.uniform(0.002, 1)), SOURCE / 2)
        _add_shape(draw, rng, rng.uniform(-5, SOURCE + 5, 2), radius, _tint(rng, base, spread))
    return image


def draw_scene(rng: np.random.Generator) -> Image.Image:
    """One object of several parts before a background, softened, sometimes with texture."""
    image = draw_gradient(rng) if _chance(rng, 0.6) else draw_field(rng)
    draw, base, spread = ImageDraw.Draw(image), _colour(rng), rng.uniform(10, 60)
    middle, size = SOURCE / 2 + rng.normal(0, 6, 2), rng.uniform(10, 26)
    for part in range(int(rng.integers(1, 25))):
        radius = size * rng.uniform(0.08, 0.9) ** (1.0 if part else 0.3)
        centre = middle + rng.normal(0, 0.55 * size, 2)
        _add_shape(draw, rng, centre, radius, _tint(rng, base, spread))
    if _chance(rng, 0.5):
        image = Image.blend(image, draw_field(rng), rng.uniform(0.05, 0.3))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))


# ---------------------------------------------------------------- photographs


def read_photos(path: Path) -> list[Image.Image]:
    """RGB images of the `.jpg` members of a tar, in the tar's order."""
    with tarfile.open(path) as tar:
        members = [m for m in tar.getmembers() if m.name.endswith(".jpg")]
        files = [tar.extractfile(m) for m in members]
        return [Image.open(io.BytesIO(f.read())).convert("RGB") for f in files if f is not None]


def draw_crop(rng: np.random.Generator, photos: Sequence[Image.Image]) -> Image.Image:
    """A crop at any scale from 15 % of the shorter side; at half odds mirrored, channels mixed."""
    photo = photos[int(rng.integers(len(photos)))]
    width = min(photo.size) * np.exp(rng.uniform(np.log(0.15), 0))
    height = min(width * np.exp(rng.normal(0, 0.15)), photo.height)
    x, y = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    image = photo.resize(
        (SOURCE, SOURCE), Image.Resampling.BILINEAR, box=(x, y, x + width, y + height)
    )
    if _chance(rng, 0.5):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if _chance(rng, 0.5):
        planes = image.split()
        image = Image.merge("RGB", [planes[k] for k in rng.permutation(3)])
    return image


# ---------------------------------------------------------------- copies


def _change_tone(rng: np.random.Generator, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gamma, contrast, brightness, cast and saturation, each mild; 0..255 in and out."""
    a = (pixels / 255) ** np.exp(rng.normal(0, 0.2))
    a = (a - 0.5) * np.exp(rng.normal(0, 0.15)) + 0.5
    a += rng.normal(0, 0.06) + rng.normal(0, 0.02, 3)
    grey = a.mean(axis=-1, keepdims=True)
    a = grey + (a - grey) * np.exp(rng.normal(0, 0.2))
    return np.asarray(a * 255)


def plain_view(source: Image.Image) -> NDArray[np.uint8]:
    """The source without edits, (SIDE, SIDE, 3) uint8."""
    box = (MARGIN, MARGIN, SOURCE - MARGIN, SOURCE - MARGIN)
    return np.asarray(source.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))


def edited_view(rng: np.random.Generator, source: Image.Image) -> NDArray[np.uint8]:
    """A near-duplicate of `plain_view`, (SIDE, SIDE, 3) uint8."""
    jitter = min(JITTER * rng.exponential(), 4 * JITTER)
    centre = SOURCE / 2 + rng.normal(0, 64 * jitter, 2)
    half = SIDE * np.exp(rng.normal(0, 1.5 * jitter) + rng.normal(0, 0.5 * jitter, 2))
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, SOURCE)
    image = source.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(*low, *high))
    if _chance(rng, 0.4):
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1)))
    pixels = np.asarray(image, dtype=np.float64)
    if _chance(rng, 0.7):
        pixels = _change_tone(rng, pixels)
    if _chance(rng, 0.3):
        pixels = pixels + rng.normal(0, rng.uniform(0, 10), pixels.shape)
    image = _to_image(np.rint(pixels))
    if _chance(rng, 0.7):
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=int(rng.integers(30, 96)))
        image = Image.open(packed).convert("RGB")
    return np.asarray(image)


def copies(draw: Draw, seed: int, count: int) -> NDArray[np.uint8]:
    """Views of `count` sources, (count, 3, SIDE, SIDE, 3) uint8: plain, edited, edited again."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, 3, SIDE, SIDE, 3), dtype=np.uint8)
    for views in out:
        source = draw(rng)
        views[0] = plain_view(source)
        views[1], views[2] = edited_view(rng, source), edited_view(rng, source)
    return out


# ---------------------------------------------------------------- the fit


def covariances(
    families: Sequence[tuple[float, NDArray[np.uint8]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Moments of the features over families of copies.

    Args:
        families: (weight, copies) with weights that sum to 1.

    Returns:
        (FEATURES,) mean; (FEATURES, FEATURES) total and within-copy covariance. All are even
        under mirroring: as if every image had been seen mirrored, too.
    """
    parity = mirror_parity()
    spread = []
    mean = np.zeros(FEATURES)
    for weight, thumbs in families:
        flat = features(thumbs.reshape(-1, SIDE, SIDE, 3))[0] / FEATURE_UNIT
        spread.append((weight, flat.reshape(len(thumbs), 3, FEATURES)))
        mean += weight * flat.mean(axis=0)
    mean[parity < 0] = 0.0
    total, within = np.zeros((2, FEATURES, FEATURES))
    for weight, x in spread:
        centred = (x - mean).reshape(-1, FEATURES)
        pairs = (x - x[:, [1, 2, 0]]).reshape(-1, FEATURES)
        total += weight * centred.T @ centred / len(centred)
        within += weight * pairs.T @ pairs / len(pairs) / 2
    same = np.outer(parity, parity) > 0
    return mean, np.where(same, total, 0.0), np.where(same, within, 0.0)


def _leading(
    total: NDArray[np.float64], within: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ratios (n,), descending, and columns (n, n) of the generalised eigenproblem T v = r W v."""
    inverse = np.linalg.inv(np.linalg.cholesky(within))
    ratio, vectors = np.linalg.eigh(inverse @ total @ inverse.T)
    return ratio[::-1], (inverse.T @ vectors)[:, ::-1]


def solve(
    mean: NDArray[np.float64], total: NDArray[np.float64], within: NDArray[np.float64]
) -> Basis:
    """The basis from the moments; even and odd features are solved apart, so neither leaks."""
    within = within + RIDGE * np.trace(within) / FEATURES * np.eye(FEATURES)
    parity = mirror_parity()
    ratios, columns = [], []
    for sign in (1.0, -1.0):
        block = np.flatnonzero(parity == sign)
        ratio, vectors = _leading(total[np.ix_(block, block)], within[np.ix_(block, block)])
        full = np.zeros((FEATURES, len(block)))
        full[block] = vectors * ratio ** (-WHITENING / 2)
        ratios.append(ratio)
        columns.append(full)
    order = np.argsort(-np.concatenate(ratios), kind="stable")[:LINEAR]
    chosen = np.concatenate(columns, axis=1)[:, order]
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    peak = np.abs(chosen).argmax(axis=0)
    chosen *= np.sign(chosen[peak, np.arange(LINEAR)])
    whole = np.rint(chosen * (COLUMN_LIMIT / np.abs(chosen).max())).astype("<i2")
    offset = np.rint(mean * FEATURE_UNIT) @ whole.astype(np.float64)
    power = np.einsum("fd,fg,gd->", whole, total * FEATURE_UNIT**2, whole)
    # A triangle wave of height h has the mean square h^2 / 3.
    gain = np.rint(CODE_SHARE * np.sqrt(power / (CODE * CODE_UNIT**2 / 3)))
    return Basis(whole, offset.astype("<i8"), gain.astype("<i8"))


def fit(photos: Sequence[Image.Image], count: int) -> Basis:
    """Fit on `count` sources of each procedural kind and three times as many crops."""
    drawn = [(draw_field, 0.07), (draw_leaves, 0.07), (draw_scene, 0.07)]
    families = [(w, copies(draw, SEED + k, count)) for k, (draw, w) in enumerate(drawn)]
    crops = copies(lambda rng: draw_crop(rng, photos), SEED + len(drawn), 3 * count)
    return solve(*covariances([*families, (0.79, crops)]))


def pack(basis: Basis) -> bytes:
    """The `.npz` file of a basis, the same bytes whenever it is written."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in basis._asdict().items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return out.getvalue()


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: read the photographs, fit, write the basis."""
    parser = argparse.ArgumentParser(description="Regenerate the basis of builtin:layout.")
    parser.add_argument("--photos", type=Path, required=True, help="clothing-00000.tar")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    parser.add_argument("--count", type=int, default=4000, help="sources per procedural kind")
    args = parser.parse_args(argv)
    args.out.write_bytes(pack(fit(read_photos(args.photos), args.count)))


if __name__ == "__main__":
    main()
