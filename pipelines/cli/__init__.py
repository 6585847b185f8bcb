"""The `curate` command: one module per subcommand, thin: parse, call, print."""

import os
import sys
from typing import Annotated

import typer

from curate import __version__
from curate.errors import CurateError, PartialRunError
from pipelines.cli import (
    calibrate,
    dedup,
    demo,
    detectors,
    doctor,
    download,
    embed,
    evaluate,
    flow,
    index,
    inspect,
    plan,
    pretrain,
    report,
    review,
    split,
    train,
)

app = typer.Typer(
    name="curate",
    help="Finds test images that a model has already seen, and writes the test set without them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("run", rich_help_panel="A whole study")(flow.run)
app.command("plan", rich_help_panel="A whole study")(plan.plan)
app.command("status", rich_help_panel="A whole study")(flow.status)
app.command("retry", rich_help_panel="A whole study")(flow.retry)
app.command("logs", rich_help_panel="A whole study")(flow.logs)
app.command("dedup", rich_help_panel="The main job")(dedup.dedup)
app.command("split", rich_help_panel="The main job")(split.split)
app.command("report", rich_help_panel="The main job")(report.report)
app.command("calibrate", rich_help_panel="The main job")(calibrate.calibrate)
app.command("review", rich_help_panel="The main job")(review.review)
app.command("pretrain", rich_help_panel="The main job")(pretrain.pretrain)
app.command("train", rich_help_panel="The main job")(train.train)
app.add_typer(evaluate.app, name="eval", rich_help_panel="The main job")
app.command("demo", rich_help_panel="The main job")(demo.demo)
app.command("download", rich_help_panel="Single stages")(download.download)
app.command("embed", rich_help_panel="Single stages")(embed.embed)
app.add_typer(index.app, name="index", rich_help_panel="Single stages")
app.command("info", rich_help_panel="Looking at what is there")(inspect.info)
app.command("verify", rich_help_panel="Looking at what is there")(inspect.verify)
app.command("doctor", rich_help_panel="Looking at what is there")(doctor.doctor)
app.command("detectors", rich_help_panel="Looking at what is there")(detectors.detectors)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"curate {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that belong to no subcommand."""


_INTERRUPTED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Run the command line; expected errors end it with their text and exit code."""
    try:
        app()
    except CurateError as error:
        from curate.storage import with_addresses

        typer.secho(f"curate: {with_addresses(str(error))}", fg="red", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != _INTERRUPTED:
            raise
        typer.echo("curate: stopped; what is done is kept, the same command goes on.", err=True)
        sys.stdout.flush()
        os._exit(PartialRunError.exit_code)  # threads that still compute are not waited for
