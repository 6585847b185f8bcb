"""Settings of a stage as a person gives them: flags and the YAML file have the same names."""

import difflib
import reprlib
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curate.detectors import BUILTIN, Detector, find_detector
from curate.embed import EmbedSettings
from curate.encoders import EncoderSpec
from curate.errors import CurateError
from curate.hardware import choose_device
from curate.keep import Keep
from curate.matches import MatchSettings, Resources
from curate.recall import RecallSettings

_FLOOR_BELOW_THRESHOLD = 0.10
T = TypeVar("T", bound="Settings")


class Settings(BaseModel):
    """What all stages have in common: names are checked, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbedConfig(Settings):
    """How images are embedded (`curate embed`).

    Attributes:
        detector: encoder with its threshold and views; see `curate.detectors`.
        weights: local weights instead of the published ones.
        workers: processes; each is one core and takes one shard at a time.
        threads: image decoders per worker.
        scheduler: address of a Dask scheduler instead of own workers.
    """

    detector: str = BUILTIN.encoder
    weights: Path | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    batch_size: int | None = Field(default=None, ge=1)
    dtype: Literal["float16", "float32"] = "float16"
    captions: bool = False
    workers: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    scheduler: str | None = None

    @property
    def preset(self) -> Detector:
        """The detector with its defaults."""
        return find_detector(self.detector)

    def embed_settings(self, views: tuple[str, ...] = ("identity",)) -> EmbedSettings:
        """What decides on the bytes of embeddings."""
        weights = str(self.weights) if self.weights else None
        spec = EncoderSpec(
            self.detector, weights, self.precision, self.device, self.compile, self.batch_size
        )
        return EmbedSettings(spec, views, self.dtype, self.captions)


class DedupConfig(EmbedConfig):
    """One run of `curate dedup`.

    Attributes:
        test: what is cleaned: tars, patterns, folders, Parquet, URLs, or an embeddings folder.
        train: what it is cleaned of, likewise.
        out: the run folder.
        threshold: cosine at or above which a test item is overlap; None: the detector's own.
        floor: lowest cosine that is stored; None: a tenth below the threshold.
        nearest: find the nearest train item of every test item, below the floor too; costs the
            full product.
        memory: gigabytes for the test vectors of a join; more of them are taken in turns.
        fused: join each train shard as it is embedded, and keep no train vectors.
        search: join exactly, or through a FAISS index that is built in the run.
        index: a finished index folder to search instead.
        within: compare `test` with itself, so that no two items that stay match each other.
        keep: with `within`, which of those that match stay; None: the first. See `curate.keep`.
        strip: "train" lists train items to drop instead of cleaning the test set.
        write: which splits are written as shards.
        cap: pairs stored per test item.
        probes: lists that an IVF search visits; None: the index's own number.
        min_recall: least recall of an index at the threshold; see `curate.recall`.
        seed: of the control split and of index training.
    """

    test: tuple[str, ...]
    train: tuple[str, ...] = ()
    out: Path
    test_name: str | None = None
    train_name: str | None = None
    threshold: float | None = Field(default=None, ge=-1, le=1)
    floor: float | None = Field(default=None, ge=-1, le=1)
    nearest: bool = False
    memory: float = Field(default=1.0, gt=0)
    fused: bool = False
    search: Literal["exact", "flat", "ivf", "ivf-fp16", "ivf-sq8"] = "exact"
    index: Path | None = None
    within: bool = False
    keep: Keep | None = None
    strip: Literal["train"] | None = None
    write: tuple[Literal["clean", "overlap", "control"], ...] = ("clean",)
    cap: int = Field(default=1000, ge=1)
    probes: int | None = Field(default=None, ge=1)
    min_recall: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _sides_agree(self) -> Self:
        if self.within and (self.train or self.strip or self.index or self.search != "exact"):
            raise ValueError("within compares --test with itself: no train, strip, index or search")
        if self.keep and not self.within:
            raise ValueError("keep says which items of one set stay: give within too")
        if not self.within and not self.train:
            raise ValueError(
                "train is missing (or say --within to compare the test set with itself)"
            )
        if self.min_recall is not None and (self.search == "exact" or self.index):
            raise ValueError("min-recall is of an index that the run builds: give search too")
        if self.within and self.nearest:
            raise ValueError("nearest is of two sets; within knows pairs only")
        if self.chosen_floor > self.chosen_threshold:
            raise ValueError(f"floor {self.floor} is above the threshold {self.chosen_threshold}")
        return self

    @model_validator(mode="after")
    def _fused_is_plain(self) -> Self:
        others = {
            "within": self.within, "strip": self.strip, "index": self.index,
            "search": self.search != "exact", "nearest": self.nearest, "captions": self.captions,
        }  # fmt: skip
        clashes = [name for name, is_given in others.items() if is_given]
        if self.fused and clashes:
            raise ValueError(
                "fused joins two sets exactly and keeps no train vectors, so it goes without "
                + ", ".join(clashes)
            )
        return self

    @property
    def chosen_threshold(self) -> float:
        """The threshold given, or the detector's."""
        return self.preset.threshold if self.threshold is None else self.threshold

    @property
    def chosen_floor(self) -> float:
        """The floor given, or one below the threshold that leaves room to move it."""
        if self.floor is not None:
            return self.floor
        return max(
            -1.0, round(min(self.preset.floor, self.chosen_threshold - _FLOOR_BELOW_THRESHOLD), 6)
        )

    def resources(self) -> Resources:
        """What a join may use."""
        return Resources(choose_device(self.device), int(self.memory * 1e9))

    def recall_settings(self) -> RecallSettings:
        """How the recall of an index is measured."""
        return RecallSettings(
            self.chosen_threshold, self.min_recall or 0, seed=self.seed, probes=self.probes
        )

    def match_settings(self) -> MatchSettings:
        """What decides on the matches."""
        return MatchSettings(self.chosen_floor, self.cap, self.within, self.probes, self.nearest)


def make_config(kind: type[T], values: dict[str, Any], source: str) -> T:
    """Check values and build a stage's settings.

    Args:
        kind: the settings class.
        values: as given; None stands for "not given".
        source: where they come from, for messages.

    Raises:
        CurateError: names every wrong key with the nearest valid one, and every wrong value.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return kind(**given)
    except ValidationError as error:
        lines = [_explain(kind, problem) for problem in error.errors()]
        raise CurateError(f"{source}: " + "; ".join(lines)) from error


def _explain(kind: type[Settings], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, kind.model_fields, n=1)
        return f"{key} is no setting" + (f" (did you mean {near[0]}?)" if near else "")
    if problem["type"] == "missing":
        return f"{key} is missing"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{key}: {text} (given: {reprlib.repr(problem['input'])})" if key else text


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        CurateError: it is missing, or no mapping of names to values.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CurateError(f"{path}: not readable as YAML ({error}).") from error
    if not isinstance(values, dict):
        raise CurateError(f"{path}: a mapping of settings to values was expected.")
    return {str(name).replace("-", "_"): value for name, value in values.items()}
