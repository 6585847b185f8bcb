"""What is asked of `curate eval`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from curate.errors import CurateError
from curate.storage import local_artifact, local_path
from eval.settings import Setting, parse_setting
from eval.suites import TRANSFER, find_suite, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from eval.datasets.texts import Profile

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class ModelRequest:
    """A model, and which texts stand for the classes.

    Attributes:
        name: see `eval.models.model.load_model`; or the folder of a finished `curate train`.
        weights: a local file or folder in the place of the published weights.
        device: auto, cpu or cuda.
        precision: of the tower, fp32 or bf16.
        prefixes: a file of found prompts, which take the place of templates.
        top: how many of them.
    """

    name: str
    weights: str | None = None
    device: Device = "auto"
    precision: str = "fp32"
    prefixes: str | None = None
    top: int | None = None

    def here(self) -> ModelRequest:
        """The same with all that is given by a URL fetched to this machine."""
        name = local_artifact(self.name)
        return replace(self, name=name, weights=_here(self.weights), prefixes=_here(self.prefixes))


@dataclass(frozen=True)
class Source:
    """A data set that was given.

    Attributes:
        name: of the registry of data sets, or any other.
        folder: where it is.
        split: the folder of a split that `curate dedup` wrote of it; None: there is none.
    """

    name: str
    folder: str
    split: str | None = None

    def here(self) -> Source:
        """The same with all that is given by a URL fetched to this machine."""
        return replace(self, folder=str(local_path(self.folder)), split=_here(self.split))


@dataclass(frozen=True)
class EvalRequest:
    """Settings to measure.

    Attributes:
        model: what is measured.
        sources: the data sets.
        settings: what is measured on them, words of `eval.settings`.
        out: folder of the results, a folder for each setting in it.
        shared: where images that are made, and decoded ones, are kept for all models; None: beside
            `out`.
        surrogate: where transfer attacks take their gradients from.
        limit: images of each data set, drawn with `seed`; None: all.
        whole: words of settings that are measured on all images all the same.
        seed: of all draws.
        batch: images at a time; it does not show in the results.
        texts: whose class names and templates, openai or tecoa.
        words: a label map, of what is written on typographic images; None: drawn with `seed`.
    """

    model: ModelRequest
    sources: tuple[Source, ...]
    settings: tuple[str, ...]
    out: Path
    surrogate: ModelRequest | None = None
    limit: int | None = None
    whole: frozenset[str] = frozenset()
    shared: Path | None = None
    seed: int = 0
    batch: int = 128
    texts: Profile = "openai"
    words: str | None = None

    def here(self) -> EvalRequest:
        """The same with all that is given by a URL fetched to this machine.

        Raises:
            CurateError: something cannot be fetched.
        """
        return replace(
            self,
            model=self.model.here(),
            sources=tuple(source.here() for source in self.sources),
            surrogate=None if self.surrogate is None else self.surrogate.here(),
            words=_here(self.words),
        )

    def setting(self, word: str) -> Setting:
        """Read a setting on one of the data sets."""
        return parse_setting(word, [source.name for source in self.sources])

    @property
    def images(self) -> Path:
        """The folder of made and decoded images."""
        return self.out.parent if self.shared is None else self.shared

    def limit_of(self, setting: Setting) -> int | None:
        """How many images of its data set a setting is measured on; None: all."""
        return None if str(setting) in self.whole else self.limit

    def source(self, name: str) -> Source:
        """The data set of a name."""
        return next(source for source in self.sources if source.name == name)


def whole_words(sources: Sequence[Source], words: Iterable[str]) -> frozenset[str]:
    """Settings that are measured on all images, in the one way to write them."""
    names = [source.name for source in sources]
    return frozenset(str(parse_setting(word, names)) for word in words)


def _here(place: str | None) -> str | None:
    return None if place is None else str(local_path(place))


def chosen_limit(limit: int | None, suite: str | None) -> int | None:
    """How many images of each set are measured: as given, or as the suite has it; None: all."""
    if limit is None and suite is not None:
        return find_suite(suite).limit
    return limit


def chosen_settings(
    sources: Sequence[Source], suite: str | None, words: Iterable[str], *, has_surrogate: bool
) -> tuple[list[str], list[str]]:
    """The settings of a suite and those asked for one by one, each once.

    Returns:
        Words of what can be measured, and of what cannot for want of a surrogate.

    Raises:
        CurateError: nothing is asked for, a word is wrong, or a transfer attack is asked for by its
            word without a surrogate.
    """
    names = [source.name for source in sources]
    asked = [str(parse_setting(word, names)) for word in words]
    if suite is not None:
        members = [str(one) for name in names for one in settings_of(find_suite(suite), name)]
        left_out = [word for word in members if _is_transfer(word) and not has_surrogate]
        asked = [*(word for word in members if word not in set(left_out)), *asked]
    else:
        left_out = []
    asked = list(dict.fromkeys(asked))
    if not asked:
        raise CurateError("no setting was asked for: give --suite NAME or --setting WORD")
    lacking = [word for word in asked if _is_transfer(word) and not has_surrogate]
    if lacking:
        raise CurateError(
            f"setting {lacking[0]}: takes its gradients from a surrogate; name one with --surrogate"
        )
    return asked, left_out


def _is_transfer(word: str) -> bool:
    return f"@{TRANSFER}" in word
