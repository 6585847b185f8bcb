"""`curate embed`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import common


def embed(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(help="Tars, patterns, folders, Parquet, URLs.")],
    out: Annotated[Path, typer.Option(help="The embeddings folder to write.")],
    name: Annotated[str | None, typer.Option(help="Name of the set.")] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Embed mirrored views too, as for a test set.")
    ] = False,
    views: common.Views = None,
    background: common.Background = None,
    whiten: common.Whiten = None,
    detector: common.Detector = None,
    weights: common.Weights = None,
    precision: common.Precision = None,
    device: common.Device = None,
    compile: common.Compile = None,  # noqa: A002  # the flag's name
    batch_size: common.BatchSize = None,
    dtype: common.Dtype = None,
    decode: common.Decode = None,
    captions: Annotated[
        bool | None, typer.Option("--captions", help="Embed captions too, into text_emb/.")
    ] = None,
    workers: common.Workers = None,
    threads: common.Threads = None,
    scheduler: common.Scheduler = None,
    as_json: common.Json = False,
) -> None:
    """Embed shards, in clip-retrieval's layout with explicit ids and a status row per sample.

    The folder can be given to `curate dedup` as --test or --train, and to `curate index build`.

    Examples:
        curate embed 'laion/{00000..00099}.tar' --detector open_clip:ViT-B-32/openai --out laion-emb

        curate embed cifar10/train --workers 8 --out train-emb
    """
    from curate.artifacts import artifact_lock
    from curate.config import EmbedConfig, make_config
    from curate.discover import open_dataset
    from curate.embed import embed as run_embed
    from pipelines.execute import unit_runner
    from pipelines.watch import watched

    flags = {n: v for n, v in context.params.items() if n in EmbedConfig.model_fields}
    config = make_config(EmbedConfig, flags, "curate embed")
    dataset = open_dataset(inputs, name)
    usual = ("identity", "mirror") if mirror else ("identity",)
    settings = config.embed_settings(config.views or usual)
    with (
        common.output(out) as folder,
        artifact_lock(folder),
        unit_runner(config.workers, config.scheduler) as runner,
        common.progress() as watch,
    ):
        watch.stage(f"embed {dataset.name}", len(dataset.shards))
        units = watched(runner, watch.step)
        done = run_embed(dataset, settings, folder, run_units=units, threads=config.threads)
    counts = done.manifest.counts
    text = (
        f"{counts['vectors']} vectors of width {done.dim} for {counts['samples']} samples of "
        f"{done.name}\nembeddings  {folder}"
    )
    common.print_result({"embeddings": str(folder), **counts}, as_json=as_json, text=text)
    damaged = counts["damaged_shards"]
    common.end_if_damaged({f"{done.name}/{shard}": why for shard, why in damaged.items()})
