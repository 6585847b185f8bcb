"""What a training run does, as a YAML file says it; the shipped ones are in `train/recipes/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from curate.config import Settings, make_config, read_yaml
from curate.encoders.base import nearest
from curate.errors import CurateError
from curate.storage import local_path
from eval.attacks.threat import Start, Threat
from train.adapters import AdapterConfig  # noqa: TC001 - pydantic reads it

FOLDER = Path(__file__).parent / "recipes"


class AttackConfig(Settings):
    """An attack in pixels, in 255ths, at the size of the model's input.

    Attributes:
        eps: radius of the L-inf ball.
        step: length of a step.
        steps: how many.
        start: zero, or uniform in the ball.
    """

    eps: float = Field(gt=0, le=255)
    step: float = Field(gt=0, le=255)
    steps: int = Field(ge=1)
    start: Start = "uniform"

    def threat(self) -> Threat:
        """As the attack takes it."""
        return Threat(self.eps, self.step, self.steps, self.start)


class OptimizerConfig(Settings):
    """How weights follow gradients.

    Attributes:
        name: sgd (with momentum) or adamw.
        rate: learning rate after the warm-up.
        momentum: of sgd.
        weight_decay: of matrices and kernels; never of biases, norms and prompts.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    rate: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)


class Recipe(Settings):
    """Settings of `curate train`.

    Attributes:
        loss: an objective of `train.objectives`.
        adapter: which weights are trained.
        attack: on the images that are trained on; none for a loss on clean images.
        optimizer: see `OptimizerConfig`.
        epochs: passes over the training set; or `updates`, one of the two.
        updates: number of updates.
        batch: images of an update, over all processes.
        piece: images that a process computes with at once; None: all of its part.
        warmup: updates until the full learning rate.
        clip_norm: largest norm of the gradient of an update; None: any.
        average: decay of a moving average of the weights, which is what is saved; None: none.
        precision: fp32, or bf16 for the image tower.
        compile: run the image tower through torch.compile.
        augment: of training images, see `train.pixels`.
        templates: of class names, each with one {}.
        seed: of the order, augmentation and noise.
        window: shards whose samples are mixed.
        held_out: training samples that are kept apart to measure on.
        measured: the attack under which they are measured.
        measure_every: updates between two measurements.
        save_every: updates between two checkpoints.
    """

    loss: str
    adapter: AdapterConfig
    attack: AttackConfig | None = None
    optimizer: OptimizerConfig
    epochs: float | None = Field(None, gt=0)
    updates: int | None = Field(None, ge=1)
    batch: int = Field(ge=1)
    piece: int | None = Field(None, ge=1)
    warmup: int = Field(0, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    augment: str = "none"
    templates: tuple[str, ...] = ("This is a photo of a {}.",)
    seed: int = Field(0, ge=0)
    window: int = Field(16, ge=1)
    held_out: int = Field(512, ge=1)
    measured: AttackConfig
    measure_every: int = Field(500, ge=1)
    save_every: int = Field(500, ge=1)

    @model_validator(mode="after")
    def _length_is_given_once(self) -> Self:
        if (self.epochs is None) == (self.updates is None):
            raise ValueError("give the length as epochs or as updates, one of the two")
        return self


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_recipe(name: str, changes: dict[str, Any] | None = None) -> Recipe:
    """A shipped recipe by its name, or one by the path of its file, with changed settings.

    Args:
        name: such as tecoa_ft, or a path ending in .yaml.
        changes: values by dotted name, such as {"attack.eps": 4}.

    Raises:
        CurateError: there is no such recipe, or a setting is wrong; all wrong ones are named.
    """
    path = local_path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file() and path.parent == FOLDER:
        known = recipe_names()
        raise CurateError(
            f"recipe {name!r}: choose from {', '.join(known)}, or give the path of a .yaml file"
            f"{nearest(name, known)}"
        )
    values = read_yaml(path)
    for key, value in (changes or {}).items():
        _put(values, key, value)
    return make_config(Recipe, values, str(path) if path.parent != FOLDER else f"recipe {name}")


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.replace("-", "_").split(".")
    for part in parents:
        inner = values.get(part)
        values[part] = inner = dict(inner) if isinstance(inner, dict) else {}
        values = inner
    values[last] = value
