"""TorchScript copy detectors: a file, and a stated preprocessing; SSCD by the published names.

Trust boundary: a TorchScript file is a program. torch.jit.load compiles and runs it inside this
process, and no option restricts it to tensors. Load only a file whose source you trust; its sha256
is the encoder's weights digest, so compare it with the published one.

Name: `torchscript:PATH?size=320&resize=square&mean=0.485,0.456,0.406&std=0.229,0.224,0.225`; what
follows the question mark may be left out and has these defaults, which are SSCD's own batched
setting (resize to 320 x 320 without regard to aspect, ImageNet mean and deviation). With
`resize=short` the short side becomes `size` and the centre is cut out, because vectors must not
depend on which images share a batch; SSCD's evaluation at 288 keeps the whole image instead.

`sscd:NAME` is one of the models that Pizzi et al. published with A Self-Supervised Descriptor for
Image Copy Detection (CVPR 2022), in that setting. They are on no hub: the file comes from
`weights`, or from where torch.hub would keep it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curate.encoders.base import EncoderSpec, brief, nearest
from curate.encoders.network import NetworkEncoder, output_width, resolve_runtime
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

RESIZES = ("square", "short")
MAX_SIZE = 4096

SSCD = {
    "disc_mixup": 512,
    "disc_large": 1024,
    "disc_blur": 512,
    "disc_advanced": 512,
    "imagenet_blur": 512,
    "imagenet_advanced": 512,
    "imagenet_mixup": 512,
}
"""Published models by name, and the width of their vectors."""
_SSCD_URL = "https://dl.fbaipublicfiles.com/sscd-copy-detection/"


@dataclass(frozen=True)
class PixelOptions:
    """Preprocessing of a TorchScript encoder."""

    size: int = 320
    resize: str = "square"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def stated(self, transform: str) -> dict[str, object]:
        """What `Encoder.preprocessing` says of it."""
        return {
            "transform": transform,
            "size": self.size,
            "resize": self.resize,
            "interpolation": "bilinear",
            "mean": list(self.mean),
            "std": list(self.std),
        }


@dataclass(frozen=True)
class ScriptEncoder(NetworkEncoder):
    """A `NetworkEncoder` whose digest covers the whole file, code and weights.

    Attributes:
        file_digest: sha256 (hex) of the file's bytes.
    """

    file_digest: str

    def weights_digest(self) -> str:
        """Sha256 (hex) of the file."""
        return self.file_digest


def load_torchscript(spec: EncoderSpec) -> ScriptEncoder:
    """Load `torchscript:PATH?...`; fp32 only, as a script may hold fp32 constants.

    Raises:
        CurateError: bad options, no such file, not TorchScript, not an image encoder.
    """
    path, options = parse_name(spec.name)
    if spec.weights is not None:
        raise CurateError(
            f"encoder {spec.name}: its name says the file, so leave weights {spec.weights} out"
        )
    _, question, query = spec.name.partition("?")
    return _load(spec, path, options, f"torchscript:{path.name}{question}{query}")


def sscd_weights(name: str) -> tuple[Path, str]:
    """Where the weights of `sscd:NAME` are looked for, and the address they are published at."""
    file = f"sscd_{name}.torchscript.pt"
    return _hub_folder() / file, _SSCD_URL + file


def load_sscd(spec: EncoderSpec) -> ScriptEncoder:
    """Load `sscd:NAME` from its weights file, or from torch.hub's folder; fp32 only.

    Raises:
        CurateError: unknown name, no such file, or not the model of that name.
    """
    name = spec.name.partition(":")[2]
    if name not in SSCD:
        raise CurateError(
            f"encoder {spec.name}: no published model{nearest(name, SSCD)}; "
            f"models: {', '.join(SSCD)}"
        )
    usual, url = sscd_weights(name)
    path = Path(spec.weights) if spec.weights else usual
    if not path.is_file():
        raise CurateError(
            f"encoder {spec.name}: {path} is not there. Download {url} (its publishers "
            "state no sha256; the manifest will hold that of your file) and give it with "
            "--weights PATH, or put it there"
        )
    encoder = _load(spec, path, PixelOptions(), spec.name)
    if encoder.dim != SSCD[name]:
        raise CurateError(
            f"{path}: gives vectors of width {encoder.dim}, but {spec.name} has {SSCD[name]}; "
            "this is another model"
        )
    return encoder


def _hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _load(spec: EncoderSpec, path: Path, options: PixelOptions, name: str) -> ScriptEncoder:
    if spec.precision == "bf16" or spec.compile:
        raise CurateError(
            f"encoder {spec.name}: a TorchScript file runs as it is, so leave out precision and "
            "compile"
        )
    runtime = resolve_runtime(spec)
    data = _read(path)
    module = _load_script(data, path, runtime.device)
    shape = (3, options.size, options.size)
    return ScriptEncoder(
        name=name,
        dim=output_width(module, shape, runtime, str(path)),
        input_shape=shape,
        runtime=runtime,
        module=module,
        forward=module,
        transform=functools.partial(to_pixels, options=options),
        stated=options.stated("torchscript"),
        file_digest=hashlib.sha256(data).hexdigest(),
    )


def parse_name(name: str) -> tuple[Path, PixelOptions]:
    """File and preprocessing out of `torchscript:PATH?key=value&...`.

    Raises:
        CurateError: unknown key, or a value out of range.
    """
    path, _, query = name.partition(":")[2].partition("?")
    readers: dict[str, Callable[[str], object]] = {
        "size": _size,
        "resize": _resize,
        "mean": _triple,
        "std": _positive_triple,
    }
    given: dict[str, object] = {}
    for key, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if key not in readers:
            raise CurateError(
                f"encoder {name}: unknown option {key!r}{nearest(key, readers)}; "
                f"options: {', '.join(readers)}"
            )
        try:
            given[key] = readers[key](value)
        except ValueError as error:
            raise CurateError(f"encoder {name}: {key}={value}: {error}") from error
    return Path(path), PixelOptions(**given)  # type: ignore[arg-type]


def to_pixels(image: Image, options: PixelOptions) -> NDArray[np.float32]:
    """RGB PIL image -> (3, size, size) float32, as torchvision's transforms would give it."""
    from PIL.Image import Resampling

    size, (width, height) = options.size, image.size
    if options.resize == "square":
        resized = image.resize((size, size), Resampling.BILINEAR)
    else:
        short = min(width, height)
        scaled = (int(size * width / short), int(size * height / short))
        left, top = (round((side - size) / 2.0) for side in scaled)
        resized = image.resize(scaled, Resampling.BILINEAR).crop(
            (left, top, left + size, top + size)
        )
    pixels = np.asarray(resized, dtype=np.float32) / np.float32(255)
    mean, std = (np.array(triple, dtype=np.float32) for triple in (options.mean, options.std))
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CurateError(f"TorchScript file {path}: {error.strerror}") from error


def _load_script(data: bytes, path: Path, device: str) -> torch.nn.Module:
    import torch

    load: Callable[..., torch.nn.Module] = torch.jit.load
    try:
        script = load(io.BytesIO(data), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise CurateError(f"{path}: not a TorchScript file ({brief(error)})") from error
    return script.eval().to(device)


def _size(value: str) -> int:
    size = int(value)
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"must lie in 1..{MAX_SIZE}")
    return size


def _resize(value: str) -> str:
    if value not in RESIZES:
        raise ValueError(f"must be one of {', '.join(RESIZES)}")
    return value


def _triple(value: str) -> tuple[float, ...]:
    numbers = tuple(float(part) for part in value.split(","))
    if len(numbers) != 3 or not np.isfinite(numbers).all():  # noqa: PLR2004 - red, green, blue
        raise ValueError("must be three numbers, as 0.5,0.5,0.5")
    return numbers


def _positive_triple(value: str) -> tuple[float, ...]:
    numbers = _triple(value)
    if min(numbers) <= 0:
        raise ValueError("must be above zero")
    return numbers
