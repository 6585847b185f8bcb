import pytest
import torch

from train.tiny_clip.recipe import (
    MODEL,
    TEMPLATES,
    Phase,
    Pictures,
    accuracy,
    filled,
    new_model,
    tokens,
    train,
)


def coloured(count: int) -> Pictures:
    """Pictures that are told apart by their colour."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 60, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = noise + 120 * torch.nn.functional.one_hot(labels, 3)[:, :, None, None].byte()
    return Pictures(images, labels, ("apple", "leaf", "sea"))


@pytest.mark.slow
def test_it_learns_what_is_easy() -> None:
    pictures = coloured(250)
    said: list[str] = []
    model = new_model()
    train(model, pictures, Phase(60, 1.0, 0.2, 0), said.append)
    assert len(said) == 60
    assert accuracy(model, pictures) > 0.9


def test_equal_seeds_give_equal_weights() -> None:
    models = [new_model() for _ in range(2)]
    for model in models:
        train(model, coloured(250), Phase(2, 1.0, 0.5, 0), lambda _line: None)
    one, two = (model.state_dict() for model in models)
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_training_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    train(new_model(), coloured(250), Phase(1, 1.0, 1.0, 0), lambda _line: None)
    assert torch.equal(torch.get_rng_state(), before)


def test_articles_follow_the_class_name() -> None:
    assert filled("a photo of a {}", "airplane") == "a photo of an airplane"
    assert filled("a photo of a {}", "dog") == "a photo of a dog"
    assert filled("the {}", "airplane") == "the airplane"


def test_every_template_is_encoded_for_every_class() -> None:
    rows = tokens(("cat", "dog"))
    assert rows.shape == (len(TEMPLATES), 2, MODEL["text_cfg"]["context_length"])
    assert len({tuple(row.tolist()) for row in rows.flatten(0, 1)}) == 2 * len(TEMPLATES)
