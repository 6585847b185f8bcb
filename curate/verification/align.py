"""Two pictures laid over each other: the affine map between them, and how alike they then are.

1. Coarse: both pictures at half size, their blurred selves taken off. For a handful of scales and
   angles the query is correlated with the item at all shifts at once (fast Fourier transforms),
   each product divided by the energies of both in the overlap (masked normalised correlation,
   Padfield, IEEE TIP 2012; local means are gone already).
2. Fine: from the best of those, and from no map at all, Gauss-Newton steps on the six numbers of an
   affine map with gain and offset (Lucas and Kanade 1981; Baker and Matthews 2004), pixels weighted
   down by their residual, so that a bar or a line of text pulls less. A wide bar still does, and
   no map at all, unfitted, is the third that is tried.
3. What is measured over the overlap: correlation of luminance, of its gradients, of its fine detail
   and of the colours, the median over tiles of their own correlations, how much fine detail there
   is to agree, and how much of either picture the overlap is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 64
"""Side of the pictures in pixels."""
MEASURES = (
    "luminance", "gradient", "colour", "tiles", "overlap", "change", "kept", "fine", "detail"
)  # fmt: skip
"""Columns of what `compare` returns."""
_COARSE = 32
_SCALES = (0.5, 0.6, 0.71, 0.84, 1.0, 1.19, 1.41, 1.68)
_TURNED = (0.84, 1.0)
_ANGLES = (-0.2, 0.2)
_STEPS = ((32, 10), (64, 4))
"""Sides of the pictures that are fitted, and steps at each."""
_TILE = 8
_LUMA = (0.299, 0.587, 0.114)
_SMALLEST_OVERLAP = 0.3
_SPARED = 0.35
"""Share of the tiles, those that agree least, that `kept` leaves out."""
_FINE = 1.5
"""What a blur of that many pixels takes away is fine detail."""
_SAME = 0.03
"""Largest difference of a tile between pictures that are the same."""


def compare(queries: Tensor, items: Tensor) -> Tensor:
    """Align pairs of pictures and measure how alike they are.

    Args:
        queries: (n, 3, SIDE, SIDE) float32 in [0, 1].
        items: the same shape; pair i is query i and item i.

    Returns:
        (n, len(MEASURES)) float32: correlations in [-1, 1]; overlap as a share of the smaller
        picture's area, in [0, 1]; change, the size of the map's departure from the identity;
        detail, the decimal logarithm of the mean square of the fine detail of the smoother picture.
    """
    import torch

    grey = luminance(queries), luminance(items)
    still = torch.eye(2, 3).expand(len(queries), 2, 3)
    best = measure(queries, items, still)
    for start in (still, coarse(*grey)):
        found = measure(queries, items, refine(*grey, start))
        best = torch.where((_merit(found) > _merit(best))[:, None], found, best)
    return best


def stated() -> dict[str, Any]:
    """JSON-able statement of all numbers that decide on what `compare` and `equal` find."""
    return {
        "side": SIDE,
        "measures": list(MEASURES),
        "coarse": [_COARSE, [list(variant) for variant in _variants()]],
        "steps": [list(step) for step in _STEPS],
        "tile": _TILE,
        "smallest_overlap": _SMALLEST_OVERLAP,
        "spared": _SPARED,
        "fine": _FINE,
        "same": _SAME,
    }


def equal(queries: Tensor, items: Tensor) -> Tensor:
    """Whether pictures are the same but for noise, (n,) Boolean; blank ones can be, too.

    Correlations say nothing of blank pictures. Here every small tile has to have its colour.
    """
    from torch.nn import functional

    tiles = functional.avg_pool2d((queries - items).abs(), SIDE // 16)
    return tiles.amax(dim=(1, 2, 3)) < _SAME


def _merit(found: Tensor) -> Tensor:
    return (found[:, 0] + found[:, 1] + found[:, 3]) * found[:, 4].sqrt()


def luminance(pictures: Tensor) -> Tensor:
    """(n, 3, h, w) -> (n, 1, h, w)."""
    import torch

    return (pictures * torch.tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (n, c, h, w), borders repeated."""
    import torch
    from torch.nn import functional

    reach = int(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    taps = taps / taps.sum()
    channels = pictures.shape[1]
    kernel = taps.expand(channels, 1, 1, -1)
    out = functional.pad(pictures, (reach, reach, reach, reach), "replicate")
    out = functional.conv2d(out, kernel, groups=channels)
    return functional.conv2d(out, kernel.transpose(2, 3), groups=channels)


# --- coarse --------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _variants() -> tuple[tuple[float, float], ...]:
    """(scale, angle) of the query within the item."""
    turned = tuple((scale, angle) for scale in _TURNED for angle in _ANGLES)
    return (*((scale, 0.0) for scale in _SCALES), *turned)


def coarse(queries: Tensor, items: Tensor) -> Tensor:
    """The best of all shifts at every scale and angle, (n, 2, 3) maps from item to query."""
    import torch
    from torch.nn import functional

    small = [functional.avg_pool2d(side, SIDE // _COARSE) for side in (queries, items)]
    small = [side - blur(side, 3.0) for side in small]
    # the smaller of the two is shrunk, so that neither leaves the canvas; each is drawn once
    poses = [((min(s, 1.0), a), (min(1 / s, 1.0), 0.0)) for s, a in _variants()]
    drawn = [
        {pose: _waves(side, *pose) for pose in {pair[at] for pair in poses}}
        for at, side in enumerate(small)
    ]
    best_score = torch.full((len(queries),), -1.0)
    best = torch.eye(2, 3).repeat(len(queries), 1, 1)
    for q_pose, t_pose in poses:
        area = min(q_pose[0], t_pose[0]) ** 2
        score, shift = _correlate(drawn[0][q_pose], drawn[1][t_pose], area)
        maps = _map(q_pose[0], t_pose[0], q_pose[1], shift)
        better = score > best_score
        best_score = torch.where(better, score, best_score)
        best = torch.where(better[:, None, None], maps, best)
    return best


def _waves(pictures: Tensor, scale: float, angle: float) -> tuple[Tensor, Tensor, Tensor]:
    """Fourier transforms of pictures shrunk and turned about the centre of their frame.

    Returns:
        Of the pictures, of their squares, both (n, h, w), and of the mask of where they are.
    """
    import math

    import torch
    from torch.nn import functional

    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    rows = torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0]])
    grid = functional.affine_grid(rows[None], [1, 1, _COARSE, _COARSE], align_corners=False)
    mask = (grid.abs() <= 1).all(dim=-1).float()[:, None]
    if scale < 1 or angle:
        source = blur(pictures, 0.4 / scale)
        wide = grid.expand(len(pictures), -1, -1, -1)
        pictures = functional.grid_sample(source, wide, padding_mode="border", align_corners=False)
    size = (2 * _COARSE, 2 * _COARSE)
    pictures = pictures * mask
    planes = (pictures[:, 0], pictures[:, 0] ** 2, mask[:, 0])
    x, energy, place = (torch.fft.rfft2(plane, s=size) for plane in planes)
    return x, energy, place


def _correlate(
    q: tuple[Tensor, Tensor, Tensor], t: tuple[Tensor, Tensor, Tensor], area: float
) -> tuple[Tensor, Tensor]:
    """Best masked correlation over all shifts, and the shift (dx, dy) of q in frames, (n, 2)."""
    import torch

    width = 2 * _COARSE

    def over(a: Tensor, b: Tensor) -> Tensor:
        plane: Tensor = torch.fft.irfft2(a.conj() * b, s=(width, width))
        return plane

    product = over(q[0], t[0])
    energy = over(q[1], t[2]).clamp_min(1e-6) * over(q[2], t[1]).clamp_min(1e-6)
    overlap = over(q[2], t[2]) / (_COARSE * _COARSE * area)
    score = product / energy.sqrt() * overlap.clamp(0, 1).sqrt()
    score = torch.where(overlap < _SMALLEST_OVERLAP, -1.0, score)
    top, at = score.flatten(1).max(dim=1)
    shift = torch.stack([at % width, at // width], dim=1)
    shift = torch.where(shift >= _COARSE, shift - width, shift)
    return top, shift * (2.0 / _COARSE)


def _map(q_scale: float, t_scale: float, angle: float, shift: Tensor) -> Tensor:
    """(n, 2, 3) maps from a point of the item to the point of the query that lies on it."""
    import math

    import torch

    cos, sin = math.cos(angle) / q_scale, math.sin(angle) / q_scale
    turn = torch.tensor([[cos, sin], [-sin, cos]])
    linear = (turn * t_scale).expand(len(shift), 2, 2)
    return torch.cat([linear, -(shift @ turn.T)[:, :, None]], dim=2)


# --- fine ----------------------------------------------------------------------------------------


def refine(queries: Tensor, items: Tensor, maps: Tensor) -> Tensor:
    """Gauss-Newton on the affine map with gain and offset, (n, 2, 3) -> (n, 2, 3)."""
    import torch
    from torch.nn import functional

    for side, steps in _STEPS:
        shrink = queries.shape[-1] // side
        q, t = (blur(functional.avg_pool2d(x, shrink), 1.0) for x in (queries, items))
        line = (torch.arange(side) + 0.5) * (2.0 / side) - 1
        y, x = torch.meshgrid(line, line, indexing="ij")
        points = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)
        planes = torch.cat([q, _slope(q, 3) * (side / 2), _slope(q, 2) * (side / 2)], dim=1)
        wanted = t.flatten(2)[:, 0]
        for _ in range(steps):
            grid = (points @ maps.transpose(1, 2)).reshape(len(q), side, side, 2)
            inside = (grid.abs() <= 1).all(dim=-1).flatten(1).float()
            seen = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
            maps = maps + _step(seen.flatten(2), wanted, inside, points)
    return maps


def _slope(pictures: Tensor, dim: int) -> Tensor:
    """Central differences per pixel, borders repeated."""
    import torch
    from torch.nn import functional

    pad = (1, 1, 0, 0) if dim == 3 else (0, 0, 1, 1)  # noqa: PLR2004
    wide = functional.pad(pictures, pad, "replicate")
    length = wide.shape[dim]
    return (wide.narrow(dim, 2, length - 2) - torch.narrow(wide, dim, 0, length - 2)) / 2


def _step(seen: Tensor, wanted: Tensor, inside: Tensor, points: Tensor) -> Tensor:
    """The change of the maps by one weighted least-squares step, (n, 2, 3).

    Args:
        seen: (n, 3, p) the query under the map: its values and its two slopes.
        wanted: (n, p) values of the item.
        inside: (n, p) 1 where the query reaches, else 0.
        points: (p, 3) x, y and 1 of each pixel of the item.
    """
    import torch

    value, gx, gy = seen.unbind(dim=1)
    columns = torch.cat(
        [
            *(slope[:, :, None] * points for slope in (gx, gy)),
            value[:, :, None],
            torch.ones_like(value)[:, :, None],
        ],
        dim=2,
    )
    # Linear in gain * map: wanted = gain * value + offset + gain * slopes . change.
    weight = inside
    for _ in range(2):  # the second time, what fits badly does not pull at the tone either
        gain, offset = _tone(value, wanted, weight)
        residual = wanted - gain[:, None] * value - offset[:, None]
        spread = (residual.abs() * inside).sum(dim=1) / inside.sum(dim=1).clamp_min(1.0)
        weight = inside / (1 + (residual / (1.5 * spread[:, None] + 1e-3)) ** 2)
    weighted = columns * weight[:, :, None]
    normal = weighted.transpose(1, 2) @ columns
    ridge = 1e-3 * normal.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-4
    normal = normal + ridge[:, None, None] * torch.eye(8)
    right = (weighted * residual[:, :, None]).sum(dim=1)
    solved: Tensor = torch.linalg.solve(normal, right)
    change = solved[:, :6] / gain.clamp_min(0.2)[:, None]
    return change.clamp(-0.15, 0.15).reshape(-1, 2, 3)


def _tone(value: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset that bring `value` to `wanted`."""
    count = weight.sum(dim=1).clamp_min(1.0)
    mean_v, mean_w = (value * weight).sum(dim=1) / count, (wanted * weight).sum(dim=1) / count
    v, w = value - mean_v[:, None], wanted - mean_w[:, None]
    gain = (weight * v * w).sum(dim=1) / (weight * v * v).sum(dim=1).clamp_min(1e-4)
    return gain, mean_w - gain * mean_v


# --- measures ------------------------------------------------------------------------------------


def measure(queries: Tensor, items: Tensor, maps: Tensor) -> Tensor:
    """How alike the pictures are under the given maps, (n, len(MEASURES))."""
    import torch
    from torch.nn import functional

    grid = functional.affine_grid(maps, list(items.shape), align_corners=False)
    inside = (grid.abs() <= 1).all(dim=-1)[:, None].float()
    scale = maps[:, :, :2].det().abs()
    shrunk = functional.grid_sample(queries, grid, padding_mode="border", align_corners=False)
    q, t = blur(shrunk, 0.8), blur(items, 0.8)
    lq, lt = luminance(q), luminance(t)
    chroma_q, chroma_t = (q - lq)[:, ::2], (t - lt)[:, ::2]
    gradients = [torch.cat([_slope(side, 3), _slope(side, 2)], dim=1) for side in (lq, lt)]
    fine = [side - blur(side, _FINE) for side in (luminance(shrunk), luminance(items))]
    whole = inside.mean(dim=(1, 2, 3))
    change = (maps - torch.eye(2, 3)).flatten(1).norm(dim=1)
    return torch.stack(
        [
            _correlation(lq, lt, inside),
            _correlation(gradients[0], gradients[1], inside, centred=False),
            _correlation(chroma_q, chroma_t, inside),
            _tiles(lq, lt, inside),
            torch.maximum(whole, (whole * scale).clamp(0, 1)),
            change,
            _kept(gradients[0], gradients[1], inside),
            _correlation(fine[0], fine[1], inside),
            torch.minimum(_energy(fine[0], inside), _energy(fine[1], inside)),
        ],
        dim=1,
    )


def _cut(planes: Tensor) -> Tensor:
    """(n, c, SIDE, SIDE) -> (n, tiles, values of a tile)."""
    tiles = planes.unfold(2, _TILE, _TILE).unfold(3, _TILE, _TILE)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def _kept(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Correlation of gradients without the tiles that agree least, which something may cover."""
    import torch

    ta, tb, tm = (_cut(planes * mask) for planes in (a, b, mask))
    product, ea, eb = ((x * y).sum(dim=2) for x, y in ((ta, tb), (ta, ta), (tb, tb)))
    covers = tm.mean(dim=2) > 0.5  # noqa: PLR2004
    own = torch.where(covers, product / ((ea * eb).sqrt() + 1e-4), 2.0)
    order = own.argsort(dim=1)
    spared = (covers.sum(dim=1, keepdim=True) * _SPARED).int()
    kept = torch.zeros_like(own).scatter(1, order, (torch.arange(own.shape[1]) >= spared).float())
    kept = kept * covers
    energy = (ea * kept).sum(dim=1) * (eb * kept).sum(dim=1)
    found: Tensor = (product * kept).sum(dim=1) / (energy.sqrt() + 1e-3)
    return found


def _energy(planes: Tensor, mask: Tensor) -> Tensor:
    """Decimal logarithm of the mean square of (n, 1, h, w) over the mask."""
    count = mask.sum(dim=(1, 2, 3)).clamp_min(1.0)
    return ((planes**2 * mask).sum(dim=(1, 2, 3)) / count + 1e-5).log10()


def _correlation(a: Tensor, b: Tensor, mask: Tensor, *, centred: bool = True) -> Tensor:
    """Correlation of (n, c, h, w) over the mask, channels centred each by itself."""
    count = mask.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    if centred:
        a = a - (a * mask).sum(dim=(2, 3), keepdim=True) / count
        b = b - (b * mask).sum(dim=(2, 3), keepdim=True) / count
    a, b = a * mask, b * mask
    product = (a * b).sum(dim=(1, 2, 3))
    energy = (a * a).sum(dim=(1, 2, 3)) * (b * b).sum(dim=(1, 2, 3))
    return product / (energy.sqrt() + 1e-4 * count[:, 0, 0, 0])


def _tiles(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Weighted median over tiles of the correlation within each."""
    import torch

    def cut(x: Tensor) -> Tensor:
        return x.unfold(2, _TILE, _TILE).unfold(3, _TILE, _TILE).reshape(len(x), -1, _TILE * _TILE)

    ta, tb, tm = cut(a), cut(b), cut(mask)
    count = tm.sum(dim=2).clamp_min(1.0)
    ta = (ta - (ta * tm).sum(dim=2, keepdim=True) / count[:, :, None]) * tm
    tb = (tb - (tb * tm).sum(dim=2, keepdim=True) / count[:, :, None]) * tm
    ea, eb = (ta * ta).sum(dim=2), (tb * tb).sum(dim=2)
    own = (ta * tb).sum(dim=2) / ((ea * eb).sqrt() + 2e-2)
    weight = (torch.minimum(ea, eb) + 1e-6).sqrt() * (tm.mean(dim=2) > 0.5)  # noqa: PLR2004
    order = own.argsort(dim=1)
    total = weight.gather(1, order).cumsum(dim=1)
    middle = (total >= total[:, -1:] / 2).int().argmax(dim=1, keepdim=True)
    return own.gather(1, order.gather(1, middle))[:, 0]
