"""What it costs to have units run by Dask, and what a second worker brings.

`units`: units that sleep for a millisecond, on two workers behind a scheduler of its own process.
`overhead_ms` is wall time beyond that of the sleeps, per unit, as the client sees it; memory is
the largest resident size of client and scheduler less that before. `all at once` submits one task
per unit, as `Client.map` does. Ten times the units show what grows with them.

`embedding`: the same shards by one worker and by two, each bound to a core; models are loaded
before. `independent` is what the machine allows: two processes that know nothing of each other
and embed half of the shards each, against one alone. Rounds alternate; the best of each counts,
as other programs can only slow a round down.

    python benchmarks/scheduling.py --data DATA/cifar10/train \
        --out benchmarks/results/scheduling.json
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from distributed import Client, as_completed
from record import write_result

from curate.config import EmbedConfig
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import cached_encoder
from pipelines.execute import ClusterConfig, Runner, open_runner
from pipelines.execute.placement import pin_to_core

ADDRESS = "tcp://127.0.0.1:18786"
UNIT_SECONDS = 0.001
WORKERS = 2
DETECTOR = "builtin:copy"


def main() -> None:
    """Measure both and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of shards to embed")
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=4, help="how many to embed, an even number")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    found = {"load_before": load, "units": measured_units(arguments.units)}
    write_result(arguments.out, found)
    shards = sorted(str(path) for path in arguments.data.iterdir())[: arguments.shards]
    found["embedding"] = measured_embedding(shards, arguments.rounds)
    write_result(arguments.out, found)


# --- units --------------------------------------------------------------------------------------


def nap(_: int) -> None:
    """Take a millisecond."""
    time.sleep(UNIT_SECONDS)


def measured_units(count: int) -> dict[str, Any]:
    """Overhead and memory of units sent by the runner, ten times as many, and all at once."""
    rows = {}
    for name, units, send in (
        ("runner", count, _by_runner),
        ("runner, ten times", 10 * count, _by_runner),
        ("all at once", count, _all_at_once),
    ):
        with _cluster() as scheduler:
            rows[name] = _row(units, scheduler, send)
        print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
    return {"workers": WORKERS, "unit_ms": 1e3 * UNIT_SECONDS, "ways": rows}


@contextmanager
def _cluster() -> Iterator[int]:
    """A scheduler and its workers as processes; gives the scheduler's process id."""
    module = [sys.executable, "-m"]
    port = ADDRESS.rpartition(":")[2]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    commands = [
        ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"],
        *[["distributed.cli.dask_worker", ADDRESS, "--nthreads", "1", "--no-dashboard"]] * WORKERS,
    ]
    started = [subprocess.Popen([*module, *words], **quiet) for words in commands]
    try:
        with Client(ADDRESS, timeout=30, set_as_default=False) as client:
            client.wait_for_workers(WORKERS, timeout=60)
        yield started[0].pid
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait()


def _by_runner(units: int) -> float:
    with open_runner(ClusterConfig(kind="tcp", address=ADDRESS)) as runner:
        list(runner(nap, range(50)))
        start = time.perf_counter()
        done = sum(1 for _ in runner(nap, range(units)))
        assert done == units
        return time.perf_counter() - start


def _all_at_once(units: int) -> float:
    with Client(ADDRESS, set_as_default=False) as client:
        client.gather(client.map(nap, range(50), pure=False))
        start = time.perf_counter()
        futures = client.map(nap, range(units), pure=False)
        done = sum(1 for _ in as_completed(futures, loop=client.loop))
        assert done == units
        return time.perf_counter() - start


def _row(units: int, scheduler: int, send: Callable[[int], float]) -> dict[str, float]:
    with _Memory({"client": psutil.Process(), "scheduler": psutil.Process(scheduler)}) as memory:
        seconds = send(units)
    least = units * UNIT_SECONDS / WORKERS
    return {
        "units": units,
        "seconds": seconds,
        "overhead_ms": 1e3 * (seconds - least) / units,
        **{f"{name}_grew_mib": grown / 2**20 for name, grown in memory.grown().items()},
    }


@dataclass
class _Memory:
    """The largest resident sizes of processes while it is open."""

    processes: dict[str, psutil.Process]
    before: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.before = self._sizes()
        self.most = dict(self.before)
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _sizes(self) -> dict[str, int]:
        return {name: one.memory_info().rss for name, one in self.processes.items()}

    def _watch(self) -> None:
        while not self.ended.wait(0.05):
            sizes = self._sizes()
            self.most = {name: max(size, sizes[name]) for name, size in self.most.items()}

    def grown(self) -> dict[str, int]:
        return {name: most - self.before[name] for name, most in self.most.items()}


# --- embedding ----------------------------------------------------------------------------------


def measured_embedding(shards: list[str], rounds: int) -> dict[str, Any]:
    """Best seconds for all shards by one pinned worker, by two, and by two lone processes."""
    half = len(shards) // 2
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, value in (
            ("one worker", _by_workers(1, shards)),
            ("two workers", _by_workers(2, shards)),
            ("half alone", max(_alone([shards[:half]]))),
            ("halves side by side", max(_alone([shards[:half], shards[half:]]))),
        ):
            seconds.setdefault(name, []).append(value)
            print(name, round(value, 2), flush=True)
    best = {name: min(values) for name, values in seconds.items()}
    found = {
        "shards": len(shards),
        "seconds": seconds,
        "two_workers_over_one": best["one worker"] / best["two workers"],
        "independent_over_one": 2 * best["half alone"] / best["halves side by side"],
    }
    print({name: value for name, value in found.items() if name != "seconds"}, flush=True)
    return found


def _by_workers(workers: int, shards: list[str]) -> float:
    """Seconds for shards by workers that have started and loaded the model, as the client has."""
    _load(0)
    with open_runner(ClusterConfig(kind="local", workers=workers, pin=True)) as runner:
        list(runner(_load, range(20)))
        return _embedded(shards, runner)


def _alone(parts: list[list[str]]) -> list[float]:
    """Seconds of each of some processes that begin together, each bound to a core of its own."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(len(parts)), context.SimpleQueue()
    processes = [
        context.Process(target=_lone, args=(number, part, barrier, queue))
        for number, part in enumerate(parts)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [queue.get() for _ in parts]


def _lone(number: int, shards: list[str], barrier: Barrier, queue: Any) -> None:
    pin_to_core(number)
    with open_runner(ClusterConfig()) as runner:
        _load(0)
        barrier.wait()
        queue.put(_embedded(shards, runner))


def _load(_: int) -> None:
    """Load the model into this process; takes long enough for every worker to get such a unit."""
    encoder = cached_encoder(_settings().encoder)
    encoder.encode(np.zeros((1, *encoder.input_shape), encoder.input_dtype))
    time.sleep(0.1)


def _embedded(shards: list[str], runner: Runner) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        embed(open_dataset(shards, "train"), _settings(), Path(folder) / "out", run_units=runner)
        return time.perf_counter() - start


def _settings() -> EmbedSettings:
    return EmbedConfig(detector=DETECTOR).embed_settings(("identity",))


if __name__ == "__main__":
    main()
