"""What it costs to make corrupted sets, against the library called for one image after the other.

`library` is handed decoded crops and its results are thrown away; `apply` cuts and seeds as well.
`plain` is the usual script: read, decode, cut, corrupt and save one PNG after the other; `made` is
the same way here, into shards, with a table and digests, each on the disk before it counts.
Pictures of 32 pixels have CIFAR-10-C's own constants here, which the library does not know. Several
workers share the shards of one corruption. Wall time; numba has compiled before.

    python benchmarks/corruptions.py --images DATA/photos --small DATA/cifar10/test \
        --out benchmarks/results/corruptions.json
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import imagecorruptions
import numpy as np
from PIL import Image
from record import write_result

from curate.units import Outcome, RunUnits, run_in_process
from eval.datasets.evalset import EvalSet
from eval.datasets.registry import open_evalset
from eval.shifts import stored
from eval.shifts.corruptions import CORRUPTIONS, Corruption, crop, recipe_for

SEVERITY = 3


def main() -> None:
    """Measure every corruption and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="photographs")
    parser.add_argument("--small", type=Path, required=True, help="CIFAR-10's test shards")
    parser.add_argument("--count", type=int, default=16, help="photographs; small ones: ten times")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sets = {
        "photographs": _first(open_evalset("photos", arguments.images), arguments.count),
        "cifar10": _first(open_evalset("cifar10", arguments.small), 10 * arguments.count),
    }
    stored.PER_SHARD = max(arguments.count // arguments.workers, 1)
    found = {name: measured(of, arguments.workers) for name, of in sets.items()}
    write_result(arguments.out, {"workers": arguments.workers, "sets": found})


def _first(of: EvalSet, count: int) -> EvalSet:
    return replace(of, items=of.items[:count])


def measured(of: EvalSet, workers: int) -> dict[str, Any]:
    """Milliseconds for an image of each corruption."""
    ids = of.items["id"].to_list()
    recipe = recipe_for(of.image(ids[0]))
    images = [of.image(id_) for id_ in ids]
    arrays = [np.asarray(crop(one) if recipe == "imagenet-c" else one) for one in images]
    run_units = partial(_parallel, workers) if workers > 1 else run_in_process
    rows = {}
    for name in CORRUPTIONS:
        corruption = Corruption(name, SEVERITY, recipe)
        corruption.apply(images[0], ids[0])
        imagecorruptions.corrupt(arrays[0], SEVERITY, name)
        theirs = _seconds(partial(_library, arrays, name)) / len(ids)
        ours = _seconds(partial(_apply, corruption, images, ids)) / len(ids)
        whole = _seconds(partial(_make, of, corruption, run_units)) / len(ids)
        plain = _seconds(partial(_plain, of, recipe, name)) / len(ids)
        seconds = {"library": theirs, "apply": ours, "plain": plain, "made": whole}
        rows[name] = {way: 1e3 * value for way, value in seconds.items()}
        print(name, {key: round(value, 2) for key, value in rows[name].items()}, flush=True)
    total = {key: sum(row[key] for row in rows.values()) for key in rows["fog"]}
    print(recipe, {key: round(value, 1) for key, value in total.items()}, flush=True)
    return {"recipe": recipe, "images": len(ids), "milliseconds": rows, "all": total}


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _library(arrays: Sequence[Any], name: str) -> None:
    for array in arrays:
        imagecorruptions.corrupt(array, SEVERITY, name)


def _plain(of: EvalSet, recipe: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for place, id_ in enumerate(of.items["id"]):
            image = of.image(id_)
            cut = crop(image) if recipe == "imagenet-c" else image
            changed = imagecorruptions.corrupt(np.asarray(cut), SEVERITY, name)
            Image.fromarray(changed).save(Path(folder) / f"{place}.png")


def _apply(corruption: Corruption, images: Sequence[Any], ids: Sequence[str]) -> None:
    for image, id_ in zip(images, ids, strict=True):
        corruption.apply(image, id_)


def _make(of: EvalSet, corruption: Corruption, run_units: RunUnits) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stored.write_shifted(of, corruption, Path(folder) / "set", run_units=run_units)


def _parallel(
    workers: int, function: Callable[[Any], Any], units: Sequence[Any]
) -> Iterator[Outcome]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for unit, result in zip(units, pool.map(function, units), strict=True):
            yield Outcome(unit, result)


if __name__ == "__main__":
    main()
