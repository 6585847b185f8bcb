"""`curate doctor`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import common


def doctor(
    folder: Annotated[Path, typer.Option(help="Where runs would be written.")] = Path(),
    as_json: common.Json = False,
) -> None:
    """Say what hardware, libraries, detectors and weights are usable, and how to get the rest.

    Example:
        curate doctor
    """
    from curate.doctor import examine

    findings = examine(folder)
    if as_json:
        common.print_result({"findings": [asdict(f) for f in findings]}, as_json=True, text="")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("", "", "state", "detail"):
        table.add_column(heading)
    colours = {"ok": "green", "warn": "yellow", "missing": "red"}
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        remedy = f"\n[bold]{escape(finding.remedy)}[/]" if finding.remedy else ""
        table.add_row(finding.area, escape(finding.name), state, escape(finding.detail) + remedy)
    Console().print(table)
