"""Small test sets, models and requests of `curate eval`, and the real test images of CIFAR-10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deduping import PLANTED
from evalset_trees import write_texts
from pictures import copies, encoded, picture, sample, write_shard

from curate.config import DedupConfig
from curate.units import Outcome, run_in_process
from pipelines.dedup import run_dedup
from pipelines.evaluation.request import EvalRequest, ModelRequest, Source
from pipelines.evaluation.run import run_eval
from pipelines.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from curate.units import RunUnits

NAMES = ("cat", "dog", "horse")


def write_test_set(root: Path, count: int, size: int = 32, names: Sequence[str] = NAMES) -> Path:
    """Pictures 0, 1, ... in CLIP_benchmark's layout, in two shards; classes come in turn."""
    rows = [sample(f"s{n:04}", encoded(picture(n, size)), n % len(names)) for n in range(count)]
    half = -(-count // 2)
    write_shard(root / "test" / "0.tar", rows[:half])
    write_shard(root / "test" / "1.tar", rows[half:])
    lines = "".join(f"{name}\n" for name in names)
    return write_texts(root, {"test/nshards.txt": "2\n", "classnames.txt": lines})


def write_one(root: Path, images: dict[str, bytes], names: Sequence[str] = NAMES) -> Path:
    """Given image files in CLIP_benchmark's layout, in one shard; all of the first class."""
    write_shard(root / "test" / "0.tar", [sample(key, data) for key, data in images.items()])
    lines = "".join(f"{name}\n" for name in names)
    return write_texts(root, {"test/nshards.txt": "1\n", "classnames.txt": lines})


def write_deduplicated(root: Path) -> tuple[Path, Path]:
    """A test set of 11 new pictures, 5 copies of train ones and a broken file, and its split."""
    new = [sample(f"{n:06}", encoded(picture(n, 32)), n % 3) for n in range(100, 111)]
    kinds = list(copies(picture(0)))
    old = [
        sample(f"copy-{kind}", copies(picture(n, 32))[kind], n % 3)
        for n, kind in zip(PLANTED, kinds, strict=True)
    ]
    write_shard(root / "set" / "test" / "0.tar", new)
    write_shard(root / "set" / "test" / "1.tar", old)
    lines = "".join(f"{name}\n" for name in NAMES)
    write_texts(root / "set", {"test/nshards.txt": "2\n", "classnames.txt": lines})
    train = [sample(f"{n:06}", encoded(picture(n, 32)), n % 3) for n in range(10, 20)]
    write_shard(root / "train" / "0.tar", train)
    done = run_dedup(
        DedupConfig(
            test=(str(root / "set" / "test"),), train=(str(root / "train"),), out=root / "run",
            threshold=0.8, detector="builtin:layout",
        ),
        run_in_process,
    )  # fmt: skip
    return root / "set", done.split


def asked(
    folder: Path, out: Path, *words: str, model: ModelRequest | None = None, **changes: Any
) -> EvalRequest:
    """A request on the set `mine`, by the built-in model unless another is given."""
    given: dict[str, Any] = {
        "model": model or ModelRequest("builtin:tiny-clip", device="cpu"),
        "sources": (Source("mine", str(folder), changes.pop("split", None)),),
        "settings": words,
        "out": out,
        "batch": 64,
    }
    return EvalRequest(**(given | changes))


def small(weights: Path) -> ModelRequest:
    """A model that `small_clips.write_clip` wrote."""
    return ModelRequest("open_clip:local-dir", weights=str(weights), device="cpu")


def measure(request: EvalRequest, runner: RunUnits = run_in_process) -> list[dict[str, Any]]:
    """The summaries of all settings."""
    return run_eval(request, runner, Watch())


def rows_of(out: Path) -> dict[str, bytes]:
    """The bytes of the rows of every setting."""
    return {path.parent.name: path.read_bytes() for path in sorted(out.glob("*/samples.parquet"))}


def stopping(after: int) -> RunUnits:
    """Runs so many units, and is then interrupted as by a key."""
    left = [after]

    def run(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for unit in units:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield from run_in_process(function, [unit])

    return run
