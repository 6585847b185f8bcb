"""From a flow to its steps: names, what each waits for, where results go, splits by reference."""

from pathlib import Path
from typing import Any

import pytest
from flows import COPIES, NEW, OLD, STEPS, flow_at, names, step_of
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError
from pipelines.flow.config import FlowConfig
from pipelines.flow.steps import Step, build_steps

SETS: dict[str, Any] = {"new": {"shards": "test"}, "old": {"shards": "train"}}
TRAIN = {"tecoa": {"data": "old", "set": {"updates": 2, "epochs": None}}}
EVAL = {"main": {"models": ["builtin:tiny-clip", "tecoa"], "data": {"mine": "new"},
                 "splits": {"mine": "copies"}, "settings": ["mine"]}}  # fmt: skip


def with_dedup(root: Path, **entry: Any) -> FlowConfig:
    return flow_at(root, dedup={"copies": {**COPIES, **entry}})


def refused(flow: FlowConfig) -> str:
    with pytest.raises(CurateError) as caught:
        build_steps(flow)
    return str(caught.value)


def test_the_small_flow_has_its_steps_in_order(tmp_path: Path) -> None:
    assert names(flow_at(tmp_path)) == STEPS


def test_each_step_waits_for_what_it_reads(tmp_path: Path) -> None:
    needs = {step.name: step.needs for step in build_steps(flow_at(tmp_path))}
    assert needs == {
        NEW: (), OLD: (), "dedup/copies": (NEW, OLD), "split/copies/0.9": ("dedup/copies",),
        "page/copies": ("dedup/copies", "split/copies/0.9"),
        "report": ("dedup/copies", "split/copies/0.9", "page/copies"),
    }  # fmt: skip


def test_a_set_is_embedded_once_for_all_that_need_it(tmp_path: Path) -> None:
    both = {"one": COPIES, "two": {**COPIES, "threshold": 0.7}}
    found = names(flow_at(tmp_path, dedup=both))
    assert (found.count(NEW), found.count(OLD)) == (1, 1)
    assert {"dedup/one", "dedup/two"} <= set(found)


def test_test_sets_train_sets_and_detectors_fan_out_by_name(tmp_path: Path) -> None:
    sets = {**SETS, "more": {"shards": "more"}}
    entry = {**COPIES, "test": ["new", "more"], "detector": ["builtin:layout", "builtin:copy"]}
    found = names(flow_at(tmp_path, sets=sets, dedup={"c": entry}))
    assert [name for name in found if name.startswith("dedup/")] == [
        f"dedup/c-{test}-vs-old-{slug}"
        for test in ("new", "more")
        for slug in ("builtin-layout", "builtin-copy")
    ]
    assert "split/c-more-vs-old-builtin-copy/0.9" in found


def test_thresholds_and_seeds_fan_out_one_after_the_other(tmp_path: Path) -> None:
    flow = with_dedup(tmp_path, threshold=[0.8, 0.9], seed=[0, 5])
    split = {step.name: step for step in build_steps(flow) if step.kind == "split"}
    assert list(split) == [
        "split/copies/0.8-seed-5", "split/copies/0.9-seed-0", "split/copies/0.9-seed-5",
    ]  # fmt: skip
    assert split["split/copies/0.9-seed-5"].needs == ("dedup/copies", "split/copies/0.9-seed-0")
    assert split["split/copies/0.9-seed-5"].config["seed"] == 5
    assert step_of(flow, "dedup/copies").config["seed"] == 0


def test_a_threshold_of_a_calibration_waits_for_it(tmp_path: Path) -> None:
    flow = with_dedup(tmp_path, threshold=["auto", 0.9], calibrate={"images": 3})
    assert step_of(flow, "calibrate/copies").needs == ("dedup/copies",)
    assert step_of(flow, "split/copies/auto").needs == ("dedup/copies", "calibrate/copies")
    assert step_of(flow, "dedup/copies").config["threshold"] is None  # as it is yet to be known
    assert "calibrate/copies" in step_of(flow, "page/copies").needs


def test_auto_without_a_calibration_is_refused(tmp_path: Path) -> None:
    assert "dedup.copies: threshold auto is that of a calibration; give calibrate too" in refused(
        with_dedup(tmp_path, threshold="auto")
    )


def test_a_set_against_itself_has_one_embedding(tmp_path: Path) -> None:
    entry = {"test": "old", "detector": "builtin:layout", "keep": "largest"}
    flow = flow_at(tmp_path, dedup={"w": entry})
    assert step_of(flow, "dedup/w").needs == ("embed/old/builtin-layout-views",)
    assert step_of(flow, "dedup/w").config["within"] is True
    assert step_of(flow, "dedup/w").config["train"] is None


def test_a_fused_join_reads_the_train_set_itself(tmp_path: Path) -> None:
    step = step_of(with_dedup(tmp_path, fused=True), "dedup/copies")
    assert (step.needs, step.sets) == ((NEW,), ("old",))


def test_an_index_is_shared_unless_its_recall_is_promised(tmp_path: Path) -> None:
    index = "index/old/builtin-layout-flat"
    both = {
        name: {**COPIES, "search": "flat", "threshold": t} for name, t in (("a", 0.8), ("b", 0.7))
    }
    flow = flow_at(tmp_path, dedup=both)
    assert names(flow).count(index) == 1
    assert index in step_of(flow, "dedup/a").needs
    assert index in step_of(flow, "dedup/b").needs
    assert step_of(flow, index).needs == (OLD,)
    assert index not in names(with_dedup(tmp_path, search="flat", min_recall=0.9))


def test_vectors_that_are_given_are_not_embedded(tmp_path: Path) -> None:
    sets = {"new": {"shards": "test"}, "old": {"embeddings": "vectors"}}
    flow = flow_at(tmp_path, sets=sets, dedup={"copies": {**COPIES, "search": "flat"}})
    assert OLD not in names(flow)
    assert step_of(flow, "index/old/builtin-layout-flat").sets == ("old",)
    assert step_of(flow, "dedup/copies").sets == ("old",)


def test_demo_and_download_sets_are_made_first(tmp_path: Path) -> None:
    sets = {"new": {"demo": "test"}, "old": {"download": {"urls": "list.csv"}}}
    flow = flow_at(tmp_path, sets=sets)
    assert step_of(flow, NEW).needs == ("demo",)
    assert step_of(flow, OLD).needs == ("download/old",)
    assert step_of(flow, "download/old").config["urls"].endswith("/list.csv")


def test_the_detector_that_is_not_named_is_the_built_in_one(tmp_path: Path) -> None:
    flow = with_dedup(tmp_path, detector=None)
    assert step_of(flow, "dedup/copies").config["detector"] == "builtin:copy"


def test_entries_that_ask_for_different_embeddings_of_one_name_are_refused(tmp_path: Path) -> None:
    both = {"a": COPIES, "b": {**COPIES, "dtype": "float32"}}
    assert f"{NEW}: two entries ask for different results" in refused(flow_at(tmp_path, dedup=both))


def test_settings_that_do_not_go_together_are_told_with_the_entry(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"dedup\.copies.*fused joins two sets exactly"):
        with_dedup(tmp_path, fused=True, search="flat")


# --- train and eval -------------------------------------------------------------------------------


def test_models_and_seeds_of_training_fan_out(tmp_path: Path) -> None:
    entry = {"t": {"data": "old", "model": ["builtin:tiny-clip", "open_clip:A/b"], "seed": [0, 1]}}
    found = {step.name: step for step in build_steps(flow_at(tmp_path, train=entry))}
    assert [name for name in found if name.startswith("train/")] == [
        f"train/t-{model}-seed-{seed}"
        for model in ("builtin-tiny-clip", "open_clip-A-b")
        for seed in (0, 1)
    ]
    one = found["train/t-open_clip-A-b-seed-1"]
    assert (one.config["model"], one.config["seed"]) == ("open_clip:A/b", 1)


def test_a_model_that_is_trained_here_can_be_adapted(tmp_path: Path) -> None:
    train = {
        "small": {"data": "old", "scratch": {"epochs": 1}, "seed": [0, 1]},
        "tecoa": {"data": "old", "model": "small-seed-1"},
    }
    flow = flow_at(tmp_path, train=train)
    assert step_of(flow, "train/tecoa").needs == ("train/small-seed-1",)


def test_workers_that_read_images_are_no_part_of_what_a_model_is(tmp_path: Path) -> None:
    few, many = (
        step_of(flow_at(tmp_path, f"train.tecoa.workers={n}", train=TRAIN), "train/tecoa")
        for n in (1, 5)
    )
    assert few.config == many.config
    assert few.tuning != many.tuning


def test_a_training_entry_that_is_evaluated_stands_for_all_its_models(tmp_path: Path) -> None:
    train = {"tecoa": {"data": "old", "seed": [0, 1]}}
    flow = flow_at(tmp_path, train=train, eval=EVAL)
    found = [name for name in names(flow) if name.startswith("eval/")]
    assert found == ["eval/builtin-tiny-clip", "eval/tecoa-seed-0", "eval/tecoa-seed-1"]
    assert step_of(flow, "eval/tecoa-seed-1").needs == ("dedup/copies", "train/tecoa-seed-1")


def test_a_surrogate_is_trained_first(tmp_path: Path) -> None:
    entry = {"main": {**EVAL["main"], "surrogate": "tecoa", "models": "builtin:tiny-clip"}}
    flow = flow_at(tmp_path, train=TRAIN, eval=entry)
    assert "train/tecoa" in step_of(flow, "eval/builtin-tiny-clip").needs


def test_several_evaluations_have_folders_of_their_own(tmp_path: Path) -> None:
    models = {"a": "builtin:tiny-clip", "b": "timm:resnet18"}
    both = {name: {**EVAL["main"], "models": model} for name, model in models.items()}
    found = names(flow_at(tmp_path, eval=both))
    assert [one for one in found if one.startswith("eval/")] == [
        "eval/a/builtin-tiny-clip", "eval/b/timm-resnet18",
    ]  # fmt: skip


def test_a_model_is_measured_on_a_set_by_one_entry(tmp_path: Path) -> None:
    both = {name: {**EVAL["main"], "models": "builtin:tiny-clip"} for name in ("a", "b")}
    flow = flow_at(tmp_path, eval=both)
    assert "eval.b: eval.a measures builtin:tiny-clip on" in refused(flow)


def test_overlap_compares_what_has_splits_unless_it_is_not_wanted(tmp_path: Path) -> None:
    flow = flow_at(tmp_path, train=TRAIN, eval=EVAL)
    assert step_of(flow, "overlap").needs == ("eval/builtin-tiny-clip", "eval/tecoa")
    assert "overlap" not in names(flow_at(tmp_path, train=TRAIN, eval=EVAL, overlap=None))
    plain = {"main": {**EVAL["main"], "splits": {}}}
    assert "overlap" not in names(flow_at(tmp_path, train=TRAIN, eval=plain))


@pytest.mark.parametrize(
    ("reference", "step"),
    [
        ("copies", "dedup/copies"),
        ("copies@0.8", "dedup/copies"),
        ("copies@0.9", "split/copies/0.9"),
    ],
)
def test_a_split_is_meant_by_its_entry_and_threshold(
    tmp_path: Path, reference: str, step: str
) -> None:
    flow = flow_at(tmp_path, train={"t": {"split": reference}})
    assert step_of(flow, "train/t").needs == (step,)
    assert step_of(flow, "train/t").config["split"] == step


def test_a_split_of_another_threshold_is_refused_with_those_there_are(tmp_path: Path) -> None:
    flow = flow_at(tmp_path, train={"t": {"split": "copies@0.7"}})
    assert "train.t.split: copies@0.7: there is 0.8, 0.9 only" in refused(flow)


def test_a_reference_to_several_runs_is_refused(tmp_path: Path) -> None:
    entry = {**COPIES, "detector": ["builtin:layout", "builtin:copy"]}
    flow = flow_at(tmp_path, dedup={"c": entry}, train={"t": {"data": "old", "ids": "c"}})
    assert "train.t.ids: c stands for 2 runs; make entries of their own" in refused(flow)


def test_the_split_of_an_evaluation_is_that_of_its_set(tmp_path: Path) -> None:
    sets = {**SETS, "more": {"shards": "more"}}
    entry = {**COPIES, "test": ["new", "more"], "threshold": 0.8}
    measured = {"models": "builtin:tiny-clip", "data": {"mine": "more"}, "splits": {"mine": "c"},
                "settings": ["mine"]}  # fmt: skip
    flow = flow_at(tmp_path, sets=sets, dedup={"c": entry}, eval={"main": measured})
    step = step_of(flow, "eval/builtin-tiny-clip")
    assert step.config["splits"] == {"mine": "dedup/c-more-vs-old"}


# --- of any flow ----------------------------------------------------------------------------------


@st.composite
def flows(draw: st.DrawFn) -> FlowConfig:
    sets = [f"s{n}" for n in range(draw(st.integers(1, 4)))]
    some = st.lists(st.sampled_from(sets), min_size=1, max_size=2, unique=True)
    entries: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 3))):
        test = draw(some)
        entries[f"d{number}"] = {
            "test": test,
            "train": [one for one in draw(some) if one not in test],
            "detector": draw(st.sampled_from([["builtin:layout"], ["builtin:layout", None]])),
            "threshold": draw(st.sampled_from([[0.8], [0.8, 0.9], ["auto", 0.9]])),
            "seed": draw(st.sampled_from([[0], [0, 1]])),
            "calibrate": {"images": 3},
        }
    trained = {"t": {"data": sets[0], "seed": draw(st.sampled_from([[0], [0, 1]]))}}
    return FlowConfig.model_validate({
        "name": "x", "out": "o", "sets": {one: {"shards": one} for one in sets}, "dedup": entries,
        "train": trained if draw(st.booleans()) else {},
    })  # fmt: skip


@given(flows())
def test_every_step_comes_after_those_that_it_needs_and_no_two_share_a_name(
    flow: FlowConfig,
) -> None:
    steps = build_steps(flow)
    before: set[str] = set()
    for step in steps:
        assert set(step.needs) <= before
        before.add(step.name)
    assert len(before) == len(steps)
    assert steps[-1].name == "report"


@given(flows())
def test_no_two_steps_of_a_kind_write_the_same_folder_but_splits(flow: FlowConfig) -> None:
    places: dict[str, Step] = {}
    for step in build_steps(flow):
        if step.kind != "split":  # each names its folder by threshold and seed
            assert step.out not in places, (step.name, places[step.out].name)
            places[step.out] = step
