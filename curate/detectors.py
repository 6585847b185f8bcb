"""Detectors: an encoder, the views it is asked with, and the threshold that belongs to it.

A threshold without its detector means nothing: 0.95 finds no copy with one encoder and calls every
sunset a copy with another. Each default states what it rests on. Whitening or normalising scores
changes what a number means, so with these a threshold has to be given.
"""

import difflib
from dataclasses import dataclass, replace

from curate.encoders.base import WHITENED
from curate.errors import CurateError
from curate.extensions import extension, extensions

_USUAL_VIEWS = ("identity", "mirror")


@dataclass(frozen=True)
class Detector:
    """How copies are looked for.

    Attributes:
        encoder: name for `curate.encoders.load_encoder`.
        threshold: cosine at or above which a pair counts as a near-duplicate.
        floor: lowest cosine that is stored.
        views: of a test image that are looked for; see `curate.views`.
        evidence: what the threshold rests on.
        verify: who takes a second look at candidates unless told otherwise, or None; see
            `curate.verification.verifiers`.
    """

    encoder: str
    threshold: float
    floor: float
    views: tuple[str, ...]
    evidence: str
    verify: str | None = None


LAYOUT = Detector(
    "builtin:layout", 0.82, 0.70, _USUAL_VIEWS,
    "CIFAR-10 against its hand-labelled near-duplicates; see docs/benchmarks.md",
)  # fmt: skip

COPY = Detector(
    "builtin:copy", 0.82, 0.60, _USUAL_VIEWS,
    "for use without a second look; by it, 0.5 of the aligned pixels' score decides. See "
    "docs/model-card.md",
    verify="pixels",
)  # fmt: skip

_CONVENTION = (
    "a convention in the field, not calibrated. CLIP vectors find few true copies: B/32 at "
    "0.96 has precision 0.9 at recall 0.02 on DataComp's copy test"
)
_TINY_CLIP = Detector("builtin:tiny-clip", 0.95, 0.85, _USUAL_VIEWS, _CONVENTION)

DEFAULT = COPY
"""What looks for copies unless told otherwise."""


def _sscd(name: str, evidence: str) -> Detector:
    return Detector(f"sscd:{name}", 0.75, 0.60, _USUAL_VIEWS, evidence)


def _hash(name: str, distance: int, floor: int, evidence: str) -> Detector:
    """A hash of 64 bits by Hamming distances; see `curate.encoders.hashes.cosine`."""
    numbers = (1 - distance / 32, 1 - floor / 32)
    return Detector(
        f"phash:{name}", *numbers, _USUAL_VIEWS, f"Hamming distance <= {distance}: {evidence}"
    )


_P90 = (
    "90 % precision on DISC at this cosine, as published by Pizzi et al., CVPR 2022, whose "
    "evaluation keeps the aspect at 288; here 320 x 320, their other setting"
)
_AS_MIXUP = "published for disc_mixup on DISC (90 % precision), not for this model"

_NAMED = {
    detector.encoder: detector
    for detector in (
        COPY,
        LAYOUT,
        _TINY_CLIP,
        _sscd("disc_mixup", _P90),
        *(
            _sscd(name, _AS_MIXUP)
            for name in (
                "disc_large", "disc_advanced", "disc_blur",
                "imagenet_mixup", "imagenet_advanced", "imagenet_blur",
            )
        ),
        Detector(
            "isc:ft_v107", 0.604169, 0.50, _USUAL_VIEWS,
            "precision 0.9 at recall 0.8 on ISC 2021; DataComp's decontamination (Gadre et al., "
            "2023, appendix F)",
        ),
        _hash(
            "phash", 8, 12,
            "on CIFAR-10 it flags 480 of 10,000 test images with 57 % of the labelled "
            "near-duplicates, against 1,369 and 72 % at 10, imagededup's default",
        ),
        _hash(
            "dhash", 8, 12,
            "on CIFAR-10 it flags 408 of 10,000 test images with 55 % of the labelled "
            "near-duplicates, against 1,156 and 73 % at 10, imagededup's default",
        ),
        _hash(
            "whash", 0, 4,
            "on CIFAR-10 it flags 268 of 10,000 test images with 9 % of the labelled "
            "near-duplicates, and 2,707 with 55 % at 4: unfit to decide alone",
        ),
    )
}  # fmt: skip

_FAMILIES = {
    "open_clip:": Detector(
        "open_clip:ARCH/TAG", 0.95, 0.85, _USUAL_VIEWS, _CONVENTION
    ),
    "timm:": Detector(
        "timm:NAME", 0.95, 0.85, _USUAL_VIEWS, "a convention, not calibrated"
    ),
    "torchscript:": Detector(
        "torchscript:FILE", 0.75, 0.60, _USUAL_VIEWS,
        "90 % precision on DISC for SSCD vectors, as published by Pizzi et al., CVPR 2022; of "
        "another model nothing is known",
    ),
}  # fmt: skip
"""Detectors of any model or file of a kind, by the beginning of their names."""

_PREFIXES = ("builtin:", *_FAMILIES, "sscd:", "isc:", "phash:")
_RANDOM = "/random"


def find_detector(name: str) -> Detector:
    """The detector of a name such as `builtin:layout` or `open_clip:ViT-B-32/openai`.

    The name of an encoder with whitening has the numbers of the encoder without. What is not
    shipped may be brought by an installed package, see `curate.extensions`.

    Raises:
        CurateError: there is none of that name.
    """
    plain = name.removesuffix(WHITENED).removesuffix(_RANDOM)
    if plain in _NAMED:
        return replace(_NAMED[plain], encoder=name)
    for prefix, detector in _FAMILIES.items():
        if name.startswith(prefix):
            return replace(detector, encoder=name)
    brought = extension("detectors", plain.partition(":")[0], Detector)
    if brought is not None:
        return replace(brought, encoder=name)
    close = difflib.get_close_matches(name, [*_NAMED, *_FAMILIES], n=1)
    raise CurateError(
        f"--detector {name}: one that starts with {', '.join(_PREFIXES)} was expected, as `curate "
        "detectors` lists them" + (f"; did you mean {close[0]}?" if close else ".")
    )


def all_detectors() -> list[Detector]:
    """Every detector by name, one for each family that takes any model or file, and extensions."""
    shipped = [prefix.removesuffix(":") for prefix in _PREFIXES]
    brought = extensions("detectors", Detector, shipped)
    return [*_NAMED.values(), *_FAMILIES.values(), *brought.values()]
