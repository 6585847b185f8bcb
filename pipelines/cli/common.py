"""What subcommands share: option types, progress on a terminal, output for people or machines."""

import json
import logging
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.errors import CurateError, PartialRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress, Task

    from pipelines.watch import Watch

Detector = Annotated[
    str | None, typer.Option(help="Encoder with its views and threshold, such as builtin:copy, the "
                             "default, sscd:disc_mixup or open_clip:ViT-B-32/openai; curate "
                             "detectors lists them.")
]  # fmt: skip
Weights = Annotated[Path | None, typer.Option(help="Local weights instead of the published ones.")]
Views = Annotated[
    str | None,
    typer.Option(help="How a test image is looked at, such as identity,mirror,trim; curate "
                 "detectors lists them. Default: the detector's."),
]  # fmt: skip
Background = Annotated[
    Path | None,
    typer.Option(help="Vectors of the detector for --whiten or --beta, of images that are no "
                 "copies: .npy, published vectors or an embeddings folder."),
]  # fmt: skip
Whiten = Annotated[
    bool | None, typer.Option("--whiten", help="Whiten vectors by the --background.")
]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
Compile = Annotated[bool | None, typer.Option("--compile", help="Compile the model with torch.")]
BatchSize = Annotated[int | None, typer.Option(help="Images per call of the model.")]
Dtype = Annotated[str | None, typer.Option(help="Stored vectors: float16 or float32.")]
Decode = Annotated[
    str | None,
    typer.Option(help="exact, or scaled: large JPEGs are decoded at a reduced size, which is "
                 "faster and moves vectors a little."),
]  # fmt: skip
Workers = Annotated[
    int | None, typer.Option(help="Worker processes on this machine; each is one core.")
]
Threads = Annotated[int | None, typer.Option(help="Image decoders per worker.")]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler, tcp://HOST:PORT.")
]
Classes = Annotated[
    Path | None,
    typer.Option(help="Class names, one a line, as the labels name them. Default: all labels."),
]
TorchThreads = Annotated[int | None, typer.Option(help="Threads of torch. Default: its own.")]
_STEERING = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Controls that JSON leaves as they are: of a terminal, and of the direction of writing."""

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def print_result(value: dict[str, Any], *, as_json: bool, text: str) -> None:
    """Print a result for a machine, or as text for a person."""
    from curate.storage import with_addresses

    if as_json:
        # readable names in every script, but nothing of a file's name may steer the terminal
        found = json.dumps(value, indent=2, ensure_ascii=False)
        shown = _STEERING.sub(lambda char: f"\\u{ord(char[0]):04x}", found)
    else:
        shown = text
    typer.echo(with_addresses(shown))


def end_if_damaged(shards: dict[str, str]) -> None:
    """Tell which shards were not whole, and end the command as partial if any was.

    Args:
        shards: why, by SET/SHARD.
    """
    for shard, why in shards.items():
        typer.secho(f"curate: {shard}: {why}", fg="yellow", err=True)
    if shards:
        raise typer.Exit(PartialRunError.exit_code)


@contextmanager
def output(out: Path) -> "Iterator[Path]":
    """The folder to write or change; of a URL, one on this machine that is published there."""
    from curate.storage import stored

    with stored(out) as folder:
        yield folder


@contextmanager
def progress() -> "Iterator[Watch]":
    """Bars on stderr while a person watches; silence when it is not a terminal."""
    with progress_of_many() as watch_of:
        yield watch_of("")


@contextmanager
def progress_of_many() -> "Iterator[Callable[[str], Watch]]":
    """Likewise for steps that go side by side: who watches one, by its name."""
    from pipelines.watch import Watch

    if not sys.stderr.isatty():
        yield lambda _name: Watch()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with _told_above(console), Progress(*columns, console=console) as bars:
        yield lambda name: _bars_of(bars, name)


@contextmanager
def _told_above(console: "Console") -> "Iterator[None]":
    """Lines about the run, such as where the dashboard is, above the bars."""
    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    logger = logging.getLogger("curate")
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _bars_of(bars: "Progress", name: str) -> "Watch":
    """Bars for the stages of one step."""
    from pipelines.watch import Watch

    current: list[Task] = []
    images = 0

    def stage(title: str, total: int) -> None:
        nonlocal images
        images = 0
        shown = f"{name}: {title}" if name else title
        number = bars.add_task(shown, total=total, rate="")
        current[:] = [task for task in bars.tasks if task.id == number]

    def step(steps: int, more: int) -> None:
        nonlocal images
        images += more
        seconds = current[0].elapsed or 0
        rate = f"{images / seconds:.0f} images/s" if images and seconds else ""
        bars.update(current[0].id, advance=steps, rate=rate)

    return Watch(stage, step)


def score_of(detector: dict[str, Any]) -> str:
    """What the threshold is compared with."""
    verifier = detector.get("verify", {}).get("name")
    if verifier == "pixels":
        return "score of aligned pixels"
    score = "normalised score" if "normalisation" in detector else "cosine"
    return f"{score}, confirmed by {verifier}," if verifier else score


def set_torch_threads(threads: int | None) -> None:
    """Let torch compute with so many threads; None: as it would."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def read_classes(path: Path | None) -> tuple[str, ...]:
    """Class names from a file, one a line; none without one.

    Raises:
        CurateError: the file cannot be read, or is empty.
    """
    if path is None:
        return ()
    from curate.storage import local_path

    path = local_path(path)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CurateError(f"{path}: not readable as a list of class names ({error}).") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise CurateError(f"{path}: no class names are in it.")
    return names
