"""What a path, brace pattern, glob, folder or URL stands for: a data set, its layout and shards.

Layouts: `webdataset` (tars), `img2dataset` (tars with a status table each), `clip_benchmark` (a
split folder of tars with `nshards.txt`, class names above it), `folder` (images), `parquet`.
"""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath

from curate.errors import CurateError
from curate.formats import folder, parquet, tar
from curate.formats.img2dataset import status_table
from curate.samples import printable
from curate.shards import Dataset, Layout, Shard, check_name, is_remote

_ROOT_FILES = (
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "templates.txt",
    "README.md",
)
_MAX_DIGITS = 9


def open_dataset(specs: str | Sequence[str], name: str | None = None) -> Dataset:
    """Find the shards that paths, braces, globs, folders or fsspec URLs stand for.

    Raises:
        CurateError: nothing is there, or the parts have different layouts.
    """
    given = [specs] if isinstance(specs, str) else list(specs)
    if not all(given) or not given:
        raise CurateError(
            "no data set was given. Give a tar, a folder, a Parquet file or a pattern."
        )
    given = [spec if is_remote(spec) else os.path.abspath(spec) for spec in given]  # noqa: PTH100
    found = [url for spec in given for url in expand(spec)]
    if len(found) == 1 and not is_remote(found[0]) and Path(found[0]).is_dir():
        dataset = _open_folder(Path(found[0]), name)
    else:
        files = [file for url in found for file in _files_of(url)]
        dataset = _from_files(files, name or _default_name(files))
    return replace(dataset, name=check_name(dataset.name), specs=tuple(given))


def expand(spec: str) -> list[str]:
    """Expand the braces and wildcards of a path or URL; a literal name wins over a pattern.

    Raises:
        CurateError: nothing is there, or it cannot be listed.
    """
    import braceexpand

    try:
        literal = "{" not in spec or os.path.exists(spec)  # noqa: PTH110  # takes any text
        urls = [spec] if literal else list(braceexpand.braceexpand(spec))
    except ValueError as error:
        raise CurateError(f"{spec}: the braces do not expand ({error}).") from error
    return [match for url in urls for match in _glob(url)]


def _glob(url: str) -> list[str]:
    if is_remote(url):
        return _glob_remote(url) if "*" in url else [url]
    if os.path.exists(url):  # noqa: PTH110  # a literal name wins over a pattern
        return [url]
    matches = sorted(glob.glob(url, recursive=True))  # noqa: PTH207
    if not matches:
        raise CurateError(
            f"{url}: nothing is there. Give a tar, a folder, a Parquet file or a pattern."
        )
    return matches


def _glob_remote(url: str) -> list[str]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        matches = sorted(filesystem.glob(path))
    except Exception as error:  # fsspec's file systems share no base class
        raise CurateError(f"{url}: cannot be listed ({error}).") from error
    if not matches:
        raise CurateError(f"{url}: nothing matches.")
    return [str(filesystem.unstrip_protocol(match)) for match in matches]


def _files_of(url: str) -> list[str]:
    if is_remote(url) or not Path(url).is_dir():
        return [url]
    dataset = _open_folder(Path(url), None)
    if dataset.layout in ("folder", "clip_benchmark"):
        raise CurateError(
            f"{url}: a folder of layout {dataset.layout} cannot be joined with others."
        )
    return [shard.url for shard in dataset.shards]


def _open_folder(root: Path, name: str | None) -> Dataset:
    if (root / "test" / "nshards.txt").is_file():
        return _clip_benchmark(root, "test", name or root.name)
    if (root / "nshards.txt").is_file():
        return _clip_benchmark(root.parent, root.name, name or f"{root.parent.name}-{root.name}")
    # macOS and interrupted writes leave hidden files behind
    files = [path for path in folder.files(root) if not path.name.startswith(".")]
    tars = [path for path in files if path.name.endswith(tar.SUFFIXES)]
    tables = [path for path in files if path.suffix == ".parquet"]
    chosen = tars or list(filter(parquet.has_images, tables))
    if chosen:
        return _from_files([str(path) for path in sorted(chosen)], name or root.name, root)
    if not any(map(folder.is_image, files)):
        raise CurateError(
            f"{root}: neither tars, nor Parquet files with images, nor images are in this folder."
        )
    shards = tuple(Shard(_escaped(d), str(root), d) for d in folder.directories(root))
    return Dataset(name or root.name, "folder", str(root), _with_unique_names(shards))


def _clip_benchmark(root: Path, split: str, name: str) -> Dataset:
    paths = [root / split / f"{i}.tar" for i in range(_shard_count(root / split))]
    sides = [f"{split}/nshards.txt", *_ROOT_FILES]
    names = root / "classnames.txt"
    lines = names.read_text("utf-8", "replace").split("\n") if names.is_file() else []
    return Dataset(
        name,
        "clip_benchmark",
        str(root),
        tuple(
            Shard(_escaped(f"{split}/{path.stem}"), str(path), f"{split}/{path.name}")
            for path in paths
        ),
        side_files=tuple((side, str(root / side)) for side in sides if (root / side).is_file()),
        class_names=tuple(line.strip() for line in lines),
    )


def _shard_count(split: Path) -> int:
    path = split / "nshards.txt"
    text = path.read_bytes().strip()
    if not text.isdigit() or len(text) > _MAX_DIGITS or int(text) == 0:
        raise CurateError(f"{path}: a number of shards was expected.")
    lacking = (name for i in range(int(text)) if not (split / (name := f"{i}.tar")).is_file())
    missing = list(islice(lacking, 3))
    if missing:
        raise CurateError(
            f"{path}: it says {int(text)} shards, but {', '.join(missing)} are missing; "
            "fetch them, or correct the number."
        )
    return int(text)


def _from_files(urls: list[str], name: str, root: Path | None = None) -> Dataset:
    layout = _layout_of(urls)
    urls = [url if is_remote(url) else os.path.abspath(url) for url in urls]  # noqa: PTH100
    places = [_without_query(url) for url in urls]
    base = str(root) if root else _common_parent(places)
    paths = [place[len(base) + 1 :] for place in places]
    shards = tuple(Shard(_shard_name(p), u, p) for p, u in zip(paths, urls, strict=True))
    return Dataset(name, layout, base, _with_unique_names(shards))


def _with_unique_names(shards: tuple[Shard, ...]) -> tuple[Shard, ...]:
    repeated = [n for n, count in Counter(shard.name for shard in shards).items() if count > 1]
    if repeated:
        urls = [shard.url for shard in shards if shard.name == repeated[0]]
        raise CurateError(
            f"{urls[0]}, {urls[1]}: both would be shard {repeated[0]}; give each shard once, and "
            "name them apart."
        )
    return shards


def _layout_of(urls: list[str]) -> Layout:
    tables = [url for url in urls if url.endswith(".parquet")]
    tars = [url for url in urls if _without_query(url).endswith(tar.SUFFIXES)]
    odd = set(urls) - set(tables) - set(tars)
    if odd:
        raise CurateError(f"{min(odd)}: neither a tar, a Parquet file nor a folder.")
    if tables and tars:
        raise CurateError(f"{tars[0]}, {tables[0]}: tars and Parquet files cannot be one data set.")
    if tables:
        remote = [url for url in tables if is_remote(url)]
        if remote:
            raise CurateError(
                f"{remote[0]}: Parquet files are read from local folders; copy it first."
            )
        return "parquet"
    with_table = [url for url in urls if not is_remote(url) and status_table(url)]
    if with_table and len(with_table) < len(urls):
        raise CurateError(
            f"{min(set(urls) - set(with_table))}: has no status table and statistics file, as "
            f"{with_table[0]} has. Let img2dataset finish, or leave this tar out."
        )
    return "img2dataset" if with_table else "webdataset"


def _without_query(url: str) -> str:
    return url.partition("?")[0] if is_remote(url) else url


def _common_parent(urls: list[str]) -> str:
    if len(urls) == 1:
        return urls[0].rpartition("/")[0]
    folders = [url.split("/")[:-1] for url in urls]
    same = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    return "/".join(level[0] for level in same)


def _shard_name(path: str) -> str:
    for suffix in (*sorted(tar.SUFFIXES, key=len, reverse=True), ".parquet"):
        if path.endswith(suffix):
            return _escaped(path.removesuffix(suffix))
    return _escaped(path)


def _escaped(name: str) -> str:
    """A shard's name as clean text, without the colon that ends it in an item id."""
    return printable(name).replace(":", "\\x3a")


def _default_name(urls: list[str]) -> str:
    first = PurePosixPath(_without_query(urls[0]))
    parent = first.parent.name
    return _shard_name(first.name) if len(urls) == 1 or not parent else _escaped(parent)
