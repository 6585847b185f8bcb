"""`curate run`, `status`, `retry` and `logs`: a whole study, and what became of it."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.errors import CurateError
from pipelines.cli import common
from pipelines.cli.plan import print_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.flow.run import FlowResult
    from pipelines.flow.status import StepStatus

Run = Annotated[Path, typer.Argument(help="The folder of a flow that was run.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: eval.main.limit=100. Repeatable."),
]


def run(
    flow: Annotated[str, typer.Argument(help="A .yaml file, or the name of a shipped flow.")],
    changes: Changes = None,
    out: Annotated[str | None, typer.Option(help="The run folder. Default: the flow's.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print steps, units, bytes, FLOPs and time only.")
    ] = False,
    as_json: common.Json = False,
) -> None:
    """Carry a study from URL lists or shards to the final report.

    Run again, it does only what has changed or failed. Ctrl-C lets running units finish (exit 3);
    twice stops at once. Shipped flows: demo, cifar10, imagenet-laion.

    Examples:
        curate run demo

        curate run cifar10 --set variables.data=cifar10 --out study --dry-run

        curate run pipeline.yaml --set cluster.kind=local --set cluster.workers=8
    """
    from pipelines.flow.reading import find_flow, read_flow
    from pipelines.flow.run import run_flow

    given = [*(changes or ()), *([f"out={json.dumps(out)}"] if out is not None else [])]
    config = read_flow(find_flow(flow), given)
    if dry_run:
        print_plan(config, as_json=as_json)
        return
    with common.output(Path(config.out)) as folder, common.progress_of_many() as watch_of:
        result = run_flow(config.model_copy(update={"out": str(folder)}), watch_of)
    _print_result(result, as_json=as_json)


def retry(run: Run, as_json: common.Json = False) -> None:
    """Run a flow again as it was run last, units that were put aside included.

    Example:
        curate retry study
    """
    from pipelines.flow.retry import retry_flow

    with common.output(run) as folder, common.progress_of_many() as watch_of:
        result = retry_flow(folder, watch_of)
    _print_result(result, as_json=as_json)


def status(
    run: Run,
    flow: Annotated[
        str | None, typer.Option(help="Compare with this flow. Default: as it was run last.")
    ] = None,
    changes: Changes = None,
    as_json: common.Json = False,
) -> None:
    """Say of each step: done, running, failed, quarantined, waiting, stale, and why stale.

    Examples:
        curate status study

        curate status study --flow pipeline.yaml        (what a changed file would do again)
    """
    from pipelines.flow.reading import find_flow, read_flow
    from pipelines.flow.status import flow_of, status_of

    if flow is None and changes:
        raise CurateError("--set changes settings of a file: give --flow too.")
    given = [*(changes or ()), f"out={json.dumps(str(run))}"]
    with _looked_at(run) as (folder, is_outline):
        config = flow_of(folder) if flow is None else read_flow(find_flow(flow), given)
        found = status_of(folder, config, is_outline=is_outline)
    value = {"run": str(run), "steps": [one.to_json() for one in found]}
    common.print_result(value, as_json=as_json, text="\n".join(map(_status_line, found)))


def logs(
    run: Run,
    step: Annotated[
        str | None, typer.Argument(help="Name of a step. Default: all that failed.")
    ] = None,
    lines: Annotated[int, typer.Option(min=1, help="Of each step, the last ones.")] = 50,
) -> None:
    """Print what steps wrote down: when they ran, which units failed, and where.

    Examples:
        curate logs study

        curate logs study embed/cifar10-train/builtin-copy
    """
    from pipelines.flow.status import flow_of, log_of, status_of

    with _looked_at(run) as (folder, is_outline):
        steps = status_of(folder, flow_of(folder), is_outline=is_outline)
        chosen = [one.name for one in steps if one.error or one.failures]
        if step is not None:
            chosen = [one.name for one in steps if one.name == step]
        if step is not None and not chosen:
            known = ", ".join(one.name for one in steps)
            raise CurateError(f"{run}: has no step {step!r}; there are {known}.")
        if not chosen:
            typer.echo("no step failed; name one to see its lines.")
        for name in chosen:
            typer.echo("\n".join([f"== {name}", *log_of(folder, name, lines)]))


@contextmanager
def _looked_at(run: Path) -> "Iterator[tuple[Path, bool]]":
    """A run folder to look at; of one in a store, manifests and ledgers only."""
    from curate.storage import outline, url_of

    url = url_of(run)
    if url is None:
        yield run, False
        return
    with outline(url) as folder:
        yield folder, True


# --- output ---------------------------------------------------------------------------------------


def end_unless_done(result: "FlowResult", *, as_json: bool) -> None:
    """End the command with what is known of a flow that failed, stopped or met damage."""
    if result.exit_code:
        _print_result(result, as_json=as_json)


def _print_result(result: "FlowResult", *, as_json: bool) -> None:
    from pipelines.flow.status import first_of

    value: dict[str, Any] = {
        "run": str(result.run), "done": result.done, "kept": result.kept,
        "failed": result.failed, "waiting": result.waiting, "damaged_shards": result.damaged,
        "exit_code": result.exit_code,
    }  # fmt: skip
    lines = [f"{len(result.done)} steps done, {len(result.kept)} kept"]
    lines += [
        f"waits   {name} for {first_of(why.split(', '))}" for name, why in result.waiting.items()
    ]
    lines += [f"failed  {name}: {error}" for name, error in result.failed.items()]
    lines += [f"damaged {shard}: {why}" for shard, why in result.damaged.items()]
    if result.exit_code:
        lines.append(f"curate status {result.run} shows each step, curate logs {result.run} why")
    else:
        lines.append(f"report  {result.run / 'report' / 'index.html'}")
    common.print_result(value, as_json=as_json, text="\n".join(lines))
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _status_line(one: "StepStatus") -> str:
    lines = [f"{one.state:<12}{one.name}" + (f"  ({one.seconds:.0f} s)" if one.seconds else "")]
    lines += [f"{'':<14}{reason}" for reason in one.reasons]
    if one.error:
        lines.append(f"{'':<14}{one.error}")
    lines += [
        f"{'':<14}{'put aside' if failed.quarantined else 'failed'}: {failed.unit}: {failed.error}"
        for failed in one.failures
    ]
    return "\n".join(lines)
