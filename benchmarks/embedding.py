"""How much of the time an encoder computes while photographs are embedded, and a plain loop beside.

Each row embeds photographs from tars as `curate embed` does, decoded whole and at a reduced size.
`forward` is what the encoder alone takes on images that are ready; its share of the run is that of
the processor that is not spent on reading, decoding and writing. The plain loop is a `DataLoader`
without workers over a folder of the same files: open, convert to RGB, the encoder's own
preprocessing, forward; it computes no digest, keeps no failure and writes nothing. `usual` is that
loop with the preprocessing of a CLIP of 224 pixels and no model, as a reader of such tools has it.
All of it is processor time of one thread.

With --cores 2 or more (leave OMP_NUM_THREADS at 1) images are decoded by as many threads beside the
encoder's, and wall time counts: how near the run comes to the forward alone.

    OMP_NUM_THREADS=1 python benchmarks/embedding.py --data photos \
        --out benchmarks/results/embedding.json
"""

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from record import write_result
from torch.utils.data import DataLoader, Dataset

from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import Encoder, EncoderSpec, cached_encoder
from curate.samples import Member, image_member
from curate.shards import ShardReader

ENCODERS = {
    "builtin:layout": 3200,
    "builtin:copy": 1600,
    "builtin:tiny-clip": 1600,
    "open_clip:ViT-B-32/random": 160,
}
"""Images that each encoder is measured on; photographs are taken several times if need be."""
USUAL = "open_clip:ViT-B-32/random"
REPEATS = 3
_READY = 256  # images that the forward is measured on, at most
_LOADED = 128  # images of a batch of the plain loop
Preprocess = Callable[[Image.Image], NDArray[np.generic]]


def main() -> None:
    """Measure every encoder and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of tars of photographs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--encoder", action="append", choices=ENCODERS, help="some only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if arguments.cores == 1 else time.perf_counter
    photos = read(arguments.data)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        usual = None
        if arguments.cores == 1:
            reader = cached_encoder(EncoderSpec(USUAL, device="cpu"))
            files = unpack(photos, Path(folder, "files"))
            usual = 1e3 * least(lambda: loop(reader.preprocess, files), clock) / len(files)
            print("usual reader", usual, flush=True)
        for name in arguments.encoder or ENCODERS:
            rows[name] = measure(name, photos, Path(folder), arguments.cores, clock)
            print(name, rows[name], flush=True)
    figures = {"cores": arguments.cores, "photos": len(photos), "usual_reader_ms": usual}
    write_result(arguments.out, {**figures, "unit": "ms per image", "encoders": rows})


def read(folder: Path) -> list[bytes]:
    """The photographs as they are stored, those of all tars in turn."""
    dataset = open_dataset((str(folder),))
    shards = []
    for shard in dataset.shards:
        members = [image_member(sample) for sample in ShardReader(dataset, shard)]
        shards.append([one.data for one in members if isinstance(one, Member) and one.data])
    turns = range(max(map(len, shards)))
    return [shard[turn] for turn in turns for shard in shards if turn < len(shard)]


def measure(
    name: str, photos: list[bytes], folder: Path, cores: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """Milliseconds per image of one encoder, and what follows from them."""
    count = ENCODERS[name]
    shards = pack(photos, count, folder / name.replace("/", "-"))
    encoder = cached_encoder(EncoderSpec(name, device="cpu"))
    ready = np.stack([encoder.preprocess(opened(photo)) for photo in photos[: min(_READY, count)]])
    forward = least(lambda: batches(encoder, ready), clock) / len(ready)
    found: dict[str, Any] = {"images": count, "forward": 1e3 * forward}
    for decode in ("exact", "scaled"):
        spec = EncoderSpec(name, device="cpu", decode=decode)
        cached_encoder(spec)
        turns: Iterator[int] = iter(range(REPEATS))

        def run(spec: EncoderSpec = spec, turns: Iterator[int] = turns) -> None:
            out = folder / f"{shards.name}-{spec.decode}-{next(turns)}"
            embed(open_dataset(str(shards)), EmbedSettings(spec), out, threads=cores)

        whole = least(run, clock) / count
        found[decode] = {"run": 1e3 * whole, "images_per_second": 1 / whole}
        found[decode]["forward_share"] = forward / whole
    if cores == 1:
        files = unpack(photos[: min(count, len(photos))], folder / "files")
        plain = least(lambda: loop(encoder.preprocess, files, encoder), clock) / len(files)
        found["plain"] = {"run": 1e3 * plain, "images_per_second": 1 / plain}
    return found


def pack(photos: list[bytes], count: int, folder: Path) -> Path:
    """A folder of one tar of so many photographs; from the first again where they are too few."""
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as archive:
        for number in range(count):
            data = photos[number % len(photos)]
            header = tarfile.TarInfo(f"{number:06d}.jpg")
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return folder


def unpack(photos: list[bytes], folder: Path) -> list[Path]:
    """The photographs as files."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:06d}.jpg" for number in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        path.write_bytes(photo)
    return paths


def least(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """The least seconds of some runs."""
    taken = []
    for _ in range(REPEATS):
        start = clock()
        work()
        taken.append(clock() - start)
    return min(taken)


def batches(encoder: Encoder, ready: NDArray[np.generic]) -> None:
    """Encode images that are ready, as a run does."""
    for at in range(0, len(ready), encoder.batch_size):
        encoder.encode(ready[at : at + encoder.batch_size])


def opened(photo: bytes) -> Image.Image:
    return Image.open(io.BytesIO(photo)).convert("RGB")


class Files(Dataset[NDArray[np.generic]]):
    """Image files, preprocessed."""

    def __init__(self, paths: list[Path], preprocess: Preprocess) -> None:
        self._paths = paths
        self._preprocess = preprocess

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> NDArray[np.generic]:
        return self._preprocess(Image.open(self._paths[index]).convert("RGB"))


def loop(preprocess: Preprocess, paths: list[Path], encoder: Encoder | None = None) -> None:
    """What a person would write."""
    for images in DataLoader(Files(paths, preprocess), batch_size=_LOADED):
        if encoder is not None:
            encoder.encode(images.numpy())


if __name__ == "__main__":
    main()
