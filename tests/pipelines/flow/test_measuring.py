"""Steps that measure models: what they ask of `curate eval`, and what is compared at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flows import MEASURED, SHORT, flow_at, go, names, results, task_of, write_readable_sets

from curate import artifacts
from curate.artifacts import Manifest
from curate.errors import CurateError
from curate.files import read_json
from eval.suites import find_suite
from pipelines.flow.ledger import Record, StepBook
from pipelines.flow.measuring import OVERLAP_FILE, eval_request, inputs_of

if TYPE_CHECKING:
    from pipelines.flow.config import FlowConfig

EVAL = "eval/builtin-tiny-clip"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_readable_sets(tmp_path_factory.mktemp("flow"))
    done = go(flow_at(root, eval={"main": MEASURED}))
    assert (done.failed, done.exit_code) == ({}, 0)
    return root


def measured(root: Path, **changes: Any) -> FlowConfig:
    return flow_at(root, eval={"main": {**MEASURED, **changes}})


def test_a_model_is_measured_with_and_without_the_copies(finished: Path) -> None:
    found = read_json(finished / "run" / "overlap" / OVERLAP_FILE)
    assert "sentence" in found
    (summary,) = (finished / "run" / "eval").glob("*/*/manifest.json")
    assert read_json(summary)["config"]["setting"]["images"] == 16


def test_measured_models_are_kept(finished: Path) -> None:
    before = results(finished / "run")
    assert go(measured(finished)).done == []
    assert results(finished / "run") == before


def test_the_size_of_a_batch_is_no_reason_to_measure_again(finished: Path) -> None:
    assert EVAL in go(measured(finished, batch=3)).kept


def test_the_split_of_a_threshold_is_the_one_that_is_compared(finished: Path) -> None:
    flow = measured(finished, splits={"cifar10": "copies@0.9"})
    request = eval_request(task_of(flow, EVAL))
    assert str(request.sources[0].split).endswith("new-at-0.9")


def test_a_request_says_what_the_flow_says(finished: Path) -> None:
    flow = measured(finished, surrogate="builtin:tiny-clip", seed=4, texts="tecoa")
    request = eval_request(task_of(flow, EVAL))
    assert (request.model.name, request.settings) == ("builtin:tiny-clip", ("cifar10",))
    assert (request.limit, request.seed, request.texts) == (20, 4, "tecoa")
    assert request.surrogate is not None
    assert request.surrogate.name == "builtin:tiny-clip"
    assert request.sources[0].folder == str(finished / "test")
    assert request.out == finished / "run" / EVAL


def test_entries_share_the_images_that_are_made(finished: Path) -> None:
    more = {**MEASURED, "models": "timm:resnet18"}
    flow = flow_at(finished, eval={"main": MEASURED, "more": more})
    steps = [name for name in names(flow) if name.startswith("eval/")]
    requests = [eval_request(task_of(flow, name)) for name in steps]
    assert len({one.out.parent for one in requests}) == 2
    assert {one.images for one in requests} == {finished / "run" / "eval"}


def test_settings_that_are_wanted_whole_have_no_limit(finished: Path) -> None:
    flow = measured(finished, whole=["cifar10.fog.3"], limit=7)
    request = eval_request(task_of(flow, EVAL))
    limits = {word: request.limit_of(request.setting(word)) for word in request.settings}
    assert limits.pop("cifar10.fog.3") is None
    assert set(limits.values()) == {7}


def test_a_suite_brings_its_own_limit_unless_one_is_given(finished: Path) -> None:
    flow = measured(finished, suite="quick", settings=[], limit=None)
    assert eval_request(task_of(flow, EVAL)).limit == find_suite("quick").limit
    flow = measured(finished, suite="quick", settings=[], limit=7)
    assert eval_request(task_of(flow, EVAL)).limit == 7


def test_a_trained_model_is_measured_from_its_folder(finished: Path) -> None:
    train = {"tecoa": {"data": "old", "set": SHORT}}
    flow = flow_at(finished, train=train, eval={"main": {**MEASURED, "models": "tecoa"}})
    request = eval_request(task_of(flow, "eval/tecoa"))
    assert request.model.name == str(finished / "run" / "train" / "tecoa")


def test_a_set_of_several_places_is_refused(tmp_path: Path) -> None:
    sets = {"new": {"shards": ["test", "more"]}, "old": {"shards": "train"}}
    flow = flow_at(tmp_path, sets=sets, eval={"main": {**MEASURED, "splits": {}}})
    with pytest.raises(CurateError, match=r"new is 2 places.*put its shards into one"):
        eval_request(task_of(flow, EVAL))


def test_inputs_are_named_with_what_they_are_and_must_be_there(tmp_path: Path) -> None:
    flow = measured(tmp_path)
    with pytest.raises(CurateError, match="left no result; run the flow again"):
        inputs_of(task_of(flow, "overlap"))
    artifact = Path(flow.out) / EVAL / "cifar10"
    artifact.mkdir(parents=True)
    written = artifacts.commit(artifact, artifact.with_name("done"), Manifest("eval", {}, []))
    StepBook(Path(flow.out), EVAL).write(Record("done", {}, id="x", outputs=(f"{EVAL}/done",)))
    assert inputs_of(task_of(flow, "overlap")) == [{"name": f"{EVAL}/done", "sha256": written.id}]
