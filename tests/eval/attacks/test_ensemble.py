"""AutoAttack and its parts: with few classes, without touching anything, in any batch."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from attacking import Plane, keys, pictures, predicted

from eval.attacks.ensemble import Ensemble, Stage
from eval.attacks.registry import find_attack

if TYPE_CHECKING:
    from eval.attacks.threat import Norm
    from eval.models.classifier import ZeroShot

FULL: tuple[Stage, ...] = ("apgd-ce", "apgd-t", "fab-t", "square")


def short(stages: tuple[Stage, ...] = FULL, eps: float = 0.6, norm: Norm = "linf") -> Ensemble:
    return Ensemble("test", stages, eps, norm, steps=10, queries=50)


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 12])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_all_stages_run_with_any_number_of_classes(classes: int, norm: Norm) -> None:
    plane = Plane(classes)
    images = plane.images(24)
    labels = predicted(plane, images)
    eps = 0.6 if norm == "linf" else 6.0
    left = []
    for count in range(1, 5):
        found = short(FULL[:count], eps, norm).run(plane, images, labels, keys(24), 0)
        left.append(int(found.robust.sum()))
        length = found.linf if norm == "linf" else found.l2 * 255
        assert length.max() <= eps + 1e-2
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] < 24


@pytest.mark.parametrize("stage", ["fab-t", "square"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_stage_of_the_library_breaks_images_itself(stage: Stage, norm: Norm) -> None:
    plane = Plane(5)
    images = plane.images(40)
    labels = predicted(plane, images)
    eps = 1.0 if norm == "linf" else 12.0
    found = Ensemble("test", (stage,), eps, norm, 20, 500).run(plane, images, labels, keys(40), 0)
    reference = short(("apgd-ce", "apgd-dlr"), eps, norm)
    best = reference.run(plane, images, labels, keys(40), 0)
    assert best.robust.sum() <= found.robust.sum() < 36
    assert (found.queries[found.clean] > 2).all()


def test_two_classes_leave_the_pair_with_the_cross_entropy_alone() -> None:
    plane = Plane(2)
    images = plane.images(16)
    labels = predicted(plane, images)
    pair = short(("apgd-ce", "apgd-dlr")).run(plane, images, labels, keys(16), 0)
    alone = short(("apgd-ce",)).run(plane, images, labels, keys(16), 0)
    assert torch.equal(pair.queries, alone.queries)
    assert torch.equal(pair.images, alone.images)


@pytest.mark.parametrize(("classes", "walks"), [(2, 1), (3, 1), (4, 3), (12, 9)])
def test_the_targeted_stage_aims_at_no_more_classes_than_there_are(
    classes: int, walks: int
) -> None:
    plane = Plane(classes)
    images = plane.images(6)
    attack = replace(short(("apgd-t",)), eps=0.0)
    found = attack.run(plane, images, predicted(plane, images), keys(6), 0)
    assert set(found.queries.tolist()) == {1 + walks * 11}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("stages", [FULL, ("square",), ("fab-t",), ("apgd-ce",)])
def test_neither_batch_nor_order_matters(stages: tuple[Stage, ...], norm: Norm) -> None:
    plane = Plane(5)
    images, names = plane.images(12), keys(12)
    labels = predicted(plane, images)
    attack = short(stages, 0.6 if norm == "linf" else 6.0, norm)
    whole = attack.run(plane, images, labels, names, 7)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for size in (1, 5):
        for rows in order.split(size):
            part = attack.run(plane, images[rows], labels[rows], [names[r] for r in rows], 7)
            assert torch.equal(part.robust, whole.robust[rows])
            assert torch.equal(part.queries, whole.queries[rows])
            torch.testing.assert_close(part.images, whole.images[rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_seed_decides_and_the_global_generator_is_not_touched(norm: Norm) -> None:
    plane = Plane(5)
    images = plane.images(10)
    labels = predicted(plane, images)
    before = torch.get_rng_state()
    attack = short(("square",), 0.3 if norm == "linf" else 3.0, norm)
    first, again, other = (attack.run(plane, images, labels, keys(10), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_nothing_is_logged_printed_or_left_behind(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    plane = Plane(5)
    images = plane.images(4)
    with caplog.at_level(logging.DEBUG):
        short().run(plane, images, predicted(plane, images), keys(4), 0)
    assert not caplog.records
    assert capsys.readouterr() == ("", "")
    assert plane.weight.grad is None
    assert plane.weight.requires_grad
    assert not plane._forward_hooks


def test_only_all_four_are_called_autoattack() -> None:
    stages: dict[str, Any] = {
        name: find_attack(name, eps=8).facts()["stages"]
        for name in ("autoattack", "apgd-ce+dlr", "apgd-ce+t", "apgd-ce", "square")
    }
    assert [name for name, each in stages.items() if set(each) == set(FULL)] == ["autoattack"]
    facts = find_attack("autoattack", eps=8).facts()
    assert facts["library"].startswith("pyautoattack 0.2")
    assert facts["queries"] == 5000
    assert facts["steps"] == 100


def test_the_ensemble_is_at_least_as_strong_as_its_first_stage_and_pgd(
    classifier: ZeroShot,
) -> None:
    images = pictures(24)
    labels = predicted(classifier, images)
    full = short(eps=0.5).run(classifier, images, labels, keys(24), 0)
    pgd = find_attack("pgd-10", eps=0.5).run(classifier, images, labels, keys(24), 0)
    noise = find_attack("noise", eps=0.5).run(classifier, images, labels, keys(24), 0)
    assert full.robust.sum() <= pgd.robust.sum() <= noise.robust.sum()
    assert full.robust.sum() < noise.robust.sum()


@pytest.mark.slow
def test_the_full_ensemble_breaks_what_pyautoattack_breaks(classifier: ZeroShot) -> None:
    from pyautoattack import AutoAttack

    images = pictures(16)
    labels = predicted(classifier, images)
    ours = find_attack("autoattack", eps=0.5).run(classifier, images, labels, keys(16), 0)
    with torch.random.fork_rng():
        theirs = AutoAttack(classifier, eps=0.5 / 255, seed=0, device="cpu")
        theirs.fab.n_target_classes = theirs.apgd_targeted.n_target_classes = 4
        points, _ = theirs.run_standard_evaluation(images, labels, batch_size=16)
    assert torch.equal(ours.robust, predicted(classifier, points) == labels)
