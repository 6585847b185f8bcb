"""`curate demo`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli import common


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the run.")] = Path(
        "demo-run"
    ),
    detector: common.Detector = None,
    seed: Annotated[int, typer.Option(help="Of the generated pictures.")] = 0,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    as_json: common.Json = False,
) -> None:
    """Generate pictures with planted copies, clean the test set of them, and score the outcome.

    Offline, in under a minute on an idle core; ends with the path of the report.

    Example:
        curate demo --out demo-run
    """
    import polars as pl

    from curate.config import DedupConfig, make_config
    from curate.demo import ANSWER_FILE, score_demo, write_demo
    from curate.splits import read_decisions
    from pipelines.dedup import run_dedup
    from pipelines.execute import unit_runner
    from pipelines.report import write_report

    pictures = out / f"pictures-{seed}"
    if not (pictures / ANSWER_FILE).is_file():
        write_demo(pictures, seed=seed)
    values = {
        "test": (str(pictures / "test"),),
        "train": (str(pictures / "train"),),
        "out": out / f"run-{seed}",
        "detector": detector,
        "workers": workers,
    }
    config = make_config(DedupConfig, values, "curate demo")
    with unit_runner(workers) as runner, common.progress() as watch:
        result = run_dedup(config, runner, watch)
    page = write_report(config.out)
    score = score_demo(pl.read_parquet(pictures / ANSWER_FILE), read_decisions(result.split))
    found = {"report": str(page), "summary": result.summary["counts"], "score": asdict(score)}
    rule = f"{common.score_of(result.summary['detector'])} >= {config.chosen_threshold:g}"
    common.print_result(found, as_json=as_json, text=_text(found, rule))


def _text(found: dict[str, Any], rule: str) -> str:
    counts, score = found["summary"], found["score"]
    parts = " + ".join(f"{counts[word]} {word}" for word in ("clean", "overlap", "unknown"))
    found_of = f"{score['found']} of {score['planted']} found"
    wrong = f"{len(score['missed'])} missed, {len(score['wrongly_flagged'])} wrongly flagged"
    lines = [
        f"{parts} = {counts['in']} test images, at {rule}",
        f"planted copies: {found_of}, {wrong}",
    ]
    kinds = [
        f"  {kind['transformation']:<16} {kind['found']:>3} of {kind['planted']}"
        for kind in score["by_transformation"]
    ]
    return "\n".join([*lines, *kinds, f"report  {found['report']}"])
