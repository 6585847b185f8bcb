"""Embeddings of two sets -> every pair at or above a floor, and each test item's nearest."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import artifacts, prefix, tables
from curate.artifacts import Manifest
from curate.errors import CurateError
from curate.files import write_json
from curate.index import PREFIX, Index
from curate.normalisation import Normalisation, Terms, normalised
from curate.parts import Embeddings, check_encoders
from indices import exact, faiss_index
from indices.pairs import Pairs
from indices.planning import Plan, plan_join
from indices.stored import Stored

PAIRS_FILE = "pairs.parquet"
NEAREST_FILE = "nearest.parquet"
UNUSABLE_FILE = "unusable.parquet"
SEARCH_FILE = f"{artifacts.FACTS}/search.json"
_UNUSABLE = "the vector is zero or not finite"
_CHECKED = 1 << 14
_NAMES = pl.Schema({"id": pl.String, "sha256": pl.String, "pixels_sha256": pl.String})


@dataclass(frozen=True)
class MatchSettings:
    """What decides on the matches, apart from the vectors.

    Attributes:
        floor: lowest score that is stored; a threshold can later be moved down to it. A score is
            a cosine, or what a normalisation makes of it.
        cap: pairs stored per test item, the best ones; more are counted and reported.
        within: the set is compared with itself; an item is matched with earlier ones only.
        probes: lists that an IVF index visits; None keeps the index's own number.
        nearest: find the nearest train item of every test item, at or above the floor or not.
    """

    floor: float
    cap: int = 1000
    within: bool = False
    probes: int | None = None
    nearest: bool = False


@dataclass(frozen=True)
class Resources:
    """What a search may use; no result depends on it.

    Attributes:
        device: where products run.
        memory: bytes for the test vectors and what belongs to them; more are taken in turns.
    """

    device: str = "cpu"
    memory: int = exact.MEMORY


@dataclass(frozen=True)
class Matches:
    """A finished matches folder."""

    root: Path
    manifest: Manifest

    def pairs(self) -> pl.DataFrame:
        """All pairs at or above the floor."""
        return tables.read_table(self.root / PAIRS_FILE, tables.PAIRS)

    def nearest(self) -> pl.DataFrame:
        """One row per test vector."""
        return tables.read_table(self.root / NEAREST_FILE, tables.NEAREST)


def open_matches(root: Path) -> Matches:
    """Open a matches folder.

    Raises:
        CurateError: it is not one.
    """
    manifest = artifacts.read_manifest(root)
    if manifest.kind != "matches":
        raise CurateError(f"{root}: holds {manifest.kind}, not matches.")
    return Matches(root, manifest)


def match(
    test: Embeddings,
    train: Embeddings,
    settings: MatchSettings,
    out: Path,
    *,
    index: Index | None = None,
    normalisation: Normalisation | None = None,
    resources: Resources | None = None,
    on_part: Callable[[int], None] | None = None,
) -> Matches:
    """Search the train set for every view of every test item, into the folder `out`.

    Args:
        test: the set that is cleaned.
        train: the set it is cleaned of; the same as `test` with `settings.within`.
        settings: floor and limits.
        out: the artifact's folder.
        index: proposes the candidates; None joins exactly.
        normalisation: of the scores; None leaves them cosines.
        resources: of the exact join.
        on_part: called with the number of train vectors of each part that is done.

    Raises:
        CurateError: the two sets were embedded by different encoders, the index is of other
            vectors, or a test vector is zero or not finite.
    """
    manifest = describe(test, train, settings, index, normalisation)
    if artifacts.finished(out, manifest.key):
        return open_matches(out)
    views = test.manifest.config["views"]
    queries = [checked(test, view) for view in views]
    resources = resources or Resources()
    asked, terms = to_search(settings, normalisation, queries, resources)
    plan = _plan(queries[0], train, asked, resources) if index is None else None
    search = _searcher(train, asked, index, resources=resources, plan=plan, on_part=on_part)
    if settings.within:  # each view is compared with the items before it
        results = [search(view) for view in queries]
    else:  # all views in one reading of the train set
        together = search(Stored.together(queries))
        results = [
            together.between(n * test.count, (n + 1) * test.count) for n in range(len(views))
        ]
    if plan:
        work = artifacts.work_folder(out, manifest.key)
        write_json(work / SEARCH_FILE, {"sketch": plan.reason})
    found = list(zip(views, after_search(results, terms, settings), strict=True))
    return write_matches(found, test, train, settings, manifest=manifest, out=out)


def to_search(
    settings: MatchSettings,
    normalisation: Normalisation | None,
    queries: Sequence[Stored],
    resources: Resources,
) -> tuple[MatchSettings, list[Terms] | None]:
    """What to ask of a search, which knows cosines only, and the terms of each view's queries.

    One pair more than the cap is asked for: whether there are more is then known of normalised
    scores too, as the terms leave the order of a query's pairs as it is.
    """
    if normalisation is None:
        return settings, None
    terms = [normalisation.terms(view, resources.device) for view in queries]
    floor = normalisation.least_cosine(settings.floor, terms)
    return replace(settings, floor=floor, cap=settings.cap + 1), terms


def after_search(
    results: list[Pairs], terms: list[Terms] | None, settings: MatchSettings
) -> list[Pairs]:
    """The pairs of each view at or above the floor, of those that `to_search` asked for."""
    if terms is None:
        return results
    return [
        normalised(found, term, settings.floor, nearest=settings.nearest)
        for found, term in zip(results, terms, strict=True)
    ]


def write_matches(
    found: list[tuple[str, Pairs]],
    test: Embeddings,
    train: Embeddings,
    settings: MatchSettings,
    *,
    manifest: Manifest,
    out: Path,
) -> Matches:
    """Write what a search found into the folder `out`.

    Args:
        found: the pairs of each view, the identity first.
        test: the set that is cleaned.
        train: the set it is cleaned of.
        settings: floor and limits.
        manifest: from `describe`.
        out: the artifact's folder.
    """
    pairs, nearest = _tables(found, test, train, settings)
    work = artifacts.work_folder(out, manifest.key)
    tables.write_table(work / PAIRS_FILE, pairs, tables.PAIRS)
    tables.write_table(work / NEAREST_FILE, nearest, tables.NEAREST)
    unusable = np.unique(np.concatenate([result.unusable for _, result in found]))
    names = _named(train, unusable).select("id", pl.lit(_UNUSABLE).alias("error"))
    tables.write_table(work / UNUSABLE_FILE, names.rename({"id": "train_id"}), tables.UNUSABLE)
    counts = {
        "pairs": pairs.height,
        "test_items_with_pairs": pairs["test_id"].n_unique(),
        "overflow": int(nearest["overflow"].sum()),
        "same": {word: pairs.filter(same=word).height for word in ("bytes", "pixels")},
        # an index does not say it
        "train_unusable": None if "index" in manifest.config["search"] else len(unusable),
    }
    artifacts.commit(
        work, out, Manifest(manifest.kind, manifest.config, manifest.inputs, counts=counts)
    )
    return open_matches(out)


def stored(side: Embeddings, view: str = "identity") -> Stored:
    """The vectors of one view, under one numbering."""
    return Stored(side.view_parts(view), side.sizes)


def checked(test: Embeddings, view: str) -> Stored:
    """The vectors of a test set's view.

    Raises:
        CurateError: one is zero or not finite, so that nothing can be said of its item.
    """
    for part, vectors in enumerate(test.view_parts(view)):
        for at in range(0, len(vectors), _CHECKED):
            rows = vectors[at : at + _CHECKED]
            if not (np.isfinite(rows).all(axis=1) & rows.any(axis=1)).all():
                raise CurateError(
                    f"{test.place}: vector {at} or one of the {len(rows) - 1} that follow it in "
                    f"part {part} ({view}) is zero or not finite; embed again."
                )
    return stored(test, view)


def describe(
    test: Embeddings,
    train: Embeddings,
    settings: MatchSettings,
    index: Index | None = None,
    normalisation: Normalisation | None = None,
) -> Manifest:
    """The manifest of matches, but for their counts.

    Raises:
        CurateError: the sets, the index or the normalisation do not belong together.
    """
    check_encoders(test, train)
    encoder = test.manifest.config["encoder"]
    if index is not None and settings.within:
        raise CurateError("--within is joined exactly; leave --index and --search away.")
    if normalisation is not None and settings.within:
        raise CurateError("--within knows no queries whose scores could be normalised: no --beta.")
    if index is not None and index.embeddings_id != train.manifest.id:
        raise CurateError(
            f"{index.root}: built from other vectors than {train.place}; build the index again."
        )
    search = "exact" if index is None else {"index": index.manifest.config}
    if index is not None and index.is_prefix:
        search = {"exact": {PREFIX: index.manifest.config}}
    inputs = [
        {"name": "test", "sha256": test.manifest.id},
        {"name": "train", "sha256": train.manifest.id},
    ]
    if index is not None:
        inputs.append({"name": "index", "sha256": index.manifest.id})
    config = {**asdict(settings), "comparator": ">=", "search": search, "encoder": encoder}
    if normalisation is not None:
        config["normalisation"] = normalisation.config()
    return Manifest("matches", config, inputs)


def _plan(
    queries: Stored, train: Embeddings, settings: MatchSettings, resources: Resources
) -> Plan:
    """The sketch that the first view is searched by; the other views are much like it."""
    items = stored(train)
    return plan_join(queries, items, settings.floor, resources.device, within=settings.within)


def _searcher(
    train: Embeddings,
    settings: MatchSettings,
    index: Index | None,
    *,
    resources: Resources,
    plan: Plan | None,
    on_part: Callable[[int], None] | None,
) -> Callable[[Stored], Pairs]:
    items, floor, cap = stored(train), settings.floor, settings.cap
    options = {**asdict(resources), "cap": cap, "on_part": on_part}
    if settings.within:
        return lambda queries: exact.self_join(items, floor, queries=queries, plan=plan, **options)
    if index is None:
        return lambda queries: exact.join(
            queries, items, floor, nearest=settings.nearest, plan=plan, **options
        )
    if index.is_prefix:
        coded = prefix.coded_items(index, train)

        def by_codes(queries: Stored) -> Pairs:
            with prefix.damage_told(index):
                return exact.join(queries, coded, floor, nearest=settings.nearest, **options)

        return by_codes
    loaded, root, parts = index.load(), index.root, train.view_parts()
    probes = settings.probes or index.probes

    def search(queries: Stored) -> Pairs:
        try:
            return faiss_index.search(
                loaded, queries.all(), parts, floor,
                probes=probes, cap=cap, nearest=settings.nearest,
            )  # fmt: skip
        except ValueError as error:
            raise CurateError(f"{root}: {error}; build the index again.") from error

    return search


def _tables(
    found: list[tuple[str, Pairs]], test: Embeddings, train: Embeddings, settings: MatchSettings
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Merge the views: a pair counts once, with its best view; ids take the place of numbers."""
    order = {view: number for number, (view, _) in enumerate(found)}
    pairs = pl.concat([_pair_frame(view, order[view], result) for view, result in found])
    nearest = pl.concat([_nearest_frame(view, order[view], result) for view, result in found])
    pairs = _best_first(pairs, ["test", "train"])
    nearest = _best_first(nearest, ["test"])
    counts = _counts([result for _, result in found], pairs)
    pairs = pairs.filter(pl.col("rank") <= settings.cap)
    test_rows = test.all_metadata(_NAMES)
    train_rows = _named(train, np.concatenate([pairs["train"], nearest["train"].drop_nulls()]))
    pairs = (
        pairs.with_columns(
            test_id=test_rows["id"].gather(pairs["test"]),
            test_sha256=test_rows["sha256"].gather(pairs["test"]),
            test_pixels=test_rows["pixels_sha256"].gather(pairs["test"]),
        )
        .join(train_rows, on="train", how="left", maintain_order="left")
        .rename({"id": "train_id", "sha256": "train_sha256"})
        .with_columns(same=_same(), cosine=None, rejected=None)
    )
    nearest = (
        pl.DataFrame({"test": np.arange(test.count), "test_id": test_rows["id"], "pairs": counts})
        .with_columns(overflow=pl.col("pairs") > settings.cap)
        .join(nearest, on="test", how="left", maintain_order="left")
        .join(train_rows, on="train", how="left", maintain_order="left")
        .rename({"id": "train_id"})
    )
    return pairs, nearest


def _same() -> pl.Expr:
    """How much of the two images of a pair is equal; a digest that is null equals nothing."""
    return (
        pl.when(pl.col("test_sha256") == pl.col("train_sha256"))
        .then(pl.lit("bytes"))
        .when(pl.col("test_pixels") == pl.col("pixels_sha256"))
        .then(pl.lit("pixels"))
    )


def _counts(found: list[Pairs], merged: pl.DataFrame) -> NDArray[np.int64]:
    """Pairs of each test item; at least as many where a view has more than were stored."""
    counts: NDArray[np.int64] = np.bincount(merged["test"], minlength=len(found[0].count))
    for result in found:
        counts = np.maximum(counts, result.count)
    return counts


def _pair_frame(view: str, order: int, found: Pairs) -> pl.DataFrame:
    columns = {"test": found.query, "train": found.item, "score": found.score}
    return pl.DataFrame(columns).with_columns(view=pl.lit(view), order=pl.lit(order))


def _nearest_frame(view: str, order: int, found: Pairs) -> pl.DataFrame:
    known = np.flatnonzero(found.nearest_item >= 0)
    columns = {
        "test": known,
        "train": found.nearest_item[known],
        "score": found.nearest_score[known],
    }
    return pl.DataFrame(columns).with_columns(view=pl.lit(view), order=pl.lit(order))


def _best_first(frame: pl.DataFrame, unique: list[str]) -> pl.DataFrame:
    """One row per `unique`, the best; by test item, falling score, train item; ranked from 1."""
    ordered = frame.sort(
        "test", "score", "order", "train", descending=[False, True, False, False]
    ).unique(unique, keep="first", maintain_order=True)
    ordered = ordered.sort("test", "score", "train", descending=[False, True, False])
    return ordered.with_columns(rank=pl.int_range(1, pl.len() + 1).over("test"))


def _named(train: Embeddings, items: NDArray[np.int64]) -> pl.DataFrame:
    """Ids and digests of train items that occur in a result."""
    unique = np.unique(items.astype(np.int64))
    rows = train.lookup(unique, _NAMES)
    return rows.with_columns(train=pl.Series(unique, dtype=pl.Int64))
