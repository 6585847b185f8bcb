"""Matches -> matches that a second look has confirmed.

The images of both sides of every candidate are read again: the test images first, then shard by
shard the train images, each scored with the test images it was matched with. A pair that is refused
stays in the table, with the reason. Images that are known to be equal are no matter of opinion:
nobody looks at them, and none is refused.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate import artifacts, tables
from curate.artifacts import Manifest
from curate.embed import source_of
from curate.errors import CurateError, GateError
from curate.files import atomic_write
from curate.images import ImageError, ImageLimits, decode
from curate.matches import NEAREST_FILE, PAIRS_FILE, UNUSABLE_FILE, Matches, open_matches
from curate.samples import Failure, Sample, image_member
from curate.shards import Dataset, Shard, ShardReader
from curate.units import RunUnits, results, run_in_process
from curate.verification.verifiers import AT_ONCE, Verifier, VerifierSpec, cached_verifier
from curate.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL.Image import Image

    from curate.parts import Embeddings

_CANDIDATES = pl.Schema(
    {
        "pair": pl.Int64,
        "key": pl.String,
        "sha256": pl.String,
        "query": pl.Int64,
        "part": pl.Int64,
        "cosine": pl.Float32,
    }
)
_QUERIES = pl.Schema({"key": pl.String, "sha256": pl.String, "view": pl.String, "query": pl.Int64})
_SCORES = pl.Schema({"pair": pl.Int64, "score": pl.Float32, "refused": pl.String})
_TEMPORARY = "units"
_MAPPED = 16


@dataclass(frozen=True)
class Unit:
    """One shard whose images take part in candidates.

    Attributes:
        dataset: without its list of shards.
        shard: the shard.
        part: its number.
        folder: where candidates are listed and results are written.
        spec: of the verifier.
    """

    dataset: Dataset
    shard: Shard
    part: int
    folder: str
    spec: VerifierSpec

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"look again at {self.dataset.name}/{self.shard.name}"

    def path(self, name: str, part: int | None = None) -> Path:
        """A file of this or another unit."""
        number = self.part if part is None else part
        return Path(self.folder, f"{name}_{number:06d}")


def verify(
    matches: Matches,
    test: Embeddings,
    train: Embeddings,
    spec: VerifierSpec,
    out: Path,
    *,
    run_units: RunUnits = run_in_process,
) -> Matches:
    """Look again at the candidates of `matches`, into the folder `out`.

    Args:
        matches: of a first search.
        test: the set that is cleaned.
        train: the set it is cleaned of; the same with `--within`.
        spec: who looks, and at how many candidates of each test item.
        out: the artifact's folder.
        run_units: runs the units, one per shard that holds a candidate.

    Raises:
        CurateError: a set was published as vectors, so that there are no images to look at, or a
            shard of it has gone.
        PartialRunError: some shard could not be read, or changed since it was embedded.
    """
    verifier = cached_verifier(spec)
    floor = verifier.floor if verifier.floor is not None else matches.manifest.config["floor"]
    first = matches.manifest.config
    config = {**first, "floor": floor, "first_floor": first["floor"], "verify": spec.config()}
    inputs = [{"name": "matches", "sha256": matches.manifest.id}]
    manifest = Manifest("matches", config, inputs)
    if artifacts.finished(out, manifest.key):
        return open_matches(out)
    work = artifacts.work_folder(out, manifest.key)
    folder = work / _TEMPORARY
    folder.mkdir(exist_ok=True)
    pairs = matches.pairs().with_row_index("pair").cast({"pair": pl.Int64})
    candidates = pairs.filter(pl.col("rank") <= spec.top, pl.col("same").is_null())
    _look(candidates, (test, train), spec, folder, run_units)
    found = _gather(folder)
    shutil.rmtree(folder)
    judged = _judged(pairs, found, spec.top, None if verifier.floor is None else 1.0)
    nearest = _nearest(judged, matches.nearest())
    tables.write_table(work / PAIRS_FILE, judged, tables.PAIRS)
    tables.write_table(work / NEAREST_FILE, nearest, tables.NEAREST)
    shutil.copyfile(matches.root / UNUSABLE_FILE, work / UNUSABLE_FILE)
    kept = judged.filter(pl.col("rejected").is_null())
    counts = {
        **matches.manifest.counts,
        "confirmed": kept.height,
        "rejected": judged.height - kept.height,
        "test_items_with_pairs": kept["test_id"].n_unique(),
        "overflow": int(nearest["overflow"].sum()),
    }
    artifacts.commit(work, out, Manifest("matches", config, inputs, counts=counts))
    return open_matches(out)


# --- units ---------------------------------------------------------------------------------------


def _look(
    candidates: pl.DataFrame,
    sides: tuple[Embeddings, Embeddings],
    spec: VerifierSpec,
    folder: Path,
    run_units: RunUnits,
) -> None:
    """Run both rounds of units; those that an interrupted run has finished are not repeated."""
    test, train = sides
    sources = [_source(side) for side in sides]
    test_unit, train_unit = (
        {
            shard.name: Unit(_bare(source), shard, number, str(folder / side), spec)
            for number, shard in enumerate(source.shards)
        }
        for side, source in zip(("test", "train"), sources, strict=True)
    )
    for side in ("test", "train"):
        (folder / side).mkdir(exist_ok=True)
    queries = _numbered(candidates)
    todo = _ask(queries, "test_id", (test, test_unit), _QUERIES, ("wanted", "queries"))
    results(run_units(prepare_queries, todo), f"read {test.name} again")
    parts = {name: unit.part for name, unit in test_unit.items()}
    numbers = queries.select("test_id", "view", "query")
    placed = candidates.join(numbers, on=["test_id", "view"], how="left", maintain_order="left")
    test_shard = placed["test_id"].str.split_exact(":", 1).struct.field("field_0")
    placed = placed.with_columns(
        part=test_shard.replace_strict(parts, return_dtype=pl.Int64),
        cosine=pl.col("score"),
        sha256=pl.col("train_sha256"),
    )
    todo = _ask(placed, "train_id", (train, train_unit), _CANDIDATES, ("candidates", "scores"))
    results(run_units(score_candidates, todo), f"look again at {train.name}")


def _ask(
    frame: pl.DataFrame,
    column: str,
    where: tuple[Embeddings, dict[str, Unit]],
    schema: pl.Schema,
    files: tuple[str, str],
) -> list[Unit]:
    """Write the rows of each shard that ids name where its unit reads them.

    Args:
        frame: one row per image or pair that is asked about.
        column: of the ids.
        where: a set, and its units by shard.
        schema: of what a unit reads.
        files: what a unit reads, and what it leaves when it is done.

    Returns:
        The units that are not done.
    """
    (side, units), (question, answer) = where, files
    todo = []
    for name, rows in _by_shard(frame, column):
        unit = _unit(units, name, side)
        tables.write_table(unit.path(question), rows, schema)
        if not unit.path(answer).is_file():
            todo.append(unit)
    return todo


def _source(side: Embeddings) -> Dataset:
    try:
        return source_of(side)
    except CurateError as error:
        raise CurateError(
            f"{error} A second look needs the images of both sets; give --verify none."
        ) from error


def _unit(units: dict[str, Unit], shard: str, side: Embeddings) -> Unit:
    if shard not in units:
        raise CurateError(
            f"{side.place}: shard {shard} was embedded, but has gone from where the set was then; "
            "put it back, or embed the set again."
        )
    return units[shard]


def _bare(dataset: Dataset) -> Dataset:
    return replace(dataset, shards=(), side_files=())


def _numbered(candidates: pl.DataFrame) -> pl.DataFrame:
    """Every test item in every view it was found by, numbered within its shard."""
    seen = candidates.select("test_id", "view", sha256="test_sha256").unique(maintain_order=True)
    shard = pl.col("test_id").str.split_exact(":", 1).struct.field("field_0")
    return seen.with_columns(query=pl.int_range(pl.len()).over(shard))


def _by_shard(frame: pl.DataFrame, column: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows by the shard that an id names, with the key within it."""
    halves = pl.col(column).str.splitn(":", 2)
    split = frame.with_columns(
        shard=halves.struct.field("field_0"), key=halves.struct.field("field_1")
    )
    for (name,), rows in split.group_by("shard", maintain_order=True):
        yield str(name), rows


def prepare_queries(unit: Unit) -> None:
    """Read a shard of the test set and store what the verifier sees of its candidates."""
    verifier = cached_verifier(unit.spec)
    wanted = tables.read_table(unit.path("wanted"), _QUERIES)
    by_key: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for key, view, query in wanted.select("key", "view", "query").iter_rows():
        by_key[key].append((view, query))
    prepared = (
        (query, verifier.preprocess(VIEWS[view](image)))
        for key, image in _images(unit, wanted)
        for view, query in by_key[key]
    )
    out = _described(verifier, prepared, wanted.height)
    with atomic_write(unit.path("queries")) as stream:
        np.save(stream, out)


def score_candidates(unit: Unit) -> None:
    """Read a shard of the train set and score each image with the test images it matched."""
    verifier = cached_verifier(unit.spec)
    wanted = tables.read_table(unit.path("candidates"), _CANDIDATES)
    keys = wanted["key"].unique(maintain_order=True).to_list()
    number = {key: at for at, key in enumerate(keys)}
    prepared = ((number[key], verifier.preprocess(image)) for key, image in _images(unit, wanted))
    items = _described(verifier, prepared, len(keys))
    rows = wanted["key"].replace_strict(number, return_dtype=pl.Int64).to_numpy()
    queries = _Queries(unit, wanted)
    score = np.zeros(wanted.height, np.float32)
    second = np.zeros(wanted.height, np.float32)
    cosine = wanted["cosine"].to_numpy()
    for at in range(0, wanted.height, AT_ONCE):
        block = slice(at, at + AT_ONCE)
        seen = np.stack([queries[i] for i in range(wanted.height)[block]])
        score[block], second[block] = verifier.score(seen, items[rows[block]], cosine[block])
    refused = [verifier.refusal(float(value)) for value in second]
    frame = wanted.select("pair").with_columns(
        score=score, refused=pl.Series(refused, dtype=pl.String)
    )
    tables.write_table(unit.path("scores"), frame, _SCORES)


def _described(
    verifier: Verifier, prepared: Iterator[tuple[int, NDArray[Any]]], count: int
) -> NDArray[Any]:
    """What the verifier keeps of prepared images that come with their rows, (count, *shape)."""
    out = np.zeros((count, *verifier.shape), verifier.dtype)
    while block := list(islice(prepared, AT_ONCE)):
        rows, arrays = zip(*block, strict=True)
        out[list(rows)] = verifier.describe(np.stack(arrays))
    return out


class _Queries:
    """What the verifier sees of the test image of each candidate.

    A shard may have candidates in any number of test shards, and each mapping holds a file open;
    candidates come in the order of these shards, so a few mappings do.
    """

    def __init__(self, unit: Unit, wanted: pl.DataFrame) -> None:
        folder = Path(unit.folder).parent / "test"

        def mapped(part: int) -> NDArray[Any]:
            path = folder / f"queries_{part:06d}"
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return array

        self._mapped = lru_cache(maxsize=_MAPPED)(mapped)
        self._part, self._query = wanted["part"].to_list(), wanted["query"].to_list()

    def __getitem__(self, at: int) -> NDArray[Any]:
        return np.array(self._mapped(self._part[at])[self._query[at]])


def _images(unit: Unit, wanted: pl.DataFrame) -> Iterator[tuple[str, Image]]:
    """The images of the keys in a table of a shard.

    Raises:
        GateError: one is missing, or is not the image that was embedded.
    """
    left = dict(wanted.select("key", "sha256").iter_rows())
    for sample in ShardReader(unit.dataset, unit.shard):
        if sample.key in left:
            yield sample.key, _image(unit, sample, left.pop(sample.key))
        if not left:
            return
    raise _changed(unit, min(left))


def _image(unit: Unit, sample: Sample, sha256: str | None) -> Image:
    member = image_member(sample)
    data = b"" if isinstance(member, Failure) else member.data or b""
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise _changed(unit, sample.key)
    try:
        return decode(data, ImageLimits())
    except ImageError as error:
        raise _changed(unit, sample.key) from error


def _changed(unit: Unit, key: str) -> GateError:
    return GateError(
        f"{unit.shard.url}: the image of {key} is not the one that was embedded; run `curate "
        "dedup` again on the images, not on their embeddings."
    )


# --- tables --------------------------------------------------------------------------------------


def _gather(folder: Path) -> pl.DataFrame:
    files = sorted((folder / "train").glob("scores_*"))
    frames = [tables.read_table(path, _SCORES) for path in files]
    return pl.concat([pl.DataFrame(schema=_SCORES), *frames])


def _judged(
    pairs: pl.DataFrame, found: pl.DataFrame, top: int, certain: float | None
) -> pl.DataFrame:
    """All pairs with their new scores, ranked anew; what was not looked at is refused too.

    Args:
        pairs: of the first search, numbered.
        found: what the second look says of those it was asked about.
        top: candidates of a test item that were looked at.
        certain: score of a pair of equal images; None: that of the first search.
    """
    unseen = pl.lit(f"not among the {top} most similar, so it was not looked at")
    is_equal = pl.col("same").is_not_null()
    joined = (
        pairs.with_columns(cosine=pl.col("score"))
        .drop("score", "rejected")
        .join(found, on="pair", how="left", maintain_order="left")
    )
    joined = joined.with_columns(
        rejected=pl.when(~is_equal)
        .then(pl.when(pl.col("score").is_null()).then(unseen).otherwise("refused")),
        score=pl.when(is_equal).then(pl.lit(certain, dtype=pl.Float32)).otherwise("score"),
    ).with_columns(score=pl.coalesce("score", "cosine"))  # fmt: skip
    order = joined.select("test_id").unique(maintain_order=True).with_row_index("turn")
    joined = joined.join(order, on="test_id", how="left", maintain_order="left")
    joined = joined.with_columns(out=pl.col("rejected").is_not_null())
    ranked = joined.sort("turn", "out", "score", "pair", descending=[False, False, True, False])
    return ranked.with_columns(rank=pl.int_range(1, pl.len() + 1).over("test_id"))


def _nearest(judged: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """The best confirmed pair of every test item.

    Pairs that were not stored count as refused, as nobody looked at them. Only where all stored
    ones of an item are confirmed may more of them be copies, so there alone it overflows still.
    """
    out = pl.col("rejected").is_not_null()
    kept, refused = judged.filter(~out), judged.filter(out)["test_id"].unique()
    best = kept.unique("test_id", keep="first", maintain_order=True)
    counts = kept.group_by("test_id").len("pairs")
    overflow = pl.col("overflow") & ~pl.col("test_id").is_in(refused.to_list())
    frame = before.select("test_id", overflow.alias("overflow"))
    frame = frame.join(
        best.select("test_id", "train_id", "score", "view"), on="test_id", how="left",
        maintain_order="left",
    )  # fmt: skip
    frame = frame.join(counts, on="test_id", how="left", maintain_order="left")
    return frame.with_columns(pairs=pl.col("pairs").fill_null(0))
