"""What a flow's YAML file says.

Where a list is given for one value (models, thresholds, seeds), the stage fans out: one step each.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from curate.config import Settings
from curate.storage.addresses import absolute
from pipelines.execute.config import ClusterConfig

T = TypeVar("T")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Many = Annotated[tuple[T, ...], BeforeValidator(_as_list), Field(min_length=1)]
"""One value, or a list of them."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
"""Of a set or an entry; it becomes the name of a folder."""


def _whole_file(name: str) -> str:
    """The path of a recipe's file, or the name of a shipped one as it is."""
    return absolute(name) if name.endswith((".yaml", ".yml")) else name


def _whole_model(name: str) -> str:
    """The folder of a model, or its name (`PREFIX:NAME`, or that of an entry) as it is."""
    return absolute(name) if "/" in name and ":" not in name else name


Place = Annotated[Path, AfterValidator(lambda path: Path(absolute(path)))]
"""A file or folder."""

PlaceText = Annotated[str, AfterValidator(absolute)]
"""Likewise, or a pattern of several."""

Model = Annotated[str, AfterValidator(_whole_model)]
"""A model by its name or folder."""

_PLACES = ("weights", "background", "labels", "calibration", "index", "verify_weights")
"""Settings of `curate dedup` that are files or folders."""


class Download(Settings):
    """A URL list that is fetched (`curate download`).

    Attributes:
        urls: the list.
        url: column with the URL.
        caption: column with the caption.
        sha256: column with the expected digest.
        options: others of `curate.download.DownloadOptions`.
    """

    urls: PlaceText
    url: str = "url"
    caption: str | None = None
    sha256: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Size(Settings):
    """How large a set is that is not at hand, for plans.

    Attributes:
        samples: images.
        shards: tars.
        bytes: of all shards.
    """

    samples: int = Field(ge=1)
    shards: int = Field(ge=1)
    bytes: int = Field(ge=1)


class SetConfig(Settings):
    """Images that the flow is about; given in one of four ways.

    Attributes:
        shards: tars, patterns, folders, Parquet, URLs.
        embeddings: a folder of `curate embed`, or published vectors.
        download: a URL list.
        demo: the generated set of this name, "test", "shift" or "train".
        seed: of the generated sets.
        size: how large it is, if that cannot be seen yet.
    """

    shards: Many[PlaceText] | None = None
    embeddings: Many[PlaceText] | None = None
    download: Download | None = None
    demo: Literal["test", "shift", "train"] | None = None
    seed: int = Field(0, ge=0)
    size: Size | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        ways = ("shards", "embeddings", "download", "demo")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(ways)} was expected")
        return self


class CalibrateEntry(Settings):
    """How a run is calibrated (`curate calibrate`).

    Attributes:
        images: planted copies of so many test images; 0: none.
        plan: draw so many pairs for people to judge (`curate review`), once.
        labels: what people said of pairs; none: what `curate review` noted in the run.
        precision: that the proposed threshold has to reach.
        seed: of the choice.
    """

    images: int = Field(200, ge=0)
    plan: int | None = Field(None, ge=1)
    labels: Place | None = None
    precision: float | None = Field(None, gt=0, lt=1)
    seed: int = 0


class DedupEntry(Settings):
    """Test sets that are cleaned of train sets: a step for each test, train, detector.

    Every other setting of `curate dedup` may be given too, under its own name.

    Attributes:
        test: names of sets.
        train: names of sets; none: `within`, a set against itself.
        detector: see `curate detectors`; none: the built-in one.
        threshold: of splits; none: the detector's; "auto": of the calibration.
        seed: of the control splits.
        calibrate: whether and how thresholds are calibrated.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    test: Many[str]
    train: tuple[str, ...] = ()
    detector: Many[str | None] = (None,)
    threshold: Many[float | Literal["auto"] | None] = (None,)
    seed: Many[int] = (0,)
    calibrate: CalibrateEntry | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_they_are_kept(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        whole = {
            name: absolute(place)
            for name, place in values.items()
            if str(name).replace("-", "_") in _PLACES and isinstance(place, str)
        }
        train = values.get("train")
        lists = {"train": [train]} if isinstance(train, str) else {}
        return {**values, **whole, **lists}

    @property
    def others(self) -> dict[str, Any]:
        """Settings of `curate dedup` that are the same for all steps of the entry."""
        return {name.replace("-", "_"): value for name, value in (self.model_extra or {}).items()}

    def pairs(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Test set, train set and detector of each step."""
        yield from product(self.test, self.train or (None,), self.detector)


class Scratch(Settings):
    """A small CLIP that is trained from scratch (`curate pretrain`).

    Attributes:
        epochs: passes over the images.
    """

    epochs: int = Field(16, ge=1)


class TrainEntry(Settings):
    """Models that are trained: a step for each model and seed.

    Attributes:
        data: name of a set.
        split: train on the clean shards of this split instead, ENTRY or ENTRY@THRESHOLD.
        ids: train only on samples of `data` that this split of it keeps.
        keep: which samples `ids` are: the clean ones, or those of the control split, which lacks
            as many random samples of each class as overlap.
        scratch: train a small CLIP from scratch; no model is adapted then, by no recipe.
        model: what is adapted: a name, or another training entry that gives one model.
        recipe: a shipped one, or a file.
        set: settings of the recipe that are other.
        seed: of the recipe.
        classes: class names, one a line.
        interpolate: shares of the adapted weights to measure, 0:1:0.1.
        workers: processes that read images.
        threads: of torch; it decides on the last bits, so it is no matter of the machine.
        processes: of torchrun on one worker.
        nodes: workers that train together.
    """

    data: str | None = None
    split: str | None = None
    ids: str | None = None
    keep: Literal["clean", "control"] = "clean"
    scratch: Scratch | None = None
    model: Many[str] = ("builtin:tiny-clip",)
    recipe: Annotated[str, AfterValidator(_whole_file)] = "tiny"
    set: dict[str, Any] = Field(default_factory=dict)
    seed: Many[int] = (0,)
    classes: Place | None = None
    interpolate: str | None = None
    workers: int = Field(1, ge=0)
    threads: int = Field(1, ge=1)
    processes: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.data is None) == (self.split is None):
            raise ValueError("either data or split was expected")
        if self.ids is not None and self.data is None:
            raise ValueError("ids are of the samples of data: give data too")
        return self

    @model_validator(mode="after")
    def _scratch_is_alone(self) -> Self:
        adapting = {"model", "recipe", "set", "interpolate", "processes", "nodes"}
        given = sorted(adapting & self.model_fields_set)
        if self.scratch is not None and given:
            raise ValueError(f"scratch: trained from nothing, so {', '.join(given)} say nothing")
        return self


class EvalEntry(Settings):
    """Models that are measured: a step for each.

    Attributes:
        models: names of training entries, or of models.
        data: sets by the names under which `curate eval` knows them.
        splits: splits by the same names, ENTRY or ENTRY@THRESHOLD.
        suite: settings that belong together.
        settings: further ones.
        whole: further ones, which are measured on all images whatever `limit` is.
        surrogate: a model for transfer attacks.
        limit: images of each set.
        seed: of all draws.
        batch: images at a time.
        precision: of the tower.
        texts: whose class names and templates.
    """

    models: Many[Model]
    data: dict[str, str] = Field(min_length=1)
    splits: dict[str, str] = Field(default_factory=dict)
    suite: str | None = None
    settings: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    whole: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    surrogate: Model | None = None
    limit: int | None = Field(None, ge=1)
    seed: int = 0
    batch: int = Field(128, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    texts: Literal["openai", "tecoa"] = "openai"

    @model_validator(mode="after")
    def _splits_are_of_data(self) -> Self:
        for name in self.splits:
            if name not in self.data:
                raise ValueError(f"splits: {name} is not among data ({', '.join(self.data)})")
        if self.suite is None and not self.settings and not self.whole:
            raise ValueError("nothing is measured: give suite, settings or whole")
        return self


class OverlapEntry(Settings):
    """How figures with and without near-duplicates are compared; see `curate eval overlap`."""

    adjust: Literal["holm", "bonferroni"] = "holm"


class FindingEntry(Settings):
    """The one result that the last page begins with, chosen before anything is measured.

    Attributes:
        model: a training entry with one model, or a model; what near-duplicates add to it is told.
        setting: on which it is measured.
        against: another model, such as the same without the leaked images; none: told alone.
    """

    model: Model
    setting: str
    against: Model | None = None


class FlowConfig(Settings):
    """A flow.

    Attributes:
        name: of the study.
        out: the run folder.
        variables: texts for `${NAME}` elsewhere in the file.
        cluster: where units run.
        needs: what a unit of a kind of step needs of its worker, such as embed: {GPU: 1}.
        device: auto, cpu or cuda.
        threads: image decoders per worker.
        sets: what is at hand, by name.
        dedup: what is cleaned of what.
        train: what is trained.
        eval: what is measured.
        overlap: how it is compared; none: it is not.
        finding: the result that the last page begins with; none: the largest change.
    """

    name: Name
    out: PlaceText
    variables: dict[str, str | int | float] = Field(default_factory=dict)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    needs: dict[str, dict[str, float]] = Field(default_factory=dict)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=1)
    sets: dict[Name, SetConfig] = Field(min_length=1)
    dedup: dict[Name, DedupEntry] = Field(default_factory=dict)
    train: dict[Name, TrainEntry] = Field(default_factory=dict)
    eval: dict[Name, EvalEntry] = Field(default_factory=dict)
    overlap: OverlapEntry | None = Field(default_factory=OverlapEntry)
    finding: FindingEntry | None = None
