"""What the contestants are given: the same images, unpacked or packed before and not timed."""

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

Sample = tuple[str, dict[str, bytes]]
"""Key and content by extension."""

PER_FOLDER = 1000


def samples(folder: Path) -> Iterator[Sample]:
    """The samples of all tars of a folder, plain or gzipped.

    Raises:
        SystemExit: it has no tars.
    """
    tars = sorted(path for path in folder.glob("*.tar*"))
    if not tars:
        raise SystemExit(f"{folder}: no tars; --data is the folder with cifar10 and photos in it")
    for path in tars:
        with tarfile.open(path) as archive:
            key, parts = "", dict[str, bytes]()
            for member in archive:
                content = archive.extractfile(member)
                stem, _, extension = Path(member.name).name.partition(".")
                if content is None:
                    continue
                if stem != key and parts:
                    yield key, parts
                    parts = {}
                key = stem
                parts[extension] = content.read()
            if parts:
                yield key, parts


def some(folder: Path, limit: int | None) -> Iterator[Sample]:
    """The first samples of a folder of tars, or all."""
    return islice(samples(folder), limit)


def write_files(found: Iterable[Sample], out: Path) -> None:
    """Write images as `out/NNN/KEY.jpg`, a thousand to a folder; the folder appears when whole."""
    partial = out.with_name(f"{out.name}.partial")
    for number, (key, parts) in enumerate(found):
        folder = partial / f"{number // PER_FOLDER:03d}"
        if number % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{key}.jpg").write_bytes(parts["jpg"])
    partial.rename(out)


def write_tars(found: Sequence[Sample], out: Path, shards: int) -> None:
    """Write samples as `out/{0..N}.tar`, in turn, under their number as key."""
    out.mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(out / f"{shard}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(shard, len(found), shards):
                for extension, content in found[number][1].items():
                    info = tarfile.TarInfo(f"{number:08d}.{extension}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
