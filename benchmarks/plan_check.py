"""Plans against real runs: flows of several sizes, on one and two workers.

The shipped rates come from other runs (`benchmarks/rates.py`). A second plan of each takes the rates
of the smallest flow of its family, on one worker. Runs whose machine had other work are told by the
load and by the processor seconds; each is the least of some repeats.

    OMP_NUM_THREADS=1 python benchmarks/plan_check.py --data cifar10 --folder checks --out plan.json
"""  # noqa: E501 - a command

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from record import write_result

from curate.files import read_json, write_json
from pipelines.flow.config import FlowConfig
from pipelines.planning.machines import machines_of
from pipelines.planning.measured import measured_rates
from pipelines.planning.plan import Plan, make_plan
from pipelines.planning.rates import shipped_rates

SHARD = 500
LAYOUT: dict[str, Any] = {
    "detector": "builtin:layout", "verify": "none", "threshold": [0.82, 0.9],
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "layout": LAYOUT,
    "copy": {"detector": "builtin:copy", "threshold": [0.5, 0.9]},
    "study": LAYOUT,
}
"""How each cleans its test set; a study also trains and measures models."""
SIZES = {
    "layout": ((1000, 4000), (3000, 12_000)),
    "copy": ((500, 2000), (1500, 6000)),
    "study": ((300, 2000), (1000, 6000)),
}
"""Test and train images; the first of each family gives the rates of the second plan."""


def main() -> None:
    """Run all flows that have no result yet, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="with test/ and train/")
    parser.add_argument("--folder", type=Path, required=True, help="for sets and runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="plan again what OUT has seen")
    arguments = parser.parse_args()
    rows = read_json(arguments.out)["runs"] if arguments.out.is_file() else []
    if arguments.again:
        write_result(arguments.out, {"runs": [with_plans(arguments, row) for row in rows]})
        return
    for family in arguments.families.split(","):
        for size in SIZES[family]:
            for workers in (1, 2):
                row = with_plans(arguments, seen(arguments, family, size, workers))
                rows = [one for one in rows if _key(one) != _key(row)] + [row]
                print(row, flush=True)
                write_result(arguments.out, {"runs": rows})


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["family"], row["test"], row["workers"]


def seen(
    arguments: argparse.Namespace, family: str, size: tuple[int, int], workers: int
) -> dict[str, Any]:
    """What the fastest of some runs took."""
    sets = make_sets(arguments.data, arguments.folder / "sets", size)
    taken = []
    for number in range(arguments.repeats):
        run = arguments.folder / f"{family}-{size[0]}-{workers}-{number}"
        shutil.rmtree(run, ignore_errors=True)
        taken.append(timed(flow_of(family, sets, size, run, workers)))
    seconds, cpu, load = min(taken)
    return {
        "family": family, "test": size[0], "train": size[1], "workers": workers,
        "seen_seconds": seconds, "cpu_seconds": cpu, "load_before": load,
    }  # fmt: skip


def with_plans(arguments: argparse.Namespace, row: dict[str, Any]) -> dict[str, Any]:
    """What was seen, and what plans say of it: by the shipped rates, and by a small run's."""
    family, size, workers = row["family"], (row["test"], row["train"]), row["workers"]
    sets = make_sets(arguments.data, arguments.folder / "sets", size)
    config = flow_of(family, sets, size, arguments.folder / "none", workers)
    rates = shipped_rates()
    machines = machines_of(config.cluster, rates)
    shipped = make_plan(config, rates, machines)
    row = row | {
        "planned_seconds": shipped.schedule.makespan,
        "ratio": shipped.schedule.makespan / row["seen_seconds"],
        "planned_cpu_seconds": processor_seconds(shipped),
        "cpu_ratio": processor_seconds(shipped) / row["cpu_seconds"],
    }
    small = arguments.folder / f"{family}-{SIZES[family][0][0]}-1-0"
    if (size, workers) != (SIZES[family][0], 1) and small.is_dir():
        measured = make_plan(config, measured_rates(small, rates), machines)
        row["planned_by_small_run_seconds"] = measured.schedule.makespan
        row["ratio_by_small_run"] = measured.schedule.makespan / row["seen_seconds"]
        row["cpu_ratio_by_small_run"] = processor_seconds(measured) / row["cpu_seconds"]
    return row


def flow_of(family: str, sets: Path, size: tuple[int, int], run: Path, workers: int) -> FlowConfig:
    cluster = {"kind": "process"} if workers == 1 else {
        "kind": "local", "workers": workers, "pin": True,
    }  # fmt: skip
    return FlowConfig.model_validate({
        "name": "check",
        "out": str(run),
        "device": "cpu",
        "cluster": cluster,
        "sets": {name: {"shards": str(sets / name)} for name in ("test", "train")},
        "dedup": {"copies": {"test": "test", "train": "train", **FAMILIES[family]}},
        **(models(*size) if family == "study" else {}),
    })  # fmt: skip


def models(test: int, train: int) -> dict[str, Any]:
    """A training from scratch, one against attacks, and what the quick suite says of models."""
    measured = {
        "data": {"cifar10": "test"}, "splits": {"cifar10": "copies"}, "limit": test // 10,
    }  # fmt: skip
    settings = {"epochs": None, "updates": train // 100, "held_out": train // 20}
    return {
        "train": {
            "new": {"data": "train", "scratch": {"epochs": 2}},
            "tecoa": {"data": "train", "recipe": "tiny", "set": settings},
        },
        "eval": {
            "main": {**measured, "models": ["builtin:tiny-clip", "tecoa"], "suite": "quick",
                     "surrogate": "tecoa"},
            "new": {**measured, "models": "new", "settings": ["cifar10", "cifar10.fog.3"]},
        },
    }  # fmt: skip


def timed(flow: FlowConfig) -> tuple[float, float, float]:
    """Seconds of the whole command, processor seconds of all its processes, load before."""
    path = Path(f"{flow.out}.yaml")  # JSON is YAML
    write_json(path, flow.model_dump(mode="json", exclude_unset=True))
    load, before, start = os.getloadavg()[0], os.times(), time.monotonic()
    subprocess.run([sys.executable, "-m", "pipelines", "run", str(path)], check=True)
    seconds, after = time.monotonic() - start, os.times()
    return seconds, sum(after[2:4]) - sum(before[2:4]), load


def processor_seconds(plan: Plan) -> float:
    """What all processes of a plan compute."""
    spans = plan.schedule.spans.values()
    starts = plan.machines.start * plan.machines.workers
    return starts + sum(span.driver + span.busy - span.storage for span in spans)


def make_sets(data: Path, folder: Path, size: tuple[int, int]) -> Path:
    """The first images of a set with pictures, in plain tars of 500."""
    out = folder / f"{size[0]}-{size[1]}"
    for name, count in zip(("test", "train"), size, strict=True):
        if not (out / name).is_dir():
            _write(sorted((data / name).glob("*.tar.gz")), out / name, count)
    return out


def _write(sources: list[Path], out: Path, count: int) -> None:
    out.mkdir(parents=True)
    number, target, keys = 0, None, set()
    for source in sources:
        with tarfile.open(source) as archive:
            for member in archive:
                key = member.name.partition(".")[0]
                if key not in keys and len(keys) == count:
                    break
                if key not in keys and len(keys) % SHARD == 0:
                    if target is not None:
                        target.close()
                    target = tarfile.open(out / f"{number:05}.tar", "w")  # noqa: SIM115
                    number += 1
                keys.add(key)
                assert target is not None
                target.addfile(member, archive.extractfile(member))
        if len(keys) == count:
            break
    if target is not None:
        target.close()


if __name__ == "__main__":
    main()
