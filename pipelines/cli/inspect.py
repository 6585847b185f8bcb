"""`curate info` and `curate verify`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import common


def verify(
    path: Annotated[Path, typer.Argument(help="A run, or one artifact in it.")],
    as_json: common.Json = False,
) -> None:
    """Read every file of a run again and name what was altered, lost or added; then exit with 1.

    Example:
        curate verify run
    """
    from curate.artifacts import artifacts, verify_all
    from curate.errors import CurateError

    folders = list(artifacts(path)) if path.is_dir() else []
    if not folders:
        raise CurateError(f"{path}: no artifact of curate is there.")
    problems = verify_all(folders)
    text = "\n".join(problems) or f"{len(folders)} artifacts are whole and unaltered."
    result = {"artifacts": [str(folder) for folder in folders], "problems": problems}
    common.print_result(result, as_json=as_json, text=text)
    if problems:
        raise typer.Exit(1)


def info(
    path: Annotated[Path, typer.Argument(help="Any file or folder that curate wrote or reads.")],
    as_json: common.Json = False,
) -> None:
    """Say what a file or folder is and what is in it.

    Examples:
        curate info run

        curate info run/matches/test-vs-train/pairs.parquet

        curate info run/indices/train/builtin-layout-ivf/index.faiss
    """
    from curate.inspect import describe_path

    found = describe_path(path)
    width = max(map(len, found))
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in found.items())
    common.print_result(found, as_json=as_json, text=text)
