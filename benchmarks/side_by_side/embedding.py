"""Task: vectors of all images of some webdataset tars, written to disk, by the same small CLIP.

Each contestant runs twice, on a quarter of the images and on all: the difference is what images
take, the rest is what starting takes (imports, loading the model). Both share the model of
`builtin:tiny-clip`. Its network is small, so reading, decoding and resizing are most of the work.
"""

import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.encoders.clip import TINY, TINY_CLIP
from curate.parts import open_embeddings

from .costs import Cost
from .inputs import some, write_tars
from .session import WORKERS, Contestant, Finding, Session

SHARDS = 8
SHORT = 1.0
"""Seconds; two starts differ by some tenths of one."""
SETS = {"cifar10": ("cifar10/test", 1), "photos": ("photos", 6)}
"""Name: folder of tars, and how often its images are taken, so that a run is long enough."""

OURS = ((TINY_CLIP, "exact"), ("builtin:layout", "exact"), ("builtin:layout", "scaled"))
"""Encoders, and how JPEGs are decoded for them."""
WHAT = {"embed": "", "embed-as-released": " as released", "read": " reader alone"}


def contestants() -> dict[str, Contestant]:
    """The rows of this task by name."""
    found: dict[str, Contestant] = {}
    for of in SETS:
        for encoder, decode in OURS:
            words = "" if decode == "exact" else f" {decode}"
            ours = partial(curate, of=of, encoder=encoder, decode=decode)
            found[f"curate {encoder}{words} {of}"] = Contestant("embedding", None, ours)
        for what, words in WHAT.items():
            run = partial(clip_retrieval, of=of, what=what)
            found[f"clip-retrieval{words} {of}"] = Contestant("embedding", "clip-retrieval", run)
    return found


def clip_retrieval(session: Session, python: Path, *, of: str, what: str) -> Finding:
    """Its inference, or its reader alone, with its defaults."""

    def words(tars: Path, out: Path) -> list[str]:
        pattern = f"{tars}/{{0..{SHARDS - 1}}}.tar"
        return [str(WORKERS / "clip_vectors.py"), what, str(TINY), pattern, str(out)]

    name = f"clip-retrieval-{what}-{of}"
    figures, cost, command = twice(session, python, of, name, words, offline=True)
    ours = session.work / folder_of(TINY_CLIP, of)
    if what != "read" and ours.is_dir():
        figures["cosine_to_curate"] = agreement(ours, session.work / name / "vectors")
    settings = "batches of 256, 4 loader processes, images alone (its defaults)"
    if what == "read":
        settings = f"reader and preprocessing alone, no model; {settings}"
    return Finding(figures, cost, command, settings)


def curate(session: Session, python: Path, *, of: str, encoder: str, decode: str) -> Finding:
    """`curate embed`."""

    def words(tars: Path, out: Path) -> list[str]:
        given = ["-m", "pipelines", "embed", str(tars), "--detector", encoder, "--decode", decode]
        return [*given, "--out", str(out), "--workers", str(session.cores)]

    name = folder_of(encoder, of, decode)
    figures, cost, command = twice(session, python, of, name, words, offline=False)
    return Finding(figures, cost, command, f"{session.cores} workers, --decode {decode}")


def folder_of(encoder: str, of: str, decode: str = "exact") -> str:
    """Name of the folder with our vectors of a set."""
    return f"curate-{encoder.replace(':', '-')}-{decode}-{of}"


def twice(
    session: Session,
    python: Path,
    of: str,
    name: str,
    words: Callable[[Path, Path], list[str]],
    *,
    offline: bool,
) -> tuple[dict[str, Any], Cost, str]:
    """Run on a quarter and on all images: figures, cost of the whole run, and its command."""
    quarter, whole = tars(session, of)
    few, many = count(quarter), count(whole)
    first = session.run(python, words(quarter, session.work / f"{name}-few"), offline=offline)
    line = words(whole, session.work / name)
    cost = session.run(python, line, offline=offline)
    return rates(few, many, first, cost), cost, session.shown(python, line)


def rates(few: int, many: int, first: Cost, whole: Cost) -> dict[str, Any]:
    """Images a second beyond what starting takes; None where the runs are too short to tell."""
    cpu, wall = whole.cpu_s - first.cpu_s, whole.wall_s - first.wall_s
    return {
        "images": many,
        "images_per_cpu_s": round((many - few) / cpu, 1) if cpu > SHORT else None,
        "images_per_wall_s": round((many - few) / wall, 1) if wall > SHORT else None,
        "start_cpu_s": round(first.cpu_s - cpu * few / (many - few), 1),
    }


def tars(session: Session, of: str) -> tuple[Path, Path]:
    """Folders of tars with a quarter of a set and all of it, made when first asked for."""
    folder, copies = SETS[of]
    root = session.work / "tars" / of
    if not root.is_dir():
        found = some(session.data / folder, session.images)
        images = [(key, {"jpg": parts["jpg"]}) for key, parts in found] * copies
        write_tars(images[::4], root / "quarter", SHARDS)
        write_tars(images, root / "whole", SHARDS)
    return root / "quarter", root / "whole"


def count(folder: Path) -> int:
    """Images in the tars of a folder."""
    total = 0
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as archive:
            total += len(archive.getnames())
    return total


def agreement(ours: Path, theirs: Path) -> dict[str, float]:
    """Cosines between our vector and clip-retrieval's of the same image: mean and least."""
    own = open_embeddings(ours)
    keys = own.all_metadata()["key"]
    parts = sorted(theirs.glob("img_emb/*.npy"))
    other = np.concatenate([np.load(path) for path in parts]).astype(np.float32)
    names = pl.concat(pl.read_parquet(path) for path in sorted(theirs.glob("metadata/*.parquet")))
    at = {key: row for row, key in enumerate(names["image_path"])}
    matched = other[[at[key] for key in keys]]
    vectors = np.asarray(own.all_vectors(), np.float32)
    cosines = (vectors * matched).sum(axis=1)
    cosines /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(matched, axis=1)
    return {"mean": round(float(cosines.mean()), 5), "least": round(float(cosines.min()), 5)}
