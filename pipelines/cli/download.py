"""`curate download`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli import common

if TYPE_CHECKING:
    from curate.download import DownloadResult

_SHOWN = 10


def download(
    urls: Annotated[
        Path, typer.Argument(help="Parquet, CSV, TSV or text file with one URL a row.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for shards and status tables.")],
    url: Annotated[str, typer.Option(help="Column with the URL.")] = "url",
    caption: Annotated[str | None, typer.Option(help="Column with the caption.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Column with the expected SHA-256; others are refused.")
    ] = None,
    samples_per_shard: Annotated[int, typer.Option(min=1)] = 10_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Downloads at a time per process.")] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds for every wait on a server.")] = 10.0,
    deadline: Annotated[float, typer.Option(help="Seconds for a whole image.")] = 60.0,
    max_bytes: Annotated[int, typer.Option(help="Largest image, packed or unpacked.")] = 32 << 20,
    retries: Annotated[int, typer.Option(min=0, help="Further tries of an image at once.")] = 0,
    redirects: Annotated[int, typer.Option(min=0, help="How many are followed.")] = 5,
    host_rate: Annotated[
        float | None, typer.Option(help="Requests a second to one host, by all processes together.")
    ] = None,
    public_only: Annotated[
        bool, typer.Option("--public-only", help="Refuse addresses of local networks.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Fetch once more what failed, into further shards.")
    ] = False,
    image_size: Annotated[
        int | None, typer.Option(help="Resize to this; default: keep the bytes as they come.")
    ] = None,
    resize_mode: Annotated[str, typer.Option(help="As img2dataset names them.")] = (
        "keep_ratio_largest"
    ),
    user_agent_token: Annotated[
        str | None, typer.Option(help="Name of this crawler, beside curate.")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help="Web page or mailto: address in the user agent.")
    ] = None,
    ignore_robots: Annotated[
        bool, typer.Option("--ignore-robots", help="Take images whose server opts out.")
    ] = False,
    as_json: common.Json = False,
) -> None:
    """Download a URL list into webdataset shards with img2dataset, one status row per URL.

    Run again, it downloads the shards that are missing; with --retry, once none is missing, what
    failed. Needs: pip install 'curate[download]'.

    Examples:
        curate download laion.parquet --url URL --caption TEXT --workers 16 --out laion

        curate download urls.txt --out photos --host-rate 2 --contact https://example.org/crawler

        curate download urls.txt --out photos --retry
    """
    from curate.download import DownloadOptions
    from curate.download import download as run_download
    from curate.url_list import ListColumns

    options = DownloadOptions(
        columns=ListColumns(url=url, caption=caption, sha256=sha256),
        samples_per_shard=samples_per_shard,
        processes=workers,
        threads=threads,
        timeout=timeout,
        deadline=deadline,
        max_bytes=max_bytes,
        retries=retries,
        redirects=redirects,
        host_rate=host_rate,
        public_only=public_only,
        image_size=image_size,
        resize_mode=resize_mode,
        user_agent_token=user_agent_token,
        contact=contact,
        respect_robots=not ignore_robots,
    )
    with common.output(out) as folder, common.progress() as watch:
        result = run_download(
            urls, folder, options=options, retry=retry, stage=watch.stage, step=watch.step
        )
    _show(result, as_json=as_json)


def _show(result: "DownloadResult", *, as_json: bool) -> None:
    failures = result.failures.rows(named=True)
    found: dict[str, Any] = {
        "folder": str(result.folder), "shards": len(result.shards), "rows": result.rows,
        "tries": result.tries, "counts": dict(result.counts), "failures": failures,
        "log": str(result.log),
    }  # fmt: skip
    lines = [f"{count:>9} {status}" for status, count in sorted(result.counts.items())]
    lines += [f"  {row['url']}: {row['error_message']}" for row in failures[:_SHOWN]]
    if len(failures) > _SHOWN:
        lines.append(f"  and {len(failures) - _SHOWN} more; see failures.parquet")
    if any(row["status"] != "refused" for row in failures):
        lines.append("the same command with --retry fetches what failed once more")
    lines.append(f"shards  {result.folder / 'shards'}")
    common.print_result(found, as_json=as_json, text="\n".join(lines))
