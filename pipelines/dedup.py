"""The main job as a flow of stages: embed both sides, index, match, decide, write, report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import artifacts, fused
from curate.artifacts import MANIFEST
from curate.background import read_background
from curate.calibration.artifact import read_calibrated
from curate.calibration.judgements import read_judgements
from curate.config import AUTO, DedupConfig
from curate.discover import open_dataset
from curate.embed import EmbedSettings, embed
from curate.encoders import (
    WHITENED,
    cached_encoder,
    decoding_of,
    encoder_slug,
    fingerprint,
)
from curate.encoders.whitening import WhitenedEncoder
from curate.errors import CurateError
from curate.files import read_json
from curate.index import Index, build_index, open_index
from curate.matches import Matches, match
from curate.normalisation import Normalisation
from curate.parts import Embeddings, check_encoders
from curate.published import Published, open_vectors, write_reference
from curate.recall import Gate
from curate.shards import Dataset
from curate.splits import SPLIT_FILE
from curate.storage import local_artifact
from curate.units import RunUnits
from curate.vector_files import are_vectors
from curate.verification.stage import verify
from curate.verification.verifiers import cached_verifier
from pipelines.runs import note_run, note_settings
from pipelines.split import Origin, SplitRequest, write_decisions
from pipelines.watch import Watch, watched


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
    config = _with_local_embeddings(config)
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
        note_run(config.out, matches, test, train, split)
        note_settings(config)
        damaged = {**_damage(test), **_damage(train)}
        return DedupResult(config.out, split, matches.root, read_json(split / SPLIT_FILE), damaged)


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
    passes = len(test.manifest.config["views"]) if config.within else 1
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


def _settle_threshold(config: DedupConfig) -> tuple[DedupConfig, Origin]:
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


def _with_local_embeddings(config: DedupConfig) -> DedupConfig:
    """The same with embeddings folders in a store, which are fetched, as local folders."""
    sides = {"test": config.test, "train": config.train}
    here = {n: (local_artifact(one[0]),) for n, one in sides.items() if len(one) == 1}
    return config.model_copy(update=here)


def _with_detector_of_embeddings(config: DedupConfig) -> DedupConfig:
    """The same with the detector, hence the threshold, that given embeddings were made with."""
    if are_vectors(config.train) and "detector" not in config.model_fields_set:
        raise CurateError(
            f"{config.train[0]}: published vectors do not say which model made them; state it with "
            "--detector, such as open_clip:ViT-B-32/openai."
        )
    folders = [Path(specs[0]) for specs in (config.test, config.train) if _are_embeddings(specs)]
    for folder in folders:
        encoder = open_vectors(folder).manifest.config["encoder"]
        config = _with_decoding_of(folder, encoder, config)
        name = encoder["name"]
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


def _with_decoding_of(folder: Path, encoder: Mapping[str, Any], config: DedupConfig) -> DedupConfig:
    """The same with JPEGs decoded as the images were that given embeddings are of."""
    made = decoding_of(encoder.get("preprocessing", {}))
    if made == config.decode or "stated" in encoder:
        return config
    if "decode" in config.model_fields_set:
        raise CurateError(
            f"--decode {config.decode}: {folder} was embedded with --decode {made}; give that, or "
            "the images instead of the embeddings."
        )
    return config.model_copy(update={"decode": made})


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
