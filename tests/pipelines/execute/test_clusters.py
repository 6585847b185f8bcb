"""Clusters of each kind: what is submitted, and what is said where a kind cannot be used."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curate.errors import CurateError
from pipelines.execute import ClusterConfig, open_runner, worker_number
from pipelines.execute.clusters import ALLOCATION, kubernetes_spec, queue_cluster, start_cluster

JOB: dict[str, Any] = {
    "workers": 4, "memory": "16 GB", "cores": 8, "queue": "gpu", "account": "vision",
    "walltime": "02:00", "job_extra": ("--exclusive",), "prologue": ("module load cuda",),
    "interface": "lo", "resources": {"GPU": 1, "MEMORY": 16},
}  # fmt: skip
DIRECTIVES = {
    "slurm": [
        "#SBATCH -p gpu", "#SBATCH -A vision", "#SBATCH -t 02:00", "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=15G", "#SBATCH --exclusive",
    ],
    "pbs": [
        "#PBS -q gpu", "#PBS -A vision", "#PBS -l walltime=02:00", "#PBS --exclusive",
        "#PBS -l select=1:ncpus=8:mem=15258MB",
    ],
    "lsf": ["#BSUB -q gpu", '#BSUB -P "vision"', "#BSUB -W 02:00", "#BSUB -n 8"],
}  # fmt: skip
HERE = {name: importlib.util.find_spec(name) is not None for name in (
    "dask_jobqueue", "dask_kubernetes", "dask_cuda",
)}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """dask-jobqueue writes its settings into the home folder when it is imported."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(not HERE["dask_jobqueue"], reason="needs dask-jobqueue")
@pytest.mark.parametrize("kind", DIRECTIVES)
def test_the_job_of_a_worker_says_all_that_was_asked_for(kind: str, home: Path) -> None:
    with queue_cluster(ClusterConfig(kind=kind, **JOB)) as cluster:
        script = cluster.job_script()
    lines = script.splitlines()
    assert [line for line in DIRECTIVES[kind] if line not in lines] == []
    assert lines.index("module load cuda") < len(lines) - 1
    assert any(line.startswith("export DASK_") and str(ALLOCATION) in line for line in lines)
    worker = next(line for line in lines if "dask_worker" in line)
    assert "--nthreads 1 " in worker
    assert '--resources "GPU=1 MEMORY=16"' in worker


@pytest.mark.skipif(not HERE["dask_jobqueue"], reason="needs dask-jobqueue")
def test_a_job_asks_for_nothing_that_was_not_given(home: Path) -> None:
    with queue_cluster(ClusterConfig(kind="slurm", memory="4 GB", interface="lo")) as cluster:
        script = cluster.job_script()
    assert "--resources" not in script
    assert "#SBATCH -p" not in script
    assert "#SBATCH -A" not in script


@pytest.mark.skipif(not HERE["dask_jobqueue"], reason="needs dask-jobqueue")
def test_a_queue_can_be_asked_from_a_thread_and_leaves_ctrl_c_to_the_run(home: Path) -> None:
    code = (
        "import signal, threading\n"
        "from pipelines.execute import ClusterConfig, open_runner\n"
        "from pipelines.execute.clusters import queue_cluster\n"
        "config = ClusterConfig(kind='slurm', memory='4 GB', interface='lo')\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "with open_runner(config) as runner:\n"
        "    thread = threading.Thread(target=lambda: print(type(queue_cluster(config))))\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    assert signal.getsignal(signal.SIGINT) == runner.stop.handle\n"
        "assert signal.getsignal(signal.SIGINT) is before\n"
    )  # in a process of its own: what is imported once is not imported again
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "SLURMCluster" in done.stdout


@pytest.mark.parametrize(
    ("kind", "command"), [("slurm", "sbatch"), ("pbs", "qsub"), ("lsf", "bsub")]
)
def test_a_machine_without_the_queue_is_told_what_to_do(
    kind: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CurateError, match=rf"`{command}` is not on.*login node.*kind tcp"):
        start_cluster(ClusterConfig(kind=kind, memory="4 GB"))


@pytest.mark.skipif(HERE["dask_cuda"], reason="dask-cuda is installed")
def test_without_dask_cuda_both_ways_out_are_shown() -> None:
    with (
        open_runner(ClusterConfig(kind="cuda")) as runner,
        pytest.raises(CurateError, match=r"dask-cuda.*--resources GPU=1.*kind tcp"),
    ):
        list(runner(int, [1]))


@pytest.mark.skipif(HERE["dask_kubernetes"], reason="dask-kubernetes is installed")
def test_without_dask_kubernetes_the_remedy_is_shown() -> None:
    with pytest.raises(CurateError, match="pip install dask-kubernetes"):
        start_cluster(ClusterConfig(kind="kubernetes", image="curate:1"))


@pytest.mark.skipif(not HERE["dask_kubernetes"], reason="needs dask-kubernetes")
def test_kubernetes_is_asked_for_cores_memory_and_gpus() -> None:
    config = ClusterConfig(
        kind="kubernetes", image="curate:1", cores=4, memory="16 GiB", resources={"GPU": 1}
    )
    spec = kubernetes_spec(config)["spec"]["worker"]
    container = spec["spec"]["containers"][0]
    assert container["image"] == "curate:1"
    assert container["args"][:6] == ["dask", "worker", "--nthreads", "1", "--resources", "GPU=1"]
    memory = str(16 * 2**30)
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": memory},
        "limits": {"cpu": "4", "memory": memory, "nvidia.com/gpu": "1"},
    }
    given = {one["name"]: one["value"] for one in container["env"]}
    assert given["DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON"] == str(ALLOCATION)
    assert given["DASK_DISTRIBUTED__ADAPTIVE__TARGET_DURATION"] == "0.2 s"


@pytest.mark.skipif(not HERE["dask_kubernetes"], reason="needs dask-kubernetes")
def test_without_a_kubernetes_cluster_the_remedy_is_shown(home: Path) -> None:
    with pytest.raises(CurateError, match="kubectl"):
        start_cluster(ClusterConfig(kind="kubernetes", image="curate:1"))


def cores_and_number(_: int) -> tuple[frozenset[int], int]:
    return frozenset(os.sched_getaffinity(0)), worker_number()


def test_pinned_workers_have_a_core_each() -> None:
    available = sorted(os.sched_getaffinity(0))
    with open_runner(ClusterConfig(kind="local", workers=2, pin=True)) as runner:
        found = {outcome.result for outcome in runner(cores_and_number, range(40))}
    assert found == {(frozenset({available[n % len(available)]}), n) for n in range(2)}


def allocation(_: int) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ALLOCATION}


def test_workers_keep_the_memory_that_the_next_image_needs() -> None:
    with open_runner(ClusterConfig(kind="local")) as runner:
        found = [outcome.result for outcome in runner(allocation, [0])]
    assert found == [{name: str(value) for name, value in ALLOCATION.items()}]


def test_an_adaptive_cluster_starts_workers_for_work() -> None:
    config = ClusterConfig(kind="local", adaptive={"minimum": 0, "maximum": 2})  # type: ignore[arg-type]
    with open_runner(config) as runner:
        assert sorted(o.result for o in runner(int, [1, 2, 3])) == [1, 2, 3]


def test_a_silent_worker_is_given_up_within_a_minute() -> None:
    with start_cluster(ClusterConfig(kind="local")) as cluster:
        assert cluster.scheduler.worker_ttl == 60
        assert cluster.dashboard_link.startswith("http://127.0.0.1")
