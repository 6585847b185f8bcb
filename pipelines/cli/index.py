"""`curate index`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from curate.errors import CurateError, GateError
from pipelines.cli import common

if TYPE_CHECKING:
    from curate.index import Index
    from curate.parts import Embeddings as Vectors
    from curate.recall import Gate

app = typer.Typer(help="Build, search and check indices and prefix stores.", no_args_is_help=True)

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

Folder = Annotated[Path, typer.Argument(help="A folder that `curate index build` wrote.")]
Embeddings = Annotated[
    str | None,
    typer.Option(help="Where the embeddings of the index are now, if they were moved."),
]


@app.command()
def build(
    embeddings: Annotated[
        str, typer.Argument(help="A folder that `curate embed` wrote, or published vectors.")
    ],
    out: Annotated[Path, typer.Option(help="The index folder to write.")],
    kind: Annotated[
        Literal["flat", "ivf", "ivf-fp16", "ivf-sq8", "prefix"] | None,
        typer.Option(
            help="prefix: codes for exact joins, again and again. Default: a FAISS index chosen by "
            "size and memory, with the reason."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Of a prefix store: the lowest cosine that joins will ask for, such as dedup's "
            "floor. Less stays exact and takes longer. Of --min-recall: where recall is measured. "
            "Default: the detector's floor, and its threshold."
        ),
    ] = None,
    min_recall: Annotated[
        float | None,
        typer.Option(
            help="Visit as many lists as it takes to show this recall at the threshold, or fail."
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="Embeddings of a test set to measure recall on, beside planted copies."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="What the searched index may take, such as 16GB.")
    ] = None,
    extend: Annotated[
        bool,
        typer.Option("--extend", help="Add the parts that the index in --out lacks, untrained."),
    ] = False,
    detector: Annotated[
        str | None, typer.Option(help="The encoder that made published vectors.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the training sample.")] = 0,
    workers: common.Workers = 1,
    scheduler: common.Scheduler = None,
    as_json: common.Json = False,
) -> None:
    """Build an index; `faiss.read_index` opens its `index.faiss`, `ids.parquet` names the rows.

    Trained once, filled part by part, merged into one file that is searched from disk. Interrupted,
    the same command goes on. An index proposes pairs; the stored vectors decide on them.

    A prefix store is no FAISS index: it holds short codes, by which `curate dedup --index` and
    `curate index search` find just the pairs of an exact join, reading far less than the vectors.

    Examples:
        curate index build run/embeddings/train/builtin-layout --out train-index

        curate index build laion-emb --memory 64GB --workers 16 --out laion-index

        curate index build laion-emb --min-recall 0.99 --threshold 0.95 --out laion-index

        curate index build laion-emb --extend --out laion-index      (after laion-emb has grown)

        curate index build laion-emb --kind prefix --threshold 0.85 --out laion-prefix

        curate index build 'https://HOST/img_emb/img_emb_{0000..0409}.npy' --kind ivf-sq8
        --detector open_clip:ViT-B-32/openai --out laion-index
    """
    from curate import index_use
    from curate.artifacts import artifact_lock
    from curate.published import open_vectors
    from pipelines.execute import unit_runner

    size = None if memory is None else parse_bytes(memory)
    side = open_vectors(embeddings, detector)
    with (
        common.output(out) as folder,
        artifact_lock(folder),
        unit_runner(workers or 1, scheduler) as runner,
        common.progress() as watch,
    ):
        watch.stage(f"index {side.name}", side.count)
        index = _build(
            side, folder, kind, size, Wanted(threshold, min_recall, queries),
            seed=seed, extend=extend, run_units=runner,
            on_part=lambda count: watch.step(count, 0),
        )  # fmt: skip
    config = index.manifest.config
    if index.is_prefix:
        config = {**config, **index_use.describe(index)}
        _print_prefix(config, folder, as_json=as_json)
        return
    recall = index_use.describe(index).get("recall", {})
    lines = [f"{config['kind']}: {config['reason']}", recall.get("summary"), f"index  {folder}"]
    text = "\n".join(line for line in lines if line)
    common.print_result({"index": str(folder), **config, **recall}, as_json=as_json, text=text)


@dataclass(frozen=True)
class Wanted:
    """What an index is for: joins from a threshold on, with a recall that is shown on queries."""

    threshold: float | None
    min_recall: float | None
    queries: Path | None


def _build(
    side: "Vectors", out: Path, kind: Any, memory: int | None, wanted: Wanted,
    *, seed: int, **options: Any,
) -> "Index":  # fmt: skip
    from curate.artifacts import MANIFEST
    from curate.index import build_index, open_index
    from curate.prefix import build_prefix

    grows_prefix = (
        kind is None and options["extend"] and (out / MANIFEST).is_file()
        and open_index(out).is_prefix
    )  # fmt: skip
    if kind == "prefix" or grows_prefix:
        if memory is not None or seed:
            raise CurateError("--memory and --seed are of FAISS indices; leave them away.")
        if wanted.min_recall is not None:
            raise CurateError("--min-recall: a prefix store misses nothing; leave it away.")
        return build_prefix(side, out, threshold=wanted.threshold, **options)
    if wanted.min_recall is not None:
        gate = _gate(side, wanted, seed)
        options |= {"finish": gate.measure, "finish_config": gate.config}
    elif wanted.threshold is not None or wanted.queries is not None:
        raise CurateError("--threshold and --queries are of --min-recall or --kind prefix.")
    return build_index(side, out, kind=kind, memory=memory, seed=seed, **options)


def _gate(side: "Vectors", wanted: Wanted, seed: int) -> "Gate":
    from curate.detectors import find_detector
    from curate.published import open_vectors
    from curate.recall import Gate, RecallSettings

    detector = find_detector(side.manifest.config["encoder"]["name"])
    threshold = detector.threshold if wanted.threshold is None else wanted.threshold
    queries = open_vectors(wanted.queries) if wanted.queries else None
    return Gate(RecallSettings(threshold, wanted.min_recall or 0, seed=seed), side, queries)


def _print_prefix(found: dict[str, Any], out: Path, *, as_json: bool) -> None:
    text = (
        f"prefix: {found['reason']}\n"
        f"{found['bytes_per_item']} bytes per item instead of {found['vector_bytes_per_item']}; "
        f"{found['predicted_for_queries']} queries at {found['threshold']:g} are expected to be "
        f"joined {found['predicted_ratio']:g} times as fast\nindex  {out}"
    )
    common.print_result({"index": str(out), **found}, as_json=as_json, text=text)


def parse_bytes(text: str) -> int:
    """A size such as 512MB, 1.5GB or 16e9 in bytes.

    Raises:
        CurateError: it is none.
    """
    number = text.strip().upper().removesuffix("B")
    unit = number[-1:] if number[-1:] in _UNITS else ""
    try:
        size = float(number.removesuffix(unit)) * _UNITS[unit]
        return int(size)
    except (ValueError, OverflowError) as error:
        raise CurateError(f"--memory {text}: a size such as 16GB was expected.") from error


@app.command()
def search(
    index: Folder,
    queries: Annotated[Path, typer.Option(help="An embeddings folder, or a .npy of vectors.")],
    floor: Annotated[float | None, typer.Option(help="Lowest cosine that is reported.")] = None,
    top: Annotated[int | None, typer.Option(help="Items per query at most.")] = None,
    probes: Annotated[
        int | None,
        typer.Option(help="Lists to visit; default: what passed the recall gate, or as planned."),
    ] = None,
    embeddings: Embeddings = None,
    out: Annotated[Path | None, typer.Option(help="Write the pairs as Parquet instead.")] = None,
    as_json: common.Json = False,
) -> None:
    """Find the items that are near to some vectors; scores are exact cosines of stored vectors.

    Of an embeddings folder, its vectors are searched without their mirrored views.

    Examples:
        curate index search train-index --queries test-emb --floor 0.9 --out pairs.parquet

        curate index search train-index --queries vectors.npy --top 5
    """
    from curate import index_use, tables
    from curate.index import open_index

    opened = open_index(index)
    train = index_use.embeddings_of(opened, embeddings)
    names, vectors = index_use.read_queries(queries, train)
    if note := index_use.slowed(opened, train, vectors, floor):
        typer.secho(f"curate: {note}", fg="yellow", err=True)
    found = index_use.search_index(
        opened, train, names, vectors, floor=floor, top=top, probes=probes
    )
    result: dict[str, Any] = {"queries": len(names), "pairs": found.height}
    if out is None:
        result["found"] = found.to_dicts()
        lines = [f"{q}  {rank}  {score:.6f}  {id_}" for q, rank, score, id_, _ in found.rows()]
        text = "\n".join(["query  rank  score  item", *lines] if lines else ["nothing was found"])
    else:
        tables.write_table(out, found, index_use.FOUND)
        result["out"] = str(out)
        text = f"{found.height} pairs of {len(names)} queries\npairs  {out}"
    common.print_result(result, as_json=as_json, text=text)


@app.command()
def info(index: Folder, as_json: common.Json = False) -> None:
    """Say what an index is: kind and reason, lists and how even they are, recall if measured.

    Example:
        curate index info train-index
    """
    from curate.index import open_index
    from curate.index_use import describe

    described = describe(open_index(index))
    common.print_result(described, as_json=as_json, text="\n".join(_lines(described)))


def _lines(described: dict[str, Any]) -> list[str]:
    recall = described.get("recall", {})
    plain = {name: value for name, value in described.items() if name != "recall"}
    width = max(map(len, plain))
    lines = []
    for name, value in plain.items():
        is_many = isinstance(value, dict)
        shown = ", ".join(f"{n} {v:g}" for n, v in value.items()) if is_many else value
        lines.append(f"{name.replace('_', ' '):<{width}}  {shown}")
    points = recall.get("points", [])
    if recall:
        lines += ["", f"{recall['summary']}."]
    for row in [dict(zip(points[0], points[0], strict=True)), *points] if points else []:
        wide = [max(len(name), *(len(point[name]) for point in points)) for name in row]
        cells = (f"{text:<{w}}" for text, w in zip(row.values(), wide, strict=True))
        lines.append("  ".join(cells).rstrip())
    return lines


@app.command()
def check(index: Folder, embeddings: Embeddings = None, as_json: common.Json = False) -> None:
    """Compare every row of an index with its vector; name what differs and exit with 1.

    Finds items that are missing, there more than once, or altered: in a quantised index, farther
    off than the error that was recorded when it was filled. Of a prefix store, every code is
    compared with its vector: it must still bound it.

    Example:
        curate index check train-index
    """
    from curate.index import open_index
    from curate.index_use import check_index, embeddings_of

    opened = open_index(index)
    train = embeddings_of(opened, embeddings)
    with common.progress() as watch:
        watch.stage(f"check {train.name}", train.count)
        problems = check_index(opened, train, lambda rows: watch.step(rows, 0))
    sound = "bounded by its code" if opened.is_prefix else "in the index once and as it was"
    text = "\n".join(problems) or f"{train.count} vectors, each {sound}."
    result = {"index": str(index), "vectors": train.count, "problems": problems}
    common.print_result(result, as_json=as_json, text=text)
    if problems:
        raise typer.Exit(GateError.exit_code)
