"""`curate info` and `curate verify`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli import common


def verify(
    path: Annotated[Path, typer.Argument(help="A run, or one artifact in it.")],
    as_json: common.Json = False,
) -> None:
    """Read every file of a run again and name what was altered, lost or added; then exit with 1.

    Examples:
        curate verify run

        curate verify s3://bucket/run      (reads every object, keeps nothing)
    """
    from curate.storage import url_of, verify_stored

    url = url_of(path)
    folders, problems = _verified(path) if url is None else verify_stored(url)
    text = "\n".join(problems) or f"{len(folders)} artifacts are whole and unaltered."
    result = {"artifacts": folders, "problems": problems}
    common.print_result(result, as_json=as_json, text=text)
    if problems:
        raise typer.Exit(1)


def _verified(path: Path) -> tuple[list[str], list[str]]:
    """The artifacts of a local run, and what is wrong with them."""
    from curate.artifacts import artifacts, verify_all
    from curate.errors import CurateError

    folders = list(artifacts(path)) if path.is_dir() else []
    if not folders:
        raise CurateError(f"{path}: no artifact of curate is there.")
    return [str(folder) for folder in folders], verify_all(folders)


def info(
    path: Annotated[Path, typer.Argument(help="Any file or folder that curate wrote or reads.")],
    as_json: common.Json = False,
) -> None:
    """Say what a file or folder is and what is in it.

    Examples:
        curate info run

        curate info s3://bucket/run

        curate info run/matches/test-vs-train/pairs.parquet

        curate info run/indices/train/builtin-layout-ivf/index.faiss
    """
    found = _described(path)
    width = max(map(len, found))
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in found.items())
    common.print_result(found, as_json=as_json, text=text)


def _described(path: Path) -> dict[str, Any]:
    from curate.inspect import describe_path
    from curate.storage import local_path, outline, url_of

    url = url_of(path)
    if url is None:
        return describe_path(path)
    if "." in url.rpartition("/")[2]:
        return describe_path(local_path(url))
    with outline(url) as folder:
        return describe_path(folder)
