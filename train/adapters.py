"""Which weights are trained: the image tower, its end, prompts beside it, or a head behind it.

| kind | trained | towers |
| --- | --- | --- |
| `finetune` | the whole image tower | all |
| `partial` | its last `blocks` blocks, and what is computed behind them | all with known blocks |
| `token-prompt` | `length` tokens inside a ViT | ViTs of open_clip and timm |
| `pixel-prompt` | a frame of `width` pixels around the image | all |
| `linear-probe` | a linear head on the features, no zero-shot classifier any more | all |

The text tower and the logit scale never change. All modules stay in evaluation mode: BatchNorm
runs on its stored statistics (its weights may be trained), dropout is off, so attacks, training and
evaluation see one function.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from curate.config import Settings
from curate.errors import CurateError
from eval.models.classifier import Clip, ZeroShot
from train.prompts import PixelPrompt, TokenPrompt
from train.towers import from_block_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Kind = Literal["finetune", "partial", "token-prompt", "pixel-prompt", "linear-probe"]
_NEEDED = {"partial": "blocks", "token-prompt": "length", "pixel-prompt": "width"}


class AdapterConfig(Settings):
    """Which weights are trained.

    Attributes:
        kind: one of the table above.
        blocks: of partial, how many of the last blocks.
        length: of token-prompt, how many tokens.
        width: of pixel-prompt, pixels of the frame on each side, at the size of the model's input.
        seed: of the tokens' first values.
    """

    kind: Kind
    blocks: int | None = Field(None, ge=1)
    length: int | None = Field(None, ge=1)
    width: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _only_what_the_kind_knows(self) -> Self:
        needed = _NEEDED.get(self.kind)
        for name in _NEEDED.values():
            is_given = getattr(self, name) is not None
            if is_given and name != needed:
                raise ValueError(f"{name} is no setting of adapter {self.kind}")
            if not is_given and name == needed:
                raise ValueError(f"adapter {self.kind} needs {name}")
        return self


class Probe(ZeroShot):
    """A linear head on the features of a tower, in the place of texts.

    Attributes:
        head: (d) -> (C).
    """

    def __init__(self, base: ZeroShot, head: nn.Linear) -> None:
        mean, std = base.mean.flatten().tolist(), base.std.flatten().tolist()
        super().__init__(
            base.tower, base.texts, scale=base.scale, mean=mean, std=std, dtype=base.dtype
        )
        self.head = head

    def logits(self, features: Tensor) -> Tensor:
        """(n, d) features -> (n, C) fp32 logits."""
        with torch.autocast(features.device.type, enabled=False):
            return functional.linear(features.float(), self.head.weight, self.head.bias)


@dataclass(frozen=True)
class Adapted:
    """A model with what is trained of it.

    Attributes:
        kind: of the adapter.
        clip: the model as it was; nothing of it changes.
        module: the tower to call, (n, 3, H, W) normalised images -> (n, d) features.
        tower: a copy of the model's image tower, inside `module`.
        parameters: what is trained, in a fixed order: `visual.*` as in the model's state dict,
            `prompt.tokens`, `prompt.frame`, `head.weight`, `head.bias`.
        head: of a linear probe.
    """

    kind: Kind
    clip: Clip
    module: nn.Module
    tower: nn.Module
    parameters: Mapping[str, nn.Parameter]
    head: nn.Linear | None = None

    def classifier(self, texts: Tensor, dtype: torch.dtype = torch.float32) -> ZeroShot:
        """The adapted model over classes; a linear probe answers by its head."""
        made = self.clip.classifier(texts, self.module, dtype)
        return made if self.head is None else Probe(made, self.head).eval()

    def weights(self) -> dict[str, Tensor]:
        """State dict of the whole open_clip model, with the adapted tower in it."""
        state = dict(self.clip.model.state_dict())
        own = {f"visual.{name}": value for name, value in self.tower.state_dict().items()}
        return {name: own.get(name, value).detach() for name, value in state.items()}

    def extra(self) -> dict[str, Tensor]:
        """What open_clip's model has no place for: prompts and head."""
        return {
            name: parameter.detach()
            for name, parameter in self.parameters.items()
            if not name.startswith("visual.")
        }


def adapt(clip: Clip, config: AdapterConfig, classes: int = 0) -> Adapted:
    """A copy of the image tower with the weights to train; all else is frozen.

    Args:
        clip: the model; it is left as it is.
        config: which weights.
        classes: how many, for the head of a linear probe.

    Raises:
        CurateError: the method does not apply to the tower.
    """
    tower = copy.deepcopy(clip.tower).eval().requires_grad_(requires_grad=False)
    if config.kind == "linear-probe":
        return _probe(clip, tower, classes)
    if config.kind == "token-prompt":
        tokens = TokenPrompt(tower, config.length or 0, config.seed).eval()
        return Adapted(config.kind, clip, tokens, tower, {"prompt.tokens": tokens.tokens})
    if config.kind == "pixel-prompt":
        framed = PixelPrompt(tower, config.width or 0, clip.size).eval()
        return Adapted(config.kind, clip, framed, tower, {"prompt.frame": framed.frame})
    names = (
        from_block_on(tower, config.blocks or 0)
        if config.kind == "partial"
        else [name for name, _ in tower.named_parameters()]
    )
    return Adapted(config.kind, clip, tower, tower, _trained(clip, tower, names))


def zero_head(width: int, classes: int, device: torch.device) -> nn.Linear:
    """A linear head of zeros; nothing is drawn from a generator."""
    head = nn.Linear(width, classes, device="meta").to_empty(device=device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head.eval()


def _trained(clip: Clip, tower: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    vision = clip.config["model_cfg"]["vision_cfg"]
    # A table of sines is a parameter in name only.
    fixed = {"positional_embedding"} if vision.get("pos_embed_type") == "sin_cos_2d" else set()
    trained = {name: tower.get_parameter(name) for name in names if name not in fixed}
    for parameter in trained.values():
        parameter.requires_grad = True
    return {f"visual.{name}": parameter for name, parameter in trained.items()}


def _probe(clip: Clip, tower: nn.Module, classes: int) -> Adapted:
    if classes < 2:  # noqa: PLR2004 - one class is nothing to tell apart
        raise CurateError(f"adapter linear-probe: needs at least two classes, not {classes}")
    width = int(clip.config["model_cfg"]["embed_dim"])
    head = zero_head(width, classes, clip.device)
    parameters = {f"head.{name}": parameter for name, parameter in head.named_parameters()}
    return Adapted("linear-probe", clip, tower, tower, parameters, head)
