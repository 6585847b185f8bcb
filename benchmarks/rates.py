"""The rates that plans rest on, measured on this machine: `pipelines/planning/rates.json`.

Processor seconds of one thread, on the first images of a set of small pictures and on drawn ones of
some 200 x 200 pixels, each the least of three runs. FLOPs are counted by torch on networks without
weights. What only a GPU, the internet or a large cluster tells is published or assumed, and marked.

    OMP_NUM_THREADS=1 python benchmarks/rates.py --data cifar10/train --out pipelines/planning/rates.json
"""  # noqa: E501 - a command

import argparse
import io
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from flow_rates import measure_flow_steps
from rate_table import Table
from torch.utils.flop_counter import FlopCounterMode

from curate.demo import write_demo
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import EncoderSpec, cached_encoder
from curate.files import read_json, write_json
from curate.formats.tar import SUFFIXES
from curate.images import ImageError, ImageLimits, decode
from curate.samples import Failure, image_member
from curate.shards import ShardReader, write_split
from curate.verification.verifiers import AT_ONCE, VerifierSpec, cached_verifier
from indices import exact
from indices.stored import Stored
from pipelines.execute import open_runner
from pipelines.execute.config import ClusterConfig
from pipelines.planning.effort import STEEPNESS

RESULTS = Path(__file__).parent / "results"
REPEATS = 3
IMAGES = 1000
TIMED = ("builtin:copy", "builtin:layout", "builtin:tiny-clip")
COUNTED = (
    "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14", "RN50", "RN50x16",
)  # fmt: skip


def main() -> None:
    """Measure all and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of small pictures")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", action="store_true", help="only what steps take, into OUT")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        small, drawn = make_sets(table, arguments.data, Path(folder))
        if arguments.steps:
            table.rates |= read_json(arguments.out)
            take_from_results(table)
        else:
            measure_parts(table, small, drawn, Path(folder))
            write_json(arguments.out, table.rates)
        measure_flow_steps(table, small, Path(folder))
    write_json(arguments.out, dict(sorted(table.rates.items())))


def measure_parts(table: Table, small: Path, drawn: Path, folder: Path) -> None:
    state_what_is_not_measured(table)
    take_from_results(table)
    count_networks(table)
    measure_networks(table, drawn)
    measure_embedding(table, small, drawn, folder)
    measure_splits(table, small, folder)
    measure_look(table, small)
    measure_join(table)
    measure_index(table)
    measure_starts(table)


def least(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Least processor time of some runs."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


# --- stated ---------------------------------------------------------------------------------------


def state_what_is_not_measured(table: Table) -> None:
    table.stated("gpu.peak", 989.4e12, "FLOP/s", "published",
                 "NVIDIA H100 SXM data sheet: bf16, no sparsity")  # fmt: skip
    table.stated("gpu.utilisation", 0.3, "share", "assumed",
                 "nobody measured it; of forwards of ViTs")  # fmt: skip
    table.stated("download.url", 16 / (100e6 / (20 * 3600)), "s/URL and process", "published",
                 "img2dataset: 100 M images in 20 h on 16 cores")  # fmt: skip
    table.stated("storage.bandwidth", 20e9, "byte/s for all workers", "assumed", "a large store")
    table.stated("overlap.share", 0.07, "of a test set", "assumed",
                 "CIFAR-10's is 6 %; decides on no more than bytes written")  # fmt: skip
    table.stated("join.columns", 64, "columns", "assumed", "a sketch; the plan of a join decides")
    table.stated("calibrate.strengths", 3, "strengths of an edit", "counted", "curate.copies")


def take_from_results(table: Table) -> None:
    """What other benchmarks measured on the same machine."""
    step = read_json(RESULTS / "train-step.json")["models"]
    tiny = step["builtin:tiny-clip"]
    table.measured("train.share", tiny["forward_equivalents"] / 9, "of three passes a step",
                   "benchmarks/train_step.py")  # fmt: skip
    trained = read_json(RESULTS / "train-cifar10.json")["rows"]
    for name, row in (("attack.half", "undefended"), ("attack.half.robust", "tecoa")):
        radius = half_radius(trained[row]["4/255"]["accuracy"])
        unit = "255ths, of builtin:tiny-clip under PGD-20"
        table.measured(name, radius, unit, "benchmarks/train_cifar10.py")
    table.measured("storage.link", 1.7e9, "byte/s of one unit", "benchmarks/prefix.py")
    table.measured("candidates", 6583 / 10_000 / 0.05, "for a test image and a million others",
                   "curate dedup on CIFAR-10, builtin:copy with floor 0.6")  # fmt: skip
    table.stated("candidates.images", 0.85, "images a candidate", "assumed", "few repeat")


def half_radius(accuracy: float) -> float:
    """Radius at which half of all images are right, by the accuracy at 4/255."""
    return float(4 / math.log2(1 / accuracy) ** (1 / STEEPNESS))


def count_networks(table: Table) -> None:
    import open_clip

    for name in COUNTED:
        with torch.device("meta"):
            model = open_clip.create_model(name, pretrained=None, device="meta")
        side = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
        _counted(table, f"open_clip:{name}", model.encode_image, (1, 3, side, side))
    import torchvision

    with torch.device("meta"):
        backbone = torchvision.models.resnet50()
    _counted(table, "sscd:disc_mixup", backbone, (1, 3, 320, 320), width=512)
    step = read_json(RESULTS / "train-step.json")["models"]["open_clip:ViT-B-32/random"]
    speed = table.rates["flops.open_clip:ViT-B-32"]["value"] * step["images"]
    table.measured("core.flops", speed / step["forward_seconds"], "FLOP/s of a core, ViT-B/32",
                   "benchmarks/train_step.py")  # fmt: skip


def _counted(
    table: Table, name: str, network: Any, shape: tuple[int, ...], width: int | None = None
) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        found = network(torch.zeros(shape, device="meta"))
    table.stated(f"flops.{name}", counter.get_total_flops(), "FLOP/image", "counted", "torch")
    table.stated(f"width.{name}", width or found.shape[-1], "columns", "counted", "torch")


# --- measured -------------------------------------------------------------------------------------


def make_sets(table: Table, data: Path, folder: Path) -> tuple[Path, Path]:
    """A tar of small pictures, and one of drawn ones."""
    start = time.process_time()
    made = write_demo(folder / "demo", train=250, test=100, shift=50)
    table.measured("demo.image", (time.process_time() - start) / 400, "s/image")
    del made
    first = min(path for path in data.iterdir() if path.name.endswith(SUFFIXES))
    dataset = open_dataset(str(first), "small")
    small = folder / "small.tar"
    with tarfile.open(small, "w") as archive:
        for sample in islice(ShardReader(dataset, dataset.shards[0]), IMAGES):
            for member in sample.members:
                info = tarfile.TarInfo(member.name)
                info.size = len(member.data or b"")
                archive.addfile(info, io.BytesIO(member.data or b""))
    return small, min((folder / "demo" / "train").glob("*.tar"))


def images(path: Path) -> list[bytes]:
    dataset = open_dataset(str(path), "set")
    members = (image_member(sample) for sample in ShardReader(dataset, dataset.shards[0]))
    return [m.data for m in members if not isinstance(m, Failure) and m.data]


def decoded(path: Path) -> list[Any]:
    """All that are not broken, as some drawn ones are on purpose."""
    found = []
    for data in images(path):
        with suppress(ImageError):
            found.append(decode(data, ImageLimits()))
    return found


def measure_networks(table: Table, drawn: Path) -> None:
    pictures = decoded(drawn)[:100]
    for name in TIMED:
        encoder = cached_encoder(EncoderSpec(name, device="cpu"))
        prepare = least(lambda e=encoder: [e.preprocess(one) for one in pictures])  # type: ignore[misc]
        table.measured(f"prepare.{name}", prepare / len(pictures), "s/view of 200 x 200 pixels")
        batch = np.stack([encoder.preprocess(one) for one in pictures[: encoder.batch_size]])
        whole = np.resize(batch, (encoder.batch_size, *encoder.input_shape))
        forward = least(lambda e=encoder, b=whole: e.encode(b))  # type: ignore[misc]
        table.measured(f"forward.core.{name}", forward / encoder.batch_size, "s/image")
        table.stated(f"width.{name}", encoder.dim, "columns", "counted", "curate")
        flops = forward / encoder.batch_size * table.rates["core.flops"]["value"]
        table.stated(f"flops.{name}", flops, "FLOP/image", "assumed", "its seconds by core.flops")
    table.measured("prepare.224", _prepare_224(pictures), "s/view of 200 x 200 pixels")


def _prepare_224(pictures: list[Any]) -> float:
    def prepare() -> None:
        for one in pictures:
            np.asarray(one.resize((224, 224), 3), np.float32).transpose(2, 0, 1) / 255

    return least(prepare) / len(pictures)


def measure_embedding(table: Table, small: Path, drawn: Path, folder: Path) -> None:
    """What a sample takes, and a byte of it: two sets with other ratios of them tell."""
    name = "builtin:layout"
    settings = EmbedSettings(EncoderSpec(name, device="cpu"))
    encoder = cached_encoder(settings.encoder)
    rest = []
    for number, path in enumerate((small, drawn)):
        dataset = open_dataset(str(path), f"set{number}")
        turns = iter(range(100))

        def work(dataset: Any = dataset, number: int = number, turns: Any = turns) -> None:
            embed(dataset, settings, folder / f"embedded-{number}-{next(turns)}")

        seconds = least(work)
        pictures = decoded(path)[:100]
        prepare = least(lambda p=pictures: [encoder.preprocess(one) for one in p])  # type: ignore[misc]
        count, size = len(images(path)), path.stat().st_size
        network = prepare / len(pictures) + table.rates[f"forward.core.{name}"]["value"]
        rest.append((seconds - count * network, count, size))
    fixed = _one_image(small, folder, settings)
    (few, n, b), (many, m, c) = rest
    per_byte = max(0.0, (many - fixed) / m - (few - fixed) / n) / (c / m - b / n)
    per_sample = (few - fixed - b * per_byte) / n
    table.measured("byte.decode", per_byte, "s/byte of stored images")
    table.measured("sample.embed", per_sample, "s/sample")
    table.measured("unit.embed", fixed / 2, "s/shard")
    table.measured("step.embed", fixed / 2, "s")
    written = sum(p.stat().st_size for p in (folder / "embedded-0-0").rglob("*.parquet"))
    table.measured("metadata.bytes", written / n, "byte/sample")


def _one_image(small: Path, folder: Path, settings: EmbedSettings) -> float:
    one = folder / "one.tar"
    with tarfile.open(small) as source, tarfile.open(one, "w") as target:
        for member in islice(source, 3):
            target.addfile(member, source.extractfile(member))
    turns = iter(range(100))
    dataset = open_dataset(str(one), "one")
    return least(lambda: embed(dataset, settings, folder / f"one-{next(turns)}"))


def measure_splits(table: Table, small: Path, folder: Path) -> None:
    dataset = open_dataset(str(small), "small")
    shard = dataset.shards[0]
    count = len(images(small))
    read = least(lambda: list(ShardReader(dataset, shard)))
    turns = iter(range(100))

    def copy() -> None:
        write_split(dataset, shard, folder / f"copy-{next(turns)}", lambda _: True)

    copied = least(copy)
    table.measured("sample.read", read / count, "s/sample")
    size = small.stat().st_size
    table.measured("byte.copy", (copied - read) / size / 2, "s/byte read or written")


def measure_look(table: Table, small: Path) -> None:
    from curate.verification.verifiers import PIXELS

    verifier = cached_verifier(VerifierSpec(EncoderSpec(PIXELS, device="cpu")))
    pictures = decoded(small)[:64]

    def describe() -> list[Any]:
        prepared = [verifier.preprocess(one) for one in pictures]
        return [verifier.describe(np.stack(prepared[at : at + AT_ONCE]))
                for at in range(0, len(prepared), AT_ONCE)]  # fmt: skip

    table.measured("look.image.pixels", least(describe) / len(pictures), "s/image")
    block = describe()[0]
    cosine = np.full(AT_ONCE, 0.8, np.float32)
    score = least(lambda: verifier.score(block, block[::-1].copy(), cosine))
    table.measured("look.pair", score / AT_ONCE, "s/pair")


def measure_join(table: Table) -> None:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((200_000, 128), np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    stored = Stored([items.astype(np.float16)], [len(items)])
    taken = []
    for count in (500, 8000):
        queries = Stored([items[:count].astype(np.float16)], [count])
        taken.append(least(lambda q=queries: exact.join(q, stored, 0.9)))  # type: ignore[misc]
    per_pair = (taken[1] - taken[0]) / len(items) / 7500
    table.measured("join.pair", per_pair, "s/query and item")
    table.measured("join.item", taken[0] / len(items) - 500 * per_pair, "s/item")
    table.measured("join.plan", 0.4, "s, of 1e8 pairs or more", "docs/benchmarks.md")


_COMMAND = "import pipelines.cli, pipelines.flow.run, pipelines.flow.reading\n"
_LIBRARY = "import torch, pipelines.dedup\n"


def measure_starts(table: Table) -> None:
    command = _process(_COMMAND)
    table.measured("start.command", command, "s")
    empty = _process("")
    library = _process(_COMMAND + _LIBRARY)
    table.measured("load.library", library - command, "s")
    report = _process(_COMMAND + _LIBRARY + "import pipelines.evaluation.report\n")
    table.measured("load.report", report - library, "s")
    for name in TIMED:
        words = (
            f"{_COMMAND}{_LIBRARY}"
            "from curate.encoders import EncoderSpec, cached_encoder, fingerprint\n"
            f"fingerprint(cached_encoder(EncoderSpec({name!r}, device='cpu')))"
        )
        table.measured(f"load.{name}", _process(words) - library, "s")
    table.measured("load.pixels", _process(
        f"{_COMMAND}{_LIBRARY}"
        "from curate.encoders import EncoderSpec\n"
        "from curate.verification.verifiers import VerifierSpec, cached_verifier\n"
        "VerifierSpec(EncoderSpec('pixels')).config()"
    ) - library, "s")  # fmt: skip
    table.stated("load.network", 10, "s", "assumed", "weights of a large network from a disk")
    table.measured("cluster.start", _process(
        "from pipelines.execute import open_runner\n"
        "from pipelines.execute.config import ClusterConfig\n"
        "if __name__ == '__main__':\n"
        "    with open_runner(ClusterConfig(kind='local', workers=1)) as runner:\n"
        "        list(runner(abs, [1]))"
    ) - empty, "s")  # fmt: skip
    with open_runner(ClusterConfig(kind="local", workers=1)) as runner:
        list(runner(abs, [1]))
        start = time.process_time()  # the scheduler is in this process
        list(runner(abs, range(2000)))
        each = (time.process_time() - start) / 2000
    table.measured("cluster.dispatch", each, "s/unit")


def _process(words: str) -> float:
    """Processor seconds of a fresh process, the least of two."""
    taken = []
    for _ in range(2):
        before = os.times()
        subprocess.run([sys.executable, "-c", words], check=True, capture_output=True)
        after = os.times()
        taken.append(
            after.children_user + after.children_system
            - before.children_user - before.children_system
        )  # fmt: skip
    return min(taken)


def measure_index(table: Table) -> None:
    """An IVF index of made-up vectors, which is mostly training and adding."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20_000, 128), np.float32)
    index = faiss.index_factory(128, "IVF141,Flat", faiss.METRIC_INNER_PRODUCT)
    table.measured("index.train", least(lambda: index.train(vectors), 1), "s")
    added = least(lambda: index.add(vectors), 1)
    table.measured("index.vector", added / len(vectors), "s/vector")


if __name__ == "__main__":
    main()
