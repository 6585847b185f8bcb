"""Small sets with known copies, and runs of `curate dedup` on them."""

import io
import tarfile
from pathlib import Path
from typing import Any

from pictures import copies, encoded, picture, sample, write_set, write_shard

from curate.config import DedupConfig
from curate.units import RunUnits, run_in_process
from pipelines.dedup import DedupResult, run_dedup

PLANTED = [11, 12, 13, 14, 15]


def write_sets(root: Path) -> Path:
    """Train pictures 10..29; as test: 11 new pictures, five copies of train ones, a broken file."""
    write_set(root / "train", [range(10, 20), range(20, 30)])
    kinds = list(copies(picture(0)))
    first = [sample(f"{seed:06d}", encoded(picture(seed)), seed % 3) for seed in range(100, 110)]
    second = [
        sample(f"copy-{kind}", copies(picture(seed))[kind], seed % 3)
        for seed, kind in zip(PLANTED, kinds, strict=True)
    ]
    second += [sample("broken", b"no picture"), sample("last", encoded(picture(119)), 2)]
    write_shard(root / "test" / "a.tar", first)
    write_shard(root / "test" / "b.tar", second)
    return root


def configure(sets: Path, out: Path, **more: Any) -> DedupConfig:
    values = {
        "test": (str(sets / "test"),),
        "train": (str(sets / "train"),),
        "out": out,
        "threshold": 0.8,
        "detector": "builtin:layout",
    }
    return DedupConfig(**{**values, **more})


def run(sets: Path, out: Path, runner: RunUnits = run_in_process, **more: Any) -> DedupResult:
    return run_dedup(configure(sets, out, **more), runner)


def members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        return [
            (m.name, (archive.extractfile(m) or io.BytesIO()).read()) for m in archive if m.isreg()
        ]


def write_photos(root: Path) -> Path:
    """Three sizes of one picture, the largest in the middle, another picture, and a broken file."""
    image = picture(7)
    rows = [
        sample(name, encoded(image.resize((side, side))))
        for name, side in (("small", 64), ("large", 200), ("medium", 120))
    ]
    rows += [sample("other", encoded(picture(8))), sample("broken", b"no picture")]
    write_shard(root / "photos" / "0.tar", rows)
    return root / "photos"


def run_within(photos: Path, out: Path, **more: Any) -> DedupResult:
    config = DedupConfig(
        test=(str(photos),), within=True, threshold=0.9, out=out, detector="builtin:layout", **more
    )
    return run_dedup(config, run_in_process)
