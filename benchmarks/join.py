r"""The exact join against full products and IVF, on the same vectors with the same answer.

    python benchmarks/join.py --kind clip --out clip.json
    python benchmarks/join.py --kind isotropic --out isotropic.json
    python benchmarks/join.py --kind real --train RUN/embeddings/train/builtin-layout \
        --test RUN/embeddings/test/builtin-layout --out real.json

All use two threads. A full product by torch keeps its block of scores in cache, looks for the rows
whose largest score is near the threshold, and scores what is left from the stored vectors, as the
join does. Pairs within 1e-6 of the threshold may differ, as faiss rounds scores to float32 once
more; they are counted.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np
import torch
from record import write_result
from vectors import Vectors, real, sets

from indices.exact import join
from indices.planning import plan_join
from indices.scores import pair_scores, unit_rows
from indices.stored import Stored

THREADS = 2
TAUS = (0.75, 0.9, 0.95)
RECALL = 0.999
BF16_MARGIN = 0.008
ITEM_BLOCK = 4096
QUERY_BLOCK = 1000


@dataclass(frozen=True)
class Run:
    """One search: what it took and how many pairs it found."""

    name: str
    tau: float
    seconds: float
    cpu_seconds: float
    pairs: int
    note: str = ""


def timed(search: Callable[[], tuple[int, str]], name: str, tau: float) -> Run:
    """Run a search once, after which it says its pairs and a note."""
    wall, cpu = time.perf_counter(), time.process_time()
    pairs, note = search()
    run = Run(
        name,
        tau,
        round(time.perf_counter() - wall, 2),
        round(time.process_time() - cpu, 2),
        pairs,
        note,
    )
    print(run, flush=True)
    return run


def ours(queries: Vectors, items: Vectors, tau: float) -> tuple[int, str]:
    """The join, its choice of a sketch included."""
    plan = plan_join(Stored([queries]), Stored([items]), tau)
    found = join(queries, [items], tau, cap=len(items), plan=plan)
    return len(found.query), plan.reason


def flat(index: faiss.IndexFlatIP, units: np.ndarray, tau: float) -> tuple[int, str]:
    """Brute force by faiss, in blocks of queries so that its results fit into memory."""
    count = 0
    for at in range(0, len(units), QUERY_BLOCK):
        radius = float(np.nextafter(np.float32(tau), np.float32(-1)))
        bounds, _, _ = index.range_search(units[at : at + QUERY_BLOCK], radius)
        count += int(bounds[-1])
    return count, ""


def product(queries: Vectors, items: Vectors, tau: float, kind: torch.dtype) -> tuple[int, str]:
    """The full product by torch, block by block."""
    asked = torch.from_numpy(unit_rows(queries)).to(kind)
    blocks = [block.t() for block in asked.split(QUERY_BLOCK)]
    margin = BF16_MARGIN if kind == torch.bfloat16 else 1e-5
    count = 0
    for at in range(0, len(items), ITEM_BLOCK):
        rows = torch.from_numpy(items[at : at + ITEM_BLOCK]).float()
        rows = (rows / rows.norm(dim=1, keepdim=True)).to(kind)
        for number, block in enumerate(blocks):
            scores = rows @ block
            near = torch.nonzero(scores.amax(dim=1) >= tau - margin)[:, 0]
            i, j = torch.nonzero(scores[near] >= tau - margin, as_tuple=True)
            if len(i):
                item, query = (near[i] + at).numpy(), (j + number * QUERY_BLOCK).numpy()
                exact = pair_scores(queries, items, query, item)
                count += int((exact >= np.float32(tau)).sum())
    return count, ""


def ivf(items: Vectors, units: np.ndarray, tau: float, truth: int) -> Run:
    """Train, add and search with the fewest lists (doubling) that find enough of the pairs."""
    lists = int(4 * len(items) ** 0.5)
    wall, cpu = time.perf_counter(), time.process_time()
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(units.shape[1]), units.shape[1], lists, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.spherical = True
    sample = np.sort(
        np.random.default_rng(0).choice(len(items), min(len(items), 64 * lists), replace=False)
    )
    index.train(unit_rows(items[sample]))
    for at in range(0, len(items), 1 << 16):
        index.add(unit_rows(items[at : at + (1 << 16)]))
    built, built_cpu = time.perf_counter() - wall, time.process_time() - cpu
    probes, found = 1, -1
    while found < RECALL * truth and probes <= lists:
        index.nprobe = probes
        wall, cpu = time.perf_counter(), time.process_time()
        found, _ = flat(index, units, tau)
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
        probes *= 2
    run = Run(
        "faiss IVF-Flat: train, add, search",
        tau,
        round(built + seconds, 2),
        round(built_cpu + cpu_seconds, 2),
        found,
        f"{lists} lists, {index.nprobe} visited; train and add {built:.1f} s",
    )
    print(run, flush=True)
    return run


def read_bandwidth() -> float:
    """Bytes a second of reading memory, by both threads: the best of five sums over 2 GiB."""
    block = torch.zeros(1 << 29)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        block.sum()
        best = max(best, block.nbytes / (time.perf_counter() - start))
    return best


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=("clip", "isotropic", "real"), required=True)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--tau", type=float, nargs="*", default=TAUS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--flat-tau", type=float, nargs="*", default=TAUS, help="thresholds for faiss Flat"
    )
    parser.add_argument("--no-ivf", action="store_true", help="leave IVF-Flat away")
    return parser.parse_args()


def main() -> None:
    """Make the vectors, run all searches, write the figures."""
    given = parsed()
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    if given.kind == "real":
        queries, items = real(given.train, given.test, given.queries, given.items)
    else:
        queries, items = sets(given.kind, given.queries, given.items, given.dim)
    bandwidth = read_bandwidth()
    runs = [timed(lambda tau=tau: ours(queries, items, tau), "join", tau) for tau in given.tau]
    for kind in (torch.bfloat16, torch.float32):
        name = f"torch {str(kind).removeprefix('torch.')}"
        tau = given.tau[-1]  # what a full product takes hardly depends on it
        runs.append(timed(lambda tau=tau, kind=kind: product(queries, items, tau, kind), name, tau))
    units = unit_rows(queries)
    if not given.no_ivf:
        truth = next(run.pairs for run in runs if run.tau == given.tau[-1])
        runs.append(ivf(items, units, given.tau[-1], truth))
    index = faiss.IndexFlatIP(items.shape[1])
    for at in range(0, len(items), 1 << 16):
        index.add(unit_rows(items[at : at + (1 << 16)]))
    runs += [
        timed(lambda tau=tau: flat(index, units, tau), "faiss IndexFlatIP.range_search", tau)
        for tau in given.flat_tau
    ]
    result = {
        "kind": given.kind,
        "shape": [len(queries), len(items), items.shape[1]],
        "read_bandwidth_gb_s": round(bandwidth / 1e9, 1),
        "seconds_to_read_items_once": round(items.nbytes / bandwidth, 3),
        "runs": [asdict(run) for run in runs],
    }
    write_result(given.out, result)


if __name__ == "__main__":
    main()
