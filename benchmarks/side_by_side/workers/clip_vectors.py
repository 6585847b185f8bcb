"""clip-retrieval on webdataset tars with an open_clip model of one's own, under its Python.

    python clip_vectors.py embed|embed-as-released|read MODEL_FOLDER 'TARS' OUT

`embed` is its `inference` command; `read` runs only its reader, with the model's preprocessing, and
drops the batches. open_clip hands out models in training mode and clip-retrieval leaves them so: a
network with batch normalisation then gives an image another vector in each batch. Only
`embed-as-released` leaves it so here, too.

Its `open_clip:NAME/TAG` knows published tags alone, so the folder (open_clip_config.json and
open_clip_model.safetensors) is made known as one: name, weights, and the preprocessing it states.
"""

import json
import sys
from pathlib import Path

import open_clip
from all_clip.main import load_clip, load_clip_without_warmup
from open_clip import pretrained

NAME = "own-model"
BATCH = 256
LOADERS = 4
"""Its defaults."""


def know(folder: Path, out: Path) -> str:
    """Tell open_clip of the folder; what clip-retrieval calls the model."""
    config = json.loads((folder / "open_clip_config.json").read_text())
    out.mkdir(parents=True)
    described = out / f"{NAME}.json"
    described.write_text(json.dumps(config["model_cfg"]))
    open_clip.add_model_config(described)
    file = str(folder / "open_clip_model.safetensors")
    pretrained._PRETRAINED[NAME] = {"own": {"file": file, **config["preprocess_cfg"]}}  # noqa: SLF001
    return f"open_clip:{NAME}/own"


def embed(model: str, tars: str, out: Path) -> None:
    """Its inference with its defaults, images alone."""
    from clip_retrieval import clip_inference

    clip_inference(
        input_dataset=tars,
        output_folder=str(out),
        input_format="webdataset",
        enable_text=False,
        clip_model=model,
    )


def read(model: str, tars: str) -> None:
    """Its reader with the settings that its inference gives it."""
    from braceexpand import braceexpand
    from clip_retrieval.clip_inference.reader import WebdatasetReader

    _, preprocess, tokenizer = load_clip(model, use_jit=False, warmup_batch_size=BATCH)
    reader = WebdatasetReader(
        lambda urls: urls,
        preprocess,
        tokenizer,
        list(braceexpand(tars)),
        BATCH,
        LOADERS,
        enable_text=False,
    )
    for _ in reader:
        pass


def main() -> None:
    """Embed or read."""
    what, folder, tars, out = sys.argv[1:]
    model = know(Path(folder), Path(out))
    if what != "embed-as-released":
        # what it loads later comes from this function's cache
        load_clip_without_warmup(model, False, "cpu", None)[0].eval()  # noqa: FBT003
    if what == "read":
        read(model, tars)
    else:
        embed(model, tars, Path(out) / "vectors")


if __name__ == "__main__":
    main()
