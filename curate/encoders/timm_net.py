"""timm models as encoders: pooled features before the classifier, timm's own transform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.encoders.base import EncoderSpec, brief, nearest
from curate.encoders.hub import hub_file
from curate.encoders.network import (
    NetworkEncoder,
    image_forward,
    output_width,
    read_state,
    require_same_sizes,
    resolve_runtime,
    seeded_init,
    settle,
)
from curate.encoders.transforms import to_array
from curate.errors import CurateError

if TYPE_CHECKING:
    import torch

RANDOM = "/random"


def load_timm(spec: EncoderSpec) -> NetworkEncoder:
    """Load `timm:NAME`, `timm:NAME/random`, or `timm:NAME` with a weights file.

    Raises:
        CurateError: unknown model, weights that are missing, unsafe or do not fit.
    """
    import timm.data

    runtime = resolve_runtime(spec)
    model = load_whole(spec)
    model.reset_classifier(0)
    module = settle(model.to(runtime.dtype), runtime)
    data: Any = timm.data
    config = data.resolve_model_data_config(model)
    transform = data.create_transform(**config, is_training=False)
    forward = image_forward(module, runtime)
    shape = tuple(int(side) for side in config["input_size"])
    return NetworkEncoder(
        name=spec.name,
        dim=output_width(forward, shape, runtime, spec.name),
        input_shape=shape,
        runtime=runtime,
        module=module,
        forward=forward,
        transform=to_array(transform),
        stated={"transform": "timm", **config},
    )


def load_whole(spec: EncoderSpec) -> Any:
    """The model with its classifier; weights are loaded strictly, or drawn from a fixed seed.

    Raises:
        CurateError: as `load_timm`.
    """
    rest = spec.name.partition(":")[2]
    name = rest.removesuffix(RANDOM)
    _require_known(spec, name)
    if not rest.endswith(RANDOM):
        return _with_weights(spec, name)
    if spec.weights is not None:
        raise CurateError(f"weights {spec.weights}: encoder {spec.name} asks for random ones")
    return _create(spec, name)


def _require_known(spec: EncoderSpec, name: str) -> None:
    import timm

    # Only the registry is asked: names such as hf_hub:... would fetch a model from the network.
    if not timm.is_model(name):
        known = timm.list_models(module="")
        raise CurateError(f"encoder {spec.name}: timm has no model {name!r}{nearest(name, known)}")


def _with_weights(spec: EncoderSpec, name: str) -> Any:
    """The model with all of its weights loaded strictly."""
    config = _published(spec, name)
    path = Path(spec.weights) if spec.weights is not None else _download(spec, name, config)
    state = read_state(path)
    overlay: dict[str, Any] = {"state_dict": state}
    if spec.weights is not None:
        # Own weights may have another classifier or none. timm loads loosely, leaving random
        # weights in silence, unless the number of classes is the one that it was told.
        overlay |= {"num_classes": _classes(state, config), "label_offset": 0}
    classes = overlay.get("num_classes", config.get("num_classes", 0))
    model = _create(
        spec, name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes
    )
    if spec.weights is not None:
        require_same_sizes(model, state, path)
    return model


def _published(spec: EncoderSpec, name: str) -> dict[str, Any]:
    import timm

    try:
        config: Any = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise CurateError(f"encoder {spec.name}: {brief(error)}") from error
    return {} if config is None else dict(config.to_dict())


def _classes(state: dict[str, torch.Tensor], config: dict[str, Any]) -> int:
    names = config.get("classifier") or ()
    for name in (names,) if isinstance(names, str) else names:
        if f"{name}.weight" in state:
            return int(state[f"{name}.weight"].shape[0])
    return 0


def _download(spec: EncoderSpec, name: str, config: dict[str, Any]) -> Path:
    repo = config.get("hf_hub_id")
    dry_run = f"timm:{name}{RANDOM}"
    if not repo:
        raise CurateError(
            f"encoder {spec.name}: timm publishes no weights of it; give a local file with "
            f"--weights PATH, or use {dry_run} for a dry run without meaning"
        )
    given = config.get("hf_hub_filename")
    files = [given] if given else ["model.safetensors", "pytorch_model.bin"]
    return hub_file(repo, files, encoder=spec.name, dry_run=dry_run)


def _create(spec: EncoderSpec, name: str, **options: Any) -> Any:
    import timm

    origin = f"weights {spec.weights} of {spec.name}" if spec.weights else f"encoder {spec.name}"
    try:
        with seeded_init():
            return timm.create_model(name, **options)
    except (RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise CurateError(f"{origin}: {brief(error)}") from error
