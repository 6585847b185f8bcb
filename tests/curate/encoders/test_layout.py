"""The built-in descriptor: exact to the bit, sane at the edges, and able to find copies."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from curate.encoders import fit_layout, layout
from curate.encoders.base import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ENCODER = layout.LayoutEncoder()
SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


def noise(seed: int, count: int) -> NDArray[np.uint8]:
    """Random thumbnails of every contrast, from blank to black and white."""
    rng = np.random.default_rng(seed)
    contrast = rng.uniform(0, 3, (count, 1, 1, 1))
    pixels = 128 + contrast * rng.normal(0, 60, (count, 32, 32, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def blank(*colours: tuple[int, int, int]) -> NDArray[np.float32]:
    return ENCODER.encode(np.stack([np.full((32, 32, 3), c, np.uint8) for c in colours]))


def scenes(seed: int, count: int, side: int = 200) -> list[Image.Image]:
    """Procedural pictures from another seed than the basis was fitted on."""
    rng = np.random.default_rng(seed)
    draws = (fit_layout.draw_leaves, fit_layout.draw_scene)
    return [draws[k % 2](rng).resize((side, side + 40)) for k in range(count)]


def describe(images: list[Image.Image]) -> NDArray[np.float32]:
    return ENCODER.encode(np.stack([ENCODER.preprocess(image) for image in images]))


def cosines() -> NDArray[np.float64]:
    """Orthonormal DCT-II as defined, (8, 32)."""
    k, x = np.arange(8)[:, None], np.arange(32) + 0.5
    return np.sqrt((2 - (k == 0)) / 32) * np.cos(np.pi * k * x / 32)


def naive_dct(thumb: NDArray[np.uint8], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The definition, term by term: (row frequency, column frequency, colour), grey levels."""
    colours = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]])
    planes = (thumb - 128.0) @ (colours.T / np.linalg.norm(colours, axis=1))
    out = np.zeros((8, 8, 3))
    for a in range(8):
        for b in range(8):
            out[a, b] = (np.outer(rows[a], rows[b])[:, :, None] * planes).sum(axis=(0, 1))
    return out


def naive_edges(thumb: NDArray[np.uint8], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Five maps of roots of steps, pixel by pixel, and their 6x6 DCT: (map, row, column)."""
    light = np.pad(thumb.astype(float).sum(axis=-1), 1, "edge")
    maps = np.zeros((5, 32, 32))
    for y in range(32):
        for x in range(32):
            a = light[y : y + 3, x : x + 3]
            steps = a[1, 2] - a[1, 0], a[2, 1] - a[0, 1], a[2, 2] - a[0, 0], a[2, 0] - a[0, 2]
            across, down, falling, rising = np.sign(steps) * np.rint(np.sqrt(np.abs(steps)) * 64)
            diagonal = abs(falling) - abs(rising)
            maps[:, y, x] = abs(across), abs(down), diagonal, across, down
    return rows[:6] @ maps @ rows[:6].T / 64


def naive_gate(thumb: NDArray[np.uint8]) -> float:
    """Mean step across and down, through m / (m + GATE)."""
    light = np.pad(thumb.astype(float).sum(axis=-1), 1, "edge")
    across, down = light[1:-1, 2:] - light[1:-1, :-2], light[2:, 1:-1] - light[:-2, 1:-1]
    mean = (np.abs(across) + np.abs(down)).mean()
    return float(mean / (mean + layout.GATE))


def naive_code(thumb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Triangle waves of the mean colour, -1 to 1."""
    waves = []
    for period in layout.PERIODS:
        for shift in (0.0, 0.25):
            phase = (thumb.reshape(-1, 3).mean(axis=0) / period + shift) % 1.0
            waves.append(4 * np.abs(phase - 0.5) - 1)
    return np.concatenate(waves)


def naive_descriptor(thumb: NDArray[np.uint8], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    basis = layout.load_basis()
    k = np.arange(8)
    c = naive_dct(thumb, rows) * (np.hypot(k[:, None], k) ** layout.LEVELLING)[:, :, None]
    energy = (c**2).sum() / 189
    same = (c**2).mean(axis=2, keepdims=True)
    knee = layout.KNEE**2 + layout.SHARE * energy + layout.COLOUR_SHARE * same
    picture = (c / np.sqrt(c**2 + knee)).reshape(-1)[3:]
    d = naive_edges(thumb, rows).reshape(5, 36)
    edge_knee = layout.EDGE_KNEE**2 + layout.EDGE_SHARE * (d[:, 1:] ** 2).mean()
    edges = (d / np.sqrt(d**2 + edge_knee)).reshape(-1)
    found = np.concatenate([picture, edges])
    structure = found * 2.0**20 @ basis.columns.astype(float) - basis.offset
    structure *= naive_gate(thumb)
    whole = np.concatenate([structure, naive_code(thumb) * 2.0**19 * basis.gain])
    return whole / np.linalg.norm(whole)


def test_it_is_an_encoder() -> None:
    assert isinstance(ENCODER, Encoder)
    assert ENCODER.dim == layout.DIM == 128
    assert ENCODER.preprocessing()["size"] == [32, 32]


@pytest.mark.parametrize(
    ("rows", "tolerance"), [(layout.dct_rows() / 2.0**18, 1e-4), (cosines(), 1e-4)]
)
def test_fast_path_equals_the_definition(rows: NDArray[np.float64], tolerance: float) -> None:
    thumbs = noise(1, 20)
    twin = np.stack([naive_descriptor(t, rows) for t in thumbs])
    np.testing.assert_allclose(ENCODER.encode(thumbs), twin, rtol=0, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), data=st.data())
def test_bytes_do_not_depend_on_batch_or_position(
    seed: int, count: int, data: st.DataObject
) -> None:
    thumbs = noise(seed, count)
    whole = ENCODER.encode(thumbs)
    order = np.array(data.draw(st.permutations(range(count))))
    assert ENCODER.encode(thumbs[order]).tobytes() == whole[order].tobytes()
    k = data.draw(st.integers(0, count - 1))
    assert ENCODER.encode(thumbs[k : k + 1]).tobytes() == whole[k].tobytes()


def test_bytes_do_not_depend_on_chunks_or_strides() -> None:
    thumbs = noise(3, layout.CHUNK + 257)
    whole = ENCODER.encode(thumbs)
    parts = [ENCODER.encode(thumbs[k : k + 257]) for k in range(0, len(thumbs), 257)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    reversed_view = ENCODER.encode(thumbs[::-1, :, :, :])
    assert reversed_view[::-1].tobytes() == whole.tobytes()


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_bytes_do_not_depend_on_threads_or_process(threads: str) -> None:
    program = (
        "import sys, numpy as np\n"
        "from curate.encoders.layout import LayoutEncoder\n"
        "t = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(-1, 32, 32, 3)\n"
        "sys.stdout.buffer.write(LayoutEncoder().encode(t).tobytes())\n"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    thumbs = noise(4, 700)
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=thumbs.tobytes(),
        env=os.environ | dict.fromkeys(names, threads),
        cwd=Path(layout.__file__).parents[2],
        capture_output=True,
        check=True,
    )
    assert done.stdout == ENCODER.encode(thumbs).tobytes()


def test_sums_stay_exact_at_the_worst_inputs() -> None:
    """Images that drive each DCT sum to its bound still give integers below 2^53."""
    rows = layout.dct_rows()
    mid = 128.0
    assert mid * 4 * np.abs(rows).sum(axis=1).max() ** 2 < 2.0**53
    signs = rows > 0
    worst = np.stack([np.where(np.outer(a, b), 255, 0) for a in signs for b in signs])
    thumbs = np.repeat(worst[..., None], 3, axis=-1).astype(np.uint8)
    assert np.abs(layout.features(thumbs)[0]).max() <= 2.0**20
    assert np.abs(layout.picture_dct(thumbs)).max() < 2.0**16
    root = np.rint(np.sqrt(765) * 64)
    assert root * np.abs(rows).sum(axis=1).max() ** 2 < 2.0**53
    maps, _ = layout.edge_maps(thumbs)
    assert np.abs(maps).max() <= root
    assert np.abs(layout.edge_dct(maps)).max() < 2.0**10
    assert 2.0 ** (2 * (16 + 4)) * layout.FEATURES < 2.0**53
    bound = 2.0**20 * np.abs(layout.load_basis().columns.astype(float)).sum(axis=0).max()
    code = 2.0**19 * float(layout.load_basis().gain)
    assert bound < 2.0**53
    assert code < 2.0**53
    assert (2.0**22) ** 2 * layout.DIM < 2.0**53


def test_the_gate_is_shut_in_blank_images_and_open_in_ordinary_ones() -> None:
    flat = np.full((1, 32, 32, 3), 90, np.uint8)
    assert layout.features(flat)[1].item() == 0.0
    thumbs = np.stack([ENCODER.preprocess(image) for image in scenes(8, 20)])
    assert np.median(layout.features(thumbs)[1]) > 0.8


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_mirror_equals_encoding_the_mirrored_thumbnail(seed: int) -> None:
    thumbs = noise(seed, 5)
    direct = ENCODER.encode(np.ascontiguousarray(thumbs[:, :, ::-1]))
    assert ENCODER.mirror(ENCODER.encode(thumbs)).tobytes() == direct.tobytes()
    assert ENCODER.mirror(direct).tobytes() == ENCODER.encode(thumbs).tobytes()


@settings(max_examples=40, deadline=None)
@given(size=SIZES, seed=st.integers(0, 1000))
def test_any_size_gives_a_finite_unit_row(size: tuple[int, int], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    thumb = ENCODER.preprocess(Image.fromarray(pixels))
    row = ENCODER.encode(thumb[None])
    assert thumb.shape == ENCODER.input_shape
    assert thumb.dtype == ENCODER.input_dtype
    assert row.dtype == np.float32
    assert np.linalg.norm(row.astype(float)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 900), (32, 32)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    row = describe([Image.new("RGB", size, (10, 200, 30))])
    assert row.tobytes() == blank((10, 200, 30)).tobytes()


def test_a_thumbnail_passes_unchanged() -> None:
    thumb = noise(6, 1)[0]
    assert (ENCODER.preprocess(Image.fromarray(thumb)) == thumb).all()


def test_blank_images_are_copies_only_in_the_same_colour() -> None:
    greys = [(g, g, g) for g in range(0, 256, 5)]
    cosine = blank(*greys) @ blank(*greys).T
    apart = np.abs(np.subtract.outer(np.arange(0, 256, 5), np.arange(0, 256, 5)))
    assert cosine[apart >= 15].max() < 0.8
    assert cosine[apart == 5].min() > 0.85
    primaries = blank((255, 0, 0), (0, 0, 255), (120, 160, 220), (140, 180, 230))
    assert (primaries @ primaries.T)[~np.eye(4, dtype=bool)].max() < 0.8


def test_every_blank_colour_has_a_direction() -> None:
    steps = range(0, 256, 15)
    rows = blank(*[(r, g, b) for r in steps for g in steps for b in steps])
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.linalg.norm(rows.astype(float), axis=1), 1, atol=1e-6)


def _jpeg(image: Image.Image) -> Image.Image:
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=40)
    return Image.open(packed).convert("RGB")


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": _jpeg,
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    "darker": lambda image: image.point(lambda v: int(v * 0.85)),
    "crop": lambda image: image.crop((3, 3, image.width - 3, image.height - 3)),
    "mirrored": ImageOps.mirror,
}


@pytest.mark.parametrize("edit", EDITS)
def test_planted_copies_score_above_unrelated_pictures(edit: str) -> None:
    originals = scenes(99, 60)
    index = describe(originals)
    queries = describe([EDITS[edit](image) for image in originals])
    scores = np.maximum(queries @ index.T, ENCODER.mirror(queries) @ index.T)
    own = np.diag(scores)
    others = np.where(np.eye(60, dtype=bool), -1, scores).max(axis=1)
    assert (own > others).mean() >= 0.95
    assert np.median(own) > 0.9


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="RGB"):
        ENCODER.preprocess(Image.new("L", (4, 4)))
    with pytest.raises(ValueError, match="uint8"):
        ENCODER.encode(np.zeros((1, 32, 32, 3), np.float32))
    with pytest.raises(ValueError, match="32"):
        ENCODER.encode(np.zeros((1, 16, 32, 3), np.uint8))
    assert ENCODER.encode(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 128)


def test_fingerprint_covers_basis_and_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = ENCODER.weights_digest()
    assert layout.load_basis().columns.tobytes() in ENCODER.fingerprint_data()
    for name in ("LEVELLING", "KNEE", "EDGE_KNEE", "SHARE", "COLOUR_SHARE", "EDGE_SHARE", "GATE"):
        with monkeypatch.context() as patch:
            patch.setattr(layout, name, 0.7)
            assert ENCODER.weights_digest() != digest


def test_the_shipped_file_is_small_and_packs_to_the_same_bytes() -> None:
    path = Path(layout.__file__).with_name(layout.BASIS_FILE)
    assert path.stat().st_size < 100_000
    assert fit_layout.pack(layout.load_basis()) == path.read_bytes()


def test_the_fit_repeats_and_keeps_parities_apart() -> None:
    photos = scenes(5, 4)
    first, second = fit_layout.fit(photos, 60), fit_layout.fit(photos, 60)
    assert fit_layout.pack(first) == fit_layout.pack(second)
    even = layout.mirror_parity() > 0
    touched = first.columns != 0
    assert not (touched[even].any(axis=0) & touched[~even].any(axis=0)).any()
    assert (first.offset[touched[~even].any(axis=0)] == 0).all()


def _clothing() -> Path:
    given_root = os.environ.get("CURATE_TEST_DATA")
    here = Path(__file__).resolve().parents[3]
    root = Path(given_root) if given_root else here.parent / "shared" / "data"
    path = root / "photos" / "clothing-00000.tar"
    if not path.is_file():
        pytest.skip("test data absent")
    return path


@pytest.mark.slow
def test_the_recipe_reproduces_the_shipped_basis(tmp_path: Path) -> None:
    out = tmp_path / "basis.npz"
    fit_layout.main(["--photos", str(_clothing()), "--out", str(out)])
    with np.load(out, allow_pickle=False) as again:
        shipped = layout.load_basis()
        np.testing.assert_allclose(again["columns"], shipped.columns, atol=40)
        np.testing.assert_allclose(again["gain"], shipped.gain, rtol=1e-3)
