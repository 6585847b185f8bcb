"""The command line: help that answers at once, output for machines, errors without tracebacks."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import copies, encoded, picture, sample, write_set, write_shard
from typer.testing import CliRunner

from pipelines.cli import app

COMMANDS = (
    "dedup",
    "split",
    "report",
    "review",
    "demo",
    "download",
    "embed",
    "info",
    "verify",
    "doctor",
    "detectors",
)


LAYOUT = ("--detector", "builtin:layout")
"""Where the detector is of no concern: the default one takes seconds to load."""


def curate(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "pipelines", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    write_set(root / "train", [range(10, 20)])
    rows = [sample("copy", copies(picture(12))["jpeg"]), sample("new", encoded(picture(99)))]
    write_shard(root / "test" / "0.tar", [*rows, sample("broken", b"")])
    return root


@pytest.fixture(scope="module")
def finished(sets: Path) -> Path:
    done = curate(
        "dedup", "--test", sets / "test", "--train", sets / "train", "--out", sets / "run"
    )
    assert done.returncode == 0, done.stderr
    return sets / "run"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], terminal_width=120)
    assert shown.exit_code == 0
    assert f"curate {command}" in shown.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, pipelines.cli as c; from typer.testing import CliRunner as R\n"
        "assert R().invoke(c.app, ['dedup', '--help']).exit_code == 0\n"
        "heavy = ('torch', 'faiss', 'open_clip', 'dask', 'polars', 'numpy', 'PIL')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_told() -> None:
    from curate import __version__

    assert CliRunner().invoke(app, ["--version"]).output.strip() == f"curate {__version__}"


def test_dedup_says_the_finding_and_where_it_is(finished: Path, sets: Path) -> None:
    again = curate("dedup", "--test", sets / "test", "--train", sets / "train", "--out", finished)
    assert "1 of 3 items of test (33.33%) match train" in again.stdout
    assert "1 clean + 1 overlap + 1 unknown = 3 in" in again.stdout
    assert (finished / "report" / "index.html").is_file()
    assert again.stderr == ""


def test_json_output_is_json_alone(finished: Path, sets: Path) -> None:
    done = curate(
        "dedup", "--test", sets / "test", "--train", sets / "train", "--out", finished, "--json"
    )
    found = json.loads(done.stdout)
    assert found["counts"] == {"in": 3, "clean": 1, "overlap": 1, "unknown": 1, "control": 1}
    for command in (("info", finished), ("verify", finished), ("report", finished)):
        assert json.loads(curate(*command, "--json").stdout)


def test_split_moves_the_threshold(finished: Path) -> None:
    done = curate("split", finished, "--threshold", "0.99999", "--json")
    assert json.loads(done.stdout)["counts"]["overlap"] == 0
    assert curate("split", finished, "--threshold", "0.01").returncode == 2


def test_split_changes_which_stays_of_one_set(sets: Path, finished: Path, tmp_path: Path) -> None:
    small = sample("small", encoded(picture(12).resize((40, 40))))
    write_shard(tmp_path / "set" / "0.tar", [small, sample("large", encoded(picture(12)))])
    words = ("dedup", "--test", tmp_path / "set", "--within", "--threshold", "0.8", *LAYOUT)
    done = curate(*words, "--out", tmp_path / "run")
    assert "1 of 2 items of set (50.00%) match one that stays" in done.stdout
    ids = tmp_path / "run" / "splits" / "set-at-0.8" / "clean_ids.txt"
    assert ids.read_text() == "0:small\n"
    again = ("split", tmp_path / "run", "--threshold", "0.8")
    assert json.loads(curate(*again, "--keep", "largest", "--json").stdout)["keep"] == "largest"
    assert ids.read_text() == "0:large\n"
    refused = curate("split", finished, "--threshold", "0.9", "--keep", "largest")
    assert refused.returncode == 2
    assert "this run compared two" in refused.stderr


def test_verify_exits_with_1_when_a_file_was_altered(finished: Path, sets: Path) -> None:
    assert curate("verify", finished).returncode == 0
    path = finished / "matches" / "test-vs-train" / "pairs.parquet"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    done = curate("verify", finished)
    path.write_bytes(kept)
    assert done.returncode == 1
    assert "pairs.parquet: altered" in done.stdout


def test_settings_come_from_a_file_and_flags_win(sets: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"test: ['{sets}/test']\ntrain: ['{sets}/train']\n"
        f"out: '{tmp_path}/run'\nthreshold: 0.9999\ndetector: builtin:layout\n"
    )
    assert (
        json.loads(curate("dedup", "--config", config, "--json").stdout)["counts"]["overlap"] == 0
    )
    done = curate("dedup", "--config", config, "--threshold", "0.8", "--json")
    assert json.loads(done.stdout)["counts"]["overlap"] == 1


def test_embed_and_index_are_stages_of_their_own(sets: Path, tmp_path: Path) -> None:
    done = curate("embed", sets / "train", "--out", tmp_path / "emb", *LAYOUT, "--json")
    assert json.loads(done.stdout)["vectors"] == 10
    done = curate("index", "build", tmp_path / "emb", "--out", tmp_path / "index")
    assert "flat: 10 vectors" in done.stdout
    words = ("--test", sets / "test", "--train", tmp_path / "emb", "--index", tmp_path / "index")
    done = curate("dedup", *words, "--out", tmp_path / "run", "--json")
    assert json.loads(done.stdout)["counts"]["overlap"] == 1


DEDUP = ("dedup", "--out", "{tmp}")
SETS = ("--test", "{sets}/test", "--train", "{sets}/train")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dedup", "--test", "x", "--train", "y"), "out is missing"),
        ((*DEDUP, "--test", "nowhere", "--train", "nowhere"), "nothing is there"),
        ((*DEDUP, "--test", "x"), "train is missing"),
        ((*DEDUP, *SETS, "--within"), "no train"),
        ((*DEDUP, *SETS, "--keep", "largest"), "give within too"),
        ((*DEDUP, "--test", "x", "--within", "--keep", "best"), "'first', 'largest'"),
        ((*DEDUP, *SETS, "--threshold", "7"), "threshold"),
        ((*DEDUP, *SETS, "--search", "hnsw"), "search"),
        ((*DEDUP, *SETS, "--detector", "magic"), "magic"),
        ((*DEDUP, *SETS, "--detector", "open_clip:ViT-B-32/openai"), "--weights"),
        (("verify", "{tmp}"), "no artifact"),
        (("info", "{tmp}/nothing"), "nothing is there"),
        (("split", "{tmp}", "--threshold", "0.9"), "no finished run"),
        (("report", "{tmp}"), "no finished run"),
        (("index", "build", "{tmp}", "--out", "{tmp}/i"), "not an embeddings folder"),
        (("embed", "{tmp}", "--out", "{tmp}/e"), "neither tars"),
    ],
)
def test_bad_use_is_told_without_a_traceback(
    words: tuple[str, ...], said: str, sets: Path, tmp_path: Path
) -> None:
    done = curate(*(word.format(tmp=tmp_path, sets=sets) for word in words))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cut_shard_makes_exit_code_3_and_is_named(sets: Path, tmp_path: Path) -> None:
    data = (sets / "train" / "00000.tar").read_bytes()
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.tar").write_bytes(data[: len(data) // 2])
    sides = ("--test", sets / "test", "--train", tmp_path / "train")
    done = curate("dedup", *sides, "--out", tmp_path / "run", *LAYOUT)
    assert done.returncode == 3
    assert "train/0" in done.stderr
    assert "= 3 in" in done.stdout


@pytest.mark.parametrize("kilobytes", [1, 8, 16, 32, 64])
def test_a_disk_that_is_full_is_told_and_the_same_command_goes_on(
    kilobytes: int, sets: Path, tmp_path: Path
) -> None:
    """No file may grow beyond a limit: the kernel refuses as it does when the disk is full."""
    write_set(tmp_path / "train", [range(200)])
    words = [
        sys.executable,
        "-m",
        "pipelines",
        "dedup",
        "--test",
        f"{sets}/test",
        "--search",
        "flat",
        *LAYOUT,
    ]
    words += ["--train", f"{tmp_path}/train", "--out", f"{tmp_path}/run"]
    limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", *words]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode in (2, 3), done.stderr
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert curate("verify", tmp_path / "run").returncode == 0


def test_ctrl_c_leaves_what_is_done_and_says_so(sets: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "train", [range(n, n + 50) for n in range(0, 5000, 50)])
    words = [sys.executable, "-m", "pipelines", "dedup", "--test", f"{sets}/test", *LAYOUT]
    words += ["--train", f"{tmp_path}/train", "--out", f"{tmp_path}/run"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    facts = "embeddings/train/.builtin-layout.*.partial/facts/part_000003.json"
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run").glob(facts)) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "run").glob(facts))
