"""How many forward passes an attack asks for; a backward pass counts as two.

An image leaves an attack that follows true gradients once it is wrong, so what such an attack takes
depends on how long images withstand it: on radius and model (`Stamina`). Attacks that guess, ask
for scores or borrow another model's gradients seldom succeed, and are counted in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.attacks.ensemble import TARGETS, Ensemble
from eval.attacks.gradient import GradientAttack
from eval.attacks.least import LeastAttack
from eval.attacks.registry import find_attack

if TYPE_CHECKING:
    from eval.attacks.trail import Attack
    from eval.settings import Setting

_STEP = 3
"""Forwards and backwards."""
_NOISE = 10
_FRAMES = 32
"""Of the ten kinds of perturbation sequences nine have 31, one has 41."""
_DEEPFOOL_STEPS = 3
"""That it took at most on the tiny CLIP, of 50."""
STEEPNESS = 1.4
"""Of the tiny CLIP's accuracy under PGD over the radius, before and after TeCoA."""


@dataclass(frozen=True)
class Stamina:
    """How long images of a model withstand attacks.

    Attributes:
        half: radius (L-inf, 255ths) at which half of all images are still right.
        fall: share of an attack's passes that is made of an image that does not withstand it.
    """

    half: float
    fall: float

    def withstand(self, eps: float) -> float:
        """Share of all images that are still right at a radius."""
        return float(2 ** -((eps / self.half) ** STEEPNESS))

    def share(self, eps: float) -> float:
        """Of the passes of an attack those that are made."""
        kept = self.withstand(eps)
        return kept + (1 - kept) * self.fall


def passes(setting: Setting, stamina: Stamina) -> float:
    """Forward passes of an image in a setting, that of the image itself included.

    Raises:
        CurateError: there is no attack of that name.
    """
    if setting.variant is not None and setting.variant.startswith("sequence-"):
        return _FRAMES
    if setting.attack is None:
        return 1
    return 1 + attack_passes(find_attack(setting.attack.name, eps=setting.attack.eps), stamina)


def attack_passes(attack: Attack, stamina: Stamina) -> float:
    """Forward passes of an image under an attack."""
    if isinstance(attack, GradientAttack):
        each = _STEP if attack.estimator is None else attack.estimator.samples
        whole = attack.threat.steps * each * attack.restarts * max(1, attack.targets)
        is_sure = attack.estimator is None and not attack.is_transfer and attack.threat.steps > 1
        return whole * (stamina.share(attack.threat.eps) if is_sure else 1)
    if isinstance(attack, Ensemble):
        first, *others = (_stage(attack, stage) for stage in attack.stages)
        # the others see what withstood the first
        return first * stamina.share(attack.eps) + sum(others) * stamina.withstand(attack.eps)
    if isinstance(attack, LeastAttack):
        return _least(attack)
    return _NOISE


def _stage(attack: Ensemble, stage: str) -> float:
    if stage == "square":
        return attack.queries
    targets = TARGETS if stage in ("apgd-t", "fab-t") else 1
    return attack.steps * _STEP * targets


def _least(attack: LeastAttack) -> float:
    settings = dict(attack.settings)
    searches = settings.get("binary_search_steps", 1)
    if attack.method == "LinfDeepFoolAttack":  # for each candidate class, and it converges soon
        return _DEEPFOOL_STEPS * _STEP * settings["candidates"]
    return searches * settings["steps"] * _STEP
