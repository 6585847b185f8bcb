"""Adapters: what is trained is what is said, on every kind of tower, and the rest stands still."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_clips import TOWERS
from torch import Tensor
from torch.nn import functional

from curate.errors import CurateError
from eval.attacks.gradient import GradientAttack
from eval.attacks.threat import Threat
from eval.models.classifier import class_texts
from train.adapters import Adapted, AdapterConfig, adapt
from train.interpolate import interpolate
from train.prompts import TokenPrompt
from train.towers import block_names, features_and_patches, has_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.models.classifier import Clip

VITS = ["vit", "vit-avg", "vit-attn", "timm-vit"]
CONFIGS: dict[str, dict[str, Any]] = {
    "finetune": {},
    "partial": {"blocks": 1},
    "token-prompt": {"length": 5},
    "pixel-prompt": {"width": 3},
    "linear-probe": {},
}
APPLICABLE = [
    (kind, tower) for kind in CONFIGS for tower in TOWERS if kind != "token-prompt" or tower in VITS
]


def made(clip: Clip, kind: str, **changes: Any) -> Adapted:
    return adapt(clip, AdapterConfig(kind=kind, **{**CONFIGS[kind], **changes}), classes=3)  # type: ignore[arg-type]


def pictures(clip: Clip, count: int = 2) -> Tensor:
    drawn = torch.Generator().manual_seed(4)
    return torch.rand(count, 3, clip.size, clip.size, generator=drawn)


def texts(clip: Clip) -> Tensor:
    return class_texts(clip, ["cat", "dog", "ship"], ["a {}"])


def trained_a_little(clip: Clip, adapted: Adapted) -> None:
    """Two plain steps on cross-entropy."""
    images, labels = pictures(clip), torch.tensor([0, 1])
    for _ in range(2):
        loss = functional.cross_entropy(adapted.classifier(texts(clip))(images), labels)
        gradients = torch.autograd.grad(loss, list(adapted.parameters.values()))
        with torch.no_grad():
            for parameter, gradient in zip(adapted.parameters.values(), gradients, strict=True):
                parameter.sub_(gradient, alpha=0.01)


@pytest.mark.parametrize(("kind", "tower"), APPLICABLE)
def test_training_moves_what_is_named_and_nothing_else(
    clips: Callable[[str], Clip], kind: str, tower: str
) -> None:
    clip = clips(tower)
    before = {name: value.clone() for name, value in clip.model.state_dict().items()}
    adapted = made(clip, kind)
    start = {name: value.detach().clone() for name, value in adapted.parameters.items()}
    assert all(parameter.requires_grad for parameter in adapted.parameters.values())
    trained_a_little(clip, adapted)
    moved = [n for n, value in adapted.parameters.items() if not torch.equal(value, start[n])]
    assert moved
    after = adapted.weights()
    assert list(after) == list(before)
    assert all(value.isfinite().all() for value in after.values())
    for name, value in after.items():
        assert torch.equal(value, before[name]) is (name not in moved), name
    own = clip.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in before.items())
    inside = {id(parameter) for parameter in adapted.module.parameters() if parameter.requires_grad}
    inside |= {id(p) for p in adapted.head.parameters()} if adapted.head else set()
    assert inside == {id(parameter) for parameter in adapted.parameters.values()}


@pytest.mark.parametrize(("kind", "tower"), APPLICABLE)
def test_every_part_stays_in_evaluation_mode_and_can_be_attacked(
    clips: Callable[[str], Clip], kind: str, tower: str
) -> None:
    clip = clips(tower)
    classifier = made(clip, kind).classifier(texts(clip))
    statistics = {n: b.clone() for n, b in classifier.tower.named_buffers()}
    attack = GradientAttack("bim", Threat(4, 2, 2, "zero"))
    found = attack.run(classifier, pictures(clip), torch.tensor([0, 1]), ["a", "b"], 0)
    assert found.robust.shape == (2,)
    assert not any(part.training for part in classifier.modules())
    assert all(torch.equal(b, statistics[n]) for n, b in classifier.tower.named_buffers())
    assert all(parameter.grad is None for parameter in classifier.parameters())


@pytest.mark.parametrize("tower", TOWERS)
def test_finetuning_trains_the_whole_image_tower(clips: Callable[[str], Clip], tower: str) -> None:
    adapted = made(clips(tower), "finetune")
    names = [f"visual.{name}" for name, _ in clips(tower).tower.named_parameters()]
    assert list(adapted.parameters) == names
    assert adapted.extra() == {}


@pytest.mark.parametrize(
    ("tower", "blocks", "first", "count"),
    [
        ("vit", 1, "visual.transformer.resblocks.2.", 3),
        ("vit", 2, "visual.transformer.resblocks.1.", 3),
        ("vit-attn", 1, "visual.transformer.resblocks.2.", 3),
        ("resnet", 1, "visual.layer4.0.", 4),
        ("resnet", 3, "visual.layer2.0.", 4),
        ("timm-vit", 2, "visual.trunk.blocks.4.", 6),
        ("timm-convnext", 1, "visual.trunk.stages.3.blocks.1.", 9),
    ],
)
def test_partial_training_begins_at_a_block_and_ends_at_the_end(
    clips: Callable[[str], Clip], tower: str, blocks: int, first: str, count: int
) -> None:
    clip = clips(tower)
    assert len(block_names(clip.tower)) == count
    names = [n for n in made(clip, "partial", blocks=blocks).parameters if n != "visual.proj"]
    everything = [f"visual.{name}" for name, _ in clip.tower.named_parameters()]
    assert names[0].startswith(first)
    assert names == everything[-len(names) :]
    assert not everything[-len(names) - 1].startswith(first)
    has_bare = hasattr(clip.tower, "proj")
    assert ("visual.proj" in made(clip, "partial", blocks=blocks).parameters) is has_bare


def test_too_many_blocks_are_refused_with_the_number_there_is(
    clips: Callable[[str], Clip],
) -> None:
    with pytest.raises(CurateError, match=r"blocks 9: image tower ModifiedResNet has 4"):
        made(clips("resnet"), "partial", blocks=9)


def test_a_tower_of_another_family_can_only_be_trained_as_a_whole() -> None:
    with pytest.raises(CurateError, match="Linear: its blocks are not known"):
        block_names(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("tower", ["resnet", "timm-convnext"])
def test_tokens_need_a_vit(clips: Callable[[str], Clip], tower: str) -> None:
    with pytest.raises(CurateError, match=r"tokens need a ViT.*(ModifiedResNet|timm ConvNeXt)"):
        made(clips(tower), "token-prompt")


@pytest.mark.parametrize("tower", VITS)
@pytest.mark.parametrize("length", [1, 200])
def test_tokens_run_through_all_blocks_and_leave_before_pooling(
    clips: Callable[[str], Clip], tower: str, length: int
) -> None:
    clip = clips(tower)
    adapted = made(clip, "token-prompt", length=length)
    inner: Any = adapted.tower
    blocks = [inner.get_submodule(name) for name in block_names(inner)]
    lengths: list[int] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda _m, seen: lengths.append(seen[0].shape[1]))
    with torch.no_grad():
        got = adapted.module(pictures(clip))
        plain = clip.tower(pictures(clip))
    bare = 17 if tower != "timm-vit" else 101
    assert lengths == [bare + length] * len(blocks)
    assert got.shape == plain.shape
    assert (got - plain).abs().max() > 1e-4
    assert {n: t.shape for n, t in adapted.extra().items()} == {"prompt.tokens": (length, 64)}


def test_a_prompted_vit_is_the_transformer_over_the_longer_sequence(
    clips: Callable[[str], Clip],
) -> None:
    clip = clips("vit")
    adapted = made(clip, "token-prompt", length=4)
    tower: Any = clip.tower
    images = pictures(clip)
    with torch.no_grad():
        x = tower.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = x + tower.positional_embedding
        tokens = adapted.parameters["prompt.tokens"].expand(len(x), -1, -1)
        x = tower.ln_pre(torch.cat([x, tokens], dim=1))
        for block in tower.transformer.resblocks:
            x = block(x)
        expected = tower.ln_post(x[:, 0]) @ tower.proj
        np.testing.assert_allclose(adapted.module(images), expected, atol=1e-5)


def test_tokens_are_drawn_from_the_seed_and_from_no_global_generator(
    clips: Callable[[str], Clip],
) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = made(clips("vit"), "token-prompt").extra()["prompt.tokens"]
    made(clips("vit"), "linear-probe")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(made(clips("vit"), "token-prompt").extra()["prompt.tokens"], first)
    other = made(clips("vit"), "token-prompt", seed=1).extra()["prompt.tokens"]
    assert not torch.equal(other, first)
    assert len(first.unique(dim=0)) == len(first)


def test_the_model_beside_a_prompted_copy_is_not_prompted(clips: Callable[[str], Clip]) -> None:
    clip = clips("vit")
    with torch.no_grad():
        before = clip.tower(pictures(clip))
        made(clip, "token-prompt")
        assert torch.equal(clip.tower(pictures(clip)), before)


def test_a_deep_copy_of_a_prompt_has_tokens_of_its_own(clips: Callable[[str], Clip]) -> None:
    clip = clips("vit")
    module = made(clip, "token-prompt").module
    twin = copy.deepcopy(module)
    assert isinstance(twin, TokenPrompt)
    with torch.no_grad():
        before = twin(pictures(clip))
        module.get_parameter("tokens").fill_(3)
        assert torch.equal(twin(pictures(clip)), before)
        assert not torch.equal(module(pictures(clip)), before)
        twin.tokens.zero_()
        assert not torch.equal(twin(pictures(clip)), before)


def test_prompts_run_in_bf16_and_compiled(clips: Callable[[str], Clip]) -> None:
    clip = clips("vit")
    adapted = made(clip, "token-prompt")
    with torch.no_grad():
        full = adapted.classifier(texts(clip))(pictures(clip))
        low = adapted.classifier(texts(clip), torch.bfloat16)(pictures(clip))
        module: Any = torch.compile(adapted.module, backend="eager")
        compiled = clip.classifier(texts(clip), module)(pictures(clip))
    assert 0 < (full - low).abs().max() < 0.3
    np.testing.assert_allclose(compiled, full, atol=1e-5)


@pytest.mark.parametrize("tower", TOWERS)
def test_a_frame_begins_as_the_tower_itself_and_touches_only_the_border(
    clips: Callable[[str], Clip], tower: str
) -> None:
    clip = clips(tower)
    adapted = made(clip, "pixel-prompt", width=3)
    frame = adapted.parameters["prompt.frame"]
    assert frame.shape == (3, clip.size**2 - (clip.size - 6) ** 2)
    seen: list[Tensor] = []
    adapted.tower.register_forward_pre_hook(lambda _m, arguments: seen.append(arguments[0]))
    images = pictures(clip)
    with torch.no_grad():
        assert torch.equal(adapted.module(images), clip.tower(images))
        frame += torch.arange(3.0)[:, None] + 1
        adapted.module(images)
    added = seen[1] - seen[0]
    assert added[..., 3:-3, 3:-3].abs().max() == 0
    edge = torch.ones(clip.size, clip.size, dtype=torch.bool)
    edge[3:-3, 3:-3] = False
    for channel in range(3):
        np.testing.assert_allclose(added[:, channel][:, edge], channel + 1, atol=1e-5)


@pytest.mark.parametrize("width", [16, 40])
def test_a_frame_that_covers_the_image_is_refused(clips: Callable[[str], Clip], width: int) -> None:
    with pytest.raises(CurateError, match=f"width {width} .* 32 pixels; give 1 to 15"):
        made(clips("vit"), "pixel-prompt", width=width)


def test_a_linear_probe_answers_by_its_head(clips: Callable[[str], Clip]) -> None:
    clip = clips("resnet")
    adapted = made(clip, "linear-probe")
    assert adapted.head is not None
    classifier = adapted.classifier(texts(clip))
    with torch.no_grad():
        assert torch.equal(classifier(pictures(clip)), torch.zeros(2, 3))
        adapted.head.weight.copy_(torch.arange(96.0).reshape(3, 32))
        adapted.head.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        expected = classifier.features(pictures(clip)) @ adapted.head.weight.T + adapted.head.bias
        np.testing.assert_allclose(classifier(pictures(clip)), expected, atol=1e-4)
    assert sorted(adapted.extra()) == ["head.bias", "head.weight"]
    with pytest.raises(CurateError, match="at least two classes, not 0"):
        adapt(clip, AdapterConfig(kind="linear-probe"))


def test_weights_between_the_two_models_can_be_loaded(clips: Callable[[str], Clip]) -> None:
    clip = clips("resnet")
    adapted = made(clip, "finetune")
    trained_a_little(clip, adapted)
    model = copy.deepcopy(clip.model)
    original = dict(clip.model.state_dict())
    with torch.no_grad():
        for share, tower in ((0.0, clip.tower), (1.0, adapted.module)):
            model.load_state_dict(interpolate(original, adapted.weights(), share))
            assert torch.equal(model.visual(pictures(clip)), tower(pictures(clip)))  # type: ignore[operator]


@pytest.mark.parametrize("tower", TOWERS)
def test_patch_tokens_lie_in_the_space_of_the_features(
    clips: Callable[[str], Clip], tower: str
) -> None:
    clip = clips(tower)
    classifier = clip.classifier(texts(clip))
    with torch.no_grad():
        if not has_patches(clip.tower):
            with pytest.raises(CurateError, match="tga-zsr: reads the patch tokens of a ViT"):
                features_and_patches(classifier, pictures(clip))
            return
        features, patches = features_and_patches(classifier, pictures(clip))
        assert torch.equal(features, classifier.features(pictures(clip)))
    assert patches.shape == (2, {"timm-vit": 100}.get(tower, 16), 32)
    assert patches.dtype == torch.float32


def test_patch_tokens_are_those_that_open_clip_gives(clips: Callable[[str], Clip]) -> None:
    clip = clips("vit")
    tower: Any = copy.deepcopy(clip.tower)
    tower.output_tokens = True
    classifier = clip.classifier(texts(clip))
    pixels = (pictures(clip) - classifier.mean) / classifier.std
    with torch.no_grad():
        _, tokens = tower(pixels)
        _, patches = features_and_patches(classifier, pictures(clip))
        np.testing.assert_allclose(patches, tokens @ tower.proj, atol=1e-5)
    timm: Any = clips("timm-vit")
    with torch.no_grad():
        classifier = timm.classifier(texts(timm))
        features, patches = features_and_patches(classifier, pictures(timm))
        pixels = (pictures(timm) - classifier.mean) / classifier.std
        tokens = timm.tower.trunk.forward_features(pixels)
        np.testing.assert_allclose(patches, timm.tower.head(tokens[:, 1:]), atol=1e-5)
        # the class token, treated as a patch is, would be the feature
        np.testing.assert_allclose(features, timm.tower.head(tokens[:, 0]), atol=1e-5)


def test_patch_tokens_of_a_prompted_tower_are_the_patches_alone(
    clips: Callable[[str], Clip],
) -> None:
    clip = clips("vit")
    classifier = made(clip, "token-prompt").classifier(texts(clip))
    with torch.no_grad():
        features, patches = features_and_patches(classifier, pictures(clip))
        assert patches.shape == (2, 16, 32)
        assert torch.equal(features, classifier.features(pictures(clip)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "partial"}, "adapter partial needs blocks"),
        ({"kind": "token-prompt", "width": 3, "length": 2}, "width is no setting of adapter token"),
        ({"kind": "finetune", "length": 2}, "length is no setting of adapter finetune"),
        ({"kind": "pixel-prompt", "width": 0}, "greater than or equal to 1"),
        ({"kind": "lora"}, "Input should be"),
        ({"kind": "finetune", "rank": 2}, "Extra inputs"),
    ],
)
def test_settings_belong_to_their_kind(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AdapterConfig(**values)
