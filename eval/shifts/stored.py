"""Shifted sets, made once: shards of PNGs in CLIP_benchmark's layout, and a table of their items.

Items keep the ids of the set that they were made from, so that splits join as before. A folder is
made again when the images, the parameters or a library behind them changed; its units (one for each
shard) may run in any order and anywhere, and a broken run goes on where it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from PIL import Image

from curate import artifacts
from curate.artifacts import Manifest
from curate.discover import open_dataset
from curate.errors import CurateError
from curate.files import digest
from curate.formats import tar
from curate.tables import read_table, write_table
from curate.units import RunUnits, results, run_in_process
from eval.datasets.evalset import ITEMS, EvalSet, FromDataset, Source
from eval.datasets.export import SPLIT, as_png, key_of, sample, write_sides
from eval.geometry import Pixels

KIND = "shifted"
PER_SHARD = 500
TABLE = "items.parquet"
_STORED = pl.Schema({**ITEMS, "stored": pl.String()})


class Shift(Protocol):
    """Something that is done to an image, with all it draws from its own seed and the item's id."""

    @property
    def word(self) -> str:
        """What stands for it in the name of a setting."""
        ...

    @property
    def cropped(self) -> bool:
        """Whether its images are the crop that a model sees."""
        ...

    def facts(self) -> dict[str, Any]:
        """All that its pixels depend on."""
        ...

    def made(self, image: Image.Image, id_: str, label: int) -> tuple[Pixels, int | None] | None:
        """(height, width, 3) uint8, and the label written on it; None: not for this image."""
        ...


@dataclass(frozen=True)
class ShiftUnit:
    """The items of one shard."""

    source: EvalSet
    shift: Shift
    start: int
    number: int
    work: str

    @property
    def label(self) -> str:
        """The unit in words."""
        return f"shift {self.source.name} by {self.shift.word}, shard {self.number}"


@dataclass(frozen=True)
class FromShifted:
    """Stored pictures by the ids of the items that they were made from."""

    stored: FromDataset
    places: Mapping[str, str]

    def read(self, id_: str) -> bytes:
        """The PNG of an item."""
        return self.stored.read(self.places[id_])


def write_shifted(
    source: EvalSet, shift: Shift, out: Path, *, run_units: RunUnits = run_in_process
) -> EvalSet:
    """Make a shifted set in the folder `out`, or use what is there.

    Args:
        source: the set.
        shift: what is done to its images.
        out: the folder.
        run_units: runs the units, one for each shard.

    Returns:
        The shifted set, named `source.word`; texts are those of `source`.

    Raises:
        CurateError: an image cannot be read, no image suits the shift, or another process makes it.
        PartialRunError: some units failed; the same call goes on.
    """
    manifest = _manifest(source, shift)
    done = artifacts.finished(out, manifest.key)
    if done is None:
        with artifacts.artifact_lock(out):  # models that are measured side by side share sets
            done = _make(source, shift, out, manifest, run_units)
    return _opened(source, shift, out, done)


def _manifest(source: EvalSet, shift: Shift) -> Manifest:
    config = {
        "name": f"{source.name}.{shift.word}", "shift": shift.facts(), "shard": PER_SHARD,
        "items": digest(source.items.rows()),
    }  # fmt: skip
    return Manifest(KIND, config, [{"name": source.name, "sha256": source.images_digest}])


def _make(
    source: EvalSet, shift: Shift, out: Path, manifest: Manifest, run_units: RunUnits
) -> Manifest:
    work = artifacts.work_folder(out, manifest.key)
    starts = range(0, source.items.height, PER_SHARD)
    units = [
        ShiftUnit(
            replace(source, items=source.items[start : start + PER_SHARD]),
            shift, start, number, str(work),
        )
        for number, start in enumerate(starts)
    ]  # fmt: skip
    results(run_units(_run_unit, units), f"make {source.name}.{shift.word}")
    rows = pl.concat(read_table(_part(work, unit.number), _STORED) for unit in units)
    if rows.is_empty():
        raise CurateError(f"{source.name}: no image suits {shift.word}.")
    write_table(work / TABLE, rows, _STORED)
    for unit in units:
        _part(work, unit.number).unlink()
    write_sides(work, len(units), source.labels, source.templates)
    left_out = source.items.height - rows.height
    counts = {"images": rows.height, "left_out": left_out}
    return artifacts.commit(work, out, replace(manifest, counts=counts))


def _part(work: Path, number: int) -> Path:
    return work / f"items-{number}.parquet"


def _run_unit(unit: ShiftUnit) -> None:
    """Make one shard; its table, written last, says that it is whole."""
    part = _part(Path(unit.work), unit.number)
    if part.is_file():
        return
    samples, rows = [], []
    for place, item in enumerate(unit.source.items.iter_rows(named=True), unit.start):
        made = unit.shift.made(unit.source.image(item["id"]), item["id"], item["label"])
        if made is None:
            continue
        pixels, word = made
        data = as_png(Image.fromarray(pixels))
        samples.append(sample(place, item["label"], data, "png"))
        stored = f"{SPLIT}/{unit.number}:{key_of(place)}"
        rows.append({**item, "word": word, "stored": stored})
    tar.write(Path(unit.work) / SPLIT / f"{unit.number}.tar", samples)
    write_table(part, pl.DataFrame(rows, _STORED), _STORED)


def _opened(source: EvalSet, shift: Shift, out: Path, manifest: Manifest) -> EvalSet:
    rows = read_table(out / TABLE, _STORED)
    stored = FromDataset(open_dataset(str(out / SPLIT)))
    images: Source = FromShifted(stored, dict(zip(rows["id"], rows["stored"], strict=True)))
    texts = {"classes": source.classes, "templates": source.templates, "labels": source.labels}
    return replace(
        source,
        name=f"{source.name}.{shift.word}",
        items=rows.select(ITEMS.names()),
        digest=digest({"images": manifest.id, "groups": source.groups, **texts}),
        images_digest=manifest.id,
        source=images,
        border=0,
        cropped=shift.cropped or source.cropped,
    )
