"""All attacks by name; an installed package may bring more (`curate.extensions`).

A name says the method, a number in it how many steps; eps and norm are given beside it. Steps are

* ROZ's for FGSM, BIM, MIM, DIM, NES, SPSA and the transfer attacks: 0.15 eps, and int(min(e + 4,
  1.25 e)) of them for eps = e / 255 (10 at 8/255), at least one; 20 for white-box MIM and DIM.
  ROZ's code states them in normalised pixels, here they are in pixels.
* eps / 4 for the PGD family, and one 255th for `tecoa-pgd-N` and `cw-margin-N`, as TeCoA has them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from curate.encoders.base import nearest
from curate.errors import CurateError
from curate.extensions import extension, extensions, origin
from eval.attacks.diversity import Diversity
from eval.attacks.ensemble import TARGETS, Ensemble, Stage
from eval.attacks.estimate import Estimator
from eval.attacks.gradient import GradientAttack
from eval.attacks.least import LeastAttack, Method
from eval.attacks.noise import Noise
from eval.attacks.threat import Norm, Start, Threat

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.attacks.losses import LossName
    from eval.attacks.trail import Attack

SMALLEST = 1e-6
"""In 255ths: a step has a length, even where eps is 0."""
BOTH: tuple[Norm, ...] = ("linf", "l2")


@dataclass(frozen=True)
class Request:
    """What a maker is told.

    Attributes:
        name: as it was asked.
        eps: radius, in 255ths.
        norm: of the ball.
        number: the one in the name, of steps unless said otherwise; 0 for a name without.
    """

    name: str
    eps: float
    norm: Norm
    number: int

    def threat(self, steps: int, step: float, start: Start = "zero") -> Threat:
        """A threat with this eps and norm; the step is in 255ths."""
        return Threat(self.eps, max(step, SMALLEST), steps, start, self.norm)


@dataclass(frozen=True)
class Entry:
    """A name, or a family of names that end in a number.

    Attributes:
        says: what it is, in a line.
        make: the attack of a request.
        norms: that it is defined for; the first is taken where none is asked.
    """

    says: str
    make: Callable[[Request], Attack]
    norms: tuple[Norm, ...] = BOTH


def roz_steps(eps: float) -> int:
    """How many steps ROZ takes at eps 255ths. Source: the released code of Wang et al. 2024."""
    return max(1, int(min(eps + 4, 1.25 * eps)))


def _fgsm(asked: Request) -> GradientAttack:
    return GradientAttack(asked.name, asked.threat(1, asked.eps))


def _roz(
    steps: int | None = None,
    *,
    decay: float | None = None,
    is_varied: bool = False,
    estimator: Estimator | None = None,
) -> Callable[[Request], Attack]:
    """An attack with ROZ's steps, or so many."""

    def make(asked: Request) -> GradientAttack:
        return GradientAttack(
            asked.name,
            asked.threat(steps or roz_steps(asked.eps), 0.15 * asked.eps),
            loss="margin" if estimator else "ce",
            decay=decay,
            diversity=Diversity() if is_varied else None,
            estimator=_sized(estimator, asked.number),
        )

    return make


def _sized(estimator: Estimator | None, pairs: int) -> Estimator | None:
    """With so many pairs of scores, where a number is asked for."""
    return replace(estimator, samples=2 * pairs) if estimator and pairs else estimator


def _transfer(make: Callable[[Request], Attack]) -> Callable[[Request], Attack]:
    def transfer(asked: Request) -> Attack:
        attack = make(asked)
        assert isinstance(attack, GradientAttack)
        return replace(attack, is_transfer=True)

    return transfer


def _pgd(loss: LossName, targets: int = 0) -> Callable[[Request], Attack]:
    """Steps of eps / 4."""
    return lambda asked: GradientAttack(
        asked.name,
        asked.threat(asked.number, asked.eps / 4, "uniform"),
        loss=loss,
        targets=targets,
    )


def _tecoa(loss: LossName) -> Callable[[Request], Attack]:
    """Steps of one 255th."""
    return lambda asked: GradientAttack(
        asked.name, asked.threat(asked.number, 1, "uniform"), loss=loss
    )


def _least(method: Method, **settings: float) -> Callable[[Request], Attack]:
    return lambda asked: LeastAttack(
        asked.name, method, asked.eps, asked.norm, tuple(settings.items())
    )


def _carlini_wagner(asked: Request) -> LeastAttack:
    settings = {"binary_search_steps": asked.number or 9, "steps": 100, "stepsize": 0.01}
    # early aborting looks at the loss of the whole batch
    pairs = (*settings.items(), ("abort_early", False))
    return LeastAttack(asked.name, "L2CarliniWagnerAttack", asked.eps, asked.norm, pairs)


def _ensemble(*stages: Stage) -> Callable[[Request], Attack]:
    return lambda asked: Ensemble(asked.name, stages, asked.eps, asked.norm)


ATTACKS = {
    "noise": Entry("the worst of 10 uniform draws", lambda a: Noise(a.name, a.eps, a.norm)),
    "fgsm": Entry("one step along the sign of the gradient", _fgsm),
    "bim": Entry("steps of 0.15 eps from the image", _roz()),
    "mim": Entry("with momentum, 20 steps", _roz(20, decay=1.0)),
    "dim": Entry("with momentum and varied images, 20 steps", _roz(20, decay=1.0, is_varied=True)),
    "transfer-fgsm": Entry("fgsm on a surrogate", _transfer(_fgsm)),
    "transfer-bim": Entry("bim on a surrogate", _transfer(_roz())),
    "transfer-mim": Entry("momentum on a surrogate", _transfer(_roz(decay=1.0))),
    "transfer-dim": Entry("dim on a surrogate", _transfer(_roz(decay=1.0, is_varied=True))),
    "nes": Entry("estimated from 100 scores a step", _roz(estimator=Estimator("gaussian"))),
    "spsa": Entry("likewise, directions are random signs", _roz(estimator=Estimator("signs"))),
    "nes-N": Entry("nes with 2 N scores a step", _roz(estimator=Estimator("gaussian"))),
    "spsa-N": Entry("spsa with 2 N scores a step", _roz(estimator=Estimator("signs"))),
    "deepfool": Entry(
        "least L-inf perturbation, 10 candidates, 50 steps",
        _least("LinfDeepFoolAttack", candidates=10, steps=50, overshoot=0.02),
        ("linf",),
    ),
    "cw-l2": Entry("Carlini-Wagner, 9 binary searches of 100 steps", _carlini_wagner, ("l2",)),
    "cw-l2-N": Entry("likewise, N binary searches", _carlini_wagner, ("l2",)),
    "fmn-linf": Entry("least L-inf, 100 steps", _least("LInfFMNAttack", steps=100), ("linf",)),
    "fmn-l2": Entry("least L2, 100 steps", _least("L2FMNAttack", steps=100), ("l2",)),
    "pgd-N": Entry("N steps of eps / 4 from a uniform start", _pgd("ce")),
    "pgd-dlr-N": Entry("likewise, on the dlr loss", _pgd("dlr")),
    "pgd-margin-N": Entry("likewise, on the margin", _pgd("margin")),
    "pgd-targeted-N": Entry("likewise, towards each of 9 classes", _pgd("margin", TARGETS)),
    "tecoa-pgd-N": Entry("PGD as TeCoA's code, steps of one 255th", _tecoa("ce"), ("linf",)),
    "cw-margin-N": Entry("TeCoA's CW, steps of one 255th", _tecoa("margin"), ("linf",)),
    "apgd-ce": Entry("APGD on the cross-entropy", _ensemble("apgd-ce")),
    "apgd-ce+dlr": Entry("APGD-CE and APGD-DLR, TeCoA's pair", _ensemble("apgd-ce", "apgd-dlr")),
    "apgd-ce+t": Entry("APGD-CE and targeted APGD-DLR", _ensemble("apgd-ce", "apgd-t")),
    "square": Entry("random squares, 5,000 scores", _ensemble("square")),
    "autoattack": Entry(
        "APGD-CE, APGD-T, FAB-T and Square", _ensemble("apgd-ce", "apgd-t", "fab-t", "square")
    ),
}


def find_attack(name: str, *, eps: float, norm: Norm | None = None) -> Attack:
    """The attack of a name.

    Args:
        name: of `ATTACKS`; N stands for a number, `pgd-20`, which restarts may follow, `pgd-20x5`.
        eps: radius in 255ths, at the size of the images that will be given.
        norm: of the ball; None for the one that is usual.

    Raises:
        CurateError: no such name (the nearest is told), a norm it is not defined for, no restarts
            possible, or a senseless number.
    """
    stem, number, restarts = _parts(name)
    entry = ATTACKS.get(stem) or extension("attacks", stem, Entry)
    if entry is None or (stem != name and number < 1):
        raise CurateError(f"attack {name!r}: unknown{nearest(stem, ATTACKS)}")
    norm = norm or entry.norms[0]
    if norm not in entry.norms:
        raise CurateError(f"attack {name}: is defined for {' and '.join(entry.norms)}, not {norm}")
    if not (math.isfinite(eps) and eps >= 0):
        raise CurateError(f"eps {eps}: must be a finite number of 255ths, 0 or more")
    attack = entry.make(Request(name, eps, norm, number))
    if restarts is None:
        return attack
    if not isinstance(attack, GradientAttack) or int(restarts) < 1:
        raise CurateError(f"attack {name!r}: cannot be restarted so")
    return replace(attack, restarts=int(restarts))


def known_attacks() -> dict[str, Entry]:
    """All attacks by name, those of installed packages last."""
    return {**ATTACKS, **extensions("attacks", Entry, ATTACKS)}


def attack_origin(name: str) -> dict[str, dict[str, str]]:
    """Where an attack comes from that is not shipped; see `curate.extensions.origin`."""
    stem = _parts(name)[0]
    return {} if stem in ATTACKS else origin("attacks", stem)


def _parts(name: str) -> tuple[str, int, str | None]:
    """`pgd-20x5` -> `pgd-N`, 20, `5`; a name without a number is its own stem."""
    numbered = re.fullmatch(r"(.+)-(\d+)(?:x(\d+))?", name)
    if numbered is None:
        return name, 0, None
    return f"{numbered[1]}-N", int(numbered[2]), numbered[3]
