"""Sets written in CLIP_benchmark's layout, which that program and this one read.

`{out}/test/{i}.tar` with `nshards.txt`; beside it `classnames.txt`, the templates and
`dataset_type.txt`. A sample is an image (PNG, JPEG or WebP) and a `.cls` with the number of its
label. Source: clip_benchmark 1.6.2, `build_wds_dataset`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from curate import artifacts
from curate.errors import CurateError
from curate.files import digest, write_bytes
from curate.formats import tar
from curate.samples import Member, Sample
from curate.units import RunUnits, results, run_in_process
from eval.datasets.evalset import EvalSet
from eval.datasets.generic import CLASS_NAMES, PLACEHOLDER, TEMPLATES

PER_SHARD = 1000
SPLIT = "test"
_STORED_AS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}


@dataclass(frozen=True)
class ExportUnit:
    """The items of one shard, which is written to `out`."""

    evalset: EvalSet
    start: int
    out: str


def write_clip_benchmark(
    evalset: EvalSet, out: Path, *, run_units: RunUnits = run_in_process
) -> None:
    """Write a set in CLIP_benchmark's layout; images stay as they are stored where they can.

    An image that it could not read (GIF, BMP, TIFF) or that has a border is written as PNG.

    Args:
        evalset: one whose labels are its classes.
        out: the folder, which appears when it is whole; it is a data set as any other, and has no
            manifest.
        run_units: runs the units, one per shard.

    Raises:
        CurateError: labels stand for several classes, which the layout cannot say; the folder is
            there already.
        PartialRunError: some shards could not be written.
    """
    if evalset.groups is not None:
        raise CurateError(
            f"{evalset.name}: its labels stand for several classes each, which CLIP_benchmark's "
            "layout cannot say"
        )
    if out.exists():
        raise CurateError(f"{out}: is there already; remove it, or give another folder.")
    work = artifacts.work_folder(
        out, digest({"set": evalset.digest, "items": evalset.items.rows(), "shard": PER_SHARD})
    )
    starts = range(0, evalset.items.height, PER_SHARD)
    units = [
        ExportUnit(
            replace(evalset, items=evalset.items[start : start + PER_SHARD]),
            start,
            str(work / SPLIT / f"{number}.tar"),
        )
        for number, start in enumerate(starts)
    ]
    results(run_units(_write_unit, units), f"write {evalset.name}")
    write_sides(work, len(units), evalset.classes, evalset.templates)
    work.rename(out)


def _write_unit(unit: ExportUnit) -> None:
    path = Path(unit.out)
    if path.is_file():
        return
    samples = []
    for place, (id_, label) in enumerate(unit.evalset.items.select("id", "label").iter_rows()):
        extension, data = _stored(unit.evalset, id_)
        samples.append(sample(unit.start + place, label, data, extension))
    tar.write(path, samples)


def _stored(evalset: EvalSet, id_: str) -> tuple[str, bytes]:
    """An image as it is stored, or as PNG, with its extension."""
    data = evalset.read(id_)
    extension = None if evalset.border else _STORED_AS.get(_format(data))
    if extension:
        return extension, data
    return "png", as_png(evalset.image(id_))


def _format(data: bytes) -> str:
    """What PIL takes the bytes for; empty: for no image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format or ""
    except Exception:  # noqa: BLE001 - PIL raises anything; decoding says what is wrong
        return ""


def as_png(image: Image.Image) -> bytes:
    """An image as PNG, quickly."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def key_of(place: int) -> str:
    """The key of the sample at a place in the set; without dots, which would end it."""
    return f"{place:08d}"


def sample(place: int, label: int, data: bytes, extension: str) -> Sample:
    """One sample of the layout."""
    key = key_of(place)
    members = (Member(f"{key}.{extension}", data), Member(f"{key}.cls", str(label).encode()))
    return Sample(key, members)


def write_sides(out: Path, shards: int, classes: Sequence[str], templates: Sequence[str]) -> None:
    """Write what stands beside the shards."""
    texts = [template.replace("{}", PLACEHOLDER) for template in templates]
    for name, lines in ((CLASS_NAMES, classes), (TEMPLATES, texts)):
        write_bytes(out / name, "".join(f"{line}\n" for line in lines).encode())
    write_bytes(out / "dataset_type.txt", b"classification\n")
    write_bytes(out / SPLIT / "nshards.txt", f"{shards}\n".encode())
