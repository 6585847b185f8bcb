from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from sample_rows import flags, rows

from curate.errors import CurateError
from eval.figures import metrics
from eval.figures.rates import rate


def test_accuracy_counts_right_images() -> None:
    found = metrics.accuracy(rows(flags(3, 1)))
    assert found == rate(3, 4)
    exact = metrics.accuracy(rows(flags(3, 1)), method="clopper-pearson", confidence=0.995)
    assert exact == rate(3, 4, confidence=0.995, method="clopper-pearson")


def test_frames_of_one_video_widen_the_interval() -> None:
    correct = [i % 40 < 20 for i in range(200)]
    alone = metrics.accuracy(rows(correct))
    videos = metrics.accuracy(rows(correct, group=[f"v{i // 20}" for i in range(200)]))
    assert videos.value == alone.value
    assert videos.method == "cluster-bootstrap"
    assert videos.high - videos.low > 3 * (alone.high - alone.low)


def test_a_row_without_a_group_is_a_cluster_of_its_own() -> None:
    mixed = rows([True, False, True, False], group=["v", "v", None, None])
    sums = metrics.cluster_sums(mixed, [pl.col("correct"), pl.lit(value=True).alias("n")])
    assert sums.tolist() == [[1, 2], [1, 1], [0, 1]]


def test_recall_is_counted_class_by_class() -> None:
    frame = rows([True, True, False, True], label=[7, 2, 2, 2])
    found = metrics.per_class(frame)
    assert found.select("label", "total", "hits").rows() == [(2, 3, 2), (7, 1, 1)]
    assert found["low"].to_list() == [rate(2, 3).low, rate(1, 1).low]


def test_mean_recall_weighs_classes_alike() -> None:
    frame = rows([*flags(9, 1), False], label=[0] * 10 + [1])
    found = metrics.mean_per_class_recall(frame)
    assert found.value == pytest.approx(0.45)
    assert metrics.accuracy(frame).value == pytest.approx(9 / 11)
    # by hand: half the root of the summed squares of the distances to Wilson's ends
    parts = (rate(9, 10), rate(0, 1))
    up = math.hypot(parts[0].high - 0.9, parts[1].high - 0.0) / 2
    assert found.high == pytest.approx(0.45 + up)
    assert metrics.mean_per_class_recall(frame.head(0)).value is None


def test_attack_success_is_of_images_that_were_right() -> None:
    frame = rows([True, False, False, False], clean_pred=[0, 0, 0, 5])
    assert metrics.attack_success(frame) == rate(2, 3)
    with pytest.raises(CurateError, match="of no attack"):
        metrics.attack_success(rows([True]))


def test_the_median_perturbation_leaves_wrong_images_out() -> None:
    frame = rows(
        [False, False, True, False, False],
        clean_pred=[0, 0, 0, 0, 9],
        linf=[1.0, 3.0, 7.0, 2.0, 0.0],  # the third breaks beyond the radius only
    )
    found = metrics.median_perturbation(frame, "linf")
    assert (found.value, found.total, found.unbroken) == (2.5, 4, 0)


def test_images_that_nothing_breaks_count_as_infinite() -> None:
    frame = rows([True, True, False], clean_pred=[0] * 3, linf=[math.inf, None, 1.0])
    found = metrics.median_perturbation(frame, "linf")
    assert (found.value, found.unbroken) == (math.inf, 2)
    half = metrics.median_perturbation(frame.tail(2), "linf")
    assert half.value == math.inf
    assert math.isnan(metrics.median_perturbation(frame.head(0), "linf").value)


def test_the_interval_of_the_median_covers_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        sizes = generator.exponential(1.0, 25)
        frame = rows([False] * 25, clean_pred=[0] * 25, l2=sizes.tolist())
        found = metrics.median_perturbation(frame, "l2")
        inside += found.low <= math.log(2) <= found.high
    assert inside / 300 >= 0.93


def test_attacks_for_the_least_perturbation_are_known_by_name() -> None:
    names = ("deepfool", "cw-l2", "cw-l2-3", "fmn-linf", "fmn-l2", "cw-margin-20", "pgd-20")
    assert [metrics.finds_least(name) for name in names] == [True] * 5 + [False] * 2


def test_a_norm_that_is_not_stated_has_no_median() -> None:
    with pytest.raises(CurateError, match="do not state the l2 norm"):
        metrics.median_perturbation(rows([False], clean_pred=[0]), "l2")


def test_typed_words_are_counted_where_they_are_predicted() -> None:
    frame = rows([True, False, False], word=[1, 1, 5])
    assert metrics.typed_word_rate(frame) == rate(1, 3)
    with pytest.raises(CurateError, match="no typographic set"):
        metrics.typed_word_rate(rows([True]))


def test_an_anchor_is_right_if_all_frames_around_it_are() -> None:
    frame = rows(
        [True, True, True, False, True],
        group=["w", "v", "w", "v", "w"],
        margin=[3.0, 2.0, 1.0, -0.5, 2.0],
    )
    worst = metrics.worst_of_groups(frame)
    assert worst["id"].to_list() == ["a:3", "a:2"]
    assert metrics.accuracy(worst) == rate(1, 2)


def test_a_tie_that_is_wrong_is_worse_than_one_that_is_right() -> None:
    frame = rows([True, False], group=["v", "v"], margin=[0.0, 0.0])
    assert metrics.worst_of_groups(frame)["id"].to_list() == ["a:1"]


def test_groups_must_be_there_and_of_one_label() -> None:
    with pytest.raises(CurateError, match="a group in every row"):
        metrics.worst_of_groups(rows([True]))


def test_an_anchor_is_overlap_if_one_of_its_frames_is() -> None:
    frame = rows(
        [True, False, True, True, True, True],
        group=["a", "a", "b", "b", "c", "c"],
        label=[1, 2, 0, 0, 0, 0],  # several animals, each of them right
        split=["overlap", "clean", "clean", "unknown", "clean", "clean"],
        control=[True, True, True, False, True, True],
    )
    worst = metrics.worst_of_groups(frame)
    assert worst["split"].to_list() == ["overlap", "unknown", "clean"]
    assert worst["control"].to_list() == [True, False, True]
    assert worst["correct"].to_list() == [False, True, True]


def test_a_flip_rate_is_a_mean_over_sequences() -> None:
    frame = rows([True] * 3, comparisons=[30, 30, 10], flips=[3, 0, 5])
    found = metrics.flip_rate(frame)
    assert found.value == pytest.approx((0.1 + 0 + 0.5) / 3)
    assert found.low <= 0.2 <= found.high
    assert found == metrics.flip_rate(frame)
    with pytest.raises(CurateError, match="no perturbation sequences"):
        metrics.flip_rate(rows([True]))
    with pytest.raises(CurateError, match="no perturbation sequences"):
        metrics.flip_rate(rows([True], comparisons=[0], flips=[0]))


def test_mean_flip_rate_divides_kind_by_kind() -> None:
    found = metrics.mean_flip_rate({"scale": 0.1, "tilt": 0.3}, {"scale": 0.2, "tilt": 0.2})
    assert found == pytest.approx((0.5 + 1.5) / 2)
    with pytest.raises(CurateError, match="tilt: the reference has no flip rate above 0"):
        metrics.mean_flip_rate({"tilt": 0.1}, {"tilt": 0.0})


def test_corruption_errors_average_five_severities() -> None:
    accuracies = {("fog", severity): 1 - severity / 10 for severity in range(1, 6)}
    assert metrics.corruption_errors(accuracies) == {"fog": pytest.approx(0.3)}
    del accuracies["fog", 2]
    with pytest.raises(CurateError, match=r"fog: has severities \[1, 3, 4, 5\]"):
        metrics.corruption_errors(accuracies)


def test_alexnet_itself_has_an_mce_of_one_and_half_its_errors_one_half() -> None:
    errors = metrics.alexnet_errors()
    assert len(errors) == 15
    assert metrics.mean_corruption_error(errors) == pytest.approx(1)
    halved = {name: error / 2 for name, error in errors.items()}
    assert metrics.mean_corruption_error(halved | {"saturate": 0.9}) == pytest.approx(0.5)


def test_a_resnet_50_has_its_published_mce() -> None:
    # D. Hendrycks, T. Dietterich, ICLR 2019, table 1: corruption errors of ResNet-50 and mCE 76.7
    stated = {
        "gaussian_noise": 80,
        "shot_noise": 82,
        "impulse_noise": 83,
        "defocus_blur": 75,
        "glass_blur": 89,
        "motion_blur": 78,
        "zoom_blur": 80,
        "snow": 78,
        "frost": 75,
        "fog": 66,
        "brightness": 57,
        "contrast": 71,
        "elastic_transform": 85,
        "pixelate": 77,
        "jpeg_compression": 77,
    }
    alexnet = metrics.alexnet_errors()
    errors = {name: alexnet[name] * value / 100 for name, value in stated.items()}
    assert 100 * metrics.mean_corruption_error(errors) == pytest.approx(76.7, abs=0.3)


def test_mce_on_imagenet_c_needs_all_corruptions_and_elsewhere_a_reference() -> None:
    with pytest.raises(CurateError, match="fifteen corruptions; brightness, "):
        metrics.mean_corruption_error({"fog": 0.5})
    assert metrics.mean_corruption_error({"fog": 0.5}, {"fog": 0.25}) == 2
    with pytest.raises(CurateError, match="fog: the reference has no error above 0"):
        metrics.mean_corruption_error({"fog": 0.5}, {"snow": 0.25})
    with pytest.raises(CurateError, match="at least one kind"):
        metrics.mean_corruption_error({}, {"fog": 1.0})


def test_means_over_data_sets_leave_out_what_they_are_asked_to() -> None:
    found = {"imagenet": rate(9, 10), "pcam": rate(5, 10), "hateful-memes": rate(4, 10)}
    assert metrics.suite_mean(found).value == pytest.approx(0.6)
    assert metrics.suite_mean(found, without=["hateful-memes"]).value == pytest.approx(0.7)
    assert metrics.suite_mean(found, ["hateful-memes", "pcam"]).value == pytest.approx(0.9)
    with pytest.raises(CurateError, match="mnist: not among"):
        metrics.suite_mean(found, ["mnist"])
    with pytest.raises(CurateError, match="at least one"):
        metrics.suite_mean({"pcam": rate(1, 2)}, ["pcam"])


def test_a_paired_difference_has_newcombes_interval() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 2635-2650, table II, 36, 12, 2, 0
    before = rows(flags(36, 12) + flags(2, 0))
    after = rows(flags(36, 0) + [True] * 12 + [False] * 2)
    found = metrics.paired_difference(after, before)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (
        pytest.approx(0.0569, abs=5e-5),
        pytest.approx(0.3404, abs=5e-5),
    )


def test_no_change_has_an_interval_around_zero() -> None:
    frame = rows(flags(30, 20))
    found = metrics.paired_difference(frame, frame)
    assert found.value == 0
    assert found.low < 0 < found.high


def test_a_difference_of_clustered_images_resamples_clusters() -> None:
    groups = [f"v{i // 10}" for i in range(100)]
    before = rows(flags(50, 50), group=groups)
    after = rows(flags(70, 30), group=groups)
    found = metrics.paired_difference(after, before)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0, abs=0.05)
    assert found.high == pytest.approx(0.5, abs=0.05)


def test_a_difference_needs_the_same_images() -> None:
    frame = rows([True, False])
    for other in (frame.head(1), frame.head(0)):
        with pytest.raises(CurateError, match="rows of the same images"):
            metrics.paired_difference(other, frame if other.height else other)
