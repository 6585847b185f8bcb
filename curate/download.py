"""Download a list of image URLs into webdataset shards, with img2dataset in its own process."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from curate.errors import CurateError
from curate.url_list import ROW, ListColumns, UrlList, read_url_list

if TYPE_CHECKING:
    from collections.abc import Mapping

RESIZE_MODES = ("keep_ratio", "keep_ratio_largest", "center_crop", "border")
_OLDEST = (1, 47)  # older releases lack options that are relied on
_SLICE = 100_000  # rows of the list that are hashed at a time
_TAIL = 2000  # characters of the log that an error shows
_REMEDY = "pip install 'curate[download]'"
_OUTCOME = pl.Schema(
    {
        ROW: pl.Int64,
        "url": pl.String,
        "key": pl.String,
        "status": pl.String,
        "error_message": pl.String,
    }
)


@dataclass(frozen=True)
class DownloadOptions:
    """How to download.

    Bytes are kept as they came unless `image_size` (pixels) is given; then img2dataset decodes,
    resizes by `resize_mode` and stores JPEG of quality 95. `timeout` is in seconds and holds for
    every wait on the server, not for a whole image. `retries` are further tries within one run.
    `respect_robots` leaves out images whose X-Robots-Tag says noai, noimageai, noindex or
    noimageindex; `user_agent_token` is the name by which such headers may address this crawler.
    """

    columns: ListColumns = field(default_factory=ListColumns)
    samples_per_shard: int = 10_000
    processes: int = 1
    threads: int = 64
    timeout: float = 10.0
    retries: int = 0
    image_size: int | None = None
    resize_mode: str = "keep_ratio_largest"
    user_agent_token: str | None = None
    respect_robots: bool = True


@dataclass(frozen=True, eq=False)
class DownloadResult:
    """What came of a list: `counts` by status sum to `rows`, the number of rows of the list.

    A status is "success", "failed_to_download", "failed_to_resize" or "refused" (never asked
    for). `failures` (list_row, url, key, status, error_message) holds all but the successes; it is
    also written to failures.parquet, which is itself a list that can be downloaded.
    """

    folder: Path
    shards: tuple[Path, ...]
    rows: int
    counts: Mapping[str, int]
    failures: pl.DataFrame
    log: Path


def _check_options(options: DownloadOptions) -> None:
    for name in ("samples_per_shard", "processes", "threads", "timeout"):
        if getattr(options, name) <= 0:
            raise CurateError(f"download: {name} is {getattr(options, name)}; give more than 0")
    if options.retries < 0:
        raise CurateError(f"download: retries is {options.retries}; give 0 or more")
    if options.image_size is not None and options.image_size <= 0:
        raise CurateError(f"download: image_size is {options.image_size}; give more than 0")
    if options.resize_mode not in RESIZE_MODES:
        raise CurateError(f"download: unknown resize_mode '{options.resize_mode}'; {RESIZE_MODES}")


def _check_installed() -> None:
    if importlib.util.find_spec("img2dataset") is None:
        raise CurateError(f"download: img2dataset is not installed; {_REMEDY}")
    found = importlib.metadata.version("img2dataset")
    if tuple(int(part) for part in found.split(".")[:2]) < _OLDEST:
        raise CurateError(f"download: img2dataset {found} is too old; {_REMEDY}")


def _request(fetch: pl.DataFrame, options: DownloadOptions) -> dict[str, object]:
    """What decides the stored bytes: a resumed download must ask for the same."""
    digest = hashlib.sha256()
    for part in fetch.iter_slices(_SLICE):
        digest.update(part.write_csv().encode())
    stored = ("columns", "samples_per_shard", "image_size", "resize_mode", "respect_robots")
    chosen = {name: value for name, value in asdict(options).items() if name in stored}
    return {"list_sha256": digest.hexdigest(), "rows": fetch.height, **chosen}


def _claim(out: Path, request: dict[str, object]) -> None:
    """Bind the folder to this request, so that a resume never mixes two lists."""
    text = json.dumps(request, sort_keys=True, indent=1) + "\n"
    path = out / "request.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise CurateError(
            f"{out}: holds a download of another list or with other options; name a new folder"
        )
    if not path.exists() and out.exists() and any(out.iterdir()):
        raise CurateError(f"{out}: is there already and is no download; name a new folder")
    (out / "shards").mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _arguments(listed: Path, shards: Path, options: DownloadOptions) -> dict[str, object]:
    """The arguments of img2dataset.download."""
    columns = options.columns
    arguments: dict[str, object] = {
        "url_list": str(listed),
        "input_format": "parquet",
        "output_folder": str(shards),
        "output_format": "webdataset",
        "save_additional_columns": [ROW, *columns.keep],
        "caption_col": "caption" if columns.caption is not None else None,
        "compute_hash": "sha256",
        "verify_hash": ["sha256", "sha256"] if columns.sha256 is not None else None,
        "number_sample_per_shard": options.samples_per_shard,
        "processes_count": options.processes,
        "thread_count": options.threads,
        "timeout": options.timeout,
        "retries": options.retries,
        "user_agent_token": options.user_agent_token,
        "extract_exif": False,  # nothing here reads it, and it parses hostile bytes once more
        "disable_all_reencoding": options.image_size is None,
        "incremental_mode": "incremental",
    }
    if options.image_size is not None:
        arguments |= {"image_size": options.image_size, "resize_mode": options.resize_mode}
    if not options.respect_robots:
        arguments["disallowed_header_directives"] = []
    return arguments


def _environment() -> dict[str, str]:
    """Our environment, without calls home, and with loopback never sent through a proxy."""
    environment = dict(os.environ) | {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONUNBUFFERED": "1"}
    bypass = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if bypass.strip() != "*":
        bypass = ",".join(filter(None, (bypass, "localhost,127.0.0.1,::1")))
    return environment | {"no_proxy": bypass, "NO_PROXY": bypass}


def _run(fetch: pl.DataFrame, out: Path, options: DownloadOptions, log: Path) -> None:
    """One run of img2dataset, its output appended to the log."""
    with tempfile.TemporaryDirectory(prefix="curate-download-") as temporary:
        listed, arguments = Path(temporary) / "urls.parquet", Path(temporary) / "arguments.json"
        fetch.write_parquet(listed)
        arguments.write_text(json.dumps(_arguments(listed, out / "shards", options)))
        script = Path(__file__).with_name("download_process.py")
        with log.open("ab") as stream:
            done = subprocess.run(  # noqa: S603 - our own script, no shell
                [sys.executable, "-P", str(script), str(arguments)],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            )
    if done.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        raise CurateError(f"{log}: img2dataset ended with {done.returncode}:\n{tail}")


def _finished(shards: Path) -> list[str]:
    """Names of the shards that img2dataset calls done: those with a statistics file."""
    return sorted(path.name.split("_")[0] for path in shards.glob("[0-9]*_stats.json"))


def _outcomes(shards: Path, names: list[str]) -> pl.DataFrame:
    """The status rows of all finished shards."""
    parts = [pl.DataFrame(schema=_OUTCOME)]
    for name in names:
        path = shards / f"{name}.parquet"
        try:
            parts.append(pl.read_parquet(path, columns=list(_OUTCOME), glob=False).cast(_OUTCOME))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise CurateError(
                f"{path}: the status rows cannot be read ({error}); remove "
                f"{name}_stats.json and run again"
            ) from error
    return pl.concat(parts)


def check_conservation(fetch: pl.DataFrame, outcomes: pl.DataFrame, out: Path) -> None:
    """Every row of the list must have exactly one status row, with its own URL.

    img2dataset ends well although a shard failed, and drops a sample that it could not write.
    """
    keys = [ROW, "url"]
    twice = outcomes.filter(outcomes.select(ROW).is_duplicated())
    lost = fetch.join(outcomes, on=keys, how="anti", maintain_order="left")
    strange = outcomes.join(fetch, on=keys, how="anti", maintain_order="left")
    for problem, rows in (("no", lost), ("more than one", twice), ("a foreign", strange)):
        if rows.height:
            raise CurateError(
                f"{out}: {rows.height} rows of the list have {problem} status row (first: row "
                f"{rows[ROW][0]}, {rows['url'][0]}); see img2dataset.log, remove the "
                "_stats.json of the shards concerned, and run again"
            )


def _summarise(listed: UrlList, out: Path, log: Path) -> DownloadResult:
    names = _finished(out / "shards")
    outcomes = _outcomes(out / "shards", names)
    check_conservation(listed.fetch, outcomes, out)
    refused = listed.refused.with_columns(key=pl.lit(None, pl.String)).select(list(_OUTCOME))
    everything = pl.concat([outcomes, refused]).sort(ROW)
    failures = everything.filter(pl.col("status") != "success")
    failures.write_parquet(out / "failures.parquet")
    counts = dict(everything.group_by("status").len().sort("status").iter_rows())
    shards = tuple(out / "shards" / f"{name}.tar" for name in names)
    return DownloadResult(out, shards, everything.height, counts, failures, log)


def download(urls: Path, out: Path, *, options: DownloadOptions | None = None) -> DownloadResult:
    """Download the images of a list (.parquet, .csv, .tsv, .txt) into `out/shards/NNNNN.tar`.

    Beside each shard lie img2dataset's status rows (NNNNN.parquet, one per URL, failed ones too)
    and statistics. By default bytes are stored as they came, under .jpg whatever they are, with
    their sha256; so a "success" may be a web page, which embedding finds out. With `image_size`
    an undecodable file is "failed_to_resize", and sha256 is that of the bytes before resizing.
    With `options.columns.sha256` an image of another digest is "failed_to_download".

    Run again, it resumes: finished shards are left alone with their failures, all others are
    downloaded anew. Only http and https are fetched, but from any host that the list names,
    hosts of the local network included. An image's size is not limited. Raises CurateError for a
    bad list, a folder in use, a failed run, or rows without a status.
    """
    options = options or DownloadOptions()
    _check_options(options)
    listed = read_url_list(Path(urls), options.columns)
    out = Path(out)
    log = out / "img2dataset.log"
    _check_installed()
    _claim(out, _request(listed.fetch, options))
    shard_count = -(-listed.fetch.height // options.samples_per_shard)
    if len(_finished(out / "shards")) < shard_count:
        _run(listed.fetch, out, options, log)
    return _summarise(listed, out, log)
