"""The link to a scheduler: made with the first unit, watched, made again, given up in time."""

import asyncio
import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from curate.errors import CurateError, PartialRunError
from pipelines.execute.clusters import adapt, restore, start_cluster
from pipelines.execute.config import QUEUES, ClusterConfig
from pipelines.execute.stopping import Stopping, kill_process

_CONNECT_SECONDS = 20
_PROBE_SECONDS = 3
_ANSWER_SECONDS = 10
_RECONNECT_PAUSE_SECONDS = 0.5
_CLOSE_SECONDS = 10
_log = logging.getLogger("curate.execute")


@dataclass(frozen=True)
class WorkerInfo:
    """What the scheduler knows of one worker."""

    address: str
    host: str
    threads: int
    resources: dict[str, float]

    def offers(self, needs: Mapping[str, float]) -> bool:
        """True if a unit with these needs can run there."""
        return all(self.resources.get(name, 0) >= amount for name, amount in needs.items())


class Patience:
    """Waits for what is missing, but not for ever."""

    def __init__(self, whose: str, seconds: float) -> None:
        self._whose = whose
        self._seconds = seconds
        self._since: float | None = None

    def reset(self) -> None:
        """It is there."""
        self._since = None

    def wait(self, why: str) -> None:
        """It is missing, now as before.

        Raises:
            PartialRunError: for too long.
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > self._seconds:
            raise PartialRunError(
                f"{self._whose}: {why} for {self._seconds:g} seconds; what is done is kept, and "
                "the same command goes on from there."
            )


class Link:
    """A client of a cluster, shared by all stages that run at a time.

    Attributes:
        isolation: held by whoever runs a unit that is suspected of killing workers, so that no two
            such units are blamed for each other.
        taken: how many runs of torchrun each worker has, by its address.
        choosing: held while workers are chosen by it.
        grows: workers may come later, by a queue or with the work.
    """

    def __init__(self, config: ClusterConfig, stop: Stopping) -> None:
        self.config = config
        self.isolation = threading.Lock()
        self.taken: Counter[str] = Counter()
        self.choosing = threading.Lock()
        self.grows = config.kind in (*QUEUES, "kubernetes") or config.adaptive is not None
        self._wanted = 0
        self._stop = stop
        self._lock = threading.RLock()
        self._client: Any = None
        self._cluster: Any = None
        self._workers: tuple[WorkerInfo, ...] = ()
        self._last_came: float | None = None
        self._came = False
        self._probed = 0.0
        self._patience = self.patience()
        self._met: set[frozenset[tuple[str, float]]] = set()
        self._said_waiting = False

    def patience(self) -> Patience:
        """How long a loss is borne."""
        return Patience(self.config.address or "the cluster", self.config.loss_timeout)

    @property
    def client(self) -> Any:
        """The client; the cluster starts when it is asked for first.

        Raises:
            CurateError: the cluster cannot be started, or its scheduler not be reached.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
                _log.info("curate: dashboard at %s", self._client.dashboard_link)
            return self._client

    def _connect(self) -> Any:
        from distributed import Client

        # Dask talks through handlers of its own; some library may have given the root logger one.
        logging.getLogger("distributed").propagate = False
        if self.config.address is None and self._cluster is None:
            self._cluster = start_cluster(self.config)
            self._stop.on_kill(self._kill_workers)
            self._want(0)
        target = self.config.address or self._cluster
        try:
            return Client(
                target, timeout=_CONNECT_SECONDS, set_as_default=False, security=self._security()
            )
        except TypeError as error:  # what Dask raises for a tls:// address without certificates
            why = (
                "give cluster.tls (ca, cert, key), or set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
                f"..__TLS__CLIENT__CERT and ..__TLS__CLIENT__KEY ({error})"
            )
        except (OSError, ValueError, RuntimeError) as error:
            why = f"cannot be reached ({error})"
        # A client that failed, if collected while another is made, waits for a lock for ever.
        gc.collect()
        raise CurateError(f"--scheduler {self.config.address}: {why}.")

    def _security(self) -> Any:
        if self.config.tls is None:
            return None
        from distributed import Security

        tls = self.config.tls
        for path in (tls.ca, tls.cert, tls.key):
            if not path.is_file():
                raise CurateError(f"cluster.tls: {path} is no file.")
        return Security(
            tls_ca_file=str(tls.ca),
            tls_client_cert=str(tls.cert),
            tls_client_key=str(tls.key),
            require_encryption=True,
        )

    # --- what is known of workers -----------------------------------------------------------------

    def workers(self, needs: Mapping[str, float], patience: Patience) -> tuple[WorkerInfo, ...]:
        """Those that can run units with these needs, as known some seconds ago at most.

        Args:
            needs: resources of a unit.
            patience: of the stage, with there being no worker for it.

        Raises:
            CurateError: there are workers, but none offers what is needed, nor did any before.
            PartialRunError: the scheduler is lost, or all such workers are, for too long.
        """
        with self._lock:
            stale = time.monotonic() - self._probed >= _PROBE_SECONDS
            if stale or self._client is None or self._client.status != "running":
                self._probe()
            fit = tuple(worker for worker in self._workers if worker.offers(needs))
            met = frozenset(needs.items())
            if fit:
                self._met.add(met)
                self._said_waiting = False
                patience.reset()
            elif self._came:
                patience.reset()
            elif met in self._met and not self.grows:
                patience.wait("no worker that can run this stage is left")
            elif self.grows:
                self._wait_for_more()
            elif self._workers:
                best = {
                    name: max(worker.resources.get(name, 0) for worker in self._workers)
                    for name in needs
                }
                raise CurateError(unsatisfied(needs, best, self.config))
            else:
                patience.wait("there is no worker")
            return fit

    @contextmanager
    def wanting(self, count: int) -> Iterator[None]:
        """While this is open, a cluster that adapts has so many workers more, if it may."""
        self._want(count)
        try:
            yield
        finally:
            self._want(-count)

    def _want(self, more: int) -> None:
        with self._lock:
            self._wanted += more
            if self._cluster is not None:
                adapt(self._cluster, self.config, self._wanted)

    def has_room(self, workers: Collection[WorkerInfo], count: int) -> bool:
        """Whether so many of some workers have no training, or no more workers will come."""
        free = sum(not self.taken[worker.address] for worker in workers)
        adaptive = self.config.adaptive
        return free >= count or adaptive is None or len(workers) >= adaptive.maximum

    def _wait_for_more(self) -> None:
        """Jobs may wait in a queue for days: that is said once, and is no loss."""
        if not self._said_waiting:
            self._said_waiting = True
            _log.warning("curate: waiting for a worker of %s.", self.config.kind)

    def _probe(self) -> None:
        """Ask the scheduler for its workers; connect again where the link was lost."""
        try:
            if self._client is not None and self._client.status == "connecting":
                raise ConnectionError("it is connecting again")
            if self._client is not None and self._client.status == "closed":
                self._client = None
            client = self.client
            found = client.sync(
                client.scheduler.identity, n_workers=-1, callback_timeout=_ANSWER_SECONDS
            )
            # one that dies at once, of the unit that it is given, is seldom there when we look
            came = not found["workers"] and self._has_one_come(client)
        except (OSError, CurateError, asyncio.CancelledError):
            if not self._probed:
                raise
            self._workers, self._came = (), False
            self._patience.wait("the scheduler does not answer")
            time.sleep(_RECONNECT_PAUSE_SECONDS)
            return
        self._patience.reset()
        self._probed = time.monotonic()
        self._came = came
        if self._cluster is not None and not self._stop.at_once:
            restore(self._cluster, self.config)
        self._workers = tuple(
            WorkerInfo(address, worker["host"], worker["nthreads"], worker["resources"])
            for address, worker in found["workers"].items()
        )

    def _has_one_come(self, client: Any) -> bool:
        """Whether a worker has come, and perhaps gone, since this was asked last."""
        events = client.sync(client.scheduler.events, topic="all", callback_timeout=_ANSWER_SECONDS)
        came = [when for when, event in events if event.get("action") == "add-worker"]
        before, self._last_came = self._last_came, came[-1] if came else 0.0
        return before is not None and before != self._last_came

    # --- acts on workers --------------------------------------------------------------------------

    def restart(self, address: str) -> None:
        """Restart the process of a worker in which a unit hangs; one without a nanny stays."""
        try:
            self.client.restart_workers([address], timeout=_ANSWER_SECONDS, raise_for_error=False)
        except (OSError, ValueError, RuntimeError) as error:
            _log.warning("curate: %s: a unit hangs there, restart it (%s).", address, error)

    def executing(self) -> set[str] | None:
        """Keys of the tasks that run now; None when workers do not tell in time."""
        client = self.client
        try:
            found = client.sync(
                client._run,  # noqa: SLF001  # its public twin cannot be given a time limit
                _executing_keys, on_error="ignore", callback_timeout=_ANSWER_SECONDS,
            )  # fmt: skip
        except OSError:
            return None
        return {key for keys in found.values() for key in keys}

    def _kill_workers(self) -> None:
        from distributed import Nanny

        for nanny in getattr(self._cluster, "workers", {}).values():
            if isinstance(nanny, Nanny):  # a queue's jobs are ended by its own command, on closing
                nanny.close_gracefully()  # or it starts another worker for the one that is killed
                kill_process(nanny.pid)

    def close(self) -> None:
        """Leave the cluster; stop it when it is ours. Nothing here waits for long."""
        timeout = 1 if self._stop.at_once else _CLOSE_SECONDS
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(OSError, asyncio.CancelledError):
                    part.close(timeout=timeout)
        self._client = self._cluster = None


def _executing_keys(dask_worker: Any) -> list[str]:
    return [task.key for task in dask_worker.state.executing]


def unsatisfied(
    needs: Mapping[str, float], best: Mapping[str, float], config: ClusterConfig
) -> str:
    """Which needs no worker meets, and what to do."""
    lacking = ", ".join(
        f"{name} {amount:g} (offered: {best.get(name, 0):g})"
        for name, amount in sorted(needs.items())
        if best.get(name, 0) < amount
    )
    if config.kind == "tcp":
        remedy = "start workers with `dask worker --resources NAME=AMOUNT`"
    else:
        remedy = "say what each worker offers with cluster.resources"
    return f"cluster: no worker offers what the stage needs: {lacking}; {remedy}."
