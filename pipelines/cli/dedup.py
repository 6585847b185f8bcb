"""`curate dedup`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli import common

_HELP = """Find near-duplicates of a test set in a pretraining set and write the clean test split.

Leaves a run folder: embeddings, matches, the split with its evidence, and report/index.html.
Run again, it does only what has changed; interrupted, it goes on.

Examples:

    curate dedup --test imagenet/val --train 'laion/{00000..00099}.tar' --out run

    curate dedup --test cifar10/test --train cifar10/train --threshold 0.95 --workers 8 --out run

    curate dedup --test T --train R --fused --out run   (no train vectors on disk)

    curate dedup --test T --train R --views identity,mirror,trim,zoom --out run

    curate dedup --test T --train R --threshold auto --calibration other-run --out run

    curate dedup --test photos --within --out run          (one set against itself)

    curate dedup --test photos --within --keep largest --out run

    curate dedup --test T --train R --strip train --out run   (list train items to drop)

    curate dedup --test T --train s3://bucket/laion/ --detector open_clip:ViT-B-32/openai --out run

    curate dedup --test s3://bucket/test.tar --train 's3://bucket/{00..99}.tar' --out s3://bucket/run
"""


def dedup(  # noqa: D103  # its docstring is _HELP
    context: typer.Context,
    test: Annotated[
        list[str] | None,
        typer.Option(help="What is cleaned: tars, patterns, folders, Parquet, URLs, embeddings."),
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            help="What it is cleaned of, likewise, or published vectors (.npy, LAION's "
            "folders) with --detector."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder, or s3://...")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with these settings; flags win.")
    ] = None,
    detector: common.Detector = None,
    views: common.Views = None,
    background: common.Background = None,
    whiten: common.Whiten = None,
    verify: Annotated[
        str | None,
        typer.Option(
            help="Look again at candidates: pixels, another detector, or none. Default: as the "
            "detector has it."
        ),
    ] = None,
    verify_weights: Annotated[
        Path | None, typer.Option(help="Local weights of the detector that looks again.")
    ] = None,
    verify_top: Annotated[
        int | None, typer.Option(help="Candidates of a test image to look at. Default: 10.")
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            help="Normalise scores: subtract this times the mean cosine with a test image's "
            "nearest --background vectors. 1 is usual; needs a threshold of its own."
        ),
    ] = None,
    neighbours: Annotated[
        int | None, typer.Option(help="Nearest --background vectors for --beta. Default: 3.")
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Score at or above which a test image is overlap, or auto: what curate calibrate "
            "found. Default: the detector's."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="With auto: the run or calibration.json to take. Default: --out's."),
    ] = None,
    threshold_for: Annotated[
        list[str] | None,
        typer.Option(help="NAME=X: the threshold of the test set of this name. Repeatable."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="What people said of pairs (curate review, .csv, .parquet); it counts more than "
            "scores."
        ),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(help="Lowest cosine that is stored. Default: a tenth below the threshold."),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(help="exact, or through a FAISS index: flat, ivf, ivf-fp16 or ivf-sq8."),
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Search this index folder (curate index build).")
    ] = None,
    probes: Annotated[int | None, typer.Option(help="Lists that an IVF search visits.")] = None,
    min_recall: Annotated[
        float | None,
        typer.Option(
            help="Visit as many lists as it takes to show this recall at the threshold, or fail."
        ),
    ] = None,
    nearest: Annotated[
        bool | None,
        typer.Option("--nearest", help="Name each image's nearest below the floor too; slow."),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="Gigabytes for the test vectors of a join. Default: 1.")
    ] = None,
    fused: Annotated[
        bool | None,
        typer.Option(
            "--fused",
            help="Join each train shard as it is embedded and keep no train vectors; another "
            "--floor, --cap or test set then embeds the train set again.",
        ),
    ] = None,
    within: Annotated[
        bool | None,
        typer.Option("--within", help="Compare --test with itself; no two that stay match."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="With --within, which of those that match stay: first, largest (in pixels), "
            "closest to or farthest from their group's centroid. Default: first."
        ),
    ] = None,
    strip: Annotated[
        str | None, typer.Option(help="'train': list train items to drop instead.")
    ] = None,
    write: Annotated[
        list[str] | None,
        typer.Option(help="Splits to write as shards: clean, overlap, control. Repeatable."),
    ] = None,
    cap: Annotated[
        int | None, typer.Option(help="Pairs stored per test item, the best ones.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the control split and of index training.")
    ] = None,
    test_name: Annotated[str | None, typer.Option(help="Name of the test set in the run.")] = None,
    train_name: Annotated[
        str | None, typer.Option(help="Name of the train set in the run.")
    ] = None,
    weights: common.Weights = None,
    precision: common.Precision = None,
    device: common.Device = None,
    compile: common.Compile = None,  # noqa: A002  # the flag's name
    batch_size: common.BatchSize = None,
    dtype: common.Dtype = None,
    decode: common.Decode = None,
    workers: common.Workers = None,
    threads: common.Threads = None,
    scheduler: common.Scheduler = None,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Leave the HTML report away.")
    ] = False,
    as_json: common.Json = False,
) -> None:
    from curate.config import DedupConfig, make_config, read_yaml
    from pipelines.dedup import run_dedup
    from pipelines.execute import unit_runner
    from pipelines.report import write_report

    flags = {
        name: value for name, value in context.params.items()
        if name not in ("config", "no_report", "as_json") and value not in (None, [], ())
    }  # fmt: skip
    values = {**(read_yaml(config) if config else {}), **flags}
    settings = make_config(DedupConfig, values, str(config) if config else "curate dedup")
    with common.output(settings.out) as run:
        settings = settings.model_copy(update={"out": run})
        with (
            unit_runner(settings.workers, settings.scheduler) as runner,
            common.progress() as watch,
        ):
            result = run_dedup(settings, runner, watch)
        report = None if no_report else write_report(run)
    found: dict[str, Any] = {
        "run": str(result.run), "split": str(result.split),
        "report": str(report) if report else None,
        "damaged_shards": result.damaged_shards, **result.summary,
    }  # fmt: skip
    common.print_result(found, as_json=as_json, text=_text(found))
    common.end_if_damaged(result.damaged_shards)


dedup.__doc__ = _HELP


def _text(found: dict[str, Any]) -> str:
    from curate.report.words import is_reduced

    counts = found["counts"]
    share = counts["overlap"] / counts["in"] if counts["in"] else 0
    decided, other = found["test"], found["train"]
    if found["policy"] == "strip-train":
        decided, other = other, decided
    against = "one that stays" if found["policy"] == "within" else other
    finding = f"{counts['overlap']} of {counts['in']} items of {decided} ({share:.2%})"
    score, name = common.score_of(found["detector"]), found["detector"]["name"]
    rule = f"{score} >= {found['threshold']:g} ({name})"
    parts = " + ".join(f"{counts[word]} {word}" for word in ("clean", "overlap", "unknown"))
    lines = [
        f"{finding} match {against} at {rule}.",
        f"{parts} = {counts['in']} in",
        f"split   {found['split']}",
        f"report  {found['report']}",
        f"at another threshold: curate split {shlex.quote(found['run'])} --threshold X",
    ]
    if "train_unusable" in found:
        lines.insert(
            2, f"note    {found['train_unusable']} vectors of {other} are zero or not finite"
        )
    if is_reduced(found):
        lines.insert(2, "note    large JPEGs were decoded at a reduced size (--decode scaled)")
    if "caution" in found:
        lines.insert(2, f"note    {found['caution']}")
    return "\n".join(line for line in lines if line != "report  None")
