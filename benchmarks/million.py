"""Peak memory of embedding 1,000,000 images and joining 1,000 test images with them.

Writes 20 shards of 10,000 small generated PNGs, names each of them five times by hard links, and
runs `curate dedup` on the 100 shards in a process of its own.

    python benchmarks/million.py --folder /tmp/million --out million.json
"""

import argparse
import io
import json
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
from cifar10_copies import measure
from PIL import Image
from record import write_result

SHARDS = 20
SAMPLES = 10_000
NAMES = 5


def main() -> None:
    """Write the shards where they are missing, run, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    write_shards(arguments.folder / "train", range(SHARDS), SAMPLES)
    write_shards(arguments.folder / "test", range(1000, 1001), 1000)
    for number in range(SHARDS, SHARDS * NAMES):
        name = arguments.folder / "train" / f"{number:05d}.tar"
        if not name.exists():
            os.link(arguments.folder / "train" / f"{number % SHARDS:05d}.tar", name)
    words = [
        *(sys.executable, "-m", "pipelines", "dedup", "--workers", str(arguments.workers)),
        *("--test", str(arguments.folder / "test"), "--train", str(arguments.folder / "train")),
        *("--out", str(arguments.folder / "run"), "--detector", "builtin:layout"),
    ]
    result = {"images": SHARDS * NAMES * SAMPLES, **measure(words)}
    write_result(arguments.out, result)
    print(json.dumps(result, indent=2))


def write_shards(folder: Path, numbers: range, samples: int) -> None:
    """Write tars of 16 x 16 pictures, each of its own seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        path = folder / f"{number:05d}.tar"
        if path.exists():
            continue
        generator = np.random.default_rng(number)
        with tarfile.open(path, "w") as archive:
            for index in range(samples):
                pixels = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC).save(
                    buffer, "PNG"
                )
                header = tarfile.TarInfo(f"{index:06d}.png")
                header.size = buffer.tell()
                buffer.seek(0)
                archive.addfile(header, buffer)


if __name__ == "__main__":
    main()
