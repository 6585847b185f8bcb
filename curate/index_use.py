"""Using a finished index: searching it, saying what it is, comparing it with its vectors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate import prefix
from curate.errors import CurateError
from curate.files import read_json
from curate.index import INDEX_FILE, SOURCE, Index
from curate.parts import Embeddings, check_encoders, open_embeddings, read_vectors
from curate.published import open_vectors
from curate.recall import read_recall, summary, table
from curate.storage import local_path
from indices import exact, faiss_check, faiss_index
from indices.faiss_check import Items
from indices.faiss_rows import list_count, noted_error
from indices.pairs import Pairs
from indices.stored import Stored, Vectors
from indices.topk import top_k

FOUND = pl.Schema(
    {"query": pl.String, "rank": pl.Int32, "score": pl.Float32, "id": pl.String, "item": pl.Int64}
)
"""What a search found, by query and rank (1 = best); `query` is an item id or a row number."""

_NAMED = 20


def embeddings_of(index: Index, given: str | None = None) -> Embeddings:
    """The embeddings that an index was built from: from a given place, or where they were then.

    Raises:
        CurateError: they have gone or changed.
    """
    source = read_json(index.root / SOURCE)
    try:
        train = open_vectors(given or source["embeddings"], source["detector"], source["name"])
    except CurateError as error:
        raise CurateError(f"{error} Say with --embeddings where those of the index are.") from error
    if train.manifest.id != index.embeddings_id:
        raise CurateError(
            f"{index.root}: built from other vectors than {train.place} holds now; if these have "
            "grown, `curate index build --extend` adds them."
        )
    return train


# --- searching -----------------------------------------------------------------------------------


def read_queries(path: Path, train: Embeddings) -> tuple[list[str], NDArray[np.floating]]:
    """Names and vectors of the queries in an embeddings folder or a `.npy` matrix.

    Raises:
        CurateError: it is neither, or of another encoder or width than the index.
    """
    path = local_path(path)
    if path.is_dir():
        side = open_embeddings(path)
        check_encoders(side, train)
        names = side.all_metadata(pl.Schema({"id": pl.String}))["id"].to_list()
        return names, side.all_vectors()
    vectors = read_vectors(path)
    if vectors.shape[1] != train.dim:
        raise CurateError(f"{path}: vectors of width {vectors.shape[1]}, {train.dim} expected.")
    return [str(number) for number in range(len(vectors))], vectors


def search_index(
    index: Index,
    train: Embeddings,
    names: list[str],
    queries: Vectors,
    *,
    floor: float | None = None,
    top: int | None = None,
    probes: int | None = None,
) -> pl.DataFrame:
    """What the index finds of some queries, scored by the stored vectors: rows of `FOUND`.

    Args:
        index: proposes.
        train: decides.
        names: of the queries.
        queries: (q, d).
        floor: lowest score that is reported.
        top: items per query at most; without a floor, the nearest ones whatever their score.
        probes: lists to visit; None takes the index's own number.

    Raises:
        CurateError: neither a floor nor a number of items is given, or one is out of range.
    """
    if floor is None and top is None:
        raise CurateError("Give --floor SCORE, --top COUNT, or both.")
    if floor is not None and not -1 <= floor <= 1:
        raise CurateError(f"--floor {floor}: a cosine (-1 to 1) was expected.")
    for flag, value in (("--top", top), ("--probes", probes)):
        if value is not None and value < 1:
            raise CurateError(f"{flag} {value}: at least 1 was expected.")
    if not index.is_prefix:
        found = _by_faiss(index, train, queries, floor=floor, top=top, probes=probes)
    elif probes is not None:
        raise CurateError(f"--probes {probes}: {index.root} is a prefix store, without lists.")
    else:
        found = _by_codes(index, train, queries, floor=floor, top=top)
    rank = np.arange(len(found.query)) - np.searchsorted(found.query, found.query) + 1
    unique, place = np.unique(found.item, return_inverse=True)
    ids = train.lookup(unique, pl.Schema({"id": pl.String}))["id"]
    named = pl.Series(names, dtype=pl.String).gather(found.query)
    columns = {
        "query": named, "rank": rank, "score": found.score, "id": ids.gather(place),
        "item": found.item,
    }  # fmt: skip
    return pl.DataFrame(columns).cast(FOUND)


def _by_faiss(
    index: Index,
    train: Embeddings,
    queries: Vectors,
    *,
    floor: float | None,
    top: int | None,
    probes: int | None,
) -> Pairs:
    loaded, parts = index.load(), train.view_parts()
    try:
        if floor is None:
            return faiss_index.top_k(loaded, queries, parts, top or 1, probes=probes)
        cap = top or train.count
        return faiss_index.search(loaded, queries, parts, floor, probes=probes, cap=cap)
    except ValueError as error:
        raise CurateError(f"{index.root}: {error}; build the index again.") from error


def _by_codes(
    index: Index, train: Embeddings, queries: Vectors, *, floor: float | None, top: int | None
) -> Pairs:
    items = prefix.coded_items(index, train)
    if floor is None:  # nothing can be ruled out
        return top_k(Stored([queries]), items.stored, top or 1)
    with prefix.damage_told(index):
        return exact.join(queries, items, floor, cap=top or train.count)


def slowed(index: Index, train: Embeddings, queries: Vectors, floor: float | None) -> str | None:
    """What a search is expected to take that asks a prefix store for less than it was made for."""
    if floor is None or not index.is_prefix:
        return None
    return prefix.slowed(index, prefix.coded_items(index, train), Stored([queries]), floor)


# --- what it is ----------------------------------------------------------------------------------


def describe(index: Index) -> dict[str, Any]:
    """What an index is and holds, for people and machines."""
    if index.is_prefix:
        return prefix.describe_prefix(index)
    loaded, config = index.load(), index.manifest.config
    trained = config["trained_on"]
    described: dict[str, Any] = {
        "kind": config["kind"],
        "reason": config["reason"],
        "vectors": loaded.ntotal,
        "width": loaded.d,
        "bytes": (index.root / INDEX_FILE).stat().st_size,
        "encoder": config["encoder"]["name"],
        "largest_error": noted_error(loaded),
    }
    if hasattr(loaded, "nlist"):
        lists = loaded.invlists
        sizes = np.sort([lists.list_size(number) for number in range(list_count(loaded))])
        described |= {
            "lists": int(loaded.nlist),
            "probes": index.probes,
            "list_sizes": {
                "min": int(sizes[0]), "median": float(np.median(sizes)), "max": int(sizes[-1]),
                "imbalance": float(lists.imbalance_factor()),
            },
            "trained_on": {"sample": trained["sample"], "vectors": trained["vectors"]},
            "added_since": loaded.ntotal - trained["vectors"],
        }  # fmt: skip
    report = read_recall(index.root)
    if report:
        described["recall"] = {"summary": summary(report), "points": table(report)}
    return described


# --- comparing it with its vectors ---------------------------------------------------------------


def check_index(
    index: Index, train: Embeddings, on_rows: Callable[[int], None] | None = None
) -> list[str]:
    """Compare every row of an index with its vector; returns a sentence per kind of difference.

    Raises:
        CurateError: the index cannot be opened or compared.
    """
    if index.is_prefix:
        altered = prefix.check_prefix(index, train, on_rows)
        return list(_sentences(faiss_check.Differences(altered=altered), train))
    stored = Stored(train.view_parts(), train.sizes)
    try:
        found = faiss_check.compare(index.load(), stored, on_rows)
    except ValueError as error:
        raise CurateError(f"{index.root}: {error}; build the index again.") from error
    return list(_sentences(found, train))


def _sentences(found: faiss_check.Differences, train: Embeddings) -> Iterator[str]:
    known = {"missing": "missing", "repeated": "more than once in it", "altered": "altered"}
    for name, words in known.items():
        items: Items = getattr(found, name)
        if items.count:
            shown = items.first[:_NAMED]
            ids = train.lookup(shown, pl.Schema({"id": pl.String}))["id"]
            named = (f"{id_} (item {item})" for id_, item in zip(ids, shown, strict=True))
            yield f"{items.count} {words}: {_listed(named, items)}"
    if found.unknown.count:
        numbers = (f"item {item}" for item in found.unknown.first[:_NAMED])
        yield f"{found.unknown.count} of no vector: {_listed(numbers, found.unknown)}"


def _listed(names: Iterator[str], items: Items) -> str:
    more = f" and {items.count - _NAMED} more" if items.count > _NAMED else ""
    return ", ".join(names) + more
