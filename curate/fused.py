"""Embedding and joining in one pass: a train set that is read once needs no vectors on disk.

A shard is embedded as always (`curate.embed`) and joined with the test vectors while its own are
in memory. Its part keeps the tables and the pairs; the pairs of all parts then become the matches,
byte for byte those of a join of stored vectors.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate import artifacts, matches, parts, tables
from curate.artifacts import MANIFEST
from curate.embed import Embedded, EmbedSettings
from curate.errors import CurateError
from curate.matches import Matches, MatchSettings, Resources
from curate.normalisation import Normalisation
from curate.parts import Embeddings
from indices import exact
from indices.pairs import PairCollector, Pairs
from indices.planning import Plan, plan_join
from indices.stored import Stored, Vectors

_REASONS = {"floor": "the floor", "cap": "the cap", "test": "the test set or its embeddings"}


@dataclass(frozen=True)
class Join:
    """Joins the vectors of a part with a test set, and keeps the pairs in their place.

    Attributes:
        root: the test set's embeddings folder.
        test: id of its manifest.
        views: of the test set.
        count: its vectors per view.
        floor: lowest score that is stored.
        cap: pairs stored per test item, view and part.
        memory: bytes for the test vectors, in each worker.
        plan: how the join is searched; no result depends on it.
        plan_digest: stands for the plan where joins are compared.
    """

    root: str
    test: str
    views: tuple[str, ...]
    count: int
    floor: float
    cap: int
    memory: int
    plan: Plan = field(compare=False)
    plan_digest: str

    def config(self) -> dict[str, Any]:
        """What else the bytes of the artifact depend on."""
        return {"kept": False, "join": {"test": self.test, "floor": self.floor, "cap": self.cap}}

    def write(self, root: Path, part: int, embedded: Embedded) -> list[dict[str, Any]]:
        """Write the tables of a part, and its pairs in the place of its vectors."""
        path = pairs_path(root, part)
        found = self.find(embedded.vectors[parts.IMAGES])
        tables.write_table(path, _table(found), tables.FOUND)
        others = parts.write_part(root, part, {}, embedded.metadata, embedded.status)
        return [artifacts.output_entry(root, path), *others]

    def find(self, vectors: Vectors) -> dict[str, Pairs]:
        """All pairs of the test set with these vectors (n, d), by view."""
        found: dict[str, list[Pairs]] = {view: [] for view in self.views}
        items = Stored([vectors])
        for view, queries in self._queries():
            found[view].append(queries.join(items))
        return {view: Pairs.together(blocks) for view, blocks in found.items()}

    def _queries(self) -> "list[_Block] | Iterator[_Block]":
        """The test vectors: prepared once per process if they fit, else one block at a time."""
        together = exact.queries_at_a_time(self.plan.sketcher, self.memory)
        return _held(self) if self.count * len(self.views) <= together else _blocks(self)


_Block = tuple[str, exact.Queries]


def _blocks(join: Join) -> Iterator[_Block]:
    test = parts.open_embeddings(Path(join.root))
    if test.manifest.id != join.test:
        raise CurateError(
            f"{join.root}: changed since the run began; start it again when it stays as it is."
        )
    plan = join.plan.for_this_machine()
    step = exact.queries_at_a_time(plan.sketcher, join.memory)
    for view in join.views:
        rows = matches.stored(test, view)
        for at in range(0, join.count, step):
            block = exact.rows_of(rows, at, min(at + step, join.count))
            yield view, exact.Queries(block, join.floor, plan, join.cap)


@lru_cache(maxsize=1)
def _held(join: Join) -> list[_Block]:
    return list(_blocks(join))


def join_with(
    test: Embeddings,
    embedding: EmbedSettings,
    settings: MatchSettings,
    resources: Resources,
    normalisation: Normalisation | None = None,
) -> Join:
    """How a train set that is embedded so is joined with a test set.

    The plan is chosen from the test set on both sides, as no train vector is known yet. That an
    item meets itself there costs all plans the same.

    Raises:
        CurateError: the test set was embedded by another encoder, or a vector of it is zero or not
            finite.
    """
    ours = test.manifest.config["encoder"]
    if ours != embedding.config()["encoder"]:
        raise CurateError(
            f"{test.root}: embedded by another version of {ours['name']} than the one at hand; "
            "embed it again."
        )
    views = tuple(test.manifest.config["views"])
    sides = [matches.checked(test, view) for view in views]
    asked, _ = matches.to_search(settings, normalisation, sides, resources)
    plan = plan_join(sides[0], sides[0], asked.floor, resources.device)
    return Join(
        str(test.root), test.manifest.id, views, test.count, asked.floor, asked.cap,
        resources.memory, plan, _digest(plan),
    )  # fmt: skip


def _digest(plan: Plan) -> str:
    sketcher = plan.sketcher
    hashed = hashlib.sha256(f"{sketcher.dim} {sketcher.precision} {plan.device}".encode())
    if sketcher.basis is not None:
        hashed.update(np.ascontiguousarray(sketcher.basis).tobytes())
    return hashed.hexdigest()


def what_changed(out: Path, join: Join) -> str | None:
    """Why the train set in the folder `out` has to be embedded again, in words, if it has."""
    if not (out / MANIFEST).is_file():
        return None
    before, now = (config.get("join", {}) for config in (_config(out), join.config()))
    changed = [word for name, word in _REASONS.items() if before.get(name) != now[name]]
    return f"again, as {' and '.join(changed)} changed" if changed else None


def _config(out: Path) -> dict[str, Any]:
    return artifacts.read_manifest(out).config


def pairs_path(root: Path, part: int) -> Path:
    """Where the pairs of a part are."""
    return root / "pairs" / f"pairs_{part:06d}.parquet"


def _table(found: dict[str, Pairs]) -> pl.DataFrame:
    frames = [
        pl.DataFrame({
            "query": pairs.query, "row": pairs.item, "score": pairs.score,
            "pairs": pairs.count[pairs.query],
        }).with_columns(view=pl.lit(view))
        for view, pairs in found.items()
    ]  # fmt: skip
    return pl.concat(frames)


# --- the pairs of all parts ----------------------------------------------------------------------


def merge(
    test: Embeddings,
    train: Embeddings,
    settings: MatchSettings,
    out: Path,
    *,
    normalisation: Normalisation | None = None,
    resources: Resources | None = None,
    on_part: Callable[[int], None] | None = None,
) -> Matches:
    """Make matches, in the folder `out`, of the pairs that stand beside the parts of a train set.

    Args:
        test: the set that is cleaned.
        train: the set it is cleaned of, embedded into a `Join` with `test`.
        settings: floor and limits of that join.
        out: the artifact's folder.
        normalisation: of the scores, as in that join.
        resources: of the normalisation.
        on_part: called with the number of train vectors of each part that is done.

    Raises:
        CurateError: a part's pairs are damaged.
    """
    manifest = matches.describe(test, train, settings, normalisation=normalisation)
    if artifacts.finished(out, manifest.key):
        return matches.open_matches(out)
    views = test.manifest.config["views"]
    queries = [matches.stored(test, view) for view in views]
    asked, terms = matches.to_search(settings, normalisation, queries, resources or Resources())
    collectors = {view: PairCollector(test.count, asked.cap) for view in views}
    start = 0
    for part, size in enumerate(train.sizes):
        found = _read(train, part, test.count)
        for view, collector in collectors.items():
            _collect(collector, found.filter(view=view), start)
        start += size
        if on_part:
            on_part(size)
    results = [collector.finish() for collector in collectors.values()]
    whole = list(zip(views, matches.after_search(results, terms, settings), strict=True))
    return matches.write_matches(whole, test, train, settings, manifest=manifest, out=out)


def _read(train: Embeddings, part: int, queries: int) -> pl.DataFrame:
    path = pairs_path(train.root, part)
    found = tables.read_table(path, tables.FOUND)
    fits = pl.col("query").is_between(0, queries - 1) & pl.col("row").is_between(
        0, train.sizes[part] - 1
    )
    if not found.select(fits.all()).item():
        raise CurateError(f"{path}: names vectors that there are not; remove {train.root}.")
    return found


def _collect(collector: PairCollector, found: pl.DataFrame, start: int) -> None:
    """Take the pairs of a part whose first vector has the number `start`."""
    query, item = found["query"].to_numpy(), found["row"].to_numpy() + start
    score = found["score"].to_numpy()
    collector.add(query, item, score)
    collector.offer_nearest(query, item, score)
    more = found.group_by("query").agg(more=pl.col("pairs").first() - pl.len().cast(pl.Int64))
    collector.add_count(more["query"].to_numpy(), more["more"].to_numpy())
