"""Whitening: white covariance, the published formula, equal bits anywhere, a fingerprint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pictures import picture

import curate
from curate.background import Background
from curate.encoders import Encoder, EncoderSpec, fingerprint, library_versions, load_encoder
from curate.encoders.whitening import WhitenedEncoder, fit_whitening
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LAYOUT = EncoderSpec("builtin:layout")
ROOT = Path(curate.__file__).parent.parent


def skewed(count: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """Unit rows with a mean and very different variances."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dim)) * 2.0 ** -np.arange(dim) + 0.7
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fitted(rows: NDArray[Any]) -> Any:
    return fit_whitening(Background("b.npy", rows, "digest"))


@pytest.fixture
def whitened(tmp_path: Path) -> Callable[..., Encoder]:
    def load(seed: int = 0) -> Encoder:
        base = load_encoder(LAYOUT)
        pixels = np.stack([base.preprocess(picture(seed + n)) for n in range(40)])
        np.save(tmp_path / f"{seed}.npy", base.encode(pixels).astype(np.float16))
        return load_encoder(EncoderSpec("builtin:layout", whiten=str(tmp_path / f"{seed}.npy")))

    return load


def test_a_large_background_becomes_white() -> None:
    rows = skewed(20_000, 6)
    found = fitted(rows)
    white = (rows.astype(np.float64) - found.mean.numpy()) @ found.matrix.numpy()
    assert found.shrinkage == 6 / 20_006
    np.testing.assert_allclose(white.T @ white / len(rows), np.eye(6), atol=0.02)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)


def test_cosines_are_those_of_pca_whitening() -> None:
    rows = skewed(300, 8)
    found = fitted(rows)
    exact = rows.astype(np.float64)
    centred = exact - exact.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(centred.T, bias=True))
    shrunk = (1 - 8 / 308) * values + 8 / 308 * values.mean()
    wanted = centred @ axes / np.sqrt(shrunk)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    got = found.apply(rows)
    np.testing.assert_allclose(got @ got.T, wanted @ wanted.T, atol=1e-5)
    np.testing.assert_allclose(found.matrix, found.matrix.T, atol=1e-12)


def test_fewer_vectors_than_dimensions_are_shrunk_and_stay_finite() -> None:
    found = fitted(skewed(5, 40))
    assert found.shrinkage == 40 / 45
    assert np.isfinite(found.apply(skewed(9, 40, seed=1))).all()


def test_rows_of_any_length_count_by_their_direction() -> None:
    rows = skewed(50, 6)
    scaled = rows * np.linspace(0.5, 40, 50, dtype=np.float32)[:, None]
    np.testing.assert_allclose(fitted(rows).matrix, fitted(scaled).matrix, rtol=1e-5)


def test_the_fit_has_the_same_bits_with_any_number_of_threads() -> None:
    rows = skewed(3000, 64)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(fitted(rows).matrix.numpy().tobytes())
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_vectors_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(CurateError, match=r"b\.npy: all vectors are the same"):
        fitted(np.ones((9, 4), np.float16))


def test_a_row_has_the_same_bits_alone_and_among_others() -> None:
    found = fitted(skewed(500, 96))
    rows = skewed(150, 96, seed=2)
    whole = found.apply(rows)
    for size in (1, 7, 64, 149):
        parts = [found.apply(rows[at : at + size]) for at in range(0, 150, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    order = np.random.default_rng(0).permutation(150)
    assert found.apply(rows[order]).tobytes() == whole[order].tobytes()
    assert found.apply(rows[:0]).shape == (0, 96)


def test_a_row_without_direction_is_nan_throughout() -> None:
    rows = skewed(70, 5)
    rows[3, 2] = np.nan
    out = fitted(skewed(500, 5)).apply(rows)
    assert np.isnan(out[3]).all()
    assert np.isfinite(np.delete(out, 3, axis=0)).all()


def test_a_whitened_encoder_follows_the_protocol(
    whitened: Callable[..., Encoder],
) -> None:
    encoder, base = whitened(), load_encoder(LAYOUT)
    assert isinstance(encoder, Encoder)
    assert encoder.name == "builtin:layout+white"
    assert "numpy" in library_versions(encoder)
    pixels = np.stack([encoder.preprocess(picture(n)) for n in range(3)])
    vectors = encoder.encode(pixels)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert not np.allclose(vectors, base.encode(pixels), atol=0.01)
    assert (encoder.dim, encoder.input_shape) == (base.dim, base.input_shape)


def test_the_fingerprint_covers_encoder_and_background(whitened: Callable[..., Encoder]) -> None:
    first, again, other = fingerprint(whitened()), fingerprint(whitened()), fingerprint(whitened(7))
    assert first == again
    assert first["weights"] != other["weights"]
    stated = first["preprocessing"]
    assert isinstance(stated, dict)
    assert stated["whitening"]["vectors"] == 40
    assert first["weights"] != fingerprint(load_encoder(LAYOUT))["weights"]


def test_the_background_is_whitened_as_the_encoder_would(whitened: Callable[..., Encoder]) -> None:
    encoder = whitened()
    assert isinstance(encoder, WhitenedEncoder)
    white = encoder.whitened_background()
    assert white.digest == encoder.background.digest
    pixels = np.stack([encoder.preprocess(picture(n)) for n in range(40)])
    np.testing.assert_allclose(white.vectors, encoder.encode(pixels), atol=0.01)


def test_another_process_gives_the_same_vectors(
    whitened: Callable[..., Encoder], tmp_path: Path
) -> None:
    encoder = whitened()
    pixels = np.stack([encoder.preprocess(picture(n)) for n in range(3)])
    np.save(tmp_path / "pixels.npy", pixels)
    code = (
        "import sys, numpy as np; from curate.encoders import EncoderSpec, load_encoder;"
        "e = load_encoder(EncoderSpec('builtin:layout', whiten=sys.argv[1]));"
        "sys.stdout.write(e.encode(np.load(sys.argv[2])).tobytes().hex())"
    )
    files = [str(tmp_path / "0.npy"), str(tmp_path / "pixels.npy")]
    done = subprocess.run(
        [sys.executable, "-c", code, *files], cwd=ROOT, capture_output=True, text=True,
        check=True, env={"OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.stdout == encoder.encode(pixels).tobytes().hex()
