"""On what units run: the settings of a cluster, as flags or a flow's `cluster:` give them."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from curate.config import Settings

Kind = Literal["process", "local", "tcp", "cuda", "slurm", "pbs", "lsf", "kubernetes"]
QUEUES: tuple[Kind, ...] = ("slurm", "pbs", "lsf")
_MEMORY = re.compile(r"\d+(\.\d+)?\s*[kMGT]i?B")
_OWN: tuple[Kind, ...] = ("local", "cuda", *QUEUES, "kubernetes")
_ELASTIC: tuple[Kind, ...] = ("local", *QUEUES, "kubernetes")
_TAKEN_BY: dict[str, tuple[Kind, ...]] = {
    "workers": _OWN,
    "address": ("tcp",),
    "tls": ("tcp",),
    "resources": ("process", *_OWN),
    "memory": _OWN,
    "cores": (*QUEUES, "kubernetes"),
    "adaptive": _ELASTIC,
    "dashboard": ("local", "cuda", *QUEUES),
    "queue": QUEUES,
    "account": QUEUES,
    "walltime": QUEUES,
    "job_extra": QUEUES,
    "prologue": QUEUES,
    "interface": QUEUES,
    "namespace": ("kubernetes",),
    "image": ("kubernetes",),
    "pin": ("local",),
    "unit_timeout": ("local", "tcp", "cuda", *QUEUES, "kubernetes"),
}
_NEEDED: dict[str, tuple[Kind, ...]] = {
    "address": ("tcp",),
    "memory": QUEUES,
    "image": ("kubernetes",),
}


class Tls(Settings):
    """Files, in PEM, by which client, scheduler and workers know each other.

    Attributes:
        ca: certificate of the authority that signed the others.
        cert: our certificate.
        key: its private key.
    """

    ca: Path
    cert: Path
    key: Path


class Adaptive(Settings):
    """Between which numbers of workers the cluster grows and shrinks with the work.

    Attributes:
        minimum: workers that stay.
        maximum: workers at most.
    """

    minimum: int = Field(default=0, ge=0)
    maximum: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is below minimum {self.minimum}")
        return self


class ClusterConfig(Settings):
    """On what units run. A setting that means nothing to the kind is an error, never ignored.

    Attributes:
        kind: process (here, one after the other), local (workers on this machine), tcp (a running
            scheduler), cuda (one worker per GPU of this machine), slurm, pbs, lsf (jobs of a
            queue), kubernetes (through Dask's operator).
        workers: how many; each runs one unit at a time.
        address: of a running scheduler, `tcp://HOST:PORT` or `tls://HOST:PORT`.
        tls: certificates for a `tls://` address; without them those of Dask's own settings count
            (`DASK_DISTRIBUTED__COMM__TLS__CA_FILE` and so on), also for `--scheduler`.
        resources: what each worker offers, such as `{GPU: 1, MEMORY: 32, DECODE: 4}`. MEMORY is in
            GB by convention. A stage that needs what none offers is an error at once.
        memory: of each worker, such as "8 GB"; a worker that takes more is restarted.
        cores: processor cores that the queue or Kubernetes is asked for, per worker.
        adaptive: grow and shrink instead of a fixed number of `workers`.
        dashboard: where Dask's dashboard listens.
        queue: partition or queue of jobs.
        account: project that jobs are charged to.
        walltime: of a job, as the queue writes it.
        job_extra: further directives of the job script, without `#SBATCH`, `#PBS`, `#BSUB`.
        prologue: lines of shell before the worker starts, such as `module load cuda`.
        interface: network interface by which jobs reach the scheduler, such as `ib0`.
        namespace: of Kubernetes.
        image: container image that has `curate` in it.
        pin: bind each worker to one core.
        retries: of a unit whose files cannot be read or written, as storage fails in passing.
        unit_timeout: seconds after which a unit is given up.
        loss_timeout: seconds without the scheduler, or without any worker, after which a run ends
            as partial. Workers that a queue or an adaptive cluster is to start are waited for.
    """

    kind: Kind = "process"
    workers: int = Field(default=1, ge=1)
    address: str | None = None
    tls: Tls | None = None
    resources: dict[str, PositiveFloat] = Field(default_factory=dict)
    memory: str | None = None
    cores: int = Field(default=1, ge=1)
    adaptive: Adaptive | None = None
    dashboard: str = "127.0.0.1:0"
    queue: str | None = None
    account: str | None = None
    walltime: str | None = None
    job_extra: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    interface: str | None = None
    namespace: str = "default"
    image: str | None = None
    pin: bool = False
    retries: int = Field(default=2, ge=0)
    unit_timeout: PositiveFloat | None = None
    loss_timeout: PositiveFloat = 60

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        for name in sorted(self.model_fields_set & _TAKEN_BY.keys()):
            usual = type(self).model_fields[name].get_default(call_default_factory=True)
            if self.kind not in _TAKEN_BY[name] and getattr(self, name) != usual:
                fit = ", ".join(_TAKEN_BY[name])
                raise ValueError(f"{name} has no meaning for kind {self.kind}, but for {fit}")
        for name, kinds in _NEEDED.items():
            if self.kind in kinds and not getattr(self, name):
                raise ValueError(f"kind {self.kind} needs {name}")
        return self

    @model_validator(mode="after")
    def _says_what_can_be_understood(self) -> Self:
        if self.memory is not None and not _MEMORY.fullmatch(self.memory.strip()):
            raise ValueError(f"memory {self.memory!r} is no size such as '8 GB' or '512 MiB'")
        if self.adaptive is not None and "workers" in self.model_fields_set:
            raise ValueError("give workers or adaptive, not both")
        if self.tls is not None and not (self.address or "").startswith("tls://"):
            raise ValueError(f"address {self.address}: with certificates it is tls://HOST:PORT")
        return self

    @property
    def offered(self) -> dict[str, float]:
        """What each worker offers; a worker of kind cuda has a GPU without being told so."""
        gpu = {"GPU": 1.0} if self.kind == "cuda" else {}
        return {**gpu, **self.resources}


def simple_cluster(workers: int = 1, scheduler: str | None = None) -> ClusterConfig:
    """What `--workers` and `--scheduler` stand for: this process, workers here, or a scheduler."""
    if scheduler is not None:
        return ClusterConfig(kind="tcp", address=scheduler)
    if workers > 1:
        return ClusterConfig(kind="local", workers=workers)
    return ClusterConfig()
