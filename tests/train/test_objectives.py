"""Objectives: the right loss for the right images, attacked without a trace."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from curate.errors import CurateError
from eval.attacks.guard import frozen
from eval.attacks.loop import perturb
from eval.attacks.threat import Threat, start_noise
from eval.models.classifier import class_texts
from train import losses
from train.adapters import Adapted, AdapterConfig, adapt
from train.objectives import (
    OBJECTIVES,
    Batch,
    Context,
    find_objective,
    fit_head,
    random_codes,
    require_fit,
)
from train.towers import features_and_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.models.classifier import Clip

NAMES = ["cat", "dog", "horse", "ship", "truck"]
THREAT = Threat(4, 2, 2, "uniform")


@pytest.fixture
def clip(clips: Callable[[str], Clip]) -> Clip:
    return clips("vit")


@pytest.fixture
def adapted(clip: Clip) -> Adapted:
    """A model that has moved a little away from the original."""
    found = adapt(clip, AdapterConfig(kind="finetune"))
    drawn = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in found.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=drawn), alpha=0.02)
    return found


@pytest.fixture
def context(clip: Clip, adapted: Adapted) -> Context:
    texts = class_texts(clip, NAMES, ["a {}"])
    return Context(
        student=adapted.classifier(texts),
        texts=texts,
        scale=clip.scale,
        original=clip.classifier(texts),
        codes=random_codes(5, 32, seed=0),
    )


@pytest.fixture
def batch() -> Batch:
    drawn = torch.Generator().manual_seed(6)
    captions = functional.normalize(torch.randn(9, 32, generator=drawn), dim=1)
    return Batch(
        keys=tuple(f"a.tar:{i}" for i in range(4)),
        images=torch.rand(4, 3, 32, 32, generator=drawn),
        targets=torch.tensor([0, 4, 2, 1]),
        captions=captions,
        positions=torch.tensor([5, 6, 7, 8]),
    )


def ready(name: str, context: Context) -> Context:
    if name != "adv":
        return context
    drawn = torch.Generator().manual_seed(7)
    head = fit_head(torch.randn(20, 32, generator=drawn), torch.arange(20) % 5, 5)
    return replace(context, head=head)


def attacked(name: str, context: Context, batch: Batch) -> Tensor:
    objective = find_objective(name)
    noise = start_noise(batch.keys, 0, (3, 32, 32))
    with frozen(context.student):
        return perturb(
            lambda images: objective.attack_loss(context, images, batch),
            batch.images,
            THREAT,
            noise,
        ).images


def test_all_names_are_there() -> None:
    assert list(OBJECTIVES) == [
        "ce", "adv", "coadv", "imgcoadv", "tecoa", "tecoa-pseudo", "tecoa-captions", "fare",
        "pmg-aft", "tga-zsr", "agft",
    ]  # fmt: skip
    assert [o.name for o in OBJECTIVES.values() if not o.attacked] == ["ce"]
    assert [o.name for o in OBJECTIVES.values() if o.in_batch] == ["imgcoadv"]


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(CurateError, match="'tekoa': unknown; did you mean 'tecoa'"):
        find_objective("tekoa")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_attacks_raise_the_loss_and_training_reaches_the_tower(
    name: str, context: Context, batch: Batch, adapted: Adapted
) -> None:
    objective, context = find_objective(name), ready(name, context)
    require_fit(objective, context)
    batch = objective.prepare(context, batch)
    images = attacked(name, context, batch) if objective.attacked else batch.images
    if objective.attacked:
        before = objective.attack_loss(context, batch.images, batch)
        after = objective.attack_loss(context, images, batch)
        assert (after > before).float().mean() >= 0.75
    loss = objective.train_loss(context, batch.images, images, batch)
    assert loss.shape == (4,)
    assert loss.dtype == torch.float32
    parameters = list(adapted.parameters.values())
    gradients = torch.autograd.grad(loss.mean(), parameters)
    assert all(g.isfinite().all() for g in gradients)
    assert all(g.abs().max() > 0 for n, g in zip(adapted.parameters, gradients, strict=True)
               if "in_proj_bias" not in n)  # fmt: skip


@pytest.mark.parametrize("name", [n for n, o in OBJECTIVES.items() if o.attacked])
def test_no_parameter_has_a_gradient_after_an_attack(
    name: str, context: Context, batch: Batch, clip: Clip, adapted: Adapted
) -> None:
    context = ready(name, context)
    attacked(name, context, find_objective(name).prepare(context, batch))
    models = [clip.model, adapted.module, *([context.head] if context.head else [])]
    assert all(p.grad is None for model in models for p in model.parameters())


@pytest.mark.parametrize("name", [n for n, o in OBJECTIVES.items() if not o.in_batch])
def test_a_batch_may_be_cut_into_pieces(name: str, context: Context, batch: Batch) -> None:
    objective, context = find_objective(name), ready(name, context)

    def losses_of(rows: slice) -> Tensor:
        piece = replace(
            batch,
            keys=batch.keys[rows],
            images=batch.images[rows],
            targets=batch.targets[rows],  # type: ignore[index]
            positions=batch.positions[rows],  # type: ignore[index]
        )
        piece = objective.prepare(context, piece)
        images = attacked(name, context, piece) if objective.attacked else piece.images
        with torch.no_grad():
            return objective.train_loss(context, piece.images, images, piece)

    whole = losses_of(slice(0, 4))
    parts = torch.cat([losses_of(slice(0, 1)), losses_of(slice(1, 4))])
    np.testing.assert_allclose(parts, whole, rtol=2e-3, atol=1e-3)


def test_an_in_batch_objective_changes_when_cut(context: Context, batch: Batch) -> None:
    objective = find_objective("imgcoadv")
    pieces = [replace(batch, images=batch.images[rows]) for rows in (slice(0, 2), slice(2, 4))]
    with torch.no_grad():
        whole = objective.train_loss(context, batch.images, batch.images, batch)
        parts = [objective.train_loss(context, p.images, p.images, p) for p in pieces]
    assert (torch.cat(parts) < whole).all()


@torch.no_grad()
def expected_loss(name: str, context: Context, batch: Batch, images: Tensor) -> Tensor:
    """Training losses put together from the models, one by one."""
    student, original, y = context.student, context.original, batch.targets
    assert original is not None
    assert y is not None
    z, clean = student.features(images), student.features(batch.images)
    texts, scale, captions = context.texts, context.scale, batch.captions
    assert captions is not None
    before = original.features(batch.images)
    mirrored = student.features(batch.images.flip(dims=[3]))
    maps = [
        losses.attention_map(features_and_patches(model, x)[1], texts[y])
        for model, x in ((student, images), (student, batch.images), (original, batch.images))
    ]
    found = {
        "ce": losses.tecoa(clean, texts, scale, y),
        "tecoa": losses.tecoa(z, texts, scale, y),
        "tecoa-pseudo": losses.tecoa(z, texts, scale, original(batch.images).argmax(dim=1)),
        "coadv": losses.coadv(z, random_codes(5, 32, 0), scale, y),
        "imgcoadv": losses.imgcoadv(z, mirrored, 1 / scale),
        "tecoa-captions": losses.tecoa(z, captions, scale, torch.tensor([5, 6, 7, 8])),
        "fare": losses.fare(z, before),
        "agft": losses.agft(z, before, texts),
        "pmg-aft": losses.pmg_aft(student(images), student(batch.images), original(images), y),
        "tga-zsr": losses.tga_zsr(student(images), *maps, y),
    }
    return found[name]


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n != "adv"])
def test_training_losses_are_made_of_the_right_models_and_images(
    name: str, context: Context, batch: Batch
) -> None:
    objective = find_objective(name)
    images = (batch.images + 0.05).clamp(0, 1)
    with torch.no_grad():
        prepared = objective.prepare(context, batch)
        got = objective.train_loss(context, batch.images, images, prepared)
    np.testing.assert_allclose(got, expected_loss(name, context, batch, images), atol=1e-5)


def test_the_original_is_asked_once_for_all_steps_of_an_attack(
    context: Context, batch: Batch
) -> None:
    assert context.original is not None
    calls: list[int] = []
    handle = context.original.tower.register_forward_hook(lambda *_: calls.append(1))
    try:
        for name in ("fare", "agft", "tecoa-pseudo"):
            calls.clear()
            objective = find_objective(name)
            prepared = objective.prepare(context, batch)
            images = attacked(name, context, prepared)
            objective.train_loss(context, batch.images, images, prepared)
            assert len(calls) == 1, name
    finally:
        handle.remove()


def test_two_pgd_steps_and_an_update_take_three_passes_of_the_tower(
    context: Context, batch: Batch
) -> None:
    calls: list[int] = []
    handle = context.student.tower.register_forward_hook(lambda *_: calls.append(1))
    try:
        images = attacked("tecoa", context, batch)
        find_objective("tecoa").train_loss(context, batch.images, images, batch)
    finally:
        handle.remove()
    assert len(calls) == 3


def test_pseudo_labels_come_from_clean_images_and_replace_given_ones(
    context: Context, batch: Batch
) -> None:
    prepared = find_objective("tecoa-pseudo").prepare(context, batch)
    assert context.original is not None
    with torch.no_grad():
        assert torch.equal(prepared.targets, context.original(batch.images).argmax(1))  # type: ignore[arg-type]
    assert not torch.equal(prepared.targets, batch.targets)  # type: ignore[arg-type]


def test_fare_has_nothing_to_follow_at_the_image_itself(clip: Clip, batch: Batch) -> None:
    texts = class_texts(clip, NAMES, ["a {}"])
    same = adapt(clip, AdapterConfig(kind="finetune")).classifier(texts)
    context = Context(same, texts, clip.scale, original=clip.classifier(texts))
    objective = find_objective("fare")
    assert objective.random_start
    prepared = objective.prepare(context, batch)
    assert objective.attack_loss(context, batch.images, prepared).max() < 1e-8
    moved = attacked("fare", context, prepared)
    assert (objective.attack_loss(context, moved, prepared) > 1e-3).all()


def test_a_linear_probe_is_trained_by_ce_and_adv_through_its_head(clip: Clip, batch: Batch) -> None:
    adapted = adapt(clip, AdapterConfig(kind="linear-probe"), classes=5)
    texts = class_texts(clip, NAMES, ["a {}"])
    context = Context(adapted.classifier(texts), texts, clip.scale, head=adapted.head)
    for name in ("ce", "adv"):
        objective = find_objective(name)
        require_fit(objective, context)
        loss = objective.train_loss(context, batch.images, batch.images, batch)
        np.testing.assert_allclose(loss.detach(), [np.log(5)] * 4, atol=1e-6)
        gradients = torch.autograd.grad(loss.sum(), list(adapted.parameters.values()))
        assert all(gradient.abs().max() > 0 for gradient in gradients)
    with pytest.raises(CurateError, match="loss tecoa: does not train a linear head"):
        require_fit(find_objective("tecoa"), context)


def test_what_is_missing_is_said_before_a_run(
    context: Context, clips: Callable[[str], Clip]
) -> None:
    bare: dict[str, Any] = {"original": None, "codes": None}
    for name, words in (
        ("fare", "the original model"), ("adv", "a fitted head"), ("coadv", "random codes"),
    ):  # fmt: skip
        with pytest.raises(CurateError, match=f"loss {name}: needs {words}"):
            require_fit(find_objective(name), replace(context, **bare))
    resnet = clips("resnet")
    other = replace(context, student=resnet.classifier(context.texts))
    with pytest.raises(CurateError, match=r"tga-zsr: .*ModifiedResNet; choose a ViT"):
        require_fit(find_objective("tga-zsr"), other)


def test_a_fitted_head_separates_what_is_separable_and_is_frozen() -> None:
    drawn = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 8, generator=drawn) + 6 * torch.eye(8)[labels]
    head = fit_head(features, labels, 4)
    assert (head(features).argmax(1) == labels).all()
    assert not any(parameter.requires_grad for parameter in head.parameters())
    again = fit_head(features, labels, 4)
    assert torch.equal(again.weight, head.weight)
    weight = head.weight.clone().requires_grad_()
    loss = functional.cross_entropy(functional.linear(features, weight, head.bias), labels)
    loss = loss + 0.5e-4 * weight.square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    assert gradient.abs().max() < 1e-3


def test_codes_are_random_directions_of_a_seed() -> None:
    codes = random_codes(7, 64, 3)
    np.testing.assert_allclose(codes.norm(dim=1), 1, atol=1e-6)
    assert (codes @ codes.T - torch.eye(7)).abs().max() < 0.5
    assert torch.equal(codes, random_codes(7, 64, 3))
    assert not torch.equal(codes, random_codes(7, 64, 4))
