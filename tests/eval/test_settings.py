"""A setting is one word, read and written without loss; what is wrong with a word is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError
from eval.records import PARTS
from eval.settings import RESOLUTIONS, Aim, Setting, parse_setting

DATASETS = ("cifar10", "imagenet", "imagenet-c", "imagenetv2-threshold0.7", "mine")


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("cifar10", Setting("cifar10")),
        ("cifar10.fog.3", Setting("cifar10", "fog", 3)),
        ("imagenet-c.fog.3#control", Setting("imagenet-c", "fog", 3, split="control")),
        ("imagenetv2-threshold0.7", Setting("imagenetv2-threshold0.7")),
        ("imagenetv2-threshold0.7.fog.1", Setting("imagenetv2-threshold0.7", "fog", 1)),
        ("cifar10@fgsm", Setting("cifar10", attack=Aim("fgsm", 4, "native"))),
        ("cifar10@pgd-20.eps0.5", Setting("cifar10", attack=Aim("pgd-20", 0.5, "native"))),
        ("cifar10@cw-l2.input", Setting("cifar10", attack=Aim("cw-l2", 4, "input"))),
        ("mine@bim.l2.eps128", Setting("mine", attack=Aim("bim", 128, "native", "l2"))),
        (
            "mine.typographic@apgd-ce+dlr.eps1.native#clean",
            Setting("mine", "typographic", None, Aim("apgd-ce+dlr", 1, "native"), "clean"),
        ),
    ],
)
def test_a_word_is_read(text: str, setting: Setting) -> None:
    assert parse_setting(text, DATASETS) == setting


def test_what_an_attack_leaves_out_comes_from_the_profile() -> None:
    found = parse_setting("mine@bim", DATASETS, eps=8, at="input")
    assert found.attack == Aim("bim", 8, "input")
    assert str(found) == "mine@bim.eps8.input"


@given(st.floats(0, 255, exclude_min=True))
def test_a_radius_is_kept_or_refused(eps: float) -> None:
    try:
        found = parse_setting("mine@bim", DATASETS, eps=eps)
    except CurateError:
        return
    assert found.attack == Aim("bim", eps, "native")
    assert parse_setting(str(found), DATASETS) == found


@pytest.mark.parametrize("eps", ["0.0001", "0.123456", "127.5", "4.000", "8.00000000"])
def test_radii_of_six_digits_are_kept(eps: str) -> None:
    found = parse_setting(f"mine@bim.eps{eps}", DATASETS)
    assert found.attack == Aim("bim", float(eps), "native")
    assert parse_setting(str(found), DATASETS) == found


attacks = st.builds(
    Aim,
    st.sampled_from(["fgsm", "pgd-20", "apgd-ce+dlr", "cw-l2", "transfer-mim"]),
    st.sampled_from([0.25, 0.5, 1.0, 4.0, 8.0, 12.5, 255.0]),
    st.sampled_from(RESOLUTIONS),
    st.sampled_from([None, "l2", "linf"]),
)


@given(
    st.builds(
        Setting,
        st.sampled_from(DATASETS),
        st.sampled_from(["fog", "typographic", "pm10"]),
        st.none() | st.integers(1, 5),
        st.none() | attacks,
        st.none() | st.sampled_from(PARTS),
    )
)
def test_reading_undoes_writing(setting: Setting) -> None:
    assert parse_setting(str(setting), DATASETS) == setting


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cifar1", "did you mean 'cifar10'"),
        ("", "no data set"),
        ("cifar10.fog.9x", "severity '9x'"),
        ("cifar10.fog.0", "severity '0'"),
        ("cifar10@pgd-20.eps4.natve", "did you mean 'native'"),
        ("cifar10@", "NAME.epsRADIUS.native"),
        ("cifar10@PGD", "NAME.epsRADIUS.native"),
        ("cifar10@pgd.eps1.2.3", "no number"),
        ("cifar10@pgd.eps0", "above 0"),
        ("cifar10@pgd.eps256", "at most 255"),
        ("cifar10@pgd.eps0.1234567", "eps 0.1234567 cannot be kept .* six significant digits"),
        ("cifar10@pgd.eps0.00001", "eps 1e-05 cannot be kept .* no less than 0.0001"),
        ("cifar10#clen", "did you mean 'clean'"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(CurateError, match=words) as caught:
        parse_setting(text, DATASETS)
    assert text in str(caught.value)
