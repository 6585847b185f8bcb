"""Zero-shot classifiers: open_clip's own logits, in fp32, with texts encoded once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from small_clips import MEAN, STD, TOWERS, write_clip
from torch import Tensor, nn

from curate.errors import CurateError
from eval.models.classifier import (
    TEXT_BATCH,
    Clip,
    ZeroShot,
    class_texts,
    cosine_logits,
    encode_texts,
    load_clip_model,
)

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["cat", "dog", "horse", "ship", "truck"]


def pictures(count: int, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def unit(rows: Tensor) -> np.ndarray:
    values = rows.double().numpy()
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_logits_are_those_of_open_clip(clip: Clip) -> None:
    texts = class_texts(clip, NAMES, ["a photo of a {}"])
    model: Any = clip.model
    images = pictures(6)
    column = {"mean": torch.tensor(MEAN)[:, None, None], "std": torch.tensor(STD)[:, None, None]}
    with torch.no_grad():
        got = clip.classifier(texts)(images)
        tokens = clip.tokenize([f"a photo of a {name}" for name in NAMES])
        expected, _ = model.get_logits((images - column["mean"]) / column["std"], tokens)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("kind", TOWERS)
def test_every_kind_of_tower_classifies(kind: str, tmp_path: Path) -> None:
    clip = load_clip_model("open_clip:local-dir", str(write_clip(kind, tmp_path / kind)), "cpu")
    with torch.no_grad():
        logits = clip.classifier(class_texts(clip, NAMES, ["{}"]))(pictures(3, clip.size))
    assert logits.shape == (3, 5)
    assert logits.isfinite().all()
    assert len(logits.unique(dim=0)) == 3
    assert not any(part.training for part in clip.model.modules())
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())


def test_class_texts_are_means_of_unit_rows_normalised_again(clip: Clip) -> None:
    templates = ["a photo of a {}", "the {}, seen twice"]
    got = class_texts(clip, NAMES, templates)
    model: Any = clip.model
    for row, name in zip(got.double().numpy(), NAMES, strict=True):
        with torch.no_grad():
            rows = unit(model.encode_text(clip.tokenize([t.format(name) for t in templates])))
        mean = rows.mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


def test_braces_in_a_class_name_stay_as_they_are(clip: Clip) -> None:
    got = class_texts(clip, ["{0} {x}"], ["a {}"])
    np.testing.assert_allclose(got, encode_texts(clip, ["a {0} {x}"]), atol=1e-6)


def test_texts_are_encoded_once_and_never_while_classifying(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = clip.model
    encode, seen = model.encode_text, []
    monkeypatch.setattr(
        model, "encode_text", lambda tokens: (seen.append(len(tokens)), encode(tokens))[1]
    )
    names = [f"thing {i}" for i in range(TEXT_BATCH)]
    classifier = clip.classifier(class_texts(clip, names, ["a {}", "the {}"]))
    assert seen == [TEXT_BATCH, TEXT_BATCH]
    for _ in range(3):
        classifier(pictures(2))
    assert sum(seen) == 2 * TEXT_BATCH


def test_the_logit_scale_enters_once(clip: Clip) -> None:
    texts = class_texts(clip, NAMES, ["{}"])
    with torch.no_grad():
        classifier = clip.classifier(texts)
        features = classifier.features(pictures(4))
        cosines = unit(features) @ unit(texts).T
        np.testing.assert_allclose(classifier(pictures(4)), 1 / 0.07 * cosines, atol=1e-4)
        # and a longer feature has the same logits
        np.testing.assert_allclose(classifier.logits(features * 7), classifier.logits(features),
                                   atol=1e-5)  # fmt: skip


def test_features_are_not_normalised(classifier: ZeroShot) -> None:
    with torch.no_grad():
        lengths = classifier.features(pictures(4)).norm(dim=1)
    assert ((lengths - 1).abs() > 0.1).all()


def test_bf16_stays_near_and_keeps_the_product_in_fp32(clip: Clip) -> None:
    texts = class_texts(clip, NAMES, ["{}"])
    images = pictures(8)
    with torch.no_grad():
        full = clip.classifier(texts)(images)
        low = clip.classifier(texts, dtype=torch.bfloat16)
        logits = low(images)
        with torch.autocast("cpu", torch.bfloat16):
            inside = low(images)
    assert logits.dtype == inside.dtype == torch.float32
    assert torch.equal(inside, logits)
    assert 0 < (full - logits).abs().max() < 0.3
    rounded = logits.to(torch.bfloat16).float()
    assert (rounded - logits).abs().max() > 1e-3  # a product in bf16 could not say this


def test_an_outer_autocast_does_not_reach_an_fp32_tower(classifier: ZeroShot) -> None:
    with torch.no_grad():
        plain = classifier(pictures(3))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(classifier(pictures(3)), plain)


def test_fp16_and_senseless_scales_are_refused() -> None:
    texts = torch.eye(3)
    options: dict[str, Any] = {"mean": MEAN, "std": STD}
    with pytest.raises(CurateError, match="fp32 or bf16"):
        ZeroShot(nn.Identity(), texts, scale=1.0, dtype=torch.float16, **options)
    for scale in (0.0, float("nan"), float("inf")):
        with pytest.raises(CurateError, match="logit scale"):
            ZeroShot(nn.Identity(), texts, scale=scale, **options)


def test_a_feature_of_length_zero_has_logits_of_zero() -> None:
    assert torch.equal(cosine_logits(torch.zeros(1, 3), torch.eye(3), 100.0), torch.zeros(1, 3))


def test_a_state_dict_holds_the_tower_alone(classifier: ZeroShot) -> None:
    assert all(key.startswith("tower.") for key in classifier.state_dict())


@pytest.mark.parametrize(
    ("names", "templates", "words"),
    [
        (["cat"], [], "no template"),
        (["cat"], ["a photo"], "'a photo': must hold {} exactly once"),
        (["cat"], ["{} and {}"], "exactly once"),
        (["cat", " "], ["a {}"], "class 1: has an empty name"),
        ([], ["a {}"], "no texts"),
    ],
)
def test_bad_names_and_templates_are_named(
    clip: Clip, names: list[str], templates: list[str], words: str
) -> None:
    with pytest.raises(CurateError, match=words):
        class_texts(clip, names, templates)


def test_an_encoder_that_reads_no_text_is_no_clip_model() -> None:
    with pytest.raises(CurateError, match="builtin:layout: not a CLIP model"):
        load_clip_model("builtin:layout")


def test_open_clip_makes_the_model_again_from_its_config(clip: Clip, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    (again / "open_clip_config.json").write_text(json.dumps(clip.config))
    tensors = {key: value.contiguous() for key, value in clip.model.state_dict().items()}
    save_file(tensors, again / "open_clip_model.safetensors")
    other: Any = open_clip.create_model(f"local-dir:{again}", require_pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(other.visual(pictures(2)), clip.tower(pictures(2)))
    loaded = load_clip_model("open_clip:local-dir", str(again), "cpu")
    assert loaded.weights_digest == clip.weights_digest
    assert (loaded.size, loaded.mean, loaded.std) == (32, MEAN, STD)


def test_the_activation_of_a_published_tag_is_part_of_the_config(tmp_path: Path) -> None:
    folder = write_clip("vit", tmp_path / "vit")
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["quick_gelu"] = True
    path.write_text(json.dumps(config))
    clip = load_clip_model("open_clip:local-dir", str(folder), "cpu")
    assert clip.config["model_cfg"]["quick_gelu"] is True


def test_images_that_are_not_square_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOWERS, "wide", TOWERS["vit"] | {"image_size": [32, 48]})
    folder = write_clip("wide", tmp_path / "wide")
    with pytest.raises(CurateError, match="48 x 32"):
        load_clip_model("open_clip:local-dir", str(folder), "cpu")
