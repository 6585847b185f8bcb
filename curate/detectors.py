"""Detectors: an encoder, the views it is asked with, and the threshold that belongs to it.

A threshold without its detector means nothing: 0.95 finds no copy with one encoder and calls every
sunset a copy with another. Each default states what it rests on.
"""

from dataclasses import dataclass, replace

from curate.errors import CurateError


@dataclass(frozen=True)
class Detector:
    """How copies are looked for.

    Attributes:
        encoder: name for `curate.encoders.load_encoder`.
        threshold: cosine at or above which a pair counts as a near-duplicate.
        floor: lowest cosine that is stored.
        views: of a test image that are looked for.
        evidence: what the threshold rests on.
    """

    encoder: str
    threshold: float
    floor: float
    views: tuple[str, ...]
    evidence: str


BUILTIN = Detector(
    "builtin:layout", 0.82, 0.70, ("identity", "mirror"),
    "CIFAR-10 against its hand-labelled near-duplicates; see docs/benchmarks.md",
)  # fmt: skip

_FAMILIES = {
    "builtin:": BUILTIN,
    "open_clip:": Detector(
        "", 0.95, 0.85, ("identity", "mirror"),
        "a convention in the field, not calibrated: CLIP vectors find few true copies",
    ),
    "timm:": Detector("", 0.95, 0.85, ("identity", "mirror"), "a convention, not calibrated"),
    "torchscript:": Detector(
        "", 0.75, 0.60, ("identity", "mirror"),
        "90 % precision on DISC for SSCD vectors, as published by Pizzi et al., CVPR 2022",
    ),
}  # fmt: skip


def find_detector(name: str) -> Detector:
    """The detector of a name such as `builtin:layout` or `open_clip:ViT-B-32/openai`.

    Raises:
        CurateError: no family has that prefix.
    """
    for prefix, detector in _FAMILIES.items():
        if name.startswith(prefix):
            return replace(detector, encoder=name)
    raise CurateError(
        f"--detector {name}: one that starts with {', '.join(_FAMILIES)} was expected."
    )
