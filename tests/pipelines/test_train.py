"""A training run from shards to model folder: whole, exact when interrupted, clear in refusal."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import polars as pl
import pytest
import torch
from pictures import encoded, picture, write_shard
from polars.testing import assert_frame_equal
from small_clips import write_clip

from curate import artifacts
from curate.errors import CurateError
from pipelines import train as stage
from pipelines.train import TrainRequest, run_train
from pipelines.watch import Watch
from train.loop import Update
from train.recipe import read_recipe

SMALL = {
    "epochs": None, "updates": 6, "batch": 8, "warmup": 2, "held_out": 12, "measure_every": 3,
    "save_every": 2, "precision": "fp32", "measured.steps": 2,
}  # fmt: skip


def write_data(root: Path) -> Path:
    names = ("cat", "dog", "horse")
    for shard in range(3):
        samples = [
            (
                f"s{shard}{n:02}",
                {"png": encoded(picture(100 * shard + n)), "cls": names[n % 3].encode()},
            )
            for n in range(20)
        ]
        write_shard(root / f"{shard}.tar", samples)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train")
    write_data(root / "data")
    for kind in ("vit", "resnet"):
        write_clip(kind, root / kind)
    return root


def request(place: Path, out: Path, kind: str = "vit", **changes: Any) -> TrainRequest:
    shares = changes.pop("shares", ())
    recipe = read_recipe("tiny", SMALL | changes)
    return TrainRequest(
        data=(str(place / "data"),), model="open_clip:local-dir", recipe=recipe, out=out,
        weights=str(place / kind), device="cpu", workers=0, shares=shares,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(place: Path) -> tuple[Path, dict[str, Any]]:
    """A run that nothing disturbed, and its facts."""
    out = place / "finished"
    facts = run_train(request(place, out, shares=(0.0, 0.5, 1.0)), Watch())
    assert facts is not None
    return out, facts


def losses(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "metrics.parquet")


def outputs(folder: Path) -> list[dict[str, Any]]:
    return artifacts.read_manifest(folder).outputs


def test_plain_open_clip_loads_the_result_and_it_is_another_model(
    place: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    out, _ = finished
    trained = open_clip.create_model(f"local-dir:{out}", require_pretrained=True)
    base = open_clip.create_model(f"local-dir:{place / 'vit'}", require_pretrained=True)
    after, before = trained.state_dict(), base.state_dict()
    assert not torch.equal(after["visual.conv1.weight"], before["visual.conv1.weight"])
    for name, value in before.items():
        if not name.startswith("visual."):
            assert torch.equal(after[name], value), name


def test_metrics_have_a_row_for_each_update_and_measurements_at_their_times(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    out, facts = finished
    metrics = losses(out)
    assert metrics["step"].to_list() == list(range(7))
    measured = metrics.filter(pl.col("clean").is_not_null())["step"].to_list()
    assert measured == [0, 3, 6]
    assert facts["after"]["clean"] == metrics["clean"][-1]
    assert facts["before"]["images"] == 12


def test_the_card_says_what_it_was_trained_on(finished: tuple[Path, dict[str, Any]]) -> None:
    out, facts = finished
    card = (out / "README.md").read_text()
    for words in (facts["data"]["digest"], "eps 4/255", "not known to curate", "48 samples"):
        assert words in card


def test_interpolation_begins_with_the_original_and_ends_with_the_adapted_model(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    out, facts = finished
    rows = facts["interpolation"]
    assert [row["share"] for row in rows] == [0.0, 0.5, 1.0]
    assert (rows[0]["clean"], rows[0]["robust"]) == (
        facts["before"]["clean"], facts["before"]["robust"]
    )  # fmt: skip
    assert (rows[2]["clean"], rows[2]["robust"]) == (
        facts["after"]["clean"], facts["after"]["robust"]
    )  # fmt: skip
    best = max(rows, key=lambda row: row["clean"] + row["robust"])
    assert facts["best_share"] == best["share"]
    open_clip.create_model(f"local-dir:{out / 'interpolated'}", require_pretrained=True)


def test_a_second_run_does_nothing(
    place: Path, finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, facts = finished
    monkeypatch.setattr(stage, "updates", None)
    assert run_train(request(place, out, shares=(0.0, 0.5, 1.0)), Watch()) == facts


def test_a_run_that_is_interrupted_goes_on_to_the_same_bytes(
    place: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "again"
    real = stage.updates

    def interrupted(*given: Any) -> Iterator[Update]:
        for update in real(*given):
            if update.step == 5:
                raise KeyboardInterrupt
            yield update

    asked = request(place, out, shares=(0.0, 0.5, 1.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "updates", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_train(asked, Watch())
    assert not out.exists()
    steps = []
    run_train(asked, Watch(step=lambda done, _: steps.append(done)))
    assert steps == [4, 1, 1]  # goes on from the checkpoint of update 4
    same = [entry for entry in outputs(out) if entry["path"] not in {"train.json", "README.md"}]
    assert same == [e for e in outputs(finished[0]) if e["path"] not in {"train.json", "README.md"}]


def test_pieces_of_a_batch_change_nothing_but_last_bits(
    place: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "pieces"
    run_train(request(place, out, piece=3), Watch())
    assert_frame_equal(
        losses(out).select("step", "loss"), losses(finished[0]).select("step", "loss"), rel_tol=1e-4
    )


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("vit", {"adapter": {"kind": "token-prompt", "length": 3}, "optimizer.rate": 1}),
        ("resnet", {"adapter": {"kind": "pixel-prompt", "width": 4}}),
        ("resnet", {"adapter": {"kind": "partial", "blocks": 1}}),
        ("vit", {"adapter": {"kind": "linear-probe"}, "loss": "ce", "attack": None}),
        ("vit", {"loss": "adv"}),
        ("vit", {"loss": "coadv"}),
        ("vit", {"loss": "imgcoadv"}),
        ("resnet", {"loss": "tecoa-pseudo"}),
        ("vit", {"loss": "fare", "average": 0.9}),
        ("vit", {"loss": "pmg-aft"}),
        ("vit", {"loss": "tga-zsr"}),
        ("resnet", {"loss": "agft", "optimizer.name": "sgd"}),
    ],
)
def test_every_loss_and_adapter_runs_to_the_end(
    place: Path, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    facts = run_train(request(place, out, kind, updates=2, **changes), Watch())
    assert facts is not None
    assert losses(out)["loss"].drop_nulls().is_finite().all()
    assert facts["updates"] == 2
    adapter = changes.get("adapter", {"kind": "finetune"})["kind"]
    assert (out / "extra.safetensors").exists() == (adapter.endswith(("prompt", "probe")))


def test_captions_without_classes_are_enough_for_their_loss(place: Path, tmp_path: Path) -> None:
    root = tmp_path / "pairs"
    samples = [
        (f"p{n}", {"png": encoded(picture(n)), "txt": f"picture number {n}".encode()})
        for n in range(24)
    ]
    write_shard(root / "0.tar", samples)
    asked = request(place, tmp_path / "out", loss="tecoa-captions", updates=2)
    facts = run_train(replace(asked, data=(str(root),)), Watch())
    assert facts is not None
    assert facts["before"] is None
    assert "was not measured" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("loss", "shares", "words"),
    [
        ("tecoa-pseudo", (), "needs class names"),
        ("agft", (), "needs class names"),
        ("fare", (0.0, 1.0), "samples without labels"),
    ],
)
def test_what_needs_classes_is_refused_without_labels(
    place: Path, tmp_path: Path, loss: str, shares: tuple[float, ...], words: str
) -> None:
    samples = [(f"p{n}", {"png": encoded(picture(n))}) for n in range(24)]
    write_shard(tmp_path / "pairs" / "0.tar", samples)
    asked = request(place, tmp_path / "out", loss=loss, shares=shares)
    with pytest.raises(CurateError, match=words):
        run_train(replace(asked, data=(str(tmp_path / "pairs"),)), Watch())


def test_a_prompt_cannot_be_interpolated(place: Path, tmp_path: Path) -> None:
    prompt = {"kind": "pixel-prompt", "width": 4}
    asked = request(place, tmp_path / "out", adapter=prompt, shares=(0.0, 1.0))
    with pytest.raises(CurateError, match="adapter pixel-prompt has no original weights"):
        run_train(asked, Watch())


def test_nan_in_a_loss_stops_the_run_and_names_the_samples(place: Path, tmp_path: Path) -> None:
    asked = request(place, tmp_path / "out", **{"optimizer.rate": 1e30, "optimizer.name": "sgd",
                                                "clip_norm": None, "warmup": 0})  # fmt: skip
    with pytest.raises(CurateError, match=r"step \d+: .* is NaN or infinite for \d:s\d+"):
        run_train(asked, Watch())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 100}, "the training set has only 48 samples"),
        ({"held_out": 60}, "60 samples cannot be held out of 60"),
        ({"adapter": {"kind": "token-prompt", "length": 3}}, "tokens need a ViT"),
        ({"loss": "tga-zsr"}, "patch tokens of a ViT"),
        ({"loss": "imgcoadv", "piece": 4}, "one process, and no piece"),
        ({"loss": "tecoa-captions"}, "has no caption"),
        ({"loss": "fare", "attack.start": "zero"}, "no gradient at the image itself"),
    ],
)
def test_what_does_not_go_together_is_said_before_training(
    place: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CurateError, match=words):
        run_train(request(place, tmp_path / "out", "resnet", **changes), Watch())
    assert not (tmp_path / "out").exists()


# --- as processes of their own --------------------------------------------------------------------


def command(place: Path, out: Path, *more: str) -> list[str]:
    settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    return [
        "pipelines", "train", str(place / "data"), "--model", "open_clip:local-dir",
        "--weights", str(place / "vit"), "--recipe", "tiny", "--out", str(out), "--workers", "1",
        "--threads", "1", "--device", "cpu", *settings, *more,
    ]  # fmt: skip


def test_a_killed_process_goes_on_and_loses_nothing(place: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "killed", ["--set=updates=40", "--set=save_every=1"]
    with subprocess.Popen(
        [sys.executable, "-m", *command(place, out, *words)], start_new_session=True
    ) as process:
        deadline = time.monotonic() + 600
        while not list(tmp_path.glob(".killed.*/checkpoints/last.safetensors")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert not out.exists()
    subprocess.run([sys.executable, "-m", *command(place, out, *words)], check=True)
    straight = tmp_path / "straight"
    subprocess.run([sys.executable, "-m", *command(place, straight, *words)], check=True)
    assert_frame_equal(losses(out), losses(straight))
    assert (out / "open_clip_model.safetensors").read_bytes() == (
        straight / "open_clip_model.safetensors"
    ).read_bytes()
    shutil.rmtree(straight)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["tecoa", "fare"])
def test_two_processes_have_the_losses_of_one(place: Path, tmp_path: Path, loss: str) -> None:
    words = [f"--set=loss={loss}"]
    subprocess.run([sys.executable, "-m", *command(place, tmp_path / "one", *words)], check=True)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    subprocess.run(
        [sys.executable, "-m", *launch, *command(place, tmp_path / "two", *words)], check=True
    )
    assert_frame_equal(losses(tmp_path / "two"), losses(tmp_path / "one"), rel_tol=1e-4)
