"""Download a list of image URLs into webdataset shards, with img2dataset in its own process."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from curate.artifacts import artifact_lock
from curate.errors import CurateError, PartialRunError
from curate.fetching import robots, running, shards, tries
from curate.fetching.limits import FetchLimits
from curate.files import atomic_write, remove_remains, write_bytes
from curate.url_list import ROW, ListColumns, UrlList, read_url_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESIZE_MODES = ("keep_ratio", "keep_ratio_largest", "center_crop", "border")
_OLDEST = (1, 47)  # older releases lack options that are relied on
_SLICE = 100_000  # rows of the list that are hashed at a time
_REQUEST = "request.json"
_VAIN = 3  # times that a worker is killed and no shard was finished, after which it is given up
_REMEDY = "pip install 'curate[download]'"


@dataclass(frozen=True)
class DownloadOptions:
    """How to download.

    Attributes:
        columns: which columns of the list mean what.
        samples_per_shard: rows of the list that one shard holds, fetched or failed.
        processes: workers of img2dataset, a shard each.
        threads: downloads at a time in each process.
        timeout: seconds for every single wait on a server.
        deadline: seconds for a whole image: redirects, further tries and the waits that servers
            ask for (Retry-After), but not the waiting for a turn by `host_rate`.
        max_bytes: of an image; a process holds up to twice as many images as it has threads.
        retries: further tries at once, after an error that may pass.
        redirects: how many are followed.
        host_rate: requests a second to one host by all processes on this machine, or None.
        public_only: whether hosts that are not of the public internet are refused.
        image_size: pixels; then img2dataset decodes, resizes by `resize_mode` and stores JPEG of
            quality 95. None keeps the bytes as they came.
        resize_mode: one of RESIZE_MODES.
        user_agent_token: the name of this crawler, beside "curate", in its user agent, and by
            which X-Robots-Tag may address it.
        contact: a web page or mailto address in the user agent.
        respect_robots: whether images are left out whose X-Robots-Tag says so (robots.OPT_OUTS).
    """

    columns: ListColumns = field(default_factory=ListColumns)
    samples_per_shard: int = 10_000
    processes: int = 1
    threads: int = 64
    timeout: float = 10.0
    deadline: float = 60.0
    max_bytes: int = 32 << 20
    retries: int = 0
    redirects: int = 5
    host_rate: float | None = None
    public_only: bool = False
    image_size: int | None = None
    resize_mode: str = "keep_ratio_largest"
    user_agent_token: str | None = None
    contact: str | None = None
    respect_robots: bool = True

    @property
    def limits(self) -> FetchLimits:
        """What one image may cost, and as whom we ask for it."""
        return FetchLimits(
            timeout=self.timeout,
            deadline=self.deadline,
            max_bytes=self.max_bytes,
            redirects=self.redirects,
            retries=self.retries,
            host_rate=self.host_rate,
            public_only=self.public_only,
            token=self.user_agent_token,
            contact=self.contact,
            opt_outs=robots.OPT_OUTS if self.respect_robots else (),
        )


@dataclass(frozen=True, eq=False)
class DownloadResult:
    """What came of a list: `counts` by status sum to `rows`, the number of rows of the list.

    A status is "success", "failed_to_download", "failed_to_resize" or "refused" (never asked
    for); of a row that was tried several times the last one counts. `failures` (list_row, url,
    key, status, error_message) holds all but the successes; it is also written to
    failures.parquet, which is itself a list that can be downloaded. `tries` counts how often the
    list was gone over: once, and once more for each `retry`.
    """

    folder: Path
    shards: tuple[Path, ...]
    rows: int
    counts: Mapping[str, int]
    failures: pl.DataFrame
    log: Path
    tries: int


def _check_options(options: DownloadOptions) -> None:
    for name in ("samples_per_shard", "processes", "threads"):
        if getattr(options, name) <= 0:
            raise CurateError(f"download: {name} is {getattr(options, name)}; give more than 0")
    if options.image_size is not None and options.image_size <= 0:
        raise CurateError(f"download: image_size is {options.image_size}; give more than 0")
    if options.resize_mode not in RESIZE_MODES:
        raise CurateError(f"download: unknown resize_mode '{options.resize_mode}'; {RESIZE_MODES}")
    options.limits.check()


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
    path = out / _REQUEST
    remove_remains(out, _REQUEST)  # or a folder in which nothing was begun is taken for another's
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise CurateError(
            f"{out}: holds a download of another list or with other options; name a new folder"
        )
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise CurateError(f"{out}: is there already and is no download; name a new folder")
        write_bytes(path, text.encode())
    (out / "shards").mkdir(exist_ok=True)


def _arguments(work: Path, options: DownloadOptions) -> dict[str, object]:
    """The arguments of img2dataset.download, but for the list.

    Tries, limits and opt-outs are the opener's, which sees more of an answer.
    """
    columns = options.columns
    arguments: dict[str, object] = {
        "output_folder": str(work),
        "output_format": "webdataset",
        "save_additional_columns": [ROW, *columns.keep],
        "caption_col": "caption" if columns.caption is not None else None,
        "compute_hash": "sha256",
        "verify_hash": ["sha256", "sha256"] if columns.sha256 is not None else None,
        "number_sample_per_shard": options.samples_per_shard,
        "processes_count": options.processes,
        "thread_count": options.threads,
        "extract_exif": False,  # nothing here reads it, and it parses hostile bytes once more
        "disable_all_reencoding": options.image_size is None,
        "incremental_mode": "incremental",
        "disallowed_header_directives": [],
    }
    if options.image_size is not None:
        arguments |= {"image_size": options.image_size, "resize_mode": options.resize_mode}
    return arguments


@dataclass(frozen=True)
class _Job:
    """A download that has been claimed."""

    listed: UrlList
    out: Path
    options: DownloadOptions
    stage: Callable[[str, int], None]
    step: Callable[[int, int], None]

    @property
    def shards(self) -> Path:
        return self.out / "shards"

    @property
    def log(self) -> Path:
        return self.out / "img2dataset.log"

    def missing(self) -> int:
        """How many shards are not finished."""
        size = self.options.samples_per_shard
        expected = sum(-(-rows.height // size) for rows in tries.lists(self.listed.fetch, self.out))
        return expected - len(shards.finished(self.shards))

    def run(self) -> None:
        """Fetch what is missing; go on with the rest when a worker was killed."""
        missing, vain, ended = self.missing(), 0, False
        self.stage("download", missing)
        while missing and not ended and vain < _VAIN:
            ended, before = self._attempt(), missing
            missing = self.missing()
            vain = vain + 1 if missing == before else 0
        if missing:
            why = "" if ended else " as workers were killed, perhaps for want of memory"
            raise PartialRunError(
                f"{self.out}: {missing} shards failed{why}; the same command goes on. "
                f"The end of {self.log}:\n{running.tail(self.log)}"
            )

    def _attempt(self) -> bool:
        """One run of img2dataset; a shard takes its place as soon as it is finished."""
        done = set(shards.finished(self.shards))
        lists = tries.lists(self.listed.fetch, self.out)
        with running.work_folder(self.out, done) as work:

            def look() -> None:
                for name in shards.finished(work):
                    if name not in done:
                        self.step(1, shards.publish(work, self.shards, name))
                        done.add(name)

            arguments = _arguments(work, self.options)
            return running.run_img2dataset(lists, arguments, self.options.limits, self.log, look)


def check_conservation(fetch: pl.DataFrame, outcomes: pl.DataFrame, out: Path) -> None:
    """Every row of the list must have exactly one status row, with its own URL.

    img2dataset ends well although a shard failed, and drops a sample that it could not write.

    Raises:
        CurateError: a row has none or several, or a status row belongs to no row.
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


def _summarise(job: _Job) -> DownloadResult:
    outcomes = shards.outcomes(job.shards).select(list(shards.OUTCOME))
    check_conservation(job.listed.fetch, outcomes, job.out)
    refused = job.listed.refused.with_columns(key=pl.lit(None, pl.String))
    everything = pl.concat([outcomes, refused.select(list(shards.OUTCOME))]).sort(ROW)
    failures = everything.filter(pl.col("status") != shards.SUCCESS)
    with atomic_write(job.out / "failures.parquet") as stream:
        failures.write_parquet(stream)
    counts = dict(everything.group_by("status").len().sort("status").iter_rows())
    written = tuple(job.shards / f"{name}.tar" for name in shards.finished(job.shards))
    tried = 1 + len(tries.planned(job.out))
    return DownloadResult(
        job.out, written, everything.height, counts, failures, job.log, tried
    )  # fmt: skip


def download(
    urls: Path,
    out: Path,
    *,
    options: DownloadOptions | None = None,
    retry: bool = False,
    stage: Callable[[str, int], None] = lambda _name, _total: None,
    step: Callable[[int, int], None] = lambda _shards, _rows: None,
) -> DownloadResult:
    """Download the images of a list (.parquet, .csv, .tsv, .txt) into `out/shards/NNNNN.tar`.

    Beside each shard lie its status rows (NNNNN.parquet, one per URL, failed ones too) and
    statistics. Equal answers give equal bytes of all of them. Images are stored as they came,
    under .jpg whatever they are, with their sha256; answers that are short, too large or text are
    "failed_to_download". Nothing is decoded, so a "success" may be no image, which embedding
    finds out. With `image_size` an undecodable file is "failed_to_resize", and sha256 is that of
    the bytes before resizing. With `options.columns.sha256` an image of another digest is
    "failed_to_download".

    Run again, it resumes: finished shards are left alone with their failures, all others are
    downloaded anew. Only http and https are fetched, but from any host that the list names, hosts
    of the local network included unless `options.public_only`.

    Args:
        urls: the list.
        out: the folder to write; bound to this list and to what decides the stored bytes.
        options: how to download.
        retry: if all shards are finished, fetch once more what failed, into further shards. The
            status rows of before move to `out/tries`. An unfinished try is only finished.
        stage: told the name of what runs and its number of shards.
        step: told how many shards and rows more are done.

    Raises:
        CurateError: a bad list, a folder in use, a failed run, or rows without a status.
        PartialRunError: some shards failed; the others are kept.
    """
    options = options or DownloadOptions()
    _check_options(options)
    listed, out = read_url_list(Path(urls), options.columns), Path(out)
    _check_installed()
    with artifact_lock(out):
        _claim(out, _request(listed.fetch, options))
        remove_remains(out, below=True)
        job = _Job(listed, out, options, stage, step)
        unfinished = job.missing() > 0
        if not unfinished and retry:
            shards.settle(job.shards)  # the try before may have been cut short right here
            unfinished = tries.plan(out, shards.outcomes(job.shards))
        if unfinished:
            job.run()
        shards.settle(job.shards)
        return _summarise(job)
