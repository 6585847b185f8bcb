"""One small CLIP model for all tests of this folder."""

from __future__ import annotations

import pytest
from small_clips import write_clip

from eval.models.classifier import Clip, ZeroShot, class_texts, load_clip_model

NAMES = ("cat", "dog", "horse", "ship", "truck")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = write_clip("vit", tmp_path_factory.mktemp("clips") / "vit")
    return load_clip_model("open_clip:local-dir", str(folder), "cpu")


@pytest.fixture(scope="session")
def classifier(clip: Clip) -> ZeroShot:
    return clip.classifier(class_texts(clip, NAMES, ["a photo of a {}"]))
