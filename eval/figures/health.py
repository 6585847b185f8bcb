"""Does an attack look as if it had worked? Signs of gradients that are masked, and of mistakes.

An attack gives an upper bound of robustness, and a loose one where gradients vanish or a parameter
is wrong. Sources of the signs: N. Carlini et al., "On evaluating adversarial robustness", 2019; the
flags of AutoAttack (F. Croce, M. Hein, ICML 2020), which looks for zero gradients of the DLR loss
only, while cross-entropy is the one that saturates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from eval.figures.metrics import finds_least, right_before, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eval.figures.rates import Rate
    from eval.settings import Setting

ZERO_GRADIENT = 0.01
"""A larger share of images whose gradient vanished while they were right makes a run unreliable."""
HUGE_EPS = 64.0
HUGE_LEFT = 0.01
BLACK_BOX = 0.002
LOSSES = 0.05
"""Cross-entropy may leave so much more than a margin loss; real models differ by 0.03 at most."""
SLACK = 1e-3
"""Rounding of a distance in 255ths: 1/255 of that in pixels."""

HEALTH = pl.Schema(
    {
        "model": pl.String,
        "setting": pl.String,
        "zero_gradient": pl.Float64,
        "largest": pl.Float64,
        "left": pl.Float64,
        "unreliable": pl.String,
    }
)
"""One row for each attack.

The share of zero gradients, the largest norm, the accuracy that is left, and why that is not to be
trusted, or null.
"""

_STEPS = re.compile(r"pgd-(\d+)")
_CROSS_ENTROPY = re.compile(r"(pgd|tecoa-pgd)-(\d+)")
_OTHER_LOSS = re.compile(r"(pgd-dlr|pgd-margin|cw-margin)-(\d+)")
_SAME_STEPS = {"pgd-dlr": "pgd", "pgd-margin": "pgd", "cw-margin": "tecoa-pgd"}
_BLACK_BOX = re.compile(r"(nes|spsa)(-\d+)?|square")
_TRANSFER = "transfer-"
_EXHAUSTIVE = 1_000_000


@dataclass(frozen=True)
class Attacked:
    """The rows of a setting with an attack, and what the attack was.

    Attributes:
        model: that was attacked.
        setting: with its attack.
        norm: linf or l2.
        samples: rows of `eval.records.SAMPLES`.
    """

    model: str
    setting: Setting
    norm: str
    samples: pl.DataFrame

    @property
    def name(self) -> str:
        """Of the attack."""
        assert self.setting.attack is not None
        return self.setting.attack.name

    @property
    def eps(self) -> float:
        """Radius in 255ths."""
        assert self.setting.attack is not None
        return self.setting.attack.eps

    @property
    def norms(self) -> pl.Series:
        """(n,) norms in 255ths of what was done to the images within the bounds of the attack.

        What breaks an image beyond the radius is no success of an attack for the least
        perturbation, and no mistake of it either.
        """
        rows = self.samples
        if finds_least(self.name):
            rows = rows.filter(~pl.col("correct"))
        return rows[self.norm] * (1 if self.norm == "linf" else 255)

    @property
    def right(self) -> int:
        """Images that are still right."""
        return int(self.samples["correct"].sum())


@dataclass(frozen=True)
class Health:
    """What can be seen of one attack.

    Attributes:
        run: that was looked at.
        zero_gradient: of the images that are right before, the share whose gradient vanished; None:
            the attack does not say.
        largest: the largest norm of a perturbation, in 255ths; None: it is not stated.
        reasons: why the figure is not to be trusted; empty: nothing speaks against it.
    """

    run: Attacked
    zero_gradient: Rate | None
    largest: float | None
    reasons: tuple[str, ...]

    @property
    def unreliable(self) -> str | None:
        """All reasons in one line, or None."""
        return "; ".join(self.reasons) or None


def examine(runs: Sequence[Attacked]) -> tuple[Health, ...]:
    """Look at attacks one by one, and at those on the same model and images together.

    Args:
        runs: attacks on any models and images.

    Returns:
        One for each run, in their order.
    """
    reasons: dict[int, list[str]] = {place: list(_alone(run)) for place, run in enumerate(runs)}
    places = {id(run): place for place, run in enumerate(runs)}
    for peers in _peers(runs, same_eps=True):
        for run, reason in (*_orderings(peers), *_boxes(peers), *_losses(peers)):
            reasons[places[id(run)]].append(reason)
    for peers in _peers(runs, same_eps=False):
        for run, reason in _huge(peers):
            reasons[places[id(run)]].append(reason)
    return tuple(
        Health(run, _zero_gradient(run), _largest(run), tuple(dict.fromkeys(reasons[place])))
        for place, run in enumerate(runs)
    )


def table(found: Iterable[Health]) -> pl.DataFrame:
    """Rows of `HEALTH`."""
    rows: list[dict[str, Any]] = [
        {
            "model": item.run.model,
            "setting": str(item.run.setting),
            "zero_gradient": None if item.zero_gradient is None else item.zero_gradient.value,
            "largest": item.largest,
            "left": _left(item.run),
            "unreliable": item.unreliable,
        }
        for item in found
    ]
    return pl.DataFrame(rows, schema=HEALTH, orient="row")


def _left(run: Attacked) -> float:
    return run.right / run.samples.height if run.samples.height else 0.0


def _zero_gradient(run: Attacked) -> Rate | None:
    rows = run.samples
    if not rows.height or rows["zero_gradient"].null_count():
        return None
    return share(right_before(rows), pl.col("zero_gradient"))


def _largest(run: Attacked) -> float | None:
    value = run.norms.max()
    return float(value) if isinstance(value, float) else None


def _alone(run: Attacked) -> Iterable[str]:
    """What can be said of one attack without others."""
    rate = _zero_gradient(run)
    if rate is not None and (rate.value or 0.0) > ZERO_GRADIENT:
        yield (
            f"the gradient vanished on {100 * rate.known:.1f} % of the images, which then only look"
            " robust"
        )
    largest = _largest(run)
    if largest is not None and largest > run.eps + SLACK:
        yield f"a perturbation of {largest:.4g} is larger than the radius of {run.eps:g}"
    mended = run.samples.filter(pl.col("correct") & (pl.col("clean_pred") != pl.col("label")))
    if mended.height:
        yield f"{mended.height} images are wrong before the attack and right after it"


def _peers(runs: Sequence[Attacked], *, same_eps: bool) -> Iterable[list[Attacked]]:
    """Attacks on one model, set of images, norm and size, and of one radius if so asked."""
    groups: dict[tuple[object, ...], list[Attacked]] = {}
    for run in runs:
        aim = run.setting.attack
        assert aim is not None
        key = (run.model, run.setting.source, run.setting.split, run.norm, aim.at)
        groups.setdefault((*key, aim.eps if same_eps else None), []).append(run)
    return groups.values()


def _slack(run: Attacked) -> int:
    """One image in a thousand, at least one."""
    return max(1, -(-run.samples.height // 1000))


def _rank(name: str) -> int | None:
    """Place in the order from weak to strong; None where an attack has none."""
    steps = _STEPS.fullmatch(name)
    if steps:
        return 1 + int(steps[1])
    # FGSM is compared with PGD of many steps; both start below any of them
    fixed = {"noise": 0, "fgsm": 1, "autoattack": _EXHAUSTIVE + 1}
    return fixed.get(name, _EXHAUSTIVE if name.startswith("apgd-") else None)


def _orderings(peers: Sequence[Attacked]) -> Iterable[tuple[Attacked, str]]:
    """Noise >= FGSM >= PGD of few steps >= of many >= APGD >= AutoAttack, in accuracy."""
    ranked = [(rank, run) for run in peers if (rank := _rank(run.name)) is not None]
    for rank, strong in ranked:
        weaker = [run for low, run in ranked if low < rank]
        best = min(weaker, key=lambda run: run.right, default=None)
        if best is not None and strong.right - best.right > _slack(strong):
            more = strong.right - best.right
            yield strong, f"leaves {more} more images right than {best.name}, which is weaker"
    by_name = {run.name: run for run in peers}
    for run in peers:
        own = by_name.get(run.name.removeprefix(_TRANSFER))
        if run.name.startswith(_TRANSFER) and own and own.right - run.right > _slack(own):
            yield own, f"leaves {own.right - run.right} more images right than {run.name}"


def _boxes(peers: Sequence[Attacked]) -> Iterable[tuple[Attacked, str]]:
    """An attack without gradients that beats all that have them says that those were masked."""
    blind = [run for run in peers if _BLACK_BOX.fullmatch(run.name)]
    others = [
        run
        for run in peers
        if run not in blind and run.name != "noise" and not run.name.startswith(_TRANSFER)
    ]
    best = min(others, key=_left, default=None)
    for run in blind:
        if best is not None and _left(best) - _left(run) > BLACK_BOX + 1e-9:
            reason = (
                f"{run.name} without gradients leaves {100 * _left(run):.1f} % right, attacks with "
                f"gradients {100 * _left(best):.1f} %"
            )
            yield from ((masked, reason) for masked in others)


def _losses(peers: Sequence[Attacked]) -> Iterable[tuple[Attacked, str]]:
    """Cross-entropy that leaves many more images than a margin loss in as many steps saturates."""
    plain = {m.groups(): run for run in peers if (m := _CROSS_ENTROPY.fullmatch(run.name))}
    for run in peers:
        match = _OTHER_LOSS.fullmatch(run.name)
        other = plain.get((_SAME_STEPS[match[1]], match[2])) if match else None
        if other is None:
            continue
        more = _left(other) - _left(run)
        if abs(more) > LOSSES:
            loser, winner = (other, run) if more > 0 else (run, other)
            points = f"{100 * abs(more):.1f} points"
            yield loser, f"leaves {points} more than {winner.name}, which differs in its loss only"


def _huge(peers: Sequence[Attacked]) -> Iterable[tuple[Attacked, str]]:
    """An attack of many steps that may change pixels at will breaks nearly everything."""
    for run in peers:
        of_gradients = _STEPS.fullmatch(run.name) or run.name in {"bim", "apgd-ce", "autoattack"}
        if not of_gradients or run.norm != "linf" or run.eps < HUGE_EPS or _left(run) < HUGE_LEFT:
            continue
        left = f"{100 * _left(run):.1f} % right"
        reason = f"at a radius of {run.eps:g}/255 it still leaves {left}"
        yield from ((other, reason) for other in peers if other.name == run.name)


def unreliable(found: Iterable[Health]) -> Mapping[tuple[str, str], str]:
    """The reasons against a figure, by (model, setting), of those that have any."""
    return {
        (item.run.model, str(item.run.setting)): item.unreliable
        for item in found
        if item.unreliable is not None
    }
