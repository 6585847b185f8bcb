"""What is known of open_clip's image towers: where their blocks and patch tokens are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from curate.errors import CurateError

if TYPE_CHECKING:
    from eval.models.classifier import ZeroShot


def tower_name(tower: nn.Module) -> str:
    """Class of a tower, for errors; of a timm tower also the class of its trunk."""
    if isinstance(tower, TimmModel):
        return f"timm {type(tower.trunk).__name__}"
    return type(tower).__name__


def block_names(tower: nn.Module) -> list[str]:
    """Names of the tower's blocks, in order: transformer layers, or residual blocks.

    Raises:
        CurateError: the tower is of another family.
    """
    if isinstance(tower, VisionTransformer):
        return _children(tower, "transformer.resblocks")
    if isinstance(tower, ModifiedResNet):
        return [name for layer in range(1, 5) for name in _children(tower, f"layer{layer}")]
    if isinstance(tower, TimmModel):
        for folder in ("trunk.blocks", "trunk.stages"):
            if hasattr(tower.trunk, folder.partition(".")[2]):
                found = _children(tower, folder)
                inner = [n for name in found for n in _children(tower, f"{name}.blocks")]
                return inner or found
        if hasattr(tower.trunk, "layer4"):
            return [n for layer in range(1, 5) for n in _children(tower, f"trunk.layer{layer}")]
    raise CurateError(
        f"image tower {tower_name(tower)}: its blocks are not known; train it as a whole (finetune)"
    )


def from_block_on(tower: nn.Module, count: int) -> list[str]:
    """Names of the parameters of the last `count` blocks and of all that is computed behind them.

    Raises:
        CurateError: there are fewer blocks, or the tower is of an unknown family.
    """
    blocks = block_names(tower)
    if count > len(blocks):
        raise CurateError(
            f"blocks {count}: image tower {tower_name(tower)} has {len(blocks)}; give 1 to "
            f"{len(blocks)}"
        )
    # Modules are registered in the order of computation; a projection that is a bare parameter
    # comes first all the same.
    names = [name for name, _ in tower.named_parameters()]
    first = next(i for i, name in enumerate(names) if name.startswith(blocks[-count] + "."))
    return [name for i, name in enumerate(names) if i >= first or name == "proj"]


def token_site(tower: nn.Module) -> tuple[nn.Module, nn.Module, int] | None:
    """Where tokens may join a ViT and where they leave it; None for other towers.

    Returns:
        The module into which the sequence goes after the position embedding, the module out of
        which it comes after the last block, both of (n, tokens, width), and the width.
    """
    if isinstance(tower, VisionTransformer):
        return tower.ln_pre, tower.transformer, len(tower.class_embedding)
    if isinstance(tower, TimmModel) and isinstance(tower.trunk, TimmVisionTransformer):
        return tower.trunk.norm_pre, tower.trunk.blocks[-1], int(tower.trunk.embed_dim)
    return None


def has_patches(tower: nn.Module) -> bool:
    """Whether `features_and_patches` can read a tower: a ViT without attention pooling."""
    if isinstance(tower, VisionTransformer):
        return tower.attn_pool is None
    if isinstance(tower, TimmModel) and isinstance(tower.trunk, TimmVisionTransformer):
        pool: object = getattr(tower.trunk, "attn_pool", None)
        return pool is None and not hasattr(tower.head, "pool")
    return False


def inner_tower(module: nn.Module) -> nn.Module:
    """The open_clip tower within prompts and compilation."""
    for inside in ("_orig_mod", "tower"):
        inner = getattr(module, inside, None)
        if isinstance(inner, nn.Module):
            return inner_tower(inner)
    return module


def features_and_patches(classifier: ZeroShot, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (n, d) and patch tokens (n, P, d) in the space of the texts, in one forward pass.

    Patch tokens pass the same last norm and projection as the class token, in fp32.

    Raises:
        CurateError: the tower has no patch tokens, or is compiled.
    """
    tower = inner_tower(classifier.tower)
    require_patches(tower)
    site = token_site(tower)
    assert site is not None
    seen: list[Tensor] = []
    # Added last, so it runs after the hook that takes prompts off.
    handle = site[1].register_forward_hook(lambda _module, _args, output: seen.append(output))
    try:
        features = classifier.features(images)
    finally:
        handle.remove()
    if not seen:
        raise CurateError(
            "text-guided attention cannot be read from a compiled tower; set compile: false"
        )
    with torch.autocast(images.device.type, enabled=False):
        return features, _projected(tower, seen[0].float())


def require_patches(tower: nn.Module) -> None:
    """Refuse a tower without patch tokens.

    Raises:
        CurateError: says which tower it is, and what to do.
    """
    if not has_patches(tower):
        raise CurateError(
            f"loss tga-zsr: reads the patch tokens of a ViT, and the image tower is "
            f"{tower_name(tower)}; choose a ViT without attention pooling, or loss tecoa or pmg-aft"
        )


def _projected(tower: Any, tokens: Tensor) -> Tensor:
    if isinstance(tower, VisionTransformer):
        patches: Tensor = tower.ln_post(tokens)[:, 1:]
        return patches if tower.proj is None else patches @ tower.proj
    trunk = tower.trunk
    patches = trunk.fc_norm(trunk.norm(tokens)[:, trunk.num_prefix_tokens :])
    projected: Tensor = tower.head(trunk.head(patches))
    return projected


def _children(tower: nn.Module, name: str) -> list[str]:
    try:
        folder = tower.get_submodule(name)
    except AttributeError:
        return []
    return [f"{name}.{child}" for child, _ in folder.named_children()]
