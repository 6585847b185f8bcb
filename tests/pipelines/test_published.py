"""The main job on vectors that others published: same pairs, no images, nothing claimed of them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import polars as pl
import pytest
from pictures import copies, encoded, picture, sample, tree, write_set, write_shard
from published_sets import laion_columns, publish
from servers import Faults, s3_server, web_server

from curate import artifacts
from curate.config import DedupConfig
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import EncoderSpec
from curate.errors import CurateError
from curate.files import read_json
from curate.splits import read_decisions
from curate.units import run_in_process
from pipelines.dedup import DedupResult, run_dedup
from pipelines.report import write_report
from pipelines.split import SplitRequest, resplit

PLANTED = [11, 12, 23, 14, 25]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train pictures 10..29 in `train`, their vectors as published in `laion`; a test set."""
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "train", [range(10, 20), range(20, 30)])
    settings = EmbedSettings(EncoderSpec("builtin:layout"))
    own = embed(open_dataset(str(root / "train")), settings, root / "own")
    arrays = [np.array(array) for array in own.view_parts()]
    tables = [laion_columns(10 * (number + 1), len(array)) for number, array in enumerate(arrays)]
    publish(root / "laion", arrays, width=4, tables=tables)
    rows = [sample(f"{seed:06d}", encoded(picture(seed)), seed % 3) for seed in range(100, 106)]
    rows += [
        sample(f"copy-{kind}", copies(picture(seed))[kind])
        for seed, kind in zip(PLANTED, copies(picture(0)), strict=True)
    ]
    write_shard(root / "test" / "a.tar", [*rows, sample("broken", b"no picture")])
    return root


@pytest.fixture(scope="module")
def web(root: Path) -> Iterator[tuple[str, Faults]]:
    with web_server(root / "laion") as (address, faults):
        yield f"{address}/img_emb/img_emb_{{0000..0001}}.npy", faults


@pytest.fixture(scope="module")
def bucket(root: Path) -> Iterator[str]:
    with s3_server("sets") as url:
        fsspec.filesystem("s3").put(f"{root}/laion/", f"{url}/laion/", recursive=True)
        yield f"{url}/laion/"


def configure(root: Path, out: Path, train: str | Path, **more: Any) -> DedupConfig:
    given = {
        "test": (str(root / "test"),), "train": (str(train),), "out": out, "threshold": 0.8,
        "detector": "builtin:layout",
    }  # fmt: skip
    return DedupConfig(**{**given, **more})


def run(root: Path, out: Path, train: str | Path, **more: Any) -> DedupResult:
    return run_dedup(configure(root, out, train, **more), run_in_process)


def pairs(result: DedupResult) -> pl.DataFrame:
    """Pairs with the train item as the number of its picture."""
    frame = pl.read_parquet(result.matches / "pairs.parquet")
    number = pl.col("train_id").str.extract(r"([0-9]+)$").cast(pl.Int64)
    return frame.select("test_id", number, "score", "view", "rank")


def test_local_web_and_bucket_give_the_pairs_of_curates_own_embeddings(
    root: Path, web: tuple[str, Faults], bucket: str, tmp_path: Path
) -> None:
    own = run(root, tmp_path / "own", root / "train")
    for number, train in enumerate((root / "laion", web[0], bucket)):
        result = run(root, tmp_path / f"{number}", train)
        assert pairs(result).equals(pairs(own))
        assert result.summary["counts"] == own.summary["counts"]
        assert "not verified" in result.summary["caution"]
    overlap = read_decisions(result.split).filter(pl.col("decision") == "overlap")
    expected = [f"img_emb_000{seed // 10 - 1}:{seed:09d}" for seed in PLANTED]
    assert overlap["train_id"].to_list() == expected
    assert "caution" not in own.summary


def test_one_join_reads_the_vectors_about_once(
    root: Path, web: tuple[str, Faults], tmp_path: Path
) -> None:
    spec, faults = web
    faults.asked.clear()
    run(root, tmp_path / "run", spec)
    whole = sum(path.stat().st_size for path in (root / "laion" / "img_emb").iterdir())
    views, head = 2, 2 << 14
    assert faults.bytes_of("/img_emb/") <= views * whole + head


def test_another_threshold_asks_no_server_and_a_second_run_searches_nothing(
    root: Path, web: tuple[str, Faults], tmp_path: Path
) -> None:
    spec, faults = web
    first = run(root, tmp_path / "run", spec, floor=0.5)
    before = tree(tmp_path / "run")
    faults.asked.clear()
    again = run(root, tmp_path / "run", spec, floor=0.5)
    assert again.split == first.split
    assert {first for path, first, _ in faults.asked if "/img_emb/" in path} == {0}
    assert tree(tmp_path / "run") == before
    faults.asked.clear()
    resplit(tmp_path / "run", SplitRequest(0.999, "clean-test"), run_in_process)
    write_report(tmp_path / "run")
    assert faults.asked == []
    assert artifacts.verify_all(list(artifacts.artifacts(tmp_path / "run"))) == []


def test_the_report_shows_test_images_and_says_what_was_not_verified(
    root: Path, tmp_path: Path
) -> None:
    run(root, tmp_path / "run", root / "laion")
    page = write_report(tmp_path / "run").read_text()
    assert page.count("data:image/webp") >= len(PLANTED)
    assert "not available" in page
    assert "by the user; not verified" in page
    assert f"img_emb_0000:{PLANTED[0]:09d}" in page


def test_a_set_that_changes_is_searched_again(root: Path, tmp_path: Path) -> None:
    laion = tmp_path / "laion"
    shutil.copytree(root / "laion", laion)
    first = run(root, tmp_path / "run", laion)
    path = laion / "img_emb" / "img_emb_0000.npy"
    np.save(path, np.roll(np.load(path), 1, axis=1))
    second = run(root, tmp_path / "run", laion)
    assert first.summary["matches"] != second.summary["matches"]
    assert second.summary["counts"]["overlap"] < first.summary["counts"]["overlap"]


def test_embeddings_of_the_test_set_do_for_its_images(root: Path, tmp_path: Path) -> None:
    first = run(root, tmp_path / "a", root / "laion")
    test = tmp_path / "a" / "embeddings" / "test" / "builtin-layout"
    again = run(root, tmp_path / "b", root / "laion", test=(str(test),))
    assert pairs(again).equals(pairs(first))


@pytest.mark.parametrize("search", ["flat", "ivf"])
def test_an_index_is_built_over_the_network(
    root: Path, web: tuple[str, Faults], tmp_path: Path, search: str
) -> None:
    exact = run(root, tmp_path / "exact", root / "laion")
    found = run(root, tmp_path / search, web[0], search=search, probes=10**6)
    assert pairs(found).equals(pairs(exact))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "strip": ({"strip": "train"}, "--strip train: .*laion holds published vectors without"),
    "width": ({"detector": "timm:test_vit/random"}, "gives vectors of width 64, .*laion have"),
    "sides": ({"train_name": "test"}, "both sides are named 'test'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_done_is_said_before_anything_is_embedded(
    root: Path, tmp_path: Path, name: str
) -> None:
    more, words = WRONG[name]
    with pytest.raises(CurateError, match=words):
        run(root, tmp_path / "run", root / "laion", **more)
    assert not (tmp_path / "run" / "embeddings").exists()


def test_published_vectors_are_no_test_set(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="published vectors can only be --train"):
        run(root, tmp_path / "run", root / "train", test=(str(root / "laion"),))


def test_the_detector_has_to_be_stated(root: Path, tmp_path: Path) -> None:
    config = DedupConfig(
        test=(str(root / "test"),), train=(str(root / "laion"),), out=tmp_path / "run"
    )
    with pytest.raises(CurateError, match="state it with --detector"):
        run_dedup(config, run_in_process)


def test_other_embeddings_of_the_test_set_are_refused(root: Path, tmp_path: Path) -> None:
    settings = EmbedSettings(EncoderSpec("timm:test_vit/random"))
    embed(open_dataset(str(root / "test")), settings, tmp_path / "test")
    with pytest.raises(CurateError, match="embedded by timm:test_vit/random"):
        run(root, tmp_path / "run", root / "laion", test=(str(tmp_path / "test"),))


def test_the_command_says_plainly_that_nobody_verified_the_encoder(
    root: Path, tmp_path: Path
) -> None:
    words = [
        *(sys.executable, "-m", "pipelines", "dedup", "--test", str(root / "test")),
        *("--train", str(root / "laion"), "--detector", "builtin:layout", "--threshold", "0.8"),
        *("--out", str(tmp_path / "run")),
    ]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "laion: vectors as published; that builtin:layout made them" in done.stdout
    assert "it was not verified" in done.stdout
    again = subprocess.run([*words, "--json"], check=True, capture_output=True, text=True)
    assert "not verified" in json.loads(again.stdout)["caution"]
    split = Path(json.loads(again.stdout)["split"])
    assert "not verified" in read_json(split / "split.json")["caution"]
