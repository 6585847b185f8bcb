"""The corruptions of ImageNet-C and CIFAR-10-C, made here for any image.

Two recipes. `imagenet-c`: the image is resized to 256 pixels, 224 are cut out, and the library
imagecorruptions corrupts them; its severities are those of ImageNet-C. The published files were
stored as JPEG of quality 85 after that, which `jpeg` repeats; models find the files harder than
what is made in memory, so that the two are different settings, whatever `jpeg` says. `cifar-10-c`:
images of 32 pixels with the severities of CIFAR-10-C, which are others (`eval.shifts.cifar_c`).

Source: Hendrycks and Dietterich 2019; imagecorruptions (Michaelis et al. 2019), which replaces
ImageMagick's motion blur by its own.
"""

import io
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, get_args

import numpy as np
from numpy.random import Generator
from PIL import Image

from curate.encoders.base import nearest
from curate.errors import CurateError
from eval.geometry import Pixels
from eval.shifts import chance, cifar_c, registry

Recipe = Literal["imagenet-c", "cifar-10-c"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)

CORRUPTIONS = registry.CORRUPTIONS

_RESIZED = 256
_CROP = 224
_QUALITY = 85
_LIBRARIES = ("imagecorruptions-imaug", "numba", "opencv-python", "scikit-image", "scipy", "pillow")
_SEEDED = ("impulse_noise", "glass_blur")  # they take a seed, and no notice of numpy's


@dataclass(frozen=True)
class Corruption:
    """One corruption at one severity; what it draws depends on (seed, id, name, severity) only.

    Attributes:
        name: of `CORRUPTIONS`.
        severity: 1 to 5.
        recipe: of `RECIPES`.
        seed: of all that is drawn.
        jpeg: the result is stored as JPEG of quality 85 and read again, as ImageNet-C was.
    """

    name: str
    severity: int
    recipe: Recipe
    seed: int = 0
    jpeg: bool = False

    def __post_init__(self) -> None:
        """Check what was asked.

        Raises:
            CurateError: no such corruption, severity or recipe.
        """
        if self.name not in CORRUPTIONS:
            raise CurateError(
                f"corruption {self.name!r}: is not known{nearest(self.name, CORRUPTIONS)}"
            )
        if self.severity not in registry.SEVERITIES:
            raise CurateError(f"corruption {self.name}: severity {self.severity}: 1 to 5 expected")
        if self.recipe not in RECIPES:
            raise CurateError(f"recipe {self.recipe!r}: one of {', '.join(RECIPES)} was expected")

    @property
    def word(self) -> str:
        """What stands for it in the name of a setting."""
        return f"{self.name}.{self.severity}"

    @property
    def cropped(self) -> bool:
        """Whether its images are the crop that a model sees."""
        return self.recipe == "imagenet-c"

    def facts(self) -> dict[str, Any]:
        """All that its pixels depend on."""
        return {
            "corruption": self.name, "severity": self.severity, "recipe": self.recipe,
            "seed": self.seed, "jpeg": _QUALITY if self.jpeg else None, "versions": versions(),
        }  # fmt: skip

    def made(self, image: Image.Image, id_: str, _label: int) -> tuple[Pixels, None]:
        """As a shift is asked: the picture, on which nothing is written."""
        return self.apply(image, id_), None

    def apply(self, image: Image.Image, id_: str) -> Pixels:
        """An RGB image -> (height, width, 3) uint8, corrupted.

        Raises:
            CurateError: the image does not suit the recipe.
        """
        rng = chance.generator(self.seed, id_, self.name, self.severity)
        if self.recipe == "cifar-10-c":
            changed = cifar_c.corrupted(image, self.name, self.severity, rng, id_)
        else:
            changed = by_library(crop(image), self.name, self.severity, rng)
        return as_jpeg(changed) if self.jpeg else changed


def recipe_for(image: Image.Image) -> Recipe:
    """The recipe that suits images of this size: 32 pixels are CIFAR's."""
    return "cifar-10-c" if image.size == (cifar_c.SIDE, cifar_c.SIDE) else "imagenet-c"


def versions() -> dict[str, str]:
    """The libraries that decide on pixels.

    Raises:
        CurateError: one is not installed.
    """
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not name.startswith("opencv"):  # it goes by several names
                raise CurateError(
                    f"{name} is not installed; `pip install curate[eval]` brings what corruptions "
                    "are made with"
                ) from None
            import cv2

            found["opencv"] = str(cv2.__version__)
    return found


def crop(image: Image.Image) -> Image.Image:
    """Resize the short side to 256 pixels and cut 224 out of the middle, as ImageNet-C does."""
    from torchvision.transforms import CenterCrop, Compose, Resize

    found: Image.Image = Compose([Resize(_RESIZED), CenterCrop(_CROP)])(image)
    return found


def by_library(image: Image.Image, name: str, severity: int, rng: Generator) -> Pixels:
    """What imagecorruptions makes of an image, with all its randomness from `rng`."""
    from imagecorruptions import corrupt

    options = {"seed": chance.number(rng)} if name in _SEEDED else {}
    with chance.numpy_seeded(rng):
        changed: Pixels = corrupt(
            np.asarray(image, np.uint8), severity=severity, corruption_name=name, **options
        )
    return changed


def as_jpeg(pixels: Pixels) -> Pixels:
    """(height, width, 3) uint8 through a JPEG of quality 85."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return np.array(Image.open(buffer), np.uint8)
