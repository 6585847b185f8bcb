"""Trained models, found prompts, surrogates and plain classifiers, each evaluated by one run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import torch
from evaluating import asked, measure, rows_of, small, write_test_set
from pictures import encoded, picture, write_shard
from safetensors.torch import save_file
from small_clips import write_clip
from torchvision import models

from curate.errors import CurateError
from eval.datasets.registry import open_evalset
from eval.models.classifier import class_texts
from eval.pictures import read_pictures
from eval.records import read_samples
from pipelines.evaluation.report import write_eval_report
from pipelines.evaluation.request import ModelRequest
from pipelines.train import TrainRequest, run_train
from pipelines.watch import Watch
from train.recipe import read_recipe
from train.trained import load_adapted

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "epochs": None, "updates": 2, "batch": 8, "warmup": 0, "held_out": 8, "precision": "fp32",
    "measured.steps": 1, "optimizer.rate": 0.01,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "finetune": {},
    "prompted": {"adapter": {"kind": "pixel-prompt", "width": 4}},
    "probed": {"adapter": {"kind": "linear-probe"}, "loss": "ce", "attack": None},
}
ATTACK = "mine@fgsm.eps4.native"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test set, a training set of the same classes in another order, and a model."""
    root = tmp_path_factory.mktemp("models")
    write_test_set(root / "set", 12)
    classes = ("horse", "cat", "dog")
    samples = [
        (f"t{n:02}", {"png": encoded(picture(200 + n, 32)), "cls": classes[n % 3].encode()})
        for n in range(32)
    ]
    write_shard(root / "train" / "0.tar", samples)
    for kind in ("vit", "resnet"):
        write_clip(kind, root / kind)
    return root


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """Runs of `curate train`, by kind of adapter."""
    for name, changes in KINDS.items():
        run_train(
            TrainRequest(
                data=(str(place / "train"),), model="open_clip:local-dir",
                recipe=read_recipe("tiny", SMALL | changes), out=place / "runs" / name,
                weights=str(place / "vit"), device="cpu", workers=0,
                classes=("horse", "cat", "dog"),
            ),
            Watch(),
        )  # fmt: skip
    return place / "runs"


def model(folder: Path, **more: Any) -> ModelRequest:
    return ModelRequest(str(folder), device="cpu", **more)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_trained_model_is_evaluated_with_what_was_trained(
    place: Path, trained: Path, tmp_path: Path, kind: str
) -> None:
    measure(asked(place / "set", tmp_path / "base", "mine", model=small(place / "vit")))
    measure(asked(place / "set", tmp_path / kind, "mine", ATTACK, model=model(trained / kind)))
    found = read_samples(tmp_path / kind / "mine" / "samples.parquet")
    before = read_samples(tmp_path / "base" / "mine" / "samples.parquet")
    assert not found["margin"].equals(before["margin"])
    adapted, classes = load_adapted(trained / kind)
    subject = open_evalset("mine", place / "set")
    pictures = read_pictures(subject, range(12), None)
    texts = class_texts(adapted.clip, subject.classes, subject.templates)
    with torch.no_grad():
        logits = adapted.classifier(texts)(pictures.images.float() / 255)
    order = classes if kind == "probed" else subject.classes
    named = [subject.classes.index(order[row]) for row in logits.argmax(dim=1).tolist()]
    assert found["pred"].to_list() == named


def test_results_of_trained_models_stand_in_one_report_with_their_examples(
    place: Path, trained: Path, tmp_path: Path
) -> None:
    for kind in ("finetune", "prompted"):
        measure(asked(place / "set", tmp_path / kind, "mine", ATTACK, model=model(trained / kind)))
    text = write_eval_report(tmp_path, {}).read_text()
    for kind in ("finetune", "prompted"):
        assert kind in text
    assert str(tmp_path) not in text
    assert text.count("<img") >= 2


def test_a_head_knows_its_own_classes_only(trained: Path, tmp_path: Path) -> None:
    write_test_set(tmp_path / "set", 4, names=("cat", "dog"))
    with pytest.raises(CurateError, match="its head knows 3 classes, and mine has 2"):
        measure(asked(tmp_path / "set", tmp_path / "m", "mine", model=model(trained / "probed")))
    (tmp_path / "prefixes.txt").write_text("a photo of\n")
    told = model(trained / "probed", prefixes=str(tmp_path / "prefixes.txt"))
    with pytest.raises(CurateError, match="reads no texts"):
        measure(asked(tmp_path / "set", tmp_path / "m", "mine", model=told))


def test_found_prompts_take_the_place_of_templates(
    place: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "prefixes.txt").write_text("itap of many\nblurry green\nitap of many\n")
    for name, weights in (("base", small(place / "vit")), ("tuned", model(trained / "finetune"))):
        for top in (None, 1):
            told = replace(weights, prefixes=str(tmp_path / "prefixes.txt"), top=top)
            measure(asked(place / "set", tmp_path / name / str(top), "mine", model=told))
        plain = asked(place / "set", tmp_path / name / "plain", "mine", model=weights)
        measure(plain)
        rows = {str(top): rows_of(tmp_path / name / str(top)) for top in (None, 1, "plain")}
        assert len({row["mine"] for row in rows.values()}) == 3


def test_a_transfer_attack_walks_along_the_surrogate_and_is_judged_by_the_model(
    place: Path, tmp_path: Path
) -> None:
    word = "mine@transfer-fgsm.eps4.native"
    vit = small(place / "vit")
    white = asked(place / "set", tmp_path / "white", ATTACK, model=vit)
    measure(white)
    rows = {"white": read_samples(tmp_path / "white" / ATTACK / "samples.parquet")}
    for name in ("vit", "resnet"):
        request = asked(
            place / "set", tmp_path / name, word, model=vit, surrogate=small(place / name)
        )
        measure(request)
        rows[name] = read_samples(tmp_path / name / word / "samples.parquet")
    said = ("id", "pred", "margin", "correct", "linf")
    assert rows["vit"].select(said).equals(rows["white"].select(said))
    assert not rows["resnet"].select(said).equals(rows["white"].select(said))
    assert rows["resnet"]["clean_pred"].equals(rows["white"]["clean_pred"])
    # another surrogate is another attack
    measure(
        replace(white, settings=(word,), out=tmp_path / "vit", surrogate=small(place / "resnet"))
    )
    again = read_samples(tmp_path / "vit" / word / "samples.parquet")
    assert again.equals(rows["resnet"])


def test_a_plain_classifier_is_measured_on_as_many_classes(place: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.squeezenet1_1(weights=None, num_classes=3)
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    peer = ModelRequest(
        "torchvision:squeezenet1_1", weights=str(tmp_path / "net.safetensors"), device="cpu"
    )
    words = ("mine", "mine@fgsm.eps4.native")
    found = measure(asked(place / "set", tmp_path / "m", *words, model=peer, limit=4))
    assert [row["numbers"]["full"]["accuracy"]["total"] for row in found] == [4, 4]
    write_test_set(tmp_path / "two", 4, names=("cat", "dog"))
    with pytest.raises(CurateError, match="knows 3 classes and reads no texts"):
        measure(asked(tmp_path / "two", tmp_path / "n", "mine", model=peer))


def test_two_models_of_other_folders_are_two_models_in_a_table(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "vit", tmp_path / "other")
    for name, folder in (("one", place / "vit"), ("two", tmp_path / "other")):
        measure(asked(place / "set", tmp_path / "eval" / name, "mine", model=small(folder)))
    write_eval_report(tmp_path / "eval", {})
    frames = [pl.read_parquet(path) for path in (tmp_path / "eval").rglob("samples.parquet")]
    assert frames[0].equals(frames[1])
