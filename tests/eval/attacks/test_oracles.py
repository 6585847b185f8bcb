"""The same attacks as in foolbox, torchattack and torchattacks, at equal parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from attacking import SHAPE, keys, pictures, predicted
from torch import Tensor

from eval.attacks.apgd import Apgd
from eval.attacks.diversity import Diversity, diversify, draw
from eval.attacks.gradient import GradientAttack
from eval.attacks.guard import frozen
from eval.attacks.loop import perturb, walk
from eval.attacks.losses import LossName, attack_loss
from eval.attacks.threat import Threat, start_noise
from eval.attacks.trail import Trail

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.models.classifier import ZeroShot

COUNT = 128


@pytest.fixture(scope="module")
def batch(classifier: ZeroShot) -> tuple[Tensor, Tensor]:
    images = pictures(COUNT)
    return images, predicted(classifier, images)


def last_point(classifier: ZeroShot, batch: tuple[Tensor, Tensor], threat: Threat) -> Tensor:
    images, labels = batch
    noise = start_noise(keys(COUNT), 0, SHAPE, threat.norm)

    def loss(points: Tensor) -> Tensor:
        return attack_loss("ce", classifier(points), labels)

    with frozen(classifier):
        return perturb(loss, images, threat, noise).images


def walked(classifier: ZeroShot, batch: tuple[Tensor, Tensor], threat: Threat) -> Tensor:
    """With momentum, to the last point."""
    images, labels = batch

    def source(rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        here = points.clone().requires_grad_()
        total = attack_loss("ce", classifier(here), labels).sum()
        return rows, torch.autograd.grad(total, here)[0]

    every = torch.arange(len(images))
    with frozen(classifier):
        return walk(images, threat, None, source, lambda: every, decay=1.0)


def agreement(classifier: ZeroShot, ours: Tensor, theirs: Tensor, labels: Tensor) -> float:
    """Share of images with the same flag; both flags must occur."""
    mine, other = (predicted(classifier, points) == labels for points in (ours, theirs))
    assert 0.02 < other.float().mean() < 0.98
    return float((mine == other).float().mean())


def test_fgsm_is_that_of_torchattacks_and_torchattack(
    classifier: ZeroShot, batch: tuple[Tensor, Tensor]
) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    torchattack = pytest.importorskip("torchattack")
    images, labels = batch
    ours = last_point(classifier, batch, Threat(1, 1, 1, "zero"))
    others = [
        torchattacks.FGSM(classifier, eps=1 / 255)(images, labels),
        torchattack.FGSM(classifier, device=torch.device("cpu"), eps=1 / 255)(images, labels),
    ]
    for theirs in others:
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
        assert agreement(classifier, ours, theirs, labels) == 1


@pytest.mark.parametrize(("steps", "step"), [(10, 0.15), (20, 0.1)])
def test_bim_is_that_of_torchattacks_and_foolbox(
    classifier: ZeroShot, batch: tuple[Tensor, Tensor], steps: int, step: float
) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    foolbox = pytest.importorskip("foolbox")
    images, labels = batch
    ours = last_point(classifier, batch, Threat(0.7, step, steps, "zero"))
    bim = torchattacks.BIM(classifier, eps=0.7 / 255, alpha=step / 255, steps=steps)
    assert agreement(classifier, ours, bim(images, labels), labels) >= 0.99
    plain = foolbox.attacks.LinfBasicIterativeAttack(
        steps=steps, abs_stepsize=step / 255, random_start=False
    )
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
    with frozen(classifier):
        _, theirs, _ = plain(model, images, labels, epsilons=0.7 / 255)
    assert agreement(classifier, ours, theirs, labels) >= 0.99


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_is_that_of_foolbox_from_the_same_start(
    classifier: ZeroShot,
    batch: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    norm: Literal["linf", "l2"],
) -> None:
    foolbox = pytest.importorskip("foolbox")
    images, labels = batch
    eps, step = (0.8, 0.2) if norm == "linf" else (20.0, 5.0)
    ours = last_point(classifier, batch, Threat(eps, step, 10, "uniform", norm))
    name = "LinfPGD" if norm == "linf" else "L2PGD"
    attack = getattr(foolbox.attacks, name)(steps=10, abs_stepsize=step / 255)
    noise = start_noise(keys(COUNT), 0, SHAPE, norm)

    def start(x0: Any, radius: Any) -> Any:
        return type(x0)((x0.raw + noise * radius).clamp(0, 1))

    monkeypatch.setattr(attack, "get_random_start", start)
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
    with frozen(classifier):
        _, theirs, _ = attack(model, images, labels, epsilons=eps / 255)
    assert agreement(classifier, ours, theirs, labels) >= 0.99
    assert ((ours - theirs).abs() > 1e-5).float().mean() < 0.01


def test_mim_is_that_of_torchattacks_and_torchattack(
    classifier: ZeroShot, batch: tuple[Tensor, Tensor]
) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    torchattack = pytest.importorskip("torchattack")
    images, labels = batch
    ours = walked(classifier, batch, Threat(0.7, 0.1, 10, "zero"))
    settings = {"eps": 0.7 / 255, "alpha": 0.1 / 255, "steps": 10, "decay": 1.0}
    device = torch.device("cpu")
    others = [
        torchattacks.MIFGSM(classifier, **settings)(images, labels),
        torchattack.MIFGSM(classifier, device=device, **settings)(images, labels).detach(),
    ]
    for theirs in others:
        assert agreement(classifier, ours, theirs, labels) >= 0.99


def test_dim_is_that_of_torchattacks_with_the_same_draws(
    classifier: ZeroShot, batch: tuple[Tensor, Tensor]
) -> None:
    import numpy as np

    torchattacks = pytest.importorskip("torchattacks")
    images, labels = batch
    theirs = torchattacks.DIFGSM(classifier, 0.7 / 255, 0.1 / 255, steps=10, decay=1.0)
    rng = np.random.default_rng(0)
    drawn = [[draw(Diversity(), (32, 32), rng) for _ in range(COUNT)] for _ in range(10)]
    used = iter(drawn)
    theirs.input_diversity = lambda x: diversify(x, next(used))
    expected = theirs(images, labels)
    steps = iter(drawn)

    def source(rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        here = points.clone().requires_grad_()
        logits = classifier(diversify(here, next(steps)))
        return rows, torch.autograd.grad(attack_loss("ce", logits, labels).sum(), here)[0]

    every = torch.arange(COUNT)
    threat = Threat(0.7, 0.1, 10, "zero")
    with frozen(classifier):
        ours = walk(images, threat, None, source, lambda: every, decay=1.0)
    assert agreement(classifier, ours, expected, labels) >= 0.99


def test_dim_that_never_varies_is_mim(classifier: ZeroShot, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    threat = Threat(0.7, 0.1, 10, "zero")
    plain = GradientAttack("mim", threat, decay=1.0)
    still = GradientAttack("dim", threat, decay=1.0, diversity=Diversity(probability=0))
    varied = GradientAttack("dim", threat, decay=1.0, diversity=Diversity())
    mim, same, other = (
        attack.run(classifier, images, labels, keys(COUNT), 0) for attack in (plain, still, varied)
    )
    assert torch.equal(mim.robust, same.robust)
    assert ((mim.images - same.images).abs() > 1e-5).float().mean() < 1e-3
    assert not torch.equal(mim.images, other.images)
    assert (mim.robust != other.robust).float().mean() < 0.1


APGD = [("linf", "ce"), ("linf", "dlr"), ("l2", "ce"), ("l2", "dlr")]


@pytest.mark.parametrize(("norm", "loss"), APGD)
def test_apgd_takes_the_steps_of_pyautoattack(
    classifier: ZeroShot,
    batch: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    norm: Literal["linf", "l2"],
    loss: LossName,
) -> None:
    base = pytest.importorskip("pyautoattack.autopgd_base")
    images, labels = batch
    eps = 0.6 if norm == "linf" else 15.0
    noise = start_noise(keys(COUNT), 3, SHAPE, norm)
    library = {"linf": "Linf", "l2": "L2"}[norm]
    theirs = base.APGDAttack(
        classifier, n_iter=25, norm=library, eps=eps / 255, loss=loss, device="cpu"
    )
    theirs.init_hyperparam(images)
    monkeypatch.setattr(torch, "rand", lambda *_: (noise + 1) / 2)
    monkeypatch.setattr(torch, "randn", lambda *_: noise)
    _, right, best_loss, _ = theirs.attack_single_run(images, labels)
    monkeypatch.undo()
    ours = Apgd("apgd", eps, loss, norm, 25)
    with frozen(classifier):
        trail = Trail(classifier, images, labels)
        ours.climb(trail, noise, None)
    found = trail.verdict()
    assert (found.robust == right.bool()).float().mean() >= 0.99
    assert 0.02 < found.robust.float().mean() < 0.98
    # an image that was never wrong took all the steps: its highest loss is that of the library
    survivors = found.robust & right.bool()
    last = attack_loss(loss, classifier(found.images), labels)
    if loss == "ce":
        gap = (last - best_loss)[survivors].abs() / best_loss[survivors]
        assert gap.median() < 0.01


def test_targeted_apgd_breaks_what_pyautoattacks_breaks(
    classifier: ZeroShot, batch: tuple[Tensor, Tensor]
) -> None:
    base = pytest.importorskip("pyautoattack.autopgd_base")
    images, labels = (part[:48] for part in batch)
    theirs = base.APGDAttack_targeted(
        classifier, n_iter=25, eps=0.6 / 255, n_target_classes=4, device="cpu"
    )
    with torch.random.fork_rng():
        points = theirs.perturb(images, labels)
    right = predicted(classifier, points) == labels
    ours = Apgd("apgd-t", 0.6, "dlr", steps=25, targets=9)
    found = ours.run(classifier, images, labels, keys(48), 0)
    assert (found.robust != right).sum() <= 1
    assert 0.02 < right.float().mean() < 0.98


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("fgsm", lambda ta, net: ta.FGSM(net, eps=0.7 / 255)),
        ("pgd-20", lambda ta, net: ta.PGD(net, eps=0.7 / 255, alpha=0.175 / 255, steps=20)),
    ],
)
def test_attacks_by_name_break_what_torchattacks_break(
    classifier: ZeroShot,
    batch: tuple[Tensor, Tensor],
    name: str,
    make: Callable[[Any, Any], Any],
) -> None:
    from eval.attacks.registry import find_attack

    torchattacks = pytest.importorskip("torchattacks")
    images, labels = batch
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = make(torchattacks, classifier)(images, labels)
    found = find_attack(name, eps=0.7).run(classifier, images, labels, keys(COUNT), 0)
    right = predicted(classifier, theirs) == labels
    assert (found.robust == right).float().mean() >= 0.99
