"""Commands on runs in a store: as local ones, reused on other machines, seen without fetching."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from deduping import write_sets
from servers import s3_server, web_server
from stored_runs import tree
from typer.testing import CliRunner

from curate.errors import CurateError, GateError
from curate.files import read_json
from pipelines.cli import app

OPTIONS = ("--threshold", "0.8", "--detector", "builtin:layout", "--verify", "none")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server("stored-runs") as url:
        yield url


@pytest.fixture(scope="module")
def sets(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Test and train shards on this machine, and where they are in the store."""
    root = write_sets(tmp_path_factory.mktemp("sets"))
    files = fsspec.filesystem("s3")
    files.put(str(root / "test"), f"{bucket}/sets/test", recursive=True)
    files.put(str(root / "train"), f"{bucket}/sets/train", recursive=True)
    return root, f"{bucket}/sets/test/{{a,b}}.tar", f"{bucket}/sets/train/*.tar"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move_to("one", tmp_path, monkeypatch)


def move_to(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / name))


def curate(*words: object) -> str:
    """What a command prints; its error is raised here."""
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code in (0, GateError.exit_code), done.output
    return done.stdout


def said(*words: object) -> dict[str, Any]:
    return dict(json.loads(curate(*words, "--json")))


def contents(url: str) -> dict[str, bytes]:
    files = fsspec.filesystem("s3", use_listings_cache=False)
    start = url.removeprefix("s3://") + "/"
    names = [name for name in files.find(start) if "/." not in name]
    return {name.removeprefix(start): files.cat_file(name) for name in names}


def without_facts(files: dict[str, bytes]) -> dict[str, bytes]:
    """All that does not change from run to run."""
    return {name: data for name, data in files.items() if "facts/" not in name}


def sides(test: str, train: str) -> tuple[str, ...]:
    return ("--test", test, "--test-name", "test", "--train", train, "--train-name", "train")


@pytest.mark.slow
def test_a_stored_run_is_the_local_one_byte_for_byte_and_goes_on_anywhere(
    bucket: str,
    sets: tuple[Path, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, test, train = sets
    url = f"{bucket}/run"
    local = said("dedup", *sides(test, train), *OPTIONS, "--out", tmp_path / "run")
    stored = said("dedup", *sides(test, train), *OPTIONS, "--out", url)
    assert stored["run"] == url
    assert stored["split"] == f"{url}/splits/{Path(local['split']).name}"
    assert stored["counts"] == local["counts"]
    first = contents(url)
    assert without_facts(first) == without_facts(tree(tmp_path / "run"))

    move_to("two", tmp_path, monkeypatch)
    monkeypatch.setattr("curate.embed.embed_unit", None)  # nothing is embedded again
    assert said("dedup", *sides(test, train), *OPTIONS, "--out", url)["counts"] == local["counts"]
    assert without_facts(contents(url)) == without_facts(first)

    curate("split", url, "--threshold", "0.9")
    curate("split", tmp_path / "run", "--threshold", "0.9")
    assert without_facts(contents(url)) == without_facts(tree(tmp_path / "run"))
    curate("report", url)

    assert f"{url}/splits" in curate("verify", url, "--json")
    assert said("info", url)["kind"] == "a run of curate"
    assert said("info", f"{url}/embeddings/train/builtin-layout")["kind"].startswith("an artifact")
    assert said("info", f"{url}/run.json")["kind"] == "a JSON file"


def test_verify_names_the_object_that_was_altered(bucket: str, sets: tuple[Path, str, str]) -> None:
    url = f"{bucket}/altered/emb"
    curate("embed", sets[1], "--detector", "builtin:layout", "--name", "test", "--out", url)
    name = f"{url}/img_emb/img_emb_000000.npy"
    files = fsspec.filesystem("s3")
    data = files.cat_file(name)
    files.pipe_file(name, data[:-1] + bytes([data[-1] ^ 1]))
    done = CliRunner().invoke(app, ["verify", url])
    assert done.exit_code == GateError.exit_code
    assert f"{name}: altered" in done.stdout
    files.rm_file(name)
    assert f"{name}: missing" in CliRunner().invoke(app, ["verify", url]).stdout


@pytest.mark.slow
def test_embeddings_and_indices_in_a_store_are_inputs_too(
    bucket: str, sets: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    _, test, train = sets
    url = f"{bucket}/parts"
    for name, place in (("test", test), ("train", train)):
        views = ("--mirror",) if name == "test" else ()
        curate("embed", place, "--detector", "builtin:layout", "--name", name, *views,
               "--out", f"{url}/{name}-emb")  # fmt: skip
    curate("index", "build", f"{url}/train-emb", "--kind", "flat", "--out", f"{url}/index")
    assert said("index", "info", f"{url}/index")["kind"] == "flat"
    given = ("--test", f"{url}/test-emb", "--train", f"{url}/train-emb")
    found = said("dedup", *given, *OPTIONS, "--index", f"{url}/index", "--out", f"{url}/run")
    assert found["counts"]["overlap"] > 0
    noted = read_json_of(f"{url}/run/run.json")
    assert noted["train"] == f"{url}/train-emb"
    move_to("two", tmp_path, monkeypatch)
    curate("split", f"{url}/run", "--threshold", "0.9", "--no-report")
    for word in ("altered", "missing", "half sent"):
        assert word not in curate("verify", f"{url}/run").replace("unaltered", "")


def read_json_of(url: str) -> dict[str, Any]:
    return dict(json.loads(fsspec.filesystem("s3", use_listings_cache=False).cat_file(url)))


def test_settings_labels_and_calibrations_come_by_url(
    sets: tuple[Path, str, str], tmp_path: Path
) -> None:
    root = sets[0]
    web = tmp_path / "web"
    web.mkdir()
    (web / "dedup.yaml").write_text(
        f"test: ['{root / 'test'}']\ntrain: ['{root / 'train'}']\nthreshold: 0.8\n"
        "detector: builtin:layout\nverify: none\n"
    )
    (web / "labels.csv").write_text("test_id,train_id,label\na:x,b:y,same\n")
    with web_server(web) as (address, _):
        given = ("--config", f"{address}/dedup.yaml", "--out", tmp_path / "run")
        assert said("dedup", *given)["counts"]["in"] > 0
        with pytest.raises(CurateError, match="none of its 1 pairs is in this run"):
            curate("dedup", *given, "--labels", f"{address}/labels.csv")
        with pytest.raises(CurateError, match="nothing is there"):
            curate("dedup", *given, "--labels", f"{address}/none.csv")
    settings = read_json(tmp_path / "run" / "facts" / "settings.json")
    assert settings["threshold"] == 0.8


def test_a_web_server_takes_no_results(sets: tuple[Path, str, str]) -> None:
    with pytest.raises(CurateError, match="read-only"):
        curate("embed", sets[1], "--detector", "builtin:layout", "--out", "https://host/emb")


def test_several_training_processes_need_a_folder_that_they_share(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CurateError, match="give --out a path"):
        curate("train", "data.tar", "--out", f"{bucket}/train")


FLOW = """
name: small
out: {out}
sets:
  tests: {{shards: "{tests}"}}
  trains: {{shards: "{trains}"}}
dedup:
  copies: {{test: tests, train: trains, detector: builtin:layout, verify: none, threshold: 0.8}}
"""


@pytest.mark.slow
def test_a_flow_in_a_store_is_kept_by_another_machine_and_seen_from_anywhere(
    bucket: str, sets: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tests, trains = sets
    out, file = f"{bucket}/study", tmp_path / "flow.yaml"
    file.write_text(FLOW.format(out=out, tests=tests, trains=trains))
    first = said("run", file)
    assert first["done"] == [
        "embed/tests/builtin-layout-views", "embed/trains/builtin-layout", "dedup/copies",
        "page/copies", "report",
    ]  # fmt: skip
    before = contents(out)
    assert {"flow/flow.json", "flow/steps/dedup/copies/step.json"} <= before.keys()
    move_to("two", tmp_path, monkeypatch)
    seen = said("status", out)["steps"]
    assert {one["state"] for one in seen} == {"done"}
    assert "dedup/copies" in curate("logs", out, "dedup/copies")
    again = said("run", file)
    assert (again["done"], again["kept"]) == ([], first["done"])
    assert contents(out) == before
