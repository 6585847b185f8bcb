"""How many forward passes an attack asks for at most; a backward pass counts as two.

An image leaves an attack once it is wrong, so the passes that are made are a share of these, which
is a rate (`attack.share`): little of weak models at wide radii, nearly all of robust ones.
"""

from __future__ import annotations

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


def passes(setting: Setting) -> float:
    """Forward passes of an image in a setting, that of the image itself included.

    Raises:
        CurateError: there is no attack of that name.
    """
    if setting.variant is not None and setting.variant.startswith("sequence-"):
        return _FRAMES
    if setting.attack is None:
        return 1
    return 1 + attack_passes(find_attack(setting.attack.name, eps=setting.attack.eps))


_FRAMES = 32
"""Of the ten kinds of perturbation sequences nine have 31, one has 41."""


def attack_passes(attack: Attack) -> float:
    """Forward passes of an image through a whole attack."""
    if isinstance(attack, GradientAttack):
        each = _STEP if attack.estimator is None else attack.estimator.samples
        return attack.threat.steps * each * attack.restarts * max(1, attack.targets)
    if isinstance(attack, Ensemble):
        return sum(_stage(attack, stage) for stage in attack.stages)
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
    # DeepFool takes a gradient for each candidate class
    each = 1 + 2 * settings.get("candidates", 1)
    return searches * settings["steps"] * each
