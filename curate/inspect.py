"""What a file or folder is: every kind that the product writes or reads, in a few lines."""

from pathlib import Path
from typing import Any

from curate import artifacts
from curate.artifacts import MANIFEST
from curate.errors import CurateError
from curate.files import read_json
from curate.samples import printable

_LONG = ("vectors_per_part",)
"""Counts with an entry per shard."""


def describe_path(path: Path) -> dict[str, Any]:
    """Name the kind of a path and the numbers worth knowing, in an order made for reading.

    Names and texts are printable, whatever the file puts into them.

    Raises:
        CurateError: nothing is there, or it is of no known kind.
    """
    return {
        _clean(name): _clean(value) if isinstance(value, str) else value
        for name, value in _described(path).items()
    }


def _clean(text: str) -> str:
    """Text that a terminal takes as text; half a character, which JSON may hold, is escaped too."""
    return printable(text.encode("utf-8", "backslashreplace").decode())


def _described(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CurateError(f"{path}: nothing is there.")
    if path.is_dir():
        return _describe_folder(path)
    for suffix, describe in _KINDS.items():
        if path.name.endswith(suffix):
            return {"kind": describe.__doc__, "bytes": path.stat().st_size, **describe(path)}
    raise CurateError(f"{path}: of no kind that curate knows ({', '.join(_KINDS)}).")


def _describe_folder(path: Path) -> dict[str, Any]:
    if (path / MANIFEST).is_file():
        return _describe_manifest(path / MANIFEST)
    found = list(artifacts.artifacts(path))
    if found:
        kinds = {
            folder.relative_to(path).as_posix(): artifacts.read_manifest(folder).kind
            for folder in found
        }
        return {"kind": "a run of curate", **kinds}
    return _describe_dataset(path)


def _describe_dataset(path: Path) -> dict[str, Any]:
    from curate.discover import open_dataset
    from curate.shards import shard_bytes

    dataset = open_dataset(str(path))
    return {
        "kind": f"a data set of layout {dataset.layout}",
        "name": dataset.name,
        "shards": len(dataset.shards),
        "bytes": sum(shard_bytes(dataset, shard) for shard in dataset.shards),
    }


def _describe_manifest(path: Path) -> dict[str, Any]:
    manifest = artifacts.read_manifest(path.parent)
    kind = manifest.config.get("kind")
    encoder = manifest.config.get("encoder", {}).get("name")
    return {
        "kind": f"an artifact: {manifest.kind}" + (f" ({kind})" if kind else ""),
        "id": manifest.id,
        **({"encoder": encoder} if encoder else {}),
        **{n: value for n, value in manifest.config.items() if n not in ("encoder", "kind")},
        **{name: value for name, value in manifest.counts.items() if name not in _LONG},
        "inputs": len(manifest.inputs),
        "files": len(manifest.outputs),
        "bytes in files": sum(output["bytes"] for output in manifest.outputs),
    }


def _parquet(path: Path) -> dict[str, Any]:
    """a table"""  # noqa: D403, D415  # shown as the kind
    import pyarrow.parquet

    from curate.formats.parquet import arrow_errors

    with arrow_errors(path):
        file = pyarrow.parquet.ParquetFile(path)
    kinds = {f"column {field.name}": str(field.type) for field in file.schema_arrow}
    return {"rows": file.metadata.num_rows, **kinds}


def _vectors(path: Path) -> dict[str, Any]:
    """vectors"""  # noqa: D403, D415
    from curate.parts import read_vectors

    array = read_vectors(path)
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def _faiss(path: Path) -> dict[str, Any]:
    """a FAISS index"""  # noqa: D403, D415
    from curate.index import require_faiss
    from indices import faiss_index

    require_faiss()
    try:
        index = faiss_index.load(path)
    except ValueError as error:
        raise CurateError(str(error)) from error
    return {"type": type(index).__name__, "vectors": index.ntotal, "width": index.d}


def _shard(path: Path) -> dict[str, Any]:
    """a shard"""  # noqa: D403, D415
    from curate.discover import open_dataset
    from curate.shards import ShardReader

    dataset = open_dataset(str(path))
    reader = ShardReader(dataset, dataset.shards[0])
    samples = members = 0
    for sample in reader:
        samples += not sample.is_loose
        members += len(sample.members)
    return {"samples": samples, "members": members, "damage": reader.error or "none"}


def _json(path: Path) -> dict[str, Any]:
    """a JSON file"""  # noqa: D403, D415
    value = read_json(path)
    entries = value.items() if isinstance(value, dict) else ()
    return {f"key {name}": str(item)[:200] for name, item in entries}


def _id_list(path: Path) -> dict[str, Any]:
    """a list of item ids"""  # noqa: D403, D415
    with path.open("rb") as stream:
        return {"ids": sum(1 for _ in stream)}


def _page(path: Path) -> dict[str, Any]:
    """a report; open it in a browser"""  # noqa: D403, D415
    return {"report": str(path.resolve())}


_KINDS = {
    "_ids.txt": _id_list, ".parquet": _parquet, ".npy": _vectors, ".faiss": _faiss, ".tar": _shard,
    ".tar.gz": _shard, ".tgz": _shard, ".json": _json, ".html": _page,
}  # fmt: skip
