from pathlib import Path

import pytest
import torch
from small_clips import write_clip

from curate.errors import CurateError
from curate.files import write_json
from eval.models.classifier import Clip, class_texts, load_clip_model
from train.adapters import Adapted, AdapterConfig, adapt
from train.export import export, write_tensors
from train.trained import load_adapted

NAMES = ("cat", "dog", "horse")


def write_run(folder: Path, clip: Clip, config: AdapterConfig) -> Adapted:
    adapted = adapt(clip, config, len(NAMES))
    with torch.no_grad():
        for number, parameter in enumerate(adapted.parameters.values()):
            generator = torch.Generator().manual_seed(number)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    export(folder, clip, adapted.weights())
    if extra := adapted.extra():
        write_tensors(folder / "extra.safetensors", extra)
    recipe = {"adapter": config.model_dump(mode="json")}
    write_json(folder / "train.json", {"recipe": recipe, "classes": NAMES})
    return adapted


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    folder = write_clip("vit", tmp_path / "base")
    return load_clip_model("open_clip:local-dir", str(folder), "cpu")


@pytest.mark.parametrize(
    "config",
    [
        AdapterConfig(kind="finetune"),
        AdapterConfig(kind="partial", blocks=1),
        AdapterConfig(kind="token-prompt", length=5),
        AdapterConfig(kind="pixel-prompt", width=3),
        AdapterConfig(kind="linear-probe"),
    ],
    ids=lambda config: config.kind,
)
def test_a_model_that_was_written_answers_as_the_one_that_was_trained(
    tmp_path: Path, clip: Clip, config: AdapterConfig
) -> None:
    adapted = write_run(tmp_path / "run", clip, config)
    texts = class_texts(clip, NAMES, ["a photo of a {}"])
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = adapted.classifier(texts)(images)
        assert torch.equal(load_adapted(tmp_path / "run")[0].classifier(texts)(images), wanted)
        assert not torch.equal(clip.classifier(texts)(images), wanted)


def test_another_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"no train\.json in it"):
        load_adapted(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "torn", "other"])
def test_a_prompt_that_is_missing_torn_or_of_another_run_is_named(
    tmp_path: Path, clip: Clip, damage: str
) -> None:
    write_run(tmp_path / "run", clip, AdapterConfig(kind="pixel-prompt", width=3))
    path = tmp_path / "run" / "extra.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:40])
    else:
        write_tensors(path, {"prompt.frame": torch.zeros(1)})
    with pytest.raises(CurateError, match=r"extra\.safetensors: (not readable|does not fit)"):
        load_adapted(tmp_path / "run")
