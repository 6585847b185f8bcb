"""The shipped flow of CIFAR-10 on some of its images: two workers, and this process alone."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from flows import results
from pictures import write_shard

from curate import artifacts
from curate.discover import open_dataset
from curate.shards import ShardReader

SHORT = (
    "variables.epochs=1", "variables.updates=2", "eval.main.limit=10",
    "train.short-2.scratch.epochs=1", "train.short-4.scratch.epochs=2",
    *(f"train.{name}.seed=0" for name in ("all", "without", "control")),
    *(f"train.{name}.set.held_out=50" for name in ("tecoa", "tecoa-leaky", "prompt")),
)  # fmt: skip
"""Every step of the study, each as short as can be."""
TWO = ("cluster.kind=local", "cluster.workers=2")


def write_some(source: Path, out: Path, shards: int, size: int) -> None:
    """The first samples of a set, in shards of so many."""
    dataset = open_dataset(str(source), source.name)
    samples = (sample for shard in dataset.shards for sample in ShardReader(dataset, shard))
    for number in range(shards):
        chosen = [
            (one.key, {member.extension: member.data or b"" for member in one.members})
            for one in islice(samples, size)
        ]
        write_shard(out / f"{number}.tar", chosen)


def run(data: Path, out: Path, *changes: str) -> None:
    words = [
        word for one in (f"variables.data={data}", *SHORT, *changes) for word in ("--set", one)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "run", "cifar10", "--out", str(out), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_this_process(shared_data: Path, tmp_path: Path) -> None:
    for name, shards in (("train", 4), ("test", 2)):
        write_some(shared_data / "cifar10" / name, tmp_path / "data" / name, shards, 250)
    run(tmp_path / "data", tmp_path / "one")
    run(tmp_path / "data", tmp_path / "two", *TWO)
    left = results(tmp_path / "one")
    assert {name.partition("/")[0] for name in left} >= {
        "dedup", "embeddings", "eval", "report", "train",
    }  # fmt: skip
    assert results(tmp_path / "two") == left
    assert not artifacts.verify_all(list(artifacts.artifacts(tmp_path / "two")))
