"""The machines that a plan is for: those of the flow's cluster, or so many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.errors import CurateError
from pipelines.planning.schedule import Machines

if TYPE_CHECKING:
    from pipelines.execute.config import ClusterConfig
    from pipelines.planning.rates import Rates

RATES = (
    "storage.bandwidth", "storage.link", "cluster.dispatch", "cluster.start", "start.command",
)  # fmt: skip
"""That machines are made of, so that every plan rests on them."""
_SIDE_BY_SIDE = 4
"""Steps at a time, as `pipelines.flow.run` does them."""


def machines_of(
    cluster: ClusterConfig, rates: Rates, workers: int | None = None, gpus: int | None = None
) -> Machines:
    """What units would run on.

    Args:
        cluster: of the flow.
        rates: of storage and scheduler.
        workers: so many instead of the cluster's.
        gpus: how many of them have a GPU; None: as the cluster says.

    Raises:
        CurateError: there are more GPUs than workers.
    """
    adaptive = cluster.adaptive.maximum if cluster.adaptive else cluster.workers
    count = workers or max(adaptive, gpus or 0)
    offered = count if cluster.offered.get("GPU", 0) else 0
    with_gpu = offered if gpus is None else gpus
    if with_gpu > count:
        raise CurateError(f"--gpus {with_gpu}: each is of one worker, and there are {count}.")
    here = cluster.kind == "process" and count == 1 and not with_gpu
    return Machines(
        workers=count,
        gpus=with_gpu,
        bandwidth=rates("storage.bandwidth"),
        link=rates("storage.link"),
        dispatch=0.0 if here else rates("cluster.dispatch"),
        start=0.0 if here else rates("cluster.start"),
        side_by_side=1 if here else _SIDE_BY_SIDE,
        in_process=here,
        begin=rates("start.command"),
    )
