"""Random noise: within the ball, each image's own, and weaker than any attack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from attacking import Plane, keys, pictures, predicted
from torch import Tensor, nn

from eval.attacks.noise import Noise

if TYPE_CHECKING:
    from eval.attacks.threat import Norm


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_draws_are_in_the_ball_and_the_worst_one_is_kept(norm: Norm) -> None:
    seen: list[Tensor] = []
    plane = Plane(5)

    class Watched(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            logits: Tensor = plane(images)
            return logits

    images = plane.images(6)
    labels = predicted(plane, images)
    found = Noise("noise", 1.0, norm, draws=7).run(Watched().eval(), images, labels, keys(6), 0)
    assert len(seen) == 8
    assert found.queries.tolist() == [8] * 6
    length = found.linf if norm == "linf" else found.l2 * 255
    assert (length > 0.5).all()
    assert (length <= 1 + 1e-4).all()
    logits = torch.stack([plane(points) for points in seen[1:]])
    right = logits.gather(2, labels.expand(7, 6)[:, :, None])[:, :, 0]
    others = logits.scatter(2, labels.expand(7, 6)[:, :, None], -torch.inf).amax(dim=2)
    torch.testing.assert_close(found.margin, (right - others).amin(dim=0))


def test_draws_follow_the_key_not_the_batch() -> None:
    plane = Plane(5)
    images, names = plane.images(9), keys(9)
    labels = predicted(plane, images)
    attack = Noise("noise", 4.0)
    whole = attack.run(plane, images, labels, names, 3)
    rows = torch.tensor([7, 0, 4])
    part = attack.run(plane, images[rows], labels[rows], [names[row] for row in rows], 3)
    assert torch.equal(part.images, whole.images[rows])
    other = attack.run(plane, images, labels, names, 4)
    assert not torch.equal(other.images, whole.images)


def test_enough_noise_breaks_some_images_and_more_draws_break_more() -> None:
    plane = Plane(5)
    images = plane.images(60)
    labels = predicted(plane, images)
    left = [
        int(Noise("noise", 8.0, draws=draws).run(plane, images, labels, keys(60), 0).robust.sum())
        for draws in (1, 10, 40)
    ]
    assert 60 > left[0] > left[1] > left[2] > 0


def test_wrong_images_are_not_looked_at_again() -> None:
    plane = Plane(5)
    images = pictures(2)[:, :, :8, :8].contiguous()
    labels = predicted(plane, images)
    labels[0] = (labels[0] + 1) % 5
    found = Noise("noise", 0.0, draws=3).run(plane, images, labels, keys(2), 0)
    assert found.queries.tolist() == [1, 4]
    assert found.linf.tolist() == [0, 0]
