"""Image encoders under one protocol, loaded by name.

| name | what it is |
| --- | --- |
| `builtin:layout` | shipped with the product: computed from pixels, nothing is trained |
| `builtin:copy` | shipped with the product: a small network trained to find copies |
| `builtin:tiny-clip` | shipped with the product: a CLIP model of 32 px trained on CIFAR-10 |
| `open_clip:ARCH/TAG` | an open_clip model with published weights, for example `ViT-B-32/openai` |
| `open_clip:ARCH/random` | the same with random weights (seed 0), for a dry run |
| `open_clip:ARCH` or `ARCH/TAG` with `weights=FILE` | weights from a local file |
| `open_clip:local-dir` with `weights=DIR` | a folder with open_clip_config.json and weights |
| `timm:NAME` | pooled features of a timm model; `/random` and `weights=FILE` as above |
| `sscd:NAME` | a copy detector of Pizzi et al., from a published TorchScript file |
| `isc:ft_v107` | Yokoo's copy detector, from the published checkpoint; `/random` as above |
| `torchscript:PATH?size=320&resize=square` | any other TorchScript file |
| `phash:phash`, `phash:dhash`, `phash:whash` | perceptual hashes as vectors of signs |

With `whiten=VECTORS` each is wrapped, its vectors are whitened, and its name ends in `+white`.

Weights are never random unless the name says so. An installed package may bring further prefixes,
see `curate.extensions`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import re
from dataclasses import replace
from pathlib import PurePath
from types import FunctionType
from typing import TYPE_CHECKING

import numpy as np

from curate.encoders.base import (
    DECODINGS,
    EXACT,
    SCALED,
    WHITENED,
    Encoder,
    EncoderSpec,
    TextEncoder,
    decoding_of,
    least_side,
    nearest,
    normalise,
    scaled_side,
)
from curate.errors import CurateError
from curate.extensions import extension, origin, package
from curate.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

__all__ = [
    "EXACT",
    "SCALED",
    "WHITENED",
    "Encoder",
    "EncoderSpec",
    "TextEncoder",
    "cached_encoder",
    "decoding_of",
    "encoder_slug",
    "fingerprint",
    "least_side",
    "library_versions",
    "load_encoder",
    "normalise",
]

_LIBRARIES = {
    "builtin": ("numpy", "pillow"),
    "isc": ("numpy", "pillow", "timm", "torch"),
    "open_clip": ("numpy", "open_clip_torch", "pillow", "torch", "torchvision"),
    "phash": ("imagehash", "numpy", "pillow", "pywavelets", "scipy"),
    "sscd": ("numpy", "pillow", "torch"),
    "timm": ("numpy", "pillow", "timm", "torch", "torchvision"),
    "torchscript": ("numpy", "pillow", "torch"),
}


def load_encoder(spec: EncoderSpec) -> Encoder:
    """Load the encoder that a spec names; each call loads anew (see `cached_encoder`).

    The built-in encoder computes in exact integers on the CPU whatever device and precision say.

    Raises:
        CurateError: unknown name (with the nearest known one), missing or unfit weights.
    """
    prefix, separator, rest = spec.name.partition(":")
    loader = (_LOADERS.get(prefix) or _brought(prefix)) if separator else None
    if loader is None:
        raise CurateError(
            f"encoder {spec.name!r}: a name is PREFIX:NAME with a known prefix"
            f"{nearest(prefix, _LIBRARIES)}; prefixes: {', '.join(_LIBRARIES)}"
        )
    if not rest:
        raise CurateError(f"encoder {spec.name!r}: nothing follows {prefix}:")
    encoder = _decoding(loader(_fetched(spec)), spec)
    if spec.whiten is None:
        return encoder
    from curate.encoders.whitening import load_whitened

    return load_whitened(encoder, spec)


def _decoding(encoder: Encoder, spec: EncoderSpec) -> Encoder:
    """The encoder, with JPEGs decoded as the spec says."""
    if spec.decode not in DECODINGS:
        raise CurateError(f"decode {spec.decode!r} of encoder {spec.name}: choose from {DECODINGS}")
    if spec.decode == EXACT:
        return encoder
    from curate.encoders.layout import SCALED_SIDE, LayoutEncoder
    from curate.encoders.network import NetworkEncoder

    if isinstance(encoder, LayoutEncoder):
        return LayoutEncoder(SCALED_SIDE)
    if isinstance(encoder, NetworkEncoder):
        return replace(encoder, least_side=scaled_side(encoder.input_shape))
    if least_side(encoder) is None:
        raise CurateError(
            f"decode {SCALED} of encoder {spec.name}: it reads whole images; say {EXACT}"
        )
    return encoder


def _brought(prefix: str) -> Callable[[EncoderSpec], Encoder] | None:
    """The function of an installed package that loads encoders of a prefix."""
    return extension("encoders", prefix, FunctionType)


def _fetched(spec: EncoderSpec) -> EncoderSpec:
    """The same with weights on this machine, where they are given by a URL."""
    return spec if spec.weights is None else replace(spec, weights=str(local_path(spec.weights)))


@functools.lru_cache(maxsize=2)
def cached_encoder(spec: EncoderSpec) -> Encoder:
    """The encoder of a spec, loaded once per process; two stay, a detector and its verifier."""
    return load_encoder(spec)


def _load_clip(spec: EncoderSpec) -> Encoder:
    from curate.encoders.clip import load_clip

    return load_clip(spec)


def _load_timm(spec: EncoderSpec) -> Encoder:
    from curate.encoders.timm_net import load_timm

    return load_timm(spec)


def _load_torchscript(spec: EncoderSpec) -> Encoder:
    from curate.encoders.torchscript import load_torchscript

    return load_torchscript(spec)


def _load_sscd(spec: EncoderSpec) -> Encoder:
    from curate.encoders.torchscript import load_sscd

    return load_sscd(spec)


def _load_isc(spec: EncoderSpec) -> Encoder:
    from curate.encoders.isc import load_isc

    return load_isc(spec)


def _load_hash(spec: EncoderSpec) -> Encoder:
    from curate.encoders.hashes import load_hash

    return load_hash(spec)


def _load_builtin(spec: EncoderSpec) -> Encoder:
    known = ("builtin:layout", "builtin:copy", "builtin:tiny-clip")
    if spec.name not in known:
        raise CurateError(
            f"encoder {spec.name!r} is unknown{nearest(spec.name, known)}; the built-in ones are "
            f"{', '.join(known)}"
        )
    if spec.weights is not None:
        raise CurateError(f"weights {spec.weights}: encoder {spec.name} brings its own")
    if spec.name == "builtin:copy":
        from curate.encoders.copy_encoder import load_copy

        return load_copy(spec)
    if spec.name == "builtin:tiny-clip":
        return _load_clip(spec)
    from curate.encoders.layout import LayoutEncoder

    return LayoutEncoder()


_LOADERS: dict[str, Callable[[EncoderSpec], Encoder]] = {
    "builtin": _load_builtin,
    "isc": _load_isc,
    "open_clip": _load_clip,
    "phash": _load_hash,
    "sscd": _load_sscd,
    "timm": _load_timm,
    "torchscript": _load_torchscript,
}


def encoder_slug(name: str) -> str:
    """Folder-safe name of an encoder: letters, digits, dot, dash and underscore, 100 at most.

    A file's folders are left out, so the same model has the same slug on every machine.
    `open_clip:ViT-B-32/openai` becomes `open_clip-ViT-B-32-openai`.
    """
    prefix, _, rest = name.partition(":")
    if prefix == "torchscript":
        path, question, options = rest.partition("?")
        rest = PurePath(path).name + question + options
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{prefix}-{rest}" if rest else prefix)
    slug = words.strip("-.")
    if not slug:
        raise CurateError(f"encoder name {name!r} holds no letter or digit")
    if len(slug) <= 100:  # noqa: PLR2004 - file systems allow 255, paths need the rest
        return slug
    return f"{slug[:83]}-{hashlib.sha256(slug.encode()).hexdigest()[:16]}"


def fingerprint(encoder: Encoder) -> dict[str, object]:
    """What decides an encoder's vectors, JSON-able and equal in every process.

    Keys: `name`; `dim`; `weights` (sha256, so precision shows too); `preprocessing` as stated;
    `probe`, the sha256 of the preprocessed probe image, which changes when a library resizes
    otherwise than it says. Versions of libraries are no part of it: vectors of last year can be
    compared with those of today as long as the same images come out of the preprocessing.
    """
    probe = np.ascontiguousarray(encoder.preprocess(probe_image()))
    prefix = encoder.name.partition(":")[0]
    header = f"{probe.dtype.str}\0{probe.shape}\0".encode()
    return {
        "name": encoder.name,
        "dim": encoder.dim,
        "weights": encoder.weights_digest(),
        # Through JSON, so that it equals what is read back from a manifest: lists, no tuples.
        "preprocessing": json.loads(json.dumps(encoder.preprocessing())),
        "probe": hashlib.sha256(header + probe.tobytes()).hexdigest(),
        **({} if prefix in _LOADERS else origin("encoders", prefix)),
    }


def library_versions(encoder: Encoder) -> dict[str, str]:
    """Versions of the libraries that compute an encoder's vectors, by distribution name."""
    prefix = encoder.name.partition(":")[0]
    brought = None if prefix in _LIBRARIES else package("encoders", prefix)
    own = (brought,) if brought else ()
    libraries = _LIBRARIES.get(prefix, ("numpy", "pillow", *own))
    if encoder.name.startswith("builtin:copy"):  # the layout needs no torch
        libraries = (*libraries, "torch")
    if encoder.name == "builtin:tiny-clip":
        libraries = _LIBRARIES["open_clip"]
    return {library: importlib.metadata.version(library) for library in libraries}


def probe_image() -> Image:
    """A fixed RGB image, 431 x 347, with gradients, fine texture and hard edges."""
    from PIL import Image

    y, x = np.mgrid[0:347, 0:431]
    planes = [(3 * x + y) % 256, (x * y // 7) % 256, np.where((x // 29 + y // 31) % 2, 230, 15)]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))
