"""Updates: what they cost, what they leave alone, and what stops them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from eval.models.classifier import Clip, class_texts
from train.adapters import AdapterConfig, adapt
from train.checkpoint import State
from train.loader import Loaded
from train.loop import DivergedError, Training, Update, make_optimizer, updates
from train.objectives import Context, find_objective
from train.processes import Processes
from train.recipe import OptimizerConfig, Recipe, read_recipe

NAMES = ("cat", "dog", "horse")


def batches(count: int = 100, size: int = 6, side: int = 32) -> Iterator[Loaded]:
    for step in range(count):
        generator = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (size, 3, side, side), generator=generator).byte()
        keys = tuple(f"{step}:{n}" for n in range(size))
        yield Loaded(step, 0, keys, images, torch.arange(size) % 3, (None,) * size)


def recipe(**changes: Any) -> Recipe:
    base = {"batch": 6, "epochs": None, "updates": 10, "warmup": 0, "precision": "fp32"}
    return read_recipe("tiny", base | changes)


def begin(clip: Clip, settings: Recipe) -> tuple[Training, State]:
    texts = class_texts(clip, NAMES, settings.templates)
    adapted = adapt(clip, settings.adapter, len(NAMES))
    objective = find_objective(settings.loss)
    original = clip.classifier(texts) if objective.uses_original else None
    context = Context(adapted.classifier(texts), texts, clip.scale, original, head=adapted.head)
    average = {}
    if settings.average is not None:
        average = {name: value.detach().clone() for name, value in adapted.parameters.items()}
    state = State(
        adapted.parameters, make_optimizer(settings.optimizer, adapted.parameters), average
    )
    return Training(settings, objective, context, 10, Processes()), state


def run(clip: Clip, settings: Recipe, count: int = 4) -> tuple[list[Update], State]:
    training, state = begin(clip, settings)
    made = updates(training, state, batches())
    return [next(made) for _ in range(count)], state


def test_the_text_tower_is_called_once_a_run(clips: Callable[[str], Clip]) -> None:
    clip, calls = clips("vit"), []
    handle = clip.model.get_submodule("transformer").register_forward_hook(
        lambda *_: calls.append(1)
    )
    try:
        run(clip, recipe())
    finally:
        handle.remove()
    assert len(calls) == 1


def test_an_update_with_two_attack_steps_calls_the_image_tower_three_times(
    clips: Callable[[str], Clip],
) -> None:
    training, state = begin(clips("resnet"), recipe(**{"attack.steps": 2}))
    calls: list[int] = []
    training.context.student.tower.register_forward_hook(lambda *_: calls.append(1))
    next(updates(training, state, batches()))
    assert len(calls) == 3  # each with a backward pass: nine forward passes by arithmetic


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_pieces_give_the_same_loss_and_weights(clips: Callable[[str], Clip], size: int) -> None:
    sgd = {"optimizer.name": "sgd", "optimizer.rate": 0.01, "optimizer.weight_decay": 0}
    whole, state = run(clips("resnet"), recipe(**sgd), 2)
    parts, other = run(clips("resnet"), recipe(piece=size, **sgd), 2)
    assert [u.loss for u in parts] == pytest.approx([u.loss for u in whole], rel=2e-3)
    for name, value in state.parameters.items():
        torch.testing.assert_close(other.parameters[name], value, rtol=1e-3, atol=1e-5)


def test_batchnorm_keeps_its_statistics(clips: Callable[[str], Clip]) -> None:
    training, state = begin(clips("resnet"), recipe())
    tower = training.context.student.tower
    before = {name: value.clone() for name, value in tower.named_buffers()}
    next(updates(training, state, batches()))
    assert before
    for name, value in tower.named_buffers():
        assert torch.equal(value, before[name]), name


def test_the_model_that_was_given_is_left_as_it_was(clips: Callable[[str], Clip]) -> None:
    clip = clips("vit")
    before = {name: value.clone() for name, value in clip.model.state_dict().items()}
    run(clip, recipe())
    for name, value in clip.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_average_follows_the_weights(clips: Callable[[str], Clip]) -> None:
    training, state = begin(clips("resnet"), recipe(average=0.5))
    name = next(iter(state.parameters))
    wanted = state.parameters[name].detach().clone()
    made = updates(training, state, batches())
    for _ in range(3):
        next(made)
        wanted = 0.5 * wanted + 0.5 * state.parameters[name].detach()
    torch.testing.assert_close(state.average[name], wanted)


def test_gradients_are_clipped_to_the_norm_that_is_reported_before(
    clips: Callable[[str], Clip],
) -> None:
    sgd = {"name": "sgd", "rate": 1.0, "momentum": 0, "weight_decay": 0}
    training, state = begin(clips("resnet"), recipe(clip_norm=1e-3, optimizer=sgd))
    before = {name: value.detach().clone() for name, value in state.parameters.items()}
    found = next(updates(training, state, batches()))
    moved = sum((state.parameters[n].detach() - v).square().sum() for n, v in before.items())
    assert found.gradient_norm > 1e-3
    assert float(torch.as_tensor(moved).sqrt()) == pytest.approx(1e-3, rel=1e-2)


def test_a_batch_that_gives_no_number_is_named_and_changes_nothing(
    clips: Callable[[str], Clip],
) -> None:
    training, state = begin(clips("vit"), recipe(loss="ce"))

    def broken(context: Context, *given: Any) -> torch.Tensor:
        losses = find_objective("ce").train_loss(context, *given)
        return losses.index_fill(0, torch.tensor([4]), torch.nan)

    spoilt = replace(training, objective=replace(training.objective, train_loss=broken))
    before = {name: value.detach().clone() for name, value in state.parameters.items()}
    with pytest.raises(DivergedError, match=r"step 1: the loss is NaN or infinite for 0:4;"):
        next(updates(spoilt, state, batches()))
    assert all(torch.equal(state.parameters[name], value) for name, value in before.items())
    assert state.step == 0


def test_an_attack_that_meets_nan_names_the_samples(clips: Callable[[str], Clip]) -> None:
    training, state = begin(clips("vit"), recipe())
    with torch.no_grad():
        next(iter(state.parameters.values())).fill_(torch.nan)
    with pytest.raises(
        DivergedError, match=r"the loss under attack is NaN or infinite for 0:0, 0:1"
    ):
        next(updates(training, state, batches()))


def test_matrices_decay_and_prompts_biases_and_norms_do_not() -> None:
    parameters = {
        name: torch.nn.Parameter(torch.zeros(shape))
        for name, shape in (
            ("visual.a.weight", (2, 2)), ("visual.a.bias", (2,)), ("prompt.tokens", (3, 4)),
        )
    }  # fmt: skip
    optimizer = make_optimizer(OptimizerConfig(rate=0.1, weight_decay=0.5), parameters)
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert [decays[id(parameter)] for parameter in parameters.values()] == [0.5, 0.0, 0.0]


def test_every_epoch_meets_other_noise_and_the_same_step_the_same(
    clips: Callable[[str], Clip],
) -> None:
    one, _ = run(clips("vit"), recipe(), 3)
    two, _ = run(clips("vit"), recipe(), 3)
    assert [u.loss for u in one] == [u.loss for u in two]
    other, _ = run(clips("vit"), recipe(seed=1), 3)
    assert [u.loss for u in one] != [u.loss for u in other]


def test_a_probe_trains_its_head_alone(clips: Callable[[str], Clip]) -> None:
    settings = recipe(loss="ce", adapter={"kind": "linear-probe"})
    _, state = run(clips("resnet"), settings)
    assert list(state.parameters) == ["head.weight", "head.bias"]
    assert state.parameters["head.weight"].abs().sum() > 0
    assert AdapterConfig(kind="linear-probe") == settings.adapter
