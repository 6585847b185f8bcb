"""Known edits are undone, unrelated pictures stay unlike, and odd pictures give numbers too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from curate.encoders.fit_layout import draw_leaves, draw_scene
from curate.verification import align
from curate.verification.align import MEASURES, SIDE, coarse, compare, equal, luminance, refine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

COUNT = 12
LARGE = 256
Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def drawn() -> list[Image.Image]:
    """Scenes and dead leaves, large enough to be cut."""
    pictures = [
        (draw_scene, draw_leaves)[n % 2](np.random.default_rng(n)).convert("RGB")
        for n in range(COUNT)
    ]
    return [p.resize((LARGE, LARGE), Image.Resampling.BILINEAR) for p in pictures]


def stacked(pictures: Sequence[Image.Image]) -> torch.Tensor:
    small = [np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for p in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255


def column(measures: torch.Tensor, name: str) -> torch.Tensor:
    return measures[:, MEASURES.index(name)]


def cut(box: Box) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: picture.crop(tuple(round(LARGE * share) for share in box))  # type: ignore[arg-type]


def map_of(box: Box) -> torch.Tensor:
    """The map from a picture to its own cutting, (2, 3): the box's corners go to -1 and 1."""
    left, top, right, bottom = box
    rows = [
        [1 / (right - left), 0, (1 - left - right) / (right - left)],
        [0, 1 / (bottom - top), (1 - top - bottom) / (bottom - top)],
    ]
    return torch.tensor(rows)


def turned_map(degrees: float) -> torch.Tensor:
    """Of a picture that was turned against the clock."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0]])


def distance(found: torch.Tensor, truth: torch.Tensor, box: Box = (0.2, 0.2, 0.8, 0.8)) -> float:
    """Median over the pairs of how far the corners of a box are from where they belong."""
    left, top, right, bottom = (2 * share - 1 for share in box)
    corners = torch.tensor([[x, y, 1.0] for x in (left, right) for y in (top, bottom)])
    off = (corners @ found.transpose(1, 2) - corners @ truth.T).norm(dim=2).amax(dim=1)
    return float(off.median())


def aligned(queries: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    grey = luminance(queries), luminance(items)
    return refine(*grey, coarse(*grey))


# --- known edits ---------------------------------------------------------------------------------

CUTS: list[Box] = [
    (0.1, 0.2, 0.7, 0.8), (0.0, 0.0, 0.7, 0.7), (0.2, 0.1, 0.95, 0.9), (0.05, 0.05, 0.95, 0.95),
    (0.0, 0.1, 0.8, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("box", CUTS)
def test_a_cutting_is_laid_where_it_was_cut(drawn: list[Image.Image], box: Box) -> None:
    queries, items = stacked([cut(box)(p) for p in drawn]), stacked(drawn)
    assert distance(aligned(queries, items), map_of(box), box) < 0.06
    found = compare(queries, items)
    assert column(found, "gradient").median() > 0.85
    assert column(found, "gradient").min() > 0.5
    assert column(found, "overlap").median() > 0.9


@pytest.mark.parametrize("box", CUTS)
def test_what_surrounds_the_item_is_found_too(drawn: list[Image.Image], box: Box) -> None:
    queries, items = stacked(drawn), stacked([cut(box)(p) for p in drawn])
    left, top, right, bottom = box
    back = torch.tensor([
        [right - left, 0, left + right - 1], [0, bottom - top, top + bottom - 1],
    ])  # fmt: skip
    assert distance(aligned(queries, items), back) < 0.04
    assert column(compare(queries, items), "gradient").median() > 0.8


@pytest.mark.parametrize("degrees", [-10, -3, 3, 6, 10])
def test_a_turned_picture_is_turned_back(drawn: list[Image.Image], degrees: float) -> None:
    turned = [p.rotate(degrees, Image.Resampling.BILINEAR) for p in drawn]
    queries, items = stacked(turned), stacked(drawn)
    assert distance(aligned(queries, items), turned_map(degrees)) < 0.05
    found = compare(queries, items)
    assert column(found, "gradient").median() > 0.85
    assert column(found, "tiles").min() > 0.55


def test_a_shifted_picture_is_shifted_back(drawn: list[Image.Image]) -> None:
    right, up = 0.1, 0.07
    move = (1, 0, right * LARGE, 0, 1, -up * LARGE)
    shifted = [p.transform(p.size, Image.Transform.AFFINE, move) for p in drawn]
    truth = torch.tensor([[1, 0, -2 * right], [0, 1, 2 * up]])
    queries, items = stacked(shifted), stacked(drawn)
    assert distance(aligned(queries, items), truth) < 0.04
    assert column(compare(queries, items), "gradient").median() > 0.8


def brighter(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(ImageEnhance.Brightness(picture).enhance(0.7)).enhance(1.3)


def grey(picture: Image.Image) -> Image.Image:
    return ImageOps.grayscale(picture).convert("RGB")


@pytest.mark.parametrize("change", [brighter, grey])
def test_changed_tones_are_no_hindrance(
    drawn: list[Image.Image], change: Callable[[Image.Image], Image.Image]
) -> None:
    found = compare(stacked([change(p) for p in drawn]), stacked(drawn))
    assert column(found, "gradient").median() > 0.85
    assert column(found, "tiles").min() > 0.55
    assert column(found, "change").max() < 0.05


def test_a_mirrored_copy_is_found_in_the_mirror_only(drawn: list[Image.Image]) -> None:
    mirrored = [ImageOps.mirror(p) for p in drawn]
    as_it_is = compare(stacked(mirrored), stacked(drawn))
    as_view = compare(stacked([ImageOps.mirror(p) for p in mirrored]), stacked(drawn))
    assert column(as_view, "gradient").median() > 0.85
    assert column(as_it_is, "gradient").median() < 0.3


@pytest.mark.parametrize("colour", [(20, 20, 20), (250, 250, 250)])
@pytest.mark.parametrize("side", ["query", "item"])
def test_a_bar_over_a_fifth_leaves_the_rest_alike(
    drawn: list[Image.Image], colour: tuple[int, int, int], side: str
) -> None:
    barred = [p.copy() for p in drawn]
    for picture in barred:
        ImageDraw.Draw(picture).rectangle((0, 205, LARGE, LARGE), fill=colour)
    pairs = (barred, drawn) if side == "query" else (drawn, barred)
    others = compare(stacked(drawn[1:] + drawn[:1]), stacked(drawn))
    found = compare(*(stacked(pictures) for pictures in pairs))
    assert column(found, "tiles").median() > column(others, "tiles").median() + 0.3
    assert column(found, "gradient").median() > 0.55
    assert column(found, "change").median() < 0.1


def test_unrelated_pictures_are_unlike(drawn: list[Image.Image]) -> None:
    for by in (1, 2, 5):
        found = compare(stacked(drawn[by:] + drawn[:by]), stacked(drawn))
        assert column(found, "gradient").median() < 0.3
        assert column(found, "gradient").max() < 0.6


def test_a_picture_is_most_like_itself(drawn: list[Image.Image]) -> None:
    pictures = stacked(drawn)
    found = compare(pictures, pictures)
    assert column(found, "luminance").min() > 0.95
    assert column(found, "tiles").min() > 0.55
    assert column(found, "change").max() < 0.02
    assert equal(pictures, pictures).all()
    assert not equal(pictures, pictures.roll(1, dims=0)).any()


# --- odd pictures --------------------------------------------------------------------------------


def odd() -> torch.Tensor:
    """Black, white, one colour, noise, a checker board, a single point, a slope."""
    rng = torch.Generator().manual_seed(0)
    flat = [torch.full((3, SIDE, SIDE), value) for value in (0.0, 1.0, 0.3)]
    colour = torch.tensor([0.9, 0.1, 0.4])[:, None, None].expand(3, SIDE, SIDE)
    noise = [torch.rand((3, SIDE, SIDE), generator=rng) for _ in range(2)]
    at = torch.arange(SIDE)
    checks = ((at[:, None] + at) % 2).float().expand(3, SIDE, SIDE)
    point = torch.zeros(3, SIDE, SIDE)
    point[:, 10, 50] = 1
    slope = (at / SIDE).expand(3, SIDE, SIDE)
    return torch.stack([*flat, colour, *noise, checks, point, slope])


def test_odd_pictures_give_numbers_in_range() -> None:
    pictures = odd()
    one, two = torch.meshgrid(*[torch.arange(len(pictures))] * 2, indexing="ij")
    found = compare(pictures[one.flatten()], pictures[two.flatten()])
    assert found.isfinite().all()
    assert (found[:, :4].abs() <= 1 + 1e-4).all()
    assert ((column(found, "overlap") >= 0) & (column(found, "overlap") <= 1)).all()
    unlike = (one != two).flatten()
    assert column(found, "gradient")[unlike].max() < 0.7


def test_blank_pictures_are_equal_when_they_have_one_colour() -> None:
    pictures = odd()[:4]
    assert equal(pictures, pictures).all()
    assert equal(pictures, pictures + 0.01).all()
    assert not equal(pictures, pictures.roll(1, dims=0)).any()


def test_a_small_mark_on_white_is_a_difference() -> None:
    white = torch.ones(1, 3, SIDE, SIDE)
    marked = white.clone()
    marked[:, :, 20:22, 30:34] = 0
    assert not equal(white, marked).any()


def test_the_other_pairs_of_a_batch_do_not_matter(drawn: list[Image.Image]) -> None:
    queries = stacked([cut(CUTS[2])(p) for p in drawn])
    items = stacked(drawn)
    whole = compare(queries, items)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(compare(queries[order], items[order]), whole[order], atol=2e-3)
    alone = torch.cat([compare(queries[n][None], items[n][None]) for n in range(COUNT)])
    assert torch.allclose(alone, whole, atol=2e-3)
    beside = compare(torch.cat([odd(), queries]), torch.cat([odd(), items]))[len(odd()) :]
    assert torch.allclose(beside, whole, atol=2e-3)


def test_all_numbers_that_decide_are_stated() -> None:
    numbers = [
        name for name, value in vars(align).items()
        if name.isupper() and isinstance(value, int | float | tuple)
    ]  # fmt: skip
    known = {"SIDE", "MEASURES", "_COARSE", "_SCALES", "_TURNED", "_ANGLES", "_STEPS", "_TILE",
             "_LUMA", "_SMALLEST_OVERLAP", "_SPARED", "_FINE", "_SAME"}  # fmt: skip
    assert set(numbers) - {"TYPE_CHECKING"} == known
    assert len(align.stated()) == 9


def test_fine_detail_is_measured_apart_from_the_rest(drawn: list[Image.Image]) -> None:
    plain = stacked(drawn)
    rng = torch.Generator().manual_seed(0)
    grain = [0.1 * torch.randn(plain.shape, generator=rng) for _ in range(2)]
    flat = torch.nn.functional.interpolate(plain[..., ::16, ::16], SIDE, mode="bicubic") * 0.5 + 0.2
    same = compare(flat + grain[0], flat + grain[0])
    other = compare(flat + grain[0], flat + grain[1])
    smooth = compare(flat + grain[0], flat)
    assert column(same, "fine").min() > 0.95
    assert column(other, "fine").abs().max() < 0.3
    assert column(other, "luminance").min() > column(other, "fine").max()
    assert column(same, "detail").min() > column(smooth, "detail").max() + 0.5


def slow_kept(a: NDArray[np.float64], b: NDArray[np.float64], mask: NDArray[np.float64]) -> float:
    """Correlation of (2, SIDE, SIDE) gradients on all tiles but those that agree least."""
    found = []
    for y in range(0, SIDE, 8):
        for x in range(0, SIDE, 8):
            place = (slice(None), slice(y, y + 8), slice(x, x + 8))
            if mask[place[1:]].mean() > 0.5:
                p, q = (side[place] * mask[place[1:]] for side in (a, b))
                sums = (p * q).sum(), (p * p).sum(), (q * q).sum()
                found.append((sums[0] / (math.sqrt(sums[1] * sums[2]) + 1e-4), *sums))
    found.sort(key=lambda tile: tile[0])
    rest = np.array(found[int(len(found) * 0.35) :]).reshape(-1, 4).sum(axis=0)
    return float(rest[1] / (math.sqrt(rest[2] * rest[3]) + 1e-3))


@pytest.mark.parametrize("seed", range(8))
def test_tiles_that_agree_least_are_left_out_as_the_loop_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(2, SIDE, SIDE))
    b = a + rng.normal(size=a.shape) * rng.uniform(0, 3, (SIDE, 1))
    mask = np.zeros((SIDE, SIDE))
    top, left = rng.integers(0, 20, 2)
    mask[top : top + rng.integers(20, SIDE), left : left + rng.integers(20, SIDE)] = 1
    sides = [torch.from_numpy(side).float()[None] for side in (a, b, mask[None])]
    found = align._kept(*sides)
    assert found.item() == pytest.approx(slow_kept(a, b, mask), abs=1e-4)


def test_a_bar_over_a_fifth_leaves_the_gradients_that_are_kept(
    drawn: list[Image.Image],
) -> None:
    items = stacked(drawn)
    queries = items.clone()
    queries[:, :, 40:53] = 0.8
    found = column(compare(queries, items), "kept")
    others = column(compare(queries, items.roll(1, dims=0)), "kept")
    assert found.median() > 0.9
    assert others.median() < 0.6


# --- slow twins ----------------------------------------------------------------------------------


def slow_correlate(
    q: NDArray[np.float64], q_mask: NDArray[np.float64],
    t: NDArray[np.float64], t_mask: NDArray[np.float64], area: float,
) -> dict[tuple[int, int], float]:  # fmt: skip
    """(dx, dy) -> correlation of q, moved there, with t where both are, by loops over shifts."""
    size = len(q)
    found = {}
    for dy in range(-size, size):
        for dx in range(-size, size):
            on_t = np.s_[max(dy, 0) : size + min(dy, 0), max(dx, 0) : size + min(dx, 0)]
            on_q = np.s_[max(-dy, 0) : size + min(-dy, 0), max(-dx, 0) : size + min(-dx, 0)]
            both = q_mask[on_q] * t_mask[on_t]
            overlap = both.sum() / (size * size * area)
            if overlap < 0.3:
                continue
            a, b = q[on_q] * both, t[on_t] * both
            energy = max((a * a).sum(), 1e-6) * max((b * b).sum(), 1e-6)
            found[dx, dy] = (a * b).sum() / math.sqrt(energy) * math.sqrt(min(overlap, 1))
    return found


@settings(max_examples=6)
@given(st.integers(0, 2**32), st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_the_correlation_at_all_shifts_is_that_of_loops(
    seed: int, narrow: int, low: int, is_same: bool
) -> None:
    rng = np.random.default_rng(seed)
    size = align._COARSE
    pictures = rng.normal(size=(2, size, size))
    masks = np.ones((2, size, size))
    masks[0, :, size - narrow :] = 0
    masks[1, size - low :] = 0
    if is_same:
        pictures[1] = np.roll(pictures[0], (3, -5), axis=(0, 1))
    pictures *= masks
    expected = slow_correlate(pictures[0], masks[0], pictures[1], masks[1], 1.0)
    waves = [
        tuple(
            torch.fft.rfft2(torch.from_numpy(plane[None]).float(), s=(2 * size, 2 * size))
            for plane in (picture, picture**2, mask)
        )
        for picture, mask in zip(pictures, masks, strict=True)
    ]
    score, shift = align._correlate(waves[0], waves[1], 1.0)  # type: ignore[arg-type]
    best = max(expected.values())
    place = tuple((shift[0] * size / 2).round().int().tolist())
    assert float(score[0]) == pytest.approx(best, abs=2e-3)
    assert expected[place] == pytest.approx(best, abs=2e-3)
    if is_same:
        assert place == (-5, 3)


ARRAYS = st.integers(0, 2**32), st.floats(0.3, 1.0)


@given(*ARRAYS, st.booleans())
def test_the_measured_correlation_is_that_of_loops(
    seed: int, share: float, is_centred: bool
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 3, 2, 8, 8))
    b += a
    mask = (rng.random((3, 1, 8, 8)) < share).astype(float)
    expected = []
    for n in range(3):
        places = [(y, x) for y in range(8) for x in range(8) if mask[n, 0, y, x]]
        rows = []
        for side in (a, b):
            planes = [[side[n, c, y, x] for y, x in places] for c in range(2)]
            means = [sum(p) / len(p) if is_centred and p else 0.0 for p in planes]
            rows.append([v - m for p, m in zip(planes, means, strict=True) for v in p])
        dot, one, two = (
            math.fsum(x * y for x, y in zip(*sides, strict=True))
            for sides in (rows, (rows[0], rows[0]), (rows[1], rows[1]))
        )
        expected.append(dot / (math.sqrt(one * two) + 1e-4 * max(len(places), 1)))
    got = align._correlation(*map(torch.from_numpy, (a, b, mask)), centred=is_centred)
    assert got.tolist() == pytest.approx(expected, abs=1e-9)


@given(*ARRAYS)
def test_the_median_over_tiles_is_that_of_loops(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 1, 1, 32, 32))
    b = 0.5 * b + 0.5 * a
    mask = np.ones((1, 1, 32, 32))
    mask[..., : round(32 * (1 - share)), :] = 0
    found = []
    for y in range(0, 32, 8):
        for x in range(0, 32, 8):
            inside = mask[0, 0, y : y + 8, x : x + 8] > 0
            p, q = (side[0, 0, y : y + 8, x : x + 8][inside] for side in (a, b))
            if inside.mean() <= 0.5:
                continue
            p, q = p - p.mean(), q - q.mean()
            one, two = (p * p).sum(), (q * q).sum()
            own = (p * q).sum() / (math.sqrt(one * two) + 2e-2)
            found.append((own, math.sqrt(min(one, two) + 1e-6)))
    ranked = sorted(found)
    sums = [sum(weight for _, weight in ranked[: n + 1]) for n in range(len(ranked))]
    middle = next(n for n, total in enumerate(sums) if total >= sums[-1] / 2 - 1e-12)
    own = ranked[middle][0]
    got = align._tiles(*map(torch.from_numpy, (a, b, mask)))
    assert got.tolist() == pytest.approx([own], abs=1e-9)
