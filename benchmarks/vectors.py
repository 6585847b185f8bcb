"""Vectors to measure searches on: made up like those of CLIP, isotropic, or real with noise."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

Vectors = NDArray[np.float16]
NEAR = (0.7, 1.0)
"""Cosines of the copies that are planted among the queries."""


def drawn(kind: str, count: int, dim: int, seed: int) -> torch.Tensor:
    """Unit vectors: (count, dim) float32.

    "clip": a mean cosine of one half and variances that fall as 1 / rank, in a turned basis, as
    image vectors of CLIP have; "isotropic": equal in all directions.
    """
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    if kind == "clip":
        fixed = torch.Generator().manual_seed(99)
        spectrum = torch.arange(1, dim + 1) ** -0.5
        rows *= spectrum / spectrum.norm()
        mean = torch.randn(dim, generator=fixed)
        rows += mean / mean.norm()
        rows @= torch.linalg.qr(torch.randn(dim, dim, generator=fixed))[0]
    return rows.div_(rows.norm(dim=1, keepdim=True))


def sets(kind: str, queries: int, items: int, dim: int) -> tuple[Vectors, Vectors]:
    """Queries and items in float16; one query in a hundred is a near copy of some item."""
    base = np.empty((items, dim), np.float16)
    step = 1 << 16
    for at in range(0, items, step):
        base[at : at + step] = drawn(kind, min(step, items - at), dim, 1000 + at).half().numpy()
    asked = drawn(kind, queries, dim, 1)
    planted = queries // 100
    chance = torch.Generator().manual_seed(2)
    source = torch.randint(0, items, (planted,), generator=chance)
    cosine = NEAR[0] + (NEAR[1] - NEAR[0]) * torch.rand(planted, 1, generator=chance)
    rows = torch.from_numpy(base[source.numpy()]).float()
    rows /= rows.norm(dim=1, keepdim=True)
    away = torch.randn(planted, dim, generator=chance)
    away -= (away * rows).sum(dim=1, keepdim=True) * rows
    away /= away.norm(dim=1, keepdim=True)
    asked[:planted] = cosine * rows + (1 - cosine**2).sqrt() * away
    return asked.half().numpy(), base


def real(embeddings: Path, test: Path, queries: int, items: int) -> tuple[Vectors, Vectors]:
    """Vectors of two embeddings folders, repeated with noise of a tenth of their length."""
    from curate.parts import open_embeddings

    base, asked = (np.asarray(open_embeddings(place).all_vectors()) for place in (embeddings, test))
    generator = torch.Generator().manual_seed(3)
    out = np.empty((items, base.shape[1]), np.float16)
    for at in range(0, items, len(base)):
        rows = torch.from_numpy(base[: items - at]).float()
        noise = torch.randn(rows.shape, generator=generator) * rows.norm(dim=1, keepdim=True)
        scale = 0.1 * rows.shape[1] ** -0.5 if at else 0.0
        out[at : at + len(rows)] = (rows + scale * noise).half().numpy()
    return asked[:queries], out
