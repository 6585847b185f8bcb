"""Detectors: every family has a threshold above its floor, and says what it rests on."""

import pytest

from curate.decode import VIEWS
from curate.detectors import BUILTIN, find_detector
from curate.errors import CurateError

NAMES = ["builtin:layout", "open_clip:ViT-B-32/openai", "timm:resnet50", "torchscript:sscd.pt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_keeps_its_name_and_has_usable_numbers(name: str) -> None:
    found = find_detector(name)
    assert found.encoder == name
    assert -1 <= found.floor < found.threshold <= 1
    assert found.views[0] == "identity"
    assert set(found.views) <= set(VIEWS)
    assert found.evidence


def test_the_built_in_detector_is_the_one_of_its_name() -> None:
    assert find_detector(BUILTIN.encoder) == BUILTIN


def test_the_published_thresholds_are_kept() -> None:
    assert find_detector("torchscript:sscd.pt").threshold == 0.75
    assert find_detector("open_clip:RN50x16/openai").threshold == 0.95


@pytest.mark.parametrize("name", ["", "layout", "BUILTIN:layout", "sscd:disc_mixup", " builtin:x"])
def test_an_unknown_detector_names_the_families(name: str) -> None:
    with pytest.raises(
        CurateError, match=f"--detector {name}: one that starts with builtin:, open_"
    ):
        find_detector(name)
