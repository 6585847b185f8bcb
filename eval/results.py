"""The folder of a setting, `eval/<model>/<setting>/`: its rows, and what is said of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from curate import files
from curate.errors import CurateError
from eval.figures import metrics
from eval.records import PARTS, part, read_samples, write_samples
from eval.settings import Aim, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import polars as pl

    from eval.figures.rates import Number, Rate

FORMAT = 1
ROWS = "samples.parquet"
SUMMARY = "summary.json"
WORST = "pm10"
"""The variant of a video set in which an anchor counts with its neighbours."""


@dataclass(frozen=True)
class Result:
    """A model on a setting.

    Attributes:
        model: its name.
        setting: what was measured.
        facts: all that gives the figures their identity. `norm` is that of an attack. What must be
            the same wherever figures of this setting stand side by side is in `setting` (parameters
            of the attack, resolution, digests of images, class names and split, seed), and what
            must be the same wherever they are of this model is in `model` (digest of weights).
        samples: rows of `eval.records.SAMPLES`.
    """

    model: str
    setting: Setting
    facts: Mapping[str, Any]
    samples: pl.DataFrame = field(repr=False)

    @property
    def norm(self) -> str:
        """In which the attack is bounded: linf or l2."""
        return str(self.facts.get("norm", "linf"))


def summarise(result: Result) -> dict[str, Any]:
    """What is said of a setting: its figures on each split that it has, and what it was."""
    samples = judged(result.setting, result.samples)
    splits = ["full"]
    if result.setting.split is None and not samples["split"].null_count():
        splits += [name for name in PARTS[1:] if _has(samples, name)]
    rows = {name: part(samples, name) for name in PARTS if name in splits}
    return {
        "format": FORMAT,
        "model": result.model,
        "word": str(result.setting),
        "setting": asdict(result.setting),
        "facts": dict(result.facts),
        "numbers": {name: numbers(frame, result.setting) for name, frame in rows.items()},
    }


def judged(setting: Setting, samples: pl.DataFrame) -> pl.DataFrame:
    """The rows that figures are of: of `pm10` one for each anchor, the worst of its frames."""
    is_grouped = setting.variant == WORST and not samples["group"].null_count()
    return metrics.worst_of_groups(samples) if is_grouped else samples


def numbers(samples: pl.DataFrame, setting: Setting) -> dict[str, Any]:
    """Every figure that the rows of a setting give, as JSON; what does not apply is left out."""
    found: dict[str, Any] = {
        "accuracy": _rate(metrics.accuracy(samples)),
        "mean_per_class_recall": _number(metrics.mean_per_class_recall(samples)),
    }
    if not samples.height:
        return found
    if not samples["clean_pred"].null_count():
        found["attack_success"] = _rate(metrics.attack_success(samples))
        if setting.attack is not None and metrics.finds_least(setting.attack.name):
            found["median"] = {norm: _median(samples, norm) for norm in get_args(metrics.Norm)}
    if not samples["word"].null_count():
        found["typed_word"] = _rate(metrics.typed_word_rate(samples))
    if not samples["flips"].null_count():
        found["flip_rate"] = _number(metrics.flip_rate(samples))
    return found


def write_result(folder: Path, result: Result) -> None:
    """Write the rows and the summary; the summary last, so that a folder with one is whole.

    Raises:
        CurateError: the rows are not right, or cannot be written.
    """
    write_samples(folder / ROWS, result.samples)
    files.write_json(folder / SUMMARY, summarise(result))


def read_result(folder: Path) -> Result:
    """Read what `write_result` wrote, as the rows that figures are of (see `judged`).

    Raises:
        CurateError: a file is missing or damaged.
    """
    path = folder / SUMMARY
    said = files.read_json(path)
    try:
        if said["format"] != FORMAT:
            raise CurateError(f"{path}: a summary of format {said['format']}, not {FORMAT}")
        stated = dict(said["setting"])
        aim = stated.pop("attack")
        setting = Setting(**stated, attack=None if aim is None else Aim(**aim))
        samples = judged(setting, read_samples(folder / ROWS))
        return Result(str(said["model"]), setting, said["facts"], samples)
    except (KeyError, TypeError, ValueError) as error:
        raise CurateError(f"{path}: not the summary of a setting ({error!r})") from error


def read_results(root: Path, only: Sequence[Path] | None = None) -> tuple[Result, ...]:
    """All results below a folder, by model and setting; folders without a summary are not whole.

    Args:
        root: the folder.
        only: the folders of the results that are meant, in the order in which they are wanted;
            None: all below `root`.

    Raises:
        CurateError: there are none, one is damaged, or two are of one model and setting.
    """
    folders = [path.parent for path in sorted(root.rglob(SUMMARY))] if only is None else only
    found = [read_result(one) for one in folders if (one / SUMMARY).is_file()]
    if not found:
        raise CurateError(f"{root}: holds no results; run the evaluation first")
    keys = set()
    for result in found:
        key = (result.model, str(result.setting))
        if key in keys:
            raise CurateError(f"{root}: two results of {key[0]} on {key[1]}")
        keys.add(key)
    if only is not None:
        return tuple(found)
    return tuple(sorted(found, key=lambda result: (result.model, str(result.setting))))


def summary_rows(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Figures under the column names of CLIP_benchmark's CSV files, one row for each result.

    `model` and `pretrained` are the two halves of open_clip:ARCH/TAG, of other models the name and
    nothing. `acc5` is null, as rows hold no five best classes. Then come the columns of its fork
    for attacks (attack, eps in 255ths, norm), the interval of acc1 and the number of images.
    """
    return [_row(result) for result in results]


def _row(result: Result) -> dict[str, Any]:
    name = result.model.removeprefix("open_clip:")
    model, _, pretrained = name.partition("/") if name != result.model else (name, "", "")
    acc, recall = metrics.accuracy(result.samples), metrics.mean_per_class_recall(result.samples)
    aim, split = result.setting.attack, result.setting.split
    return {
        "acc1": acc.value,
        "acc5": None,
        "mean_per_class_recall": recall.value,
        "dataset": result.setting.source + ("" if split is None else f"#{split}"),
        "model": model,
        "pretrained": pretrained,
        "task": "zeroshot_classification",
        "language": "en",
        "model_fullname": f"{model} {pretrained}",
        "attack": "none" if aim is None else aim.name,
        "eps": None if aim is None else aim.eps,
        "norm": None if aim is None else result.norm,
        "acc1_low": acc.low,
        "acc1_high": acc.high,
        "n": acc.total,
    }


def _has(samples: pl.DataFrame, name: str) -> bool:
    return name != "control" or not samples["control"].null_count()


def _rate(rate: Rate) -> dict[str, Any]:
    return {**asdict(rate), "value": rate.value}


def _median(samples: pl.DataFrame, norm: metrics.Norm) -> dict[str, Any]:
    """A median as JSON, which knows no infinity: null is beyond all that was found."""
    found = asdict(metrics.median_perturbation(samples, norm))
    return {
        k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in found.items()
    }


def _number(number: Number) -> dict[str, Any]:
    return asdict(number)
