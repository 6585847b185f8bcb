"""Perturbation sequences: how often does a prediction flip while an image changes a little?

The ten kinds of ImageNet-P at difficulty 1, made here from an image: 31 frames (41 of `translate`)
of 224 pixels, from the image with its short side at 256; for images of 32 pixels the constants of
CIFAR-10-P. Frames of the noise kinds are compared with the first one, which is the image itself,
all others with the one before. Source: Hendrycks and Dietterich 2019, hendrycks/robustness @8190fe3
(Apache-2.0), `make_imagenet_p.py`, `make_cifar_p.py`, `test.py`. The published set went through a
video codec after this; it is another setting.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from curate.encoders.base import nearest
from curate.errors import CurateError
from eval.geometry import Pixels
from eval.shifts import registry
from eval.shifts.cifar_c import (
    SIDE,
    Floats,
    brightened,
    motion_blurred,
    snow_layer,
    under_snow,
)

KINDS = registry.PERTURBATIONS
MOST_FRAMES = 256
MOST_BYTES = 256 << 20
"""Of a stored sequence, decoded; ImageNet-P's have 31 frames, or 41, and take 6 MiB."""
_BYTE = 255
_RESIZED = 256
_CROP = 224


class VideoError(CurateError):
    """Bytes give no sequence; whoever knows whose they are names the item."""


@dataclass(frozen=True)
class Constants:
    """What differs between the two sizes of images.

    Attributes:
        side: of a frame.
        gaussian: standard deviation, of [0, 1].
        photons: of shot noise.
        blur: radius, sigma, last place and degrees a frame of motion blur; how many frames.
        snow: zoom of the flakes; radius and sigma of their blur.
        brightness: change a frame.
        shift: pixels to the left of the first frame of `translate`; how many frames.
        tilt: degrees a frame.
        scale: of the first frame and its change a frame.
    """

    side: int
    gaussian: float
    photons: float
    blur: tuple[float, float, int, float, int]
    snow: tuple[float, float, float]
    brightness: float
    shift: tuple[int, int]
    tilt: float
    scale: tuple[float, float]


IMAGENET_P = Constants(
    _CROP, 0.03, 300, (10, 3, 30, 4, 31), (3, 14, 4), 0.02, (20, 41), 1, (0.4, 0.025)
)
CIFAR_10_P = Constants(
    SIDE, 0.02, 700, (6, 1.8, 20, 9, 21), (2, 10, 2), 0.015, (7, 16), 0.75, (0.7, 0.02)
)
_FRAMES = 31
_MIDDLE = 15


def sequence(kind: str, image: Image.Image, rng: Generator) -> NDArray[np.uint8]:
    """The frames of one image.

    Args:
        kind: of `KINDS`.
        image: RGB, as it is stored.
        rng: where all randomness comes from (`eval.shifts.chance.generator` of seed, id and kind).

    Returns:
        (frames, 3, side, side) uint8; the side is 224, or 32 of an image of 32 pixels.

    Raises:
        CurateError: there is no such kind.
    """
    if kind not in _MAKE:
        raise CurateError(f"perturbation {kind!r}: is not known{nearest(kind, KINDS)}")
    is_small = image.size == (SIDE, SIDE)
    constants = CIFAR_10_P if is_small else IMAGENET_P
    whole = image if is_small else _resized(image)
    frames = _MAKE[kind](whole, constants, rng)
    return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))


def count_flips(kind: str, predictions: Sequence[int]) -> tuple[int, int]:
    """(flips, comparisons) of the predictions along one sequence, in its order."""
    found = np.asarray(predictions)
    before = found[:1] if kind in registry.NOISES else found[:-1]
    return int((found[1:] != before).sum()), len(found) - 1


def video_frames(data: bytes) -> NDArray[np.uint8]:
    """The frames of a stored sequence (mp4), (frames, 3, height, width) uint8.

    Raises:
        VideoError: it is no video, or longer or larger than `MOST_FRAMES` and `MOST_BYTES`.
    """
    frames: list[Pixels] = []
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:  # OpenCV reads videos from files only
        file.write(data)
        file.flush()
        for frame in _decoded(file.name):
            frames.append(frame)
            if len(frames) > MOST_FRAMES or len(frames) * frame.nbytes > MOST_BYTES:
                raise VideoError(
                    f"a sequence has at most {MOST_FRAMES} frames and {MOST_BYTES >> 20} MiB of "
                    f"pixels; this one has frames of {frame.shape[1]} x {frame.shape[0]}, and at "
                    f"least {len(frames)} of them"
                )
    if not frames:
        raise VideoError("its bytes are no video that OpenCV can read")
    return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))


def _decoded(path: str) -> Iterator[Pixels]:
    """The frames of a video, (height, width, 3)."""
    import cv2

    stream = cv2.VideoCapture(path)
    try:
        while True:
            is_read, frame = stream.read()
            if not is_read:
                return
            yield np.asarray(frame, np.uint8)[:, :, ::-1]
    finally:
        stream.release()


def _resized(image: Image.Image) -> Image.Image:
    from torchvision.transforms.functional import resize

    found: Image.Image = resize(image, _RESIZED)
    return found


def _middle(image: Image.Image, constants: Constants) -> Pixels:
    from torchvision.transforms.functional import center_crop

    return np.array(center_crop(image, [constants.side, constants.side]), np.uint8)


def _as_bytes(pixels: Floats) -> Pixels:
    return (np.clip(pixels, 0, 1) * _BYTE).astype(np.uint8)


def _gaussian_noise(image: Image.Image, constants: Constants, rng: Generator) -> list[Pixels]:
    first = _middle(image, constants)
    noise = rng.normal(scale=constants.gaussian, size=(_FRAMES - 1, *first.shape))
    return [first, *(_as_bytes(first / _BYTE + one) for one in noise)]


def _shot_noise(image: Image.Image, constants: Constants, rng: Generator) -> list[Pixels]:
    first = _middle(image, constants)
    light = first / _BYTE * constants.photons
    return [first, *(_as_bytes(rng.poisson(light) / constants.photons) for _ in range(_FRAMES - 1))]


def _motion_blur(image: Image.Image, constants: Constants, _rng: Generator) -> list[Pixels]:
    radius, sigma, last, degrees, frames = constants.blur
    pixels = _middle(image, constants).astype(np.float64) / _BYTE
    return [
        _as_bytes(motion_blurred(pixels, radius, sigma, (at - last) * degrees))
        for at in range(frames)
    ]


def _zoom_blur(image: Image.Image, constants: Constants, _rng: Generator) -> list[Pixels]:
    total = _middle(image, constants) / _BYTE
    frames = [_as_bytes(total)]
    for at in range(1, _FRAMES):
        total = total + _middle(_moved(image, scale=1 + 0.004 * at), constants) / _BYTE
        frames.append(_as_bytes(total / (at + 1)))
    return frames


def _snow(image: Image.Image, constants: Constants, rng: Generator) -> list[Pixels]:
    zoom, radius, sigma = constants.snow
    pixels = _middle(image, constants) / _BYTE
    layer = snow_layer(rng, constants.side, mean=0.05, sigma=0.3, zoom=zoom, threshold=0.5)
    fallen = (motion_blurred(layer, radius, sigma, at * 4 - 150) for at in range(_FRAMES))
    return [_as_bytes(under_snow(pixels, flakes, 0.85)) for flakes in fallen]


def _brightness(image: Image.Image, constants: Constants, _rng: Generator) -> list[Pixels]:
    pixels = _middle(image, constants) / _BYTE
    changes = ((at - _MIDDLE) * constants.brightness for at in range(_FRAMES))
    return [_as_bytes(brightened(pixels, change)) for change in changes]


def _moved(
    image: Image.Image, angle: float = 0, shift: int = 0, scale: float = 1, *, smooth: bool = True
) -> Image.Image:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import affine

    mode = InterpolationMode.BILINEAR if smooth else InterpolationMode.NEAREST
    found: Image.Image = affine(image, angle, [shift, 0], scale, [0.0, 0.0], interpolation=mode)
    return found


def _translate(image: Image.Image, constants: Constants, _rng: Generator) -> list[Pixels]:
    first, frames = constants.shift
    return [
        _middle(_moved(image, shift=at - first, smooth=False), constants) for at in range(frames)
    ]


def _rotate(image: Image.Image, constants: Constants, _rng: Generator) -> list[Pixels]:
    return [_middle(_moved(image, angle=at - _MIDDLE), constants) for at in range(_FRAMES)]


def _scale(image: Image.Image, constants: Constants, _rng: Generator) -> list[Pixels]:
    first, change = constants.scale
    return [_middle(_moved(image, scale=first + at * change), constants) for at in range(_FRAMES)]


def _tilt(image: Image.Image, constants: Constants, _rng: Generator) -> list[Pixels]:
    import cv2

    pixels = np.asarray(image, np.uint8)
    frames = []
    for at in range(_FRAMES):
        matrix = _tilted(image.width, image.height, np.deg2rad((at - _MIDDLE) * constants.tilt))
        turned: Any = cv2.warpPerspective(pixels, matrix, image.size)
        frames.append(_middle(Image.fromarray(turned), constants))
    return frames


def _tilted(width: int, height: int, angle: float) -> Floats:
    """A picture turned about both of its axes, seen from its diagonal and one pixel away."""
    far = float(np.hypot(width, height))
    cos, sin = np.cos(angle), np.sin(angle)
    centred = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])
    about_y = np.array([[cos, 0, -sin, 0], [0, 1, 0, 0], [sin, 0, cos, 0], [0, 0, 0, 1]])
    away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, far], [0, 0, 0, 1]])
    seen = np.array([[far, 0, width / 2, 0], [0, far, height / 2, 0], [0, 0, 1, 0]])
    found: Floats = seen @ away @ about_x @ about_y @ centred
    return found


_MAKE: dict[str, Callable[[Image.Image, Constants, Generator], list[Pixels]]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "brightness": _brightness,
    "translate": _translate,
    "rotate": _rotate,
    "tilt": _tilt,
    "scale": _scale,
}
