"""Settings of a stage as a person gives them: flags and the YAML file have the same names."""

import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from curate.detectors import DEFAULT, Detector, find_detector
from curate.embed import EmbedSettings
from curate.encoders import EXACT, WHITENED, EncoderSpec
from curate.errors import CurateError
from curate.hardware import choose_device
from curate.keep import Keep
from curate.matches import MatchSettings, Resources
from curate.recall import RecallSettings
from curate.storage import local_path
from curate.verification.verifiers import NOBODY, PIXELS, PIXELS_THRESHOLD, TOP, VerifierSpec
from curate.views import check_views, parse_views

AUTO = "auto"
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
        views: of a test image, names of `curate.views.VIEWS`, as a list or with commas; None: the
            detector's own.
        background: vectors of images that are no copies; see `curate.background`.
        whiten: whiten vectors by the background.
        decode: JPEGs whole, or scaled: at a reduced size where that is much larger than the input.
        workers: processes; each is one core and takes one shard at a time.
        threads: image decoders per worker.
        scheduler: address of a Dask scheduler instead of own workers.
    """

    detector: str = DEFAULT.encoder
    weights: Path | None = None
    views: tuple[str, ...] | None = None
    background: Path | None = None
    whiten: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    batch_size: int | None = Field(default=None, ge=1)
    dtype: Literal["float16", "float32"] = "float16"
    decode: Literal["exact", "scaled"] = EXACT
    captions: bool = False
    workers: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    scheduler: str | None = None

    @field_validator("views", mode="before")
    @classmethod
    def _read_views(cls, value: Any) -> Any:
        return parse_views(value) if isinstance(value, str) else value

    @field_validator("views")
    @classmethod
    def _know_views(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None:
            check_views(value)
        return value

    @model_validator(mode="after")
    def _background_is_used(self) -> Self:
        if self.whiten and self.background is None:
            raise ValueError("whiten is by the vectors of a background: give background too")
        if self.background is not None and not self.refines:
            raise ValueError(f"background is given, but nothing uses it: {self._USES}")
        return self

    _USES: ClassVar[str] = "give whiten too"

    @property
    def refines(self) -> bool:
        """Scores are others than the detector's own, whose threshold says nothing of them."""
        return self.whiten

    @property
    def preset(self) -> Detector:
        """The detector with its defaults."""
        return find_detector(self.detector)

    @property
    def encoder_name(self) -> str:
        """The name that embeddings state."""
        return self.detector + (WHITENED if self.whiten else "")

    @property
    def test_views(self) -> tuple[str, ...]:
        """The views given, or the detector's."""
        return self.views or self.preset.views

    def embed_settings(self, views: tuple[str, ...] = ("identity",)) -> EmbedSettings:
        """What decides on the bytes of embeddings."""
        weights = str(self.weights) if self.weights else None
        spec = EncoderSpec(
            self.detector, weights, self.precision, self.device, self.compile, self.batch_size,
            decode=self.decode, whiten=str(self.background) if self.whiten else None,
        )  # fmt: skip
        return EmbedSettings(spec, views, self.dtype, self.captions)


class DedupConfig(EmbedConfig):
    """One run of `curate dedup`.

    Attributes:
        test: what is cleaned: tars, patterns, folders, Parquet, URLs, or an embeddings folder.
        train: what it is cleaned of, likewise.
        out: the run folder.
        threshold: score at or above which a test item is overlap; None: the detector's own; "auto":
            that of a calibration, see `curate.calibration`.
        calibration: a `calibration.json`, or a folder or run with one; None: the run's own.
        threshold_for: thresholds of test sets by name, which count more than `threshold`.
        labels: what people say of pairs, which counts more than scores; see `curate.labels`.
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
        verify: who takes a second look at candidates: "pixels", a detector, or "none"; None: as the
            detector has it. By pixels, scores and threshold are its own, and the floor is that of
            the first search. See `curate.verification.verifiers`.
        verify_weights: local weights of a detector that takes the second look.
        verify_top: candidates of a test item that are looked at, the most similar ones.
        beta: weight of score normalisation by the background; None: scores are cosines. See
            `curate.normalisation`.
        neighbours: background vectors that the normalisation of a test item rests on.
        probes: lists that an IVF search visits; None: the index's own number.
        min_recall: least recall of an index at the threshold; see `curate.recall`.
        seed: of the control split and of index training.
    """

    test: tuple[str, ...]
    train: tuple[str, ...] = ()
    out: Path
    test_name: str | None = None
    train_name: str | None = None
    threshold: float | Literal["auto"] | None = None
    calibration: Path | None = None
    threshold_for: dict[str, Annotated[float, Field(ge=-1, le=1)]] = Field(default_factory=dict)
    labels: Path | None = None
    floor: float | None = Field(default=None, ge=-1, le=1)
    nearest: bool = False
    memory: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    fused: bool = False
    search: Literal["exact", "flat", "ivf", "ivf-fp16", "ivf-sq8"] = "exact"
    index: Path | None = None
    within: bool = False
    keep: Keep | None = None
    strip: Literal["train"] | None = None
    write: tuple[Literal["clean", "overlap", "control"], ...] = ("clean",)
    cap: int = Field(default=1000, ge=1)
    verify: str | None = None
    verify_weights: Path | None = None
    verify_top: int = Field(default=TOP, ge=1)
    beta: float | None = Field(default=None, gt=0, le=2)
    neighbours: int = Field(default=3, ge=1)
    probes: int | None = Field(default=None, ge=1)
    min_recall: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @field_validator("threshold", mode="before")
    @classmethod
    def _read_threshold(cls, value: Any) -> Any:
        if value is None or value == AUTO:
            return value
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise ValueError("a valid number or auto was expected") from error
        if not -1 <= number <= 1:
            raise ValueError("a number has to be at least -1 and less than or equal to 1")
        return number

    @field_validator("threshold_for", mode="before")
    @classmethod
    def _read_thresholds(cls, value: Any) -> Any:
        """Lists of NAME=X, as flags give them, as a mapping."""
        if not isinstance(value, list | tuple):
            return value
        found = {}
        for text in value:
            name, equals, number = str(text).rpartition("=")
            if not name or not equals:
                raise ValueError(f"{text}: NAME=X was expected, such as cifar10-test=0.9")
            found[name] = number
        return found

    @field_validator("verify")
    @classmethod
    def _know_verifier(cls, value: str | None) -> str | None:
        if value not in (None, PIXELS, NOBODY):
            try:
                find_detector(value)
            except CurateError as error:
                raise ValueError(
                    f"{PIXELS}, {NOBODY} or a detector was expected ({error})"
                ) from error
        return value

    @model_validator(mode="after")
    def _weights_are_used(self) -> Self:
        if self.verify_weights is not None and (self.verifier is None or self.by_pixels):
            raise ValueError("verify-weights are those of a detector: give verify its name too")
        return self

    @model_validator(mode="after")
    def _calibration_is_used(self) -> Self:
        if self.calibration is not None and self.threshold != AUTO:
            raise ValueError("calibration is given, but not used: say threshold auto")
        return self

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
        if not self.by_pixels and self.chosen_floor > self.chosen_threshold:
            raise ValueError(f"floor {self.floor} is above the threshold {self.chosen_threshold}")
        return self

    _USES: ClassVar[str] = "give whiten or beta too"

    @property
    def refines(self) -> bool:
        """Scores are others than the detector's own, whose threshold says nothing of them."""
        return self.whiten or self.beta is not None

    @model_validator(mode="after")
    def _refinements_agree(self) -> Self:
        if self.beta is not None and self.background is None:
            raise ValueError("beta is the weight of a background: give background too")
        if self.beta is not None and (self.within or self.min_recall is not None):
            raise ValueError("beta normalises scores of two sets: no within or min-recall")
        if self.refines and self.threshold is None:
            raise ValueError(
                "threshold is missing: the detector's own is for scores without whiten and beta "
                "(curate calibrate finds one)"
            )
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
    def verifier(self) -> VerifierSpec | None:
        """Who takes a second look, if anybody does."""
        name = self.verify or self.preset.verify or NOBODY
        if name == NOBODY:
            return None
        weights = str(self.verify_weights) if self.verify_weights else None
        return VerifierSpec(EncoderSpec(name, weights, device=self.device), self.verify_top)

    @property
    def by_pixels(self) -> bool:
        """The second look gives scores of its own."""
        return self.verifier is not None and self.verifier.encoder.name == PIXELS

    @property
    def chosen_threshold(self) -> float:
        """The threshold given, or the detector's; "auto" is yet to be read."""
        if isinstance(self.threshold, float):
            return self.threshold
        return PIXELS_THRESHOLD if self.by_pixels else self.preset.threshold

    @property
    def chosen_floor(self) -> float:
        """The floor given, or one below the threshold that leaves room to move it."""
        if self.floor is not None:
            return self.floor
        if self.by_pixels:
            return self.preset.floor
        return max(
            -1.0, round(min(self.preset.floor, self.chosen_threshold - _FLOOR_BELOW_THRESHOLD), 6)
        )

    def resources(self) -> Resources:
        """What a join may use."""
        return Resources(choose_device(self.device), int(self.memory * 1e9))

    def recall_settings(self) -> RecallSettings:
        """How the recall of an index is measured: of cosines that decide, or become candidates."""
        cosine = self.chosen_floor if self.by_pixels else self.chosen_threshold
        return RecallSettings(cosine, self.min_recall or 0, seed=self.seed, probes=self.probes)

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
        values = yaml.safe_load(local_path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CurateError(f"{path}: not readable as YAML ({error}).") from error
    if not isinstance(values, dict):
        raise CurateError(f"{path}: a mapping of settings to values was expected.")
    return {str(name).replace("-", "_"): value for name, value in values.items()}
