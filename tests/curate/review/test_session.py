"""A reviewer's session: words kept and taken back, others hidden until one has spoken."""

import json
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from reviewing import digest, inputs, item, row

from curate.errors import CurateError
from curate.labels import LabelFile, labels_path, read_labels, read_lines
from curate.review import Session
from curate.review.pictures import PictureError

SCORES = (0.99, 0.97, 0.91, 0.905, 0.895, 0.89, 0.85, 0.81)
ROWS = [row(n, 10 + n, score) for n, score in enumerate(SCORES)]


def say(root: Path, reviewer: str, words: list[tuple[int, str | None]]) -> None:
    with closing(LabelFile(labels_path(root / "run", reviewer))) as file:
        for number, label in words:
            file.append({
                "test_id": item(number), "train_id": item(10 + number), "label": label,
                "reviewer": reviewer,
            })  # fmt: skip


def test_a_label_is_on_the_disk_with_all_that_tells_its_pair(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        session.label(2, "same")
        (line,) = read_lines(session.labels)
    assert line.pop("at")[-6:] == "+00:00"
    assert line == {
        "test_id": item(2), "train_id": item(12), "label": "same", "reviewer": "anna",
        "score": 0.91, "test_sha256": digest(2), "train_sha256": digest(12),
    }  # fmt: skip
    assert session.labels == tmp_path / "run" / "labels" / "anna.jsonl"


def test_a_new_session_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        first = session.next("all", 0)
        assert first is not None
        number = session.page("all", first, 1)["pairs"][0]["pair"]
        session.label(number, "near")
        before = session.state()
    with closing(Session(inputs(tmp_path, ROWS))) as again:
        assert again.state() == before
        assert again.next("all", 0) != first
        assert again.undo() == number
        assert again.next("all", 0) == first


def test_undo_brings_back_what_was_said_before(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        for number, label in ((1, "same"), (2, "near"), (1, "different")):
            session.label(number, label)
        assert [session.undo() for _ in range(4)] == [1, 2, 1, None]
        assert not session.state()["can_undo"]
    with closing(Session(inputs(tmp_path, ROWS))) as again:
        assert again.undo() is None
        again.label(1, "same")
        again.label(1, "near")
        assert again.undo() == 1
        assert again.pair(1)["mine"] == "same"
    with closing(Session(inputs(tmp_path, ROWS))) as last:
        assert last.pair(1)["mine"] == "same"
        assert (last.undo(), last.undo()) == (1, None)


def test_what_others_say_is_hidden_until_one_has_spoken(tmp_path: Path) -> None:
    say(tmp_path, "ben", [(3, "different"), (4, "same"), (4, None)])
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        shown = session.pair(3)
        assert (shown["judged_by"], shown["others"], shown["mine"]) == (1, {}, None)
        assert "different" not in json.dumps(session.page("all", 0, 8))
        session.label(3, "near")
        assert session.pair(3)["others"] == {"ben": "different"}
        assert session.pair(4)["judged_by"] == 0


def test_words_of_others_are_heard_while_the_page_is_open(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        for number in (0, 1, 2, 3):
            session.label(number, "same")
        assert session.state()["agreement"]["pairs"] == 0
        say(tmp_path, "ben", [(0, "near"), (1, "near"), (2, "near"), (3, "different")])
        state = session.state()
        assert state["agreement"]["pairs"] == 4
        assert state["agreement"]["share"] == 0.75
        assert state["reviewers"] == [
            {"name": "anna", "labels": 4}, {"name": "ben", "labels": 4},
        ]  # fmt: skip
        high, above = state["bands"][4]["precision"], state["bands"][0]["precision"]
        assert (high["copies"], high["judged"]) == (2, 2)
        assert (above["copies"], above["judged"], state["bands"][0]["open"]) == (1, 1, 1)
        say(tmp_path, "ben", [(3, None)])
        assert session.state()["agreement"]["pairs"] == 3


def test_labels_of_pairs_that_are_no_more_are_kept(tmp_path: Path) -> None:
    say(tmp_path, "anna", [(7, "same"), (0, "same")])
    say(tmp_path, "ben", [(7, "same")])
    with closing(Session(inputs(tmp_path, ROWS[:3]))) as session:
        assert session.state()["mine"] == 1
        session.label(1, "near")
    assert read_labels(labels_path(tmp_path / "run", "anna")).height == 3


def test_the_order_wraps_round_to_what_was_passed_over(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        pairs = [shown["pair"] for shown in session.page("all", 0, 8)["pairs"]]
        for number in pairs[1:]:
            session.label(number, "same")
        assert session.next("all", 5) == 0
        session.label(pairs[0], "unsure")
        assert session.next("all", 0) is None
        assert session.place("all", pairs[3]) == 3
        assert session.place("rejected", pairs[3]) is None


def test_pairs_that_were_drawn_are_an_order_of_their_own(tmp_path: Path) -> None:
    names = [(item(n), item(10 + n)) for n in (5, 1, 9, 3)]  # 9 is no pair of this search
    plan = pl.DataFrame(names, schema=["test_id", "train_id"], orient="row")
    with closing(Session(inputs(tmp_path, ROWS, plan=plan))) as session:
        assert [shown["pair"] for shown in session.page("plan", 0, 9)["pairs"]] == [5, 1, 3]
        session.label(5, "same")
        assert session.state()["plan"] == {"pairs": 3, "mine": 1}
        assert session.next("plan", 0) == 1
        assert session.place("plan", 7) is None
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        assert session.state()["plan"] is None
        with pytest.raises(CurateError, match="band 'plan': one of all, above"):
            session.page("plan", 0, 9)


def test_pages_are_stretches_of_an_order(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        whole = session.page("all", 0, 200)
        assert whole["total"] == len(whole["pairs"]) == 8
        assert session.page("all", 3, 2)["pairs"] == whole["pairs"][3:5]
        assert session.page("all", 8, 1)["pairs"] == []
        assert {shown["band"] for shown in session.page("below", 0, 9)["pairs"]} == {"below"}
        for band, offset, limit in (("x", 0, 1), ("all", 9, 1), ("all", -1, 1), ("all", 0, 201)):
            with pytest.raises(CurateError):
                session.page(band, offset, limit)


@pytest.mark.parametrize("number", [-1, 8, 10**9])
def test_a_pair_that_is_none_is_refused(tmp_path: Path, number: int) -> None:
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        for ask in (
            session.pair,
            session.details,
            lambda n: session.label(n, "same"),
            lambda n: session.picture(n, "test", "view", matched=False),
        ):
            with pytest.raises(CurateError, match="there are 8"):
                ask(number)


def test_a_word_that_is_no_label_is_refused(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, ROWS))) as session:
        with pytest.raises(CurateError, match="label 'copy': one of same, near"):
            session.label(0, "copy")
        assert session.labels.read_bytes() == b""


def test_one_reviewer_has_one_session(tmp_path: Path) -> None:
    given = inputs(tmp_path, ROWS)
    with closing(Session(given)):
        with pytest.raises(CurateError, match="another `curate review` writes as anna"):
            Session(given)
        with closing(Session(inputs(tmp_path, ROWS, reviewer="ben"))) as other:
            other.label(0, "same")
    with closing(Session(given)) as again:
        assert again.pair(0)["judged_by"] == 1


def test_a_session_that_cannot_start_lets_go_of_the_labels(tmp_path: Path) -> None:
    given = inputs(tmp_path, ROWS)
    given.pairs.rename(tmp_path / "away")
    with pytest.raises(CurateError, match="no such table"):
        Session(given)
    (tmp_path / "away").rename(given.pairs)
    with closing(Session(given)) as session:
        session.label(0, "same")


def test_details_come_from_the_images_and_tell_of_changes(tmp_path: Path) -> None:
    rows = [*ROWS[:1], row(1, 11, 0.9, train_sha256="0" * 64), row(2, 77, 0.9)]
    with closing(Session(inputs(tmp_path, rows))) as session:
        about = session.details(0)
        assert about["test"]["caption"] == "picture 000000"
        assert (about["train"]["width"], about["train"]["changed"]) == (48, False)
        assert session.details(1)["train"]["changed"]
        assert session.details(2)["train"] == {"problem": "not in its shard any more"}


def test_without_images_pairs_can_still_be_judged(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, ROWS, train="no images"))) as session:
        assert session.details(0)["train"] == {"problem": "no images"}
        with pytest.raises(PictureError, match="no images"):
            session.picture(0, "train", "view", matched=False)
        session.label(0, "unsure")


def test_only_the_test_image_is_shown_as_it_matched(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, [row(0, 10, 0.9, view="mirror")]))) as session:
        pictures = {
            (side, matched): session.picture(0, side, "view", matched=matched).data
            for side in ("test", "train")
            for matched in (True, False)
        }
    assert pictures["test", True] != pictures["test", False]
    assert pictures["train", True] == pictures["train", False]


def test_pairs_that_a_second_stage_rejected_have_their_band(tmp_path: Path) -> None:
    rows = [row(0, 10, 0.99, rejected="too few points agree", cosine=0.9), row(1, 11, 0.95)]
    with closing(Session(inputs(tmp_path, rows))) as session:
        (shown,) = session.page("rejected", 0, 9)["pairs"]
        assert (shown["rejected"], shown["cosine"]) == ("too few points agree", 0.9)
        assert session.pair(1)["cosine"] is None
        json.dumps(session.state(), allow_nan=False)


def test_a_run_without_pairs_has_nothing_to_judge(tmp_path: Path) -> None:
    with closing(Session(inputs(tmp_path, []))) as session:
        assert session.state()["pairs"] == 0
        assert session.next("all", 0) is None
        assert session.page("all", 0, 1)["pairs"] == []
