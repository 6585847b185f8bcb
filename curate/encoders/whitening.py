"""Whitening: the directions in which background vectors vary are levelled before the cosine.

Let m be the mean of the background vectors, each of unit length, and C = V diag(l) V^T their
covariance. A vector x becomes W (x - m), scaled to unit length, with W = V diag(1 / sqrt(l')) V^T.
This is PCA whitening turned back by V: cosines are the same, and neither the signs nor the order
of the eigenvectors matter, so it is one matrix for one background. The eigenvalues are shrunk
towards their mean, l' = (1 - a) l + a mean(l), with a = d / (n + d) for n vectors of width d: next
to nothing for a large background, and much where n vectors cannot tell d variances. Whitening and
centring of descriptors: Jegou and Chum, Negative evidences and co-occurences in image retrieval
(ECCV 2012); Pizzi et al. (CVPR 2022) evaluate SSCD so.

All is float64 on one thread. The digest covers the background and not W, whose last bits may be
others on another machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from curate.background import Background, read_background
from curate.encoders.base import WHITENED, Encoder, EncoderSpec, least_side, normalise
from curate.encoders.network import Runtime, reproducible, run_batches
from curate.errors import CurateError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

_BLOCK = 64
"""Vectors that are mapped at a time; always as many, so that none depends on their number."""


@dataclass(frozen=True)
class Whitening:
    """A fitted whitening.

    Attributes:
        mean: (d,) float64.
        matrix: (d, d) float64, symmetric.
        shrinkage: a.
        count: n.
    """

    mean: torch.Tensor
    matrix: torch.Tensor
    shrinkage: float
    count: int

    def apply(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, d) unit rows -> (n, d) unit rows; a row has the same bits whatever the others are.

        A row that is not finite, or is the mean, has no direction and becomes NaN throughout.
        """

        def forward(rows: torch.Tensor) -> torch.Tensor:
            return (rows.double() - self.mean) @ self.matrix

        runtime = Runtime("cpu", "fp32", compile=False, batch_size=_BLOCK, micro_batch=_BLOCK)
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        return run_batches(forward, rows, rows.shape[1], runtime)


def fit_whitening(background: Background) -> Whitening:
    """Fit to background vectors, by their directions.

    Raises:
        CurateError: all of them are the same.
    """
    import torch

    with reproducible("cpu"):
        rows = torch.from_numpy(normalise(background.vectors)).double()
        count, dim = rows.shape
        mean = rows.mean(dim=0)
        rows -= mean
        values, axes = torch.linalg.eigh(rows.T @ rows / count)
        level = values.mean()
        if float(level) <= np.finfo(np.float32).eps ** 2:
            raise CurateError(
                f"--background {background.place}: all vectors are the same; give those of many "
                "different images."
            )
        shrinkage = dim / (count + dim)
        shrunk = (1 - shrinkage) * values.clamp(min=0) + shrinkage * level
        return Whitening(mean, (axes / shrunk.sqrt()) @ axes.T, shrinkage, count)


@dataclass(frozen=True)
class WhitenedEncoder:
    """An encoder whose vectors are whitened.

    Attributes:
        base: the encoder.
        whitening: fitted to vectors of it.
        background: these.
    """

    base: Encoder
    whitening: Whitening = field(repr=False)
    background: Background = field(repr=False)

    def whitened_background(self) -> Background:
        """The background vectors as the encoder would give them now."""
        units = normalise(self.background.vectors)
        return replace(self.background, vectors=self.whitening.apply(units))

    @property
    def name(self) -> str:
        """The encoder's, marked, as its vectors are no longer comparable with the encoder's own."""
        return self.base.name + WHITENED

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return self.base.dim

    @property
    def batch_size(self) -> int:
        """The encoder's."""
        return self.base.batch_size

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The encoder's."""
        return self.base.input_shape

    @property
    def input_dtype(self) -> np.dtype[np.generic]:
        """The encoder's."""
        return self.base.input_dtype

    @property
    def least_side(self) -> int | None:
        """The encoder's."""
        return least_side(self.base)

    def preprocess(self, image: Image) -> NDArray[np.generic]:
        """As the encoder does."""
        return self.base.preprocess(image)

    def encode(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """(n, *input_shape) -> (n, dim) float32 unit rows, whitened."""
        return self.whitening.apply(self.base.encode(batch))

    def weights_digest(self) -> str:
        """Sha256 (hex) of the encoder's weights and the background's vectors."""
        known = f"{self.base.weights_digest()} {self.background.digest}"
        return hashlib.sha256(known.encode()).hexdigest()

    def preprocessing(self) -> dict[str, object]:
        """The encoder's, and how the whitening was fitted."""
        fitted = {
            "background": self.background.digest,
            "vectors": self.whitening.count,
            "shrinkage": self.whitening.shrinkage,
        }
        return {**self.base.preprocessing(), "whitening": fitted}


def load_whitened(base: Encoder, spec: EncoderSpec) -> WhitenedEncoder:
    """Wrap an encoder with a whitening that is fitted to the vectors at `spec.whiten`.

    Raises:
        CurateError: these are missing, damaged, or of another encoder.
    """
    assert spec.whiten is not None
    facts = {"name": base.name, "dim": base.dim, "weights": base.weights_digest()}
    background = read_background(spec.whiten, facts)
    return WhitenedEncoder(base, fit_whitening(background), background)
