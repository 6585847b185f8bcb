"""`curate eval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from curate.errors import CurateError
from pipelines.cli import common

if TYPE_CHECKING:
    from pipelines.evaluation.request import Source

app = typer.Typer(
    help="Measure zero-shot robustness: natural and made shifts, attacks, on every split.",
    no_args_is_help=True,
)

Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        help="NAME=FOLDER of a test set; `curate eval ls` lists known names. Repeatable.",
    ),
]
Split = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=FOLDER of the split that `curate dedup` wrote of a set: figures are given for "
        "its clean, overlap and control images too. Repeatable."
    ),
]
Where = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
Results = Annotated[Path, typer.Argument(help="A folder with results of `curate eval run`.")]


@app.command()
def run(
    model: Annotated[
        str,
        typer.Argument(
            help="builtin:tiny-clip, open_clip:ARCH/TAG, open_clip:local-dir, timm:NAME, "
            "torchvision:NAME/TAG, or the folder of a finished `curate train`."
        ),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the results, RUN/eval/NAME.")],
    suite: Annotated[
        str | None, typer.Option(help="Settings that belong together: roz, tecoa or quick.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            help="A setting: cifar10.fog.3, cifar10@pgd-20.eps4.native#clean. Repeatable."
        ),
    ] = None,
    split: Split = None,
    weights: common.Weights = None,
    surrogate: Annotated[
        str | None,
        typer.Option(help="Model that transfer attacks take their gradients from."),
    ] = None,
    surrogate_weights: Annotated[
        Path | None, typer.Option(help="Local weights of the surrogate.")
    ] = None,
    prefixes: Annotated[
        Path | None,
        typer.Option(
            help="Found prompts instead of templates (`curate eval prompts`, ROZ's logs)."
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many of them. Default: all.")] = None,
    texts: Annotated[
        Literal["openai", "tecoa"], typer.Option(help="Whose class names and templates.")
    ] = "openai",
    words: Annotated[
        Path | None,
        typer.Option(help="Label map of typographic images, such as ROZ's. Default: drawn."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Images of each set, drawn by seed. Default: the suite's, or all."
        ),
    ] = None,
    whole: Annotated[
        list[str] | None,
        typer.Option(help="A setting that is measured on all images all the same. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    precision: Annotated[
        Literal["fp32", "bf16"],
        typer.Option(help="Of the image tower; logits and small differences stay in fp32."),
    ] = "fp32",
    device: Where = "auto",
    batch: Annotated[
        int, typer.Option(min=1, help="Images at a time; results do not show it.")
    ] = 128,
    workers: Annotated[int, typer.Option(help="Processes; of GPUs each takes one.")] = 1,
    scheduler: common.Scheduler = None,
    as_json: common.Json = False,
) -> None:
    """Measure a model on settings; what is there already is not measured again.

    Examples:
        curate eval run builtin:tiny-clip --data cifar10=cifar10/test --suite quick --out
        run/eval/tiny

        curate eval run run/train/tecoa --data cifar10=cifar10/test --split
        cifar10=run/splits/test-at-0.5 --setting cifar10@pgd-20.eps4.native --out run/eval/tecoa
    """
    from dataclasses import replace

    from pipelines.evaluation.request import (
        EvalRequest,
        ModelRequest,
        chosen_limit,
        chosen_settings,
        whole_words,
    )
    from pipelines.evaluation.run import run_eval
    from pipelines.execute import unit_runner

    sources = _sources(data, split or [])
    asked, left_out = chosen_settings(
        sources, suite, [*(setting or []), *(whole or [])], has_surrogate=surrogate is not None
    )
    request = EvalRequest(
        model=ModelRequest(
            model, _text(weights), device, precision, _text(prefixes), top if prefixes else None
        ),
        sources=sources,
        settings=tuple(asked),
        out=out,
        surrogate=None
        if surrogate is None
        else ModelRequest(surrogate, _text(surrogate_weights), device),
        limit=chosen_limit(limit, suite),
        whole=whole_words(sources, whole or ()),
        seed=seed,
        batch=batch,
        texts=texts,
        words=_text(words),
    )
    with (
        common.output(out) as folder,
        common.progress() as watch,
        unit_runner(workers, scheduler) as run_units,
    ):
        found = run_eval(replace(request, out=folder), run_units, watch)
    text = "\n".join([*map(_line, found), *_left_out(left_out), f"results {folder}"])
    common.print_result({"results": found, "left_out": left_out}, as_json=as_json, text=text)


@app.command("ls")
def list_(as_json: common.Json = False) -> None:
    """List the data sets, shifts, attacks and suites that settings are made of.

    Example:
        curate eval ls
    """
    from eval.attacks.registry import known_attacks
    from eval.datasets.registry import known_sets
    from eval.shifts.registry import CORRUPTIONS, PERTURBATIONS
    from eval.suites import SUITES

    attacks = {name: entry.says for name, entry in known_attacks().items()}
    sets = {name: {"images": one.size, "from": one.where} for name, one in known_sets().items()}
    shifts = [*CORRUPTIONS, "typographic", *(f"sequence-{kind}" for kind in PERTURBATIONS)]
    lines = [
        "A setting is DATASET[.VARIANT][.SEVERITY][@ATTACK.epsRADIUS.native|input][#SPLIT].",
        "", "data sets (images, where to get them)", *map(_set_line, sets.items()),
        "", "shifts made here (severity 1 to 5 of corruptions)", "  " + ", ".join(shifts),
        "", "attacks", *(f"  {name:<20}{says}" for name, says in attacks.items()),
        "", "suites", "  " + ", ".join(SUITES),
    ]  # fmt: skip
    value = {"datasets": sets, "shifts": shifts, "attacks": attacks, "suites": list(SUITES)}
    common.print_result(value, as_json=as_json, text="\n".join(lines))


@app.command()
def report(
    results: Results,
    split: Split = None,
    baselines: Annotated[
        Path | None,
        typer.Option(help="Lines that `curate eval fit` wrote. Default: the testbed's."),
    ] = None,
    figures: Annotated[bool, typer.Option("--figures", help="SVG and PNG files too.")] = False,
    as_json: common.Json = False,
) -> None:
    """Write the HTML report of all results in a folder.

    Example:
        curate eval report run/eval --split cifar10=run/splits/test-at-0.5
    """
    from curate.storage import local_path
    from pipelines.evaluation.report import write_eval_report

    given = _pairs("--split", split or [])
    folders = {name: local_path(folder) for name, folder in given.items()}
    with common.output(results) as folder:
        page = write_eval_report(folder, folders, baselines, figures=figures)
    common.print_result({"report": str(page)}, as_json=as_json, text=str(page))


@app.command()
def overlap(
    results: Results,
    adjust: Annotated[
        Literal["holm", "bonferroni"],
        typer.Option(help="How p values are adjusted for the number of settings."),
    ] = "holm",
    as_json: common.Json = False,
) -> None:
    """Say what near-duplicates add: accuracy on all, clean, overlap and control images.

    Example:
        curate eval overlap run/eval
    """
    from curate.storage import local_path
    from pipelines.evaluation.overlap import overlap_of

    found = overlap_of(local_path(results), adjust)
    common.print_result(found, as_json=as_json, text="\n".join(_overlap_lines(found)))


@app.command()
def summary(
    results: Results,
    base: Annotated[
        str | None,
        typer.Option(help="Model that others are compared with, and that mCE and mFR divide by."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write all results under CLIP_benchmark's column names.")
    ] = None,
    as_json: common.Json = False,
) -> None:
    """Say what holds over many settings: mCE, flip rates, TeCoA's means, and relative robustness.

    Example:
        curate eval summary run/eval --base builtin:tiny-clip --csv results.csv
    """
    from curate.storage import local_path
    from pipelines.evaluation.summary import summarise_all

    found = summarise_all(local_path(results), base, csv)
    common.print_result(found, as_json=as_json, text="\n".join(_summary_lines(found)))


@app.command()
def fit(
    table: Annotated[
        Path,
        typer.Argument(help="CSV: a row for each model, a column of accuracies for each setting."),
    ],
    out: Annotated[Path, typer.Option(help="The JSON file of lines to write.")],
    pair: Annotated[
        list[str] | None,
        typer.Option(help="X=Y, two columns to fit a line between. Default: the testbed's."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Where the accuracies are from.")
    ] = "own measurements",
    licence: Annotated[str, typer.Option(help="Their licence.")] = "not stated",
    as_json: common.Json = False,
) -> None:
    """Fit the lines that effective robustness is measured against to own accuracies.

    Example:
        curate eval fit accuracies.csv --pair cifar10=cifar10.fog.3 --out lines.json
    """
    from eval.figures.effective import PAIRS, Pair, fit_csv, write_baselines

    form = ("X=Y", "cifar10=cifar10.fog.3")
    pairs = [Pair(*_named("--pair", text, *form)) for text in pair] if pair else PAIRS
    lines = fit_csv(table, pairs)
    write_baselines(out, lines, source, licence)
    said = [
        f"{line.x} -> {line.y}: "
        + "; ".join(
            f"slope {part.slope:.4f} intercept {part.intercept:.4f} R2 {part.r2:.3f} n {part.n}"
            for part in line.lines
        )
        for line in lines
    ]
    common.print_result({"lines": said, "out": str(out)}, as_json=as_json, text="\n".join(said))


@app.command()
def export(
    data: Annotated[str, typer.Argument(help="NAME=FOLDER of a test set.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    as_json: common.Json = False,
) -> None:
    """Write a test set in the layout that CLIP_benchmark reads; splits of it stay in that layout.

    Example:
        curate eval export imagenet-a=imagenet-a --out wds/imagenet-a
    """
    from eval.datasets.export import write_clip_benchmark
    from eval.datasets.registry import open_evalset
    from pipelines.execute import unit_runner

    with unit_runner(workers) as run_units:
        write_clip_benchmark(open_evalset(*_named("DATA", data)), out, run_units=run_units)
    common.print_result({"out": str(out)}, as_json=as_json, text=str(out))


@app.command()
def prompts(
    model: Annotated[str, typer.Argument(help="A CLIP model.")],
    data: Annotated[str, typer.Option(help="NAME=FOLDER of a training set with labels.")],
    out: Annotated[Path, typer.Option(help="The file of prefixes to write, one on each line.")],
    weights: common.Weights = None,
    steps: Annotated[int, typer.Option(min=1, help="Swaps that are looked at.")] = 40,
    candidates: Annotated[int, typer.Option(min=1, help="Tokens that are tried in each.")] = 16,
    limit: Annotated[int, typer.Option(min=1, help="Training images, drawn by seed.")] = 5000,
    start: Annotated[str, typer.Option(help="Words to start from.")] = "a photo of a",
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    device: Where = "auto",
    as_json: common.Json = False,
) -> None:
    """Search for prompts on training data, by swaps of single tokens (CLIP-Auto).

    Example:
        curate eval prompts builtin:tiny-clip --data cifar10=cifar10/train --out prefixes.txt
    """
    from eval.models.prefix_search import SearchSettings
    from pipelines.evaluation.prompts import find_prompts
    from pipelines.evaluation.request import ModelRequest

    settings = SearchSettings(steps=steps, candidates=candidates, start=start, seed=seed)
    wanted = ModelRequest(model, _text(weights), device)
    with common.progress() as watch:
        found = find_prompts(
            wanted, _named("--data", data), settings, out, limit=limit, watch=watch
        )
    text = "\n".join(f"{row['loss']:.4f}  {row['words']}" for row in found["accepted"])
    common.print_result(found, as_json=as_json, text=f"{text}\nprefixes {out}")


def _set_line(item: tuple[str, dict[str, Any]]) -> str:
    name, said = item
    images = "" if said["images"] is None else f"{said['images']:,}"
    return f"  {name:<20}{images:>7}  {said['from']}"


def _sources(data: list[str], splits: list[str]) -> "tuple[Source, ...]":
    from pipelines.evaluation.request import Source

    folders, written = _pairs("--data", data), _pairs("--split", splits)
    strange = [name for name in written if name not in folders]
    if strange:
        raise CurateError(f"--split {strange[0]}: no --data of that name was given.")
    return tuple(Source(name, folder, written.get(name)) for name, folder in folders.items())


def _named(
    option: str, text: str, form: str = "NAME=FOLDER", example: str = "cifar10=data/test"
) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (separator and name and value):
        raise CurateError(f"{option} {text}: {form} was expected, such as {example}.")
    return name, value


def _pairs(option: str, texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, folder = _named(option, text)
        if name in found:
            raise CurateError(f"{option} {text}: {name} was given before, as {found[name]}.")
        found[name] = folder
    return found


def _text(path: Path | None) -> str | None:
    from curate.storage import url_of

    return None if path is None else url_of(path) or str(path)


def _line(found: dict[str, Any]) -> str:
    cells = []
    for split in ("full", "clean", "overlap", "control"):
        if (numbers := found["numbers"].get(split)) is None:
            continue
        rate = numbers["accuracy"]
        if rate["value"] is None:
            cells.append(f"{split} holds no image")
            continue
        cells.append(f"{split} {rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%})")
        if "flip_rate" in numbers:
            cells.append(f"flips {numbers['flip_rate']['value']:.2%}")
    return f"{found['word']:<44}" + "  ".join(cells)


def _left_out(words: list[str]) -> list[str]:
    return [f"{word:<44}not measured: give a --surrogate" for word in words]


def _overlap_lines(found: dict[str, Any]) -> list[str]:
    """A line for each setting, in points, and the sentence."""
    lines = []
    for row in found["settings"]:
        parts = [name for name in ("all", "clean", "overlap", "control") if row[name] is not None]
        change, p = row["change"], row["p_adjusted"]
        lines.append(
            f"{row['model']:<20}{row['setting']:<36}"
            + "  ".join(f"{name} {row[name]:.1%}" for name in parts)
            + f"  all - clean {_signed(change)}"
            + ("" if p is None else f"  p {p:.3g}")
        )
    return [*lines, found["sentence"]]


def _signed(change: dict[str, Any]) -> str:
    if change["value"] is None:
        return "unknown"
    value, low, high = (100 * change[name] for name in ("value", "low", "high"))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def _summary_lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for model, said in found["models"].items():
        lines.append(model)
        for name, row in said["corruptions"].items():
            mce = "" if row["mce"] is None else f", mCE {row['mce']:.1%}"
            lines.append(f"  {name:<40}mean error {row['mean_error']:.1%}{mce}")
        for name, row in said["sequences"].items():
            mfr = "" if row["mfr"] is None else f", mFR {row['mfr']:.1%}"
            lines.append(f"  {name:<40}mean flip rate {row['mean_flip_rate']:.2%}{mfr}")
        for attack, means in said["means"].items():
            cells = (f"{count} sets {mean['value']:.2%}" for count, mean in means.items())
            lines.append(f"  {attack:<40}" + "  ".join(cells))
        for word, change in said["relative"].items():
            lines.append(f"  {word:<40}{_signed(change)} points from {found['base']}")
        if not any(said.values()):
            lines.append("  nothing over many settings; curate eval overlap shows each of them")
    return lines
