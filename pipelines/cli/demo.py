"""`curate demo`."""

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli import common

if TYPE_CHECKING:
    from pipelines.flow.config import FlowConfig


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the run.")] = Path(
        "demo-run"
    ),
    detector: common.Detector = None,
    seed: Annotated[int, typer.Option(help="Of the generated pictures.")] = 0,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 2,
    as_json: common.Json = False,
) -> None:
    """Show the whole mission on generated pictures, offline, and say what was found.

    Test pictures that are copies of training pictures are found, a CLIP is trained against attacks
    with them and without, and measured on both, on drawings by another hand, corrupted, attacked.
    In under three minutes on two cores; it is the flow `demo` (see `curate run demo --dry-run`).

    Example:
        curate demo --out demo-run
    """
    from pipelines.cli.flow import end_unless_done
    from pipelines.flow.run import run_flow

    flow, left_out = _flow(out, detector, seed, workers)
    with common.progress_of_many() as watch_of:
        result = run_flow(flow, watch_of)
    end_unless_done(result, as_json=as_json)
    found = _found(out, seed) | {"left_out": left_out}
    common.print_result(found, as_json=as_json, text=_text(found))


def _flow(
    out: Path, detector: str | None, seed: int, workers: int
) -> tuple["FlowConfig", list[str]]:
    """The shipped flow with what was asked for, and the settings that cannot be made here."""
    from pipelines.flow.reading import find_flow, read_flow

    path = find_flow("demo")
    changes = [f"out={json.dumps(str(out))}", f"variables.seed={seed}"]
    if workers > 1:
        changes += ["cluster.kind=local", f"cluster.workers={workers}"]
    flow = read_flow(path, changes)
    if detector is not None:
        changes += [f"dedup.{name}.detector={json.dumps(detector)}" for name in flow.dedup]
    settings = flow.eval["main"].settings
    left_out = [] if find_spec("imagecorruptions") else [*filter(_is_corruption, settings)]
    kept = [word for word in settings if word not in left_out]
    changes.append(f"eval.main.settings={json.dumps(kept)}")
    return read_flow(path, changes), left_out


def _is_corruption(word: str) -> bool:
    return "." in word.partition("@")[0]


def _found(out: Path, seed: int) -> dict[str, Any]:
    """What the run says, and how well it found the copies that were planted."""
    import polars as pl

    from curate.demo import ANSWER_FILE, score_demo
    from curate.files import read_json
    from curate.splits import SPLIT_FILE, read_decisions
    from pipelines.flow.page import REPORT_FILE

    report = out / "report"
    found = read_json(report / REPORT_FILE)
    split = next(out / one["folder"] for one in found["splits"] if one["name"] == "dedup/copies")
    facts = read_json(split / SPLIT_FILE)
    answer = pl.read_parquet(out / "sets" / f"demo-{seed}" / ANSWER_FILE)
    return {
        "report": str(report / "index.html"),
        "summary": facts["counts"],
        "rule": f"{common.score_of(facts['detector'])} >= {facts['threshold']:g}",
        "score": asdict(score_demo(answer, read_decisions(split))),
        "finding": found["finding"],
    }


def _text(found: dict[str, Any]) -> str:
    counts, score = found["summary"], found["score"]
    parts = " + ".join(f"{counts[word]} {word}" for word in ("clean", "overlap", "unknown"))
    found_of = f"{score['found']} of {score['planted']} found"
    wrong = f"{len(score['missed'])} missed, {len(score['wrongly_flagged'])} wrongly flagged"
    lines = [
        f"{parts} = {counts['in']} test images, at {found['rule']}",
        f"planted copies: {found_of}, {wrong}",
    ]
    kinds = [
        f"  {kind['transformation']:<16} {kind['found']:>3} of {kind['planted']}"
        for kind in score["by_transformation"]
    ]
    left_out = [
        f"left out  {word}: pip install 'curate[eval]' for corruptions"
        for word in found["left_out"]
    ]
    report = f"report  {found['report']}"
    return "\n".join([*lines, *kinds, *left_out, report, found["finding"]["sentence"]])
