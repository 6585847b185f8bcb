"""What a step of each kind does: it calls the stage that the single command calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from curate.config import DedupConfig, EmbedConfig, make_config
from curate.discover import open_dataset
from curate.errors import CurateError
from curate.files import digest, file_digest, read_json
from curate.splits import SPLIT_FILE
from pipelines.flow.task import Result, of_artifacts, specs_of
from pipelines.watch import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.flow.steps import Kind
    from pipelines.flow.task import Task


def do(task: Task) -> Result:
    """Do a step, or find that it is done.

    Raises:
        CurateError: whatever its stage raises.
    """
    return _KINDS[task.step.kind](task)


# --- sets -----------------------------------------------------------------------------------------


def _demo(task: Task) -> Result:
    from curate.demo import ANSWER_FILE, write_demo

    if not (task.out / ANSWER_FILE).is_file():
        write_demo(task.out, seed=task.step.config["seed"])
    return Result(file_digest(task.out / ANSWER_FILE), ())


def _download(task: Task) -> Result:
    from curate.download import DownloadOptions, download
    from curate.url_list import ListColumns

    given = dict(task.step.config)
    urls, options = given.pop("urls"), given.pop("options")
    try:
        chosen = DownloadOptions(columns=ListColumns(**given), **options)
    except TypeError as error:
        raise CurateError(f"{task.step.name}: options: {error}.") from error
    found = download(
        Path(urls), task.out, options=chosen, retry=task.retrying,
        stage=task.watch.stage, step=task.watch.step,
    )  # fmt: skip
    digests = [file_digest(path) for path in found.shards]
    return Result(digest(digests), (), {"rows": found.rows, **found.counts})


def _embed(task: Task) -> Result:
    from curate.embed import embed

    given = {**task.step.config, "device": task.flow.device, "threads": task.flow.threads}
    name = given.pop("name")
    config = make_config(EmbedConfig, given, task.step.name)
    dataset = open_dataset(specs_of(task.flow, task.run, name), name)
    task.watch.stage(f"embed {name}", len(dataset.shards))
    done = embed(
        dataset, config.embed_settings(config.test_views), task.out,
        run_units=watched(task.run_units, task.watch.step), threads=config.threads,
    )  # fmt: skip
    counts = dict(done.manifest.counts)
    damaged = counts.pop("damaged_shards")
    shown = {key: counts[key] for key in ("samples", "vectors")}
    of_set = {f"{name}/{shard}": why for shard, why in damaged.items()}
    return of_artifacts(task, [task.out], counts=shown, damaged=of_set)


def _index(task: Task) -> Result:
    from curate.index import build_index
    from curate.published import open_vectors

    config = task.step.config
    train = open_vectors(_vectors(task, config["train"]))
    task.watch.stage(f"index {train.name}", train.count)
    build_index(
        train, task.out, kind=config["kind"], seed=config["seed"], run_units=task.run_units,
        on_part=lambda count: task.watch.step(count, 0),
    )  # fmt: skip
    return of_artifacts(task, [task.out], counts={"vectors": train.count})


# --- dedup ----------------------------------------------------------------------------------------


def _vectors(task: Task, name: str, *, of_test: bool = False) -> tuple[str, ...]:
    """Where the vectors of a set are, or its images, if they are embedded as they are joined."""
    made = [one for one in task.needed("embed") if one.config["name"] == name]
    if made:  # a set on both sides was embedded twice, as a test set with more views
        chosen = max(made, key=lambda one: len(one.config["views"]) * (1 if of_test else -1))
        return (str(task.run / chosen.out),)
    return specs_of(task.flow, task.run, name)


def _dedup(task: Task) -> Result:
    from pipelines.dedup import run_dedup

    given = dict(task.step.config)
    test, train = given.pop("test"), given.pop("train")
    sides = {"test": _vectors(task, test, of_test=True)}
    if train is not None:
        sides["train"] = _vectors(task, train)
        given["train_name"] = train if given.get("fused") else None
    index = [task.run / one.out for one in task.needed("index")]
    if index:
        given |= {"index": index[0], "search": None}
    given |= {"out": task.out, "device": task.flow.device, "threads": task.flow.threads}
    config = make_config(DedupConfig, {**given, **sides}, task.step.name)
    done = run_dedup(config, task.run_units, task.watch)
    return of_artifacts(
        task, [done.split, done.matches], counts=done.summary["counts"], damaged=done.damaged_shards
    )


def _run_of(task: Task) -> Path:
    """The run folder of `curate dedup` that a step goes on with."""
    return task.run / task.needed("dedup")[0].out


def _calibrate(task: Task) -> Result:
    from curate.calibration.artifact import last_plan
    from curate.calibration.planted import Planting
    from curate.calibration.summary import Wanted
    from curate.copies import TRANSFORMATIONS
    from pipelines.calibrate import CalibrationRequest, run_calibrate
    from pipelines.runs import open_run

    config, run = task.step.config, _run_of(task)
    labels = None if config["labels"] is None else Path(config["labels"])
    is_drawn = last_plan(run, open_run(run).matches.manifest.id) is not None
    request = CalibrationRequest(
        Planting(config["images"], tuple(TRANSFORMATIONS), config["seed"]),
        Wanted(config["precision"] or _PRECISION), labels, None if is_drawn else config["plan"],
    )  # fmt: skip
    found = run_calibrate(run, request, task.run_units, task.watch)
    return of_artifacts(task, [task.out], counts={"threshold": found["proposal"]["threshold"]})


_PRECISION = 0.95


def _split(task: Task) -> Result:
    from pipelines.runs import open_run
    from pipelines.split import Origin, parse_threshold, request_again, resplit

    run, config = _run_of(task), task.step.config
    found = open_run(run)
    last = read_json(found.split / SPLIT_FILE)
    word = config["threshold"]
    value, origin = (
        (last["threshold"], Origin()) if word is None else parse_threshold(str(word), run)
    )
    request = request_again(
        last, value, seed=config["seed"], write=tuple(config["write"]), origin=origin
    )
    folder = resplit(run, request, task.run_units, task.watch, beside=True)
    return of_artifacts(task, [folder], counts=read_json(folder / SPLIT_FILE)["counts"])


def _page(task: Task) -> Result:
    from pipelines.report import write_report

    page = write_report(task.out.parent)
    return of_artifacts(task, [page.parent])


# --- train and eval -------------------------------------------------------------------------------


def _train(task: Task) -> Result:
    from pipelines.flow.training import train_by

    train_by(task)
    facts = read_json(task.out / "train.json")
    counts = {"updates": facts["updates"], "samples": facts["data"]["samples"]}
    return of_artifacts(task, [task.out], counts=counts)


def _eval(task: Task) -> Result:
    from pipelines.evaluation.run import run_eval
    from pipelines.flow.measuring import eval_request

    request = eval_request(task)
    run_eval(request, task.run_units, task.watch)
    folders = [task.out / word for word in request.settings]
    return of_artifacts(task, folders, counts={"settings": len(folders)})


def _overlap(task: Task) -> Result:
    from pipelines.flow.measuring import write_overlap

    write_overlap(task)
    return of_artifacts(task, [task.out])


def _report(task: Task) -> Result:
    from pipelines.flow.page import write_page

    write_page(task)
    return of_artifacts(task, [task.out])


_KINDS = cast(
    "dict[Kind, Callable[[Task], Result]]",
    {
        "demo": _demo, "download": _download, "embed": _embed, "index": _index, "dedup": _dedup,
        "calibrate": _calibrate, "split": _split, "page": _page, "train": _train, "eval": _eval,
        "overlap": _overlap, "report": _report,
    },
)  # fmt: skip
