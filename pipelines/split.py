"""Deciding from stored matches: at a threshold, by a policy, with what people say of pairs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import polars as pl

from curate import artifacts, dedup, groups, words
from curate.artifacts import Manifest
from curate.calibration.artifact import Calibrated, read_calibrated
from curate.calibration.judgements import Judgements
from curate.config import AUTO, DedupConfig
from curate.embed import source_of
from curate.errors import CurateError
from curate.keep import Keep, preference
from curate.matches import Matches
from curate.parts import Embeddings
from curate.splits import write_split
from curate.units import RunUnits
from pipelines.runs import note_run, open_run
from pipelines.watch import Watch, watched

Policy = Literal["clean-test", "within", "strip-train"]


@dataclass(frozen=True)
class Origin:
    """Where a threshold comes from.

    Attributes:
        name: "detector", "given", "threshold-for" or "calibration".
        calibrated: the calibration.
    """

    name: str = "given"
    calibrated: Calibrated | None = None

    def to_json(self) -> dict[str, Any]:
        """What a split states of it."""
        if self.calibrated is None:
            return {"threshold_from": self.name}
        return {"threshold_from": self.name, "calibration": self.calibrated.to_json()}


@dataclass(frozen=True)
class SplitRequest:
    """How stored matches are turned into a split.

    Attributes:
        threshold: lowest score of a match.
        policy: what is decided on.
        seed: of the control split.
        write: which splits are written as shards.
        keep: which of the items of one set that match each other stay, with the policy "within".
        origin: where the threshold comes from.
        judgements: what people say of pairs, which counts more than scores.
    """

    threshold: float
    policy: Policy
    seed: int = 0
    write: tuple[str, ...] = ("clean",)
    keep: Keep = "first"
    origin: Origin = Origin()
    judgements: Judgements | None = None

    @classmethod
    def of(
        cls, config: DedupConfig, origin: Origin, judgements: Judgements | None
    ) -> "SplitRequest":
        """The request of a run of `curate dedup` whose threshold is settled."""
        policy: Policy = "within" if config.within else "clean-test"
        if config.strip == "train":
            policy = "strip-train"
        return cls(
            config.chosen_threshold, policy, config.seed, tuple(config.write),
            config.keep or "first", origin, judgements,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """What decides on the bytes of a split."""
        settings: dict[str, Any] = {
            "threshold": self.threshold, "policy": self.policy, "seed": self.seed,
            "write": sorted(self.written()), **self.origin.to_json(),
        }  # fmt: skip
        if self.policy == "within":
            settings["keep"] = self.keep
        if self.judgements is not None:
            settings["labels"] = self.judgements.sha256
        return settings

    @property
    def name(self) -> str:
        """What the split's folder is called after the set's name."""
        judged = "-judged" if self.judgements is not None else ""
        return f"at-{self.threshold:g}{judged}" + (f"-seed-{self.seed}" if self.seed else "")

    def written(self) -> tuple[str, ...]:
        """Which splits are written as shards; of a train set, none."""
        return () if self.policy == "strip-train" else self.write


def write_decisions(
    run: Path,
    matches: Matches,
    test: Embeddings,
    train: Embeddings,
    request: SplitRequest,
    *,
    run_units: RunUnits,
    watch: Watch,
) -> Path:
    """Decide at a threshold from stored matches and write the split; returns its folder."""
    dedup.check_threshold(request.threshold, matches.manifest.config["floor"])
    if request.origin.calibrated is not None:
        request.origin.calibrated.check(detector_of(matches, test))
    decided = train if request.policy == "strip-train" else test
    out = run / "splits" / f"{decided.name}-{request.name}"
    manifest = _manifest(request, matches, decided)
    if artifacts.finished(out, manifest.key):
        return out
    status = decided.all_status()
    decisions, components = _decide(request, matches, decided, status)
    summary = _summary(request, matches, test, train) | dedup.summarise(decisions, status)
    if components is not None:
        summary |= _summary_of_groups(request, components, decisions)
    if request.judgements is not None:
        summary |= _summary_of_words(request.judgements, matches, decisions)
    write = request.written()
    watch.stage(f"write {decided.name}", len(decided.sizes) * len(write))
    write_split(
        source_of(decided),
        decisions,
        manifest,
        summary,
        out,
        components=components,
        kinds=write,
        shard_digests={entry["name"]: entry["sha256"] for entry in decided.manifest.inputs},
        run_units=watched(run_units, watch.step),
    )
    return out


def _manifest(request: SplitRequest, matches: Matches, decided: Embeddings) -> Manifest:
    encoder = matches.manifest.config["encoder"]
    inputs = [
        {"name": "matches", "sha256": matches.manifest.id},
        {"name": "embeddings", "sha256": decided.manifest.id},
    ]
    return Manifest("split", {**request.settings(), "comparator": ">=", "encoder": encoder}, inputs)


def _decide(
    request: SplitRequest, matches: Matches, decided: Embeddings, status: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The decisions, and of a set compared with itself the groups."""
    nearest, threshold = matches.nearest(), request.threshold
    said = request.judgements
    if request.policy == "clean-test" and said is None:
        return dedup.decide(status, nearest, threshold, seed=request.seed), None
    pairs, overflown = matches.pairs(), set(nearest.filter("overflow")["test_id"])
    if said is not None:
        pairs = words.with_words(pairs, said.decided(), overflown, threshold)
    components = None
    if request.policy == "clean-test":
        nearest = words.after_words(nearest, pairs)
        decisions = dedup.decide(status, nearest, threshold, seed=request.seed)
    elif request.policy == "strip-train":
        decisions = dedup.decide_strip(status, pairs, overflown, threshold, seed=request.seed)
    else:
        graph = groups.match_graph(status["id"], pairs, overflown, threshold)
        order = preference(request.keep, graph, decided)
        decisions = dedup.decide_within(status, graph, preference=order, seed=request.seed)
        components = groups.table(graph, decisions)
    if said is not None:
        decisions = words.with_reasons(decisions, pairs, said.decided(), threshold)
    return decisions, components


def _summary_of_words(
    said: Judgements, matches: Matches, decisions: pl.DataFrame
) -> dict[str, Any]:
    """Whose labels were used, and how many items they decided."""
    reasons = decisions["reason"]
    return {
        "labels": {
            **said.to_json(matches.pairs()),
            "judged_copy": int((reasons == words.JUDGED_COPY).sum()),
            "judged_different": int((reasons == words.JUDGED_DIFFERENT).sum()),
        }
    }


def _summary_of_groups(
    request: SplitRequest, components: pl.DataFrame, decisions: pl.DataFrame
) -> dict[str, Any]:
    unproven = int((decisions["reason"] == dedup.UNPROVEN).sum())
    return {
        "keep": request.keep,
        "groups": {**groups.summarise(components), "unproven": unproven},
    }


def detector_of(matches: Matches, test: Embeddings) -> dict[str, Any]:
    """All that scores come from: encoder, views, and what follows the cosine."""
    config = matches.manifest.config
    return {
        **config["encoder"],
        "views": test.manifest.config["views"],
        "normalisation": config.get("normalisation"),
        "verification": config.get("verify"),
    }


def _summary(
    request: SplitRequest, matches: Matches, test: Embeddings, train: Embeddings
) -> dict[str, Any]:
    config = matches.manifest.config
    unusable = matches.manifest.counts.get("train_unusable")
    return {
        "test": test.name,
        "train": train.name,
        "policy": request.policy,
        "detector": {
            **config["encoder"],
            "views": test.manifest.config["views"],
            "search": config["search"],
            **{name: config[name] for name in ("normalisation", "verify") if name in config},
        },
        "threshold": request.threshold,
        **request.origin.to_json(),
        "comparator": ">=",
        "floor": config["floor"],
        **({"first_floor": config["first_floor"]} if "first_floor" in config else {}),
        "seed": request.seed,
        "matches": matches.manifest.id,
        **({"caution": train.caution} if train.caution else {}),
        **({"train_unusable": unusable} if unusable else {}),
    }


def parse_threshold(text: str, calibration: Path) -> tuple[float, Origin]:
    """The threshold that a person asked for, and where it comes from.

    Args:
        text: a number, or "auto" for that of a calibration.
        calibration: where the calibration is.

    Raises:
        CurateError: it is neither, or the calibration is missing or proposes none.
    """
    if text == AUTO:
        calibrated = read_calibrated(calibration)
        return calibrated.threshold, Origin("calibration", calibrated)
    try:
        return float(text), Origin("given")
    except ValueError as error:
        raise CurateError(f"--threshold {text}: a number or auto was expected.") from error


def request_again(
    last: dict[str, Any],
    threshold: float,
    keep: str | None = None,
    *,
    seed: int = 0,
    write: tuple[str, ...] = ("clean",),
    origin: Origin = Origin(),
    judgements: Judgements | None = None,
) -> SplitRequest:
    """A request for another split of a run, by the rule of its last one.

    Args:
        last: the content of its `split.json`.
        threshold: the new one.
        keep: another policy; None: the last one.
        seed: of the control split.
        write: which splits are written as shards.
        origin: where the threshold comes from.
        judgements: what people say of pairs.

    Raises:
        CurateError: `keep` is none, or the run did not compare a set with itself.
    """
    if keep is not None and last["policy"] != "within":
        raise CurateError(
            f"--keep {keep}: says which items of one set stay, but this run compared two; "
            "leave it away."
        )
    chosen = keep or last.get("keep", "first")
    if chosen not in get_args(Keep):
        raise CurateError(f"--keep {chosen}: one of {', '.join(get_args(Keep))} was expected.")
    return SplitRequest(
        threshold, last["policy"], seed, write, cast("Keep", chosen), origin, judgements
    )


def resplit(
    run: Path,
    request: SplitRequest,
    run_units: RunUnits,
    watch: Watch | None = None,
    *,
    beside: bool = False,
) -> Path:
    """Decide again from stored pairs at another threshold; returns the new split's folder.

    Args:
        run: a finished run of `curate dedup`.
        request: what is asked.
        run_units: runs the units, one for each shard.
        watch: who is told.
        beside: the run's own split stays the one that its report is about.
    """
    with artifacts.run_lock(run):
        found = open_run(run)
        split = write_decisions(
            run, found.matches, found.test, found.train, request,
            run_units=run_units, watch=watch or Watch(),
        )  # fmt: skip
        if not beside:
            note_run(run, found.matches, found.test, found.train, split)
        return split
