"""The one result that a study is about, in one sentence: what near-duplicates add to a model.

Which result it is stands in the flow before anything is measured, so that it is no choice of the
largest. P values are those of all results of the flow, adjusted for their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import CurateError
from eval.figures.overlap import LEVEL
from eval.figures.overlap_words import points, span
from eval.settings import parse_setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Finding:
    """What a study found.

    Attributes:
        headline: in a few words.
        sentence: in words, with all that makes the headline true.
        result: a row of `overlap.json`, of the model that the sentence is about.
        against: likewise, of the model that it is compared with; None: there is none.
        significant: the model is better on overlapping images than on clean ones (one-tailed
            binomial test, adjusted, 5 %).
        beyond_chance: all - clean lies further out than a random removal of as many images of the
            same classes puts it (5 %).
    """

    headline: str
    sentence: str
    result: dict[str, Any]
    against: dict[str, Any] | None
    significant: bool
    beyond_chance: bool


def find(
    compared: Mapping[str, Any], model: str, setting: str, against: str | None = None
) -> Finding:
    """The finding of a study.

    Args:
        compared: what `overlap.json` holds.
        model: whose accuracy it is about.
        setting: on which.
        against: another model, on the same setting.

    Raises:
        CurateError: one of them was not measured on the setting, or not joined with a split.
    """
    settings = compared["settings"]
    chosen = _row(settings, model, setting)
    other = None if against is None else _row(settings, against, setting)
    tests = sum(row["p_adjusted"] is not None for row in settings)
    adjusted = f"{compared['adjusted_by'].capitalize()} over {tests}" if tests > 1 else ""
    parts = [_told(chosen, adjusted), *([_compared(other)] if other else [])]
    return Finding(
        headline=_headline(chosen),
        sentence="; ".join(parts) + ".",
        result=chosen,
        against=other,
        significant=_is_significant(chosen),
        beyond_chance=_is_beyond_chance(chosen),
    )


def _row(settings: Sequence[dict[str, Any]], model: str, setting: str) -> dict[str, Any]:
    for row in settings:
        if (row["model"], row["setting"]) == (model, setting):
            return row
    known = ", ".join(f"{row['model']} on {row['setting']}" for row in settings[:3])
    raise CurateError(
        f"finding: {model} on {setting} was not compared with and without near-duplicates (there "
        f"is {known or 'nothing'}, ...); name a model and a setting of an eval entry whose set has "
        "a split."
    )


def _is_significant(row: Mapping[str, Any]) -> bool:
    return row["p_adjusted"] is not None and row["p_adjusted"] <= LEVEL


def _is_beyond_chance(row: Mapping[str, Any]) -> bool:
    return row["random_removal"] is not None and row["random_removal"]["p"] <= LEVEL


def _headline(row: Mapping[str, Any]) -> str:
    images, where = row["images"], _where(row["setting"])
    if not images["overlap"] or not images["clean"]:
        few = "none" if not images["overlap"] else "all"
        return (
            f"Of {images['all']} images of {where}, {few} have a near-duplicate that was trained on"
        )
    verb = "add" if row["change"]["value"] >= 0 else "take"
    doubt = "" if _is_significant(row) and _is_beyond_chance(row) else ", which may be chance"
    return (
        f"{images['overlap']} near-duplicates {verb} {points(row['change']['value'])} points to "
        f"the accuracy of {row['model']} on {where}{doubt}"
    )


def _told(row: Mapping[str, Any], adjusted: str) -> str:
    """What near-duplicates add to a model, and whether that is more than chance."""
    images, where = row["images"], _where(row["setting"])
    if not images["overlap"]:
        return (
            f"None of the {images['all']} images of {where} has a near-duplicate in the training "
            f"set, so none adds to the {_percent(row['all'])} on which {row['model']} is right"
        )
    if not images["clean"]:
        return (
            f"All {images['all']} images of {where} have near-duplicates in the training set, so "
            f"what they add to {row['model']} cannot be told"
        )
    return (
        f"{row['model']} is right on {_percent(row['all'])} of {images['all']} images of {where} "
        f"and on {_percent(row['clean'])} of those without a near-duplicate in the training set: "
        f"the {images['overlap']} near-duplicates {_gain(row)}, {_verdict(row, adjusted)}"
    )


def _where(setting: str) -> str:
    """'pictures under pgd-20 at 1/255'."""
    source = setting.partition("@")[0]
    attack = parse_setting(setting, [source]).attack
    return source if attack is None else f"{source} under {attack.name} at {attack.eps:g}/255"


def _gain(row: Mapping[str, Any]) -> str:
    change = row["change"]
    verb = "add" if change["value"] >= 0 else "take"
    interval = f"95\N{NO-BREAK SPACE}% CI {span(change['low'], change['high'])}"
    return f"{verb} {points(change['value'])} points ({interval})"


def _verdict(row: Mapping[str, Any], adjusted: str) -> str:
    """Whether a gain is significant, and what a random removal does."""
    removal = row["random_removal"]
    drawn = (
        "removing as many random images of the same classes moves it by "
        f"{span(removal['low'], removal['high'])}"
    )
    p = ", ".join(filter(None, [_p(row), adjusted]))
    if not _is_significant(row):
        return f"which is not significant ({p}; {drawn})"
    if not _is_beyond_chance(row):
        return f"which is significant ({p}), although {drawn}, which is as much"
    return f"which is significant ({p}) and more than chance, as {drawn}"


def _compared(row: Mapping[str, Any]) -> str:
    """The same of another model, in short."""
    if row["p_adjusted"] is None:
        return f"of {row['model']} the same holds"
    verb = "gains" if row["change"]["value"] >= 0 else "loses"
    change = row["change"]
    significant = "" if _is_significant(row) else "not "
    return (
        f"{row['model']} {verb} {points(change['value'])} ({span(change['low'], change['high'])}), "
        f"which is {significant}significant ({_p(row)})"
    )


def _p(row: Mapping[str, Any]) -> str:
    return f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{row['p_adjusted']:.2g}"


def _percent(share: float | None) -> str:
    return "no image" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
