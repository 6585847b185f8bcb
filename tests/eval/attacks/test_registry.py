"""Attacks by name: all run and say their parameters; an unknown name tells the nearest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from attacking import Plane, keys, predicted

from curate.errors import CurateError
from eval.attacks.ensemble import Ensemble
from eval.attacks.gradient import GradientAttack
from eval.attacks.registry import ATTACKS, find_attack, roz_steps


def example(name: str) -> str:
    return name.replace("-N", "-3")


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_runs_and_says_what_it_is(name: str) -> None:
    attack = find_attack(example(name), eps=0.5)
    assert attack.name == example(name)
    facts = json.loads(json.dumps(attack.facts()))
    assert facts["attack"] == example(name)
    assert facts["eps"] == 0.5
    assert facts["norm"] in {"linf", "l2"}
    assert facts["finds"] in {"within eps", "least perturbation"}
    assert "gradients" in facts
    assert ATTACKS[name].says
    if isinstance(attack, Ensemble):
        attack = replace(attack, steps=5, queries=20)
    plane = Plane(5)
    images = plane.images(4)
    labels = predicted(plane, images)
    found = attack.run(plane, images, labels, keys(4), 0, surrogate=plane)
    assert found.robust.shape == (4,)
    assert found.clean.all()
    again = attack.run(plane, images, labels, keys(4), 0, surrogate=plane)
    assert torch.equal(found.images, again.images)


def test_facts_tell_different_attacks_apart() -> None:
    made = {
        json.dumps(find_attack(example(name), eps=eps).facts(), sort_keys=True)
        for name in ATTACKS
        for eps in (1, 8)
    }
    assert len(made) == 2 * len(ATTACKS)
    linf, l2 = (find_attack("pgd-20", eps=8, norm=norm).facts() for norm in ("linf", "l2"))
    assert linf["norm"] != l2["norm"]


@pytest.mark.parametrize(("eps", "steps"), [(8, 10), (16, 20), (4, 5), (1, 1), (0.5, 1), (64, 68)])
def test_roz_steps_are_the_published_rule(eps: float, steps: int) -> None:
    assert roz_steps(eps) == steps
    facts = find_attack("bim", eps=eps).facts()
    assert facts["steps"] == steps
    assert facts["step"] == pytest.approx(0.15 * eps)
    assert facts["start"] == "zero"


def test_parameters_are_those_of_the_papers() -> None:
    facts = {
        name: find_attack(name, eps=8).facts()
        for name in ("fgsm", "mim", "dim", "transfer-mim", "nes", "spsa", "deepfool", "pgd-20",
                     "tecoa-pgd-100", "cw-margin-100", "apgd-ce+t")
    }  # fmt: skip
    assert (facts["fgsm"]["steps"], facts["fgsm"]["step"]) == (1, 8)
    assert (facts["mim"]["steps"], facts["transfer-mim"]["steps"]) == (20, 10)
    assert facts["mim"]["decay"] == 1
    assert facts["dim"]["diversity"] == {"probability": 0.5, "least": 0.9}
    assert facts["transfer-mim"]["gradients"] == "surrogate"
    assert facts["nes"]["estimator"] == {"directions": "gaussian", "samples": 100, "sigma": 0.001}
    assert facts["spsa"]["estimator"]["directions"] == "signs"
    assert facts["nes"]["loss"] == "margin"
    assert (facts["deepfool"]["candidates"], facts["deepfool"]["overshoot"]) == (10, 0.02)
    assert (facts["pgd-20"]["step"], facts["pgd-20"]["start"]) == (2, "uniform")
    assert (facts["tecoa-pgd-100"]["step"], facts["tecoa-pgd-100"]["steps"]) == (1, 100)
    assert facts["cw-margin-100"]["loss"] == "margin"
    assert facts["apgd-ce+t"]["stages"] == ["apgd-ce", "apgd-t"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fsgm", "unknown; did you mean 'fgsm'"),
        ("auto-attack", "unknown; did you mean 'autoattack'"),
        ("pgd", "unknown; did you mean 'pgd-N'"),
        ("pgd-0", "unknown"),
        ("bim-10", "unknown"),
        ("zzz", "'zzz': unknown$"),
        ("cw-l2-9x2", "cannot be restarted"),
        ("pgd-5x0", "cannot be restarted"),
    ],
)
def test_an_unknown_name_is_an_error_that_tells_the_nearest(name: str, words: str) -> None:
    with pytest.raises(CurateError, match=words):
        find_attack(name, eps=1)


def test_a_norm_that_an_attack_has_not_and_a_senseless_eps_are_errors() -> None:
    with pytest.raises(CurateError, match="deepfool: is defined for linf, not l2"):
        find_attack("deepfool", eps=1, norm="l2")
    for eps in (-1.0, float("nan"), float("inf")):
        with pytest.raises(CurateError, match="eps"):
            find_attack("pgd-3", eps=eps)
    assert find_attack("cw-l2", eps=1).facts()["norm"] == "l2"


def test_a_transfer_attack_without_a_surrogate_says_so() -> None:
    plane = Plane(3)
    images = plane.images(2)
    with pytest.raises(CurateError, match="transfer-fgsm: needs a surrogate"):
        find_attack("transfer-fgsm", eps=1).run(plane, images, torch.tensor([0, 1]), keys(2), 0)


@pytest.mark.parametrize("name", ["transfer-fgsm", "transfer-dim"])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_surrogate_of_other_classes_is_refused(name: str, classes: int) -> None:
    plane = Plane(3)
    images = plane.images(2)
    labels = predicted(plane, images)
    with pytest.raises(CurateError, match=f"surrogate tells {classes} classes .* classifier 3"):
        find_attack(name, eps=1).run(plane, images, labels, keys(2), 0, surrogate=Plane(classes))


def test_restarts_can_only_help() -> None:
    plane = Plane(5)
    images = plane.images(40)
    labels = predicted(plane, images)
    attack = find_attack("pgd-2x4", eps=0.5)
    assert isinstance(attack, GradientAttack)
    assert attack.restarts == 4
    four = attack.run(plane, images, labels, keys(40), 0)
    one = find_attack("pgd-2", eps=0.5).run(plane, images, labels, keys(40), 0)
    assert not (four.robust & ~one.robust).any()
    assert set(four.queries[four.robust].tolist()) == {1 + 4 * 3}


def test_attacking_towards_classes_breaks_what_leading_away_breaks() -> None:
    plane = Plane(5)
    images = plane.images(40)
    labels = predicted(plane, images)
    away = find_attack("pgd-margin-10", eps=0.5).run(plane, images, labels, keys(40), 0)
    towards = find_attack("pgd-targeted-10", eps=0.5).run(plane, images, labels, keys(40), 0)
    assert 0 < away.robust.sum() < 40
    assert not (towards.robust & ~away.robust).any()
    assert set(towards.queries[towards.robust].tolist()) == {1 + 4 * 11}


def test_transfer_attacks_take_gradients_from_the_surrogate_and_look_once() -> None:
    plane, other = Plane(5), Plane(5, scale=-1.0)
    images = plane.images(30)
    labels = predicted(plane, images)
    for name in ("transfer-fgsm", "transfer-bim", "transfer-mim", "transfer-dim"):
        attack = find_attack(name, eps=8)
        same = attack.run(plane, images, labels, keys(30), 0, surrogate=plane)
        assert not same.robust.any()
        misled = attack.run(plane, images, labels, keys(30), 0, surrogate=other)
        assert misled.robust.all(), name
        steps = attack.facts()["steps"]
        assert set(same.queries.tolist()) == {steps + 2}
