"""Task: for each CIFAR-10 test image its nearest training image, scored by a hand-made list.

All are given the same folders of JPEG files. The list (ciFAIR, Barz and Denzler 2020) is used for
scoring only, and lacks many true copies: it gives recall, and of precision no more than the share
of flagged images whose nearest image has their class.
"""

import csv
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from curate.files import read_json

from .inputs import samples, write_files
from .scoring import Best, Truth, figures
from .session import WORKERS, Contestant, Finding, Session

TRAIN = 5
"""Training images for each test image in a quick look, as in the whole set."""
NEAR = "1"
"""The list's judgement on a near-duplicate; 2 is a very similar image."""
DETECTORS = {
    "builtin:copy": (),
    "builtin:layout": (),
    "phash:phash": ("--floor", "0.5"),
}
PEERS = {
    "imagededup PHash": ("imagededup", "PHash"),
    "imagededup DHash": ("imagededup", "DHash"),
    "fastdup": ("fastdup", "fastdup"),
    "cleanvision": ("cleanvision", "cleanvision"),
    "thumbnails": ("thumbnails", "thumbnails"),
}


def contestants() -> dict[str, Contestant]:
    """The rows of this task by name."""
    ours = {
        f"curate {name}": Contestant("copies", None, partial(detector, name=name))
        for name in DETECTORS
    }
    return ours | {
        name: Contestant("copies", environment, partial(peer, method=method))
        for name, (environment, method) in PEERS.items()
    }


@dataclass(frozen=True)
class Answer:
    """What a tool says.

    Attributes:
        best: nearest training image and score of each test image; those left out have none.
        threshold: its default one, or None.
        settings: in words.
    """

    best: Best
    threshold: float | None
    settings: str


def detector(session: Session, python: Path, *, name: str) -> Finding:
    """`curate dedup` with a detector: the whole command, with report and cleaned test set."""
    files = images(session)
    out = session.work / name.replace(":", "-")
    words = [
        *("-m", "pipelines", "dedup", "--detector", name, *DETECTORS[name]),
        *("--test", f"{files}/test", "--train", f"{files}/train"),
        *("--out", str(out), "--workers", str(session.cores)),
    ]
    cost = session.run(python, words, offline=False)
    figures = judged(session, own_answer(out))
    settings = f"whole command with report and cleaned test set, workers: {session.cores}"
    return Finding(figures, cost, session.shown(python, words), settings)


def peer(session: Session, python: Path, *, method: str) -> Finding:
    """Another tool, through `workers/nearest.py`."""
    answer = session.work / f"{method}.json"
    words = [str(WORKERS / "nearest.py"), method, str(images(session)), str(answer)]
    cost = session.run(python, words)
    found = Answer(**json.loads(answer.read_text()))
    figures = judged(session, found)
    return Finding(figures, cost, session.shown(python, words), found.settings)


def judged(session: Session, answer: Answer) -> dict[str, Any]:
    """How many images there are, and how well the answer agrees with the list."""
    known = truth(session)
    sizes = {"test": len(known.test_class), "train": len(known.train_class)}
    listed = {"near_duplicates": len(known.near), "listed": len(known.listed)}
    whole = {name: answer.best.get(name) for name in known.test_class}
    return sizes | listed | figures(whole, known, answer.threshold)


def own_answer(out: Path) -> Answer:
    """What a finished run of `curate dedup` says."""
    run = read_json(out / "run.json")
    nearest = pl.read_parquet(out / run["matches"] / "nearest.parquet")
    rows = nearest.drop_nulls("score").select("test_id", "train_id", "score").iter_rows()
    best = {_stem(test): (_stem(train), score) for test, train, score in rows}
    return Answer(best, read_json(out / run["split"] / "split.json")["threshold"], "")


def _stem(identity: str) -> str:
    """Name of the file of an item of a folder, such as `003:00003012.jpg`."""
    return Path(identity.rpartition(":")[2]).stem


def images(session: Session) -> Path:
    """The folders of files of this session, made when first asked for.

    A quick look takes the first images, and all of the list.
    """
    folder = session.work / "images"
    named = pairs(session.data)
    limit = session.images
    for split, column, count in (("test", 0, limit), ("train", 1, limit and TRAIN * limit)):
        if not (folder / split).is_dir():
            listed = {row[column] for row in named}
            found = samples(session.data / "cifar10" / split)
            kept = (
                sample
                for number, sample in enumerate(found)
                if count is None or number < count or sample[0] in listed
            )
            write_files(kept, folder / split)
    return folder


def pairs(data: Path) -> list[tuple[str, str, str]]:
    """Test image, training image and judgement of all pairs of the list; images by file stem."""
    with (data / "cifar10" / "pairs_test_train.csv").open(newline="") as rows:
        return [
            (f"{int(row['test_index']):08d}", f"{int(row['train_index']):08d}", row["judgment"])
            for row in csv.DictReader(rows)
        ]


def truth(session: Session) -> Truth:
    """What the list and the class labels say of the images of this session."""
    folder = images(session)
    names = pl.read_parquet(
        session.data / "cifar10" / "manifest.parquet", columns=["split", "index", "label"]
    )
    classes = {
        split: {
            f"{index:08d}": label
            for index, label in names.filter(split=split).select("index", "label").iter_rows()
        }
        for split in ("test", "train")
    }
    present = {
        split: {path.stem: known[path.stem] for path in (folder / split).glob("*/*.jpg")}
        for split, known in classes.items()
    }
    listed = pairs(session.data)
    return Truth(
        near=frozenset(test for test, _, judgment in listed if judgment == NEAR),
        listed=frozenset(test for test, _, _ in listed),
        test_class=present["test"],
        train_class=present["train"],
    )
