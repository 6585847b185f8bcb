"""Running a flow again as it was run last."""

from pathlib import Path

import pytest
from deduping import write_sets
from flows import OLD, STEPS, copied, finished_small, flow_at, go, results

from curate.errors import CurateError
from pipelines.flow.ledger import Failed, Record, StepBook
from pipelines.flow.retry import retry_flow
from pipelines.flow.run import FlowResult
from pipelines.watch import Watch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_small(tmp_path_factory.mktemp("flow"))


def retry(run: Path) -> FlowResult:
    return retry_flow(run, lambda _name: Watch())


def aside(run: Path, step: str, *units: str) -> None:
    """Put units aside, as a run does that loses workers by them."""
    book = StepBook(run, step)
    book._failed = {unit: Failed(unit, "killed its worker", quarantined=True) for unit in units}
    book.keep_failures()
    book.write(Record("partial", {}, error="put aside"))


def test_a_finished_flow_is_kept(finished: Path) -> None:
    done = retry(finished / "run")
    assert (done.done, done.kept, done.exit_code) == ([], STEPS, 0)


def test_units_that_were_put_aside_are_run_again_by_retry_only(
    finished: Path, tmp_path: Path
) -> None:
    write_sets(tmp_path)
    flow = flow_at(tmp_path)
    units: list[str] = []
    go(flow_at(tmp_path, out="other"))
    step = tmp_path / "other" / "embeddings" / "old"
    assert step.is_dir()
    units = unit_names(tmp_path)
    aside(tmp_path / "run", OLD, units[1])
    done = go(flow)
    assert list(done.failed) == [OLD]
    assert "killed its worker" in done.failed[OLD]
    assert done.exit_code == 3
    assert StepBook(tmp_path / "run", OLD).record() is not None
    assert [one.unit for one in StepBook(tmp_path / "run", OLD).failures()] == [units[1]]
    done = retry(tmp_path / "run")
    assert (done.failed, done.exit_code) == ({}, 0)
    assert StepBook(tmp_path / "run", OLD).failures() == []
    assert results(tmp_path / "run") == results(finished / "run")


def unit_names(root: Path) -> list[str]:
    """How the ledger names the units of the train set: by a run in which all of them fail."""
    flow = flow_at(root, out="run")
    paths = sorted((root / "train").glob("*.tar"))
    data = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
        path.symlink_to(root / "nowhere")
    go(flow)
    names = [one.unit for one in StepBook(root / "run", OLD).failures()]
    for path, content in zip(paths, data, strict=True):
        path.unlink()
        path.write_bytes(content)
    return names


def test_a_flow_goes_on_from_another_working_directory(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sets(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    from pipelines.flow.reading import read_flow

    (tmp_path / "data" / "flow.yaml").write_text(
        "name: small\nout: run\nsets: {new: {shards: test}, old: {shards: [train]}}\n"
        "dedup: {copies: {test: new, train: old, detector: builtin:layout, threshold: [0.8, 0.9],"
        " write: [clean, control]}}\n"
    )
    (tmp_path / "data" / "train").rename(tmp_path / "away")
    assert go(read_flow(Path("flow.yaml"))).exit_code == 3
    (tmp_path / "away").rename(tmp_path / "data" / "train")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert retry(Path("../data/run")).exit_code == 0
    assert results(tmp_path / "data" / "run") == results(finished / "run")
    assert not list((tmp_path / "else").iterdir())


def test_a_folder_without_a_flow_is_told(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no flow was run there"):
        retry(tmp_path)


def test_a_retry_keeps_what_was_lost_of_the_ledger_only(finished: Path, tmp_path: Path) -> None:
    root = copied(finished, tmp_path)
    (root / "run" / "flow" / "steps" / OLD / "step.json").unlink()
    assert retry(root / "run").done == [OLD]
