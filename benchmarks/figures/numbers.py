"""The figures that sentences name, each with where it stands in the results."""

from typing import Any, Final

from safetensors import safe_open

from benchmarks.figures.results import ROOT, Results
from benchmarks.figures.sentences import Number
from curate.files import read_json

_RATES = "pipelines/planning/rates.json"
_COUNTED = ("running_mean", "running_var", "num_batches_tracked")


def at(file: str, *keys: str | int, scale: float = 1) -> Number:
    """What stands at a place of a result, times `scale` where one is given."""

    def number(results: Results) -> Any:
        value = results[file]
        for key in keys:
            value = value[key]
        return value if scale == 1 else value * scale

    return number


def _weights(file: str) -> Number:
    """How many weights a shipped file holds; what a network counts as it goes is none."""

    def number(_: Results) -> int:
        with safe_open(ROOT / file, "numpy") as weights:
            names = [name for name in weights.keys() if not name.endswith(_COUNTED)]  # noqa: SIM118
            return sum(weights.get_tensor(name).size for name in names)

    return number


def _megabytes(file: str) -> Number:
    return lambda _: (ROOT / file).stat().st_size / 1e6


def _rate(name: str, scale: float = 1) -> Number:
    """A rate that plans rest on, which states its own machine and command."""
    return lambda _: read_json(ROOT / _RATES)[name]["value"] * scale


def _core_hours(images: float) -> Number:
    """Of SSCD's network alone, to two digits."""

    def number(results: Results) -> float:
        speed = _rate("core.flops")(results)
        hours = images * _rate("flops.sscd:disc_mixup")(results) / speed / 3600
        return float(f"{hours:.2g}")

    return number


def _join(file: str, name: str, tau: float, key: str) -> Number:
    def number(results: Results) -> Any:
        runs = {(run["name"], run["tau"]): run for run in results[file]["runs"]}
        return runs[name, tau][key]

    return number


def _embedding(way: str) -> Number:
    return lambda results: min(results["scheduling"]["embedding"]["seconds"][way])


def _plan_ratio(key: str, choose: Any, *families: str) -> Number:
    """Of the runs of some families, or of all."""
    return lambda results: choose(
        run[key] for run in results["plan"]["runs"] if not families or run["family"] in families
    )


def _study_ratio(size: int, workers: int) -> Number:
    """Planned over seen for a flow that trains and measures models."""
    return lambda results: next(
        run["ratio"] for run in results["plan"]["runs"]
        if (run["family"], run["test"], run["workers"]) == ("study", size, workers)
    )  # fmt: skip


def _by_small_run(workers: int) -> Number:
    """Planned over seen for the larger flow of `builtin:copy`, by a plan from its smaller one."""

    def number(results: Results) -> Any:
        runs = [run for run in results["plan"]["runs"] if run["family"] == "copy"]
        largest = max(run["train"] for run in runs)
        return next(
            run["ratio_by_small_run"] for run in runs
            if (run["train"], run["workers"]) == (largest, workers)
        )  # fmt: skip

    return number


def _look_alikes(key: str) -> Number:
    """The sum over the seeds that took no part in any fit or choice, by the default detector."""

    def number(results: Results) -> Any:
        runs = [run for run in results["look-alikes"]["runs"] if run["detector"] == "builtin:copy"]
        return sum(run[key] for run in runs if run["seed"] > 0)

    return number


def _demo(key: str) -> Number:
    """Of what `curate demo` does unless told otherwise: the default detector, seed 0."""

    def number(results: Results) -> Any:
        runs = results["look-alikes"]["runs"]
        return next(
            run[key] for run in runs if (run["detector"], run["seed"]) == ("builtin:copy", 0)
        )

    return number


def _photo(edit: str, strength: int) -> Number:
    detector = "builtin:copy, all views, pixels"
    return at("photos", "detectors", detector, "edits", edit, "recall", strength - 1)


_COPY = ("cifar10-detectors", "methods", "builtin:copy")
_PLAIN = ("cifar10-detectors", "methods", "builtin:copy, unmirrored view alone")
_LAYOUT = ("cifar10-detectors", "methods", "builtin:layout")
_TRAINED = ("train-cifar10", "rows", "tecoa", "held_out")


def _first(key: str, count: str = "700") -> Number:
    return at(*_COPY, "of_first", count, key)


def _of_flagged(method: tuple[str, ...], key: str) -> Number:
    """A count of judgements among what a detector flags at its threshold."""

    def number(results: Results) -> Any:
        one = at(*method)(results)
        return one["of_first"][str(one["flagged"])][key]

    return number


_CIFAR10: dict[str, Number] = {
    "copy flagged": at(*_COPY, "flagged"),
    "copy flagged copies": _of_flagged(_COPY, "copies"),
    "copy flagged listed": _of_flagged(_COPY, "copies_by_list"),
    **{f"copy @{cut}": at(*_COPY, "recall", cut) for cut in ("250", "500", "1000")},
    **{f"copy unmirrored @{cut}": at(*_PLAIN, "recall", cut) for cut in ("250", "500", "1000")},
    "copy 500 copies": _first("copies", "500"),
    "copy 500 listed": _first("copies_by_list", "500"),
    "copy 700 copies": _first("copies"),
    "copy 700 none": _first("none"),
    "copy 700 unsure": lambda results: (
        _first("judged")(results) - _first("copies")(results) - _first("none")(results)
    ),
    "layout flagged": at(*_LAYOUT, "flagged"),
    "layout judged": _of_flagged(_LAYOUT, "judged"),
    "layout copies": _of_flagged(_LAYOUT, "copies"),
    "layout none": _of_flagged(_LAYOUT, "none"),
    "layout near": _of_flagged(_LAYOUT, "near_duplicates"),
    "layout similar": _of_flagged(_LAYOUT, "very_similar"),
    "layout listed": lambda results: (
        _of_flagged(_LAYOUT, "near_duplicates")(results)
        + _of_flagged(_LAYOUT, "very_similar")(results)
    ),
    "readings pairs": at("cifar10-detectors", "labels", "pairs_by_both"),
    "readings agreement": at("cifar10-detectors", "labels", "agreement"),
    "readings kappa": at("cifar10-detectors", "labels", "kappa"),
    "images with a copy": at("cifar10-detectors", "labels", "images_with_a_copy"),
    "images listed": at("cifar10-detectors", "labels", "images_listed"),
    **{
        f"estimate {key}": at("cifar10-detectors", "estimate", key)
        for key in ("plan", "judged", "copies", "low", "high")
    },
    "again": at("cifar10-copies", "again", "wall_s"),
}

_PHOTOS: dict[str, Number] = {
    "photos": at("photos", "photos"),
    "photos edited": at("photos", "edited"),
    "photos ways": lambda results: len(results["photos"]["texts"]),
    "photos false": at("photos", "flagged"),
    "photos threshold": at("photos", "detectors", "builtin:copy, all views, pixels", "threshold"),
    **{f"photo {edit}": _photo(edit, 2) for edit in ("jpeg", "blur", "noise", "brightness")},
    "photo crop 80": _photo("crop", 2),
    "photo crop 60": _photo("crop", 3),
    "photo mirror": _photo("mirror", 1),
    "photo quarter turn": _photo("quarter_turn", 1),
    "photo bar": _photo("bar", 2),
}

_DRAWN: dict[str, Number] = {
    **{f"demo {key}": _demo(key) for key in ("planted", "found", "wrongly_flagged", "others")},
    "drawn planted, new seeds": _look_alikes("planted"),
    "drawn found, new seeds": _look_alikes("found"),
    "drawn wrong, new seeds": _look_alikes("wrongly_flagged"),
    "drawn others, new seeds": _look_alikes("others"),
}

_COST: dict[str, Number] = {
    "calibration flagged": lambda results: max(
        row["flagged"] for row in results["calibration"]["labels_for_two_points"]
    ),
    "calibration repeats": at("calibration", "repeats"),
    "calibration coverage": at("calibration", "least_coverage"),
    "calibration cells": lambda results: sum(
        len(one["coverage"]) for one in results["calibration"]["surveys"]
    ),
    **{
        f"review {key}": at("review-1m", key)
        for key in ("pairs", "labels", "rss_mib", "peak_rss_mib")
    },
    "join bandwidth": at("join-clip", "read_bandwidth_gb_s"),
    "join reading": at("join-clip", "seconds_to_read_items_once"),
    "join pairs at .75": _join("join-clip", "join", 0.75, "pairs"),
    "faiss beyond": lambda results: (
        _join("join-clip", "faiss IndexFlatIP.range_search", 0.75, "pairs")(results)
        - _join("join-clip", "join", 0.75, "pairs")(results)
    ),
    **{
        f"prefix {key}": at("prefix", key)
        for key in ("queries", "vectors", "dim", "disk_gb_per_s", "bytes_per_item",
                    "predicted_ratio_at_this_disk")
    },
    "attack images": at("attacks", "images"),
    "embedding by one": _embedding("one worker"),
    "embedding by two": _embedding("two workers"),
    "embedding two over one": at("scheduling", "embedding", "two_workers_over_one"),
    "embedding independent": at("scheduling", "embedding", "independent_over_one"),
}  # fmt: skip

_TRAINING: dict[str, Number] = {
    "held out": at(*_TRAINED, "after", "images"),
    **{
        f"held out {what} {when}": at(*_TRAINED, when, what)
        for what in ("clean", "robust") for when in ("before", "after")
    },
    "tecoa minutes": at("train-cifar10", "rows", "tecoa", "seconds", scale=1 / 60),
    "tiny accuracy": at("train-cifar10", "rows", "undefended", "clean", "accuracy"),
    "quick settings": lambda results: len(results["eval-quick"]["settings"]),
    "quick images": at("eval-quick", "settings", 0, "images", "all"),
    "quick overlap": at("eval-quick", "settings", 0, "images", "overlap"),
    "quick minutes": at("eval-quick", "cpu_seconds", scale=1 / 60),
    "quick mean error": at("eval-quick", "summary", "models", "builtin:tiny-clip", "corruptions",
                           "cifar10", "mean_error"),
    "quick flip rate": at("eval-quick", "summary", "models", "builtin:tiny-clip", "sequences",
                          "cifar10", "mean_flip_rate"),
}  # fmt: skip

_PLANS: dict[str, Number] = {
    "plans least": _plan_ratio("ratio", min, "layout", "copy"),
    "plans most": _plan_ratio("ratio", max, "layout", "copy"),
    "plans processor least": _plan_ratio("cpu_ratio", min),
    "plans processor most": _plan_ratio("cpu_ratio", max),
    "plan of a small study": _study_ratio(300, 1),
    "plan of a small study, two workers": _study_ratio(300, 2),
    "plan of a larger study": _study_ratio(1000, 1),
    "plans by small run, one worker": _by_small_run(1),
    "plans by small run, two workers": _by_small_run(2),
    "study minutes": at("large", "imagenet-laion", "hours", scale=60),
    "study gpu hours": at("large", "imagenet-laion", "gpu_hours"),
    "study money used": at("large", "imagenet-laion", "money_used"),
    "study money": at("large", "imagenet-laion", "money"),
    "rate candidates": _rate("candidates"),
    "rate half": _rate("attack.half"),
    "rate half robust": _rate("attack.half.robust"),
    "rate fall": _rate("attack.fall"),
    "rate sscd gflop": _rate("flops.sscd:disc_mixup", 1e-9),
    "rate vit gflop": _rate("flops.open_clip:ViT-L-14", 1e-9),
    "rate storage link": _rate("storage.link", 1e-9),
    "rate core gflops": _rate("core.flops", 1e-9),
    "sscd core hours": _core_hours(400e6),
    "kills": at("faults", "total"),
    "kill runs": lambda results: sum(results["faults"]["ends"].values()),
    "kill runs done": at("faults", "ends", "done"),
    "kill minutes": at("faults", "seconds", scale=1 / 60),
}

_FILES: dict[str, Number] = {
    "copy weights": _weights("curate/encoders/copy_net.safetensors"),
    "copy megabytes": _megabytes("curate/encoders/copy_net.safetensors"),
    "tiny weights": _weights("curate/encoders/tiny_clip/open_clip_model.safetensors"),
    "tiny megabytes": _megabytes("curate/encoders/tiny_clip/open_clip_model.safetensors"),
}

NUMBERS: Final[dict[str, Number]] = {
    **_CIFAR10, **_PHOTOS, **_DRAWN, **_COST, **_TRAINING, **_PLANS, **_FILES,
}  # fmt: skip
"""By the names that claims use."""
