"""A small CLIP from scratch: whole, exact when interrupted, measured like any other model."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import open_clip
import polars as pl
import pytest
import torch
from pictures import encoded, picture, write_shard
from typer.testing import CliRunner

from curate import artifacts
from curate.errors import CurateError
from curate.files import read_json
from pipelines import pretrain as stage
from pipelines.cli import app
from pipelines.pretrain import PretrainRequest, run_pretrain
from pipelines.watch import Watch
from train.tiny_clip.course import Course, Epoch
from train.trained import load_adapted

NAMES = ("cat", "dog", "horse")
WEIGHTS = "open_clip_model.safetensors"


def write_data(root: Path, shards: int = 3, labelled: bool = True) -> Path:
    for shard in range(shards):
        samples = []
        for n in range(90):
            members = {"png": encoded(picture(100 * shard + n))}
            if labelled:
                members["cls"] = NAMES[n % 3].encode()
            samples.append((f"s{shard}{n:02}", members))
        write_shard(root / f"{shard}.tar", samples)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("pretrain") / "data")


def asked(data: Path, out: Path, epochs: int = 2, seed: int = 0) -> PretrainRequest:
    return PretrainRequest((str(data),), out, epochs, seed)


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    """A run that nothing disturbed."""
    run_pretrain(asked(data, data.parent / "finished"), Watch())
    return data.parent / "finished"


def test_the_folder_is_a_model_that_open_clip_and_the_evaluation_load(finished: Path) -> None:
    model = open_clip.create_model(f"local-dir:{finished}")
    adapted, classes = load_adapted(finished)
    assert classes == NAMES
    same = adapted.weights()
    assert all(torch.equal(value, same[name]) for name, value in model.state_dict().items())


def test_facts_card_and_metrics_say_what_was_done(finished: Path) -> None:
    facts = read_json(finished / "train.json")
    assert (facts["updates"], facts["data"]["samples"], facts["classes"]) == (2, 270, list(NAMES))
    card = (finished / "README.md").read_text("utf-8")
    assert "| epochs, updates, batch | 2, 2, 250 |" in card
    assert "270 samples" in card
    metrics = pl.read_parquet(finished / "metrics.parquet")
    assert metrics["epoch"].to_list() == [1, 2]
    assert metrics["right"].is_between(0, 1).all()


def test_a_second_run_does_nothing_and_another_seed_makes_another_model(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    before = (finished / "manifest.json").stat().st_mtime_ns
    run_pretrain(asked(data, finished), Watch())
    assert (finished / "manifest.json").stat().st_mtime_ns == before
    run_pretrain(asked(data, tmp_path / "other", seed=1), Watch())
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != (finished / WEIGHTS).read_bytes()
    assert not artifacts.verify(finished)


def test_a_run_that_is_interrupted_goes_on_to_the_same_bytes(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Course):
        def epoch(self) -> Epoch:
            if self.done == 1:
                raise KeyboardInterrupt
            return super().epoch()

    out = tmp_path / "again"
    with monkeypatch.context() as patched:
        patched.setattr(stage, "Course", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_pretrain(asked(data, out), Watch())
    assert not out.exists()
    steps: list[tuple[int, int]] = []
    run_pretrain(
        asked(data, out), Watch(step=lambda steps_, images: steps.append((steps_, images)))
    )
    assert steps == [(1, 0), (1, 270)]
    for name in (WEIGHTS, "metrics.parquet", "train.json"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()


def test_a_list_of_ids_chooses_the_samples(data: Path, tmp_path: Path) -> None:
    ids = [f"{shard}:s{shard}{n:02}" for shard in range(3) for n in range(85)]
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
    request = replace(asked(data, tmp_path / "m", epochs=1), ids=tmp_path / "ids.txt")
    assert run_pretrain(request, Watch())["data"]["samples"] == 255


def test_too_few_samples_and_missing_labels_are_refused(tmp_path: Path) -> None:
    few = write_data(tmp_path / "few", shards=1)
    with pytest.raises(CurateError, match="90 samples; the small CLIP is trained on 250 to"):
        run_pretrain(asked(few, tmp_path / "m"), Watch())
    bare = write_data(tmp_path / "bare", labelled=False)
    with pytest.raises(CurateError, match="has no label"):
        run_pretrain(asked(bare, tmp_path / "m"), Watch())
    assert not (tmp_path / "m").exists()


def test_the_command_says_what_it_made(data: Path, finished: Path) -> None:
    told = CliRunner().invoke(app, ["pretrain", str(data), "--out", str(finished), "--epochs", "2"])
    assert told.exit_code == 0
    assert told.stdout == f"2 updates on 270 samples\nmodel  {finished}\n"


@pytest.mark.slow
def test_a_killed_process_goes_on_and_loses_nothing(data: Path, tmp_path: Path) -> None:
    def command(out: Path) -> list[str]:
        words = ["pipelines", "pretrain", str(data), "--out", str(out), "--epochs", "12"]
        return [sys.executable, "-m", *words, "--threads", "1"]

    out, straight = tmp_path / "killed", tmp_path / "straight"
    with subprocess.Popen(command(out), start_new_session=True) as process:
        deadline = time.monotonic() + 600
        while not list(tmp_path.glob(".killed.*/checkpoints/last.safetensors")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert not out.exists()
    for folder in (out, straight):
        subprocess.run(command(folder), check=True)
    assert (out / WEIGHTS).read_bytes() == (straight / WEIGHTS).read_bytes()
