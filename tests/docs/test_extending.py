"""The examples of docs/extending.md, run as they stand there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from evaluating import write_test_set
from installing import Installs, installing
from markdown import ROOT, blocks, commands
from pictures import copies, encoded, picture, sample, write_shard
from typer.testing import CliRunner

from curate.encoders import EncoderSpec, fingerprint, load_encoder
from curate.extensions import KINDS, origin
from pipelines.cli import app

PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCKS = list(blocks(PAGE))
MODULES = {
    found[1]: block.text
    for block in BLOCKS
    if block.language == "python" and (found := re.match(r'"""(\w+\.py): ', block.text))
}
PROJECT = next(block.text for block in BLOCKS if block.language == "toml")
COMMANDS = [line for block in BLOCKS for line in commands(block)]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installs]:
    with installing(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def folder(install: Installs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's package, installed, and the data that its commands name."""
    install(PROJECT, MODULES)
    here = tmp_path / "here"
    new = [sample(f"{n:06}", encoded(picture(n))) for n in range(100, 106)]
    old = [sample(f"{n:06}", encoded(picture(n))) for n in range(10)]
    write_shard(here / "test" / "0.tar", [*new, sample("copy", copies(picture(3))["jpeg"])])
    write_shard(here / "train" / "0.tar", old)
    write_test_set(here / "animals", 6)
    pets = [
        (f"s{n}", {"png": encoded(picture(n, 32)), "cls": ("cat", "dog")[n % 2].encode()})
        for n in range(24)
    ]
    write_shard(here / "pets" / "0.tar", pets)
    (here / "snapshots" / "images").mkdir(parents=True)
    for n in range(6):
        (here / "snapshots" / "images" / f"{n}.png").write_bytes(encoded(picture(n, 32)))
    rows = "".join(f"{n}.png,{('cat', 'dog', 'frog')[n % 3]}\n" for n in range(6))
    (here / "snapshots" / "labels.csv").write_text(f"file,class\n{rows}")
    monkeypatch.chdir(here)
    return here


def run(line: str) -> str:
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    if result.exception:
        raise result.exception
    return result.stdout


def commands_with(word: str) -> list[str]:
    found = [line for line in COMMANDS if word in line]
    assert found, word
    return found


def test_every_example_is_about_twenty_lines_and_stands_in_the_project() -> None:
    listed = tomllib.loads(PROJECT)["tool"]["setuptools"]["py-modules"]
    assert [f"{name}.py" for name in listed] == list(MODULES)
    for name, text in MODULES.items():
        lines = [line for line in text.splitlines() if line.strip()]
        assert 8 < len(lines) <= 24, name


def test_every_kind_of_part_is_shown() -> None:
    groups = tomllib.loads(PROJECT)["project"]["entry-points"]
    assert set(groups) == {f"curate.{kind}" for kind in KINDS}


def test_the_detector_of_the_page_finds_a_planted_copy(folder: Path) -> None:
    assert "thumbnail:grey" in run(commands_with("curate detectors")[0])
    said = run(commands_with("curate dedup")[0])
    assert "1 of 7 items of test (14.29%) match train" in said
    pairs = pl.read_parquet(folder / "run" / "matches" / "test-vs-train" / "pairs.parquet")
    assert pairs.row(0)[:2] == ("0:copy", "0:000003")
    run(commands_with("curate calibrate")[0])
    assert (folder / "run" / "calibration" / "calibration.json").is_file()


def test_the_encoder_of_the_page_keeps_the_promise_of_encoders(folder: Path) -> None:
    encoder = load_encoder(EncoderSpec("thumbnail:grey"))
    batch = np.stack([encoder.preprocess(picture(n)) for n in range(5)])
    alone = np.concatenate([encoder.encode(row[None]) for row in batch])
    assert encoder.encode(batch).tobytes() == alone.tobytes()
    assert fingerprint(encoder)["extension"] == origin("encoders", "thumbnail")["extension"]


def test_the_attack_of_the_page_stays_within_its_radius(folder: Path) -> None:
    run(commands_with("@brightness")[0])
    place = folder / "eval" / "tiny" / "animals@brightness.eps8.native"
    rows = pl.read_parquet(place / "samples.parquet")
    assert rows.height == 6
    assert rows["linf"].max() <= 8.001  # type: ignore[operator]
    stated = json.loads((place / "manifest.json").read_text())["config"]["setting"]
    assert stated["extension"]["package"] == "my-parts"


def test_the_loss_of_the_page_trains(folder: Path) -> None:
    run(commands_with("curate train")[0])
    facts = json.loads((folder / "trained" / "train.json").read_text())
    assert facts["recipe"]["loss"] == "half-and-half"
    manifest = json.loads((folder / "trained" / "manifest.json").read_text())
    assert manifest["config"]["extension"]["version"] == "0.1"


def test_the_data_set_of_the_page_is_measured_and_its_splits_fit(folder: Path) -> None:
    line = commands_with("--data snapshots")[0]
    run(line)
    plain = folder / "eval" / "snapshots" / "snapshots" / "samples.parquet"
    assert sorted(pl.read_parquet(plain)["id"]) == [f"images:{n}.png" for n in range(6)]
    run("curate dedup --test snapshots --train train --detector builtin:layout --out snaps")
    split = next((folder / "snaps" / "splits").iterdir())
    assert "clean holds no image" in run(f"{line} --split snapshots={split}")
    assert set(pl.read_parquet(plain)["split"]) == {"overlap"}
    assert "snapshots" in run("curate eval ls")


@pytest.mark.slow
def test_the_package_installs_and_workers_know_its_parts(folder: Path, tmp_path: Path) -> None:
    source, site = tmp_path / "my-parts", tmp_path / "installed"
    source.mkdir()
    for name, text in {**MODULES, "pyproject.toml": PROJECT}.items():
        (source / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", site, source], check=True)
    words = shlex.split(commands_with("curate dedup")[0])[1:]
    curate = [sys.executable, "-m", "pipelines", *words, "--workers", "2"]
    paths = {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}
    done = subprocess.run(
        curate, cwd=folder, env={**os.environ, **paths}, check=True, capture_output=True, text=True
    )
    assert "1 of 7 items of test (14.29%) match train" in done.stdout
