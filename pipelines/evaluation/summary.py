"""`curate eval summary`: means over settings, and one model beside another.

Means are those of the field: over severities and corruptions, relative to a reference model where
one is given (mCE, mFR), over the sequences of each kind, and over TeCoA's sixteen sets, which are
also given without the sets of two classes.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.encoders.base import nearest
from curate.errors import CurateError
from curate.files import write_bytes
from eval.datasets.registry import TECOA
from eval.figures import metrics
from eval.results import read_results, summary_rows
from eval.shifts.registry import COMMON, PERTURBATIONS, SEVERITIES
from pipelines.evaluation.shifted import sequence_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eval.results import Result

BINARY = ("hateful-memes", "pcam")
Table = dict[str, dict[str, "Result"]]


def summarise_all(root: Path, base: str | None, csv: Path | None) -> dict[str, Any]:
    """All that is said of several settings of each model below a folder.

    Args:
        root: results of any models, in folders below.
        base: a model that others are compared with, and that mCE and mFR divide by.
        csv: where to write a row for each result under CLIP_benchmark's column names.

    Raises:
        CurateError: there are no results, none of the base model, or its images are others.
    """
    results = read_results(root)
    table: Table = defaultdict(dict)
    for result in results:
        table[result.model][str(result.setting)] = result
    if base is not None and base not in table:
        raise CurateError(
            f"--base {base}: {root} has results of {', '.join(table)}{nearest(base, table)}"
        )
    if csv is not None:
        buffer = io.BytesIO()
        pl.DataFrame(summary_rows(results), infer_schema_length=None).write_csv(buffer)
        write_bytes(csv, buffer.getvalue())
    reference = None if base is None else table[base]
    return {"base": base, "models": {name: _of(own, reference) for name, own in table.items()}}


def _of(own: Mapping[str, Result], base: Mapping[str, Result] | None) -> dict[str, Any]:
    datasets = sorted({result.setting.dataset for result in own.values()})
    corrupted = {name: _corrupted(name, own, base) for name in datasets}
    sequences = {name: _sequences(name, own, base) for name in datasets}
    return {
        "corruptions": {name: found for name, found in corrupted.items() if found},
        "sequences": {name: found for name, found in sequences.items() if found},
        "means": _means(list(own.values())),
        "relative": {} if base is None else _relative(own, base),
    }


def _corrupted(
    dataset: str, own: Mapping[str, Result], base: Mapping[str, Result] | None
) -> dict[str, Any] | None:
    """The mean error over the fifteen corruptions, and mCE; None where one is not measured."""
    errors = _errors(dataset, own)
    if errors is None:
        return None
    reference = None if base is None else _errors(dataset, base)
    published = dataset == "imagenet-c" and reference is None
    has_mce = published or reference is not None
    return {
        "mean_error": math.fsum(errors.values()) / len(errors),
        "mce": metrics.mean_corruption_error(errors, reference) if has_mce else None,
    }


def _errors(dataset: str, own: Mapping[str, Result]) -> dict[str, float] | None:
    words = {(name, grade): f"{dataset}.{name}.{grade}" for name in COMMON for grade in SEVERITIES}
    if not all(word in own for word in words.values()):
        return None
    return metrics.corruption_errors(
        {key: metrics.accuracy(own[word].samples).known for key, word in words.items()}
    )


def _sequences(
    dataset: str, own: Mapping[str, Result], base: Mapping[str, Result] | None
) -> dict[str, Any] | None:
    """The mean flip rate over the ten kinds, and mFR; None where one is not measured."""
    rates = _flip_rates(dataset, own)
    if rates is None:
        return None
    reference = None if base is None else _flip_rates(dataset, base)
    return {
        "mean_flip_rate": math.fsum(rates.values()) / len(rates),
        "mfr": None if reference is None else metrics.mean_flip_rate(rates, reference),
    }


def _flip_rates(dataset: str, own: Mapping[str, Result]) -> dict[str, float] | None:
    found = {
        kind: metrics.flip_rate(result.samples).value
        for result in own.values()
        if result.setting.dataset == dataset and (kind := sequence_of(result.setting))
    }
    rates = {kind: value for kind, value in found.items() if value is not None}
    return rates if set(rates) >= set(PERTURBATIONS) else None


def _means(own: Sequence[Result]) -> dict[str, Any]:
    """TeCoA's averages, clean and for each attack of which all sixteen sets were measured."""
    by_attack: dict[str, dict[str, Any]] = defaultdict(dict)
    for result in own:
        setting = result.setting
        if setting.dataset in TECOA and setting.variant is None and setting.split is None:
            rate = metrics.accuracy(result.samples)
            by_attack[str(setting.attack or "clean")][setting.dataset] = rate
    return {
        attack: {
            "16": asdict(metrics.suite_mean(rates)),
            "15": asdict(metrics.suite_mean(rates, BINARY[:1])),
            "14": asdict(metrics.suite_mean(rates, BINARY)),
        }
        for attack, rates in by_attack.items()
        if set(rates) == set(TECOA)
    }


def _relative(own: Mapping[str, Result], base: Mapping[str, Result]) -> dict[str, Any]:
    """Accuracy less that of the base model, on each setting that both were measured on."""
    return {
        word: asdict(metrics.paired_difference(result.samples, base[word].samples))
        for word, result in own.items()
        if word in base and result is not base[word]
    }
