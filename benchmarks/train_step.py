"""What an adversarial update costs, in forward passes of the image tower, and against a plain way.

An update with PGD-2 takes 9 forward passes by arithmetic: two attack steps and one update, each a
forward and a backward pass of twice its cost. The plain way, as the first public code of the field
does it, encodes the texts of all classes in every attack step and gathers gradients of all weights.
Models have random weights, which costs the same. Processor time of one thread.

    python benchmarks/train_step.py --out benchmarks/results/train-step.json
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import write_result
from torch import Tensor
from torch.nn import functional

from eval.attacks.threat import Threat
from eval.models.classifier import Clip, class_texts, load_clip_model
from train.adapters import AdapterConfig, adapt
from train.checkpoint import State
from train.loader import Loaded
from train.loop import Training, make_optimizer, updates
from train.objectives import Context, find_objective
from train.processes import Processes
from train.recipe import read_recipe

CASES = {
    "builtin:tiny-clip": (250, 10),
    "open_clip:ViT-B-32/random": (16, 100),
    "open_clip:RN50/random": (8, 100),
}
"""Model: images of an update, classes."""
REPEATS = 3


def main() -> None:
    """Measure every model and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default=",".join(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name in arguments.models.split(","):
        rows[name] = measure(name, *CASES[name])
        print(name, rows[name], flush=True)
    write_result(arguments.out, {"models": rows})


def measure(name: str, batch: int, classes: int) -> dict[str, Any]:
    clip = load_clip_model(name, device="cpu")
    names = [f"class {number}" for number in range(classes)]
    images = torch.randint(0, 256, (batch, 3, clip.size, clip.size), dtype=torch.uint8)
    labels = torch.arange(batch) % classes
    changes = {"batch": batch, "epochs": None, "updates": 10_000, "precision": "fp32"}
    recipe = read_recipe("tecoa_ft", changes)
    texts = class_texts(clip, names, recipe.templates)
    adapted = adapt(clip, AdapterConfig(kind="finetune"))
    context = Context(adapted.classifier(texts), texts, clip.scale)
    state = State(adapted.parameters, make_optimizer(recipe.optimizer, adapted.parameters), {})
    training = Training(recipe, find_objective("tecoa"), context, 10_000, Processes())
    keys = tuple(str(number) for number in range(batch))
    loaded = (Loaded(n, 0, keys, images, labels, (None,) * batch) for n in range(10_000))
    made = updates(training, state, loaded)
    pixels = images.float() / 255

    def forward() -> None:
        with torch.no_grad():
            context.student.features(pixels)

    one, step = seconds(forward), seconds(lambda: next(made))
    plain = seconds(lambda: plain_step(clip, pixels, labels, names, Threat(1, 1, 2, "uniform")), 1)
    return {
        "images": batch,
        "classes": classes,
        "forward_seconds": one,
        "update_seconds": step,
        "forward_equivalents": step / one,
        "plain_seconds": plain,
        "speed_up": plain / step,
    }


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Least processor time of some runs, after one that is not counted."""
    taken = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken[1:])


def plain_step(
    clip: Clip, pixels: Tensor, labels: Tensor, names: list[str], threat: Threat
) -> None:
    """An update that encodes the texts anew in each pass and lets gradients reach all weights."""
    model: Any = clip.model
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (clip.mean, clip.std))
    tokens = clip.tokenize([f"a photo of a {name}" for name in names])

    def loss(images: Tensor) -> Tensor:
        seen = functional.normalize(model.encode_image((images - mean) / std), dim=1)
        words = functional.normalize(model.encode_text(tokens), dim=1)
        return functional.cross_entropy(clip.scale * seen @ words.T, labels)

    eps, step = threat.eps / 255, threat.step / 255
    delta = torch.empty_like(pixels).uniform_(-eps, eps).requires_grad_()
    for _ in range(threat.steps):
        loss(pixels + delta).backward()
        assert delta.grad is not None
        with torch.no_grad():
            delta += step * delta.grad.sign()
            delta.clamp_(-eps, eps)
            delta.grad.zero_()
    model.zero_grad()
    loss(pixels + delta.detach()).backward()
    with torch.no_grad():
        for parameter in model.visual.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-5 * parameter.grad)
    for parameter in model.parameters():
        parameter.grad = None
        parameter.requires_grad_(requires_grad=False)


if __name__ == "__main__":
    main()
