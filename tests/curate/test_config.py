"""Settings from flags and YAML: defaults, conflicts, and messages that name the remedy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.config import DedupConfig, EmbedConfig, make_config, read_yaml
from curate.dedup import check_threshold
from curate.detectors import DEFAULT, LAYOUT
from curate.errors import CurateError
from curate.verification.verifiers import PIXELS_THRESHOLD

SIDES = {"test": ("a",), "train": ("b",), "out": Path("run")}


def made(**values: Any) -> DedupConfig:
    return make_config(DedupConfig, SIDES | values, "here")


def test_threshold_and_floor_come_from_the_detector() -> None:
    config = made()
    assert (config.detector, config.by_pixels) == (DEFAULT.encoder, True)
    assert (config.chosen_threshold, config.chosen_floor) == (PIXELS_THRESHOLD, DEFAULT.floor)
    config = made(detector=LAYOUT.encoder)
    assert (config.chosen_threshold, config.chosen_floor) == (LAYOUT.threshold, LAYOUT.floor)
    config = made(detector="torchscript:sscd.pt")
    assert (config.chosen_threshold, config.chosen_floor) == (0.75, 0.60)


def test_a_low_threshold_takes_the_floor_with_it_and_a_high_one_does_not() -> None:
    layout = {"detector": LAYOUT.encoder}
    assert made(threshold=0.5, **layout).chosen_floor == 0.4
    assert made(threshold=0.99, **layout).chosen_floor == LAYOUT.floor
    assert made(threshold=-0.95, **layout).chosen_floor == -1
    assert made(threshold=0.5, floor=0.45).match_settings().floor == 0.45


@settings(deadline=None, max_examples=100)
@given(st.floats(-1, 1))
def test_the_floor_that_is_chosen_allows_the_threshold(threshold: float) -> None:
    config = made(threshold=threshold, detector=LAYOUT.encoder)
    assert -1 <= config.chosen_floor <= threshold
    check_threshold(config.chosen_threshold, config.chosen_floor)


def test_a_floor_above_the_threshold_is_refused_also_above_the_default_one() -> None:
    layout = {"detector": LAYOUT.encoder}
    made(threshold=0.9, floor=0.9, **layout)
    with pytest.raises(CurateError, match=r"here: floor 0\.95 is above the threshold 0"):
        made(floor=0.95, **layout)


def test_flags_are_not_given_when_they_are_none() -> None:
    assert made(threshold=None, weights=None, workers=None).workers == 1


@pytest.mark.parametrize(("wrong", "message"), [
    ({"treshold": 0.9}, r"treshold is no setting \(did you mean threshold\?\)"),
    ({"zzz": 1}, r"zzz is no setting$"),
    ({"threshold": 2}, r"threshold: .* less than or equal to 1 \(given: 2\)"),
    ({"threshold": "high"}, r"threshold: .*valid number.*\(given: 'high'\)"),
    ({"threshold": float("nan")}, "threshold: "),
    ({"workers": 0}, "workers: .* greater than or equal to 1"),
    ({"workers": 1.5}, "workers: .*integer"),
    ({"search": "hnsw"}, "search: .*'exact', 'flat', 'ivf'"),
    ({"write": ["clean", "unknown"]}, r"write\.1: "),
    ({"test": "a.tar"}, "test: .*tuple"),
    ({"cap": 0}, "cap: "),
    ({"seed": -1}, "seed: "),
    ({"seed": 2**31}, "seed: "),
    ({"dtype": "int8"}, "dtype: "),
])  # fmt: skip
def test_a_wrong_setting_is_named_with_what_was_expected(wrong: Any, message: str) -> None:
    with pytest.raises(CurateError, match=f"^here: {message}"):
        made(**wrong)


def test_thresholds_of_test_sets_are_given_as_flags_or_as_a_mapping() -> None:
    flags = made(threshold_for=["a=0.9", "odd=name=0.5"])
    assert flags.threshold_for == {"a": 0.9, "odd=name": 0.5}
    assert made(threshold_for={"a": 0.9, "odd=name": 0.5}) == flags
    for wrong in (["a"], ["=0.5"], ["a=high"], {"a": 2}):
        with pytest.raises(CurateError, match=r"^here: threshold_for"):
            made(threshold_for=wrong)


def test_a_calibrated_threshold_is_asked_for_by_a_word() -> None:
    assert made(threshold="auto", calibration=Path("run")).threshold == "auto"
    assert made(threshold="0.9").threshold == 0.9
    with pytest.raises(CurateError, match=r"^here: calibration is given, but not used"):
        made(threshold=0.9, calibration=Path("run"))


@pytest.mark.parametrize(("more", "named"), [
    ({"strip": "train"}, "strip"),
    ({"search": "flat"}, "search"),
    ({"index": Path("i")}, "index"),
    ({"nearest": True}, "nearest"),
    ({"captions": True}, "captions"),
    ({"within": True, "train": ()}, "within"),
    ({"search": "ivf", "nearest": True}, "search, nearest"),
])  # fmt: skip
def test_fused_goes_without_what_needs_train_vectors(more: Any, named: str) -> None:
    assert made(fused=True).fused
    made(**more)
    with pytest.raises(CurateError, match=f"^here: fused joins two sets .* without {named}$"):
        made(fused=True, **more)


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(CurateError) as caught:
        make_config(DedupConfig, {"test": ("a",), "flor": 0.5, "cap": "x"}, "here")
    for part in ("out is missing", "did you mean floor", "cap: "):
        assert part in str(caught.value)


def test_a_huge_wrong_value_is_not_repeated_whole() -> None:
    with pytest.raises(CurateError) as caught:
        made(threshold=["x" * 1000] * 1000)
    assert len(str(caught.value)) < 1000


def test_within_and_train_exclude_each_other() -> None:
    alone = {"test": ("a",), "out": Path("run"), "within": True}
    assert make_config(DedupConfig, alone, "here").match_settings().within
    for more in ({"train": ("b",)}, {"strip": "train"}, {"index": Path("i")}, {"search": "ivf"}):
        with pytest.raises(CurateError, match="within compares --test with itself"):
            make_config(DedupConfig, alone | more, "here")
    with pytest.raises(CurateError, match=r"train is missing .*--within"):
        make_config(DedupConfig, {"test": ("a",), "out": Path("run")}, "here")


def test_an_unknown_detector_is_a_clear_error() -> None:
    with pytest.raises(CurateError, match="--detector nothing: one that starts with"):
        made(detector="nothing")


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        made().seed = 3


def test_what_decides_on_embeddings_is_passed_on() -> None:
    config = EmbedConfig(
        detector="timm:x", weights=Path("w.safetensors"), precision="bf16", device="cpu",
        compile=True, batch_size=3, dtype="float32", captions=True, decode="scaled",
    )  # fmt: skip
    found = config.embed_settings(("identity", "mirror"))
    spec = found.encoder
    assert (spec.name, spec.weights, spec.precision) == ("timm:x", "w.safetensors", "bf16")
    assert (spec.device, spec.compile, spec.batch_size) == ("cpu", True, 3)
    assert (spec.decode, EmbedConfig().embed_settings().encoder.decode) == ("scaled", "exact")
    assert (found.views, found.dtype, found.captions) == (("identity", "mirror"), "float32", True)
    assert EmbedConfig().embed_settings().encoder.weights is None


def test_match_settings_carry_the_limits() -> None:
    found = made(cap=7, probes=3, threshold=0.7).match_settings()
    assert (found.cap, found.probes, found.within) == (7, 3, False)
    assert np.float32(found.floor) == np.float32(0.6)


def test_yaml_names_are_those_of_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("test: [a, b]\ntrain: [c]\nout: run\ntest-name: mine\nthreshold: 0.9\n")
    config = make_config(DedupConfig, read_yaml(path), str(path))
    assert (config.test, config.test_name, config.threshold) == (("a", "b"), "mine", 0.9)


@pytest.mark.parametrize("text", [
    "", "- a\n- b", "just words", "a: [", "\tx: 1", "x: !!python/object/apply:os.system [true]",
    "when: 2020-13-45", "[" * 5000, b"\xff\xfe\x00",
])  # fmt: skip
def test_a_file_that_is_no_mapping_is_a_clear_error(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CurateError, match=r"run\.yaml: (not readable as YAML|a mapping)"):
        read_yaml(path)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"gone\.yaml: not readable"):
        read_yaml(tmp_path / "gone.yaml")


# --- views and background ------------------------------------------------------------------------


def test_views_are_the_detectors_unless_given_as_a_list_or_with_commas() -> None:
    assert made().test_views == DEFAULT.views
    for value in ("identity,trim", ["identity", "trim"]):
        assert made(views=value).test_views == ("identity", "trim")
    with pytest.raises(CurateError, match="'miror' is no view; did you mean 'mirror'"):
        made(views="identity,miror")
    with pytest.raises(CurateError, match="the first has to be identity"):
        made(views=["trim"])


def test_whitening_goes_into_the_encoder_and_its_name() -> None:
    whitened = made(whiten=True, background=Path("b.npy"), threshold=0.4)
    assert whitened.embed_settings().encoder.whiten == "b.npy"
    assert whitened.encoder_name == "builtin:copy+white"
    normalised = made(beta=1.0, background=Path("b.npy"), threshold=0.4)
    assert normalised.embed_settings().encoder.whiten is None
    assert normalised.encoder_name == "builtin:copy"


@pytest.mark.parametrize(("more", "message"), [
    ({"whiten": True, "threshold": 0.4}, "give background too"),
    ({"beta": 1.0, "threshold": 0.4}, "give background too"),
    ({"background": Path("b")}, "nothing uses it: give whiten or beta too"),
    ({"background": Path("b"), "whiten": True}, "threshold is missing"),
    ({"background": Path("b"), "beta": 1.0}, "threshold is missing"),
    ({"background": Path("b"), "beta": 0.0, "threshold": 0.4}, "beta: .*greater than 0"),
    ({"background": Path("b"), "beta": 1.0, "neighbours": 0, "threshold": 0.4}, "neighbours: "),
    ({"background": Path("b"), "beta": 1.0, "threshold": 0.4, "search": "ivf", "min_recall": 0.9},
     "no within or min-recall"),
    ({"background": Path("b"), "beta": 1.0, "threshold": 0.4, "within": True, "train": ()},
     "no within or min-recall"),
])  # fmt: skip
def test_a_background_and_its_uses_belong_together(more: Any, message: str) -> None:
    with pytest.raises(CurateError, match=message):
        made(**more)


def test_embedding_uses_a_background_for_whitening_alone() -> None:
    with pytest.raises(CurateError, match="nothing uses it: give whiten too"):
        make_config(EmbedConfig, {"background": Path("b")}, "here")
    assert make_config(EmbedConfig, {"background": Path("b"), "whiten": True}, "here").refines


@pytest.mark.parametrize("memory", [0, -1, float("inf"), float("nan")])
def test_memory_is_a_number_of_gigabytes(memory: float) -> None:
    with pytest.raises(CurateError, match="memory: "):
        made(memory=memory)
