"""What a step would refuse in the middle of a run, found before the first one begins."""

from __future__ import annotations

import difflib
from dataclasses import fields
from itertools import product
from typing import TYPE_CHECKING

from curate.errors import CurateError
from pipelines.flow.steps import KINDS, trained_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pipelines.flow.config import EvalEntry, FlowConfig, TrainEntry

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
    for name, trained in flow.train.items():
        yield from _train(("train", name), trained)
    models = {
        trained_name(name, entry, *chosen)
        for name, entry in flow.train.items()
        for chosen in product(entry.model, entry.seed)
    }
    for name, measured in flow.eval.items():
        yield from _eval(("eval", name), measured, {*flow.train, *models}, models)


def _download(place: Place, options: dict[str, object]) -> Iterator[tuple[Place, str]]:
    from curate.download import DownloadOptions

    known = [one.name for one in fields(DownloadOptions) if one.name != "columns"]
    for name in options:
        if name not in known:
            inner = (*place, name)
            yield inner, f"{_dotted(inner)} is no setting{near(name, known)}"


def _train(place: Place, entry: TrainEntry) -> Iterator[tuple[Place, str]]:
    from train.recipe import read_recipe

    for model in entry.model:
        if ":" not in model:
            text = f"{model!r} is no model; one such as builtin:tiny-clip was expected"
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
        chosen_settings(sources, entry.suite, entry.settings, has_surrogate=bool(surrogate))
    except CurateError as error:
        key = "settings" if entry.settings else "suite"
        yield (*place, key), f"{_dotted(place)}: {error}"


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))
