"""`curate train`."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from curate.errors import CurateError
from pipelines.cli import common


def train(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="A split's folder that curate wrote, or shards to train on."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the result, RUN/train/NAME.")] = None,
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe (--list shows them), or a .yaml file.")
    ] = "tiny",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: attack.eps=4. Repeatable."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="builtin:tiny-clip, open_clip:ARCH/TAG or open_clip:local-dir.")
    ] = "builtin:tiny-clip",
    weights: common.Weights = None,
    ids: Annotated[
        Path | None, typer.Option(help="Train on these samples of the shards: clean_ids.txt.")
    ] = None,
    classes: common.Classes = None,
    interpolate: Annotated[
        str | None,
        typer.Option(help="Measure weights between original and adapted: 0.0:1.0:0.1."),
    ] = None,
    device: common.Device = None,
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 2,
    threads: common.TorchThreads = None,
    as_json: common.Json = False,
    show: Annotated[bool, typer.Option("--list", help="List the shipped recipes.")] = False,
) -> None:
    """Adapt a CLIP model so that it withstands small perturbations, and write it for open_clip.

    A run that was stopped goes on by the same command. On several GPUs: torchrun --nproc-per-node N
    -m pipelines train ..., with the same options.

    Examples:
        curate train 'train/{00000..00099}.tar' --ids leaks/splits/train-at-0.5/clean_ids.txt --out
        run/train/tecoa --recipe tecoa_ft --model open_clip:ViT-B-32-quickgelu/openai

        curate train run/splits/train-at-0.5 --out out --set attack.eps=4 --interpolate 0:1:0.1
    """
    from train.recipe import read_recipe, recipe_names

    if show:
        common.print_result({"recipes": recipe_names()}, as_json=as_json, text=_listed())
        return
    if not data or out is None:
        raise CurateError("curate train: give what to train on, and --out.")
    from dataclasses import replace

    from curate.storage import url_of
    from pipelines.changes import parse_change
    from pipelines.train import TrainRequest, run_train
    from train.interpolate import parse_shares

    common.set_torch_threads(threads)
    request = TrainRequest(
        data=tuple(data),
        model=model,
        recipe=read_recipe(
            recipe, dict(parse_change(text, "attack.eps=4") for text in changes or ())
        ),
        out=out,
        ids=ids,
        classes=common.read_classes(classes),
        weights=None if weights is None else url_of(weights) or str(weights),
        device=device or "auto",
        workers=workers,
        shares=() if interpolate is None else parse_shares(interpolate),
    )
    with _output(out) as folder, common.progress() as watch:
        found = run_train(replace(request, out=folder), watch)
    if found is not None:
        common.print_result(found, as_json=as_json, text="\n".join(_lines(found, folder)))


def _output(out: Path) -> AbstractContextManager[Path]:
    from curate.storage import url_of

    url = url_of(out)
    if url and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CurateError(
            f"--out {url}: several processes write one folder that all of them see; give --out a "
            "path, and copy it there when all is done."
        )
    return common.output(out)


def _listed() -> str:
    """Every shipped recipe with the first sentence of its header."""
    from train.recipe import FOLDER, recipe_names

    lines = []
    for name in recipe_names():
        header = (FOLDER / f"{name}.yaml").read_text("utf-8").split("\n")
        words = " ".join(line.removeprefix("#").strip() for line in header if line[:1] == "#")
        lines.append(f"{name:<14}{words.partition(':')[0]}")
    return "\n".join(lines)


def _lines(found: dict[str, Any], out: Path) -> list[str]:
    data = found["data"]
    lines = [f"{found['updates']} updates on {data['samples']} samples of {data['name']}"]
    if found["after"]:
        lines += [
            f"{name:<8}{row['clean']:>8.1%} clean {row['robust']:>8.1%} robust, on "
            f"{row['images']} held-out training samples"
            for name, row in (("before", found["before"]), ("after", found["after"]))
        ]
    lines += [
        f"  share {row['share']:<6g}{row['clean']:>8.1%} clean {row['robust']:>8.1%} robust"
        + (" (best mean)" if row["share"] == found["best_share"] else "")
        for row in found["interpolation"]
    ]
    return [*lines, f"model   {out}"]
