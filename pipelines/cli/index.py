"""`curate index`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from curate.errors import CurateError, GateError
from pipelines.cli import common

app = typer.Typer(help="Build, search and check FAISS indices.", no_args_is_help=True)

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
        Literal["flat", "ivf", "ivf-fp16", "ivf-sq8"] | None,
        typer.Option(help="Default: chosen by size and memory, with the reason."),
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

    Examples:
        curate index build run/embeddings/train/builtin-layout --out train-index

        curate index build laion-emb --memory 64GB --workers 16 --out laion-index

        curate index build laion-emb --extend --out laion-index      (after laion-emb has grown)

        curate index build 'https://HOST/img_emb/img_emb_{0000..0409}.npy' --kind ivf-sq8
        --detector open_clip:ViT-B-32/openai --out laion-index
    """
    from curate.artifacts import artifact_lock
    from curate.index import build_index
    from curate.published import open_vectors
    from pipelines.execute import unit_runner

    size = None if memory is None else parse_bytes(memory)
    side = open_vectors(embeddings, detector)
    with (
        artifact_lock(out),
        unit_runner(workers or 1, scheduler) as runner,
        common.progress() as watch,
    ):
        watch.stage(f"index {side.name}", side.count)
        index = build_index(
            side, out, kind=kind, memory=size, seed=seed, extend=extend, run_units=runner,
            on_part=lambda count: watch.step(count, 0),
        )  # fmt: skip
    config = index.manifest.config
    text = f"{config['kind']}: {config['reason']}\nindex  {out}"
    common.print_result({"index": str(out), **config}, as_json=as_json, text=text)


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
    off than the error that was recorded when it was filled.

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
    text = "\n".join(problems) or f"{train.count} vectors, each in the index once and as it was."
    result = {"index": str(index), "vectors": train.count, "problems": problems}
    common.print_result(result, as_json=as_json, text=text)
    if problems:
        raise typer.Exit(GateError.exit_code)
