"""Answer times and memory of `curate review` on a run with 1,000,000 pairs.

Writes shards of small generated PNGs (20 tars of 10,000, each under five names), makes up a run
folder with pairs of their images, and asks a server in a process of its own, as a browser would.
The shards are in the page cache; how fast a disk is, is not measured.

    python benchmarks/review.py --folder review --out benchmarks/results/review-1m.json
"""

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from million import NAMES, SAMPLES, SHARDS, write_shards
from record import write_result

from curate import artifacts, tables
from curate.artifacts import Manifest
from curate.files import write_json

PAIRS = 1_000_000
TESTS = 100_000
ASKED = 300
LABELLED = 5000
FLOOR, TAU = 0.72, 0.82


def main() -> None:
    """Make the run where it is missing, ask, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    run = arguments.folder / "run"
    if not (run / "run.json").exists():
        make_run(arguments.folder, run)
    words = [sys.executable, "-m", "pipelines", "review", str(run), "--reviewer", "bench"]
    start = time.perf_counter()
    with subprocess.Popen(
        [*words, "--no-open", "--json"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["url"]
        started = time.perf_counter() - start
        try:
            times = ask(Client(address), arguments.folder)
            status = Path(f"/proc/{server.pid}/status").read_text()
        finally:
            server.terminate()
    result = {
        "pairs": PAIRS,
        "labels": LABELLED + ASKED,
        "start_s": round(started, 2),
        "rss_mib": kibibytes(status, "VmRSS") // 1024,
        "peak_rss_mib": kibibytes(status, "VmHWM") // 1024,
        "milliseconds": times,
    }
    write_result(arguments.out, result)
    print(json.dumps(result, indent=2))


def read_shards(folder: Path) -> None:
    """Read every shard once, so that it is in memory: what is timed is no disk."""
    for path in sorted(folder.glob("t*/*.tar")):
        with path.open("rb") as stream:
            while stream.read(1 << 20):
                pass


def kibibytes(status: str, name: str) -> int:
    return int(status.partition(f"{name}:")[2].split()[0])


def make_run(folder: Path, run: Path) -> None:
    """Shards, and the artifacts that a run of `curate dedup` would leave, with made-up pairs."""
    write_shards(folder / "train", range(SHARDS), SAMPLES)
    write_shards(folder / "test", range(1000, 1000 + TESTS // SAMPLES), SAMPLES)
    for number in range(SHARDS, SHARDS * NAMES):
        name = folder / "train" / f"{number:05d}.tar"
        if not name.exists():
            os.link(folder / "train" / f"{number % SHARDS:05d}.tar", name)
    encoder = {"name": "builtin:layout", "dim": 4}
    for side in ("test", "train"):
        counts = {"dataset": side, "vectors_per_part": [], "vectors": 0, "damaged_shards": {}}
        source = {"specs": [str(folder / side)], "name": side}
        manifest = Manifest("embeddings", {"encoder": encoder}, [], counts=counts)
        commit(run / side, manifest, {"facts/source.json": source})
    matches = Manifest("matches", {"floor": FLOOR, "encoder": encoder}, [])
    commit(run / "matches", matches, {"pairs.parquet": made_up_pairs()})
    split = Manifest("split", {"encoder": encoder}, [])
    commit(run / "split", split, {"split.json": {"threshold": TAU}})
    places = ("matches", "test", "train", "split")
    write_json(run / "run.json", {name: name for name in places})


def commit(out: Path, manifest: Manifest, contents: dict[str, Any]) -> None:
    """An artifact with these JSON files and tables."""
    work = artifacts.work_folder(out, manifest.key)
    for name, value in contents.items():
        if isinstance(value, pl.DataFrame):
            tables.write_table(work / name, value, tables.PAIRS)
        else:
            write_json(work / name, value)
    artifacts.commit(work, out, manifest)


def made_up_pairs() -> pl.DataFrame:
    """Test images with ten train images each, at scores that grow rarer towards 1."""
    draw = np.random.default_rng(0)
    tests = np.repeat(np.arange(TESTS), PAIRS // TESTS)
    trains = draw.permutation(PAIRS)
    score = FLOOR + (1 - FLOOR) * draw.beta(1, 4, PAIRS)
    order = np.lexsort((-score, tests))
    frame = pl.DataFrame({"test": tests, "train": trains, "score": score[order]})
    shard = {"test": 1000, "train": 0}
    ids = [
        pl.format(
            "{}:{}",
            (pl.col(side) // SAMPLES + first).cast(pl.String).str.zfill(5),
            (pl.col(side) % SAMPLES).cast(pl.String).str.zfill(6),
        ).alias(f"{side}_id")
        for side, first in shard.items()
    ]
    texts = {side: draw.bytes(32 * PAIRS).hex() for side in shard}
    hashed = [
        pl.Series(f"{side}_sha256", [text[at : at + 64] for at in range(0, len(text), 64)])
        for side, text in texts.items()
    ]
    return frame.with_columns(
        *ids, *hashed, view=pl.lit("identity"), rank=pl.int_range(1, pl.len() + 1).over("test"),
        **{name: pl.lit(None, kind) for name, kind in tables.PAIRS.items() if name in
           ("same", "cosine", "rejected")},
    )  # fmt: skip


class Client:
    """One browser: a connection that stays open, and the cookie that the address gives."""

    def __init__(self, address: str) -> None:
        found = re.fullmatch(r"http://([\d.]+):(\d+)(/.*)", address)
        assert found
        self._connection = http.client.HTTPConnection(found[1], int(found[2]))
        self._connection.request("GET", found[3])
        answer = self._connection.getresponse()
        answer.read()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        self._headers = {"Cookie": cookie, "Content-Type": "application/json"}

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[bytes, float]:
        """The answer and the milliseconds that it took."""
        start = time.perf_counter()
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        self._connection.request(method, path, data, self._headers)
        answer = self._connection.getresponse()
        found = answer.read()
        assert answer.status == http.HTTPStatus.OK, found
        return found, (time.perf_counter() - start) * 1000


def ask(client: Client, folder: Path) -> dict[str, dict[str, float]]:
    """Each kind of request many times; p50, p99 and the longest."""
    draw = np.random.default_rng(1)
    pairs = [int(row) for row in draw.choice(PAIRS, LABELLED + ASKED, replace=False)]
    for row in pairs[:LABELLED]:
        client.ask("/api/labels", {"pair": row, "label": "same"})
    read_shards(folder)
    asked, word = pairs[LABELLED:], {"label": "near", "band": "all", "from": 0}
    requests: dict[str, list[tuple[str, dict[str, Any] | None]]] = {
        "image, first look into its shard": image_requests(asked),
        "image, shard known": image_requests([row + 1 for row in asked if row + 1 < PAIRS]),
        "image again": image_requests(asked),
        "pair": [(f"/api/pair/{row}", None) for row in asked],
        "page": [("/", None)] * ASKED,
        "script": [("/review.js", None)] * ASKED,
        "state": [("/api/state", None)] * ASKED,
        "pairs": [(f"/api/pairs?band=all&offset={row}&limit=50", None) for row in asked],
        "next": [(f"/api/next?band=all&from={row}", None) for row in asked],
        "label": [("/api/labels", {"pair": row, **word}) for row in asked],
    }
    return {name: summary([client.ask(*r)[1] for r in rows]) for name, rows in requests.items()}


def image_requests(rows: list[int]) -> list[tuple[str, dict[str, Any] | None]]:
    return [(f"/image/{row}/train", None) for row in rows]


def summary(times: list[float]) -> dict[str, float]:
    return {
        "p50": round(float(np.percentile(times, 50)), 1),
        "p99": round(float(np.percentile(times, 99)), 1),
        "max": round(max(times), 1),
    }


if __name__ == "__main__":
    main()
