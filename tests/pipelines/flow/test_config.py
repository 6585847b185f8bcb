"""What a flow's settings become: lists of one, places from the root, pairs that fan out."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.flow.config import (
    CalibrateEntry,
    DedupEntry,
    Download,
    EvalEntry,
    FlowConfig,
    SetConfig,
    TrainEntry,
)


def test_one_value_stands_for_a_list_of_one() -> None:
    entry = DedupEntry(test="a", train="b", threshold=0.5, seed=3, detector="builtin:copy")  # type: ignore[arg-type]
    assert (entry.test, entry.train, entry.threshold, entry.seed) == (("a",), ("b",), (0.5,), (3,))
    assert entry.detector == ("builtin:copy",)


def test_pairs_are_all_test_sets_with_all_train_sets_and_detectors() -> None:
    entry = DedupEntry(test=("a", "b"), train=("c", "d"), detector=(None, "builtin:layout"))
    assert list(entry.pairs()) == [
        (test, train, detector)
        for test in "ab"
        for train in "cd"
        for detector in (None, "builtin:layout")
    ]


def test_without_train_sets_a_set_is_compared_with_itself() -> None:
    assert list(DedupEntry(test=("a",)).pairs()) == [("a", None, None)]


def test_other_settings_of_dedup_may_have_dashes() -> None:
    entry = DedupEntry.model_validate({"test": "a", "min-recall": 0.9, "cap": 5})
    assert entry.others == {"min_recall": 0.9, "cap": 5}


def test_places_become_whole_so_that_a_flow_goes_on_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = SetConfig(shards=("here/*.tar", "s3://bucket/x.tar"))
    assert source.shards == (f"{tmp_path}/here/*.tar", "s3://bucket/x.tar")
    assert CalibrateEntry(labels=Path("l.csv")).labels == tmp_path / "l.csv"
    assert Download(urls="list.parquet").urls == f"{tmp_path}/list.parquet"
    entry = DedupEntry.model_validate({"test": "a", "verify-weights": "w.pt", "keep": "first"})
    assert entry.others == {"verify_weights": f"{tmp_path}/w.pt", "keep": "first"}
    assert FlowConfig(name="x", out="run", sets={"a": source}).out == f"{tmp_path}/run"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("tiny", "tiny"),
        ("my/recipe.yaml", "ROOT/my/recipe.yaml"),
        ("https://host/recipe.yaml", "https://host/recipe.yaml"),
    ],
)
def test_a_recipe_is_a_name_or_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, kept: str
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = TrainEntry(data="a", recipe=given)
    assert entry.recipe == kept.replace("ROOT", str(tmp_path))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("builtin:tiny-clip", "builtin:tiny-clip"),
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32/openai"),
        ("mine", "mine"),
        ("models/mine", "ROOT/models/mine"),
    ],
)
def test_a_model_is_a_name_or_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, kept: str
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = EvalEntry(models=(given,), data={"a": "a"}, suite="quick", surrogate=given)
    whole = kept.replace("ROOT", str(tmp_path))
    assert (entry.models, entry.surrogate) == ((whole,), whole)


@pytest.mark.parametrize("given", [{}, {"demo": "test", "shards": "x"}, {"size": None}])
def test_a_set_has_exactly_one_source(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="exactly one of shards, embeddings, download, demo"):
        SetConfig.model_validate(given)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", ".hidden", "a b", "x" * 81, "a\n"])
def test_a_name_that_is_no_plain_name_of_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"pattern|at most 80"):
        FlowConfig(name="x", out="o", sets={name: SetConfig(demo="test")})


@pytest.mark.parametrize("given", [{}, {"data": "a", "split": "b"}])
def test_training_is_on_a_set_or_on_a_split(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="either data or split was expected"):
        TrainEntry.model_validate(given)


def test_ids_are_of_a_set() -> None:
    with pytest.raises(ValidationError, match="give data too"):
        TrainEntry(split="a", ids="b")


def test_an_evaluation_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="give suite, settings or whole"):
        EvalEntry(models=("m",), data={"a": "a"})


def test_splits_of_an_evaluation_are_of_its_data() -> None:
    with pytest.raises(ValidationError, match=r"b is not among data \(a\)"):
        EvalEntry(models=("m",), data={"a": "a"}, splits={"b": "c"}, suite="quick")


def test_a_flow_reads_back_as_it_was_written() -> None:
    flow = FlowConfig.model_validate({
        "name": "x", "out": "o",
        "sets": {"a": {"shards": ["t"]}, "b": {"demo": "train"}},
        "dedup": {"c": {"test": "a", "train": "b", "threshold": ["auto", 0.5], "cap": 3,
                        "calibrate": {"images": 3, "labels": "l.csv"}}},
        "train": {"t": {"data": "b", "set": {"updates": 2}}},
        "eval": {"e": {"models": "t", "data": {"a": "a"}, "settings": "a"}},
        "cluster": {"kind": "local", "workers": 2},
    })  # fmt: skip
    stored = flow.model_dump(mode="json", exclude_unset=True)
    assert FlowConfig.model_validate(stored) == flow
