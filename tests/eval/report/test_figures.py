from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sample_rows import rows

from eval.figures import metrics
from eval.report import Inputs
from eval.report.figures import Numbers, attack_words, numbers
from eval.results import Result
from eval.settings import Aim, Setting

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = "builtin:tiny-clip"


@pytest.fixture(scope="module")
def found(inputs: Inputs) -> Numbers:
    return numbers(inputs)


def plain(settings: Sequence[Setting], model: str = "net") -> Inputs:
    frame = rows([True, True, False, False])
    attacked = frame.with_columns(clean_pred=frame["label"])
    return Inputs(
        tuple(Result(model, s, {}, frame if s.attack is None else attacked) for s in settings)
    )


def test_every_result_has_a_row_in_its_place(inputs: Inputs, found: Numbers) -> None:
    assert [(row.model, row.word) for row in found.rows] == [
        (item.model, str(item.setting)) for item in inputs.results
    ]
    assert found.rows[0].accuracy == metrics.accuracy(inputs.results[0].samples)
    assert found.models[0] == MODEL
    assert len(found.models) == 2


def test_compared_results_come_with_the_largest_change_first(found: Numbers) -> None:
    changes = [abs(row.comparison.change.value or 0) for row in found.compared if row.comparison]
    assert changes == sorted(changes, reverse=True)
    assert len(changes) == len(found.rows)


def test_p_values_are_adjusted_over_all_results(found: Numbers) -> None:
    least = min(found.rows, key=lambda row: row.comparison.p or 0 if row.comparison else 2)
    assert least.comparison is not None
    assert least.adjusted == pytest.approx(len(found.rows) * (least.comparison.p or 0))


def test_rows_of_one_split_or_of_none_are_not_compared() -> None:
    alone = plain([Setting("a")])
    assert numbers(alone).compared == ()
    frame = rows([True, False], split=["clean", "overlap"])
    one = Inputs((Result("net", Setting("a", split="clean"), {}, frame),))
    assert numbers(one).compared == ()
    lost = Inputs((Result("net", Setting("a"), {}, rows([True], split=["unknown"])),))
    assert numbers(lost).compared == ()


def test_unreliable_attacks_are_marked_in_their_row_and_bar(found: Numbers) -> None:
    marked = {row.model for row in found.rows if row.unreliable}
    assert marked == {found.models[1]}
    bars = [bar for data in found.attacks for bar in data.bars]
    assert all(bool(bar.unreliable) == (bar.model != MODEL) for bar in bars if bar.attack)
    assert not any(bar.unreliable for bar in bars if not bar.attack)


def test_models_on_both_sets_stand_beside_the_baseline(inputs: Inputs, found: Numbers) -> None:
    (data,) = found.scatters
    assert [dot.model for dot in data.dots] == list(found.models)
    dot = data.dots[0]
    expected = dot.y.known - inputs.shifts[0].baseline.predict(dot.x.known)
    assert dot.above.value == pytest.approx(expected)
    assert dot.change is not None
    other = replace(inputs, shifts=(replace(inputs.shifts[0], y="stl10"),))
    assert numbers(other).scatters == ()


def test_curves_start_at_the_images_as_they_are(found: Numbers) -> None:
    (data,) = found.corrupted
    curve = data.corruptions[0].curves[0]
    assert [severity for severity, _ in curve.points] == [0, 1, 2, 3, 4, 5]
    assert curve.points[0][1] == found.rows[0].accuracy
    assert data.errors[0].mce is None
    assert data.errors[0].mean == pytest.approx(
        1 - sum(rate.known for c in data.corruptions for _, rate in c.curves[0].points[1:]) / 30
    )


def test_imagenet_c_has_an_mce_and_a_missing_severity_none() -> None:
    names = list(metrics.alexnet_errors())
    whole = [Setting("imagenet-c", name, severity) for name in names for severity in range(1, 6)]
    (errors,) = numbers(plain(whole)).corrupted[0].errors
    assert errors.mean == pytest.approx(0.5)
    assert errors.mce == pytest.approx(metrics.mean_corruption_error(dict.fromkeys(names, 0.5)))
    (errors,) = numbers(plain(whole[1:])).corrupted[0].errors
    assert (errors.mean, errors.mce) == (None, None)


def test_attacks_go_from_weak_to_strong_models_side_by_side(found: Numbers) -> None:
    (data,) = found.attacks
    assert [bar.attack for bar in data.bars[::2]] == [
        None, "noise at 4/255", "fgsm at 4/255", "nes at 4/255", "pgd-20 at 4/255",
        "autoattack at 4/255",
    ]  # fmt: skip
    assert [bar.model for bar in data.bars[:2]] == list(found.models)


def test_attacks_are_named_with_radius_norm_and_size() -> None:
    assert (
        attack_words(Aim("cw-l2", 127.5, "input"), "l2") == "cw-l2 at 127.5/255 in L2, model input"
    )


def test_only_images_as_they_are_and_whose_set_was_split_are_swept(found: Numbers) -> None:
    assert [(data.model, data.word) for data in found.sweeps] == [
        (model, "cifar10") for model in found.models
    ]
    thresholds = [point.threshold for point in found.sweeps[0].points]
    assert thresholds == sorted(set(thresholds))
    assert 0.9 in thresholds
    assert thresholds[0] == pytest.approx(0.7)


def test_a_sweep_without_a_clean_image_says_nothing_and_is_left_out(all_overlap: Inputs) -> None:
    found = numbers(all_overlap)
    assert found.sweeps == ()
    assert len(found.compared) == 1


def test_an_attack_without_predictions_before_it_is_not_examined() -> None:
    frame = rows([True])
    setting = Setting("a", attack=Aim("square", 4, "native"))
    assert numbers(Inputs((Result("net", setting, {}, frame),))).health == ()
