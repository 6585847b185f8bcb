"""Time and peak memory of the exact join as the items grow: 2 and 20 million vectors on disk.

    python benchmarks/scale.py --folder /data/vectors --out scale.json

Writes parts of a million 512-wide float16 vectors (20 GB for 20 million) where they are missing;
skips what does not fit on the disk. Every run is a process of its own, and reads its parts from
the disk: what the system had kept of them in memory is dropped before.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import write_result
from vectors import drawn, sets

DIM = 512
PART = 1_000_000
QUERIES = 10_000
TAU = 0.95
SPARE = 4 << 30
"""Bytes of the disk that are left alone."""


def main() -> None:
    """Write the parts, run, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--millions", type=int, nargs="*", default=(2, 20))
    parser.add_argument("--memory", type=float, default=1.0, help="gigabytes for the queries")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(searched(given.folder, given.child, given.memory)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for millions in given.millions:
        missing = [path for path in paths(given.folder, millions) if not path.exists()]
        free = shutil.disk_usage(given.folder).free
        if len(missing) * PART * DIM * 2 + SPARE > free:
            print(f"{millions} million vectors do not fit: {free / 1e9:.0f} GB are free")
            continue
        write(given.folder, millions)
        forget(given.folder, millions)
        words = [sys.executable, __file__, "--folder", str(given.folder), "--child", str(millions)]
        answer = subprocess.run(words, check=True, capture_output=True, text=True)
        runs.append(json.loads(answer.stdout.splitlines()[-1]))
        print(runs[-1], flush=True)
    result = {"queries": QUERIES, "dim": DIM, "tau": TAU, "runs": runs}
    write_result(given.out, result)


def paths(folder: Path, millions: int) -> list[Path]:
    """The files of that many million vectors."""
    return [folder / f"part_{number:03d}.npy" for number in range(millions)]


def write(folder: Path, millions: int) -> None:
    """Write parts that are missing: means of pairs of one million vectors, drawn anew for each."""
    queries, base = folder / "queries.npy", None
    for number, path in enumerate(paths(folder, millions)):
        if path.exists():
            continue
        if base is None:
            asked, base = sets("clip", QUERIES, PART, DIM)
            np.save(queries, asked)
        order = np.random.default_rng(number).permutation(PART)
        out = np.lib.format.open_memmap(path.with_suffix(".tmp.npy"), "w+", np.float16, (PART, DIM))
        for at in range(0, PART, 1 << 16):
            here = slice(at, at + (1 << 16))
            rows = torch.from_numpy(base[here]).float() if number == 0 else mixed(base, order, here)
            out[here] = rows.half().numpy()
        out.flush()
        path.with_suffix(".tmp.npy").rename(path)


def mixed(base: np.ndarray, order: np.ndarray, here: slice) -> torch.Tensor:
    """Unit vectors with the mean and spectrum of the base: two rows, about their mean."""
    first, second = (torch.from_numpy(rows).float() for rows in (base[here], base[order[here]]))
    mean = drawn("clip", 4096, DIM, 5).mean(dim=0)
    rows = mean + ((first - mean) + (second - mean)) * 0.5**0.5
    return rows / rows.norm(dim=1, keepdim=True)


def forget(folder: Path, millions: int) -> None:
    """Have the system drop the parts from its memory."""
    for path in paths(folder, millions):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def searched(folder: Path, millions: int, memory: float) -> dict[str, Any]:
    """One join in this process."""
    from indices.exact import join
    from indices.planning import plan_join
    from indices.stored import Stored

    torch.set_num_threads(2)
    queries = np.load(folder / "queries.npy")
    items = Stored([np.load(path, mmap_mode="r") for path in paths(folder, millions)])
    wall, cpu = time.perf_counter(), time.process_time()
    plan = plan_join(Stored([queries]), items, TAU)
    found = join(queries, items, TAU, plan=plan, memory=int(memory * 1e9))
    # not getrusage: its maximum is handed down by the process that started this one
    status = Path("/proc/self/status").read_text()
    return {
        "items": items.count,
        "gigabytes": round(items.count * DIM * 2 / 1e9, 1),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mib": int(status.partition("VmHWM:")[2].split()[0]) // 1024,
        "pairs": len(found.query),
        "plan": plan.reason,
    }


if __name__ == "__main__":
    main()
