"""CIFAR-10-C: corruptions of images of 32 pixels, with severities of their own.

The constants are those of `make_cifar_c.py` (hendrycks/robustness @8190fe3, Apache-2.0; Hendrycks
and Dietterich 2019); imagecorruptions on small images has ImageNet's and is no CIFAR-10-C. Motion
blur and fog are the building blocks of imagecorruptions, in place of ImageMagick's motion blur.
"""

import io
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from curate.errors import CurateError
from eval.geometry import Pixels
from eval.shifts import chance

SIDE = 32
Floats = NDArray[Any]
_BYTE = 255

_AMOUNTS: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
    "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "jpeg_compression": (80, 65, 58, 50, 40),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
}
_SETS: dict[str, tuple[tuple[float, ...], ...]] = {
    # sigma, reach of a swap, rounds
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    # radius, sigma of the disk's edge
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    # radius, sigma
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    # thickness, decay of the fractal
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    # share of the image, share of the ice
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    # mean, sigma, zoom, threshold, radius and sigma of the blur, share of the image
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    # mean, sigma, blur, threshold, strength, mud instead of water
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    # factor and summand of the saturation
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    # shares of the side: strength and sigma of the waves, reach of the affine part
    "elastic_transform": (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
}


def corrupted(image: Image.Image, name: str, severity: int, rng: Generator, id_: str) -> Pixels:
    """An RGB image of 32 pixels -> (32, 32, 3) uint8, corrupted.

    Args:
        image: the image.
        name: of the corruption.
        severity: 1 to 5.
        rng: where all randomness comes from.
        id_: of the item, for errors.

    Raises:
        CurateError: the image has another size.
    """
    if image.size != (SIDE, SIDE):
        raise CurateError(
            f"{id_}: is {image.width} x {image.height}; the severities of CIFAR-10-C are for "
            f"{SIDE} x {SIDE} pixels"
        )
    if name in {"jpeg_compression", "pixelate"}:
        return _STORED[name](image, _AMOUNTS[name][severity - 1])
    pixels = np.asarray(image, np.uint8) / _BYTE
    if name in _AMOUNTS:
        changed = _WITH_AMOUNT[name](pixels, _AMOUNTS[name][severity - 1], rng)
    else:
        changed = _WITH_SET[name](pixels, _SETS[name][severity - 1], rng)
    # cut off and not rounded, as the published images were
    return (np.clip(changed, 0, 1) * _BYTE).astype(np.uint8)


# --- noise ----------------------------------------------------------------------------------------


def _gaussian_noise(pixels: Floats, amount: float, rng: Generator) -> Floats:
    return pixels + rng.normal(scale=amount, size=pixels.shape)


def _shot_noise(pixels: Floats, amount: float, rng: Generator) -> Floats:
    return rng.poisson(pixels * amount) / amount


def _impulse_noise(pixels: Floats, amount: float, rng: Generator) -> Floats:
    hit = rng.random(pixels.shape) < amount
    salt = rng.random(pixels.shape) < 0.5  # noqa: PLR2004  # half of them
    return np.where(hit, salt.astype(float), pixels)


def _speckle_noise(pixels: Floats, amount: float, rng: Generator) -> Floats:
    return pixels + pixels * rng.normal(scale=amount, size=pixels.shape)


# --- blur -----------------------------------------------------------------------------------------


def _blurred(pixels: Floats, sigma: float, truncate: float = 4) -> Floats:
    import skimage.filters

    gaussian: Any = skimage.filters.gaussian
    colours = -1 if pixels.ndim == 3 else None  # noqa: PLR2004  # height, width, channels
    found: Floats = gaussian(pixels, sigma=sigma, truncate=truncate, channel_axis=colours)
    return found


def _gaussian_blur(pixels: Floats, amount: float, _rng: Generator) -> Floats:
    return _blurred(pixels, amount)


def _glass_blur(pixels: Floats, constants: tuple[float, ...], rng: Generator) -> Floats:
    sigma, reach, rounds = constants[0], int(constants[1]), int(constants[2])
    soft = (_blurred(pixels, sigma) * _BYTE).astype(np.uint8)
    places = range(SIDE - reach, reach, -1)
    for _ in range(rounds):
        moves = rng.integers(-reach, reach, size=(len(places), len(places), 2))
        for row, line in zip(places, moves, strict=True):
            for column, (right, down) in zip(places, line, strict=True):
                # no swap: numpy hands out views, so the published images have a copy here too
                soft[row, column] = soft[row + down, column + right]
    return _blurred(soft / _BYTE, sigma)


def _defocus_blur(pixels: Floats, constants: tuple[float, ...], _rng: Generator) -> Floats:
    import cv2
    from imagecorruptions.corruptions import disk

    radius, alias = constants
    found: Floats = cv2.filter2D(pixels, -1, disk(radius, alias))
    return found


def motion_blurred(pixels: Floats, radius: float, sigma: float, angle: float) -> Floats:
    """Blur along a direction given in degrees, as imagecorruptions does."""
    from imagecorruptions.corruptions import _motion_blur

    found: Floats = _motion_blur(pixels, radius=int(radius), sigma=sigma, angle=angle)
    return found


def _motion_blur(pixels: Floats, constants: tuple[float, ...], rng: Generator) -> Floats:
    radius, sigma = constants
    return motion_blurred(pixels, radius, sigma, rng.uniform(-45, 45))


def zoomed(pixels: Floats, factor: float) -> Floats:
    """The middle of a square (s, s, c) picture, enlarged to its size by linear interpolation."""
    from scipy.ndimage import zoom

    side = pixels.shape[0]
    part = int(np.ceil(side / factor))
    top = (side - part) // 2
    large = zoom(pixels[top : top + part, top : top + part], (factor, factor, 1), order=1)
    edge = (large.shape[0] - side) // 2
    found: Floats = large[edge : edge + side, edge : edge + side]
    return found


def _zoom_blur(pixels: Floats, amount: float, _rng: Generator) -> Floats:
    factors = np.arange(1, amount, 0.01)
    exact = pixels.astype(np.float32)
    return (exact + sum(zoomed(exact, factor) for factor in factors)) / (len(factors) + 1)


# --- weather --------------------------------------------------------------------------------------


def _snow(pixels: Floats, constants: tuple[float, ...], rng: Generator) -> Floats:
    mean, sigma, zoom, threshold, radius, blur, share = constants
    layer = snow_layer(rng, SIDE, mean=mean, sigma=sigma, zoom=zoom, threshold=threshold)
    fallen = motion_blurred(layer, radius, blur, rng.uniform(-135, -45))
    return under_snow(pixels, fallen, share)


def snow_layer(
    rng: Generator, side: int, *, mean: float, sigma: float, zoom: float, threshold: float
) -> Floats:
    """Flakes, (side, side), in 255 steps of [0, 1]."""
    flakes = zoomed(rng.normal(mean, sigma, (side, side))[:, :, None], zoom)[:, :, 0]
    flakes[flakes < threshold] = 0
    found: Floats = np.floor(np.clip(flakes, 0, 1) * _BYTE) / _BYTE
    return found


def under_snow(pixels: Floats, fallen: Floats, share: float) -> Floats:
    """A picture that is bleached, with flakes on it from two sides."""
    import cv2

    grey = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY)[:, :, None]
    bleached = share * pixels + (1 - share) * np.maximum(pixels, grey * 1.5 + 0.5)
    flakes = (np.round(fallen * _BYTE) / _BYTE)[:, :, None]
    found: Floats = bleached + flakes + np.rot90(flakes, k=2)
    return found


_FROSTS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


@cache
def _ice(name: str) -> Floats:
    """A picture of ice at a fifth of its size, (height, width, 3) in [0, 1]."""
    import cv2

    data = resources.files("imagecorruptions").joinpath("frost", name).read_bytes()
    stored: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(stored, (0, 0), fx=0.2, fy=0.2)
    return np.asarray(small[:, :, ::-1]) / _BYTE


def _frost(pixels: Floats, constants: tuple[float, ...], rng: Generator) -> Floats:
    ice = _ice(_FROSTS[rng.integers(len(_FROSTS))])
    top, left = rng.integers(ice.shape[0] - SIDE), rng.integers(ice.shape[1] - SIDE)
    part = ice[top : top + SIDE, left : left + SIDE]
    return constants[0] * pixels + constants[1] * part


def _fog(pixels: Floats, constants: tuple[float, ...], rng: Generator) -> Floats:
    from imagecorruptions.corruptions import plasma_fractal

    thickness, decay = constants
    with chance.numpy_seeded(rng):
        clouds = plasma_fractal(SIDE, decay)[:SIDE, :SIDE, None]
    most = float(pixels.max())
    found: Floats = (pixels + thickness * clouds) * most / (most + thickness)
    return found


def _spatter(pixels: Floats, constants: tuple[float, ...], rng: Generator) -> Floats:
    mean, sigma, blur, threshold, strength, is_mud = constants
    layer = _blurred(rng.normal(mean, sigma, pixels.shape[:2]), blur)
    layer[layer < threshold] = 0
    if is_mud:
        mask = _blurred((layer > threshold).astype(np.float32), strength)
        mask[mask < 0.8] = 0  # noqa: PLR2004  # only where mud is thick
        mud = np.array([63, 42, 20]) / _BYTE
        covered: Floats = pixels * (1 - mask[:, :, None]) + mask[:, :, None] * mud
        return covered
    water = np.array([175, 238, 238]) / _BYTE
    return pixels + _drops(layer)[:, :, None] * strength * water


def _drops(layer: Floats) -> Floats:
    """How light the water is, (height, width) with 1 for the lightest."""
    import cv2

    liquid = (layer * _BYTE).astype(np.uint8)
    distance = cv2.distanceTransform(_BYTE - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    _, distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)
    even = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    lit = cv2.filter2D(even, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    shade: Floats = liquid * cv2.blur(lit, (3, 3)).astype(np.float32)
    found: Floats = shade / max(float(shade.max()), float(np.finfo(np.float32).tiny))
    return found


# --- digital --------------------------------------------------------------------------------------


def _contrast(pixels: Floats, amount: float, _rng: Generator) -> Floats:
    means: Floats = pixels.mean(axis=(0, 1), keepdims=True)
    found: Floats = (pixels - means) * amount + means
    return found


def brightened(pixels: Floats, amount: float) -> Floats:
    """A picture whose value (of HSV) is raised."""
    return _in_hsv(pixels, 2, 1, amount)


def _in_hsv(pixels: Floats, channel: int, factor: float, summand: float) -> Floats:
    from skimage.color import hsv2rgb, rgb2hsv

    changed = rgb2hsv(pixels)
    changed[:, :, channel] = np.clip(changed[:, :, channel] * factor + summand, 0, 1)
    found: Floats = hsv2rgb(changed)
    return found


def _brightness(pixels: Floats, amount: float, _rng: Generator) -> Floats:
    return brightened(pixels, amount)


def _saturate(pixels: Floats, constants: tuple[float, ...], _rng: Generator) -> Floats:
    return _in_hsv(pixels, 1, *constants)


def _elastic(pixels: Floats, constants: tuple[float, ...], rng: Generator) -> Floats:
    import cv2
    from scipy.ndimage import map_coordinates

    strength, sigma, reach = (constant * SIDE for constant in constants)
    middle, third = SIDE // 2, SIDE // 3
    corners = np.array([[1, 1], [1, -1], [-1, -1]], np.float32) * third + middle
    moved = corners + rng.uniform(-reach, reach, corners.shape).astype(np.float32)
    turn = cv2.getAffineTransform(corners, moved)
    bent = cv2.warpAffine(
        pixels.astype(np.float32), turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101
    )
    waves = rng.uniform(-1, 1, (2, SIDE, SIDE))
    across, down = (_blurred(wave, sigma, truncate=3) * strength for wave in waves)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    channels = [
        map_coordinates(bent[:, :, c], [rows + down, columns + across], order=1, mode="reflect")
        for c in range(3)
    ]
    return np.stack(channels, axis=2)


def _jpeg_compression(image: Image.Image, quality: float) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(quality))
    return np.array(Image.open(buffer), np.uint8)


def _pixelate(image: Image.Image, share: float) -> Pixels:
    side = int(SIDE * share)
    box = Image.Resampling.BOX
    return np.array(image.resize((side, side), box).resize((SIDE, SIDE), box), np.uint8)


_STORED: dict[str, Callable[[Image.Image, float], Pixels]] = {
    "jpeg_compression": _jpeg_compression,
    "pixelate": _pixelate,
}
_WITH_AMOUNT: dict[str, Callable[[Floats, float, Generator], Floats]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "zoom_blur": _zoom_blur,
    "contrast": _contrast,
    "brightness": _brightness,
}
_WITH_SET: dict[str, Callable[[Floats, tuple[float, ...], Generator], Floats]] = {
    "glass_blur": _glass_blur,
    "defocus_blur": _defocus_blur,
    "motion_blur": _motion_blur,
    "fog": _fog,
    "frost": _frost,
    "snow": _snow,
    "spatter": _spatter,
    "saturate": _saturate,
    "elastic_transform": _elastic,
}
