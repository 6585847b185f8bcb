"""What a step's result depends on, and in which words it is stale."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flows import COPIES, NEW, OLD, copied, finished_small, flow_at, go, status, step_of
from installing import installing, project

from pipelines.flow.config import FlowConfig
from pipelines.flow.identity import identity_of, why_stale
from pipelines.flow.ledger import Record, StepBook
from train.recipe import FOLDER


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_small(tmp_path_factory.mktemp("flow"))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return copied(finished, tmp_path)


def reasons(flow: FlowConfig, step: str) -> tuple[str, ...]:
    found = status(flow)[step]
    assert found.state == "stale", found
    return found.reasons


def test_nothing_is_stale_at_first(root: Path) -> None:
    assert {one.state for one in status(flow_at(root)).values()} == {"done"}


def test_a_run_and_its_sets_may_be_moved(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("run", "test", "train"):
        (root / name).rename(moved / name)
    assert go(flow_at(moved)).done == []


def test_a_changed_setting_is_told_with_both_values(root: Path) -> None:
    flow = flow_at(root, dedup={"copies": {**COPIES, "threshold": [0.85, 0.9], "cap": 7}})
    assert reasons(flow, "dedup/copies") == ("cap: None -> 7", "threshold: 0.8 -> 0.85")


def test_what_is_far_from_a_result_leaves_it(root: Path) -> None:
    flow = flow_at(root, "threads=3", "cluster.kind=local", "cluster.workers=2", "needs.embed.X=1")
    assert {one.state for one in status(flow).values()} == {"done"}


@pytest.mark.parametrize("change", ["touched", "longer", "gone", "more"])
def test_a_changed_shard_makes_its_set_stale_and_no_other(root: Path, change: str) -> None:
    shard = root / "train" / "00001.tar"
    if change == "touched":
        os.utime(shard)
    elif change == "longer":
        shard.write_bytes(shard.read_bytes() + bytes(512))
    elif change == "gone":
        shard.unlink()
    else:
        shutil.copy(shard, root / "train" / "00002.tar")
    assert reasons(flow_at(root), OLD) == ("set old changed",)
    assert status(flow_at(root))[NEW].state == "done"
    assert reasons(flow_at(root), "dedup/copies") == (f"{OLD} is not done",)


def test_a_set_that_is_no_more_is_told(root: Path) -> None:
    shutil.rmtree(root / "train")
    (told,) = reasons(flow_at(root), OLD)
    assert told.startswith(f"{root / 'train'}: nothing is there")


def test_a_result_that_is_missing_or_cut_is_told(root: Path) -> None:
    vectors = root / "run/embeddings/old/builtin-layout/img_emb/img_emb_000000.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1])
    shutil.rmtree(root / "run/embeddings/new")
    flow = flow_at(root)
    place = "embeddings/old/builtin-layout"
    assert reasons(flow, OLD) == (f"{place}/img_emb/img_emb_000000.npy is missing or cut",)
    assert reasons(flow, NEW) == ("embeddings/new/builtin-layout-views is missing",)


def test_steps_that_are_needed_too_or_no_more_are_told(root: Path) -> None:
    flow = flow_at(root, dedup={"copies": {**COPIES, "threshold": [0.8, 0.7]}})
    go(flow_at(root, dedup={"copies": {**COPIES, "threshold": [0.8, 0.9, 0.7]}}))
    assert reasons(flow, "page/copies") == (
        "split/copies/0.9 is needed no more", "split/copies/0.7 is not done",
    )  # fmt: skip


def test_a_step_that_was_made_again_is_told_where_its_result_is_read(root: Path) -> None:
    flow = flow_at(root)
    book = StepBook(Path(flow.out), OLD)
    record = book.record()
    assert record is not None
    book.write(replace(record, id="another"))
    assert reasons(flow, "dedup/copies") == (f"{OLD} was made again",)


def test_another_version_of_the_program_is_told(root: Path) -> None:
    path = root / "run" / "flow" / "steps" / NEW / "step.json"
    stored = json.loads(path.read_text())
    stored["identity"]["curate"] = "0.0.1"
    path.write_text(json.dumps(stored))
    (told,) = reasons(flow_at(root), NEW)
    assert told.startswith("made by curate 0.0.1, this is ")


def test_a_part_that_a_package_brings_or_changes_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = project("mine", "attacks", 'odd = "my_odd:part"')
    with installing(tmp_path / "packages", monkeypatch) as install:
        install(about, {"my_odd.py": "part = 1"})
        assert reasons(flow_at(root), NEW) == ("extension attacks:odd changed",)
    assert status(flow_at(root))[NEW].state == "done"


# --- files that settings name ---------------------------------------------------------------------


def identities(root: Path, flow: FlowConfig, step: str, path: Path, change: bytes) -> list[str]:
    """Why a step is stale once a file has changed."""
    before = identity_of(step_of(flow, step), flow, {})
    path.write_bytes(change)
    now = identity_of(step_of(flow, step), flow, {})
    return why_stale(Record("done", before), now, root)


@pytest.mark.parametrize("key", ["labels", "weights", "background"])
def test_a_changed_file_that_dedup_reads_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.csv").write_text("one")
    more = {"beta": 0.5} if key == "background" else {}
    flow = flow_at(
        tmp_path, sets={"new": {"demo": "test"}, "old": {"demo": "train"}},
        dedup={"copies": {**COPIES, key: "file.csv", **more}},
    )  # fmt: skip
    told = identities(tmp_path, flow, "dedup/copies", tmp_path / "file.csv", b"two")
    assert told == [f"{tmp_path / 'file.csv'} changed"]


def test_a_changed_recipe_or_list_of_classes_is_told(tmp_path: Path) -> None:
    recipe, classes = tmp_path / "mine.yaml", tmp_path / "names.txt"
    classes.write_text("cat\n")
    shutil.copy(FOLDER / "tiny.yaml", recipe)
    entry = {"data": "old", "recipe": str(recipe), "classes": str(classes)}
    flow = flow_at(
        tmp_path, sets={"new": {"demo": "test"}, "old": {"demo": "train"}}, train={"t": entry}
    )
    for path in (recipe, classes):
        told = identities(tmp_path, flow, "train/t", path, path.read_bytes() + b"\n\n")
        assert told == [f"{path} changed"]


def test_a_changed_folder_of_a_model_is_told(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.bin").write_text("one")
    entry = {"models": [str(model)], "data": {"mine": "new"}, "settings": "mine"}
    flow = flow_at(
        tmp_path, sets={"new": {"demo": "test"}, "old": {"demo": "train"}}, eval={"m": entry}
    )
    (name,) = (step for step in (one.name for one in _steps(flow)) if step.startswith("eval/"))
    told = identities(tmp_path, flow, name, model / "weights.bin", b"other")
    assert told == [f"{model} changed"]


def _steps(flow: FlowConfig) -> list[Any]:
    from pipelines.flow.steps import build_steps

    return build_steps(flow)


def test_what_reviewers_say_meanwhile_makes_a_calibration_stale(tmp_path: Path) -> None:
    sets = {"new": {"demo": "test"}, "old": {"demo": "train"}}
    entry = {**COPIES, "calibrate": {"images": 3}}
    flow = flow_at(tmp_path, sets=sets, dedup={"copies": entry})
    labels = Path(flow.out) / "dedup" / "copies" / "labels"
    labels.mkdir(parents=True)
    told = identities(tmp_path, flow, "calibrate/copies", labels / "me.jsonl", b"{}")
    assert told == ["labels changed"]


@pytest.mark.parametrize("place", ["vectors", "vectors/img_emb/img_emb_{0..0}.npy"])
def test_changed_vectors_that_were_given_are_told(tmp_path: Path, place: str) -> None:
    np.save(_made(tmp_path / "vectors" / "img_emb" / "img_emb_0.npy"), np.zeros((2, 3)))
    sets = {"new": {"demo": "test"}, "old": {"embeddings": place}}
    flow = flow_at(tmp_path, sets=sets)
    step = step_of(flow, "dedup/copies")
    before = identity_of(step, flow, {})
    np.save(tmp_path / "vectors" / "img_emb" / "img_emb_0.npy", np.zeros((3, 3)))
    assert why_stale(Record("done", before), identity_of(step, flow, {}), tmp_path) == [
        "set old changed"
    ]


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path
