"""What is measured, as one word: `dataset[.variant][.severity][@attack][#split]`.

    cifar10                              the images as they are
    cifar10.fog.3                        a corruption made here, at severity 3 of 5
    imagenet-c.fog.3                     the same of the published files: another setting
    imagenet-vid-robust.pm10             a variant of a data set
    cifar10@pgd-20.eps4.native#clean     under attack, eps 4/255 of the stored images, clean split
    cifar10@pgd-20.l2.eps128.native      within an L2 ball, where that is not the usual one

An attack's radius, in 255ths, and the size of the images it is meant for (`native`: as stored,
before any resize; `input`: as the model takes them) are part of the word, because another radius or
size is another threat.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from curate.encoders.base import nearest
from curate.errors import CurateError
from eval.attacks.threat import Norm
from eval.records import PARTS, Part

if TYPE_CHECKING:
    from collections.abc import Collection

Resolution = Literal["native", "input"]
RESOLUTIONS: tuple[Resolution, ...] = get_args(Resolution)

_ATTACK = re.compile(
    r"(?P<name>[a-z0-9+-]+?)(\.(?P<norm>l2|linf))?(\.eps(?P<eps>[0-9.]+?))?(\.(?P<at>[a-z]+))?"
)
_SEVERITY = re.compile(r"[1-9]")


@dataclass(frozen=True)
class Aim:
    """An attack with its radius.

    Attributes:
        name: of the registry of attacks.
        eps: radius in 255ths.
        at: the images that the radius is meant for.
        norm: of the ball; None: the one that is usual for the attack.
    """

    name: str
    eps: float
    at: Resolution
    norm: Norm | None = None

    def __str__(self) -> str:
        """As it stands in a setting's word."""
        norm = "" if self.norm is None else f".{self.norm}"
        return f"{self.name}{norm}.eps{self.eps:g}.{self.at}"


@dataclass(frozen=True)
class Setting:
    """One thing that is measured.

    Attributes:
        dataset: of the registry of data sets, or the name that a user gave to one.
        variant: a shift made here, or a variant of the data set.
        severity: of a corruption, 1 to 5.
        attack: what the images go through before the model sees them.
        split: only images of this split; None: all, with figures for each split.
    """

    dataset: str
    variant: str | None = None
    severity: int | None = None
    attack: Aim | None = None
    split: Part | None = None

    @property
    def source(self) -> str:
        """The set of images, before any attack: `dataset[.variant][.severity]`."""
        parts = (self.dataset, self.variant, self.severity)
        return ".".join(str(part) for part in parts if part is not None)

    def __str__(self) -> str:
        """The word for it."""
        attack = "" if self.attack is None else f"@{self.attack}"
        return f"{self.source}{attack}" + ("" if self.split is None else f"#{self.split}")


def parse_setting(
    text: str, datasets: Collection[str], *, eps: float = 4, at: Resolution = "native"
) -> Setting:
    """Read the word for a setting.

    Args:
        text: the word.
        datasets: names that are known; a name may itself have dots in it.
        eps: radius of an attack that states none.
        at: likewise, the images it is meant for.

    Raises:
        CurateError: the word is not of that form, names no data set, split or resolution, or states
            a radius that would be another one when it is written and read again.
    """
    rest, has_split, split = text.partition("#")
    if has_split and split not in PARTS:
        raise CurateError(
            f"setting {text}: split {split!r}: one of {', '.join(PARTS)} was expected"
            f"{nearest(split, PARTS)}"
        )
    source, has_attack, attack = rest.partition("@")
    fitting = [name for name in datasets if source == name or source.startswith(f"{name}.")]
    if not fitting:
        raise CurateError(
            f"setting {text}: no data set {source!r} is known{nearest(source, sorted(datasets))}"
        )
    name = max(fitting, key=len)
    variant, severity = _variant(text, source[len(name) + 1 :])
    aim = _parse_aim(text, attack, eps, at) if has_attack else None
    part = next((one for one in PARTS if one == split), None)
    return Setting(name, variant, severity, aim, part)


def _variant(text: str, rest: str) -> tuple[str | None, int | None]:
    variant, _, severity = rest.partition(".")
    if severity and not _SEVERITY.fullmatch(severity):
        raise CurateError(f"setting {text}: severity {severity!r}: 1 to 5 was expected")
    return variant or None, int(severity) if severity else None


def _parse_aim(text: str, attack: str, eps: float, at: Resolution) -> Aim:
    found = _ATTACK.fullmatch(attack)
    if found is None:
        raise CurateError(
            f"setting {text}: attack {attack!r}: NAME.epsRADIUS.native was expected, such as "
            "pgd-20.eps4.native"
        )
    resolution = found["at"] or at
    if resolution not in RESOLUTIONS:
        raise CurateError(
            f"setting {text}: {resolution!r}: one of {', '.join(RESOLUTIONS)} was expected"
            f"{nearest(resolution, RESOLUTIONS)}"
        )
    norm = next((one for one in get_args(Norm) if one == found["norm"]), None)
    return Aim(found["name"], _radius(text, found["eps"], eps), resolution, norm)


def _radius(text: str, stated: str | None, default: float) -> float:
    try:
        radius = default if stated is None else float(stated)
    except ValueError as error:
        raise CurateError(f"setting {text}: eps{stated} is no number of 255ths") from error
    if not (math.isfinite(radius) and 0 < radius <= 255):  # noqa: PLR2004 - the range of a pixel
        raise CurateError(f"setting {text}: eps {radius:g} must be above 0 and at most 255")
    word = f"{radius:g}"
    if "e" in word or float(word) != radius:
        raise CurateError(
            f"setting {text}: eps {radius!r} cannot be kept in a setting's word; give at most six "
            "significant digits, and no less than 0.0001"
        )
    return radius
