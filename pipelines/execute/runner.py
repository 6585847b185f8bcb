"""What runs the units of stages: in this process, or on a cluster that starts with the first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from curate.errors import CurateError
from curate.units import Outcome
from pipelines.execute.batches import try_unit
from pipelines.execute.clusters import import_early
from pipelines.execute.config import ClusterConfig, simple_cluster
from pipelines.execute.dispatch import Dispatch
from pipelines.execute.link import Link, unsatisfied
from pipelines.execute.stopping import Stopping, stopping


@dataclass(frozen=True)
class Runner:
    """Runs units as `curate.units.RunUnits` says; several stages may use it at a time.

    Attributes:
        config: of the cluster.
        stop: whether the run was asked to stop.
        link: to the cluster; None in this process.
        needs: of each unit, resources that its worker must offer.
    """

    config: ClusterConfig
    stop: Stopping
    link: Link | None = None
    needs: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        """Yield one outcome per unit as it comes.

        A unit that raises CurateError is tried again; one that kills its workers or outlasts its
        time has an outcome that is `quarantined`. Another error is a bug: it is raised here.

        Raises:
            PartialRunError: the run was asked to stop, or the cluster is lost.
            CurateError: the cluster cannot be used, or nothing of it offers what is needed.
        """
        if not units:
            return
        self.stop.check()
        with self.stop.units():
            if self.link is None:
                yield from self._here(function, units)
            else:
                yield from Dispatch(self.link, self.stop, (function, units), self.needs).outcomes()

    def _here(self, function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in units:
            self.stop.check()
            end = try_unit(function, unit, self.config.retries)
            yield Outcome(unit, end.result, end.error)

    def needing(self, resources: Mapping[str, float]) -> "Runner":
        """The same for units that need resources, such as `{"GPU": 1, "MEMORY": 16}`.

        Raises:
            CurateError: no worker of this cluster ever offers them. What the workers of a running
                scheduler offer is found out with the first unit.
        """
        offered = self.config.offered
        lacks = any(offered.get(name, 0) < amount for name, amount in resources.items())
        if lacks and self.config.kind != "tcp":
            raise CurateError(unsatisfied(resources, offered, self.config))
        return Runner(self.config, self.stop, self.link, dict(resources))


@contextmanager
def open_runner(cluster: ClusterConfig) -> Iterator[Runner]:
    """Yield what runs units; Ctrl-C and SIGTERM are taken meanwhile (`pipelines.execute.stopping`).

    The cluster starts with the first unit, so a run that reuses everything does not wait for it.

    Args:
        cluster: on what units run.
    """
    import_early(cluster)
    with stopping() as stop:
        if cluster.kind == "process":
            yield Runner(cluster, stop)
            return
        link = Link(cluster, stop)
        try:
            yield Runner(cluster, stop, link)
        finally:
            link.close()


@contextmanager
def unit_runner(workers: int = 1, scheduler: str | None = None) -> Iterator[Runner]:
    """Yield what runs units: in this process for one worker, on Dask for more or with a scheduler.

    Args:
        workers: processes on this machine.
        scheduler: address of a running Dask scheduler, such as `tcp://10.0.0.1:8786`.
    """
    with open_runner(simple_cluster(workers, scheduler)) as runner:
        yield runner


def worker_number() -> int:
    """Which of a local cluster's workers this process is, from 0; 0 in a process that is none."""
    from distributed import get_worker

    from pipelines.execute.placement import NAME, Placement

    try:
        placement = get_worker().plugins.get(NAME)
    except ValueError:
        return 0
    return placement.number if isinstance(placement, Placement) else 0
