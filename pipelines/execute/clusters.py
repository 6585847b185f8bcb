"""Starting a cluster of each kind; each one serves a Dask client and can be closed."""

import importlib
import logging
import shutil
import signal
import threading
import uuid
from contextlib import suppress
from typing import Any

from curate.errors import CurateError
from pipelines.execute.batches import BATCH_SECONDS
from pipelines.execute.config import QUEUES, ClusterConfig

_COMMANDS = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub"}
# A worker that says nothing for this long is taken for lost, and its units run elsewhere.
SILENT_WORKER_SECONDS = 60
_TARGET = f"{BATCH_SECONDS} s"
_LINGER_SECONDS = 30
"""That an adaptive cluster keeps a worker without work, such as between two steps."""
ALLOCATION = {"MALLOC_TRIM_THRESHOLD_": 256 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20}
"""Environment of workers: freed memory is kept for the next image.

Dask has it given back above 64 KiB, which also ends the growth of glibc's limit for mapped blocks,
so that every array of an image is mapped, cleared and unmapped anew: 3 million page faults for
6,000 images, and as much time in the kernel as in the network.
"""


def import_early(config: ClusterConfig) -> None:
    """Import in the main thread, before a run takes Ctrl-C, what takes it on import.

    dask-jobqueue 0.9 has the process exit by it. Steps of a flow, which are threads, could not even
    import it. That it is not installed is told when a cluster is asked for.
    """
    if config.kind not in QUEUES or threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGINT)
    with suppress(ImportError):
        importlib.import_module("dask_jobqueue")
    signal.signal(signal.SIGINT, handler)


def start_cluster(config: ClusterConfig) -> Any:
    """Start what the settings describe: a Dask cluster with its workers, or the word to begin.

    Raises:
        CurateError: what the kind needs (a package, a GPU, a queue's commands) is not here.
    """
    import dask

    starts = {"local": _local, "cuda": _cuda, "kubernetes": _kubernetes}
    before_start = "distributed.nanny.pre-spawn-environ"
    settings = {
        "distributed.scheduler.worker-ttl": f"{SILENT_WORKER_SECONDS} s",
        before_start: {**dask.config.get(before_start, {}), **ALLOCATION},
    }
    with dask.config.set(settings):
        cluster = starts.get(config.kind, _queue)(config)
    adapt(cluster, config)
    if config.kind == "kubernetes" and config.adaptive is None:
        cluster.scale(config.workers)  # the operator itself replaces those that end
    return cluster


def adapt(cluster: Any, config: ClusterConfig, at_least: int = 0) -> None:
    """Let a cluster grow and shrink with its tasks; a queue's jobs that end are replaced, too.

    Few tasks are sent at a time, and small units make short ones: by Dask's usual measure, a worker
    for each five seconds of them, one worker would be enough for a million units.

    Args:
        cluster: as `start_cluster` gave it.
        config: its settings; a fixed number of workers here is left alone.
        at_least: workers that trainings take, of which tasks tell nothing.
    """
    if config.adaptive is not None:
        low, high = config.adaptive.minimum, config.adaptive.maximum
    elif config.kind in QUEUES:
        low = high = config.workers
    else:
        return
    low = min(high, max(low, at_least))
    if config.kind == "kubernetes":
        cluster.adapt(minimum=low, maximum=high)  # in its scheduler, see `kubernetes_spec`
        return
    pace = {"target_duration": _TARGET, "wait_count": _LINGER_SECONDS}  # looks, one a second
    cluster.adapt(minimum=low, maximum=high, **pace)


def restore(cluster: Any, config: ClusterConfig) -> None:
    """Start again what Dask has given up of a local cluster's workers.

    Fifteen seconds after a worker died it is ended for good if it is not there, even if it has come
    back and died once more in the meantime, and is just being started.
    """
    if config.kind in ("local", "cuda") and len(cluster.workers) < len(cluster.worker_spec):
        cluster.scale(len(cluster.worker_spec))


def _local(config: ClusterConfig) -> Any:
    from distributed import LocalCluster

    from pipelines.execute.placement import Placement

    return LocalCluster(
        n_workers=config.adaptive.minimum if config.adaptive else config.workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=config.dashboard,
        memory_limit=config.memory or 0,
        resources=config.offered,
        plugins=(Placement(pin=config.pin),),
        silence_logs=logging.CRITICAL,
    )


def _cuda(config: ClusterConfig) -> Any:
    remedy = (
        "or start `dask worker --nthreads 1 --resources GPU=1 SCHEDULER` once per GPU, each with "
        "its own CUDA_VISIBLE_DEVICES, and use kind tcp"
    )
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise CurateError(
            f"cluster.kind cuda: dask-cuda cannot be used ({error}); install `dask-cuda` with the "
            f"release of dask that it asks for, {remedy}."
        ) from error
    workers = {"n_workers": config.workers} if "workers" in config.model_fields_set else {}
    try:
        return LocalCUDACluster(
            **workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=config.dashboard,
            memory_limit=config.memory or 0,
            resources=config.offered,
            silence_logs=logging.CRITICAL,
        )
    except Exception as error:
        raise CurateError(
            f"cluster.kind cuda: no worker could be started on a GPU of this machine ({error}); "
            f"use kind local, {remedy}."
        ) from error


def queue_cluster(config: ClusterConfig) -> Any:
    """A cluster of a queue with no job yet; its `job_script()` is what a worker is submitted as.

    Raises:
        CurateError: dask-jobqueue is not installed.
    """
    try:
        import dask_jobqueue
    except ImportError as error:
        raise CurateError(
            f"cluster.kind {config.kind}: dask-jobqueue is not installed; "
            "pip install 'curate[cluster]'."
        ) from error
    names = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster"}
    sizes: dict[str, dict[str, Any]] = {
        "slurm": {"job_cpu": config.cores},
        "pbs": {"resource_spec": f"select=1:ncpus={config.cores}:mem={_bytes(config) >> 20}MB"},
        "lsf": {"ncpus": config.cores},
    }
    asked = {"queue": config.queue, "walltime": config.walltime}
    asked["project" if config.kind == "lsf" else "account"] = config.account
    return getattr(dask_jobqueue, names[config.kind])(
        n_workers=0,
        cores=1,
        processes=1,
        memory=config.memory,
        interface=config.interface,
        scheduler_options={"dashboard_address": config.dashboard},
        worker_extra_args=_resource_flags(config),
        job_extra_directives=list(config.job_extra),
        job_script_prologue=[
            *(f'export {name}="{value}"' for name, value in _environment().items()),
            *config.prologue,
        ],
        **{name: value for name, value in asked.items() if value is not None},
        **sizes[config.kind],
    )


def _environment() -> dict[str, str]:
    """`ALLOCATION` for workers that others start; nannies take theirs from a setting of Dask."""
    return {"DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON": str(ALLOCATION)}


def _bytes(config: ClusterConfig) -> int:
    from dask.utils import parse_bytes

    return int(parse_bytes(config.memory or 0))


def _queue(config: ClusterConfig) -> Any:
    command = _COMMANDS[config.kind]
    if shutil.which(command) is None:
        raise CurateError(
            f"cluster.kind {config.kind}: `{command}` is not on this machine's PATH; run this on a "
            "login node of the cluster, or use kind tcp with a scheduler that runs there."
        )
    return queue_cluster(config)


def _resource_flags(config: ClusterConfig) -> list[str]:
    offered = " ".join(f"{name}={amount:g}" for name, amount in sorted(config.offered.items()))
    return ["--resources", f'"{offered}"' if " " in offered else offered] if offered else []


def kubernetes_spec(config: ClusterConfig) -> dict[str, Any]:
    """The DaskCluster resource that Kubernetes is given.

    A GPU that is offered is asked for as a limit `nvidia.com/gpu`.

    Raises:
        CurateError: dask-kubernetes is not installed.
    """
    try:
        from dask_kubernetes.operator import make_cluster_spec
    except ImportError as error:
        raise CurateError(
            f"cluster.kind kubernetes: dask-kubernetes cannot be used ({error}); "
            "pip install dask-kubernetes."
        ) from error
    asked: dict[str, str] = {"cpu": str(config.cores)}
    if config.memory is not None:
        asked["memory"] = str(_bytes(config))
    gpus = int(config.offered.get("GPU", 0))
    limits = {**asked, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    offered = " ".join(f"{name}={amount:g}" for name, amount in sorted(config.offered.items()))
    command = ["dask", "worker", "--nthreads", "1", *(["--resources", offered] if offered else [])]
    spec = make_cluster_spec(
        name=f"curate-{uuid.uuid4().hex[:8]}",
        image=config.image,
        n_workers=0,
        resources={"requests": asked, "limits": limits},
        env={**_environment(), "DASK_DISTRIBUTED__ADAPTIVE__TARGET_DURATION": _TARGET},
        worker_command=command,
    )
    assert isinstance(spec, dict)
    return spec


def _kubernetes(config: ClusterConfig) -> Any:
    spec = kubernetes_spec(config)
    from dask_kubernetes.operator import KubeCluster

    try:
        return KubeCluster(custom_cluster_spec=spec, namespace=config.namespace, quiet=True)
    except Exception as error:
        raise CurateError(
            f"cluster.kind kubernetes: no cluster could be made in namespace {config.namespace} "
            f"({type(error).__name__}: {error}); see that kubectl works here and that Dask's "
            "operator is installed there."
        ) from error
