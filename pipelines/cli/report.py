"""`curate report`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import common


def report(
    run: Annotated[Path, typer.Argument(help="A finished run of `curate dedup`.")],
    as_json: common.Json = False,
) -> None:
    """Write the HTML report of a run again, for its latest split.

    Example:
        curate report run
    """
    from pipelines.report import write_report

    with common.output(run) as folder:
        page = write_report(folder)
    common.print_result({"report": str(page)}, as_json=as_json, text=str(page))
