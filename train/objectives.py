"""What a training minimises and what its attack maximises, by name.

| name | needs | attack maximises | training minimises |
| --- | --- | --- | --- |
| `ce` | labels | (no attack) | cross-entropy on clean images |
| `adv` | labels | cross-entropy of a linear head | the same |
| `coadv` | labels | contrastive loss over random codes | the same |
| `imgcoadv` | nothing | InfoNCE to the mirrored image | the same |
| `tecoa` | labels | contrastive loss over class texts | the same |
| `tecoa-pseudo` | nothing | as `tecoa`, with the original's classes of clean images | the same |
| `tecoa-captions` | captions | contrastive loss over the captions of the batch | the same |
| `fare` | nothing | distance to the original feature | the same |
| `pmg-aft` | labels | as `tecoa` | with two divergences |
| `tga-zsr` | labels | as `tecoa` | with two attention terms |
| `agft` | nothing | divergence from the original's softened prediction | the same |

The equations are those of `train.losses`. Where a linear probe is trained, `ce` and `adv` ask its
head; else `ce` asks the zero-shot classifier, and `adv` a head that was fitted before (`fit_head`).
An installed package may bring further objectives (`curate.extensions`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from curate.encoders.base import nearest
from curate.errors import CurateError
from curate.extensions import extension
from train import losses
from train.adapters import Probe, zero_head
from train.towers import features_and_patches, inner_tower, require_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.models.classifier import ZeroShot

Needs = Literal["labels", "captions", "nothing"]
_PROBED = ("ce", "adv")
_CLASSIFYING = ("tecoa-pseudo", "agft")


@dataclass(frozen=True)
class Context:
    """Models and texts that objectives ask.

    Attributes:
        student: what is trained.
        texts: (C, d) unit rows of the classes.
        scale: exp(logit_scale) of the model.
        original: the model as it was, frozen; for objectives with `uses_original`.
        codes: (C, d) unit rows of `random_codes`; for coadv.
        head: of `fit_head`, or the linear probe's; for adv, and for ce under a linear probe.
    """

    student: ZeroShot
    texts: Tensor
    scale: float
    original: ZeroShot | None = None
    codes: Tensor | None = None
    head: nn.Linear | None = None


@dataclass(frozen=True)
class Batch:
    """What is known of some images.

    Attributes:
        keys: item ids.
        images: (n, 3, H, W) fp32 in [0, 1].
        targets: (n,) int64 classes, or None.
        captions: (m, d) unit text features of the whole global batch, or None.
        positions: (n,) int64, each image's own row of `captions`, or None.
        reference: what `Objective.prepare` found that stays the same under attack, or None.
    """

    keys: tuple[str, ...]
    images: Tensor
    targets: Tensor | None = None
    captions: Tensor | None = None
    positions: Tensor | None = None
    reference: Tensor | None = None


def _as_it_is(_context: Context, batch: Batch) -> Batch:
    return batch


@dataclass(frozen=True)
class Objective:
    """One way of training.

    `prepare` is called once for a batch before its attack; it asks the original model what no
    step of the attack changes. The two losses take a prepared batch and give one number per image.

    Attributes:
        name: in recipes.
        needs: what a batch must bring besides images.
        attack_loss: (context, images, batch) -> (n,), which an attack maximises.
        train_loss: (context, clean images, attacked images, batch) -> (n,).
        prepare: (context, batch) -> batch, with `reference` or `targets` filled in.
        uses_original: asks the original model.
        attacked: false where there is no attack.
        in_batch: images are compared with each other: a batch must not be cut into pieces.
        random_start: at the image itself the first gradient says nothing, so start elsewhere.
    """

    name: str
    needs: Needs
    attack_loss: Callable[[Context, Tensor, Batch], Tensor]
    train_loss: Callable[[Context, Tensor, Tensor, Batch], Tensor]
    prepare: Callable[[Context, Batch], Batch] = _as_it_is
    uses_original: bool = False
    attacked: bool = True
    in_batch: bool = False
    random_start: bool = False


def find_objective(name: str) -> Objective:
    """The objective of a name.

    Raises:
        CurateError: there is none; tells the nearest name and all names.
    """
    objective = OBJECTIVES.get(name) or extension("losses", name, Objective)
    if objective is None:
        raise CurateError(
            f"loss {name!r}: unknown{nearest(name, OBJECTIVES)}; choose from "
            f"{', '.join(OBJECTIVES)}"
        )
    return objective


def require_fit(objective: Objective, context: Context) -> None:
    """Refuse, before a run begins, what an objective cannot work with.

    Raises:
        CurateError: a linear probe under a loss that knows no head; no head, codes original
            model or class names where they are needed; a tower without patch tokens under tga-zsr.
    """
    name = objective.name
    if isinstance(context.student, Probe) and name not in _PROBED:
        raise CurateError(
            f"loss {name}: does not train a linear head; with adapter linear-probe choose from "
            f"{', '.join(_PROBED)}"
        )
    if name == "tga-zsr":
        require_patches(inner_tower(context.student.tower))
    missing = {
        "the original model": objective.uses_original and context.original is None,
        "class names, of samples with labels": name in _CLASSIFYING and not len(context.texts),
        "a fitted head": name == "adv" and context.head is None,
        "random codes": name == "coadv" and context.codes is None,
    }
    for what, is_missing in missing.items():
        if is_missing:
            raise CurateError(f"loss {name}: needs {what}")


def random_codes(classes: int, width: int, seed: int) -> Tensor:
    """A random direction for each class, (classes, width) fp32 unit rows, on the CPU."""
    drawn = torch.randn(classes, width, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=1)


def fit_head(features: Tensor, targets: Tensor, classes: int, decay: float = 1e-4) -> nn.Linear:
    """A linear head fitted to clean features, frozen: multinomial logistic regression by L-BFGS.

    For `adv`, whose head is trained on clean images before the tower is on attacked ones.

    Args:
        features: (n, d) of clean training images.
        targets: (n,) int64.
        classes: how many, all of which may be absent from `targets`.
        decay: weight of half the squared L2 norm of the weights.
    """
    rows = features.detach().float()
    head = zero_head(rows.shape[1], classes, rows.device)
    solver = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def evaluate() -> Tensor:
        solver.zero_grad()
        loss: Tensor = functional.cross_entropy(head(rows), targets)
        loss = loss + decay / 2 * head.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(evaluate)  # type: ignore[no-untyped-call]
    solver.zero_grad()
    for parameter in head.parameters():
        parameter.requires_grad = False
    return head


def _same(
    loss: Callable[[Context, Tensor, Batch], Tensor],
) -> Callable[[Context, Tensor, Tensor, Batch], Tensor]:
    """Training minimises on attacked images what the attack maximised."""

    def train_loss(context: Context, _clean: Tensor, adversarial: Tensor, batch: Batch) -> Tensor:
        return loss(context, adversarial, batch)

    return train_loss


def _given(value: Tensor | None, what: str) -> Tensor:
    assert value is not None, f"the batch has no {what}"
    return value


@torch.no_grad()
def _original_features(context: Context, images: Tensor) -> Tensor:
    assert context.original is not None
    return context.original.features(images)


def _ce(context: Context, images: Tensor, batch: Batch) -> Tensor:
    if context.head is not None:
        return _adv(context, images, batch)
    targets = _given(batch.targets, "classes")
    return losses.ce(context.student.features(images), context.texts, context.scale, targets)


def _ce_clean(context: Context, clean: Tensor, _adversarial: Tensor, batch: Batch) -> Tensor:
    return _ce(context, clean, batch)


def _adv(context: Context, images: Tensor, batch: Batch) -> Tensor:
    head, targets = context.head, _given(batch.targets, "classes")
    assert head is not None
    return losses.adv(context.student.features(images), head.weight, head.bias, targets)


def _coadv(context: Context, images: Tensor, batch: Batch) -> Tensor:
    codes, targets = _given(context.codes, "codes"), _given(batch.targets, "classes")
    return losses.coadv(context.student.features(images), codes, context.scale, targets)


def _mirrored(context: Context, batch: Batch) -> Batch:
    with torch.no_grad():
        return replace(batch, reference=context.student.features(batch.images.flip(-1)))


def _imgcoadv(context: Context, images: Tensor, batch: Batch) -> Tensor:
    view = _given(batch.reference, "features of the other view")
    return losses.imgcoadv(context.student.features(images), view, 1 / context.scale)


def _imgcoadv_both(context: Context, clean: Tensor, adversarial: Tensor, _batch: Batch) -> Tensor:
    # The other view is learned from as well, so it is computed anew, with gradients.
    student = context.student
    view = student.features(clean.flip(-1))
    return losses.imgcoadv(student.features(adversarial), view, 1 / context.scale)


def _tecoa(context: Context, images: Tensor, batch: Batch) -> Tensor:
    targets = _given(batch.targets, "classes")
    return losses.tecoa(context.student.features(images), context.texts, context.scale, targets)


@torch.no_grad()
def _pseudo_labelled(context: Context, batch: Batch) -> Batch:
    assert context.original is not None
    return replace(batch, targets=context.original(batch.images).argmax(dim=1))


def _tecoa_captions(context: Context, images: Tensor, batch: Batch) -> Tensor:
    captions, own = _given(batch.captions, "captions"), _given(batch.positions, "positions")
    return losses.tecoa_captions(context.student.features(images), captions, context.scale, own)


def _with_original(context: Context, batch: Batch) -> Batch:
    return replace(batch, reference=_original_features(context, batch.images))


def _fare(context: Context, images: Tensor, batch: Batch) -> Tensor:
    return losses.fare(context.student.features(images), _given(batch.reference, "features"))


def _agft(context: Context, images: Tensor, batch: Batch) -> Tensor:
    features = context.student.features(images)
    return losses.agft(features, _given(batch.reference, "features"), context.texts)


def _pmg_aft(context: Context, clean: Tensor, adversarial: Tensor, batch: Batch) -> Tensor:
    original, student = context.original, context.student
    assert original is not None
    with torch.no_grad():
        before = original(adversarial)
    targets = _given(batch.targets, "classes")
    return losses.pmg_aft(student(adversarial), student(clean), before, targets)


def _tga_zsr(context: Context, clean: Tensor, adversarial: Tensor, batch: Batch) -> Tensor:
    original, targets = context.original, _given(batch.targets, "classes")
    assert original is not None
    own = context.texts[targets]
    features, patches = features_and_patches(context.student, adversarial)
    _, clean_patches = features_and_patches(context.student, clean)
    with torch.no_grad():
        _, before = features_and_patches(original, clean)
    return losses.tga_zsr(
        context.student.logits(features),
        losses.attention_map(patches, own),
        losses.attention_map(clean_patches, own),
        losses.attention_map(before, own),
        targets,
    )


_ALL = (
    Objective("ce", "labels", _ce, _ce_clean, attacked=False),
    Objective("adv", "labels", _adv, _same(_adv)),
    Objective("coadv", "labels", _coadv, _same(_coadv)),
    Objective("imgcoadv", "nothing", _imgcoadv, _imgcoadv_both, _mirrored, in_batch=True),
    Objective("tecoa", "labels", _tecoa, _same(_tecoa)),
    Objective(
        "tecoa-pseudo", "nothing", _tecoa, _same(_tecoa), _pseudo_labelled, uses_original=True
    ),
    Objective("tecoa-captions", "captions", _tecoa_captions, _same(_tecoa_captions)),
    Objective(
        "fare", "nothing", _fare, _same(_fare), _with_original,
        uses_original=True, random_start=True,
    ),
    Objective("pmg-aft", "labels", _tecoa, _pmg_aft, uses_original=True),
    Objective("tga-zsr", "labels", _tecoa, _tga_zsr, uses_original=True),
    Objective("agft", "nothing", _agft, _same(_agft), _with_original, uses_original=True),
)  # fmt: skip
OBJECTIVES = {objective.name: objective for objective in _ALL}
"""Every objective by name."""
