"""open_clip models: any architecture, published, local or random weights.

Preprocessing is the model's own evaluation transform, on the PIL image: the same resize on a
tensor moves vectors to a cosine of about 0.94, below a threshold for copies (clip-as-service#904).
A published tag also decides the activation (QuickGELU) that its weights were trained with.
"""

from __future__ import annotations

import functools
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.encoders.base import EncoderSpec, brief, nearest
from curate.encoders.hub import hub_file
from curate.encoders.network import (
    NetworkEncoder,
    Runtime,
    image_forward,
    read_state,
    require_same_sizes,
    resolve_runtime,
    run_batches,
    seeded_init,
    settle,
)
from curate.encoders.transforms import to_array
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from numpy.typing import NDArray

RANDOM = "random"
LOCAL_DIR = "local-dir"
TINY_CLIP = "builtin:tiny-clip"
TINY = Path(__file__).parent / "tiny_clip"
"""Folder of the model that is shipped; `train.tiny_clip` is its recipe."""


@dataclass(frozen=True)
class ClipEncoder(NetworkEncoder):
    """A `TextEncoder` around an open_clip model.

    Attributes:
        source: what open_clip calls the model, for its tokenizer.
    """

    source: str

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts -> (N, dim) float32 unit rows; a long text is cut to the model's context."""
        tokens = self.tokenizer(list(texts)).numpy() if texts else np.zeros((0, 1), np.int64)
        return run_batches(self._forward_text, tokens, self.dim, self.runtime)

    @functools.cached_property
    def tokenizer(self) -> Callable[[list[str]], torch.Tensor]:
        """Texts -> (n, context) int64 tokens of the model.

        Raises:
            CurateError: the tokenizer cannot be loaded.
        """
        import open_clip

        try:
            return open_clip.get_tokenizer(self.source)  # type: ignore[no-any-return]
        except (ImportError, OSError, ValueError, RuntimeError) as error:
            raise CurateError(f"{self.name}: no tokenizer ({brief(error)})") from error

    @property
    def _forward_text(self) -> Callable[[torch.Tensor], torch.Tensor]:
        model: Any = self.module
        forward: Callable[[torch.Tensor], torch.Tensor] = model.encode_text
        return forward


def load_clip(spec: EncoderSpec) -> ClipEncoder:
    """Load `open_clip:ARCH/TAG`, `ARCH/random`, `ARCH` with weights, `local-dir`, or the tiny one.

    Raises:
        CurateError: unknown architecture or tag, weights that are missing, unsafe or do not fit.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    runtime = resolve_runtime(spec)
    rest = spec.name.partition(":")[2]
    if rest == LOCAL_DIR or spec.name == TINY_CLIP:
        source = f"{LOCAL_DIR}:{TINY if spec.name == TINY_CLIP else _local_dir(spec)}"
        model = _create(spec, source, runtime, require_pretrained=True)
    else:
        source, _, tag = rest.partition("/")
        model = _named_model(spec, source, tag, runtime)
    config = dict(model.visual.preprocess_cfg)
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
    return ClipEncoder(
        name=spec.name,
        dim=int(open_clip.get_model_config(source)["embed_dim"]),
        input_shape=(3, int(height), int(width)),
        runtime=runtime,
        module=settle(model, runtime),
        forward=image_forward(model.encode_image, runtime),
        transform=to_array(transform),
        stated={"transform": "open_clip", **config},
        source=source,
    )


def _local_dir(spec: EncoderSpec) -> Path:
    if spec.weights is None:
        raise CurateError(f"encoder {spec.name}: give the model's folder as weights")
    folder = Path(spec.weights)
    if not (folder / "open_clip_config.json").is_file():
        raise CurateError(f"weights {folder}: no folder with open_clip_config.json in it")
    return folder


def _named_model(spec: EncoderSpec, arch: str, tag: str, runtime: Runtime) -> Any:
    import open_clip

    architectures = [*open_clip.list_models(), LOCAL_DIR]
    if arch not in architectures:
        raise CurateError(
            f"encoder {spec.name}: open_clip has no model {arch!r}{nearest(arch, architectures)}"
        )
    if tag == RANDOM:
        if spec.weights is not None:
            raise CurateError(f"weights {spec.weights}: encoder {spec.name} asks for random ones")
        return _create(spec, arch, runtime)
    published = _published(spec, arch, tag)
    path = Path(spec.weights) if spec.weights is not None else _download(spec, arch, published)
    state = read_state(path)  # refuses anything but tensors before open_clip opens the file
    model = _create(
        spec,
        arch,
        runtime,
        pretrained=str(path.absolute()),
        force_quick_gelu=bool(published.get("quick_gelu", False)),
        force_preprocess_cfg=published,
    )
    if spec.weights is not None:
        require_same_sizes(model, state, path)
    return model


def _published(spec: EncoderSpec, arch: str, tag: str) -> dict[str, Any]:
    """open_clip's entry for a tag: where its weights are, its preprocessing and activation."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not tag:
        if spec.weights is not None:
            return {}
        choices = ", ".join([*tags, RANDOM])
        raise CurateError(f"encoder {spec.name}: add /TAG ({choices}) or give a weights file")
    entry: dict[str, Any] = open_clip.get_pretrained_cfg(arch, tag)
    if not entry:
        raise CurateError(
            f"encoder {spec.name}: open_clip has no weights {tag!r} of {arch}"
            f"{nearest(tag, [*tags, RANDOM])}; tags: {', '.join([*tags, RANDOM])}"
        )
    return entry


def _download(spec: EncoderSpec, arch: str, published: dict[str, Any]) -> Path:
    repo, _, filename = published["hf_hub"].rpartition("/")
    filename = filename or "open_clip_pytorch_model.bin"
    safe = {"open_clip_pytorch_model.bin": "open_clip_model.safetensors"}.get(
        filename, str(Path(filename).with_suffix(".safetensors"))
    )
    return hub_file(
        repo,
        list(dict.fromkeys([safe, filename])),
        encoder=spec.name,
        dry_run=f"open_clip:{arch}/{RANDOM}",
    )


def _create(spec: EncoderSpec, source: str, runtime: Runtime, **options: Any) -> Any:
    import open_clip

    origin = f"weights {spec.weights} of {spec.name}" if spec.weights else f"encoder {spec.name}"
    try:
        with seeded_init():
            return open_clip.create_model(
                source,
                precision=runtime.precision,
                pretrained_text=False,  # else text towers of other libraries are downloaded
                weights_only=True,
                **options,
            )
    except pickle.UnpicklingError as error:
        raise CurateError(f"{origin}: refused, it holds pickled code") from error
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, ImportError) as error:
        raise CurateError(f"{origin}: {brief(error)}") from error
