"""What subcommands share: option types, progress on a terminal, output for people or machines."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

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
Workers = Annotated[
    int | None, typer.Option(help="Worker processes on this machine; each is one core.")
]
Threads = Annotated[int | None, typer.Option(help="Image decoders per worker.")]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler, tcp://HOST:PORT.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def print_result(value: dict[str, Any], *, as_json: bool, text: str) -> None:
    """Print a result for a machine, or as text for a person."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else text)


@contextmanager
def progress() -> "Iterator[Watch]":
    """Bars on stderr while a person watches; silence when it is not a terminal."""
    from pipelines.watch import Watch

    if not sys.stderr.isatty():
        yield Watch()
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
    with Progress(*columns, console=Console(stderr=True)) as bars:
        images = 0

        def stage(name: str, total: int) -> None:
            nonlocal images
            images = 0
            bars.add_task(name, total=total, rate="")

        def step(steps: int, more: int) -> None:
            nonlocal images
            task = bars.tasks[-1]
            images += more
            seconds = task.elapsed or 0
            rate = f"{images / seconds:.0f} images/s" if images and seconds else ""
            bars.update(task.id, advance=steps, rate=rate)

        yield Watch(stage, step)


def score_of(detector: dict[str, Any]) -> str:
    """What the threshold is compared with."""
    verifier = detector.get("verify", {}).get("name")
    if verifier == "pixels":
        return "score of aligned pixels"
    score = "normalised score" if "normalisation" in detector else "cosine"
    return f"{score}, confirmed by {verifier}," if verifier else score
