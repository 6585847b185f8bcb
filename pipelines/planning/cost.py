"""What each kind of step costs: units, seconds, bytes and FLOPs. docs/scaling.md has the formulas.

A unit's seconds are those of a worker that has its bytes at hand; how long it waits for them is for
the schedule to say. Work that a stage does in the process that runs the flow is a phase of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from curate.copies import TRANSFORMATIONS
from pipelines.planning.context import Cost, dedup_config, driver, together
from pipelines.planning.model_costs import eval_cost, train_cost
from pipelines.planning.networks import (
    facts_name,
    flops,
    forward,
    library,
    loading,
    prepared,
    width,
)
from pipelines.planning.schedule import Phase, Work, grouped

if TYPE_CHECKING:
    from collections.abc import Callable

    from curate.config import DedupConfig
    from pipelines.flow.steps import Kind, Step
    from pipelines.planning.context import Context
    from pipelines.planning.sizes import SetSize


def cost_of(step: Step, context: Context) -> Cost:
    """What a step takes.

    Raises:
        CurateError: a rate is not known, or a setting makes no sense.
    """
    return _KINDS[step.kind](step, context)


# --- sets -----------------------------------------------------------------------------------------


def _demo(_: Step, context: Context) -> Cost:
    sizes = [s for name, s in context.sizes.items() if context.flow.sets[name].demo is not None]
    images, size = sum(one.samples for one in sizes), sum(one.bytes for one in sizes)
    return Cost((driver(images * context.rates("demo.image"), size),), 1, 0, size)


def _download(step: Step, context: Context) -> Cost:
    """All in processes of img2dataset beside the driver; workers take no part."""
    size = context.sizes[step.name.removeprefix("download/")]
    processes = int(step.config["options"].get("processes", 1))
    seconds = size.samples * context.rates("download.url") / processes
    return Cost((driver(seconds, size.bytes),), len(size.shards), size.bytes, size.bytes)


def _embed(step: Step, context: Context) -> Cost:
    config = step.config
    views = len(config["views"])
    return _embedded(context.sizes[config["name"]], config, views, step, context, keeps=True)


def _embedded(
    size: SetSize,
    config: dict[str, Any],
    views: int,
    step: Step,
    context: Context,
    *,
    keeps: bool,
) -> Cost:
    """A unit a shard; with `keeps` the vectors are stored."""
    rates, model, gpu = context.rates, config["detector"], context.on_gpu(step)
    itemsize = 2 if config.get("dtype", "float16") == "float16" else 4
    written = rates("metadata.bytes")
    if keeps:
        written += views * width(rates, model) * itemsize
    network = views * forward(rates, model, gpu=gpu)

    def seconds(samples: float, stored: float) -> float:
        decoded = samples * (rates("sample.embed") + views * prepared(rates, model))
        decoded += stored * rates("byte.decode")
        if not gpu:
            return decoded + samples * network
        # the threads that decode run beside the one that feeds the GPU
        threads = context.flow.threads
        shared = decoded / threads
        return max(shared, samples * network) if threads > 1 else shared + samples * network

    works = [
        Work(seconds(n, b) + count * rates("unit.embed"), b + n * written, count)
        for n, b, count in size.parts()
    ]
    return Cost(
        (
            replace(driver(rates("step.embed")), loads=loading(rates, model)),
            Phase(grouped(works), gpu=gpu, loads=loading(rates, model)),
        ),
        len(size.shards), size.bytes, size.samples * written,
        size.samples * views * flops(rates, model), gpu,
    )  # fmt: skip


def _index(step: Step, context: Context) -> Cost:
    """Trained in the driver; a unit a part fills it."""
    rates, train = context.rates, step.config["train"]
    size = context.sizes[train]
    embedded = [context.steps[name] for name in step.needs if context.steps[name].kind == "embed"]
    dim = width(rates, embedded[0].config["detector"]) if embedded else 512
    read = 2.0 * dim
    works = [Work(n * rates("index.vector"), 2 * n * read, count) for n, _, count in size.parts()]
    total = size.samples * read
    return Cost(
        (driver(rates("index.train")), Phase(grouped(works)), driver(0, 2 * total)),
        len(size.shards), 2 * total, 2 * total,
    )  # fmt: skip


# --- dedup ----------------------------------------------------------------------------------------


def _dedup(step: Step, context: Context) -> Cost:
    config = dedup_config(step)
    test = context.sizes[config.test[0]]
    train = context.sizes[config.train[0]] if config.train else test
    parts = [_join(step, config, test, train, context)]
    if config.verifier is not None:
        parts.append(_second_look(step, config, test, train, context))
    written = train if config.strip == "train" else test
    parts += [_shards_written(written, config.write, context)]
    return together(Cost((driver(context.rates("step.dedup")),)), *parts)


def _join(step: Step, config: DedupConfig, test: SetSize, train: SetSize, context: Context) -> Cost:
    """Two FLOPs for each pair and column of the sketch; one pass over all train vectors.

    Fused, the units that embed do it. Through an index it takes less, but how much its clusters
    decide, so the exact join's cost stands for it, as a bound.
    """
    rates, gpu = context.rates, context.on_gpu(step)
    queries = test.samples * len(config.test_views) * (0.5 if config.within else 1.0)
    each = rates("join.item") + queries * rates("join.pair")
    if gpu:
        each = 2 * queries * rates("join.columns") / (rates("gpu.peak") * rates("gpu.utilisation"))
    product = 2.0 * queries * rates("join.columns") * train.samples
    if config.fused:
        settings = {"detector": config.detector, "dtype": config.dtype}
        whole = _embedded(train, settings, 1, step, context, keeps=False)
        start, units = whole.phases
        shard = train.samples / max(1, len(train.shards))
        more = tuple(replace(w, seconds=w.seconds + w.units * shard * each) for w in units.works)
        joined = (start, replace(units, works=more))
        return replace(whole, phases=joined, flops=whole.flops + product)
    dim = width(rates, config.detector)
    size = train.samples * dim * (2.0 if config.dtype == "float16" else 4.0)
    planned = min(1.0, train.samples * queries / 1e8) * rates("join.plan")
    work = Work(planned + train.samples * each, size)
    phase = Phase((work,), on_driver=True, loads=(library(rates),))
    return Cost((phase,), 0, size, 0, product, gpu)


def _second_look(
    step: Step, config: DedupConfig, test: SetSize, train: SetSize, context: Context
) -> Cost:
    """The images of candidates are read again: the test set's, then the train set's.

    How many there are is a matter of the data: `candidates` for a test image and a million train
    images, at most the settings' `verify_top` for a test image.
    """
    assert config.verifier is not None
    rates, gpu = context.rates, context.on_gpu(step)
    expected = rates("candidates") * train.samples / 1e6
    pairs = test.samples * min(float(config.verifier.top), expected)
    items = min(float(train.samples), pairs * rates("candidates.images"))
    queries = min(float(test.samples), pairs)
    name = config.verifier.encoder.name
    looked = rates.first(f"look.image.{facts_name(name)}", "look.image.pixels")
    scored = rates("look.pair")
    phases = []
    for size, images, found in ((test, queries, 0.0), (train, items, pairs)):
        share = images / size.samples
        works = [
            Work(
                samples * rates("sample.read")
                + share * (samples * looked + stored * rates("byte.decode"))
                + found * scored * samples / size.samples,
                stored,
                count,
            )
            for samples, stored, count in size.parts()
        ][: max(1, round(images))]
        phases.append(Phase(grouped(works), gpu=gpu, loads=loading(rates, name)))
    units = sum(min(len(size.shards), max(1, round(n))) for size, n in
                ((test, queries), (train, items)))  # fmt: skip
    return Cost(tuple(phases), units, test.bytes + train.bytes, 0, 0, gpu)


def _shards_written(size: SetSize, kinds: tuple[str, ...], context: Context) -> Cost:
    """A unit a shard and kind, which reads the whole shard; clean and control are nearly all."""
    rates = context.rates
    shares = {"clean": 1.0, "overlap": rates("overlap.share"), "control": 1.0}
    works = [
        Work(
            n * rates("sample.read") + b * rates("byte.copy") * (1 + shares[kind]),
            b * (1 + shares[kind]),
            count,
        )
        for kind in kinds
        for n, b, count in size.parts()
    ]
    read, written = size.bytes * len(kinds), size.bytes * sum(shares[kind] for kind in kinds)
    return Cost((Phase(grouped(works)),), len(size.shards) * len(kinds), read, written)


def _calibrate(step: Step, context: Context) -> Cost:
    """Copies are planted in the train set: each is made, embedded, and looked at again."""
    rates = context.rates
    of = context.steps[step.needs[0]]
    config = dedup_config(of)
    train = context.sizes[config.train[0] if config.train else config.test[0]]
    images = step.config["images"]
    copies = images * len(TRANSFORMATIONS) * rates("calibrate.strengths")
    gpu = context.on_gpu(step)
    views = len(config.test_views)
    each = rates("calibrate.copy") + views * forward(rates, config.detector, gpu=gpu)
    shards = min(len(train.shards), images) or 1
    size = train.bytes / max(1, len(train.shards))
    works = [Work(copies * each / shards, size)] * shards
    loads = loading(rates, config.detector)
    return Cost(
        (driver(rates("step.calibrate")), Phase(grouped(works), gpu=gpu, loads=loads)),
        shards, size * shards, 0, copies * views * flops(rates, config.detector), gpu,
    )  # fmt: skip


def _split(step: Step, context: Context) -> Cost:
    config = dedup_config(context.steps[step.needs[0]])
    name = config.train[0] if config.strip == "train" else config.test[0]
    written = _shards_written(context.sizes[name], tuple(step.config["write"]), context)
    return together(Cost((driver(context.rates("step.split")),)), written)


def _page(step: Step, context: Context) -> Cost:
    return Cost((driver(context.rates(f"step.{step.kind}")),))


def _report(_: Step, context: Context) -> Cost:
    """The page of the study, whose program knows figures of evaluations."""
    rates = context.rates
    loads = (library(rates), ("report", rates("load.report")))
    return Cost((replace(driver(rates("step.report")), loads=loads),))


_KINDS: dict[Kind, Callable[[Step, Context], Cost]] = {
    "demo": _demo, "download": _download, "embed": _embed, "index": _index, "dedup": _dedup,
    "calibrate": _calibrate, "split": _split, "page": _page, "train": train_cost, "eval": eval_cost,
    "overlap": _page, "report": _report,
}  # fmt: skip
