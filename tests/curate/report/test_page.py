import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from html_page import Page

from curate import tables
from curate.report import ReportInputs, ReportOptions, build_report, words

ARun = Callable[..., ReportInputs]


def build(inputs: ReportInputs, out: Path, **options: int) -> tuple[Page, dict[str, Any]]:
    build_report(inputs, out, ReportOptions(**options))
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    return page, json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(
    run: ReportInputs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Page, dict[str, Any]]:
    return build(run, tmp_path_factory.mktemp("report"))


def test_title_and_heading_state_the_finding(
    built: tuple[Page, dict[str, Any]], run: ReportInputs
) -> None:
    page, facts = built
    readable = run.split["counts"]["in"] - run.split["counts"]["unknown"]
    start = f"{run.split['counts']['overlap']} of {readable} readable test images"
    assert facts["finding"].startswith(start)
    assert page.text.count(start) == 2


def test_an_interval_in_the_heading_is_not_broken_over_two_lines(
    run: ReportInputs, tmp_path: Path
) -> None:
    split = {**run.split, "train": "<i>0\N{EN DASH}9</i>"}
    build_report(ReportInputs(**{**vars(run), "split": split}), tmp_path)
    source = (tmp_path / "index.html").read_text(encoding="utf-8")
    heading = source.partition("<h1>")[2].partition("</h1>")[0]
    assert re.findall(r'<span class="whole">[\d.]+\N{EN DASH}[\d.]+\)?</span>', heading)
    assert "&lt;i&gt;0\N{EN DASH}9&lt;/i&gt;" in heading


def test_counts_on_the_page_are_those_of_the_split(
    built: tuple[Page, dict[str, Any]], run: ReportInputs
) -> None:
    page, facts = built
    counts = run.split["counts"]
    identity = re.search(
        r"in ([\d,]+) clean = ([\d,]+) overlap \+ ([\d,]+) unknown \+ ([\d,]+)", page.text
    )
    assert identity is not None
    shown = [int(number.replace(",", "")) for number in identity.groups()]
    assert shown == [counts["in"], counts["clean"], counts["overlap"], counts["unknown"]]
    assert facts["split"]["counts"] == counts
    assert facts["conserved"]
    for name, row in run.split["per_shard"].items():
        assert f"{name} {row['in']} {row['clean']} {row['overlap']} {row['unknown']}" in page.text


def test_json_holds_the_numbers_that_a_loop_finds(
    built: tuple[Page, dict[str, Any]], run: ReportInputs
) -> None:
    _, facts = built
    overlap = run.split["counts"]["overlap"]
    flagged = sum(item["count"] for item in facts["histogram"]["bins"] if item["flagged"])
    assert flagged == facts["overlap"]["hits"] == overlap
    at = [row for row in facts["sweep"] if row["threshold"] == run.split["threshold"]]
    assert [row["hits"] for row in at] == [overlap]
    unknown = run.decisions.filter(pl.col("decision") == "unknown")["id"].to_list()
    assert [row["id"] for row in facts["failures"]] == unknown
    for row in facts["classes"]:
        assert row["overlap"] == run.split["per_class"][row["name"]]["overlap"]


def test_page_shows_a_card_for_every_pair_of_the_json(built: tuple[Page, dict[str, Any]]) -> None:
    page, facts = built
    cards = page.all("li", **{"class": "pair"})
    shown = sum(facts[name]["shown"] for name in ("removed", "above", "below"))
    assert len(cards) == shown > 20
    for pair in facts["removed"]["pairs"]:
        shown = words.visible(pair["test_id"].partition(":")[2])
        assert " ".join(shown.split()) in page.text


def test_nothing_is_fetched_from_anywhere(built: tuple[Page, dict[str, Any]]) -> None:
    page, _ = built
    for tag, found in page.tags:
        for key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            address = found.get(key)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    assert not re.search(r"url\(|@import", "".join(page.blocks["style"]))
    assert not re.search(r"fetch\(|XMLHttp|import\(|WebSocket|http", "".join(page.blocks["script"]))


def test_policy_allows_exactly_the_inlined_blocks(built: tuple[Page, dict[str, Any]]) -> None:
    page, _ = built
    (meta,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.strip().split(" ", 1) for part in str(meta["content"]).split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    for tag in ("style", "script"):
        assert len(page.all(tag)) == 1
        block = "".join(page.blocks[tag]).encode()
        digest = base64.b64encode(hashlib.sha256(block).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"


def test_policy_comes_before_anything_it_rules(built: tuple[Page, dict[str, Any]]) -> None:
    names = [tag for tag, _ in built[0].tags]
    assert names[:5] == ["html", "head", "meta", "meta", "meta"]
    assert built[0].tags[3][1]["http-equiv"] == "Content-Security-Policy"


def test_hostile_strings_are_text_and_never_markup(
    built: tuple[Page, dict[str, Any]], hostile: tuple[str, ...]
) -> None:
    page, _ = built
    for text in hostile:
        assert " ".join(words.visible(text).split()) in page.text
    for tag, found in page.tags:
        assert not any(key.startswith("on") or key == "style" for key in found), (tag, found)
    assert {str(found["src"])[:5] for found in page.all("img") if "src" in found} == {"data:"}
    assert page.open == []


def test_control_characters_and_direction_overrides_do_not_reach_the_page(
    run: ReportInputs, tmp_path: Path
) -> None:
    build_report(run, tmp_path)
    source = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not set(source) & set("\x00\u202e\r\t")


def test_same_inputs_give_the_same_bytes(run: ReportInputs, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_report(run, tmp_path / name)
    for name in ("index.html", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_sampling_is_stated_when_not_all_pairs_are_shown(run: ReportInputs, tmp_path: Path) -> None:
    page, facts = build(run, tmp_path, pairs_per_gallery=9)
    total = facts["removed"]["total"]
    assert [facts[name]["shown"] for name in ("removed", "above", "below")] == [9, 9, 9]
    assert (
        f"Shown are 9 of {total}: the 3 best, and 6 spread evenly over the ranks below."
        in page.text
    )
    assert f"Shown are the 9 lowest of {facts['above']['total']}" in page.text
    assert f"Shown are the 9 highest of {facts['below']['total']}" in page.text


def test_images_are_asked_for_once_a_side(run: ReportInputs, tmp_path: Path) -> None:
    calls: list[tuple[str, list[str]]] = []

    def load(side: str, ids: list[str]) -> dict[str, bytes]:
        calls.append((side, ids))
        return {}

    page, facts = build(ReportInputs(**{**vars(run), "load_images": load}), tmp_path)
    assert [side for side, _ in calls] == ["test", "train"]
    pairs = [pair for name in ("removed", "above", "below") for pair in facts[name]["pairs"]]
    for side, ids in calls:
        assert len(set(ids)) == len(ids)
        assert set(ids) == {pair[f"{side}_id"] for pair in pairs}
    assert page.text.count("not available") == 2 * len(pairs)


def test_page_keeps_to_its_size(a_run: ARun, tmp_path: Path) -> None:
    inputs = a_run(tests=120, side=160, scores=(0.85, 1.0))
    build(inputs, tmp_path / "full")
    page, _ = build(inputs, tmp_path / "small", max_bytes=450_000)
    assert "left out" not in page.text
    full, small = ((tmp_path / name / "index.html").stat().st_size for name in ("full", "small"))
    assert small <= 450_000 < full <= 8_000_000


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"matched": 0.0}, "Nothing was removed"),
        ({"scores": (0.8, 0.9)}, "Nothing was removed"),
        ({"scores": (0.95, 1.0)}, "No clean test image has a match between 0.80 and the threshold"),
        ({"unknown_every": 1}, "No test image could be compared"),
        ({"unknown_every": 0}, "None. All 240 images were read and compared."),
        ({"tests": 1, "unknown_every": 0}, "test image"),
        ({"tests": 1, "unknown_every": 1}, "1 image could not be read"),
        ({"threshold": 1.0, "scores": (1.0, 1.0)}, "at cosine ≥ 1.00"),
        ({"threshold": 1.0, "floor": 1.0, "scores": (1.0, 1.0)}, "at cosine ≥ 1.00"),
        ({"threshold": 0.8}, "at cosine ≥ 0.80"),
    ],
)
def test_sparse_runs_still_make_a_page(
    a_run: ARun, tmp_path: Path, recipe: dict[str, Any], said: str
) -> None:
    page, facts = build(a_run(**recipe), tmp_path, pairs_per_gallery=6)
    assert said in page.text
    assert page.open == []
    flagged = sum(item["count"] for item in facts["histogram"]["bins"] if item["flagged"])
    assert flagged == facts["split"]["counts"]["overlap"]


def test_without_labels_there_is_no_class_section(a_run: ARun, tmp_path: Path) -> None:
    page, facts = build(a_run(labels=False, tests=20), tmp_path)
    assert facts["classes"] == []
    assert not page.all("section", id="classes")
    assert not page.all("a", href="#classes")


def grouped(inputs: ReportInputs) -> ReportInputs:
    """The same as of one set: the first five images are one group, the next two another."""
    ids = inputs.decisions["id"].to_list()
    rows = [{"id": ids[n], "component": 0, "size": 5, "kept": n in (1, 3)} for n in range(5)]
    rows += [{"id": ids[n], "component": 1, "size": 2, "kept": n == 5} for n in (5, 6)]
    components = tables.rows(rows, tables.COMPONENTS)
    said = {"keep": "largest", "policy": "within", "groups": {"unproven": 3}}
    split = {**inputs.split, **said}
    return ReportInputs(**{**vars(inputs), "components": components, "split": split})


def test_a_set_against_itself_shows_its_groups_with_their_images(
    run: ReportInputs, tmp_path: Path, hostile: tuple[str, ...]
) -> None:
    page, facts = build(grouped(run), tmp_path)
    assert "2 groups of 7 images in all, of which 3 stay" in page.text
    assert "the one of more pixels stays first" in page.text
    assert "2 1 2 1 1 5 1 5 2 3" in page.text
    assert len(page.all("li", **{"class": "stays"})) == 3
    assert len(page.all("li", **{"class": "goes"})) == 4
    assert facts["groups"]["sizes"][1] == {"size": 5, "groups": 1, "images": 5, "kept": 2}
    assert [len(group["shown"]) for group in facts["groups"]["largest"]] == [5, 2]
    for text in hostile:
        assert " ".join(words.visible(text).split()) in page.text
    links = [found["href"] for found in page.all("a") if "class" not in found]
    assert links == [f"#{found['id']}" for found in page.all("section")]
    assert page.open == []


def test_two_sets_have_no_section_of_groups(built: tuple[Page, dict[str, Any]]) -> None:
    page, facts = built
    assert "groups" not in facts
    assert not page.all("section", id="groups")


def test_removals_that_a_larger_cap_would_prove_are_told(run: ReportInputs, tmp_path: Path) -> None:
    more = run.nearest.with_columns(overflow=pl.lit(value=True))
    page, _ = build(ReportInputs(**{**vars(grouped(run)), "nearest": more}), tmp_path)
    assert "of those 3 were removed without a stored match that stays" in page.text
    assert "so no decision changes" not in page.text


def test_an_identity_that_fails_is_said_loudly(a_run: ARun, tmp_path: Path) -> None:
    shard = {"in": 9, "clean": 1, "overlap": 0, "unknown": 0}
    page, facts = build(a_run(tests=20, extra={"per_shard": {"s": shard}}), tmp_path)
    assert not facts["conserved"]
    assert "The identity does not hold" in page.text


def section(out: Path, name: str) -> str:
    """The source of a section."""
    source = (out / "index.html").read_text(encoding="utf-8")
    return source.partition(f'<section id="{name}"')[2].partition("</section>")[0]


def test_a_calibration_is_told_near_the_top_drawn_and_tabled(
    run: ReportInputs, calibrate: ARun, tmp_path: Path, hostile: tuple[str, ...]
) -> None:
    page, facts = build(calibrate(run), tmp_path)
    told = facts["calibration"]
    top = page.text[: page.text.index("Every image is accounted for")]
    assert told["estimate"].startswith("About ")
    for sentence in (told["estimate"], told["quality"]):
        assert sentence.replace("\N{NO-BREAK SPACE}", " ") in top
    shown = section(tmp_path, "quality")
    assert shown.count("<svg") == 4
    assert f"proposed {words.level(told['proposal']['threshold'])}" in shown
    assert "wanted precision 50 %" in shown
    assert shown.count('scope="rowgroup"') == 3
    assert f"{words.level(run.split['threshold'])}</th>" in shown
    assert "curate calibrate" not in section(tmp_path, "thresholds")
    for text in hostile:
        assert " ".join(words.visible(text).split()) in page.text
    assert page.open == []


def test_json_holds_the_calibration_with_recall_at_the_threshold_in_use(
    run: ReportInputs, calibrate: ARun, tmp_path: Path
) -> None:
    inputs = calibrate(run)
    _, facts = build(inputs, tmp_path)
    told = facts["calibration"]
    assert inputs.calibration is not None
    assert told["precision"] == inputs.calibration["precision"]
    assert told["leaked"] == inputs.calibration["leaked"]
    assert told["kinds"]["threshold"] == run.split["threshold"]
    assert [row["name"] for row in told["kinds"]["rows"]] == ["rotate", "crop_centre", "jpeg"]


@pytest.mark.parametrize(
    ("made", "words_of_it"),
    [
        ({"judged": False}, ("Precision is not known", "wanted precision")),
        ({"planted": False}, ("No copies were planted", "Which copies are found")),
        ({"judged": False, "planted": False}, ("No copies were planted", "Table of precision")),
        ({"wanted": 0.99, "labels": 12}, ("No threshold is proposed", "proposed 0.")),
    ],
)
def test_half_a_calibration_makes_a_page_that_says_what_is_missing(
    run: ReportInputs,
    calibrate: ARun,
    tmp_path: Path,
    made: dict[str, Any],
    words_of_it: tuple[str, str],
) -> None:
    said, unsaid = words_of_it
    page, _ = build(calibrate(run, **made), tmp_path, pairs_per_gallery=2)
    assert said in page.text
    assert unsaid not in page.text
    assert page.open == []


def test_without_a_calibration_the_page_says_how_to_make_one(
    built: tuple[Page, dict[str, Any]],
) -> None:
    page, facts = built
    assert "calibration" not in facts
    assert not page.all("section", id="quality")
    assert "is not measured; curate calibrate does that" in page.text


def test_after_a_second_look_scores_are_named_and_rejections_shown(
    verified_run: ReportInputs, tmp_path: Path
) -> None:
    page, facts = build(verified_run, tmp_path)
    assert "at a score of the aligned pixels ≥ 0.93" in facts["finding"]
    assert (facts["score"], facts["second_look"]) == ("score of the aligned pixels", "pixels")
    assert page.all("dialog")[0]["data-score"] == "Score of the aligned pixels"
    assert "Cosine" not in "".join(page.blocks["script"])
    shown = section(tmp_path, "rejected")
    assert shown.count("pixels do not agree &lt;b&gt;") == facts["rejected"]["shown"] > 5
    first = facts["rejected"]["pairs"][0]
    assert f"cosine {first['cosine']:.4f} in the first search" in shown
    assert {"href": "#rejected"} in page.all("a")
    assert page.open == []


def test_a_second_look_that_rejects_nothing_says_so(
    verified_run: ReportInputs, tmp_path: Path
) -> None:
    pairs = verified_run.pairs.with_columns(rejected=pl.lit(None, pl.String))
    page, facts = build(ReportInputs(**{**vars(verified_run), "pairs": pairs}), tmp_path)
    assert "the second look confirmed all that it was shown" in page.text
    assert facts["rejected"] == {"total": 0, "shown": 0, "pairs": []}


def test_what_people_judged_is_counted_and_shown_at_the_pair(
    run: ReportInputs, tmp_path: Path
) -> None:
    best = run.decisions.filter(pl.col("decision") == "overlap")["id"][0]
    reason = pl.when(pl.col("id") == best).then(pl.lit("judged a copy")).otherwise("reason")
    split = {**run.split, "labels": {"judged_copy": 1, "judged_different": 0}}
    decisions = run.decisions.with_columns(reason=reason)
    inputs = ReportInputs(**{**vars(run), "decisions": decisions, "split": split})
    page, facts = build(inputs, tmp_path, pairs_per_gallery=1000)
    assert "or as people judged" in facts["finding"]
    assert "words decided on 1 image: 1 removed as judged a copy" in page.text
    said = [pair["test_id"] for pair in facts["removed"]["pairs"] if pair["said"]]
    assert said == [best]
    assert "removed: judged a copy" in section(tmp_path, "removed")


def test_the_levels_of_same_are_counted(
    built: tuple[Page, dict[str, Any]], run: ReportInputs
) -> None:
    page, facts = built
    same = facts["same"]
    assert sum(same.values()) == run.split["counts"]["overlap"]
    assert f"{same['bytes']} are the same file as a train image, byte for byte" in page.text
    assert f"{same['pixels']} more decode to the same pixels" in page.text


def test_every_section_is_named_and_reached_from_the_navigation(
    built: tuple[Page, dict[str, Any]],
) -> None:
    page, _ = built
    names = {found["id"] for _, found in page.tags if found.get("id")}
    assert len(names) == sum("id" in found for _, found in page.tags)
    sections = [found["id"] for found in page.all("section")]
    links = [found["href"] for found in page.all("a") if "class" not in found]
    assert links == [f"#{name}" for name in sections]
    assert {found["aria-labelledby"] for found in page.all("section")} <= names
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("footer")) == 1


def test_every_picture_has_words(built: tuple[Page, dict[str, Any]]) -> None:
    page, _ = built
    for found in page.all("img"):
        assert "alt" in found
        assert found["alt"] or found.get("class") in {"a", "b"}  # the dialog's, filled on use
    for found in page.all("svg"):
        assert found.get("aria-label") or found.get("aria-hidden") == "true"
    assert len(page.all("th", scope="col")) > 10
