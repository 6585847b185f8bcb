"""Images as a model sees them, before they are normalised: resized and cut, as uint8.

The geometry is open_clip's evaluation transform of the model, on the PIL image.
"""

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import Compose, ToTensor

Pixels = NDArray[np.uint8]
Geometry = Callable[[Image.Image], Image.Image]


def geometry(preprocess: Mapping[str, Any]) -> Geometry:
    """The evaluation transform of a model up to where it makes a tensor of an RGB image.

    Args:
        preprocess: open_clip's `preprocess_cfg` of the model.
    """
    # here, so that processes which are handed the result need not import all of open_clip
    from open_clip.transform import MaybeConvertMode, PreprocessCfg, image_transform_v2

    whole = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    last = (MaybeConvertMode, ToTensor)
    steps = takewhile(lambda step: not isinstance(step, last), whole.transforms)
    transform: Geometry = Compose(list(steps))
    return transform


def as_pixels(image: Image.Image) -> Pixels:
    """An RGB image -> (3, height, width) uint8."""
    return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))
