from pathlib import Path

import pytest

from curate.errors import CurateError
from train.objectives import find_objective
from train.recipe import read_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_its_header_says_what_it_reproduces(name: str) -> None:
    recipe = read_recipe(name)
    assert find_objective(recipe.loss).name == recipe.loss
    text = (Path(__file__).parents[2] / "train" / "recipes" / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert sum(line.startswith("#") for line in text.splitlines()) >= 2


def test_tecoa_has_the_published_hyper_parameters() -> None:
    # Mao et al., ICLR 2023, section 4 and appendix; warm-up and schedule from the released code
    recipe = read_recipe("tecoa_ft")
    assert (recipe.loss, recipe.adapter.kind, recipe.epochs, recipe.batch) == (
        "tecoa", "finetune", 10, 256,
    )  # fmt: skip
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.rate, optimizer.momentum, optimizer.weight_decay) == (
        "sgd", 1e-5, 0.9, 0,
    )  # fmt: skip
    assert recipe.attack is not None
    assert (recipe.attack.eps, recipe.attack.step, recipe.attack.steps) == (1, 1, 2)
    assert recipe.warmup == 1000


def test_prompt_tuning_has_two_hundred_tokens_and_a_rate_of_forty() -> None:
    recipe = read_recipe("tecoa_vpt")
    assert (recipe.adapter.kind, recipe.adapter.length) == ("token-prompt", 200)
    assert (recipe.optimizer.rate, recipe.batch) == (40, 256)


def test_settings_are_changed_by_dotted_names() -> None:
    recipe = read_recipe("tecoa_ft", {"attack.eps": 4, "optimizer.rate": 0.1, "seed": 7})
    assert recipe.attack is not None
    assert (recipe.attack.eps, recipe.attack.step) == (4, 1)
    assert (recipe.optimizer.rate, recipe.optimizer.momentum, recipe.seed) == (0.1, 0.9, 7)


def test_a_recipe_of_ones_own_is_read_from_its_file(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "train" / "recipes" / "fare.yaml"
    own = tmp_path / "own.yaml"
    own.write_text(shipped.read_text().replace("eps: 2", "eps: 3"))
    recipe = read_recipe(str(own))
    assert recipe.attack is not None
    assert recipe.attack.eps == 3


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("tecoa", {}, r"recipe 'tecoa': choose from .*did you mean 'tecoa_ft'"),
        ("nowhere.yaml", {}, "nowhere.yaml: not readable"),
        (
            "tecoa_ft",
            {"optimiser.rate": 1},
            r"optimiser is no setting \(did you mean optimizer\?\)",
        ),
        ("tecoa_ft", {"attack.eps": 0}, "attack.eps: .* greater than 0"),
        ("tecoa_ft", {"attack.eps": "much"}, "attack.eps: .* valid number"),
        ("tecoa_ft", {"updates": 5}, "one of the two"),
        ("tecoa_ft", {"adapter.kind": "partial"}, "adapter partial needs blocks"),
        ("tecoa_ft", {"average": 1.0}, "average: .* less than 1"),
        ("tecoa_ft", {"precision": "fp16"}, "precision: .*'fp32' or 'bf16'"),
    ],
)
def test_wrong_settings_are_named(name: str, changes: dict[str, object], words: str) -> None:
    with pytest.raises(CurateError, match=words):
        read_recipe(name, changes)
