"""Who takes the second look.

* `pixels`: both pictures are aligned (`curate.verification.align`), and what is measured then is
  weighed, with the cosine of `builtin:copy`, by a logistic model that was fitted on planted copies.
  Its odds, as a share, become the score.
* any detector, such as `sscd:disc_mixup`: its cosine must reach its own threshold; the score of the
  first search stays.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from curate.detectors import COPY, find_detector
from curate.encoders import EncoderSpec, cached_encoder, fingerprint, probe_image
from curate.encoders.network import reproducible
from curate.verification import weights

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from curate.encoders import Encoder

PIXELS = "pixels"
NOBODY = "none"
PIXELS_THRESHOLD = 0.5
TOP = 10
AT_ONCE = 16
"""Pairs that `Verifier.score` takes at most."""


@dataclass(frozen=True)
class VerifierSpec:
    """All that decides on a second look; hashable, so that a worker keeps what it has loaded.

    Attributes:
        encoder: of a detector; its name alone counts for `pixels`.
        top: candidates of a test item that are looked at, the most similar ones.
    """

    encoder: EncoderSpec
    top: int = TOP

    def config(self) -> dict[str, Any]:
        """What the bytes of verified matches depend on."""
        return {"top": self.top, **cached_verifier(self).config()}


class Verifier(Protocol):
    """Looks at pairs of images.

    Attributes:
        shape: of what is kept of an image until it is compared.
        dtype: likewise.
        floor: lowest score that is not refused, where the score is the verifier's; None where that
            of the first search stays.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102 - the class docstring says it
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def floor(self) -> float | None: ...  # noqa: D102

    def config(self) -> dict[str, Any]:
        """JSON-able statement of all that its verdicts depend on."""
        ...

    def preprocess(self, image: Image.Image) -> NDArray[np.generic]:
        """RGB image -> what `describe` takes of it."""
        ...

    def describe(self, prepared: NDArray[Any]) -> NDArray[Any]:
        """Prepared images, at most `AT_ONCE` -> (n, *shape) of `dtype`; once for each image."""
        ...

    def score(
        self, queries: NDArray[Any], items: NDArray[Any], cosine: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score pairs of described images.

        Args:
            queries: (n, *shape) test images in the view that found the pair; at most `AT_ONCE`.
            items: (n, *shape) train images.
            cosine: (n,) score of the first search.

        Returns:
            (n,) score of the pair from now on; (n,) what `refusal` is asked about.
        """
        ...

    def refusal(self, value: float) -> str | None:
        """Why a pair with this value is no copy, or None."""
        ...


@functools.lru_cache(maxsize=2)
def cached_verifier(spec: VerifierSpec) -> Verifier:
    """The verifier of a spec, loaded once per process."""
    if spec.encoder.name == PIXELS:
        return PixelVerifier(cached_encoder(EncoderSpec(COPY.encoder)))
    threshold = find_detector(spec.encoder.name).threshold
    return DetectorVerifier(cached_encoder(spec.encoder), threshold)


@dataclass(frozen=True)
class PixelVerifier:
    """Aligns both pictures and compares their pixels.

    Attributes:
        encoder: `builtin:copy`, whose cosine is weighed too.
    """

    encoder: Encoder
    floor: float = weights.FLOOR

    @property
    def shape(self) -> tuple[int, ...]:
        """Planes first."""
        from curate.verification.align import SIDE

        return (3, SIDE, SIDE)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Bytes."""
        return np.dtype(np.uint8)

    def config(self) -> dict[str, Any]:
        """How pictures are aligned, the fitted weights, the network's digest, and a probe.

        The probe is the sha256 of a prepared picture: it changes when a library resizes otherwise.
        """
        from curate.verification.align import stated

        probe = hashlib.sha256(self.preprocess(probe_image()).tobytes()).hexdigest()
        return {
            "name": PIXELS,
            "floor": self.floor,
            "weights": weights.WEIGHTS,
            "network": self.encoder.weights_digest(),
            "alignment": stated(),
            "probe": probe,
        }

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """RGB image -> (3, 64, 64) uint8; the aspect ratio is ignored."""
        side = self.shape[-1]
        small = image.resize((side, side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(small, np.uint8).transpose(2, 0, 1))

    def describe(self, prepared: NDArray[Any]) -> NDArray[Any]:
        """The pixels themselves."""
        return prepared

    def score(
        self, queries: NDArray[Any], items: NDArray[Any], cosine: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Odds of being a copy, as a share: the score, and what decides."""
        import torch

        from curate.verification.align import compare, equal

        del cosine
        with reproducible("cpu"), torch.inference_mode():
            sides = [torch.from_numpy(np.ascontiguousarray(side)) for side in (queries, items)]
            pictures = [_padded(side).float() / 255 for side in sides]
            measures = compare(pictures[0], pictures[1]).numpy()[: len(queries)]
            same = equal(pictures[0], pictures[1]).numpy()[: len(queries)]
        ours, theirs = (self._vectors(side) for side in (queries, items))
        share = weights.share(measures, (ours * theirs).sum(axis=1))
        share = np.where(same, np.float32(1), share)
        return share, share

    def _vectors(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """`builtin:copy` vectors of prepared pictures."""
        from curate.encoders.copy_encoder import scaled

        return self.encoder.encode(scaled(pictures)).astype(np.float64)

    def refusal(self, value: float) -> str | None:
        """Below the floor."""
        if value >= self.floor:
            return None
        return f"pixels do not agree once aligned ({value:.3f} < {self.floor:g})"


def _padded(pictures: torch.Tensor) -> torch.Tensor:
    """`AT_ONCE` pictures: kernels choose their order of summation by the shape of a batch."""
    import torch

    missing = torch.zeros((AT_ONCE - len(pictures), *pictures.shape[1:]), dtype=pictures.dtype)
    return torch.cat([pictures, missing])


@dataclass(frozen=True)
class DetectorVerifier:
    """Asks another detector."""

    encoder: Encoder
    threshold: float
    floor: None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a vector."""
        return (self.encoder.dim,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a vector."""
        return np.dtype(np.float32)

    def config(self) -> dict[str, Any]:
        """The encoder's fingerprint and the threshold."""
        return {**fingerprint(self.encoder), "threshold": self.threshold}

    def preprocess(self, image: Image.Image) -> NDArray[np.generic]:
        """The encoder's."""
        return self.encoder.preprocess(image)

    def describe(self, prepared: NDArray[Any]) -> NDArray[Any]:
        """Their vectors."""
        return self.encoder.encode(prepared)

    def score(
        self, queries: NDArray[Any], items: NDArray[Any], cosine: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The score stays; the second cosine decides."""
        second = (queries.astype(np.float64) * items).sum(axis=1).astype(np.float32)
        return cosine, second

    def refusal(self, value: float) -> str | None:
        """Below the detector's threshold, or no number."""
        if value >= np.float32(self.threshold):
            return None
        return f"{self.encoder.name}: {value:.3f} < {self.threshold:g}"
