"""The model card of a trained model: a README.md with what a reader has to know."""

from __future__ import annotations

import json
from typing import Any

_LICENCES = {
    "openai": "MIT, as OpenAI's CLIP repository states for its code and weights",
    "laion": "MIT, as OpenCLIP states for weights trained on LAION",
    "datacomp": "MIT, as DataComp states",
}
_NOT_CLEANED = "none: these samples were not cleaned by curate"
_UNKNOWN = "not known to curate: look it up where the base weights come from"


def licence_of(model: str) -> str:
    """The licence of base weights by the tag in a model's name, in words."""
    if model.startswith("builtin:"):
        return "Apache-2.0, as curate; trained on CIFAR-10, which states no licence"
    tag = model.rpartition("/")[2].lower()
    return next((words for start, words in _LICENCES.items() if tag.startswith(start)), _UNKNOWN)


def model_card(facts: dict[str, Any]) -> str:
    """`train.json` as a page for people.

    Args:
        facts: content of `train.json`.
    """
    recipe, data = facts["recipe"], facts["data"]
    lines = [
        f"# {facts['model']['name']}, adapted by `{recipe['loss']}`",
        "",
        "| | |",
        "| --- | --- |",
        f"| base model | {facts['model']['name']}, weights {facts['model']['weights_sha256']} |",
        f"| licence of the base weights | {facts['model']['licence']} |",
        f"| trained on | {data['name']} ({data['kind']}), {data['samples']} samples |",
        f"| split | {data['split'] or _NOT_CLEANED} |",
        f"| digest of the training samples | {data['digest']} |",
        f"| loss, adapter | {recipe['loss']}, {recipe['adapter']['kind']} |",
        f"| attack while training | {_attack(recipe['attack'])} |",
        f"| updates, batch | {facts['updates']}, {recipe['batch']} |",
        f"| optimiser | {_optimiser(recipe['optimizer'])} |",
        "",
        *_measured(facts),
        *_interpolated(facts),
        "How to load it: " + facts["loading"],
        "",
        "All settings:",
        "",
        "```json",
        json.dumps(recipe, indent=2, sort_keys=True),
        "```",
        "",
    ]
    return "\n".join(lines)


def scratch_card(facts: dict[str, Any]) -> str:
    """`train.json` of a model that was trained from scratch as a page for people."""
    recipe, data = facts["recipe"], facts["data"]
    lines = [
        f"# A small CLIP, from scratch on {data['name']}",
        "",
        "| | |",
        "| --- | --- |",
        f"| trained on | {data['name']} ({data['kind']}), {data['samples']} samples |",
        f"| split | {data['split'] or _NOT_CLEANED} |",
        f"| digest of the training samples | {data['digest']} |",
        f"| epochs, updates, batch | {recipe['epochs']}, {facts['updates']}, {recipe['batch']} |",
        f"| seed | {recipe['seed']} |",
        f"| classes | {len(facts['classes'])} |",
        "",
        "It knows these classes and hardly another word. It is for asking what a model remembers",
        "of its training images, by training it with and without them. It takes 32 x 32 pixels.",
        "",
    ]
    return "\n".join(lines)


def _attack(attack: dict[str, Any] | None) -> str:
    if attack is None:
        return "none"
    return (
        f"PGD-{attack['steps']}, L-inf, eps {attack['eps']:g}/255, step {attack['step']:g}/255, "
        f"{attack['start']} start, in pixels at the size of the model's input"
    )


def _optimiser(config: dict[str, Any]) -> str:
    momentum = f", momentum {config['momentum']:g}" if config["name"] == "sgd" else ""
    return (
        f"{config['name']}, rate {config['rate']:g}{momentum}, "
        f"weight decay {config['weight_decay']:g}"
    )


def _measured(facts: dict[str, Any]) -> list[str]:
    if facts["before"] is None:
        return ["The training samples have no labels, so accuracy was not measured.", ""]
    attack = _attack(facts["recipe"]["measured"])
    rows = [
        f"| {name} | {row['clean']:.1%} | {row['robust']:.1%} |"
        for name, row in (("before", facts["before"]), ("after", facts["after"]))
    ]
    said = (
        f"Accuracy on {facts['after']['images']} training samples that were held out, under "
        f"{attack}. These are not figures of a benchmark."
    )
    return [
        said,
        "",
        "| | clean | robust |",
        "| --- | --- | --- |",
        *rows,
        "",
    ]


def _interpolated(facts: dict[str, Any]) -> list[str]:
    if not facts["interpolation"]:
        return []
    rows = [
        f"| {row['share']:g} | {row['clean']:.1%} | {row['robust']:.1%} |"
        for row in facts["interpolation"]
    ]
    said = (
        "Weights between the original (share 0) and the adapted model (share 1), on the same "
        f"samples; the best mean of both is at {facts['best_share']:g}:"
    )
    return [
        said,
        "",
        "| share | clean | robust |",
        "| --- | --- | --- |",
        *rows,
        "",
    ]
