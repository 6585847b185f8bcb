"""`curate index` as people use it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from interruptions import run_killing
from made_up import embeddings, random_parts
from typer.testing import CliRunner

from curate.errors import CurateError, GateError
from curate.index import build_index, open_index
from curate.index_use import FOUND
from curate.parts import Embeddings
from curate.recall import Gate, RecallSettings
from pipelines.cli import app
from pipelines.cli.index import parse_bytes

faiss = pytest.importorskip("faiss")


def curate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tree(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def train(tmp_path: Path) -> Embeddings:
    return embeddings(tmp_path / "train", random_parts(0, [300, 0, 200, 100], dim=16))


def test_build_search_info_and_check_work_together(train: Embeddings, tmp_path: Path) -> None:
    index, pairs = tmp_path / "index", tmp_path / "pairs.parquet"
    done = curate("index", "build", train.root, "--memory", "20KB", "--out", index)
    assert done.stdout.startswith("ivf-sq8: 600 vectors (15.4 kB) within 20 kB, flat would take")
    assert done.stderr == ""
    described = curate("index", "info", index)
    for words in ("kind           ivf-sq8", "list sizes     min", "imbalance 1.", "sample 600"):
        assert words in described.stdout
    asked = ("index", "search", index, "--queries", train.root, "--floor", "0.99999")
    done = curate(*asked, "--out", pairs)
    assert done.stdout.startswith("600 pairs of 600 queries")
    found = pl.read_parquet(pairs)
    assert found.schema == FOUND
    assert found["query"].to_list() == found["id"].to_list() == train.all_metadata()["id"].to_list()
    done = curate("index", "check", index)
    assert (done.returncode, done.stdout.strip()) == (
        0, "600 vectors, each in the index once and as it was.",
    )  # fmt: skip


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    """Vectors in loose clusters, whose near copies often lie in another list."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))
    rows = centres[rng.integers(0, 40, 4000)] + 0.7 * rng.standard_normal((4000, 16))
    parts = np.split(rows.astype(np.float16), 2)
    return embeddings(tmp_path_factory.mktemp("crowd") / "train", parts)


def test_an_index_is_finished_only_with_the_recall_that_was_asked_for(
    crowd: Embeddings, tmp_path: Path
) -> None:
    words = ("index", "build", crowd.root, "--kind", "ivf", "--threshold", "0.9")
    done = curate(*words, "--min-recall", "0.99", "--out", tmp_path / "good", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "good" / "recall.json").read_text())
    chosen = report["points"][report["chosen"]]
    assert chosen["together"]["items"]["low"] >= 0.99
    assert chosen["probes"] > 1
    assert open_index(tmp_path / "good").probes == chosen["probes"]
    assert "0.99" in json.loads(done.stdout)["summary"]
    assert "chosen" in curate("index", "info", tmp_path / "good").stdout
    done = curate(*words, "--min-recall", "0.9999", "--out", tmp_path / "never")
    assert done.returncode == 2
    assert "queries cannot show it" in done.stderr


def test_an_index_that_misses_too_much_ends_with_exit_code_1(
    crowd: Embeddings, tmp_path: Path
) -> None:
    settings = RecallSettings(0.9, 0.99, probes=1)
    gate = Gate(settings, crowd)
    with pytest.raises(GateError, match=r"at >= 0.9 is 0.*--min-recall 0.99") as error:
        build_index(crowd, tmp_path / "bad", kind="ivf", finish=gate.measure,
                    finish_config=gate.config)  # fmt: skip
    assert error.value.exit_code == 1
    assert not (tmp_path / "bad").exists()


def test_a_few_pairs_are_printed_best_first(train: Embeddings, tmp_path: Path) -> None:
    curate("index", "build", train.root, "--out", tmp_path / "index")
    np.save(tmp_path / "q.npy", train.vectors(3)[7:8])
    asked = ("index", "search", tmp_path / "index", "--queries", tmp_path / "q.npy", "--top", "2")
    lines = curate(*asked).stdout.splitlines()
    assert lines[:2] == ["query  rank  score  item", "0  1  1.000000  train-3:k7"]
    assert len(lines) == 3
    found = json.loads(curate(*asked, "--json").stdout)
    assert found["pairs"] == 2
    assert found["found"][0] == {
        "query": "0", "rank": 1, "score": 1.0, "id": "train-3:k7", "item": 507,
    }  # fmt: skip
    done = curate(*asked[:-2], "--floor", "1")
    assert "train-3:k7" in done.stdout


def test_an_altered_index_makes_exit_code_1(train: Embeddings, tmp_path: Path) -> None:
    index = tmp_path / "index"
    curate("index", "build", train.root, "--kind", "ivf", "--out", index)
    plain = faiss.read_index(str(index / "index.faiss"))
    plain.remove_ids(np.array([301]))
    faiss.write_index(plain, str(index / "index.faiss"))
    done = curate("index", "check", index)
    assert (done.returncode, done.stdout) == (1, "1 missing: train-2:k1 (item 301)\n")
    found = json.loads(curate("index", "check", index, "--json").stdout)
    assert found["problems"] == ["1 missing: train-2:k1 (item 301)"]


def test_a_set_that_grew_is_added(train: Embeddings, tmp_path: Path) -> None:
    index = tmp_path / "index"
    curate("index", "build", train.root, "--kind", "ivf-fp16", "--out", index)
    more = embeddings(
        tmp_path / "more", [*map(np.asarray, train.view_parts()), *random_parts(1, [50], dim=16)]
    )
    done = curate("index", "search", index, "--queries", more.root, "--embeddings", more.root,
                  "--top", "1")  # fmt: skip
    assert done.returncode == 2
    assert "`curate index build --extend` adds them" in done.stderr
    done = curate("index", "build", more.root, "--extend", "--out", index, "--json")
    assert json.loads(done.stdout)["trained_on"]["vectors"] == 600
    described = json.loads(curate("index", "info", index, "--json").stdout)
    assert (described["vectors"], described["added_since"]) == (650, 50)
    assert curate("index", "check", index).returncode == 0


def test_a_prefix_store_is_built_used_checked_and_extended(
    train: Embeddings, tmp_path: Path
) -> None:
    store, pairs = tmp_path / "store", tmp_path / "pairs.parquet"
    words = ("index", "build", train.root, "--kind", "prefix", "--threshold", "0.9")
    done = curate(*words, "--out", store)
    assert done.stdout.startswith("prefix: ")
    assert "bytes per item instead of 32; 1000 queries at 0.9 are expected" in done.stdout
    described = curate("index", "info", store).stdout
    for name in ("width", "bytes per item", "predicted ratio"):
        assert f"\n{name} " in described
    asked = ("index", "search", store, "--queries", train.root, "--out", pairs, "--floor")
    assert curate(*asked, "0.99999").stdout.startswith("600 pairs of 600 queries")
    assert pl.read_parquet(pairs)["id"].to_list() == train.all_metadata()["id"].to_list()
    assert "made for cosines from 0.9 on; at 0.3 still exact" in curate(*asked, "0.3").stderr
    done = curate("index", "check", store)
    assert (done.returncode, done.stdout) == (0, "600 vectors, each bounded by its code.\n")
    more = embeddings(
        tmp_path / "more", [*map(np.asarray, train.view_parts()), *random_parts(1, [50], dim=16)]
    )
    done = curate("index", "build", more.root, "--extend", "--out", store, "--json")
    assert (json.loads(done.stdout)["vectors"], json.loads(done.stdout)["added_since"]) == (650, 50)
    records = np.load(store / "codes" / "part_000002.npy")
    records["scale"][1] = 0
    np.save(store / "codes" / "part_000002.npy", records)
    done = curate("index", "check", store)
    assert (done.returncode, done.stdout) == (1, "1 altered: more-2:k1 (item 301)\n")


@pytest.mark.slow
def test_a_store_that_is_killed_again_and_again_ends_in_the_same_bytes(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "train", random_parts(0, [3000] * 20, dim=64))
    words = [sys.executable, "-m", "pipelines", "index", "build", str(side.root)]
    words += ["--kind", "prefix", "--threshold", "0.9"]
    subprocess.run([*words, "--out", str(tmp_path / "whole" / "store")], check=True)
    run_killing(words, tmp_path / "killed" / "store", 6)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(train: Embeddings, tmp_path: Path) -> None:
    for kind in ("flat", "ivf", "ivf-sq8"):
        for workers in (1, 2):
            out = tmp_path / f"w{workers}" / kind
            done = curate(
                "index", "build", train.root, "--kind", kind, "--workers", workers, "--out", out
            )
            assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "w1") == tree(tmp_path / "w2")


@pytest.mark.slow
def test_a_build_that_is_killed_again_and_again_ends_in_the_same_bytes(tmp_path: Path) -> None:
    side = embeddings(tmp_path / "train", random_parts(0, [3000] * 20, dim=64))
    words = [sys.executable, "-m", "pipelines", "index", "build", str(side.root)]
    words += ["--kind", "ivf-sq8"]
    subprocess.run([*words, "--out", str(tmp_path / "whole" / "index")], check=True)
    run_killing(words, tmp_path / "killed" / "index", 10)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert not [path for path in (tmp_path / "killed").iterdir() if path.name.endswith("partial")]


@pytest.mark.parametrize(
    ("kind", "kilobytes"),
    [("flat", 1), ("flat", 16), ("flat", 32), ("ivf-sq8", 1), ("ivf-sq8", 8), ("ivf-sq8", 12)],
)
def test_a_disk_that_is_full_is_told_and_the_same_command_goes_on(
    train: Embeddings, tmp_path: Path, kind: str, kilobytes: int
) -> None:
    """No file may grow beyond a limit: the kernel refuses as it does when the disk is full.

    What does not fit is the trained index or notes, then the runs of a part, then the merged index.
    """
    out = tmp_path / "out" / "index"
    words = [sys.executable, "-m", "pipelines", "index", "build", str(train.root)]
    words += ["--kind", kind, "--out", str(out)]
    limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", *words]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode in (2, 3), done.stderr
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert open_index(out).load().ntotal == 600
    assert curate("index", "check", out).returncode == 0


def test_sizes_are_read_as_people_write_them() -> None:
    assert parse_bytes("16GB") == parse_bytes("16 gb") == parse_bytes("16e9") == 16 * 10**9
    assert parse_bytes("1.5K") == 1500
    for text in ("", "GB", "much", "nan", "inf", "1XB"):
        with pytest.raises(CurateError, match=f"--memory {text}: a size such as 16GB"):
            parse_bytes(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "{tmp}", "--out", "{tmp}/i"), "not an embeddings folder"),
        (("build", "{train}", "--out", "{tmp}/i", "--memory", "1"), "ivf-sq8, 1 bytes are allowed"),
        (("build", "{train}", "--out", "{tmp}/i", "--extend"), "no index is there to extend"),
        (("build", "{train}", "--out", "{tmp}/i", "--threshold", "0.9"), "or --kind prefix"),
        (("build", "{train}", "--out", "{tmp}/i", "--kind", "prefix", "--seed", "1"), "of FAISS"),
        (("build", "{train}", "--out", "{tmp}/i", "--kind", "prefix", "--threshold", "2"), "cosin"),
        (("search", "{tmp}", "--queries", "q", "--top", "1"), "no such file"),
        (("search", "{train}", "--queries", "q", "--top", "1"), "not an index"),
        (("info", "{tmp}"), "no such file"),
        (("check", "{train}"), "not an index"),
    ],
)
def test_bad_use_is_told_without_a_traceback(
    words: tuple[str, ...], said: str, train: Embeddings, tmp_path: Path
) -> None:
    done = curate("index", *(word.format(tmp=tmp_path, train=train.root) for word in words))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["build", "search", "info", "check"])
def test_help_shows_an_example(command: str) -> None:
    text = CliRunner().invoke(app, ["index", command, "--help"]).output
    assert f"curate index {command} " in text
