"""The main job as a flow of stages: embed both sides, index, match, decide, write, report."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import polars as pl

from curate import artifacts, dedup, fused, groups, words
from curate.artifacts import MANIFEST, Manifest
from curate.background import read_background
from curate.calibration.artifact import Calibrated, read_calibrated
from curate.calibration.judgements import Judgements, read_judgements
from curate.config import AUTO, DedupConfig
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed, source_of
from curate.encoders import WHITENED, cached_encoder, encoder_slug, fingerprint
from curate.encoders.whitening import WhitenedEncoder
from curate.errors import CurateError
from curate.files import read_json, write_json
from curate.index import Index, build_index, open_index
from curate.keep import Keep, preference
from curate.matches import Matches, match, open_matches
from curate.normalisation import Normalisation
from curate.parts import Embeddings, check_encoders
from curate.published import Published, open_vectors, write_reference
from curate.recall import Gate
from curate.shards import Dataset
from curate.splits import SPLIT_FILE, write_split
from curate.units import Outcome, RunUnits
from curate.vector_files import are_vectors
from curate.verification.stage import verify
from curate.verification.verifiers import cached_verifier

RUN_FILE = "run.json"
SETTINGS_FILE = f"{artifacts.FACTS}/settings.json"
Policy = Literal["clean-test", "within", "strip-train"]


@dataclass(frozen=True)
class Watch:
    """Whom to tell how far a run is; the defaults tell nobody.

    Attributes:
        stage: called with a stage's name and its number of steps (units or vectors).
        step: called with how many steps more are done, and how many images they were.
    """

    stage: Callable[[str, int], None] = lambda _name, _total: None
    step: Callable[[int, int], None] = lambda _steps, _images: None


@dataclass(frozen=True)
class DedupResult:
    """What a run left: where, and the numbers of `split.json`."""

    run: Path
    split: Path
    matches: Path
    summary: dict[str, Any]
    damaged_shards: dict[str, str]


def run_dedup(config: DedupConfig, run_units: RunUnits, watch: Watch | None = None) -> DedupResult:
    """Run every stage that is not yet done, and return where its results are.

    Raises:
        PartialRunError: some shards failed; what is done is kept.
        GateError: the conservation law or another promise does not hold.
        CurateError: bad input.
    """
    watch = watch or Watch()
    config = _with_detector_of_embeddings(config)
    judgements = read_judgements(config.labels) if config.labels else None
    config, origin = _settle_threshold(config)
    _load_verifier(config)
    with artifacts.run_lock(config.out):
        test, train = _embed_both(config, run_units, watch)
        matches = _match(config, test, train, run_units, watch)
        matches = _verified(config, matches, (test, train), run_units, watch)
        split = write_decisions(
            config.out, matches, test, train, SplitRequest.of(config, origin, judgements),
            run_units=run_units, watch=watch,
        )  # fmt: skip
        _note_run(config.out, matches, test, train, split)
        _note_settings(config)
        damaged = {**_damage(test), **_damage(train)}
        return DedupResult(config.out, split, matches.root, read_json(split / SPLIT_FILE), damaged)


def _note_run(
    run: Path, matches: Matches, test: Embeddings, train: Embeddings, split: Path
) -> None:
    """Note what belongs together, for `curate split`, `report` and `info`."""
    places = {"matches": matches.root, "test": test.root, "train": train.root, "split": split}
    note = {name: os.path.relpath(path, run) for name, path in places.items()}
    write_json(run / RUN_FILE, note)


def _note_settings(config: DedupConfig) -> None:
    """Note how the run was asked for, so that `curate calibrate` embeds as it did."""
    here = {name: path and str(path.absolute()) for name, path in
            (("weights", config.weights), ("background", config.background),
             ("verify_weights", config.verify_weights))}  # fmt: skip
    note = {**config.model_dump(mode="json", exclude_unset=True), **here}
    path = config.out / SETTINGS_FILE
    if not path.is_file() or read_json(path) != note:
        write_json(path, note)


def read_settings(run: Path) -> dict[str, Any]:
    """The settings with which a run was made last.

    Raises:
        CurateError: they were not noted.
    """
    return dict(read_json(run / SETTINGS_FILE))


def _views(side: Embeddings) -> list[str]:
    return list(side.manifest.config["views"])


def _damage(side: Embeddings) -> dict[str, str]:
    shards = side.manifest.counts["damaged_shards"]
    return {f"{side.name}/{shard}": why for shard, why in shards.items()}


def _match(
    config: DedupConfig, test: Embeddings, train: Embeddings, run_units: RunUnits, watch: Watch
) -> Matches:
    index = _index(config, test, train, run_units, watch)
    folder = config.out / "matches" / f"{test.name}-vs-{train.name}"
    settings = config.match_settings()

    def on_part(count: int) -> None:
        watch.step(count, 0)

    if config.fused:
        watch.stage(f"put the pairs of {train.name} together", train.count)
        return fused.merge(
            test, train, settings, folder,
            normalisation=normalisation_of(config, test), resources=config.resources(),
            on_part=on_part,
        )  # fmt: skip
    passes = len(_views(test)) if config.within else 1
    watch.stage(f"match {test.name} with {train.name}", train.count * passes)
    resources = config.resources()
    return match(
        test, train, settings, folder, index=index, normalisation=normalisation_of(config, test),
        resources=resources, on_part=on_part,
    )  # fmt: skip


def _load_verifier(config: DedupConfig) -> None:
    """Find out before any image is embedded that a verifier is missing."""
    if config.verifier is None:
        return
    try:
        cached_verifier(config.verifier)
    except CurateError as error:
        raise CurateError(f"--verify: {error} (as --verify-weights).") from error


def _verified(
    config: DedupConfig,
    matches: Matches,
    sides: tuple[Embeddings, Embeddings],
    run_units: RunUnits,
    watch: Watch,
) -> Matches:
    """The matches after a second look, if one is asked for."""
    if config.verifier is None:
        return matches
    watch.stage("look again at candidates", sum(len(side.sizes) for side in sides))
    out = config.out / "verified" / matches.root.name
    runner = watched(run_units, watch.step)
    return verify(matches, *sides, config.verifier, out, run_units=runner)


def normalisation_of(config: DedupConfig, test: Embeddings) -> Normalisation | None:
    """How scores are normalised; with whitening, the background is whitened as the sets are."""
    if config.beta is None or config.background is None:
        return None
    if not config.whiten:
        background = read_background(config.background, test.manifest.config["encoder"])
        return Normalisation(background, config.beta, config.neighbours)
    encoder = cached_encoder(config.embed_settings().encoder)
    assert isinstance(encoder, WhitenedEncoder)
    if test.manifest.config["encoder"] != fingerprint(encoder):
        raise CurateError(
            f"{test.place}: whitened by another background than {config.background}, or by another "
            "version of the encoder; embed it again."
        )
    return Normalisation(encoder.whitened_background(), config.beta, config.neighbours)


# --- embeddings and index -------------------------------------------------------------------------


def _settle_threshold(config: DedupConfig) -> tuple[DedupConfig, "Origin"]:
    """The same with the threshold of its test set as a number, and where that comes from.

    The floor of a calibration is kept, so that its pairs are found again.
    """
    if config.threshold_for:
        name = _test_name(config)
        if name in config.threshold_for:
            chosen = config.threshold_for[name]
            return config.model_copy(update={"threshold": chosen}), Origin("threshold-for")
    if config.threshold != AUTO:
        return config, Origin("detector" if config.threshold is None else "given")
    calibrated = read_calibrated(config.calibration or config.out)
    update = {"threshold": calibrated.threshold}
    if config.floor is None and not config.by_pixels:
        update["floor"] = calibrated.floor
    return config.model_copy(update=update), Origin("calibration", calibrated)


def _test_name(config: DedupConfig) -> str:
    return config.test_name or _open_side(config, config.test, None).name


def _with_detector_of_embeddings(config: DedupConfig) -> DedupConfig:
    """The same with the detector, hence the threshold, that given embeddings were made with."""
    if are_vectors(config.train) and "detector" not in config.model_fields_set:
        raise CurateError(
            f"{config.train[0]}: published vectors do not say which model made them; state it with "
            "--detector, such as open_clip:ViT-B-32/openai."
        )
    folders = [Path(specs[0]) for specs in (config.test, config.train) if _are_embeddings(specs)]
    for folder in folders:
        name = open_vectors(folder).manifest.config["encoder"]["name"]
        if name == config.encoder_name:
            continue
        if name.endswith(WHITENED) != config.whiten:
            raise CurateError(
                f"{folder}: embedded {'with' if name.endswith(WHITENED) else 'without'} whitening; "
                "give --whiten, with its --background, to both sets or to none."
            )
        if "detector" in config.model_fields_set:
            raise CurateError(
                f"--detector {config.detector}: {folder} was embedded by {name}; "
                "give that, or the images instead of the embeddings."
            )
        config = config.model_copy(update={"detector": name.removesuffix(WHITENED)})
    return config


def _are_embeddings(specs: tuple[str, ...]) -> bool:
    return len(specs) == 1 and (Path(specs[0]) / MANIFEST).is_file()


def _embed_both(
    config: DedupConfig, run_units: RunUnits, watch: Watch
) -> tuple[Embeddings, Embeddings]:
    test = _open_side(config, config.test, config.test_name)
    train = test if config.within else _open_side(config, config.train, config.train_name)
    if isinstance(test, Published):
        raise CurateError(
            f"{test.place}: published vectors can only be --train, as no test set can be written "
            "from them; give --test the images, or what `curate embed` made of them."
        )
    if config.fused and isinstance(train, Embeddings):
        raise CurateError(
            f"--fused: {train.place} holds embeddings, and --fused is for a train set that is yet "
            "to be embedded; run without it, or give the images."
        )
    if isinstance(train, Published):
        _check_published(config, test, train)
    if train is not test and test.name == train.name:
        raise CurateError(
            f"both sides are named {test.name!r}; tell them apart with --test-name or --train-name."
        )
    all_views = config.embed_settings(config.test_views)
    done = _embed_side(config, test, all_views, run_units, watch)
    if train is test:
        return done, done
    if config.fused and isinstance(train, Dataset):
        return done, _embed_fused(config, done, train, run_units, watch)
    other = _embed_side(config, train, config.embed_settings(), run_units, watch)
    return done, other.attributed_to(done) if isinstance(other, Published) else other


def _open_side(
    config: DedupConfig, specs: tuple[str, ...], name: str | None
) -> Dataset | Embeddings:
    if _are_embeddings(specs) or are_vectors(specs):
        return open_vectors(specs, config.detector, name)
    return open_dataset(specs, name)


def _check_published(config: DedupConfig, test: Dataset | Embeddings, train: Published) -> None:
    """Find out before any image is embedded that published vectors are of no use."""
    if config.whiten:
        raise CurateError(
            f"--whiten: {train.place} holds published vectors, which are taken as they are; run "
            "without it, or with --beta, which leaves vectors alone."
        )
    if config.strip == "train":
        raise CurateError(
            f"--strip train: {train.place} holds published vectors without their images or a list "
            "of all samples; run without it, pairs.parquet names the train items that match."
        )
    if config.verifier is not None:
        raise CurateError(
            f"--verify {config.verifier.encoder.name}: {train.place} holds published vectors "
            "without their images, at which nobody can look again; give --verify none."
        )
    if isinstance(test, Embeddings):
        check_encoders(test, train)
        return
    dim = config.embed_settings().config()["encoder"]["dim"]
    if dim != train.dim:
        raise CurateError(
            f"--detector {config.detector} gives vectors of width {dim}, but those of "
            f"{train.place} have {train.dim}; state the encoder that made them."
        )


def _embed_side(
    config: DedupConfig,
    side: Dataset | Embeddings,
    settings: EmbedSettings,
    run_units: RunUnits,
    watch: Watch,
) -> Embeddings:
    slug = encoder_slug(settings.encoder.name)
    if isinstance(side, Published):
        return write_reference(side, config.out / "embeddings" / side.name / f"{slug}-published")
    if isinstance(side, Embeddings):
        return side
    out = config.out / "embeddings" / side.name / slug
    watch.stage(f"embed {side.name}", len(side.shards))
    return embed(
        side, settings, out, run_units=watched(run_units, watch.step), threads=config.threads
    )


def _embed_fused(
    config: DedupConfig, test: Embeddings, train: Dataset, run_units: RunUnits, watch: Watch
) -> Embeddings:
    settings = config.embed_settings()
    join = fused.join_with(
        test, settings, config.match_settings(), config.resources(), normalisation_of(config, test)
    )
    slug = encoder_slug(settings.encoder.name)
    out = config.out / "embeddings" / train.name / f"{slug}-fused"
    words = [f"embed {train.name} and match {test.name} with it", fused.what_changed(out, join)]
    watch.stage(" ".join(word for word in words if word), len(train.shards))
    return embed(
        train, settings, out,
        run_units=watched(run_units, watch.step), threads=config.threads, sink=join,
    )  # fmt: skip


def watched(run_units: RunUnits, step: Callable[[int, int], None]) -> RunUnits:
    """The same runner, telling of every unit that is done."""

    def run(function: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[Outcome]:
        for outcome in run_units(function, units):
            counts = outcome.result.get("counts", {}) if isinstance(outcome.result, dict) else {}
            step(1, sum(counts.values()))
            yield outcome

    return run


def _index(
    config: DedupConfig, test: Embeddings, train: Embeddings, run_units: RunUnits, watch: Watch
) -> Index | None:
    if config.index is not None:
        return open_index(config.index)
    if config.search == "exact":
        return None
    slug = encoder_slug(train.manifest.config["encoder"]["name"])
    out = config.out / "indices" / train.name / f"{slug}-{config.search}"
    watch.stage(f"index {train.name}", train.count)
    gate = Gate(config.recall_settings(), train, test) if config.min_recall else None
    return build_index(
        train, out, kind=config.search, seed=config.seed, run_units=run_units,
        finish=gate.measure if gate else None, finish_config=gate.config if gate else None,
        on_part=lambda n: watch.step(n, 0),
    )  # fmt: skip


# --- decisions -----------------------------------------------------------------------------------


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
        return f"at-{self.threshold:g}" + ("-judged" if self.judgements is not None else "")

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
    write = request.written()
    encoder = matches.manifest.config["encoder"]
    config = {**request.settings(), "comparator": ">=", "encoder": encoder}
    manifest = Manifest(
        "split",
        config,
        [
            {"name": "matches", "sha256": matches.manifest.id},
            {"name": "embeddings", "sha256": decided.manifest.id},
        ],
    )
    if artifacts.finished(out, manifest.key):
        return out
    status = decided.all_status()
    decisions, components = _decide(request, matches, decided, status)
    summary = _summary(request, matches, test, train) | dedup.summarise(decisions, status)
    if components is not None:
        summary |= _summary_of_groups(request, components, decisions)
    if request.judgements is not None:
        summary |= _summary_of_words(request.judgements, matches, decisions)
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
        decisions = dedup.decide_strip(status, pairs, overflown, threshold)
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
        "views": _views(test),
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
            "views": _views(test),
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


@dataclass(frozen=True)
class RunParts:
    """What `run.json` says belongs together, opened."""

    matches: Matches
    test: Embeddings
    train: Embeddings
    split: Path


def open_run(run: Path) -> RunParts:
    """Open the parts of a finished run.

    Raises:
        CurateError: it is not a run of `curate dedup`, or parts of it have gone.
    """
    if not (run / RUN_FILE).is_file():
        raise CurateError(f"{run}: no finished run of `curate dedup` (no {RUN_FILE}).")
    places = {name: run / place for name, place in read_json(run / RUN_FILE).items()}
    return RunParts(
        open_matches(places["matches"]),
        open_vectors(places["test"]),
        open_vectors(places["train"]),
        places["split"],
    )


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
    run: Path, request: SplitRequest, run_units: RunUnits, watch: Watch | None = None
) -> Path:
    """Decide again from stored pairs at another threshold; returns the new split's folder."""
    with artifacts.run_lock(run):
        found = open_run(run)
        split = write_decisions(
            run, found.matches, found.test, found.train, request,
            run_units=run_units, watch=watch or Watch(),
        )  # fmt: skip
        _note_run(run, found.matches, found.test, found.train, split)
        return split
