"""What a prefix store saves when the same vectors are joined with again.

Writes made-up vectors like CLIP's (float16, mean cosine about one half, power-law spectrum) in
parts of 100,000, joins 1,000 queries with them, builds the store, joins by it, and compares pairs,
bytes read, seconds, and the ratio with the predicted one. Every reading begins with cold files.

    python benchmarks/prefix.py --dir /tmp/prefix
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import write_result

from indices import prefix
from indices.exact import join
from indices.pairs import Pairs
from indices.planning import plan_codes, plan_join, rescan
from indices.prefix import CodedItems
from indices.stored import Stored

DIM = 512
PART = 100_000
QUERIES = 1000
COPIES = 100
RESULT = Path(__file__).parent / "results" / "prefix.json"


def main() -> None:
    """Measure in a folder of its own, which is removed, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where the vectors go; default: the system's")
    parser.add_argument("--vectors", type=int, default=2_000_000)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if arguments.dir:
        arguments.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        result = run(Path(folder), arguments.vectors, arguments.threshold, arguments.repeats)
    write_result(arguments.out, result)
    print(json.dumps(result, indent=2))


def run(folder: Path, count: int, floor: float, repeats: int) -> dict[str, Any]:
    """All figures; the least seconds of some repetitions."""
    files, queries = write_vectors(folder, count)
    parts = [np.load(path, mmap_mode="r") for path in files]
    stored, asked = Stored(parts), Stored([queries])
    speed = read_speed(files)
    plan, planned = timed(lambda: plan_join(asked, stored, floor), files)
    joins = [timed(lambda: join(queries, stored, floor, plan=plan), files) for _ in range(repeats)]
    chosen, choosing = timed(lambda: plan_codes(stored, floor), files)
    codes = [folder / f"{path.stem}.codes.npy" for path in files]
    _, building = timed(lambda: build(parts, codes, chosen.sketcher), files)
    everything = [*files, *codes]
    held = CodedItems(chosen.sketcher, codes, parts, [len(part) for part in parts])
    rescans = [timed(lambda: join(queries, held, floor), everything) for _ in range(repeats)]
    check_same(joins[0][0], rescans[0][0])
    plain, coded = (min((one for _, one in runs), key=_seconds) for runs in (joins, rescans))
    usual, here = (rescan(chosen, count, DIM * 2, QUERIES, byte) for byte in (0.5, 1 / speed))
    return {
        "vectors": count, "dim": DIM, "queries": QUERIES, "threshold": floor,
        "pairs": len(joins[0][0].query), "disk_gb_per_s": round(speed, 2),
        "plan": plan.reason, "store": chosen.reason, "bytes_per_item": here.code_bytes,
        "planning": planned, "join": plain, "choosing": choosing, "building": building,
        "rescan": coded,
        "ratio_of_bytes": round(plain["read_mb"] / max(coded["read_mb"], 0.1), 1),
        "measured_ratio": round(plain["seconds"] / coded["seconds"], 2),
        "predicted_ratio": round(usual.ratio, 2),
        "predicted_ratio_at_this_disk": round(here.ratio, 2),
        "predicted_seconds": [round(here.by_vectors, 2), round(here.by_codes, 2)],
    }  # fmt: skip


def _seconds(figures: dict[str, float]) -> float:
    return figures["seconds"]


def draw(generator: np.random.Generator, count: int) -> NDArray[np.float16]:
    """Vectors with a mean cosine of about one half and a power-law spectrum."""
    spectrum = np.arange(1, DIM + 1, dtype=np.float32) ** -0.5
    noise = generator.standard_normal((count, DIM), np.float32) * spectrum
    return (noise / np.linalg.norm(spectrum) + DIM**-0.5).astype(np.float16)


def write_vectors(folder: Path, count: int) -> tuple[list[Path], NDArray[np.float16]]:
    """Files of vectors, and queries of which some are near copies of vectors."""
    files = []
    for number, at in enumerate(range(0, count, PART)):
        rows = draw(np.random.default_rng(number + 1), min(PART, count - at))
        files.append(folder / f"img_emb_{number:06d}.npy")
        np.save(files[-1], rows)
        with files[-1].open("rb") as stream:
            os.fsync(stream.fileno())
    generator = np.random.default_rng(0)
    queries = draw(generator, QUERIES)
    first = np.load(files[0], mmap_mode="r")
    copied = np.asarray(first[:: max(1, len(first) // COPIES)][:COPIES]).astype(np.float32)
    queries[: len(copied)] = copied + 0.005 * generator.standard_normal(copied.shape, np.float32)
    return files, queries


def build(parts: list[Any], codes: list[Path], sketcher: Any) -> None:
    for part, path in zip(parts, codes, strict=True):
        with path.open("wb") as stream:
            prefix.write_codes(stream, part, sketcher)
            stream.flush()
            os.fsync(stream.fileno())


def cool(files: list[Path]) -> None:
    """Have the kernel forget what it holds of files; mapped pages must have been let go of."""
    for path in files:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_bytes() -> int:
    """Bytes that this process had fetched from the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def read_speed(files: list[Path]) -> float:
    """What the disk gives, in gigabytes per second, read in order by one thread."""
    cool(files)
    start, size = time.perf_counter(), 0
    for path in files:
        with path.open("rb", buffering=0) as stream:
            while block := stream.read(8 << 20):
                size += len(block)
    return size / (time.perf_counter() - start) / 1e9


def timed(work: Callable[[], Any], files: list[Path]) -> tuple[Any, dict[str, float]]:
    """The result of some work that begins with cold files, its seconds and megabytes read."""
    cool(files)
    before, start = read_bytes(), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return result, {
        "seconds": round(seconds, 3),
        "read_mb": round((read_bytes() - before) / 1e6, 1),
    }


def check_same(one: Pairs, two: Pairs) -> None:
    for name in ("query", "item", "score", "count"):
        if getattr(one, name).tobytes() != getattr(two, name).tobytes():
            raise SystemExit(f"the joins differ in {name}")


if __name__ == "__main__":
    main()
