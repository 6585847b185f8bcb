"""Detectors: every one has a threshold above its floor, and says what it rests on."""

import re

import pytest

from curate.detectors import DEFAULT, LAYOUT, all_detectors, find_detector
from curate.encoders import EncoderSpec, load_encoder
from curate.encoders.hashes import KINDS, cosine
from curate.encoders.torchscript import SSCD
from curate.errors import CurateError
from curate.views import VIEWS

NAMES = [
    "builtin:layout", "open_clip:ViT-B-32/openai", "timm:resnet50", "torchscript:sscd.pt",
    "isc:ft_v107/random", *(detector.encoder for detector in all_detectors()),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_keeps_its_name_and_has_usable_numbers(name: str) -> None:
    found = find_detector(name)
    assert found.encoder == name
    assert -1 <= found.floor < found.threshold <= 1
    assert found.views[0] == "identity"
    assert set(found.views) <= set(VIEWS)
    assert found.evidence


def test_the_built_in_detector_is_the_one_of_its_name() -> None:
    assert find_detector(LAYOUT.encoder) == LAYOUT
    assert find_detector(DEFAULT.encoder) == DEFAULT


@pytest.mark.parametrize(("name", "threshold"), [
    ("sscd:disc_mixup", 0.75), ("torchscript:sscd.pt", 0.75), ("isc:ft_v107", 0.604169),
    ("open_clip:RN50x16/openai", 0.95), ("phash:phash", cosine(8)), ("phash:whash", cosine(0)),
])  # fmt: skip
def test_the_published_thresholds_are_kept(name: str, threshold: float) -> None:
    assert find_detector(name).threshold == threshold


def test_what_rests_on_another_models_figure_says_so() -> None:
    assert "90 % precision on DISC at this cosine" in find_detector("sscd:disc_mixup").evidence
    assert "not for this model" in find_detector("sscd:disc_large").evidence
    assert "not calibrated" in find_detector("open_clip:RN50x16/openai").evidence


def test_all_models_and_hashes_that_can_be_loaded_are_listed_once() -> None:
    listed = [detector.encoder for detector in all_detectors()]
    assert len(set(listed)) == len(listed)
    assert {f"sscd:{name}" for name in SSCD} | {f"phash:{kind}" for kind in KINDS} <= set(listed)
    assert {"open_clip:ARCH/TAG", "timm:NAME", "torchscript:FILE"} <= set(listed)


def test_whitening_keeps_the_detector_and_marks_its_name() -> None:
    assert find_detector("isc:ft_v107+white").threshold == 0.604169
    assert find_detector("isc:ft_v107+white").encoder == "isc:ft_v107+white"


@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_of_a_hash_is_a_number_of_bits(kind: str) -> None:
    found = find_detector(load_encoder(EncoderSpec(f"phash:{kind}")).name)
    assert {found.floor, found.threshold} <= {cosine(bits) for bits in range(20)}


@pytest.mark.parametrize("name", [
    "", "layout", "BUILTIN:layout", "ssd:disc_mixup", " builtin:x", "builtin:x", "sscd:disc",
    "isc:v107", "phash:ahash", "layout+white",
])  # fmt: skip
def test_an_unknown_detector_names_the_families(name: str) -> None:
    with pytest.raises(
        CurateError, match=f"--detector {re.escape(name)}: one that starts with builtin:, open_"
    ):
        find_detector(name)


def test_an_unknown_detector_is_told_the_nearest_one() -> None:
    with pytest.raises(CurateError, match=r"did you mean sscd:disc_mixup\?"):
        find_detector("ssd:disc_mixup")
