"""One reviewer at work on one run: what the page asks, and what it is told."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from curate import labels as words
from curate.errors import CurateError
from curate.labels import LABELS, LabelFile
from curate.lookup import Samples
from curate.review import progress
from curate.review.pictures import IDENTITY, SIDES, Picture, PictureError, Pictures, Side, Size
from curate.review.queue import BANDS, PLAN, arrange, read_pairs
from curate.shards import Dataset

MOST = 200
"""Pairs that one answer lists at most."""
_COPY: Final = {True: progress.COPY, False: progress.NO_COPY, None: progress.OPEN}


@dataclass(frozen=True)
class ReviewInputs:
    """What is judged, and by whom.

    Attributes:
        run: the run's folder, which gets the labels.
        pairs: its `pairs.parquet`.
        test: the images of each side, or in a few words why there are none.
        train: likewise.
        names: of both sets.
        threshold: lowest score of a match.
        floor: lowest score that was stored.
        reviewer: whose labels are written.
        seed: of the order.
        plan: test_id and train_id of pairs that were drawn to be judged, in their order; None: none
            were.
    """

    run: Path
    pairs: Path
    test: Dataset | str
    train: Dataset | str
    names: dict[Side, str]
    threshold: float
    floor: float
    reviewer: str
    seed: int = 0
    plan: pl.DataFrame | None = None


class Session:
    """The pairs in their order, the labels of all reviewers, and the images.

    All but `picture` and `details` is for one thread.

    Raises:
        CurateError: another process writes as this reviewer, or pairs or labels are damaged.
    """

    def __init__(self, inputs: ReviewInputs) -> None:
        self.inputs = inputs
        self._file = LabelFile(words.labels_path(inputs.run, inputs.reviewer))
        try:
            self._pairs = read_pairs(inputs.pairs)
            self._queue = arrange(
                self._pairs, inputs.threshold, inputs.floor, inputs.seed, inputs.plan
            )
            self._others = _Others(inputs.run / words.FOLDER, self._file.path)
            self._load()
        except BaseException:
            self._file.close()
            raise
        sides: dict[Side, Dataset | str] = {"test": inputs.test, "train": inputs.train}
        self._pictures = Pictures(
            {name: s if isinstance(s, str) else Samples(s) for name, s in sides.items()}
        )

    @property
    def labels(self) -> Path:
        """Where this reviewer's labels are."""
        return self._file.path

    def close(self) -> None:
        """Let another process write as this reviewer."""
        self._file.close()

    # --- what was said --------------------------------------------------------------------------

    def _load(self) -> None:
        """Read what everybody has said so far."""
        count = len(self._pairs)
        self._said: dict[int, dict[str, str]] = {}
        self._verdict = np.full(count, progress.UNJUDGED, np.int8)
        self._mine = np.zeros(count, bool)
        self._past: list[tuple[int, str | None]] = []
        own = list(words.read_lines(self._file.path))
        pairs = pl.DataFrame(
            [(record["test_id"], record["train_id"]) for record in own],
            schema={"test_id": pl.String, "train_id": pl.String},
            orient="row",
        )
        for row, record in zip(self._pairs.rows_of(pairs), own, strict=True):
            if row >= 0:  # a pair that another search no longer finds is kept, not shown
                self._remember(int(row), record["label"])
        self._hear()

    def _remember(self, row: int, label: str | None) -> None:
        """Take in a word of this reviewer; one that takes the last one back leaves no trace."""
        before = self._said.get(row, {}).get(self.inputs.reviewer)
        if self._past and self._past[-1] == (row, label):
            self._past.pop()
        elif label != before:
            self._past.append((row, before))
        self._set(row, self.inputs.reviewer, label)

    def _set(self, row: int, reviewer: str, label: str | None) -> None:
        said = self._said.setdefault(row, {})
        said.pop(reviewer, None)
        if label is not None:
            said[reviewer] = label
        if reviewer == self.inputs.reviewer:
            self._mine[row] = label is not None
        self._verdict[row] = _verdict(said.values())

    def _hear(self) -> None:
        """Take in what others have said since."""
        for reviewer, frame in self._others.changed():
            for row in [row for row, said in self._said.items() if reviewer in said]:
                self._set(row, reviewer, None)
            for row, label in zip(self._pairs.rows_of(frame), frame["label"], strict=True):
                if row >= 0:
                    self._set(int(row), reviewer, label)

    def label(self, row: int, label: str | None) -> None:
        """Keep this reviewer's word on a pair; it is on the disk when this returns.

        Raises:
            CurateError: it is no label, there is no such pair, or the disk is full.
        """
        if label not in (*LABELS, None):
            raise CurateError(f"label {label!r}: one of {', '.join(LABELS)} or null was expected.")
        self._check(row)
        names = self._pairs.names.row(row, named=True)
        digests = self._pairs.digests(row)
        self._file.append({
            "test_id": names["test_id"], "train_id": names["train_id"], "label": label,
            "reviewer": self.inputs.reviewer, "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "score": _plain(self._pairs.score[row]),
            "test_sha256": digests[0], "train_sha256": digests[1],
        })  # fmt: skip
        self._remember(row, label)

    def undo(self) -> int | None:
        """Take this reviewer's last word back; returns its pair, None where nothing was said."""
        if not self._past:
            return None
        row, before = self._past[-1]
        self.label(row, before)
        return row

    # --- what the page shows --------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The run, the progress by band, and how far reviewers agree."""
        self._hear()
        bands = progress.band_progress(self._pairs, self._queue, self._verdict, self._mine)
        ranges = self._queue.bands
        return {
            "names": self.inputs.names,
            "threshold": self.inputs.threshold,
            "floor": self.inputs.floor,
            "reviewer": self.inputs.reviewer,
            "pairs": len(self._pairs),
            "mine": int(self._mine.sum()),
            "can_undo": bool(self._past),
            "plan": self._plan(),
            "bands": [
                {**band, "low": ranges[band["name"]].low, "high": ranges[band["name"]].high}
                for band in progress.as_json(bands)
            ],
            "removed": vars(progress.removed(bands)),
            "reviewers": self._reviewers(),
            "agreement": self._agreement(),
            "problems": list(self._others.problems.values()),
        }

    def _plan(self) -> dict[str, int] | None:
        """How many pairs were drawn, and how many of them this reviewer has judged."""
        rows = self._queue.orders.get(PLAN)
        return None if rows is None else {"pairs": len(rows), "mine": int(self._mine[rows].sum())}

    def _reviewers(self) -> list[dict[str, Any]]:
        counts = Counter(name for said in self._said.values() for name in said)
        counts.setdefault(self.inputs.reviewer, 0)
        return [{"name": name, "labels": counts[name]} for name in sorted(counts)]

    def _agreement(self) -> dict[str, Any]:
        """How far those agree who have judged the same pairs."""
        several = {row: said for row, said in self._said.items() if len(said) > 1}
        rows = [
            (str(row), "", name, label)
            for row, said in several.items()
            for name, label in said.items()
        ]
        found = words.agreement(pl.DataFrame(rows, schema=words.LABEL_TABLE, orient="row"))
        between = [vars(entry) for entry in found.between]
        return {**vars(found), "between": between}

    def page(self, band: str, offset: int, limit: int) -> dict[str, Any]:
        """A stretch of a band's order.

        Raises:
            CurateError: there is no such band, or the numbers are out of bounds.
        """
        order = self._order(band)
        if not (0 <= offset <= len(order) and 0 < limit <= MOST):
            raise CurateError(f"offset {offset}, limit {limit}: out of bounds.")
        rows = order[offset : offset + limit].tolist()
        pairs = [self.pair(row) for row in rows]
        return {"band": band, "offset": offset, "total": len(order), "pairs": pairs}

    def place(self, band: str, row: int) -> int | None:
        """Where a pair stands in a band's order; None where it is in another band."""
        found = np.flatnonzero(self._order(band) == row)
        return int(found[0]) if len(found) else None

    def next(self, band: str, start: int) -> int | None:
        """The first place from `start` on, then from the front, that this reviewer has not judged.

        Raises:
            CurateError: there is no such band.
        """
        order = self._order(band)
        waiting = ~self._mine[order]
        start = min(max(start, 0), len(order))
        for first, last in ((start, len(order)), (0, start)):
            if waiting[first:last].any():
                return first + int(waiting[first:last].argmax())
        return None

    def pair(self, row: int) -> dict[str, Any]:
        """What the tables know of a pair; what others say only where this reviewer has judged it.

        Raises:
            CurateError: there is no such pair.
        """
        self._check(row)
        names = self._pairs.names.row(row, named=True)
        said = self._said.get(row, {})
        others = {name: label for name, label in said.items() if name != self.inputs.reviewer}
        mine = said.get(self.inputs.reviewer)
        cosine = self._pairs.cosine[row]
        return {
            **names,
            "pair": row,
            "score": _plain(self._pairs.score[row]),
            "cosine": None if np.isnan(cosine) else _plain(cosine),
            "band": BANDS[self._queue.band[row]],
            "best": bool(self._pairs.is_best[row]),
            "mine": mine,
            "judged_by": len(others),
            "others": others if mine else {},
        }

    def details(self, row: int) -> dict[str, Any]:
        """What the images of a pair say of themselves; may run in any thread.

        Raises:
            CurateError: there is no such pair.
        """
        self._check(row)
        digests = dict(zip(SIDES, self._pairs.digests(row), strict=True))
        return {side: self._about(row, side, digests[side]) for side in SIDES}

    def _about(self, row: int, side: Side, digest: str) -> dict[str, Any]:
        try:
            picture = self._pictures.get(side, self._id(row, side))
        except PictureError as error:
            return {"problem": str(error)}
        names = ("width", "height", "stored", "label", "caption")
        changed = bool(digest) and digest != picture.sha256
        return {**{name: getattr(picture, name) for name in names}, "changed": changed}

    def picture(self, row: int, side: Side, size: Size, *, matched: bool) -> Picture:
        """An image of a pair; may run in any thread.

        Args:
            row: the pair.
            side: which image.
            size: how large.
            matched: the test image under the view that the pair was found by.

        Raises:
            PictureError: there is nothing to show.
            CurateError: there is no such pair.
        """
        self._check(row)
        view = self._pairs.names["view"][row] if matched and side == "test" else None
        return self._pictures.get(side, self._id(row, side), view or IDENTITY, size)

    def _id(self, row: int, side: Side) -> str:
        return str(self._pairs.names[f"{side}_id"][row])

    def _check(self, row: int) -> None:
        if not 0 <= row < len(self._pairs):
            raise CurateError(f"pair {row}: there are {len(self._pairs)}.")

    def _order(self, band: str) -> np.ndarray[Any, np.dtype[np.int32]]:
        orders = self._queue.orders
        if band not in orders:
            raise CurateError(f"band {band!r}: one of {', '.join(orders)} was expected.")
        return orders[band]


def _plain(value: np.float32) -> float:
    """A float32 as people write it: 0.93, not 0.9300000071525574."""
    return float(str(value))


def _verdict(labels: Iterable[str]) -> int:
    """What several reviewers together say, by the rule of `curate.labels.judged`."""
    said = [words.COPY[label] for label in labels]
    if not said:
        return progress.UNJUDGED
    yes, no = said.count(True), said.count(False)
    return _COPY[None if yes == no else yes > no]


@dataclass
class _Others:
    """The files of other reviewers, of which servers of their own may write any at any time.

    Attributes:
        problems: what is damaged, by file.
    """

    folder: Path
    own: Path
    problems: dict[Path, str] = field(default_factory=dict)
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def changed(self) -> list[tuple[str, pl.DataFrame]]:
        """Reviewer and last words of each file that is not as it was."""
        found = []
        paths = [p for p in sorted(self.folder.glob("[!.]*.jsonl")) if p != self.own]
        self.problems = {path: self.problems[path] for path in paths if path in self.problems}
        for path in paths:
            with suppress(FileNotFoundError):
                stat = path.stat()
                if self._seen.get(path) != (stat.st_size, stat.st_mtime_ns):
                    self._seen[path] = (stat.st_size, stat.st_mtime_ns)
                    found += self._read(path)
        return found

    def _read(self, path: Path) -> list[tuple[str, pl.DataFrame]]:
        self.problems.pop(path, None)
        try:
            return [(path.stem, words.read_labels(path))]
        except CurateError as error:  # what others damage must not stop this reviewer
            self.problems[path] = str(error)
            return []
