"""Flows whose workers are jobs of a real Slurm, of one host."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deduping import write_sets
from flows import results, small, write_flow
from pictures import write_set
from slurm import Slurm, one_host, slurm_works

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not slurm_works(), reason="needs root and slurm-wlm"),
]
QUEUE = ("cluster.kind=slurm", "cluster.memory=2 GB", "cluster.interface=lo")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    pytest.importorskip("dask_jobqueue")
    with one_host(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def start(slurm: Slurm, root: Path, out: str, *changes: str) -> subprocess.Popen[str]:
    settings = [word for one in changes for word in ("--set", one)]
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines", "run", "flow.yaml", "--out", out, *settings],
        cwd=root, env={**slurm.environment, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_jobs_give_the_bytes_of_this_process(slurm: Slurm, tmp_path: Path) -> None:
    write_sets(tmp_path)
    write_flow(tmp_path, small())
    for out, changes in (("here", ()), ("there", (*QUEUE, "cluster.workers=2"))):
        process = start(slurm, tmp_path, out, *changes)
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said
    assert "waiting for a worker of slurm" in said
    assert results(tmp_path / "there") == results(tmp_path / "here")
    assert slurm.jobs() == []


def test_a_job_that_is_cancelled_is_replaced_and_the_first_signal_ends_all_jobs(
    slurm: Slurm, tmp_path: Path
) -> None:
    write_set(tmp_path / "train", [range(at, at + 40) for at in range(0, 400, 40)])
    for number in range(10, 2000):  # minutes of work
        os.link(tmp_path / f"train/{number % 10:05}.tar", tmp_path / f"train/{number:05}.tar")
    write_set(tmp_path / "test", [range(5)])
    write_flow(tmp_path, small(dedup={"copies": {"test": "new", "train": "old"}}))
    process = start(slurm, tmp_path, "run", *QUEUE, "cluster.workers=2")
    first = wait_for_jobs(slurm, 2, process)
    time.sleep(5)
    slurm.call("scancel", first[0])
    again = wait_for_jobs(slurm, 2, process, without=first[0])
    assert again != first
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "stopped; units that had begun are done and kept" in said
    assert slurm.jobs() == []


def wait_for_jobs(
    slurm: Slurm, count: int, process: subprocess.Popen[str], without: str = ""
) -> list[str]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()[0]
        jobs = [job for job in slurm.jobs() if job != without]
        if len(jobs) == count:
            return jobs
        time.sleep(0.2)
    raise AssertionError(f"no {count} jobs run")
