"""`curate split`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import common


def split(
    run: Annotated[Path, typer.Argument(help="A finished run of `curate dedup`.")],
    threshold: Annotated[
        str,
        typer.Option(
            help="Score at or above which an item is overlap, or auto: what curate calibrate found."
        ),
    ],
    calibration: Annotated[
        Path | None,
        typer.Option(help="With auto: the run or calibration.json to take. Default: RUN's."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="What people said of pairs (RUN/labels, .csv, .parquet); it counts more than "
            "scores."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Of a set compared with itself, which of those that match stay: first, largest, "
            "closest or farthest. Default: as before."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the control split.")] = 0,
    write: Annotated[list[str] | None, typer.Option(help="Splits to write as shards.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    no_report: Annotated[bool, typer.Option("--no-report", help="Keep the old report.")] = False,
    as_json: common.Json = False,
) -> None:
    """Decide again at another threshold, from the stored pairs: nothing is embedded or searched.

    Examples:
        curate split run --threshold 0.9

        curate split run --threshold 0.97 --write clean --write control

        curate split run --threshold 0.9 --keep largest        (of a run with --within)

        curate split run --threshold auto --labels run/labels
    """
    from curate.calibration.judgements import read_judgements
    from curate.files import read_json
    from curate.splits import SPLIT_FILE
    from pipelines.execute import unit_runner
    from pipelines.report import write_report
    from pipelines.runs import open_run
    from pipelines.split import parse_threshold, request_again, resplit

    with common.output(run) as root:
        last = read_json(open_run(root).split / SPLIT_FILE)
        value, origin = parse_threshold(threshold, calibration or root)
        request = request_again(
            last, value, keep, seed=seed, write=tuple(write or ("clean",)), origin=origin,
            judgements=read_judgements(labels) if labels else None,
        )  # fmt: skip
        with unit_runner(workers) as runner, common.progress() as watch:
            folder = resplit(root, request, runner, watch)
        if not no_report:
            write_report(root)
    summary = read_json(folder / SPLIT_FILE)
    counts, score = summary["counts"], common.score_of(summary["detector"])
    text = (
        f"{counts['clean']} clean + {counts['overlap']} overlap + {counts['unknown']} unknown "
        f"= {counts['in']} in, at {score} >= {value:g}\nsplit   {folder}"
    )
    common.print_result({"split": str(folder), **summary}, as_json=as_json, text=text)
