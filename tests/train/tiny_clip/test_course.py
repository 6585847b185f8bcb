from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from train.tiny_clip.course import Course
from train.tiny_clip.recipe import Phase, Pictures, accuracy, halves, new_model


def coloured(count: int) -> Pictures:
    """Pictures that are told apart by their colour."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 60, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = noise + 120 * functional.one_hot(labels, 3)[:, :, None, None].byte()
    return Pictures(images, labels, ("apple", "leaf", "sea"))


def trained(phase: Phase, left_after: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """Weights after a phase that was left after some epochs and gone on with elsewhere."""
    model = new_model()
    course = Course(model, coloured(250), phase)
    while course.done < phase.epochs:
        course.epoch()
        if course.done in left_after:
            state, model = course.state(), new_model(seed=9)
            course = Course(model, coloured(250), phase)
            course.restore(state)
    return model.state_dict()


def differing(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> Iterator[str]:
    yield from (name for name, value in one.items() if not torch.equal(value, two[name]))


@pytest.mark.slow
def test_it_learns_what_is_easy() -> None:
    model, pictures = new_model(), coloured(250)
    course = Course(model, pictures, Phase(60, 1.0, 0.2, 0))
    while course.done < 60:
        course.epoch()
    assert accuracy(model, pictures) > 0.9
    assert course.seen[-1].right > course.seen[0].right
    assert course.seen[-1].loss < course.seen[0].loss


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    one, same, other = (trained(Phase(1, 1.0, 0.5, seed)) for seed in (0, 0, 1))
    assert not list(differing(one, same))
    assert list(differing(one, other))


@pytest.mark.parametrize("left_after", [(1,), (2,), (1, 2)])
def test_what_was_left_after_an_epoch_ends_with_the_same_weights(
    left_after: tuple[int, ...],
) -> None:
    phase = Phase(3, 1.0, 0.5, 0)
    assert not list(differing(trained(phase), trained(phase, left_after)))


def test_what_was_seen_is_remembered() -> None:
    course = Course(new_model(), coloured(250), Phase(2, 1.0, 0.0, 0))
    first = course.epoch()
    other = Course(new_model(), coloured(250), Phase(2, 1.0, 0.0, 0))
    other.restore(course.state())
    assert other.seen == [first]
    assert other.done == 1
    assert 0 <= first.right <= 1


def test_training_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Course(new_model(), coloured(250), Phase(1, 1.0, 1.0, 0)).epoch()
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_written_is_half_as_large() -> None:
    model = new_model()
    assert {value.dtype for value in halves(model).values()} == {torch.float16, torch.int64}


@settings(max_examples=5, deadline=None)
@given(st.integers(250, 520))
def test_a_last_batch_that_is_not_whole_is_left_out(count: int) -> None:
    course = Course(new_model(), coloured(count), Phase(1, 1.0, 0.0, 0))
    seen = course.epoch()
    whole = count // 250 * 250
    assert abs(seen.right * whole - round(seen.right * whole)) < 1e-6
