"""Settings whose images are made here: stored ones, made once for all models, and sequences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from curate.encoders.base import nearest
from curate.errors import CurateError
from eval.datasets.registry import entry_of
from eval.shifts.chance import generator
from eval.shifts.corruptions import CORRUPTIONS, Corruption, recipe_for
from eval.shifts.sequences import KINDS, sequence, video_frames
from eval.shifts.typographic import read_label_map, typographic_for

if TYPE_CHECKING:
    from eval.datasets.evalset import EvalSet
    from eval.geometry import Pixels
    from eval.settings import Setting
    from eval.shifts.stored import Shift

TYPOGRAPHIC = "typographic"
SEQUENCE = "sequence-"
PUBLISHED = "imagenet-p"
"""A set whose items are sequences themselves, stored as videos."""


def is_part(setting: Setting) -> bool:
    """Whether a variant is a part of the published set, and not made here."""
    entry = entry_of(setting.dataset)
    return entry is not None and setting.variant in entry.variants


def is_stored(setting: Setting) -> bool:
    """Whether the images of a setting are made from others, once, and stored."""
    return not (setting.variant is None or is_part(setting) or sequence_of(setting))


def sequence_of(setting: Setting) -> str | None:
    """The kind of perturbation sequence that a setting asks for, if it does."""
    variant = setting.variant or ""
    if setting.dataset == PUBLISHED:
        return variant
    return variant.removeprefix(SEQUENCE) if variant.startswith(SEQUENCE) else None


def frames_of(subject: EvalSet, kind: str, seed: int, id_: str) -> Pixels:
    """(frames, 3, side, side) uint8 of an item: its stored video, or made from its image now.

    Raises:
        CurateError: it cannot be read.
    """
    if subject.name.partition(".")[0] == PUBLISHED:
        return video_frames(subject.read(id_))
    return sequence(kind, subject.image(id_), generator(seed, id_, kind))


def require_shift(setting: Setting) -> None:
    """Refuse a variant that is neither a part of the set nor made here.

    Raises:
        CurateError: says which one is nearest, or that a severity is lacking.
    """
    known = [*CORRUPTIONS, TYPOGRAPHIC, *(f"{SEQUENCE}{kind}" for kind in KINDS)]
    if setting.variant is None or is_part(setting):
        return
    if setting.variant not in known:
        entry = entry_of(setting.dataset)
        parts = [] if entry is None else list(entry.variants)
        raise CurateError(
            f"setting {setting}: {setting.variant!r} is neither a part of {setting.dataset} nor a "
            f"shift that is made here{nearest(setting.variant, [*known, *parts])}"
        )
    is_graded = setting.variant in CORRUPTIONS
    if is_graded != (setting.severity is not None):
        need = "needs a severity, 1 to 5" if is_graded else "has no severities"
        raise CurateError(f"setting {setting}: {setting.variant} {need}")
    if sequence_of(setting) and setting.attack is not None:
        raise CurateError(f"setting {setting}: sequences are not attacked; leave one of both out")


def shift_of(setting: Setting, subject: EvalSet, seed: int, words: str | None) -> Shift:
    """What is done to the images of a set.

    Args:
        setting: one with stored images.
        subject: the images.
        seed: of what is drawn.
        words: a label map for typographic images.
    """
    assert setting.variant is not None
    first = subject.image(subject.items["id"][0])
    if setting.variant == TYPOGRAPHIC:
        chosen = None if words is None else read_label_map(Path(words))
        return typographic_for(first, subject.labels, seed, chosen)
    assert setting.severity is not None
    return Corruption(setting.variant, setting.severity, recipe_for(first), seed)
