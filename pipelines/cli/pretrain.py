"""`curate pretrain`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import common


def pretrain(
    data: Annotated[
        list[str], typer.Argument(help="A split's folder that curate wrote, or labelled shards.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the result, RUN/train/NAME.")],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and augmentation.")] = 0,
    ids: Annotated[
        Path | None, typer.Option(help="Train on these samples of the shards: clean_ids.txt.")
    ] = None,
    classes: common.Classes = None,
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 0,
    threads: common.TorchThreads = None,
    as_json: common.Json = False,
) -> None:
    """Train a small CLIP from scratch on labelled images, at 32 pixels, to see what it remembers.

    With and without the training images that a test set has copies of, it tells what these add. A
    run that was stopped goes on after its last whole epoch by the same command.

    Example:
        curate pretrain cifar10/train --ids run/splits/train-at-0.5/clean_ids.txt --out without
    """
    from dataclasses import replace

    from pipelines.pretrain import PretrainRequest, run_pretrain

    common.set_torch_threads(threads)
    request = PretrainRequest(
        tuple(data), out, epochs, seed, ids, common.read_classes(classes), workers
    )
    with common.output(out) as folder, common.progress() as watch:
        found = run_pretrain(replace(request, out=folder), watch)
    trained = f"{found['updates']} updates on {found['data']['samples']} samples"
    common.print_result(found, as_json=as_json, text=f"{trained}\nmodel  {folder}")
