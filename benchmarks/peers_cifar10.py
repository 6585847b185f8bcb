"""What other tools find and cost on the job of benchmarks/cifar10_copies.py.

The job: for each of the 10,000 CIFAR-10 test images its nearest of the 50,000 training images. A
peer runs in a process of its own, under the python of an environment that has it, on folders of
JPEG files unpacked beforehand, without a network where `unshare` can take it away. Scored is the
image recall of the ciFAIR near-duplicates (judgment 1) among the best-scored test images.

    python benchmarks/peers_cifar10.py --data ../shared/data/cifar10 --peer imagededup \
        --python PEER_ENVIRONMENT/bin/python --out imagededup.json

Peers: imagededup (pHash and its default search), fastdup (its bundled model, test_dir mode),
thumbnails (a naive floor: Pillow, numpy and an exact faiss index).
"""

import argparse
import csv
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FLAGGED = (250, 500, 1000)
# Larger than imagededup's default of 10, at which fewer than 1,000 test images have a neighbour.
HAMMING = 12
# fastdup transmits errors and timings, and asks the package index for its newest version on import.
QUIET = {"SENTRY_OPT_OUT": "1", "FASTDUP_PRODUCTION": "1"}
SAMPLE_SECONDS = 0.5

Score = tuple[str, float]
Answer = dict[str, Any]


def main() -> None:
    """Measure a peer, or be the measured process (--work)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the CIFAR-10 folder")
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="has the peer")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        arguments.out.write_text(json.dumps(PEERS[arguments.peer](arguments.work)))
        return
    if arguments.data is None:
        parser.error("--data is needed")
    result = measure(arguments.data, arguments.peer, arguments.python.absolute())
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(data: Path, peer: str, python: Path) -> dict[str, Any]:
    """Unpack (not timed), run the peer once, score its answer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests = unpack(data / "test", folder / "test")
        trains = unpack(data / "train", folder / "train")
        cut_off = isolation()
        script = str(Path(__file__).resolve())
        words = [
            str(python),
            script,
            "--peer",
            peer,
            "--work",
            name,
            "--out",
            f"{name}/answer.json",
        ]
        before = os.getloadavg()
        cost = run([*cut_off, *words], folder)
        answer: Answer = json.loads((folder / "answer.json").read_text())
        after = os.getloadavg()
    best = {test: answer["best"].get(test) for test in tests}
    return {
        "peer": peer,
        "machine": machine(),
        "network": "none (unshare --net)" if cut_off else "not cut off; switched off by settings",
        "images": {"test": len(tests), "train": len(trains)},
        **{key: value for key, value in answer.items() if key not in {"best", "default_threshold"}},
        **cost,
        "load_average_before": [round(value, 1) for value in before],
        "load_average_after": [round(value, 1) for value in after],
        **score(best, near_duplicates(data), answer["default_threshold"]),
    }


def unpack(shards: Path, out: Path) -> list[str]:
    """Write the JPEG members of all shards of a folder as files; their names without the suffix."""
    out.mkdir()
    for shard in sorted(shards.glob("*.tar.gz")):
        with tarfile.open(shard) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name.endswith(".jpg") else None
                if content is not None:
                    (out / Path(member.name).name).write_bytes(content.read())
    names = sorted(path.stem for path in out.iterdir())
    if not names:
        sys.exit(f"{shards}: no .tar.gz shard with JPEG members; --data is the CIFAR-10 folder")
    return names


def machine() -> str:
    """The machine in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, no GPU used"


def isolation() -> list[str]:
    """Words that start a command without a network; none where the system does not allow that."""
    words = ["unshare", "--net", "--map-root-user"]
    program = shutil.which(words[0])
    if program is None or subprocess.run([program, *words[1:], "true"], check=False).returncode:
        return []
    return [program, *words[1:]]


def run(words: Sequence[str], folder: Path) -> dict[str, float]:
    """Run a command: wall seconds, CPU seconds of it and its children, peak memory of all together.

    CPU seconds are the kernel's account of the ended processes; those of others in the meantime
    say how busy the machine was. Memory is sampled; rss counts shared pages in each process, pss
    once.
    """
    import psutil

    used, busy = used_cpu(), busy_cpu()
    start = time.perf_counter()
    process = psutil.Popen(words, cwd=folder, env=os.environ | QUIET, stdout=sys.stderr)
    rss = pss = 0
    while process.poll() is None:
        sizes = family_memory(process)
        rss, pss = max(rss, sizes[0]), max(pss, sizes[1])
        time.sleep(SAMPLE_SECONDS)
    wall = time.perf_counter() - start
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)}: exit code {process.returncode}; its last words stand above")
    cpu = used_cpu() - used
    return {
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "cpu_s_of_others": round(busy_cpu() - busy - cpu, 1),
        "peak_rss_mb": round(rss / 1e6),
        "peak_pss_mb": round(pss / 1e6),
    }


def used_cpu() -> float:
    """CPU seconds of all children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def busy_cpu() -> float:
    """CPU seconds that the whole machine has spent on work since it started."""
    import psutil

    times = psutil.cpu_times()
    return float(times.user + times.system)


def family_memory(process: Any) -> tuple[int, int]:
    """Bytes (rss, pss) of a psutil process and all its children, now."""
    import psutil

    rss = pss = 0
    try:
        members = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0, 0
    for member in members:
        try:
            memory = member.memory_full_info()
        except psutil.Error:
            continue  # it ended between the listing and the reading
        rss += memory.rss
        pss += memory.pss
    return rss, pss


def near_duplicates(data: Path) -> set[str]:
    """File names (no suffix) of the test images with a near-duplicate (judgment 1) in train."""
    with (data / "pairs_test_train.csv").open(newline="") as rows:
        listed = [row for row in csv.DictReader(rows) if row["judgment"] == "1"]
    return {f"{int(row['test_index']):08d}" for row in listed}


def score(
    best: dict[str, Score | None], listed: set[str], threshold: float | None
) -> dict[str, Any]:
    """Recall among the best-scored test images, and at the peer's default threshold if it has one.

    A test image without any neighbour ranks last. Equal scores that straddle a count leave a
    choice: low and high are the worst and the best one, expected is the mean over all choices.
    """
    values = {name: pair[1] if pair else float("-inf") for name, pair in best.items()}
    result = {"recall": {f"@{count}": recall(values, listed, count) for count in FLAGGED}}
    if threshold is None:
        return result
    flagged = {name for name, value in values.items() if value >= threshold}
    share = round(len(flagged & listed) / len(listed), 3)
    default = {"score": threshold, "flagged": len(flagged), "recall": share}
    return {**result, "at_default_threshold": default}


def recall(values: dict[str, float], listed: set[str], count: int) -> dict[str, float]:
    """Share of the listed images among the `count` images of highest value."""
    cut = sorted(values.values(), reverse=True)[min(count, len(values)) - 1]
    above = {name for name, value in values.items() if value > cut}
    tied = {name for name, value in values.items() if value == cut}
    room = min(count, len(values)) - len(above)
    sure, choice = len(above & listed), len(tied & listed)
    found = {
        "low": sure + max(0, choice - (len(tied) - room)),
        "expected": sure + choice * room / len(tied),
        "high": sure + min(choice, room),
    }
    return {
        "tied_at_cut": len(tied),
        **{word: round(number / len(listed), 3) for word, number in found.items()},
    }


# From here on: what runs under the peer's python. `folder` holds test/*.jpg and train/*.jpg.


def imagededup(folder: Path) -> Answer:
    """Hash all images, search each test hash among the train hashes; score = minus Hamming bits.

    `PHash.find_duplicates` compares all images with all; the class it searches with takes queries
    and database apart. Its defaults are kept: brute_force_cython and a process per core.
    """
    from imagededup.handlers.search.retrieval import HashEval
    from imagededup.methods import PHash

    start = time.perf_counter()
    hasher = PHash(verbose=False)
    hashes = hasher.encode_images(image_dir=folder, recursive=True)
    encoded = time.perf_counter()
    found = HashEval(
        test={name: value for name, value in hashes.items() if name.startswith("train/")},
        queries={name: value for name, value in hashes.items() if name.startswith("test/")},
        distance_function=hasher.hamming_distance,
        verbose=False,
        threshold=HAMMING,
    ).retrieve_results(scores=True)
    seconds = {"encode": encoded - start, "search": time.perf_counter() - encoded}
    best = {query: (pairs[0][0], -float(pairs[0][1])) for query, pairs in found.items() if pairs}
    return {
        "best": {Path(query).stem: (Path(hit).stem, value) for query, (hit, value) in best.items()},
        "default_threshold": -10,
        "settings": f"PHash, distance <= {HAMMING}; default search (brute_force_cython), workers",
        "seconds": _rounded(seconds),
        "versions": _versions("imagededup", "numpy", "scipy", "pillow", "torch"),
    }


def fastdup(folder: Path) -> Answer:
    """Its `run` with test_dir: each test image's nearest training images; score = its cosine."""
    import fastdup as peer

    start = time.perf_counter()
    code = peer.run(
        input_dir=str(folder / "train"),
        test_dir=str(folder / "test"),
        work_dir=str(folder / "fastdup"),
        threshold=0.0,
        turi_param="nnmodel=0,run_sentry=0",
    )
    if code:
        sys.exit(f"fastdup ended with code {code}; its log stands above")
    seconds = {"run": time.perf_counter() - start}
    best: dict[str, Score] = {}
    with (folder / "fastdup" / "similarity.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            query, value = Path(row["from"]), float(row["distance"])
            if query.parent.name != "test" or Path(row["to"]).parent.name != "train":
                sys.exit(f"fastdup paired {query} with {row['to']}: not a test with a train image")
            if query.stem not in best or value > best[query.stem][1]:
                best[query.stem] = (Path(row["to"]).stem, value)
    return {
        "best": best,
        "default_threshold": 0.9,
        "settings": "threshold 0; default model (576-d), HNSW32, 2 neighbours, threads",
        "seconds": _rounded(seconds),
        "versions": _versions("fastdup", "numpy", "opencv-python-headless"),
    }


def thumbnails(folder: Path) -> Answer:
    """16x16 RGB thumbnails less their own mean, unit length, exact index; score = cosine."""
    import faiss
    import numpy as np
    from PIL import Image

    def encode(split: str) -> tuple[list[str], Any]:
        files = sorted((folder / split).iterdir())
        rows = np.empty((len(files), 16 * 16 * 3), np.float32)
        for row, path in zip(rows, files, strict=True):
            with Image.open(path) as image:
                small = image.convert("RGB").resize((16, 16), Image.Resampling.BOX)
            row[:] = np.asarray(small, np.float32).reshape(-1)
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return [path.stem for path in files], rows

    start = time.perf_counter()
    tests, queries = encode("test")
    trains, database = encode("train")
    encoded = time.perf_counter()
    index = faiss.IndexFlatIP(database.shape[1])
    index.add(database)
    values, hits = index.search(queries, 1)
    seconds = {"encode": encoded - start, "search": time.perf_counter() - encoded}
    found = zip(tests, hits[:, 0].tolist(), values[:, 0].tolist(), strict=True)
    return {
        "best": {query: (trains[hit], value) for query, hit, value in found},
        "default_threshold": None,
        "settings": f"768-d, IndexFlatIP, 1 thread decodes, {faiss.omp_get_max_threads()} search",
        "seconds": _rounded(seconds),
        "versions": _versions("faiss-cpu", "numpy", "pillow"),
    }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {phase: round(value, 1) for phase, value in seconds.items()}


def _versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


PEERS: dict[str, Callable[[Path], Answer]] = {
    "imagededup": imagededup,
    "fastdup": fastdup,
    "thumbnails": thumbnails,
}


if __name__ == "__main__":
    main()
