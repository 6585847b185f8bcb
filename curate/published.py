"""Vectors that others published, read as they are: on this machine or over the network.

Nothing is copied. A run keeps a reference: where the parts are, and what tells this version of them
from another. Which model made them is not in the files; `--detector` states it, unverified.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import polars as pl

from curate import tables
from curate.artifacts import FACTS, MANIFEST, Manifest, read_manifest
from curate.errors import CurateError
from curate.files import digest, read_json, write_json
from curate.formats.npy import HEAD_BYTES, Header, read_header
from curate.parts import Embeddings, check_encoders, open_embeddings, read_vectors
from curate.published_metadata import Naming, open_table, read_rows, rows_without_table
from curate.remote import RemoteFile, Stamp
from curate.remote_matrix import BLOCKS_AHEAD, RemoteMatrix
from curate.shards import check_name, is_remote
from curate.storage import local_artifact, url_of
from curate.vector_files import PartFiles, are_vectors, find_parts, set_name
from indices.stored import Matrix

KIND = "published"
_PLACES = f"{FACTS}/published.json"
_OPENERS = 16  # parts that are opened at a time, which over a network is waiting
_SAMPLE = 1 << 20
_LOCAL = "size; SHA-256 of the first, middle and last MiB"
_TAGGED = "size; ETag or time of change; SHA-256 of the first 16 KiB"
_BARE = "size; SHA-256 of the first 16 KiB (the server states neither ETag nor time)"


@dataclass(frozen=True)
class Part:
    """One part as it was when the set was opened.

    Attributes:
        header: of the vectors' file.
        stamp: of the vectors' file.
        table_stamp: of the table; None without one.
    """

    files: PartFiles
    header: Header
    stamp: Stamp
    table_stamp: Stamp | None


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(BLOCKS_AHEAD, "curate-read")


@dataclass(frozen=True)
class _Attributed(Manifest):
    """A manifest with the encoder that vectors are attributed to; its id is still the vectors'."""

    vectors_id: str = ""

    @property
    def id(self) -> str:
        """The id of the vectors, whoever made them."""
        return self.vectors_id


@dataclass(frozen=True)
class Published(Embeddings):
    """Vectors in clip-retrieval's layout that curate did not write; one view, no images.

    Attributes:
        title: the set's name.
        address: what was given to find it.
        naming: where the ids come from.
    """

    title: str
    address: str
    parts: tuple[Part, ...]
    naming: Naming
    _pool: ThreadPoolExecutor = field(default_factory=_threads, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """All but the threads, which no other process can use."""
        return {name: value for name, value in vars(self).items() if name != "_pool"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _pool=_threads())

    @property
    def name(self) -> str:
        """The data set's name."""
        return check_name(self.title)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.address

    @property
    def caution(self) -> str:
        """That nobody has verified which encoder made the vectors."""
        encoder = self.manifest.config["encoder"]["name"]
        text = (
            f"{self.name}: vectors as published; that {encoder} made them is what --detector "
            "states, it was not verified"
        )
        return text if self.naming.columns else f"{text}; ids are part:row, as no table names them"

    def attributed_to(self, test: Embeddings) -> "Published":
        """The same set, taken to be of the encoder that embedded `test`, as the user states.

        Raises:
            CurateError: the encoder's name or width is not what was stated or is stored.
        """
        check_encoders(test, self)
        given = {one.name: getattr(self.manifest, one.name) for one in fields(Manifest)}
        config = {**self.manifest.config, "encoder": test.manifest.config["encoder"]}
        manifest = _Attributed(**{**given, "config": config}, vectors_id=self.manifest.id)
        return replace(self, manifest=manifest)

    def vectors(self, part: int, view: str = "identity") -> Matrix:
        """The vectors of one part: memory-mapped, or read over the network by ranges.

        Raises:
            CurateError: the file changed since the set was opened, or another view is asked for.
        """
        if view != "identity":
            raise CurateError(f"{self.place}: published vectors have no view {view!r}.")
        found = self.parts[part]
        place = found.files.vectors
        if is_remote(place):
            return RemoteMatrix(RemoteFile(place, found.stamp), found.header, self._pool)
        _check_local(place, found.stamp)
        return read_vectors(Path(place), remedy="fetch it again")

    def metadata(self, part: int, schema: pl.Schema = tables.METADATA) -> pl.DataFrame:
        """One row per vector of a part; columns that its table has not are null.

        Raises:
            CurateError: the table is damaged, or changed since the set was opened.
        """
        found, count = self.parts[part], self.sizes[part]
        place, stamp = found.files.metadata, found.table_stamp
        if place is None or stamp is None:
            return rows_without_table(found.files.name, count, schema)
        source: str | RemoteFile = place
        if is_remote(place):
            source = RemoteFile(place, stamp)
        else:
            _check_local(place, stamp)
        return read_rows(source, found.files.name, count, self.naming, schema)

    def all_status(self) -> pl.DataFrame:
        """One row per item of the whole set: whatever has a vector was a success."""
        names = pl.Schema(dict.fromkeys(("id", "shard", "key"), pl.String))
        frames = [
            self.metadata(part, names).with_columns(
                position=pl.int_range(pl.len()), row=pl.int_range(pl.len()),
                label=pl.lit(None, pl.String), status=pl.lit("success"),
                error=pl.lit(None, pl.String),
            )
            for part in range(len(self.sizes))
        ]  # fmt: skip
        empty = pl.DataFrame(schema=tables.STATUS)
        return pl.concat([empty, *(frame.select(tables.STATUS.names()) for frame in frames)])


# --- opening -------------------------------------------------------------------------------------


def open_vectors(
    specs: str | Path | Sequence[str], detector: str | None = None, name: str | None = None
) -> Embeddings:
    """Open embeddings that curate wrote, a run's reference to published ones, or published ones.

    Args:
        specs: a folder, or files, patterns or URLs of published vectors.
        detector: the encoder that made published vectors, as the user states it.
        name: of a published set; None takes it from the address.

    Raises:
        CurateError: nothing of these is there, or nobody said which encoder made the vectors.
    """
    given = [url_of(specs) or str(specs)] if isinstance(specs, str | Path) else list(specs)
    if len(given) == 1:
        given = [local_artifact(given[0])]
    if len(given) == 1 and (Path(given[0]) / MANIFEST).is_file():
        folder = Path(given[0])
        return _open_reference(folder) if _is_reference(folder) else open_embeddings(folder)
    if not are_vectors(given):
        if is_remote(given[0]):
            raise CurateError(
                f"{given[0]}: no vectors are there; give img_emb/img_emb_{{0..9}}.npy."
            )
        return open_embeddings(Path(given[0]))
    if detector is None:
        raise CurateError(
            f"{given[0]}: published vectors do not say which model made them; state it with "
            "--detector, such as open_clip:ViT-B-32/openai."
        )
    return _open_published(given, detector, name)


def _open_published(given: Sequence[str], detector: str, name: str | None) -> Published:
    specs = [spec if is_remote(spec) else os.path.abspath(spec) for spec in given]  # noqa: PTH100
    files = find_parts(specs)
    with ThreadPoolExecutor(_OPENERS) as pool:
        opened = list(pool.map(_open_part, files))
    parts = tuple(part for part, _, _ in opened)
    header = _common_header(parts)
    # a table without rows may lack columns, or have them without a type
    schemas = [
        (part, schema) for part, schema, _ in opened if part.table_stamp and part.header.rows
    ]
    naming = Naming.of(schemas[0][1]) if schemas else Naming(())
    for part, schema in schemas:
        naming.check(str(part.files.metadata), schema)
    sizes = tuple(part.header.rows for part in parts)
    encoder = {"name": detector, "dim": header.dim, "stated": "by the user; not verified"}
    config = {
        "encoder": encoder, "views": ["identity"], "dtype": header.dtype,
        "identified_by": sorted({how for *_, entries in opened for *_, how in entries}),
        "ids": naming.words,
    }  # fmt: skip
    inputs = [
        {"name": file, "sha256": sha256, "bytes": size}
        for *_, entries in opened
        for file, sha256, size, _ in entries
    ]
    counts = {
        "samples": sum(sizes), "vectors": sum(sizes), "vectors_per_part": list(sizes),
        "status": {"success": sum(sizes)}, "damaged_shards": {},
    }  # fmt: skip
    title = check_name(name or set_name(specs[0]))
    manifest = Manifest(KIND, config, inputs, counts=counts)
    return Published(Path(specs[0]), manifest, sizes, title, " ".join(specs), parts, naming)


_Entry = tuple[str, str, int, str]
"""Of a file: name, digest, bytes, and how it was identified."""


def _open_part(files: PartFiles) -> tuple[Part, Any, list[_Entry]]:
    """Open one part; its table has to have a row for every vector."""
    head, stamp, entry = _identify(files.vectors)
    header = read_header(head, stamp.size, files.vectors)
    if files.metadata is None:
        return Part(files, header, stamp, None), None, [(files.name, *entry)]
    _, table_stamp, table_entry = _identify(files.metadata)
    part = Part(files, header, stamp, table_stamp)
    table = open_table(_source(part))
    rows, schema = table.metadata.num_rows, table.schema_arrow
    if rows != header.rows:
        raise CurateError(
            f"{files.metadata}: {rows} rows, but {files.vectors} holds {header.rows} vectors, and "
            "their order is all that ties them together; fetch both again."
        )
    return part, schema, [(files.name, *entry), (f"{files.name} table", *table_entry)]


def _source(part: Part) -> str | RemoteFile:
    place = part.files.metadata
    assert place is not None
    return RemoteFile(place, part.table_stamp) if is_remote(place) else place


def _common_header(parts: Sequence[Part]) -> Header:
    first = parts[0]
    for part in parts:
        ours, theirs = (
            (one.header.dim, one.header.dtype, one.files.vectors) for one in (first, part)
        )
        if ours[:2] != theirs[:2]:
            raise CurateError(
                f"{theirs[2]}: width {theirs[0]} of type {theirs[1]}, but {ours[2]} has width "
                f"{ours[0]} of type {ours[1]}; parts of one set must agree."
            )
    return first.header


# --- what tells one version from another ---------------------------------------------------------


def _identify(place: str) -> tuple[bytes, Stamp, tuple[str, int, str]]:
    """The first bytes of a file, its stamp, and its digest, bytes and how it was identified."""
    if is_remote(place):
        file = RemoteFile(place)
        facts = {**asdict(file.stamp), "head": hashlib.sha256(file.head).hexdigest()}
        how = _TAGGED if file.stamp.tag else _BARE
        return file.head, file.stamp, (digest(facts), file.stamp.size, how)
    stamp = _local_stamp(place)
    content = hashlib.sha256()
    with Path(place).open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        for at in (0, (stamp.size - _SAMPLE) // 2, stamp.size - _SAMPLE):
            stream.seek(max(0, at))
            content.update(stream.read(_SAMPLE))
    sample = {"size": stamp.size, "sample": content.hexdigest()}
    return head, stamp, (digest(sample), stamp.size, _LOCAL)


def _local_stamp(place: str) -> Stamp:
    try:
        stat = Path(place).stat()
    except OSError as error:
        raise CurateError(f"{place}: cannot be read ({error.strerror}); fetch it.") from error
    return Stamp(stat.st_size, str(stat.st_mtime_ns))


def _check_local(place: str, stamp: Stamp) -> None:
    if _local_stamp(place) != stamp:
        raise CurateError(f"{place}: written again since the run; run `curate dedup` again.")


# --- the reference in a run ----------------------------------------------------------------------


def write_reference(published: Published, folder: Path) -> Published:
    """Note in a run folder what the set is, so that the run can be opened later.

    Raises:
        CurateError: a file was written again since the run began, though nothing else tells it
            from the old one.
    """
    places: dict[str, Any] = {
        "title": published.title, "address": published.address,
        "columns": list(published.naming.columns),
        "parts": [asdict(part) for part in published.parts],
    }  # fmt: skip
    if (folder / MANIFEST).is_file():
        if read_manifest(folder).id == published.manifest.id:
            _check_times(read_json(folder / _PLACES)["parts"], places["parts"])
        (folder / MANIFEST).unlink()
    write_json(folder / _PLACES, places)
    write_json(folder / MANIFEST, published.manifest.to_json())
    return replace(published, root=folder)


def _check_times(before: list[dict[str, Any]], now: list[Any]) -> None:
    for old, new in zip(before, now, strict=True):
        if (old["stamp"], old["table_stamp"]) != (new["stamp"], new["table_stamp"]):
            raise CurateError(
                f"{new['files']['vectors']}: it or its table was written again since the run "
                "began, and whether all bytes are the same is not known without reading them; "
                "give another --out."
            )


def _is_reference(folder: Path) -> bool:
    return read_manifest(folder).kind == KIND


def _open_reference(folder: Path) -> Published:
    manifest, places = read_manifest(folder), read_json(folder / _PLACES)
    try:
        parts = tuple(_part(entry) for entry in places["parts"])
        columns, title, address = places["columns"], places["title"], places["address"]
    except (KeyError, TypeError) as error:
        raise CurateError(f"{folder / _PLACES}: altered by hand ({error!r}).") from error
    sizes = tuple(part.header.rows for part in parts)
    return Published(folder, manifest, sizes, title, address, parts, Naming(tuple(columns)))


def _part(entry: dict[str, Any]) -> Part:
    table_stamp = entry["table_stamp"]
    return Part(
        PartFiles(**entry["files"]),
        Header(**entry["header"]),
        Stamp(**entry["stamp"]),
        Stamp(**table_stamp) if table_stamp else None,
    )
