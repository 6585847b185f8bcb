"""Which files hold published vectors, and which tables go with them: clip-retrieval's layout.

`img_emb/img_emb_0.npy` with `metadata/metadata_0.parquet` beside it, numbers of any width, also
both kinds in one folder; or any numbered `.npy` files, with the tables given or absent.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from curate.artifacts import MANIFEST
from curate.discover import expand
from curate.errors import CurateError
from curate.remote import exists, is_http, open_filesystem
from curate.samples import printable
from curate.shards import check_name, is_remote

VECTORS, TABLES = "img_emb", "metadata"
_VECTOR_SUFFIX, _TABLE_SUFFIX = ".npy", ".parquet"
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]{1,18})")
_TEMPLATE = "img_emb/img_emb_{0000..0409}.npy"


@dataclass(frozen=True)
class PartFiles:
    """The files of one part.

    Attributes:
        name: of the part, as item ids begin: the file name without its suffix.
        vectors: path or URL.
        metadata: path or URL, None where the set has no tables.
    """

    name: str
    vectors: str
    metadata: str | None


def are_vectors(specs: Sequence[str]) -> bool:
    """Tell whether these are vectors that curate did not write, by names alone.

    Raises:
        CurateError: a folder of a web server, which cannot be listed.
    """
    if any(_path(spec).endswith(_VECTOR_SUFFIX) for spec in specs):
        return True
    return len(specs) == 1 and _is_vector_folder(specs[0])


def find_parts(specs: Sequence[str]) -> list[PartFiles]:
    """Find the parts that folders, files, patterns or URLs stand for, in numeric order.

    Raises:
        CurateError: one is missing, odd or there twice, or has no table while others have.
    """
    files = [url for spec in specs for url in _files(spec)]
    odd = [url for url in files if not _path(url).endswith((_VECTOR_SUFFIX, _TABLE_SUFFIX))]
    if odd:
        raise CurateError(f"{odd[0]}: neither vectors (.npy) nor a table (.parquet).")
    vectors = _by_number([url for url in files if _path(url).endswith(_VECTOR_SUFFIX)])
    tables = _by_number([url for url in files if _path(url).endswith(_TABLE_SUFFIX)])
    if not vectors:
        raise CurateError(f"{specs[0]}: no vectors are there; give {_TEMPLATE}.")
    tables = tables or _beside(vectors)
    lone = min(tables.keys() ^ vectors.keys(), default=None) if tables else None
    if lone is not None:
        url, lacking = (vectors[lone], "table") if lone in vectors else (tables[lone], "vectors")
        raise CurateError(
            f"{url}: the {lacking} of part {lone} cannot be found; fetch what is missing."
        )
    names = {number: _name(url) for number, url in vectors.items()}
    return [PartFiles(names[n], vectors[n], tables.get(n)) for n in sorted(vectors)]


def set_name(spec: str) -> str:
    """A name for the set: that of the folder in which its folders of parts are."""
    path = PurePosixPath(_path(spec))
    folders = [part for part in path.parts if "{" not in part and "*" not in part]
    if path.suffix in (_VECTOR_SUFFIX, _TABLE_SUFFIX):
        folders = [part for part in path.parent.parts if "{" not in part and "*" not in part]
    while folders and folders[-1] in (VECTORS, "/"):
        folders.pop()
    name = folders[-1] if folders else "published"
    return check_name(printable(name.partition(":")[0] or "published"))


def _path(spec: str) -> str:
    """A path, or a URL without scheme and query."""
    return spec.partition("?")[0].partition("://")[2] if is_remote(spec) else spec


def _name(url: str) -> str:
    stem = PurePosixPath(_path(url)).stem
    return printable(stem).replace(":", "\\x3a")


# --- folders -------------------------------------------------------------------------------------


def _is_vector_folder(spec: str) -> bool:
    if not is_remote(spec):
        folder = Path(spec)
        return (
            folder.is_dir()
            and not (folder / MANIFEST).is_file()
            and bool(_vectors_in(sorted(path.name for path in folder.iterdir())))
        )
    last = _path(spec).rpartition("/")[2]
    if "." in last or "*" in spec or "{" in spec:
        return False
    if is_http(spec):
        if not last:
            raise CurateError(
                f"{spec}: folders of a web server cannot be listed; give the tars, or for vectors "
                f"their numbered names, such as {spec}{_TEMPLATE}"
            )
        return False
    return bool(_vectors_in(_listing(spec)))


def _vectors_in(names: Iterable[str]) -> list[str]:
    """Of the names in a folder those that make it a folder of vectors."""
    return [n for n in names if n == VECTORS or re.fullmatch(rf"{VECTORS}_[0-9]+\.npy", n)]


def _listing(folder: str) -> list[str]:
    """Names of what is in a folder, sorted; hidden files are left away."""
    if not is_remote(folder):
        found = [path.name for path in Path(folder).iterdir()]
    else:
        filesystem, path = open_filesystem(folder)
        try:
            found = [
                str(name).rstrip("/").rpartition("/")[2]
                for name in filesystem.ls(path, detail=False)
            ]
        except FileNotFoundError:
            found = []
        except Exception as error:  # fsspec's file systems share no base class
            raise CurateError(f"{folder}: cannot be listed ({error}).") from error
    return sorted(name for name in found if not name.startswith("."))


def _files(spec: str) -> list[str]:
    """The files that one word of the command line stands for."""
    if not is_remote(spec) and Path(spec).is_dir():
        return _files_in(spec)
    if is_remote(spec) and not _path(spec).endswith((_VECTOR_SUFFIX, _TABLE_SUFFIX)):
        return _files_in(spec.rstrip("/"))
    found = expand(spec)
    if "*" in spec:
        vectors = [url for url in found if _path(url).endswith(_VECTOR_SUFFIX)]
        _check_gaps(_by_number(vectors), is_whole=False)
    return found


def _files_in(folder: str) -> list[str]:
    names = _listing(folder)
    inner = f"{folder}/{VECTORS}" if VECTORS in names else folder
    tables = f"{folder}/{TABLES}" if TABLES in names else inner
    vectors = [f"{inner}/{name}" for name in _vectors_in(_listing(inner)) if name != VECTORS]
    if not vectors:
        raise CurateError(
            f"{inner}: no {VECTORS}_N.npy is in this folder; name the files with a pattern such as "
            f"{inner}/vectors_{{0..9}}.npy"
        )
    _check_gaps(_by_number(vectors), is_whole=True)
    pattern = re.compile(rf"{TABLES}_[0-9]+\.parquet")
    return vectors + [f"{tables}/{name}" for name in _listing(tables) if pattern.fullmatch(name)]


# --- numbers -------------------------------------------------------------------------------------


def _by_number(urls: Sequence[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for url in urls:
        match = _NUMBERED.fullmatch(PurePosixPath(_path(url)).stem)
        if match is None and len(urls) > 1:
            raise CurateError(f"{url}: its name has no number at its end, which would order it.")
        number = int(match["number"]) if match else 0
        if number in found:
            raise CurateError(
                f"{found[number]}, {url}: both are part {number}; give each set a run of its own."
            )
        found[number] = url
    return found


def _check_gaps(parts: dict[int, str], *, is_whole: bool) -> None:
    """Refuse a set that lacks a part: what is in it would pass for not being in the set."""
    lowest = 0 if is_whole else min(parts, default=0)
    missing = next((n for n in range(lowest, max(parts, default=0)) if n not in parts), None)
    if missing is not None:
        folder = parts[max(parts)].rpartition("/")[0]
        raise CurateError(
            f"{folder}: part {missing} of {max(parts)} is missing; fetch it, or name the "
            f"parts that are meant: {folder}/{VECTORS}_{{A..B}}.npy"
        )


# --- tables --------------------------------------------------------------------------------------


def _beside(vectors: dict[int, str]) -> dict[int, str]:
    """The tables where clip-retrieval puts them, if the first or last part has one."""
    for place in (_in_table_folder, _in_same_folder):
        guessed = {number: place(url) for number, url in vectors.items()}
        ends = (guessed[min(guessed)], guessed[max(guessed)])
        if any(url is not None and _is_there(url) for url in ends):
            return {number: url for number, url in guessed.items() if url is not None}
    return {}


def _in_same_folder(url: str) -> str | None:
    """`x/img_emb_07.npy` -> `x/metadata_07.parquet`."""
    base, query, options = url.partition("?") if is_remote(url) else (url, "", "")
    folder, slash, name = base.rpartition("/")
    match = re.fullmatch(rf"{VECTORS}_([0-9]+)\.npy", name)
    return f"{folder}{slash}{TABLES}_{match[1]}.parquet{query}{options}" if match else None


def _in_table_folder(url: str) -> str | None:
    """`x/img_emb/img_emb_07.npy` -> `x/metadata/metadata_07.parquet`."""
    beside = _in_same_folder(url)
    if beside is None or f"{VECTORS}/{TABLES}_" not in beside:
        return None
    head, _, tail = beside.rpartition(f"{VECTORS}/{TABLES}_")
    return f"{head}{TABLES}/{TABLES}_{tail}"


def _is_there(url: str) -> bool:
    return exists(url) if is_remote(url) else Path(url).is_file()
