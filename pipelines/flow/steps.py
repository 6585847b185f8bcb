"""The steps of a flow: what is done to what, what each waits for, and where its result goes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from curate.config import AUTO, DedupConfig, make_config
from curate.encoders import encoder_slug
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.flow.config import DedupEntry, EvalEntry, FlowConfig, SetConfig, TrainEntry

Kind = Literal[
    "demo", "download", "embed", "index", "dedup", "calibrate", "split", "page", "train", "eval",
    "overlap", "report",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)

_OWN = ("test", "train", "detector", "threshold", "seed", "calibrate")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Step:
    """One stage on one choice of inputs.

    Attributes:
        name: such as "embed/cifar10-train/builtin-copy".
        kind: which stage.
        needs: names of the steps whose results it reads.
        config: all else that decides on its result, as JSON.
        out: its folder, below the run's.
        sets: names of the sets that it reads directly.
        tuning: what decides on its speed and on no result.
    """

    name: str
    kind: Kind
    needs: tuple[str, ...]
    config: dict[str, Any]
    out: str
    sets: tuple[str, ...] = ()
    tuning: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Splits:
    """What one pair of sets and one detector of a dedup entry lead to.

    Attributes:
        test: the set that is cleaned.
        folder: the run folder of `curate dedup`.
        steps: the step that leaves the split of each threshold and seed, by "THRESHOLD" or
            "THRESHOLD-seed-N"; the first is the one that is meant where none is named.
    """

    test: str
    folder: str
    steps: dict[str, Step]


def build_steps(flow: FlowConfig) -> list[Step]:
    """All steps of a flow, each after those that it needs.

    Raises:
        CurateError: settings do not go together, or a name stands for several things.
    """
    return _Builder(flow).build()


class _Builder:
    """Collects steps; each is made once, however many others need it."""

    def __init__(self, flow: FlowConfig) -> None:
        self._flow = flow
        self._steps: dict[str, Step] = {}
        self._splits: dict[str, list[Splits]] = {}
        self._measured: dict[tuple[str, str], str] = {}

    def build(self) -> list[Step]:
        for name, entry in self._flow.dedup.items():
            self._splits[name] = [self._pair(name, entry, *chosen) for chosen in entry.pairs()]
        for name, trained in self._flow.train.items():
            self._train(name, trained)
        for name, measured in self._flow.eval.items():
            self._eval(name, measured)
        if self._flow.overlap is not None and any(e.splits for e in self._flow.eval.values()):
            config = self._flow.overlap.model_dump()
            self._add(Step("overlap", "overlap", self._of_kind("eval"), config, "overlap"))
        kinds: tuple[Kind, ...] = ("dedup", "split", "page", "train", "eval", "overlap")
        needs = tuple(name for kind in kinds for name in self._of_kind(kind))
        finding = self._flow.finding
        told = None if finding is None else finding.model_dump()
        config = {"name": self._flow.name, "finding": told}
        self._add(Step("report", "report", needs, config, "report"))
        return list(self._steps.values())

    def _add(self, step: Step) -> Step:
        known = self._steps.setdefault(step.name, step)
        if known != step:
            raise CurateError(
                f"{step.name}: two entries ask for different results of this name; name sets and "
                "entries so that they can be told apart."
            )
        return known

    def _of_kind(self, kind: Kind) -> tuple[str, ...]:
        return tuple(step.name for step in self._steps.values() if step.kind == kind)

    # --- sets -------------------------------------------------------------------------------------

    def _set(self, name: str) -> tuple[SetConfig, tuple[str, ...]]:
        """A set, and the steps that have to be done before it is there."""
        source = self._flow.sets[name]
        if source.demo is not None:
            step = Step("demo", "demo", (), {"seed": source.seed}, f"sets/demo-{source.seed}")
            return source, (self._add(step).name,)
        if source.download is not None:
            config = source.download.model_dump(mode="json")
            step = Step(f"download/{name}", "download", (), config, f"sets/{name}")
            return source, (self._add(step).name,)
        return source, ()

    def _embedded(self, name: str, config: DedupConfig, *, is_test: bool) -> tuple[str, ...]:
        """The step that embeds a set; none, if it was given as embeddings."""
        source, needs = self._set(name)
        if source.embeddings is not None:
            return ()
        views = list(config.test_views) if is_test else ["identity"]
        settings = {
            key: value
            for key, value in config.model_dump(mode="json").items()
            if key in ("detector", "weights", "background", "whiten", "precision", "dtype",
                       "decode", "captions", "compile", "batch_size")
        }  # fmt: skip
        slug = encoder_slug(config.encoder_name) + ("-views" if len(views) > 1 else "")
        out = f"embeddings/{name}/{slug}"
        embedding = {**settings, "views": views, "name": name}
        return (
            self._add(Step(f"embed/{name}/{slug}", "embed", needs, embedding, out, (name,))).name,
        )

    # --- dedup ------------------------------------------------------------------------------------

    def _pair(
        self, entry_name: str, entry: DedupEntry, test: str, train: str | None, detector: str | None
    ) -> Splits:
        """All steps from embedding to the page of one test set, train set and detector."""
        chosen = (test, train, detector)
        config = _dedup_config(entry_name, entry, chosen, self._flow.device)
        needs = self._embedded(test, config, is_test=True)
        sets = [name for name in (test, train) if name and not self._needs_embedding(name)]
        if train is not None and config.fused:
            needs, sets = (*needs, *self._set(train)[1]), [*sets, train]
        elif train is not None:
            needs = (*needs, *self._embedded(train, config, is_test=False))
        label = "-".join(
            [entry_name, *([f"{test}-vs-{train or 'itself'}"] if self._is_many(entry) else []),
             *([encoder_slug(config.encoder_name)] if len(entry.detector) > 1 else [])]
        )  # fmt: skip
        index = self._index(train, config, needs) if train is not None else ()
        folder = f"dedup/{label}"
        settings = _settings(config) | {"test": test, "train": train}
        step = self._add(Step(
            f"dedup/{label}", "dedup", (*needs, *index),
            {**settings, "threshold": config.threshold, "seed": config.seed}, folder, tuple(sets),
        ))  # fmt: skip
        splits = self._split_steps(label, entry, config, step)
        found = Splits(test, folder, splits)
        of_run = [f"{kind}/{label}" for kind in ("dedup", "calibrate", "split")]
        shown = tuple(
            name
            for name in self._steps
            if any(name == one or name.startswith(f"{one}/") for one in of_run)
        )
        self._add(Step(f"page/{label}", "page", shown, {}, f"{folder}/report"))
        return found

    def _needs_embedding(self, name: str) -> bool:
        return self._flow.sets[name].embeddings is None

    @staticmethod
    def _is_many(entry: DedupEntry) -> bool:
        return len(entry.test) * max(1, len(entry.train)) > 1

    def _index(self, train: str, config: DedupConfig, needs: tuple[str, ...]) -> tuple[str, ...]:
        """The step that builds an index for all test sets; a gated one belongs to its test set."""
        if config.search == "exact" or config.min_recall is not None:
            return ()
        slug = f"{encoder_slug(config.encoder_name)}-{config.search}"
        of_train = tuple(name for name in needs if name.startswith(f"embed/{train}/"))
        settings = {"kind": config.search, "train": train, "seed": config.seed}
        out = f"indices/{train}/{slug}"
        sets = () if of_train else (train,)
        return (
            self._add(Step(f"index/{train}/{slug}", "index", of_train, settings, out, sets)).name,
        )

    def _split_steps(
        self, label: str, entry: DedupEntry, config: DedupConfig, first: Step
    ) -> dict[str, Step]:
        """The step of each threshold and seed, one after the other, as they share a folder."""
        last, calibrated = first, None
        if entry.calibrate is not None:
            settings = entry.calibrate.model_dump(mode="json")
            calibrated = last = self._add(Step(
                f"calibrate/{label}", "calibrate", (first.name,), settings,
                f"{first.out}/calibration",
            ))  # fmt: skip
        found: dict[str, Step] = {}
        for threshold, seed in product(entry.threshold, entry.seed):
            if threshold == AUTO and calibrated is None and config.calibration is None:
                raise CurateError(
                    f"dedup.{label}: threshold auto is that of a calibration; give calibrate too."
                )
            word = (
                "default" if threshold is None else f"{threshold:g}" if threshold != AUTO else AUTO
            )
            key = word if len(entry.seed) == 1 else f"{word}-seed-{seed}"
            if (threshold, seed) == (config.threshold, config.seed):
                found[key] = first
                continue
            settings = {"threshold": threshold, "seed": seed, "write": list(config.write)}
            last = found[key] = self._add(Step(
                f"split/{label}/{key}", "split", (first.name, last.name)
                if last is not first else (first.name,), settings, f"{first.out}/splits",
            ))  # fmt: skip
        return found

    def split(self, reference: str, asked_by: str, of_set: str | None = None) -> Step:
        """The step that leaves the split of a reference, ENTRY or ENTRY@THRESHOLD.

        Raises:
            CurateError: the reference stands for none, or for several.
        """
        entry, _, word = reference.partition("@")
        found = [one for one in self._splits[entry] if of_set in (None, one.test)]
        if len(found) != 1:
            raise CurateError(
                f"{asked_by}: {entry} stands for {len(found)} runs; make entries of their own for "
                "the test sets and detectors that are meant."
            )
        steps = found[0].steps
        if word and word not in steps:
            raise CurateError(f"{asked_by}: {reference}: there is {', '.join(steps)} only.")
        return steps[word] if word else next(iter(steps.values()))

    # --- train and eval ---------------------------------------------------------------------------

    def _train(self, name: str, entry: TrainEntry) -> None:
        needs: tuple[str, ...] = ()
        found: dict[str, str | None] = {"split": entry.split, "ids": entry.ids}
        if entry.data is not None:
            needs = self._set(entry.data)[1]
        for key, reference in found.items():
            if reference is not None:
                found[key] = self.split(reference, f"train.{name}.{key}").name
                needs = (*needs, found[key] or "")
        settings = entry.model_dump(mode="json", exclude={"model", "seed", "workers"})
        tuning = {"workers": entry.workers}
        for model, seed in product(entry.model, entry.seed):
            label = trained_name(name, entry, model, seed)
            config = {**settings, **found, "model": model, "seed": seed}
            base = (f"train/{model}",) if self._is_trained(model) else ()
            sets = (entry.data,) if entry.data is not None else ()
            out = f"train/{label}"
            self._add(Step(out, "train", (*needs, *base), config, out, sets, tuning))

    def _eval(self, name: str, entry: EvalEntry) -> None:
        needs: tuple[str, ...] = ()
        for one in entry.data.values():
            needs = (*needs, *self._set(one)[1])
        splits = {
            key: self.split(reference, f"eval.{name}.splits.{key}", entry.data[key]).name
            for key, reference in entry.splits.items()
        }
        needs = (*needs, *splits.values())
        for model in (found for word in entry.models for found in self._models(word)):
            self._require_once(name, entry, model)
            both = dict.fromkeys((model, entry.surrogate))
            used = [f"train/{one}" for one in both if self._is_trained(one)]
            settings = entry.model_dump(mode="json", exclude={"models", "batch"})
            config = {**settings, "splits": splits, "model": model}
            label = f"{name}/{_safe(model)}" if len(self._flow.eval) > 1 else _safe(model)
            sets = tuple(entry.data.values())
            out, tuning = f"eval/{label}", {"batch": entry.batch}
            self._add(Step(out, "eval", (*needs, *used), config, out, sets, tuning))

    def _require_once(self, name: str, entry: EvalEntry, model: str) -> None:
        """Refuse results that could not be told apart when all are compared."""
        for data in entry.data:
            other = self._measured.setdefault((model, data), name)
            if other != name:
                raise CurateError(
                    f"eval.{name}: eval.{other} measures {model} on {data} too; put the settings "
                    "of both into one entry, or give the data another name."
                )

    @cached_property
    def _trained(self) -> dict[str, list[str]]:
        """Names of the models that each training entry leaves."""
        return {
            name: [
                trained_name(name, entry, *chosen) for chosen in product(entry.model, entry.seed)
            ]
            for name, entry in self._flow.train.items()
        }

    def _models(self, word: str) -> Sequence[str]:
        return self._trained.get(word, [word])

    def _is_trained(self, model: str | None) -> bool:
        return any(model in names for names in self._trained.values())


def trained_name(name: str, entry: TrainEntry, model: str, seed: int) -> str:
    """What the model of a training entry is called, after what it fans out over."""
    of_model = f"-{_safe(model)}" if len(entry.model) > 1 else ""
    of_seed = f"-seed-{seed}" if len(entry.seed) > 1 else ""
    return name + of_model + of_seed


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", text).strip("-.")


def first_threshold(entry: DedupEntry) -> float | str | None:
    """That of the run itself: the detector's, as long as its calibration is yet to be made."""
    first = entry.threshold[0]
    return None if first == AUTO and "calibration" not in entry.others else first


def _dedup_config(
    name: str,
    entry: DedupEntry,
    chosen_sets: tuple[str, str | None, str | None],
    device: str,
) -> DedupConfig:
    """The settings of `curate dedup` for a test set, a train set and a detector."""
    test, train, detector = chosen_sets
    sides: dict[str, Any] = {"within": True} if train is None else {"train": (train,)}
    chosen = {
        "detector": detector, "threshold": first_threshold(entry),
        "seed": entry.seed[0], "device": device,
    }  # fmt: skip
    given = {**entry.others, **sides, **chosen, "test": (test,), "out": Path()}
    return make_config(DedupConfig, given, f"dedup.{name}")


def _settings(config: DedupConfig) -> dict[str, Any]:
    """The settings that were given, without those that stand in a step's own place."""
    left_out = {*_OWN, "out", "device", "workers", "threads", "scheduler"}
    given = config.model_dump(mode="json", exclude_unset=True)
    kept = {key: value for key, value in given.items() if key not in left_out}
    return {"detector": config.detector, **kept}
