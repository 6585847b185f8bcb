from typing import Any

import pytest

from train.card import licence_of, model_card
from train.recipe import read_recipe


def facts(**changes: Any) -> dict[str, Any]:
    row = {"images": 512, "clean": 0.5, "robust": 0.25}
    return {
        "model": {"name": "open_clip:ViT-B-32/openai", "weights_sha256": "ab12", "licence": "MIT"},
        "data": {"kind": "split", "name": "train", "digest": "cd34", "split": "ef56", "samples": 9},
        "recipe": read_recipe("tecoa_ft").model_dump(mode="json"),
        "updates": 100,
        "before": row,
        "after": row | {"robust": 0.4},
        "interpolation": [],
        "best_share": None,
        "loading": "like this.",
    } | changes


def test_a_card_names_split_attack_licence_and_figures() -> None:
    card = model_card(facts())
    for words in ("ef56", "cd34", "MIT", "PGD-2, L-inf, eps 1/255", "| after | 50.0% | 40.0% |"):
        assert words in card
    assert "These are not figures of a benchmark" in card


def test_samples_that_were_not_cleaned_are_said_to_be() -> None:
    data = facts()["data"] | {"split": None}
    assert "these samples were not cleaned by curate" in model_card(facts(data=data))


def test_without_labels_no_accuracy_is_stated() -> None:
    card = model_card(facts(before=None, after=None))
    assert "accuracy was not measured" in card


def test_interpolation_is_a_table_with_its_best_share() -> None:
    rows = [
        {"share": 0.0, "clean": 0.9, "robust": 0.0},
        {"share": 0.5, "clean": 0.8, "robust": 0.3},
    ]
    card = model_card(facts(interpolation=rows, best_share=0.5))
    assert "| 0.5 | 80.0% | 30.0% |" in card
    assert "is at 0.5" in card


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("open_clip:ViT-B-32/openai", "OpenAI"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "LAION"),
        ("builtin:tiny-clip", "CIFAR-10"),
        ("open_clip:local-dir", "not known to curate"),
    ],
)
def test_licences_are_known_or_said_to_be_unknown(model: str, words: str) -> None:
    assert words in licence_of(model)
