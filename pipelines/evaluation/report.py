"""`curate eval report`: what is in a folder of results, as one page."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from curate.artifacts import library_versions, read_manifest
from curate.errors import CurateError
from curate.files import read_json
from curate.splits import SPLIT_FILE, read_decisions
from eval.figures.effective import read_baselines
from eval.report.inputs import Example, Inputs, Shift, Split
from eval.report.page import build_report
from eval.report.plots import write_plots
from eval.results import read_results
from pipelines.evaluation.run import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from eval.figures.effective import Baseline
    from eval.results import Result

WORDS = {
    "val": "imagenet",
    "val-on-imagenet-a-classes": "imagenet.a-classes",
    "val-on-imagenet-r-classes": "imagenet.r-classes",
    "val-on-objectnet-classes": "imagenet.objectnet-classes",
    "val-on-vid-robust-classes": "imagenet.vid-classes",
    "imagenetv2-matched-frequency-format-val": "imagenetv2.matched-frequency",
    "objectnet-1.0-beta": "objectnet",
    "imagenet-vid-robust_pm0": "imagenet-vid-robust.pm0",
    "imagenet-vid-robust_pm10": "imagenet-vid-robust.pm10",
    "ytbb-robust_pm0": "ytbb-robust.pm0",
    "ytbb-robust_pm10": "ytbb-robust.pm10",
    "stylized_imagenet": "stylized-imagenet",
}
"""Settings by the names of the testbed's columns; other names are settings themselves."""
_EACH = 1


def write_eval_report(
    root: Path,
    splits: Mapping[str, Path],
    baselines: Path | None = None,
    *,
    figures: bool = False,
    out: Path | None = None,
    only: Sequence[Path] | None = None,
) -> Path:
    """Write `index.html` and `report.json`; returns the page.

    Args:
        root: results of any models, in folders below.
        splits: by data set, the split of `curate dedup` that it was evaluated with.
        baselines: that `curate eval fit` wrote; None: those of the testbed.
        figures: also write each figure as SVG and PNG, into the folder `figures` beside the page.
        out: the folder to write; None: `root/report`.
        only: the folders of the results that are meant; None: all below `root`.

    Raises:
        CurateError: there are no results, or they do not go together.
    """
    results = read_results(root, only)
    inputs = Inputs(
        results=results,
        splits={name: _split(folder) for name, folder in splits.items()},
        shifts=_shifts(results, read_baselines(baselines)),
        examples=tuple(_examples(root, results, only)),
        versions=library_versions(),
    )
    folder = out or root / "report"
    build_report(inputs, folder)
    if figures:
        write_plots(inputs, folder / "figures")
    return folder / "index.html"


def _split(folder: Path) -> Split:
    facts = read_json(folder / SPLIT_FILE)
    read_manifest(folder)  # whole, and not altered
    try:
        return Split(read_decisions(folder), float(facts["threshold"]), float(facts["floor"]))
    except KeyError as error:
        raise CurateError(f"{folder / SPLIT_FILE}: {error} is missing in it.") from error


def _shifts(results: Sequence[Result], baselines: Sequence[Baseline]) -> tuple[Shift, ...]:
    """Pairs of settings that were both measured and have a baseline, the first of two for one y."""
    measured = {str(result.setting) for result in results}
    found: dict[str, Shift] = {}
    for baseline in baselines:
        x, y = (WORDS.get(name, name) for name in (baseline.x, baseline.y))
        if x in measured and y in measured:
            found.setdefault(y, Shift(x, y, baseline))
    return tuple(found.values())


def _examples(
    root: Path, results: Sequence[Result], only: Sequence[Path] | None
) -> Iterator[Example]:
    """Some images that each attack changed."""
    found = {path.parent for path in root.rglob(EXAMPLES)}
    folders = sorted(one for one in found if only is None or one in only)
    for result, folder in product(results, folders):
        if folder.name == str(result.setting) and _is_of(folder, result):
            yield from _stored(folder, result)


def _is_of(folder: Path, result: Result) -> bool:
    return str(read_manifest(folder).config["model"]["name"]) == result.model


def _stored(folder: Path, result: Result) -> Iterator[Example]:
    rows = {row["id"]: row for row in result.samples.iter_rows(named=True)}
    with np.load(folder / EXAMPLES, allow_pickle=False) as stored:
        ids, clean, attacked = (stored[name][:_EACH] for name in ("ids", "clean", "attacked"))
    names = result.facts["setting"]["labels"]
    for id_, before, after in zip(ids.tolist(), clean, attacked, strict=True):
        row = rows[id_]
        yield Example(
            model=result.model,
            setting=str(result.setting),
            id=id_,
            label=names[row["label"]],
            before=names[row["clean_pred"]],
            after=names[row["pred"]],
            clean=(before.transpose(1, 2, 0) / 255).astype(np.float32),
            attacked=np.clip(after.transpose(1, 2, 0), 0, 1).astype(np.float32),
        )
