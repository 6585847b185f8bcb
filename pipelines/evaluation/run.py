"""The settings of a request, in pieces, by whoever runs units.

The rows of a piece are a file of their own, so a run that was stopped goes on with the pieces that
are missing; who computes them, and how many images at a time, does not show in them.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from curate import artifacts
from curate.artifacts import Manifest
from curate.encoders.network import reproducible
from curate.errors import CurateError, GateError
from curate.files import atomic_write, digest, read_json
from curate.hardware import choose_device
from curate.splits import read_decisions
from curate.tables import read_table, write_table
from curate.units import results
from eval.attacks.gradient import GradientAttack
from eval.attacks.registry import attack_origin, find_attack
from eval.engine import attacked_rows, plain_rows, sequence_rows
from eval.pictures import PIECE, read_items, read_pictures
from eval.records import SAMPLES, read_samples, with_splits
from eval.results import ROWS, SUMMARY, Result, write_result
from eval.suites import TRANSFER
from pipelines.evaluation.bench import (
    make_subject,
    open_model,
    open_subject,
    over,
    pictures_folder,
    shape_of,
)
from pipelines.evaluation.shifted import frames_of, require_shift, sequence_of
from pipelines.execute import worker_number
from pipelines.watch import watched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from curate.units import Outcome, RunUnits
    from eval.attacks.trail import Attack
    from eval.datasets.evalset import EvalSet
    from eval.models.model import Model
    from eval.pictures import Pictures
    from eval.settings import Setting
    from pipelines.evaluation.request import EvalRequest
    from pipelines.watch import Watch

EXAMPLES = "examples.npz"
_PIECES = "pieces"
_SPLIT = "split"
_SHOWN = 8


@dataclass(frozen=True)
class PieceUnit:
    """Some images of a setting.

    Attributes:
        request: what is asked.
        word: the setting.
        number: of the piece.
        folder: of the pieces.
    """

    request: EvalRequest
    word: str
    number: int
    folder: Path

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"{self.word}, piece {self.number}"

    @property
    def rows(self) -> Path:
        """The file of its rows; once it is there, the piece is done."""
        return self.folder / f"{self.number:06}.parquet"

    @property
    def examples(self) -> Path:
        """The file of some images that an attack changed."""
        return self.folder / f"{self.number:06}.npz"


def run_eval(request: EvalRequest, run_units: RunUnits, watch: Watch) -> list[dict[str, Any]]:
    """Measure what is not measured yet; returns the summaries of all settings, in order.

    Raises:
        CurateError: a model or a set cannot be opened, a setting does not apply.
        PartialRunError: some pieces failed; the others are kept.
        GateError: rows of some image are missing or there twice.
    """
    request = request.here()
    with artifacts.run_lock(request.out):
        for word in request.settings:
            require_sensible(request, word)
        begun = [_begun(request, word, run_units, watch) for word in request.settings]
        _measure(request, [one for one in begun if one is not None], run_units, watch)
        return [dict(read_json(request.out / word / SUMMARY)) for word in request.settings]


def require_sensible(request: EvalRequest, word: str) -> None:
    """Refuse, before anything is computed, a setting that could not be measured.

    Raises:
        CurateError: no such attack or shift, or no split was given.
    """
    setting = request.setting(word)
    require_shift(setting)
    if setting.attack is not None:
        attack_of(setting)
    if setting.split not in (None, "full") and request.source(setting.dataset).split is None:
        raise CurateError(
            f"setting {word}: no split of {setting.dataset} was given; name the folder that "
            "`curate dedup` wrote with --split"
        )


def attack_of(setting: Setting) -> Attack:
    """The attack of a setting.

    Raises:
        CurateError: there is none of that name.
    """
    assert setting.attack is not None
    return find_attack(setting.attack.name, eps=setting.attack.eps, norm=setting.attack.norm)


@dataclass(frozen=True)
class _Measured:
    """A setting that is being measured.

    Attributes:
        word: the setting.
        manifest: of its result.
        work: where that grows.
        ids: of its images.
        units: its pieces.
    """

    word: str
    manifest: Manifest
    work: Path
    ids: pl.Series
    units: tuple[PieceUnit, ...]


def _begun(request: EvalRequest, word: str, run_units: RunUnits, watch: Watch) -> _Measured | None:
    """A setting that is to be measured, its images made; None: its result is there."""
    subject = make_subject(request, word, run_units, watch)
    manifest = _manifest(request, word, subject)
    folder = request.out / word
    if artifacts.finished(folder, manifest.key) is not None:
        return None
    work = artifacts.work_folder(folder, manifest.key)
    begun = _Measured(
        word, manifest, work, subject.items["id"], tuple(_pieces(request, word, subject, work))
    )
    if not _differs_in_split_only(folder, manifest):
        return begun
    if (folder / EXAMPLES).is_file():
        shutil.copyfile(folder / EXAMPLES, work / EXAMPLES)
    _finish(request, begun, read_samples(folder / ROWS))
    return None


def _measure(
    request: EvalRequest, settings: Sequence[_Measured], run_units: RunUnits, watch: Watch
) -> None:
    """Compute the pieces that are not there; each setting is finished with its last one.

    Pieces of all settings are under way together, so that small settings keep many workers busy.
    """
    by_word = {one.word: one for one in settings}
    left = {
        one.word: {unit.number for unit in one.units if not unit.rows.is_file()} for one in settings
    }

    def finishing(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        for outcome in outcomes:
            yield outcome
            unit = outcome.unit
            if outcome.error is None:
                left[unit.word].discard(unit.number)
                if not left[unit.word]:
                    _finish_pieces(request, by_word[unit.word])

    for word, numbers in left.items():
        if not numbers:
            _finish_pieces(request, by_word[word])
    units = [unit for one in settings for unit in one.units if unit.number in left[one.word]]
    total = sum(len(one.units) for one in settings)
    name = settings[0].word if len(settings) == 1 else f"measure {len(settings)} settings"
    if settings:
        watch.stage(name, total)
        watch.step(total - len(units), 0)
        results(finishing(watched(run_units, watch.step)(measure_piece, units)), name)


def _finish_pieces(request: EvalRequest, setting: _Measured) -> None:
    samples = _joined(setting)
    _join_examples(setting.units, setting.work / EXAMPLES)
    _finish(request, setting, samples)


def _finish(request: EvalRequest, setting: _Measured, samples: pl.DataFrame) -> None:
    """Write the result of a setting from its rows."""
    work, word = setting.work, setting.word
    samples = _with_splits(request, word, samples)
    model = open_model(request.model).name
    write_result(work, Result(model, request.setting(word), setting.manifest.config, samples))
    shutil.rmtree(work / _PIECES, ignore_errors=True)  # there are none if only splits changed
    artifacts.commit(work, request.out / word, setting.manifest)


def _differs_in_split_only(folder: Path, manifest: Manifest) -> bool:
    """Whether the rows in a folder are those that are wanted, but for what they are joined with."""
    if not (folder / artifacts.MANIFEST).is_file():
        return False
    before = artifacts.read_manifest(folder)
    keys = {
        replace(one, inputs=[entry for entry in one.inputs if entry["name"] != _SPLIT]).key
        for one in (before, manifest)
    }
    return len(keys) == 1 and not artifacts.missing_outputs(folder, before)


# --- one piece --------------------------------------------------------------------------------


def _pieces(request: EvalRequest, word: str, subject: EvalSet, work: Path) -> list[PieceUnit]:
    count = math.ceil(subject.items.height / PIECE)
    return [PieceUnit(request, word, number, work / _PIECES) for number in range(count)]


def measure_piece(unit: PieceUnit) -> dict[str, Any]:
    """Compute and store the rows of one piece; on a CPU by one thread, so that bits do not vary.

    Raises:
        CurateError: an image cannot be decoded, the attack does not apply, logits are not finite.
    """
    _take_gpu()
    with reproducible(choose_device(unit.request.model.device)):
        rows = _measured_rows(unit)
    write_table(unit.rows, rows, SAMPLES)
    return {"counts": {"images": rows.height}}


def _measured_rows(unit: PieceUnit) -> pl.DataFrame:
    request, setting = unit.request, unit.request.setting(unit.word)
    subject = open_subject(request, unit.word)
    places = range(unit.number * PIECE, min((unit.number + 1) * PIECE, subject.items.height))
    kind = sequence_of(setting)
    if kind is None:
        return _classified(unit, setting, subject, places)
    classifier = over(request.model, subject, request.model.precision)
    frames = partial(frames_of, subject, kind, request.seed)
    return sequence_rows(classifier, kind, frames, read_items(subject, places))


def _take_gpu() -> None:
    """Where there are several, each worker computes on one of its own."""
    count = torch.cuda.device_count()
    if count > 1:
        torch.cuda.set_device(worker_number() % count)


def _classified(unit: PieceUnit, setting: Setting, subject: EvalSet, places: range) -> pl.DataFrame:
    """Rows of images as they are, or under attack."""
    request, model = unit.request, open_model(unit.request.model)
    shape = shape_of(setting, model, subject)
    pictures = read_pictures(subject, places, shape, _cache(unit, setting, model, subject))
    if setting.attack is not None:
        return _attacked(unit, setting, subject, pictures)
    return plain_rows(
        over(request.model, subject, request.model.precision), pictures, request.batch
    )


def _attacked(
    unit: PieceUnit, setting: Setting, subject: EvalSet, pictures: Pictures
) -> pl.DataFrame:
    request, attack = unit.request, attack_of(setting)
    classifier = over(request.model, subject, _precision(attack, request.model.precision))
    surrogate = None
    if request.surrogate is not None and attack.name.startswith(TRANSFER):
        surrogate = over(request.surrogate, subject, request.surrogate.precision)
    rows, worst = attacked_rows(
        classifier, attack, pictures, seed=request.seed, batch=request.batch, surrogate=surrogate
    )
    _store_examples(unit.examples, rows, pictures, worst)
    return rows


def _precision(attack: Attack, wanted: str) -> str:
    """Low precision is for attacks that walk along gradients; others measure small differences."""
    walks = isinstance(attack, GradientAttack) and attack.estimator is None
    return wanted if walks else "fp32"


def _cache(unit: PieceUnit, setting: Setting, model: Model, subject: EvalSet) -> Path | None:
    """Where the decoded images of a piece are kept, if other settings of the request want them."""
    words = (unit.request.setting(word) for word in unit.request.settings)
    if sum(other.source == setting.source for other in words) < 2:  # noqa: PLR2004 - itself
        return None
    shape = repr(shape_of(setting, model, subject))
    name = digest({"set": subject.digest, "shape": shape, "piece": PIECE})[:16]
    return pictures_folder(unit.request) / name / f"{unit.number:06}.npy"


# --- all pieces -------------------------------------------------------------------------------


def _joined(setting: _Measured) -> pl.DataFrame:
    """The rows of all pieces.

    Raises:
        GateError: an image has no row, or two.
    """
    samples = pl.concat([read_table(unit.rows, SAMPLES) for unit in setting.units])
    if samples["id"].to_list() != setting.ids.to_list():
        raise GateError(
            f"{setting.word}: the rows are not those of the {len(setting.ids)} images, each once "
            "and in order; remove the folder that ends in .partial and run again."
        )
    return samples


def _with_splits(request: EvalRequest, word: str, samples: pl.DataFrame) -> pl.DataFrame:
    """The rows with the split that each image is in, where one was given."""
    split = request.source(request.setting(word).dataset).split
    if split is not None:
        return with_splits(samples, read_decisions(Path(split)))
    return samples.with_columns(split=pl.lit(None, pl.String), control=pl.lit(None, pl.Boolean))


def _store_examples(path: Path, rows: pl.DataFrame, pictures: Pictures, worst: Tensor) -> None:
    """Keep some images that were right before the attack and wrong after it."""
    fooled = (rows["clean_pred"] == rows["label"]) & ~rows["correct"]
    chosen = fooled.arg_true().to_list()[:_SHOWN]
    with atomic_write(path) as stream:
        np.savez(
            stream,
            ids=np.array([pictures.ids[row] for row in chosen], dtype=np.str_),
            clean=pictures.images[chosen].numpy(),
            attacked=worst[chosen].numpy(),
        )


def _join_examples(units: Sequence[PieceUnit], path: Path) -> None:
    """The first examples of all pieces; settings without an attack have none."""
    parts = [np.load(unit.examples) for unit in units if unit.examples.is_file()]
    if parts:
        ids, clean, attacked = (
            np.concatenate([part[name] for part in parts])[:_SHOWN]
            for name in ("ids", "clean", "attacked")
        )
        with atomic_write(path) as stream:
            np.savez(stream, ids=ids, clean=clean, attacked=attacked)


def _manifest(request: EvalRequest, word: str, subject: EvalSet) -> Manifest:
    """All that the rows of a setting hang on."""
    setting, model = request.setting(word), open_model(request.model)
    stated: dict[str, Any] = {
        "set": subject.digest,
        "images": subject.items.height,
        "limit": request.limit_of(setting),
        "seed": request.seed,
        "texts": request.texts,
        "labels": list(subject.labels),
        "templates": digest(list(subject.templates)),
    }
    config: dict[str, Any] = {
        "word": word,
        "model": {
            "name": model.name,
            "weights": model.digest,
            "precision": request.model.precision,
            "size": model.size,
        },
        "setting": stated,
    }
    if setting.attack is not None:
        facts = attack_of(setting).facts()
        config["norm"] = facts["norm"]
        stated |= {"attack": facts, "at": setting.attack.at, **attack_origin(setting.attack.name)}
        if setting.attack.name.startswith(TRANSFER) and request.surrogate is not None:
            surrogate = open_model(request.surrogate)
            stated["surrogate"] = {"name": surrogate.name, "weights": surrogate.digest}
    inputs = [{"name": subject.name, "sha256": subject.digest}]
    split = request.source(setting.dataset).split
    if split is not None:
        inputs.append({"name": _SPLIT, "sha256": artifacts.read_manifest(Path(split)).id})
    return Manifest("eval", config, inputs, versions={"torch": version("torch")})
