"""Which settings belong together: the suites that a run may ask for by name.

| suite | what | source |
| --- | --- | --- |
| `roz` | shifts made here, typographic, the eleven attacks at 8/255 of the model's input, and AutoAttack | Wang et al. 2024 |
| `tecoa` | PGD-100 and APGD's pair at 1 and 4/255 of the stored images, and PGD with steps of eps / 4 | Mao et al. 2023 |
| `quick` | all of it in small, on 1,000 images: fewer scores for NES and SPSA, FMN in the place of C&W | |

A natural shift is a data set of its own, given beside the others; nothing is made from it, and it
is not attacked. So is a set that was corrupted before.
"""  # noqa: E501 - a table

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.encoders.base import nearest
from curate.errors import CurateError
from eval.datasets.registry import entry_of, find_entry
from eval.settings import Aim, Setting
from eval.shifts.registry import CORRUPTIONS, PERTURBATIONS, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eval.settings import Resolution

SHIFTED = frozenset((
    "imagenetv2", "imagenet-a", "imagenet-r", "imagenet-sketch", "stylized-imagenet", "objectnet",
    "imagenet-vid-robust", "ytbb-robust", "imagenet-c", "imagenet-p",
))  # fmt: skip
"""Sets that are a shift of ImageNet themselves."""

_ROZ = (
    "fgsm", "bim", "mim", "dim", "deepfool", "transfer-fgsm", "transfer-bim", "transfer-mim",
    "transfer-dim", "nes", "spsa",
)  # fmt: skip
_TECOA = ("noise", "tecoa-pgd-100", "pgd-100", "cw-margin-100", "apgd-ce+dlr")
TRANSFER = "transfer-"


@dataclass(frozen=True)
class Attacks:
    """Attacks at one radius.

    Attributes:
        names: of the registry of attacks.
        eps: radius in 255ths.
        at: the images that it is meant for.
    """

    names: tuple[str, ...]
    eps: float
    at: Resolution


@dataclass(frozen=True)
class Suite:
    """Settings that belong together.

    Attributes:
        attacks: on the images of a set as they are.
        shifts: corruptions, perturbation sequences and typographic images are made and measured.
        limit: images of each set; None: all.
    """

    attacks: tuple[Attacks, ...]
    shifts: bool
    limit: int | None = None


SUITES = {
    "roz": Suite(
        (
            Attacks(("noise", *_ROZ, "pgd-20", "pgd-100", "autoattack"), 8, "input"),
            Attacks(("cw-l2",), 128, "input"),
            Attacks(("pgd-20",), 64, "input"),
        ),
        shifts=True,
    ),
    "tecoa": Suite(
        tuple(
            Attacks(_TECOA, eps, "native") for eps in (1, 4)
        ),
        shifts=False,
    ),
    "quick": Suite(
        (
            Attacks(
                ("noise", *_ROZ[:-2], "nes-5", "spsa-5", "pgd-20", "pgd-dlr-20",
                 "apgd-ce+dlr", "autoattack"),
                8, "input",
            ),
            Attacks(("fmn-l2",), 128, "input"),
            Attacks(("pgd-20",), 64, "input"),
        ),
        shifts=True, limit=1000,
    ),
}  # fmt: skip


def find_suite(name: str) -> Suite:
    """The suite of a name.

    Raises:
        CurateError: none has that name; says which is nearest.
    """
    if name not in SUITES:
        raise CurateError(
            f"suite {name!r}: one of {', '.join(SUITES)} was expected{nearest(name, SUITES)}"
        )
    return SUITES[name]


def settings_of(suite: Suite, dataset: str) -> Iterator[Setting]:
    """The settings of a suite on a data set, in the order in which they are measured."""
    entry = entry_of(dataset)
    if dataset in SHIFTED and entry is not None:
        yield from _parts(dataset)
        return
    yield Setting(dataset)
    if suite.shifts:
        # ImageNet on the classes of other sets, which their baselines are fitted to
        yield from (Setting(dataset, part) for part in (entry.variants if entry else ()))
        yield Setting(dataset, "typographic")
        for name in CORRUPTIONS:
            yield from (Setting(dataset, name, severity) for severity in SEVERITIES)
        yield from (Setting(dataset, f"sequence-{name}") for name in PERTURBATIONS)
    for attacks in suite.attacks:
        for name in attacks.names:
            yield Setting(dataset, attack=Aim(name, attacks.eps, attacks.at))


def _parts(dataset: str) -> Iterator[Setting]:
    entry = find_entry(dataset)
    for variant in entry.variants or (None,):
        for severity in entry.severities or (None,):
            yield Setting(dataset, variant, severity)
