"""The last page of a flow: what was found, with links to the page of each part."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from curate import __version__, artifacts
from curate.artifacts import Manifest
from curate.files import read_json, write_bytes, write_json
from curate.report import rendering
from curate.splits import SPLIT_FILE
from pipelines.evaluation.report import write_eval_report
from pipelines.flow.finding import find
from pipelines.flow.measuring import OVERLAP_FILE, RESULTS, inputs_of, results_of
from pipelines.flow.page.drawing import drawings
from pipelines.flow.page.pictures import pairs_of, strips_of
from pipelines.flow.task import split_of

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.flow.steps import Step
    from pipelines.flow.task import Task

EVALUATION = "evaluation"
REPORT_FILE = "report.json"
_LAYOUT = 4
"""Of the page, so that one of an older version is made anew."""


def write_page(task: Task) -> None:
    """Write `index.html` and `report.json` of a flow, or keep them when nothing changed.

    The report of the evaluation is in a folder of it.
    """
    manifest = Manifest("flow-report", {**task.step.config, "layout": _LAYOUT}, inputs_of(task))
    if artifacts.finished(task.out, manifest.key) is not None:
        return
    work = artifacts.work_folder(task.out, manifest.key)
    found = findings(task)
    write_bytes(work / "index.html", _page(task, found).encode())
    write_json(work / REPORT_FILE, found)
    if found["evaluation"]:
        _write_evaluation(task, work / EVALUATION)
    artifacts.commit(work, task.out, manifest)


def _page(task: Task, found: dict[str, Any]) -> str:
    """The page as text."""
    style = rendering.styles("curate.report", "eval.report", "pipelines.flow.page")
    shown = {
        **drawings(task, found["finding"]),
        "runs": [pairs_of(task, step) for step in task.steps.values() if _shows_pairs(task, step)],
        "strips": strips_of(task),
    }
    return rendering.render("pipelines.flow", "page", style, "", found | shown)


def _shows_pairs(task: Task, step: Step) -> bool:
    """Whether a step is the report of a cleaned test set; a stripped one has the same pairs."""
    if step.kind != "page":
        return False
    return all(one.config.get("strip") != "train" for one in task.needed_by(step, "dedup"))


def findings(task: Task) -> dict[str, Any]:
    """All numbers of the page."""
    measured = [step for step in task.steps.values() if step.kind == "eval"]
    overlap = [step for step in task.steps.values() if step.kind == "overlap"]
    compared = read_json(task.run / overlap[0].out / OVERLAP_FILE) if overlap else None
    return {
        "name": task.step.config["name"],
        "finding": _finding(task, compared),
        "splits": [_split(task, step) for step in task.steps.values() if _leaves_split(step)],
        "pages": [
            {"name": step.name.removeprefix("page/"), "href": f"../{step.out}/index.html"}
            for step in task.steps.values() if step.kind == "page"
        ],
        "trained": [
            _trained(task.run, step) for step in task.steps.values() if step.kind == "train"
        ],
        "sentence": compared["sentence"] if compared else None,
        "settings": compared["settings"] if compared else [],
        "evaluation": f"{EVALUATION}/index.html" if measured else None,
        "version": __version__,
    }  # fmt: skip


def _finding(task: Task, compared: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the study is about; None: no result was singled out, or nothing compared."""
    chosen = task.step.config["finding"]
    if chosen is None or compared is None:
        return None
    return asdict(find(compared, chosen["model"], chosen["setting"], chosen["against"]))


def _leaves_split(step: Step) -> bool:
    return step.kind in ("dedup", "split")


def _split(task: Task, step: Step) -> dict[str, Any]:
    folder = split_of(task, step)
    facts = read_json(folder / SPLIT_FILE)
    cleaned, other = facts["test"], facts["train"]
    if facts["policy"] == "strip-train":
        cleaned, other = other, cleaned
    counts = {word: facts["counts"][word] for word in ("in", "clean", "overlap", "unknown")}
    return {
        "name": step.name,
        "folder": folder.relative_to(task.run).as_posix(),
        "cleaned": cleaned,
        "of": other,
        "detector": facts["detector"]["name"],
        "threshold": facts["threshold"],
        **counts,
    }


def _trained(run: Path, step: Step) -> dict[str, Any]:
    facts = read_json(run / step.out / "train.json")
    return {
        "name": step.name.removeprefix("train/"),
        "model": facts["model"]["name"],
        "loss": facts["recipe"]["loss"],
        "samples": facts["data"]["samples"],
        "updates": facts["updates"],
        "before": facts["before"],
        "after": facts["after"],
    }


def _write_evaluation(task: Task, out: Path) -> None:
    """Write the report of the evaluation."""
    splits = {}
    for step in task.steps.values():
        if step.kind == "eval":
            for name, by in step.config["splits"].items():
                splits[name] = split_of(task, task.steps[by])
    write_eval_report(task.run / RESULTS, splits, out=out, only=results_of(task))
