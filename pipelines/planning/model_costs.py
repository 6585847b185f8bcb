"""What trainings and evaluations of models cost."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from curate.errors import CurateError
from eval.pictures import PIECE
from eval.settings import parse_setting
from pipelines.evaluation.request import Source, chosen_limit, chosen_settings, whole_words
from pipelines.planning.context import Cost, dedup_config, driver
from pipelines.planning.effort import Stamina, passes
from pipelines.planning.networks import flops, in_large_batches, loading
from pipelines.planning.schedule import Phase, Work, grouped
from train.recipe import read_recipe

if TYPE_CHECKING:
    from pipelines.flow.steps import Step
    from pipelines.planning.context import Context
    from pipelines.planning.rates import Rates
    from train.recipe import Recipe

_PASSES_OF_UPDATE = 3
"""Of an image: forwards, and backwards for two."""
_SMALL = "builtin:tiny-clip"
"""The network that is trained from scratch."""


def train_cost(step: Step, context: Context) -> Cost:
    """Updates times images times passes: three for each step of the attack, and three more.

    It runs in processes of its own, which load the libraries anew; several share the images.
    """
    if step.config["scratch"] is not None:
        return _scratch(step, context)
    rates, config, gpu = context.rates, step.config, context.on_gpu(step)
    recipe = read_recipe(config["recipe"], config["set"])
    samples = trained_samples(step, context)
    updates = recipe.updates or max(
        1, round((recipe.epochs or 1) * (samples - recipe.held_out) / recipe.batch)
    )
    steps = recipe.attack.steps if recipe.attack is not None else 0
    trained = updates * recipe.batch * _PASSES_OF_UPDATE * (1 + steps)
    measured = _measured_passes(recipe, updates, samples, rates)
    ways = config["processes"] * config["nodes"]
    one = in_large_batches(rates, model := network_of(config["model"], context), gpu=gpu)
    seconds = (trained * rates("train.share") + measured) * one / ways
    seconds += rates("step.train")
    seconds += updates * recipe.batch * rates("train.image") / max(1, step.tuning["workers"])
    read = updates * recipe.batch / max(1, samples) * _trained_bytes(step, context)
    works = (Work(seconds, read / config["nodes"]),) * config["nodes"]
    total = (trained + measured) * flops(rates, model)
    return Cost((Phase(works, gpu=gpu),), config["nodes"], read, 0, total, gpu)


def _scratch(step: Step, context: Context) -> Cost:
    """Three passes for each image and epoch, of the small network, on one processor."""
    rates, epochs = context.rates, step.config["scratch"]["epochs"]
    images = epochs * trained_samples(step, context)
    seconds = rates("step.scratch") + images * rates("scratch.image")
    read = _trained_bytes(step, context)
    total = images * _PASSES_OF_UPDATE * flops(rates, _SMALL)
    return Cost((Phase((Work(seconds, read),)),), 1, read, 0, total, gpu=False)


def _measured_passes(recipe: Recipe, updates: int, samples: int, rates: Rates) -> float:
    """Of held-out images, before the first and every so many updates, with and without attack."""
    held = min(recipe.held_out, samples // 2)
    times = -(-updates // recipe.measure_every)
    attack = _PASSES_OF_UPDATE * recipe.measured.steps
    before, after = (
        2 + attack * stamina_of(rates, is_robust=is_robust).share(recipe.measured.eps)
        for is_robust in (False, recipe.attack is not None)
    )
    return held * (before + times * after)


def stamina_of(rates: Rates, *, is_robust: bool) -> Stamina:
    """How long images withstand attacks, of a model that was trained for that or of another."""
    half = rates("attack.half.robust" if is_robust else "attack.half")
    return Stamina(half, rates("attack.fall"))


def _is_robust(model: str, context: Context) -> bool:
    """Whether a model of an evaluation is one that the flow trains against attacks."""
    step = context.steps.get(f"train/{model}")
    if step is None or step.config["scratch"] is not None:
        return False
    return read_recipe(step.config["recipe"], step.config["set"]).attack is not None


def trained_samples(step: Step, context: Context) -> int:
    """Samples that a training step reads; a split is taken to keep nearly all."""
    return context.sizes[_trained_set(step, context)].samples


def _trained_bytes(step: Step, context: Context) -> int:
    return context.sizes[_trained_set(step, context)].bytes


def _trained_set(step: Step, context: Context) -> str:
    if step.config["data"] is not None:
        return str(step.config["data"])
    of = context.steps[step.config["split"]]
    config = dedup_config(of if of.kind == "dedup" else context.steps[of.needs[0]])
    return config.train[0] if config.strip == "train" else config.test[0]


def eval_cost(step: Step, context: Context) -> Cost:
    """A unit for 500 images of a setting; the settings follow each other."""
    rates, config, gpu = context.rates, step.config, context.on_gpu(step)
    words, whole = _words(step), whole_words(_sources(step), config["whole"])
    made_before = _made_before(step, context)
    limit = chosen_limit(config["limit"], config["suite"])
    model = network_of(config["model"], context)
    one = in_large_batches(rates, model, gpu=gpu)
    stamina = stamina_of(rates, is_robust=_is_robust(config["model"], context))
    phases: list[Phase] = []
    total = 0.0
    for word in words:
        setting = parse_setting(word, list(config["data"]))
        size = context.sizes[config["data"][setting.dataset]]
        images = size.samples if word in whole else min(size.samples, limit or size.samples)
        made = passes(setting, stamina)
        each = made * one + rates("eval.image")
        each += rates("eval.shift") if setting.variant and word not in made_before else 0.0
        works = [
            Work(each * min(PIECE, images - at), size.bytes / size.samples * PIECE)
            for at in range(0, images, PIECE)
        ]
        phases += [
            driver(rates("eval.setting")),
            Phase(grouped(works), gpu=gpu, loads=loading(rates, model)),
        ]
        total += images * made * flops(rates, model)
    units = sum(len(phase.works) for phase in phases if not phase.on_driver)
    read = sum(work.bytes for phase in phases for work in phase.works)
    start = driver(rates("step.eval"))
    return Cost((start, *phases), units, read, 0, total, gpu)


def _sources(step: Step) -> tuple[Source, ...]:
    return tuple(Source(name, given, None) for name, given in step.config["data"].items())


def _words(step: Step) -> tuple[str, ...]:
    """The settings of an evaluation."""
    asked = [*step.config["settings"], *step.config["whole"]]
    has_surrogate = step.config["surrogate"] is not None
    words, _ = chosen_settings(
        _sources(step), step.config["suite"], asked, has_surrogate=has_surrogate
    )
    return tuple(words)


def _made_before(step: Step, context: Context) -> set[str]:
    """Settings whose images an earlier evaluation of the same sets has made, and stored."""
    before = takewhile(lambda one: one is not step, context.steps.values())
    same = (
        one for one in before if one.kind == "eval" and one.config["data"] == step.config["data"]
    )
    return {word for one in same for word in _words(one) if ".sequence-" not in word}


def network_of(model: str, context: Context) -> str:
    """The network that a model is: of a training entry, the one that was adapted."""
    trained = context.steps.get(f"train/{model}")
    if trained is not None:
        is_new = trained.config["scratch"] is not None
        return _SMALL if is_new else network_of(trained.config["model"], context)
    name = model
    if "/" in name and ":" not in name:
        raise CurateError(f"{model}: a folder does not tell what it costs; name the network.")
    return name
