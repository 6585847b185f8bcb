"""Small CLIP models of every kind of tower, each loaded once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from small_clips import write_clip

from eval.models.classifier import Clip, load_clip_model

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clip]:
    """Kind of tower, a name of `small_clips.TOWERS` -> model. Nobody may change it."""

    @functools.cache
    def load(kind: str) -> Clip:
        folder = write_clip(kind, tmp_path_factory.mktemp("clips") / kind)
        return load_clip_model("open_clip:local-dir", str(folder), "cpu")

    return load
