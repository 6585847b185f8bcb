"""Running units on Dask: worker processes on this machine, or a cluster behind a scheduler.

Workers are spawned, never forked: a fork after faiss or torch has used threads hangs. A worker is
one core; what it computes does not depend on how many there are.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from curate.errors import CurateError
from curate.units import Outcome, RunUnits, run_in_process

_IN_FLIGHT_PER_WORKER = 4
_CONNECT_SECONDS = 20


@contextmanager
def unit_runner(workers: int = 1, scheduler: str | None = None) -> Iterator[RunUnits]:
    """Yield what runs units: in this process for one worker, on Dask for more or with a scheduler.

    The cluster starts with the first unit, so a run that reuses everything does not wait for it.

    Args:
        workers: processes on this machine.
        scheduler: address of a running Dask scheduler, such as `tcp://10.0.0.1:8786`.
    """
    if workers <= 1 and scheduler is None:
        yield run_in_process
        return
    runner = _DaskRunner(workers, scheduler)
    try:
        yield runner
    finally:
        runner.close()


def worker_number() -> int:
    """Which of a local cluster's workers this process is, from 0; 0 in a process that is none."""
    from distributed import get_worker

    try:
        name = get_worker().name
    except ValueError:
        return 0
    return name if isinstance(name, int) else 0


class _DaskRunner:
    """Feeds a bounded number of units to a cluster at a time, so that a million do not flood it."""

    def __init__(self, workers: int, scheduler: str | None) -> None:
        self._workers = workers
        self._scheduler = scheduler
        self._client: Any = None
        self._cluster: Any = None

    def __call__(self, function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        if not units:
            return
        from distributed import as_completed

        client = self._connect()
        cores = max(1, sum(client.nthreads().values()))
        waiting = iter(units)
        first = list(islice(waiting, _IN_FLIGHT_PER_WORKER * cores))
        owner = {client.submit(function, unit, pure=False): unit for unit in first}
        running = as_completed(list(owner), loop=client.loop)
        for future in running:
            unit = owner.pop(future)
            yield _outcome(future, unit)
            future.release()
            for following in islice(waiting, 1):
                submitted = client.submit(function, following, pure=False)
                owner[submitted] = following
                running.add(submitted)

    def _connect(self) -> Any:
        if self._client is None:
            from distributed import Client, LocalCluster

            if self._scheduler is None:
                self._cluster = LocalCluster(
                    n_workers=self._workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
            try:
                self._client = Client(
                    self._scheduler or self._cluster, timeout=_CONNECT_SECONDS, set_as_default=False
                )
            except (OSError, ValueError) as error:
                raise CurateError(
                    f"--scheduler {self._scheduler}: cannot be reached ({error})."
                ) from error
        return self._client

    def close(self) -> None:
        """Leave the cluster; stop it when it is ours."""
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _outcome(future: Any, unit: Any) -> Outcome:
    from distributed import KilledWorker

    try:
        return Outcome(unit, future.result())
    except CurateError as error:
        return Outcome(unit, error=str(error))
    except KilledWorker as error:
        return Outcome(unit, error=f"{unit!r:.200}: its worker died repeatedly ({error})")
