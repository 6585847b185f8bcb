"""What the torch encoders share: devices, fixed-shape batches, safe checkpoints, digests.

Why the batches have one shape. Matrix and convolution kernels choose their blocking, and with it
the order of summation, by the shape of the batch and the number of threads. Measured on CPU in
fp32, the same image differs in its last bits between batches of 1 and 8 (ViT-B-32), 8 and 16
(RN50), and between 1 and 2 threads (RN50, ResNet-10-T); with 2 threads and a batch of 5 even its
place in the batch shows. With one thread and one shape no difference was found, and none in bf16.

So on CPU a model always sees `CPU_MICRO_BATCH` images, the last ones padded with zeros, on one
thread; parallelism comes from several worker processes. For images of 224 pixels larger batches
are no faster per core; for 64 pixels they are, by a fifth, and for 32 twofold. On CUDA it always
sees `batch_size` images, with TF32 and autotuning off. Another kind of processor or another version
of torch may still give other last bits.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.encoders.base import (
    DEVICES,
    PRECISIONS,
    EncoderSpec,
    brief,
    normalise,
    stated_decoding,
)
from curate.errors import CurateError
from curate.hardware import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

CPU_MICRO_BATCH = 8
CPU_BATCH = 32
CUDA_BATCH = 256


@dataclass(frozen=True)
class Runtime:
    """Where and in which shape a network runs."""

    device: str
    precision: str
    compile: bool
    batch_size: int
    micro_batch: int

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the network's input and of its large weights."""
        import torch

        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def resolve_runtime(spec: EncoderSpec) -> Runtime:
    """Check the parts of a spec that all networks share.

    Raises:
        CurateError: unknown precision or device, no CUDA device, a batch size below one.
    """
    import torch

    for key, value, known in (
        ("precision", spec.precision, PRECISIONS),
        ("device", spec.device, DEVICES),
    ):
        if value not in known:
            raise CurateError(f"{key} {value!r} of encoder {spec.name}: choose from {known}")
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise CurateError(f"device 'cuda' of encoder {spec.name}: torch sees no CUDA device here")
    device = spec.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = spec.batch_size
    if batch is None:
        batch = CUDA_BATCH if device == "cuda" else CPU_BATCH
    if batch < 1:
        raise CurateError(f"batch_size {batch} of encoder {spec.name}: must be at least 1")
    micro = batch if device == "cuda" else CPU_MICRO_BATCH
    return Runtime(device, spec.precision, spec.compile, batch, micro)


@contextlib.contextmanager
def seeded_init() -> Iterator[None]:
    """Random initial weights come from seed 0, and the caller's generator does not notice."""
    import torch

    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reseed the CUDA generators too, which fork_rng leaves alone here.
        torch.default_generator.manual_seed(0)
        yield


@contextlib.contextmanager
def reproducible(device: str) -> Iterator[None]:
    """One CPU thread, or CUDA without TF32 and autotuning, and the former settings afterwards."""
    import torch

    if device == "cpu":
        with one_thread():
            yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before


@dataclass(frozen=True)
class NetworkEncoder:
    """An `Encoder` around a torch module in evaluation mode.

    Attributes:
        module: holds the weights; its state dict is what the digest is taken of.
        forward: (micro_batch, *input_shape) tensor on the device -> (micro_batch, dim) tensor.
        transform: RGB PIL image -> array of `input_shape`.
        stated: what `preprocessing` says of whole images.
        least_side: see `curate.encoders.base.least_side`.
    """

    name: str
    dim: int
    input_shape: tuple[int, ...]
    runtime: Runtime
    module: torch.nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]
    transform: Callable[[Image], NDArray[np.float32]]
    stated: dict[str, object]
    least_side: int | None = field(default=None, kw_only=True)

    @property
    def batch_size(self) -> int:
        """Images per call, see `Encoder`."""
        return self.runtime.batch_size

    @property
    def input_dtype(self) -> np.dtype[np.generic]:
        """Networks read float32 pixels."""
        return np.dtype(np.float32)

    def preprocess(self, image: Image) -> NDArray[np.generic]:
        """RGB PIL image -> float32 array of `input_shape`."""
        return self.transform(image)

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """(n, *input_shape) float32 -> (n, dim) float32 unit rows, as `Encoder` promises.

        Raises:
            ValueError: the batch has another shape.
        """
        if batch.shape[1:] != self.input_shape or batch.ndim != len(self.input_shape) + 1:
            raise ValueError(f"{self.name} takes (n, *{self.input_shape}), not {batch.shape}")
        return run_batches(self.forward, batch, self.dim, self.runtime)

    def weights_digest(self) -> str:
        """Sha256 (hex) of the state dict in the precision that is used, computed once."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        return state_digest(self.module.state_dict())

    def preprocessing(self) -> dict[str, object]:
        """Statement of the transform."""
        return {**self.stated, **stated_decoding(self.least_side)}


def run_batches(
    forward: Callable[[torch.Tensor], torch.Tensor],
    batch: NDArray[np.generic],
    dim: int,
    runtime: Runtime,
) -> NDArray[np.float32]:
    """(n, *shape) -> (n, dim) float32 unit rows, through batches of one fixed shape."""
    import torch

    size = runtime.micro_batch
    features = np.empty((len(batch), dim), dtype=np.float32)
    with reproducible(runtime.device), torch.inference_mode():
        for start in range(0, len(batch), size):
            chunk = torch.from_numpy(np.ascontiguousarray(batch[start : start + size]))
            # A fresh torch buffer is aligned alike every time; a numpy slice is not, and
            # vector kernels may sum in another order from an odd address.
            padded = torch.zeros((size, *chunk.shape[1:]), dtype=chunk.dtype)
            padded[: len(chunk)] = chunk
            rows = forward(padded.to(runtime.device))[: len(chunk)]
            features[start : start + size] = rows.float().cpu().numpy()
    return normalise(features)


def output_width(
    forward: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
    runtime: Runtime,
    name: str,
) -> int:
    """Width of the features, by one forward pass.

    Raises:
        CurateError: the network refuses such an image, or answers with anything but (1, d).
    """
    import torch

    try:
        with reproducible(runtime.device), torch.inference_mode():
            features = forward(torch.zeros((1, *shape), device=runtime.device))
    except (RuntimeError, ValueError, TypeError) as error:
        raise CurateError(f"{name}: refuses an image of shape {shape} ({brief(error)})") from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 1:  # noqa: PLR2004
        raise CurateError(f"{name}: does not answer one image with one vector (1, d)")
    return int(features.shape[1])


def image_forward(
    features: Callable[[torch.Tensor], torch.Tensor], runtime: Runtime
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network's features of images of any dtype; compiled where that is asked for."""
    import torch

    def forward(images: torch.Tensor) -> torch.Tensor:
        return features(images.to(runtime.dtype))

    return torch.compile(forward, dynamic=False) if runtime.compile else forward


def settle(module: torch.nn.Module, runtime: Runtime) -> torch.nn.Module:
    """Evaluation mode, on the device; convolutions in channels-last order, which is faster."""
    import torch

    module.eval().requires_grad_(requires_grad=False).to(runtime.device)
    return module.to(memory_format=torch.channels_last)


def state_digest(state: dict[str, torch.Tensor]) -> str:
    """Sha256 (hex) over name, dtype, shape and raw bytes of every tensor, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint (.safetensors, or .pt/.pth/.bin without any pickled code).

    A checkpoint of a training run is unwrapped: its `state_dict`, without `module.` prefixes.

    Raises:
        CurateError: missing, unreadable, or holding anything but tensors and plain values.
    """
    state = _load_mapping(path)
    if isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    if not state or not all(hasattr(value, "dtype") for value in state.values()):
        raise CurateError(f"{path}: holds no state dict (a mapping of names to tensors)")
    return state


def require_same_sizes(module: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Refuse what the model libraries resize in silence: another image size or text length.

    Raises:
        CurateError: a tensor of the file has another number of entries than the module's.
    """
    for key, tensor in module.state_dict().items():
        if key in state and state[key].numel() != tensor.numel():
            raise CurateError(
                f"{path}: {key} has shape {tuple(state[key].shape)}, the model has "
                f"{tuple(tensor.shape)}: these weights belong to another image size or text "
                "length; name the architecture that they were made for"
            )


def _load_mapping(path: Path) -> dict[str, Any]:
    import safetensors
    import safetensors.torch
    import torch

    if not path.is_file():
        raise CurateError(f"weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CurateError(
            f"{path}: refused, it holds pickled code and not only tensors (or is cut short); "
            "save its state dict as .safetensors where you trust it"
        ) from error
    except (OSError, EOFError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise CurateError(
            f"{path}: not a readable checkpoint ({brief(error)}); give a .safetensors file, "
            "or a .pt file written by torch.save(model.state_dict())"
        ) from error
    if not isinstance(loaded, dict):
        raise CurateError(f"{path}: holds a {type(loaded).__name__}, not a state dict")
    return loaded
