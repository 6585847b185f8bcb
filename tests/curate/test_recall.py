"""The recall gate on embeddings folders: what it writes, what it lets through, what it says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexing import build
from made_up import ENCODER, embeddings

from curate.errors import CurateError, GateError
from curate.files import read_json
from curate.parts import Embeddings
from curate.recall import (
    RECALL_FILE,
    RecallReport,
    RecallSettings,
    check_recall,
    read_recall,
    summary,
    table,
)
from indices import faiss_index
from indices.faiss_plan import Plan
from indices.scores import unit_rows

faiss = pytest.importorskip("faiss")
CHANGES: dict[str, dict[str, Any]] = {
    "no points": {"points": []},
    "a point that is none": {"points": ["none"]},
    "chosen beyond": {"chosen": 99},
    "chosen before": {"chosen": -1},
    "another format": {"format": 2},
}
SETTINGS = RecallSettings(0.95, 0.95, queries=200, planted=300)


@pytest.fixture
def train(tmp_path: Path) -> Embeddings:
    rng = np.random.default_rng(0)
    scale = np.linspace(2, 0.1, 16)
    sizes = (900, 0, 2100)
    parts = [(rng.standard_normal((size, 16)) * scale).astype(np.float16) for size in sizes]
    return embeddings(tmp_path / "train", parts)


@pytest.fixture
def test(tmp_path: Path, train: Embeddings) -> Embeddings:
    rng = np.random.default_rng(1)
    near = train.vectors(0)[:250] + 0.3 * rng.standard_normal((250, 16))
    far = rng.standard_normal((50, 16))
    parts = [part.astype(np.float16) for part in (near, far)]
    return embeddings(tmp_path / "test", parts, mirrors=[-part for part in parts])


def ivf(train: Embeddings, lists: int = 32) -> Any:
    return build(Plan("ivf", lists, 1, ""), train.view_parts())


def product_quantised(train: Embeddings) -> Any:
    units = unit_rows(np.concatenate(list(train.view_parts())))
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(16), 16, 8, 4, 8, metric)
    index.train(units)
    index.add(units)
    return index


def failure(index: Any, train: Embeddings, folder: Path, settings: RecallSettings) -> str:
    with pytest.raises(GateError) as caught:
        check_recall(index, train, None, settings, folder)
    assert caught.value.exit_code == 1
    assert str(folder / RECALL_FILE) in str(caught.value)
    return str(caught.value)


def test_a_sound_index_passes_and_its_recall_is_on_disk_with_its_interval(
    train: Embeddings, test: Embeddings, tmp_path: Path
) -> None:
    report = check_recall(ivf(train), train, test, SETTINGS, tmp_path / "out")
    assert report.passed
    assert report.probes == report.point.probes
    items = report.point.together.items
    assert 0.95 <= items.low < items.found / items.total
    assert (report.point.planted.items.total, report.point.queries.items.total > 50) == (300, True)
    stored = read_json(tmp_path / "out" / RECALL_FILE)
    assert stored["settings"]["threshold"] == 0.95
    assert (stored["comparator"], stored["index"], stored["lists"]) == (">=", "IndexIVFFlat", 32)
    assert (stored["train"], stored["queries"]) == (train.manifest.id, test.manifest.id)
    point = stored["points"][stored["chosen"]]
    assert point["probes"] == report.probes
    assert point["together"]["items"]["low"] == items.low
    assert point["together"]["pairs"]["total"] >= items.total


def test_what_was_written_is_read_back_the_same(
    train: Embeddings, test: Embeddings, tmp_path: Path
) -> None:
    written = check_recall(ivf(train), train, test, SETTINGS, tmp_path)
    assert read_recall(tmp_path) == written
    assert read_recall(tmp_path / "nothing") is None


def test_the_same_seed_gives_the_same_bytes_with_seconds_apart(
    train: Embeddings, test: Embeddings, tmp_path: Path
) -> None:
    index = ivf(train)

    def content(folder: str, seed: int) -> bytes:
        check_recall(index, train, test, replace(SETTINGS, seed=seed), tmp_path / folder)
        return (tmp_path / folder / RECALL_FILE).read_bytes()

    assert content("one", 0) == content("two", 0)
    assert content("one", 0) != content("three", 1)
    assert b"second" not in content("one", 0)
    facts = read_json(tmp_path / "one" / "facts" / RECALL_FILE)
    stored = read_json(tmp_path / "one" / RECALL_FILE)
    assert [p["probes"] for p in facts["points"]] == [p["probes"] for p in stored["points"]]
    assert all(p["seconds"] > 0 for p in facts["points"])
    assert facts["exact_join"] > 0


def test_too_few_lists_fail_and_the_error_names_recall_interval_threshold_and_remedy(
    train: Embeddings, tmp_path: Path
) -> None:
    text = failure(ivf(train, 64), train, tmp_path, replace(SETTINGS, probes=1))
    report = read_recall(tmp_path)
    assert report is not None
    assert not report.passed
    assert report.probes is None
    items = report.point.together.items
    assert f"{items.found} of 300 found, visiting 1 of 64 lists" in text
    assert "at >= 0.95 is 0." in text
    assert f"(95%: {int(items.low * 1e4) / 1e4:.4f} to 0." in text
    assert "begins below --min-recall 0.95. Visit more lists (leave --probes away)" in text


def test_product_quantisation_fails_with_another_remedy(train: Embeddings, tmp_path: Path) -> None:
    text = failure(product_quantised(train), train, tmp_path, SETTINGS)
    assert "visiting 8 of 8 lists (100.00% of the vectors)" in text
    assert "too coarsely for this threshold. Build it with --kind ivf or flat" in text
    assert len(table(report_of(tmp_path))) == 4


def test_a_flat_index_passes_without_lists_to_choose(train: Embeddings, tmp_path: Path) -> None:
    flat = build(Plan("flat", 0, 0, ""), train.view_parts())
    faiss.write_index(flat, str(tmp_path / "index.faiss"))
    index = faiss_index.load(tmp_path / "index.faiss")
    settings = replace(SETTINGS, min_recall=1.0, planted=10)
    report = check_recall(index, train, None, settings, tmp_path / "out")
    assert (report.passed, report.exact, report.probes, report.needed) == (True, True, None, None)
    assert "10 of 10 found (100.00% of the vectors)" in summary(report)
    assert report.queries is None


def test_a_flat_index_of_other_vectors_fails(train: Embeddings, tmp_path: Path) -> None:
    index = build(Plan("flat", 0, 0, ""), [train.vectors(2)[::-1]])
    index.add(unit_rows(train.vectors(0)))
    assert "so it holds other vectors" in failure(index, train, tmp_path, SETTINGS)


def test_too_few_queries_are_told_with_the_number_that_is_needed(
    train: Embeddings, test: Embeddings, tmp_path: Path
) -> None:
    few = RecallSettings(0.95, 0.99, queries=300, planted=67)
    with pytest.raises(
        CurateError, match=r"367 queries cannot show it, even if .*; 368 can"
    ) as bad:
        check_recall(ivf(train), train, test, few, tmp_path)
    assert bad.value.exit_code == 2
    assert not list(tmp_path.glob(RECALL_FILE))
    # now there are queries enough, but some of them have no pair
    with pytest.raises(GateError, match=r"too few test items .* takes 368, all found"):
        check_recall(ivf(train), train, test, replace(few, planted=80), tmp_path)
    assert report_of(tmp_path).needed == 368


def test_no_sample_shows_that_nothing_is_missed(train: Embeddings, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"--min-recall 1: no sample can show it\. Join exactly"):
        check_recall(ivf(train), train, None, replace(SETTINGS, min_recall=1), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 1.5}, "--threshold 1.5: a cosine"),
        ({"threshold": float("nan")}, "--threshold nan"),
        ({"min_recall": 0.0}, "--min-recall 0.0: above 0"),
        ({"min_recall": 99.0}, "--min-recall 99.0: above 0, at most 1"),
        ({"probes": 0}, "--probes 0: at least 1"),
        ({"planted": 0}, "cannot be measured .there is no query"),
    ],
)
def test_settings_that_no_index_can_meet_are_refused(
    train: Embeddings, tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(CurateError, match=message):
        check_recall(ivf(train), train, None, replace(SETTINGS, **wrong), tmp_path)


def test_queries_of_another_encoder_are_refused(train: Embeddings, tmp_path: Path) -> None:
    other = embeddings(
        tmp_path / "other", [np.ones((3, 16), np.float16)], encoder={**ENCODER, "weights": "v"}
    )
    with pytest.raises(CurateError, match="embedded by different encoders"):
        check_recall(ivf(train), train, other, SETTINGS, tmp_path)


def test_an_index_of_another_set_is_refused(train: Embeddings, tmp_path: Path) -> None:
    index = build(Plan("flat", 0, 0, ""), [train.vectors(0)])
    with pytest.raises(CurateError, match=r"train: the index holds 900 .*; build it again\."):
        check_recall(index, train, None, SETTINGS, tmp_path)


def test_progress_is_that_of_the_exact_join(train: Embeddings, tmp_path: Path) -> None:
    seen: list[int] = []
    check_recall(ivf(train), train, None, SETTINGS, tmp_path, on_part=seen.append)
    assert sum(seen) == train.count


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", *CHANGES])
def test_a_damaged_file_is_a_clear_error(train: Embeddings, tmp_path: Path, damage: str) -> None:
    check_recall(ivf(train), train, None, SETTINGS, tmp_path)
    path = tmp_path / RECALL_FILE
    stored = read_json(path)
    path.write_text(json.dumps(stored | CHANGES[damage]) if damage in CHANGES else damage)
    with pytest.raises(CurateError, match=r"recall\.json: (not|names no) "):
        read_recall(tmp_path)


# --- words -------------------------------------------------------------------------------------


def report_of(folder: Path) -> RecallReport:
    report = read_recall(folder)
    assert report is not None
    return report


def test_the_table_has_a_row_per_point_and_marks_the_chosen_one(
    train: Embeddings, test: Embeddings, tmp_path: Path
) -> None:
    report = check_recall(ivf(train), train, test, SETTINGS, tmp_path)
    rows = table(report)
    assert [row["lists"] for row in rows] == [str(point.probes) for point in report.points]
    marked = [row for row in rows if row[""] == "chosen"]
    assert [row["lists"] for row in marked] == [str(report.probes)]
    items = report.point.together.items
    assert marked[0]["found"] == f"{items.found} of {items.total}"
    assert marked[0]["vectors visited"].endswith("%")
    assert {len(row) for row in rows} == {8}


def test_a_share_is_never_rounded_up_to_a_promise(train: Embeddings, tmp_path: Path) -> None:
    report = check_recall(ivf(train), train, None, SETTINGS, tmp_path)
    point = report.point
    items = replace(point.together.items, found=99_999, total=100_000, low=0.98999, high=0.99991)
    point = replace(point, together=replace(point.together, items=items))
    shown = table(replace(report, points=(point,), chosen=0))[0]
    assert shown["recall of test items"] == "0.9999 (95%: 0.9899 to 1.0000)"
    assert shown["your queries"] == "0 of 0"
    nothing = replace(items, found=0, total=0, low=0.0, high=1.0)
    point = replace(point, together=replace(point.together, items=nothing))
    assert "is unknown, 0 of 0 found" in summary(replace(report, points=(point,), chosen=None))
