"""The nearest training image of each test image by another tool, under that tool's Python.

    python nearest.py METHOD FOLDER ANSWER.json

FOLDER holds test/*/*.jpg and train/*/*.jpg. The answer maps the stem of each test file to the stem
of its nearest training file and the score, or to null where the tool names none.
"""

import csv
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# Larger than imagededup's default of 10, at which fewer than 1,000 test images have a neighbour.
HAMMING = 12

Best = dict[str, tuple[str, float]]
Answer = dict[str, Any]


def imagededup(folder: Path, *, method: str) -> Answer:
    """Hash all images, search each test hash among the train hashes; score = minus Hamming bits.

    `find_duplicates` compares all images with all; the class it searches with takes queries and
    database apart. Its defaults are kept: brute_force_cython and a process per core.
    """
    from imagededup import methods
    from imagededup.handlers.search.retrieval import HashEval

    hasher = getattr(methods, method)(verbose=False)
    hashes = hasher.encode_images(image_dir=folder, recursive=True)
    found = HashEval(
        test={name: value for name, value in hashes.items() if name.startswith("train/")},
        queries={name: value for name, value in hashes.items() if name.startswith("test/")},
        distance_function=hasher.hamming_distance,
        verbose=False,
        threshold=HAMMING,
    ).retrieve_results(scores=True)
    nearest = {
        query: min(pairs, key=lambda pair: pair[1]) for query, pairs in found.items() if pairs
    }
    return {
        "best": {
            Path(query).stem: (Path(hit).stem, -float(bits))
            for query, (hit, bits) in nearest.items()
        },
        "threshold": -10,
        "settings": f"{method}, up to {HAMMING} bits, default search; score = - bits",
    }


def fastdup(folder: Path) -> Answer:
    """Its `run` with test_dir: each test image's nearest training images; score = its cosine."""
    import fastdup as peer

    code = peer.run(
        input_dir=str(folder / "train"),
        test_dir=str(folder / "test"),
        work_dir=str(folder / "fastdup"),
        threshold=0.0,
        turi_param="nnmodel=0,run_sentry=0",
    )
    if code:
        sys.exit(f"fastdup ended with code {code}")
    best: Best = {}
    with (folder / "fastdup" / "similarity.csv").open(newline="") as rows:
        for row in csv.DictReader(rows):
            query, hit, value = Path(row["from"]), Path(row["to"]), float(row["distance"])
            if (query.parts[-3], hit.parts[-3]) != ("test", "train"):
                sys.exit(f"fastdup paired {query} with {hit}: not a test with a training image")
            if query.stem not in best or value > best[query.stem][1]:
                best[query.stem] = (hit.stem, value)
    return {
        "best": best,
        "threshold": 0.9,
        "settings": "threshold 0; bundled model (576-d), HNSW32, 2 neighbours, threads",
    }


def cleanvision(folder: Path) -> Answer:
    """Its exact and near duplicates of all images together; a test image in a set with a training
    image has the score 1, as it knows no degrees.
    """  # noqa: D205 - one sentence
    from cleanvision import Imagelab

    lab = Imagelab(data_path=str(folder))
    lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, verbose=False)
    best: Best = {}
    for kind in ("exact_duplicates", "near_duplicates"):
        for together in lab.info[kind]["sets"]:
            files = [Path(name) for name in together]
            trains = sorted(path.stem for path in files if path.parts[-3] == "train")
            tests = [path.stem for path in files if path.parts[-3] == "test"]
            best |= {test: (trains[0], 1.0) for test in tests if trains}
    return {
        "best": best,
        "threshold": 1.0,
        "settings": "exact and near duplicates with its defaults (equal pHash of 64 bits)",
    }


def thumbnails(folder: Path) -> Answer:
    """A naive floor: 16x16 RGB less its mean, unit length, exact FAISS index; score = cosine."""
    import faiss
    import numpy as np
    from PIL import Image

    def encode(split: str) -> tuple[list[str], Any]:
        files = sorted((folder / split).glob("*/*"))
        rows = np.empty((len(files), 16 * 16 * 3), np.float32)
        for row, path in zip(rows, files, strict=True):
            with Image.open(path) as image:
                small = image.convert("RGB").resize((16, 16), Image.Resampling.BOX)
            row[:] = np.asarray(small, np.float32).reshape(-1)
        rows -= rows.mean(axis=1, keepdims=True)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return [path.stem for path in files], rows

    tests, queries = encode("test")
    trains, database = encode("train")
    index = faiss.IndexFlatIP(database.shape[1])
    index.add(database)
    values, hits = index.search(queries, 1)
    found = zip(tests, hits[:, 0].tolist(), values[:, 0].tolist(), strict=True)
    return {
        "best": {query: (trains[hit], value) for query, hit, value in found},
        "threshold": None,
        "settings": "768-d, IndexFlatIP; one thread decodes",
    }


METHODS: dict[str, Callable[[Path], Answer]] = {
    "PHash": partial(imagededup, method="PHash"),
    "DHash": partial(imagededup, method="DHash"),
    "fastdup": fastdup,
    "cleanvision": cleanvision,
    "thumbnails": thumbnails,
}


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(METHODS[sys.argv[1]](Path(sys.argv[2]))))
