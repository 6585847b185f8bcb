"""What a step would refuse in the middle of a run, found before the first one begins."""

from __future__ import annotations

import difflib
from dataclasses import fields
from itertools import product
from typing import TYPE_CHECKING

from curate.errors import CurateError
from eval.settings import parse_setting
from pipelines.flow.steps import KINDS, trained_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pipelines.flow.config import EvalEntry, FindingEntry, FlowConfig, TrainEntry

Place = tuple[str | int, ...]
"""Of a value in a flow's file: the keys and numbers that lead to it."""


def near(word: str, known: Collection[str]) -> str:
    """` (did you mean X?)` for the known name nearest to a word, or nothing if none is near."""
    close = difflib.get_close_matches(word.replace("-", "_"), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def found_late(flow: FlowConfig) -> Iterator[tuple[Place, str]]:
    """What is wrong with settings that are of stages, by their place, in words."""
    for kind in flow.needs:
        if kind not in KINDS:
            yield ("needs", kind), f"needs.{kind}: no step is of this kind{near(kind, KINDS)}"
    for name, source in flow.sets.items():
        if source.download is not None:
            yield from _download(("sets", name, "download", "options"), source.download.options)
    trained: dict[str, list[str]] = {}
    for name, entry in flow.train.items():
        models = {model for found in trained.values() for model in found}
        yield from _train(("train", name), entry, models)
        chosen = product(entry.model, entry.seed)
        trained[name] = [trained_name(name, entry, *one) for one in chosen]
    models = {model for found in trained.values() for model in found}
    for name, measured in flow.eval.items():
        yield from _eval(("eval", name), measured, {*flow.train, *models}, models)
    if flow.finding is not None:
        yield from _finding(flow.finding, flow, trained)


def _download(place: Place, options: dict[str, object]) -> Iterator[tuple[Place, str]]:
    from curate.download import DownloadOptions

    known = [one.name for one in fields(DownloadOptions) if one.name != "columns"]
    for name in options:
        if name not in known:
            inner = (*place, name)
            yield inner, f"{_dotted(inner)} is no setting{near(name, known)}"


def _train(place: Place, entry: TrainEntry, models: Collection[str]) -> Iterator[tuple[Place, str]]:
    from train.recipe import read_recipe

    if entry.scratch is not None:
        return
    for model in entry.model:
        if ":" not in model and model not in models:
            text = (
                f"{model!r} is no model; one such as builtin:tiny-clip was expected, or one that "
                f"an entry before this one trains{near(model, models)}"
            )
            yield (*place, "model"), f"{_dotted((*place, 'model'))}: {text}"
    try:
        read_recipe(entry.recipe, {**entry.set, "seed": entry.seed[0]})
    except CurateError as error:
        key = "set" if entry.set else "recipe"
        yield (*place, key), f"{_dotted(place)}: {error}"


def _eval(
    place: Place, entry: EvalEntry, words: Collection[str], models: Collection[str]
) -> Iterator[tuple[Place, str]]:
    from pipelines.evaluation.request import Source, chosen_settings

    surrogate = [] if entry.surrogate is None else [entry.surrogate]
    for key, given, known in (("models", entry.models, words), ("surrogate", surrogate, models)):
        for model in given:
            if model not in known and ":" not in model and "/" not in model:
                text = f"{model!r} is neither trained here nor PREFIX:NAME{near(model, known)}"
                yield (*place, key), f"{_dotted((*place, key))}: {text}"
    sources = [Source(name, "") for name in entry.data]
    try:
        words = [*entry.settings, *entry.whole]
        chosen_settings(sources, entry.suite, words, has_surrogate=bool(surrogate))
    except CurateError as error:
        key = "settings" if entry.settings else "whole" if entry.whole else "suite"
        yield (*place, key), f"{_dotted(place)}: {error}"


def _finding(
    finding: FindingEntry, flow: FlowConfig, trained: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Place, str]]:
    """A result that no entry measures on all, clean and overlapping images."""
    measured = {
        (model, setting)
        for entry in flow.eval.values()
        for word in entry.models
        for model in trained.get(word, [word])
        for setting in _compared(entry)
    }
    models = {model for model, _ in measured}
    for key, model in (("model", finding.model), ("against", finding.against)):
        if model is not None and (model, finding.setting) not in measured:
            hint = "" if model in models else near(model, models)
            text = f"{model} on {finding.setting} is measured with a split by no eval entry{hint}"
            yield ("finding", key), f"finding.{key}: {text}"


def _compared(entry: EvalEntry) -> list[str]:
    """Settings of an entry on sets that have a split."""
    from pipelines.evaluation.request import Source, chosen_settings

    sources = [Source(name, "") for name in entry.data]
    has_surrogate = entry.surrogate is not None
    words = [*entry.settings, *entry.whole]
    try:
        asked, _ = chosen_settings(sources, entry.suite, words, has_surrogate=has_surrogate)
    except CurateError:  # which is told of the entry
        return []
    return [word for word in asked if parse_setting(word, list(entry.data)).dataset in entry.splits]


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))
