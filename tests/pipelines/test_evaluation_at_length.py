"""Whole suites, real images, worker processes and kills: what takes longer than a moment."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from evaluating import asked, measure, rows_of, small, write_deduplicated, write_test_set
from interruptions import run_killing
from small_clips import write_clip

from curate import artifacts
from eval.models.classifier import load_clip_model
from eval.records import read_samples
from eval.suites import find_suite, settings_of
from pipelines.evaluation.overlap import overlap_of
from pipelines.evaluation.report import write_eval_report
from pipelines.evaluation.request import EvalRequest, ModelRequest, Source
from pipelines.execute import unit_runner
from train.export import export

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

WORDS = ("mine", "mine.fog.3", "mine@pgd-3.eps4.native", "mine@nes-2.eps2.native")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three pieces, and a model with random weights."""
    root = tmp_path_factory.mktemp("length")
    write_test_set(root / "set", 1100)
    write_clip("vit", root / "vit")
    return root


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """Results that nothing disturbed."""
    measure(asked(place / "set", place / "whole" / "m", *WORDS, model=small(place / "vit")))
    return place / "whole" / "m"


def test_two_worker_processes_do_not_show_in_the_rows(
    place: Path, whole: Path, tmp_path: Path
) -> None:
    request = asked(place / "set", tmp_path / "m", *WORDS, model=small(place / "vit"), batch=100)
    with unit_runner(2, None) as runner:
        measure(request, runner)
    assert rows_of(tmp_path / "m") == rows_of(whole)


@pytest.mark.parametrize("seed", [0, 1])
def test_kills_at_any_moment_lose_nothing(
    place: Path, whole: Path, tmp_path: Path, seed: int
) -> None:
    words = [
        sys.executable, "-m", "pipelines", "eval", "run", "open_clip:local-dir", "--weights",
        str(place / "vit"), "--data", f"mine={place}/set", "--device", "cpu",
        *(part for word in WORDS for part in ("--setting", word)),
    ]  # fmt: skip
    run_killing(words, tmp_path / "m", times=4, seed=seed)
    assert rows_of(tmp_path / "m") == rows_of(whole)
    for folder in (tmp_path / "m").iterdir():
        assert folder.name.startswith(".") or not artifacts.verify(folder)
    assert not list((tmp_path / "m").glob("*.partial"))


def test_every_setting_of_a_suite_is_measured_on_every_split(tmp_path: Path) -> None:
    folder, split = write_deduplicated(tmp_path)
    words = [str(setting) for setting in settings_of(find_suite("quick"), "mine")]
    for kind in ("vit", "resnet"):
        write_clip(kind, tmp_path / kind)
    request = asked(
        folder, tmp_path / "eval" / "vit", *words, split=str(split), limit=12,
        model=small(tmp_path / "vit"), surrogate=small(tmp_path / "resnet"),
    )  # fmt: skip
    found = measure(request)
    assert [row["word"] for row in found] == words
    assert len(words) > 95 + 10 + 14
    for row in found:
        assert row["numbers"]["full"]["accuracy"]["total"] == 12
        assert {"full", "clean", "overlap", "control"} <= set(row["numbers"])
    assert len(overlap_of(tmp_path / "eval")["settings"]) == len(words)
    text = write_eval_report(tmp_path / "eval", {"mine": split}).read_text()
    assert [word for word in words if word not in text] == []


# --- real images ------------------------------------------------------------------------------


def on_cifar10(data: Path, out: Path, model: ModelRequest, *words: str) -> EvalRequest:
    """A request on 48 test images."""
    request = asked(data, out, *words, model=model, limit=48)
    return replace(request, sources=(Source("cifar10", str(data / "cifar10" / "test")),))


def test_a_masked_model_is_marked_in_the_report(shared_data: Path, tmp_path: Path) -> None:
    clip = load_clip_model("builtin:tiny-clip", device="cpu")
    weights = dict(clip.model.state_dict())
    weights["logit_scale"] = weights["logit_scale"] + math.log(300)
    export(tmp_path / "masked", clip, weights)
    honest = ModelRequest("builtin:tiny-clip", device="cpu")
    for name, model in (("honest", honest), ("masked", small(tmp_path / "masked"))):
        word = "cifar10@pgd-10.eps1.native"
        measure(on_cifar10(shared_data, tmp_path / "eval" / name, model, word))
    text = write_eval_report(tmp_path / "eval", {}).read_text()
    assert "gradient vanished" in text
    facts = json.loads((tmp_path / "eval" / "report" / "report.json").read_text())
    found = {row["model"]: row["unreliable"] for row in facts["health"]}
    assert found["builtin:tiny-clip"] is None
    assert "gradient vanished" in found["open_clip:local-dir (masked)"]


def test_rows_of_the_built_in_model_are_the_same_for_any_batch(
    shared_data: Path, tmp_path: Path
) -> None:
    model = ModelRequest("builtin:tiny-clip", device="cpu")
    words = ("cifar10", "cifar10.glass_blur.2", "cifar10@pgd-5.eps1.native",
             "cifar10@dim.eps1.input")  # fmt: skip
    for batch in (1, 16, 256):
        request = on_cifar10(shared_data, tmp_path / str(batch) / "m", model, *words)
        measure(replace(request, batch=batch))
    expected = rows_of(tmp_path / "256" / "m")
    assert rows_of(tmp_path / "1" / "m") == expected
    assert rows_of(tmp_path / "16" / "m") == expected


def test_figures_of_low_precision_are_kept_apart(shared_data: Path, tmp_path: Path) -> None:
    words = ("cifar10@pgd-10.eps1.native", "cifar10@nes-2.eps1.native")
    rows = {}
    for precision in ("fp32", "bf16"):
        model = ModelRequest("builtin:tiny-clip", device="cpu", precision=precision)
        measure(on_cifar10(shared_data, tmp_path / precision, model, *words))
        rows[precision] = [
            read_samples(tmp_path / precision / word / "samples.parquet") for word in words
        ]
    assert not rows["fp32"][0]["margin"].equals(rows["bf16"][0]["margin"])
    # attacks that measure small differences stay in fp32
    assert rows["fp32"][1].equals(rows["bf16"][1])
