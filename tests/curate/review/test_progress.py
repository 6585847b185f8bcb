"""What labels say of a run: shares, intervals, and what spoils them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reviewing import FLOOR, TAU, row, write_pairs

from curate.review.progress import (
    COPY,
    NO_COPY,
    OPEN,
    UNJUDGED,
    BandProgress,
    Precision,
    as_json,
    band_progress,
    precision,
    removed,
)
from curate.review.queue import PLAN, Pairs, Queue, arrange, read_pairs
from curate.stats import wilson


@pytest.fixture
def judged_run(tmp_path: Path) -> tuple[Pairs, Queue]:
    """30 test images; each has a best pair, and a second one 0.001 below it."""
    scores = np.linspace(0.801, 0.999, 30)
    rows = [row(n, m, float(score) - 0.001 * m) for n, score in enumerate(scores) for m in range(2)]
    pairs = read_pairs(write_pairs(tmp_path / "pairs.parquet", rows))
    return pairs, arrange(pairs, TAU, FLOOR)


def progress(found: tuple[Pairs, Queue], said: dict[int, int]) -> dict[str, BandProgress]:
    verdict = np.full(len(found[0]), UNJUDGED, np.int8)
    verdict[list(said)] = list(said.values())
    return band_progress(*found, verdict, verdict == COPY)


def test_only_best_pairs_make_the_precision(judged_run: tuple[Pairs, Queue]) -> None:
    pairs, queue = judged_run
    order = queue.orders["high"].tolist()
    best, others = order[: queue.images["high"]], order[queue.images["high"] :]
    assert not pairs.is_best[others].any()
    said = {best[0]: COPY, best[1]: COPY, best[2]: NO_COPY, best[3]: OPEN, others[0]: NO_COPY}
    band = progress(judged_run, said)["high"]
    assert (band.precision.copies, band.precision.judged, band.open) == (2, 3, 1)
    assert (band.precision.low, band.precision.high) == wilson(2, 3)
    assert (band.judged, band.mine, band.skipped) == (5, 2, 0)
    assert (band.pairs, band.images) == (len(order), len(best))


def test_pairs_passed_over_are_counted(judged_run: tuple[Pairs, Queue]) -> None:
    _, queue = judged_run
    best = queue.orders["high"][: queue.images["high"]].tolist()
    assert progress(judged_run, {best[4]: COPY, best[1]: COPY})["high"].skipped == 3
    assert progress(judged_run, dict.fromkeys(best, COPY))["high"].skipped == 0


def test_without_labels_nothing_is_known(judged_run: tuple[Pairs, Queue]) -> None:
    bands = progress(judged_run, {})
    assert all(band.precision == Precision(0, 0, None, 0.0, 1.0) for band in bands.values())
    assert removed(bands).share is None
    assert as_json(bands)[0]["name"] == "above"


def part(images: int, copies: int, judged: int) -> BandProgress:
    return BandProgress(images, images, judged, judged, 0, 0, precision(copies, judged))


def test_what_is_removed_weighs_bands_by_their_images() -> None:
    found = removed({"above": part(100, 5, 10), "high": part(900, 30, 30), "low": part(50, 0, 9)})
    assert found.share == pytest.approx(0.1 * 0.5 + 0.9 * 1.0)
    low, high = wilson(5, 10)
    far = wilson(30, 30)[0]
    assert found.low == pytest.approx(0.95 - np.hypot(0.1 * (0.5 - low), 0.9 * (1 - far)))
    assert found.high == pytest.approx(0.95 + 0.1 * (high - 0.5))
    assert (found.copies, found.judged) == (35, 40)


def test_of_one_band_alone_the_interval_is_wilsons() -> None:
    found = removed({"above": part(100, 5, 10), "high": part(0, 0, 0)})
    assert (found.low, found.high) == pytest.approx(wilson(5, 10))


def test_with_a_band_that_nobody_looked_at_nothing_is_said() -> None:
    assert removed({"above": part(10, 5, 10), "high": part(1, 0, 0)}).share is None
    assert removed({"above": part(0, 0, 0), "high": part(0, 0, 0)}).share is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    truth = (0.2 * 0.7) + (0.8 * 0.95)
    held = 0
    for _ in range(1000):
        bands = {
            "above": part(200, int(draw.binomial(40, 0.7)), 40),
            "high": part(800, int(draw.binomial(40, 0.95)), 40),
        }
        found = removed(bands)
        held += found.low <= truth <= found.high
    assert 930 <= held <= 985


def test_pairs_of_a_plan_are_no_part_of_a_bands_sample(judged_run: tuple[Pairs, Queue]) -> None:
    """They were not drawn as the band's own are, and its order is not passed over by them."""
    pairs, queue = judged_run
    best = queue.orders["high"][: queue.images["high"]]
    with_plan = replace(queue, orders={PLAN: best[[0, 4]], **queue.orders})
    said = {int(best[4]): NO_COPY, int(best[1]): COPY}
    band = progress((pairs, with_plan), said)["high"]
    assert (band.judged, band.precision.judged, band.precision.copies) == (2, 1, 1)
    assert band.skipped == 0
    assert progress((pairs, with_plan), {int(best[2]): COPY})["high"].skipped == 1
    assert progress((pairs, with_plan), {int(best[4]): COPY})["high"].precision.share is None
