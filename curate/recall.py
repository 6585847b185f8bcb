"""The recall gate: an index may decide on a threshold only if it is shown to miss little there."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from curate.artifacts import FACTS
from curate.errors import CurateError, GateError
from curate.files import read_json, write_json
from curate.parts import Embeddings, check_encoders
from indices import recall
from indices.recall import Measurement, Point, Recall, Sample, Share
from indices.stored import Stored

RECALL_FILE = "recall.json"
_DIGITS = 4


@dataclass(frozen=True)
class RecallSettings:
    """What is measured, and what is asked for.

    Attributes:
        threshold: cosine at or above which a test item is overlap.
        min_recall: the 95% interval of the recall of test items must not begin below it.
        queries: the user's queries at most; all of them if there are fewer.
        planted: copies that are planted at cosines from the threshold to 1.
        seed: of the sample.
        probes: lists that a search visits; None looks for the fewest that pass.
    """

    threshold: float
    min_recall: float = 0.99
    queries: int = 1000
    planted: int = 1000
    seed: int = 0
    probes: int | None = None


@dataclass(frozen=True)
class RecallReport:
    """What `recall.json` says.

    Attributes:
        settings: what was asked for.
        index: its type in faiss.
        lists: of the index; 0 if it is not made of lists.
        exact: the index cannot miss; its interval only tells how large the sample was.
        train: id of the embeddings that the index holds.
        queries: id of the embeddings that the user's queries are from.
        needed: test items that could show `min_recall`, all found; None where it needs no showing.
        points: by rising number of lists.
        chosen: place in `points` of the one that passes; None: the gate failed.
    """

    settings: RecallSettings
    index: str
    lists: int
    exact: bool
    train: str
    queries: str | None
    needed: int | None
    points: tuple[Point, ...]
    chosen: int | None
    comparator: Literal[">="] = ">="
    interval: str = "Clopper-Pearson, two-sided, 95%; pairs: at the effective number of queries"
    format: Literal[1] = 1

    @property
    def passed(self) -> bool:
        """Whether the index may decide."""
        return self.chosen is not None

    @property
    def point(self) -> Point:
        """The point that was chosen, or the one that finds most."""
        return self.points[-1 if self.chosen is None else self.chosen]

    @property
    def probes(self) -> int | None:
        """Lists to visit; None where the index has no lists, or none of its numbers passes."""
        return None if self.chosen is None else self.point.probes


def check_recall(
    index: Any,
    train: Embeddings,
    queries: Embeddings | None,
    settings: RecallSettings,
    folder: Path,
    *,
    device: str = "cpu",
    on_part: Callable[[int], None] | None = None,
) -> RecallReport:
    """Measure an index, write `recall.json` into `folder` (seconds: into its facts), and judge.

    The user's queries are test items as they are, without their mirrored views.

    Args:
        index: the `faiss.Index`.
        train: what it was built from.
        queries: a test set that is searched for with it.
        settings: what is asked for.
        folder: gets the file, whether the index passes or not.
        device: where the exact join multiplies.
        on_part: called with the number of train vectors of each part that was joined.

    Returns:
        The report; its `probes` is what a search must visit.

    Raises:
        CurateError: the settings cannot be met by any index, or the vectors are others.
        GateError: it is not shown that the index misses little enough.
    """
    _check(settings, train, queries)
    is_exact = recall.is_exact(index)
    needed = None if is_exact else _needed(settings)
    sample = _draw(train, queries, settings)
    if needed is not None and len(sample.queries) < needed:
        raise CurateError(
            f"--min-recall {settings.min_recall}: {len(sample.queries)} queries cannot show it, "
            f"even if all are found; {needed} can. Plant more copies or give more queries."
        )
    measured = _measure(index, train, sample, settings, device=device, on_part=on_part)
    report = RecallReport(
        settings,
        type(index).__name__,
        recall.lists_of(index),
        is_exact,
        train.manifest.id,
        queries.manifest.id if queries else None,
        needed,
        measured.points,
        measured.chosen,
    )
    path = _write(report, measured, folder)
    if not report.passed:
        raise GateError(f"{_verdict(report)} All operating points: {path}")
    return report


@dataclass(frozen=True)
class Gate:
    """What an index has to pass before it is finished; goes with `curate.index.build_index`."""

    settings: RecallSettings
    train: Embeddings
    queries: Embeddings | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What the outcome depends on beside the index."""
        queries = self.queries.manifest.id if self.queries else None
        return {"recall": {**asdict(self.settings), "of": queries}}

    def measure(self, folder: Path, index: Any) -> None:
        """Write `recall.json` into the folder; raises what `check_recall` does."""
        check_recall(index, self.train, self.queries, self.settings, folder)


def _check(settings: RecallSettings, train: Embeddings, queries: Embeddings | None) -> None:
    if not -1 <= settings.threshold <= 1:
        raise CurateError(f"--threshold {settings.threshold}: a cosine (-1 to 1) was expected.")
    if not 0 < settings.min_recall <= 1:
        raise CurateError(f"--min-recall {settings.min_recall}: above 0, at most 1 was expected.")
    if settings.probes is not None and settings.probes < 1:
        raise CurateError(f"--probes {settings.probes}: at least 1 was expected.")
    if queries is not None:
        check_encoders(queries, train)


def _needed(settings: RecallSettings) -> int:
    if settings.min_recall == 1:
        raise CurateError(
            "--min-recall 1: no sample can show it. Join exactly (--search exact), "
            "build a flat index, or ask for less."
        )
    return recall.queries_needed(settings.min_recall)


def _draw(train: Embeddings, queries: Embeddings | None, settings: RecallSettings) -> Sample:
    try:
        return recall.draw(
            _stored(train),
            _stored(queries) if queries else None,
            settings.threshold,
            own=settings.queries,
            planted=settings.planted,
            seed=settings.seed,
        )
    except ValueError as error:
        raise CurateError(f"{train.place}: its index cannot be measured ({error}).") from error


def _stored(side: Embeddings) -> Stored:
    return Stored(side.view_parts(), side.sizes)


def _measure(
    index: Any,
    train: Embeddings,
    sample: Sample,
    settings: RecallSettings,
    *,
    device: str,
    on_part: Callable[[int], None] | None,
) -> Measurement:
    try:
        return recall.measure(
            index,
            train.view_parts(),
            sample,
            settings.threshold,
            settings.min_recall,
            probes=settings.probes,
            device=device,
            on_part=on_part,
        )
    except ValueError as error:
        raise CurateError(f"The index of {train.place}: {error}; build it again.") from error


def _write(report: RecallReport, measured: Measurement, folder: Path) -> Path:
    seconds = [
        {"probes": point.probes, "seconds": seconds}
        for point, seconds in zip(measured.points, measured.seconds, strict=True)
    ]
    facts = {"points": seconds, "exact_join": measured.seconds_exact}
    write_json(folder / FACTS / RECALL_FILE, facts)
    write_json(folder / RECALL_FILE, asdict(report))
    return folder / RECALL_FILE


def _verdict(report: RecallReport) -> str:
    """Why the gate failed, and what helps."""
    asked, items = report.settings.min_recall, report.point.together.items
    if report.needed is not None and items.total < report.needed:
        return (
            f"{summary(report)}: too few test items to show --min-recall {asked}, which takes "
            f"{report.needed}, all found. Plant more copies or give more queries."
        )
    if report.exact:
        reason = "A flat index cannot miss, so it holds other vectors; build it again."
    elif report.lists and report.settings.probes is not None and report.point.visited < 1:
        reason = "Visit more lists (leave --probes away), or join exactly (--search exact)."
    else:
        reason = (
            "Visiting all of it does not help: it holds vectors too coarsely for this threshold. "
            "Build it with --kind ivf or flat, or join exactly (--search exact)."
        )
    return f"{summary(report)}: the interval begins below --min-recall {asked}. {reason}"


def read_recall(folder: Path) -> RecallReport | None:
    """What was measured of the index in a folder; None if nothing was.

    Raises:
        CurateError: the file is damaged.
    """
    path = folder / RECALL_FILE
    if not path.exists():
        return None
    try:
        report = TypeAdapter(RecallReport).validate_python(read_json(path))
    except ValidationError as error:
        raise CurateError(f"{path}: not a measured recall; measure it again.") from error
    if not report.points or report.chosen not in (None, *range(len(report.points))):
        raise CurateError(f"{path}: names no operating point; measure it again.")
    return report


# --- words -------------------------------------------------------------------------------------


def summary(report: RecallReport) -> str:
    """One sentence without its full stop: the recall of test items, its interval, and the cost."""
    point = report.point
    lists = f", visiting {point.probes} of {report.lists} lists" if report.lists else ""
    return (
        f"Recall of test items at >= {report.settings.threshold} is "
        f"{_share(point.together.items)}, {_found(point.together.items)} found{lists} "
        f"({point.visited:.2%} of the vectors)"
    )


def table(report: RecallReport) -> list[dict[str, str]]:
    """The operating points as rows of text, for the terminal and the report; keys are titles."""
    return [_row(point, is_chosen=n == report.chosen) for n, point in enumerate(report.points)]


def _row(point: Point, *, is_chosen: bool) -> dict[str, str]:
    def of(part: Recall) -> str:
        return _found(part.items)

    return {
        "lists": "all" if point.probes is None else str(point.probes),
        "vectors visited": f"{point.visited:.2%}",
        "recall of test items": _share(point.together.items),
        "found": of(point.together),
        "your queries": of(point.queries),
        "planted": of(point.planted),
        "recall of pairs": _share(point.together.pairs),
        "": "chosen" if is_chosen else "",
    }


def _found(share: Share) -> str:
    return f"{share.found} of {share.total}"


def _share(share: Share) -> str:
    """Rounded so that nothing is flattered: only what is whole reads as 1."""
    if not share.total:
        return "unknown"
    scale = 10**_DIGITS
    low, high = math.floor(share.low * scale) / scale, math.ceil(share.high * scale) / scale
    middle = share.found * scale // share.total / scale
    return f"{middle:.{_DIGITS}f} (95%: {low:.{_DIGITS}f} to {high:.{_DIGITS}f})"
