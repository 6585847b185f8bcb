"""`curate index`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.cli import common

app = typer.Typer(help="Build FAISS indices over embeddings.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `build` a subcommand even while it is the only one."""


@app.command()
def build(
    embeddings: Annotated[Path, typer.Argument(help="A folder that `curate embed` wrote.")],
    out: Annotated[Path, typer.Option(help="The index folder to write.")],
    kind: Annotated[
        Literal["flat", "ivf"] | None,
        typer.Option(help="Default: chosen by size, with the reason."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the training sample.")] = 0,
    as_json: common.Json = False,
) -> None:
    """Build an index; `faiss.read_index` opens its `index.faiss`, `ids.parquet` names the rows.

    Example:
        curate index build run/embeddings/train/builtin-layout --kind ivf --out train-index
    """
    from curate.artifacts import artifact_lock
    from curate.index import build_index
    from curate.parts import open_embeddings

    side = open_embeddings(embeddings)
    with artifact_lock(out), common.progress() as watch:
        watch.stage(f"index {side.name}", side.count)
        index = build_index(
            side, out, kind=kind, seed=seed, on_part=lambda count: watch.step(count, 0)
        )
    config = index.manifest.config
    text = f"{config['kind']}: {config['reason']}\nindex  {out}"
    common.print_result({"index": str(out), **config}, as_json=as_json, text=text)
