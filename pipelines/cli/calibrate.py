"""`curate calibrate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from curate.errors import CurateError
from pipelines.cli import common


def calibrate(
    run: Annotated[Path, typer.Argument(help="A finished run of `curate dedup`.")],
    precision: Annotated[
        float, typer.Option(help="Share of the flagged items that have to be copies.")
    ] = 0.95,
    plan: Annotated[
        int | None, typer.Option(help="Draw so many pairs to judge; those judged stay in it.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="What people said of them. Default: RUN/labels.")
    ] = None,
    copies: Annotated[
        int, typer.Option(help="Train images of which copies are planted; 0: none.")
    ] = 200,
    transformations: Annotated[
        list[str] | None,
        typer.Option(help="Plant these only, such as crop or jpeg. Repeatable. Default: all."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of images and pairs.")] = 0,
    weights: common.Weights = None,
    precision_of_model: Annotated[
        str | None, typer.Option("--model-precision", help="fp32 or bf16, as the run had it.")
    ] = None,
    device: common.Device = None,
    batch_size: common.BatchSize = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    scheduler: common.Scheduler = None,
    as_json: common.Json = False,
) -> None:
    """Measure what a run's threshold finds and how often it is right, and propose a threshold.

    Recall is measured on copies that are planted: train images, changed in known ways. Precision is
    measured on pairs that people judge; --plan draws few that say much, `curate review` shows them.

    Examples:
        curate calibrate run --plan 200              (then: curate review run)

        curate calibrate run --precision 0.95

        curate split run --threshold auto            (at the threshold that was found)

        curate calibrate run --copies 1000 --transformations crop --transformations jpeg
    """
    from curate.calibration.planted import Planting
    from curate.calibration.summary import Wanted
    from curate.copies import TRANSFORMATIONS, check_names
    from pipelines.calibrate import CalibrationRequest, run_calibrate
    from pipelines.execute import unit_runner

    names = tuple(transformations or TRANSFORMATIONS)
    check_names(names)
    _check(precision, plan, copies)
    changed = {
        "weights": weights, "precision": precision_of_model, "device": device,
        "batch_size": batch_size,
    }  # fmt: skip
    request = CalibrationRequest(
        Planting(copies, names, seed), Wanted(precision), labels, plan,
        {name: value for name, value in changed.items() if value is not None},
    )  # fmt: skip
    with (
        common.output(run) as folder,
        unit_runner(workers, scheduler) as runner,
        common.progress() as watch,
    ):
        found = run_calibrate(folder, request, runner, watch)
    common.print_result(found, as_json=as_json, text="\n".join(_lines(found, folder)))


def _check(precision: float, plan: int | None, copies: int) -> None:
    if not 0 < precision < 1:
        raise CurateError(f"--precision {precision}: a share between 0 and 1 was expected.")
    if plan is not None and plan < 1:
        raise CurateError(f"--plan {plan}: 1 or more was expected.")
    if copies < 0:
        raise CurateError(f"--copies {copies}: 0 or more was expected.")


def _lines(found: dict[str, Any], run: Path) -> list[str]:
    proposal, plan, leaked = found["proposal"], found["plan"], found["leaked"]
    lines = _planted(found)
    if plan:
        judged = sum(zone["judged"] for zone in plan["zones"])
        lines.append(f"{judged} of {plan['pairs']} drawn pairs are judged")
    if leaked and leaked["copies"] is not None:
        lines.append(
            f"{leaked['copies']:.0f} of {leaked['units']} items at or above {leaked['threshold']:g}"
            f" have a copy ({leaked['low']:.0f} to {leaked['high']:.0f})"
        )
    if proposal["threshold"] is None:
        lines.append(f"no threshold is proposed: {proposal['reason']}")
    else:
        lines.append(
            f"threshold {proposal['threshold']:g}: precision {proposal['precision']:.3f} "
            f"({proposal['low']:.3f} to {proposal['high']:.3f}), {proposal['flagged']} flagged"
        )
    if more := proposal["more_labels"]:
        lines.append(f"about {more['pairs']} more labels may show that {more['threshold']:g} holds")
    return [*lines, f"calibration  {run / 'calibration'}"]


def _planted(found: dict[str, Any]) -> list[str]:
    if found["planted"] is None:
        return [f"no copies were planted: {found['planted_reason']}"]
    planted, at = found["planted"], found["at_threshold"]
    lines = [f"of copies of {planted['images']} train images, at {at:g} are found:"]
    by_name: dict[str, list[str]] = {}
    for row in planted["by_transformation"]:
        by_name.setdefault(row["transformation"], []).append(f"{row['recall']:>6.1%}")
    lines += [f"  {name:<16} {' '.join(cells)}" for name, cells in by_name.items()]
    whole = {row["strength"]: row for row in planted["pooled"] if row["threshold"] == at}
    shown = " ".join(f"{whole[strength]['recall']:>6.1%}" for strength in (1, 2, 3))
    return [*lines, f"  {'all (mild, medium, strong)':<16} {shown}"]
