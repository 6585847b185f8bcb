"""What a path, brace pattern, glob, folder or URL stands for: a data set with its layout and shards.

Layouts: `webdataset` (tars), `img2dataset` (tars with a status table each), `clip_benchmark` (a split
folder of tars with `nshards.txt`, class names above it), `folder` (image files), `parquet`.
"""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from curate.errors import CurateError
from curate.formats import folder, tar
from curate.formats.img2dataset import status_table
from curate.samples import printable
from curate.shards import Dataset, Layout, Shard, is_remote

_ROOT_FILES = (
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "templates.txt",
    "README.md",
)


def open_dataset(specs: str | Sequence[str], name: str | None = None) -> Dataset:
    """Find the shards that paths, braces, globs, folders or fsspec URLs stand for.

    Raises:
        CurateError: nothing is there, or the parts have different layouts.
    """
    given = [specs] if isinstance(specs, str) else list(specs)
    given = [spec if is_remote(spec) else os.path.abspath(spec) for spec in given]  # noqa: PTH100
    found = [url for spec in given for url in _expand(spec)]
    if len(found) == 1 and not is_remote(found[0]) and Path(found[0]).is_dir():
        dataset = _open_folder(Path(found[0]), name)
    else:
        files = [file for url in found for file in _files_of(url)]
        dataset = _from_files(files, name or _default_name(files))
    return replace(dataset, specs=tuple(given))


def _expand(spec: str) -> list[str]:
    import braceexpand

    try:
        literal = "{" not in spec or Path(spec).exists()
        urls = [spec] if literal else list(braceexpand.braceexpand(spec))
    except ValueError as error:
        raise CurateError(f"{spec}: the braces do not expand ({error}).") from error
    return [match for url in urls for match in _glob(url)]


def _glob(url: str) -> list[str]:
    if is_remote(url):
        return _glob_remote(url) if "*" in url else [url]
    if os.path.exists(url):  # noqa: PTH110  # a literal name wins over a pattern
        return [url]
    matches = sorted(glob.glob(url))  # noqa: PTH207
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
    except (OSError, ValueError, ImportError) as error:
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
    tars = [str(path) for path in sorted(root.rglob("*")) if path.name.endswith(tar.SUFFIXES)]
    if tars:
        return _from_files(tars, name or root.name, root)
    tables = [str(path) for path in sorted(root.rglob("*.parquet"))]
    if tables:
        return _from_files(tables, name or root.name, root)
    shards = tuple(Shard(d, str(root), d) for d in folder.directories(root))
    if not shards:
        raise CurateError(f"{root}: the folder is empty.")
    return Dataset(name or root.name, "folder", str(root), shards)


def _clip_benchmark(root: Path, split: str, name: str) -> Dataset:
    text = (root / split / "nshards.txt").read_text()
    if not text.strip().isdigit():
        raise CurateError(f"{root / split / 'nshards.txt'}: a number of shards was expected.")
    paths = [root / split / f"{i}.tar" for i in range(int(text))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise CurateError(
            f"{root / split}: nshards.txt says {len(paths)}, but {missing[:5]} are missing."
        )
    sides = [f"{split}/nshards.txt", *_ROOT_FILES]
    names = root / "classnames.txt"
    return Dataset(
        name,
        "clip_benchmark",
        str(root),
        tuple(Shard(f"{split}/{path.stem}", str(path), f"{split}/{path.name}") for path in paths),
        tuple((side, str(root / side)) for side in sides if (root / side).is_file()),
        tuple(names.read_text("utf-8").splitlines()) if names.is_file() else (),
    )


def _from_files(urls: list[str], name: str, root: Path | None = None) -> Dataset:
    layout = _layout_of(urls)
    urls = [url if is_remote(url) else os.path.abspath(url) for url in urls]  # noqa: PTH100
    base = str(root) if root else _common_parent(urls)
    paths = [url[len(base) + 1 :] for url in urls]
    shards = tuple(Shard(_shard_name(p), u, p) for p, u in zip(paths, urls, strict=True))
    repeated = [n for n, count in Counter(shard.name for shard in shards).items() if count > 1]
    if repeated:
        raise CurateError(f"{urls[0]}: the shard names {repeated[:3]} stand for several files.")
    return Dataset(name, layout, base, shards)


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
    local = not any(map(is_remote, urls))
    return "img2dataset" if local and all(map(status_table, urls)) else "webdataset"


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _common_parent(urls: list[str]) -> str:
    if len(urls) == 1:
        return urls[0].rpartition("/")[0]
    folders = [url.split("/")[:-1] for url in urls]
    same = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    return "/".join(level[0] for level in same)


def _shard_name(path: str) -> str:
    plain = _without_query(path)
    for suffix in (*sorted(tar.SUFFIXES, key=len, reverse=True), ".parquet"):
        if plain.endswith(suffix):
            return printable(plain.removesuffix(suffix))
    return printable(plain)


def _default_name(urls: list[str]) -> str:
    parent = PurePosixPath(_without_query(urls[0])).parent.name
    return _shard_name(PurePosixPath(urls[0]).name) if len(urls) == 1 or not parent else parent
