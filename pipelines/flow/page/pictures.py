"""Pictures on the last page of a flow: pairs that were found, and what models were measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.errors import CurateError
from curate.images import ImageError, decode
from curate.report import gallery
from curate.report.thumbnails import thumbnails
from eval.datasets.registry import open_evalset
from pipelines.flow.task import specs_of
from pipelines.report import report_inputs

if TYPE_CHECKING:
    from curate.report.gallery import Pair
    from curate.report.thumbnails import Thumbnail
    from eval.datasets.evalset import EvalSet
    from pipelines.flow.steps import Step
    from pipelines.flow.task import Task

_PAIRS = 8
_CLASSES = 8
_TRIES = 5
_BUDGET = 400_000


@dataclass(frozen=True)
class Found:
    """Some pairs of a run of `curate dedup`.

    Attributes:
        name: of the run.
        href: its report, from the folder of this one.
        total: how many images have a near-duplicate.
        pairs: some of them, each with the two pictures.
    """

    name: str
    href: str
    total: int
    pairs: tuple[tuple[Pair, Thumbnail, Thumbnail], ...]


@dataclass(frozen=True)
class Strip:
    """Some pictures of a set, one of a class, classes in the same order in all strips.

    Attributes:
        name: of the set.
        pictures: class and picture; None: none of that class could be read.
    """

    name: str
    pictures: tuple[tuple[str, Thumbnail | None], ...]


def pairs_of(task: Task, page: Step) -> Found:
    """What a run found, the best pairs and some of the others."""
    run = (task.run / page.out).parent
    inputs = report_inputs(run)
    removed = gallery.removed(inputs, _PAIRS)
    ids = {
        "test": [pair.test.id for pair in removed.pairs],
        "train": [pair.train.id for pair in removed.pairs],
    }
    images = {
        (side, id_): data
        for side in ("test", "train")
        if ids[side]
        for id_, data in inputs.load_images(side, ids[side]).items()
    }
    keys = [(side, id_) for side in ("test", "train") for id_ in ids[side]]
    tiles = thumbnails(keys, images, _BUDGET)
    pairs = tuple(
        (pair, tiles["test", pair.test.id], tiles["train", pair.train.id]) for pair in removed.pairs
    )
    name = page.name.removeprefix("page/")
    return Found(name, f"../{page.out}/index.html", removed.total, pairs)


def strips_of(task: Task) -> tuple[Strip, ...]:
    """What models were measured on; sets that share no class with the first are left out."""
    measured = {
        name: given
        for step in task.steps.values() if step.kind == "eval"
        for name, given in step.config["data"].items()
    }  # fmt: skip
    opened = {
        name: found for name, given in measured.items() if (found := _opened(task, name, given))
    }
    if not opened:
        return ()
    classes = _spread(next(iter(opened.values())).classes)
    strips = (Strip(name, _pictures(subject, classes)) for name, subject in opened.items())
    return tuple(strip for strip in strips if any(tile for _, tile in strip.pictures))


def _opened(task: Task, name: str, given: str) -> EvalSet | None:
    """A set that was measured; None: it cannot be seen now, or is no single folder."""
    try:
        return open_evalset(name, *specs_of(task.flow, task.run, given)[:1])
    except CurateError:
        return None


def _spread(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Some classes, even over all of them."""
    count = min(_CLASSES, len(classes))
    return tuple(classes[len(classes) * at // count] for at in range(count))


def _pictures(
    subject: EvalSet, classes: tuple[str, ...]
) -> tuple[tuple[str, Thumbnail | None], ...]:
    images = {name: data for name in classes if (data := _first(subject, name))}
    tiles = thumbnails(list(images), images, _BUDGET)
    return tuple((name, tiles.get(name)) for name in classes)


def _first(subject: EvalSet, name: str) -> bytes | None:
    """The first image of a class that can be decoded, as it is stored."""
    if name not in subject.classes:
        return None
    items = subject.items
    of_class = items["id"].filter(items["label"] == subject.classes.index(name))
    for id_ in of_class.head(_TRIES):
        try:
            data = subject.read(id_)
            decode(data)
        except (CurateError, ImageError):
            continue
        return data
    return None
