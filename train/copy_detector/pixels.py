"""`python -m train.copy_detector.pixels`: fit the weights of the `pixels` verifier.

Positives are mildly edited copies against their originals, as most copies on the web are mild, and
some heavily edited ones. Negatives are the nearest neighbours of the same pictures among all
others, by the trained network: what a first search would propose wrongly. Series of drawings of one
plan are among the pictures, so that many of their negatives look alike and are certainly no copies.
Of other pictures that is not certain: they hold natural duplicates, so the fiftieth of these
negatives that looks most like copies is left out and the fit repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from curate.encoders import EncoderSpec
from curate.encoders.copy_encoder import NAME, load_copy
from curate.files import write_json
from curate.verification.align import compare
from curate.verification.weights import WEIGHTS_FILE, terms
from train.copy_detector.augment import HEAVY, MILD, Strength, originals, views
from train.copy_detector.sources import blobs, drawings, photographs, small, takes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRIMMED = 0.02
_RIDGE = 1e-3
_ROUNDS = 3
_HIGH = 0.997
_SEED = 11
_HEAVY_WEIGHT = 0.25


def main() -> None:
    """Gather, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", nargs="+", required=True, help="CIFAR-10 training shards")
    parser.add_argument("--photos", nargs="+", required=True, help="clothing-00000.tar")
    parser.add_argument("--out", type=Path, default=Path(WEIGHTS_FILE))
    parser.add_argument("--count", type=int, default=1500, help="pictures of each source at most")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rng = np.random.default_rng(_SEED)
    generator = torch.Generator().manual_seed(_SEED)
    count = arguments.count
    pools = [
        (small(arguments.cifar10, 32)[:, 0], False),
        (photographs(arguments.photos, rng)[:, 1], False),
        (drawings(count // 3, _SEED)[:, 0], False),
        (takes(count, _SEED), True),
        (blobs(count // 2, _SEED), True),
    ]
    rows = [
        (*pairs(pool, count, strength, generator), weight, is_sure)
        for pool, is_sure in pools
        for strength, weight in ((MILD, 1.0), (None, 1.0), (HEAVY, _HEAVY_WEIGHT))
    ]
    x = np.concatenate([found for found, *_ in rows])
    is_copy = np.concatenate([labels for _, labels, *_ in rows])
    sizes = [len(found) for found, *_ in rows]
    weight = np.repeat([weight for *_, weight, _ in rows], sizes)
    weights, offset = fit(x, is_copy, weight, np.repeat([row[-1] for row in rows], sizes))
    write_json(
        arguments.out,
        {"weights": [round(w, 6) for w in weights.tolist()], "offset": round(offset, 6)},
    )


@torch.inference_mode()
def pairs(
    pool: NDArray[np.uint8], count: int, strength: Strength | None, generator: torch.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Terms of edited pictures with their originals and with their nearest other picture.

    Args:
        pool: (n, side, side, 3) uint8; the first `count` are edited.
        count: of pictures that are edited.
        strength: of the edits; None: unedited pictures, and their nearest other picture alone.
        generator: where randomness comes from.

    Returns:
        What is weighed of each pair, (n, 22); (n,) Boolean, true for copies.
    """
    pictures = torch.from_numpy(pool).permute(0, 3, 1, 2)
    parts = torch.split(pictures, 500)
    plain = torch.cat([_whole(originals(part.float() / 255)) for part in parts])
    edited = plain[:count]
    if strength is not None:
        edited = _whole(views(pictures[:count].float() / 255, strength, generator))
    ours, theirs = _vectors(edited), _vectors(plain)
    scores = ours @ theirs.T
    own = torch.arange(len(edited))
    scores[own, own] = -2
    partners = [scores.argmax(dim=1)] if strength is None else [own, scores.argmax(dim=1)]
    found = [
        terms(_measures(edited, plain[at]), (ours * theirs[at]).sum(dim=1).numpy())
        for at in partners
    ]
    labels = np.repeat([at is own for at in partners], len(edited))
    return np.concatenate(found), labels


def _measures(edited: torch.Tensor, plain: torch.Tensor) -> NDArray[np.float32]:
    blocks = zip(torch.split(edited, 64), torch.split(plain, 64), strict=True)
    measures: NDArray[np.float32] = torch.cat([compare(q, t) for q, t in blocks]).numpy()
    return measures


def _whole(pictures: torch.Tensor) -> torch.Tensor:
    """Rounded to bytes, as pictures are."""
    return (pictures * 255).round() / 255


def _vectors(pictures: torch.Tensor) -> torch.Tensor:
    encoder = load_copy(EncoderSpec(NAME))
    rows = [encoder.module(block * 2 - 1) for block in torch.split(pictures, 500)]
    return functional.normalize(torch.cat(rows), dim=1)


def fit(
    x: NDArray[np.float64],
    is_copy: NDArray[np.bool_],
    weight: NDArray[np.float64],
    is_sure: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], float]:
    """Weights and offset of a logistic model, trimmed; at 0.5 three negatives in 1,000 are above.

    Negatives that are sure to be none are not trimmed.
    """
    kept = np.ones(len(x), bool)
    for _ in range(_ROUNDS):
        weights, offset = logistic(x[kept], is_copy[kept], weight[kept])
        value = x @ weights + offset
        limit = np.quantile(value[~is_copy & ~is_sure], 1 - _TRIMMED)
        kept = is_copy | is_sure | (value <= limit)
    return weights, float(offset - np.quantile(value[kept & ~is_copy], _HIGH))


def logistic(
    x: NDArray[np.float64], y: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Ridge logistic regression by Newton's method, on standardised columns."""
    mean, spread = x.mean(axis=0), x.std(axis=0)
    z = np.column_stack([(x - mean) / spread, np.ones(len(x))])
    penalty = np.append(np.full(x.shape[1], _RIDGE), 0.0)
    b = np.zeros(z.shape[1])
    share = weight / weight.sum()
    for _ in range(50):
        p = 1 / (1 + np.exp(-z @ b))
        slope = z.T @ (share * (p - y)) + penalty * b
        curve = (z * (share * p * (1 - p))[:, None]).T @ z + np.diag(penalty + 1e-9)
        b -= np.linalg.solve(curve, slope)
    weights = b[:-1] / spread
    return weights, float(b[-1] - mean @ weights)


if __name__ == "__main__":
    main()
