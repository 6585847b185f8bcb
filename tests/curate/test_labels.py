"""Labels: nothing said is lost, damage is named, and reviewers are weighed rightly."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from hollow_tables import write_hollow
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError
from curate.labels import (
    COPY,
    LABEL_TABLE,
    LABELS,
    LabelFile,
    agreement,
    check_reviewer,
    judged,
    labels_path,
    read_labels,
    read_lines,
)


def said(test: str, label: str | None, reviewer: str = "anna") -> dict[str, object]:
    return {"test_id": f"t:{test}", "train_id": "r:0", "label": label, "reviewer": reviewer}


def table(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    """(reviewer, pair, label)"""
    records = [(pair, "r", reviewer, label) for reviewer, pair, label in rows]
    return pl.DataFrame(records, schema=LABEL_TABLE, orient="row")


def words(frame: pl.DataFrame) -> list[tuple[str, ...]]:
    return frame.select("test_id", "reviewer", "label").rows()


def test_the_last_word_counts_and_one_taken_back_does_not(tmp_path: Path) -> None:
    with closing(LabelFile(tmp_path / "anna.jsonl")) as file:
        for record in (said("1", "near"), said("2", "unsure"), said("1", "same"), said("2", None)):
            file.append(record)
    assert words(read_labels(tmp_path / "anna.jsonl")) == [("t:1", "anna", "same")]
    assert len(list(read_lines(tmp_path / "anna.jsonl"))) == 4


def test_a_folder_holds_one_file_per_reviewer(tmp_path: Path) -> None:
    for name in ("ben", "anna"):
        with closing(LabelFile(labels_path(tmp_path, name))) as file:
            file.append(said("1", "same", name))
    (tmp_path / "labels" / ".hidden.jsonl").write_text("no JSON\n")
    found = read_labels(tmp_path / "labels")
    assert words(found) == [("t:1", "anna", "same"), ("t:1", "ben", "same")]
    assert found.schema == LABEL_TABLE


def test_a_folder_without_files_has_no_labels(tmp_path: Path) -> None:
    assert read_labels(tmp_path).height == 0


@given(st.data())
def test_whatever_a_crash_leaves_of_the_last_line_the_others_stand(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("torn") / "anna.jsonl"
    with closing(LabelFile(path)) as file:
        file.append(said("1", "same"))
        kept = path.stat().st_size
        file.append(said("2", "near"))
    length = data.draw(st.integers(kept, path.stat().st_size - 1))
    os.truncate(path, length)
    assert words(read_labels(path)) == [("t:1", "anna", "same")]
    with closing(LabelFile(path)) as file:
        file.append(said("3", "different"))
    assert [row[0] for row in words(read_labels(path))] == ["t:1", "t:3"]


def test_what_was_said_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "anna.jsonl"
    code = (
        "import sys; from pathlib import Path; from curate.labels import LabelFile\n"
        "file = LabelFile(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    file.append({'test_id': str(n), 'train_id': 'r', 'label': 'same'})\n"
        "    print(n, flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().split()]
    process.wait()
    assert {str(n) for n in told} <= set(read_labels(path)["test_id"])


def test_only_one_process_writes_as_a_reviewer(tmp_path: Path) -> None:
    with (
        closing(LabelFile(tmp_path / "anna.jsonl")),
        pytest.raises(CurateError, match="another `curate review` writes as anna"),
    ):
        LabelFile(tmp_path / "anna.jsonl")
    with closing(LabelFile(tmp_path / "anna.jsonl")) as file:
        file.append(said("1", "same"))


def test_a_full_disk_leaves_whole_lines_and_says_so(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "anna.jsonl"
    with closing(LabelFile(path)) as file:
        file.append(said("1", "same"))
        size = path.stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            with pytest.raises(CurateError, match="the label was not kept"):
                file.append(said("2", "same"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.stat().st_size == size
        file.append(said("3", "same"))
    assert [row[0] for row in words(read_labels(path))] == ["t:1", "t:3"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not JSON"),
        (b"[" * 10**5, "not JSON"),
        (b"[1]", "no object"),
        (b'{"train_id":"r","label":"same"}', "test_id is missing"),
        (b'{"test_id":1,"train_id":"r","label":"same"}', "test_id is missing or no text"),
        (b'{"test_id":"t","train_id":"r"}', "label None: one of same, near"),
        (b'{"test_id":"t","train_id":"r","label":"copy"}', "label 'copy': one of same, near"),
        (b'{"test_id":"t","train_id":"r","label":"same","reviewer":3}', "reviewer is no text"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes, why: str) -> None:
    path = tmp_path / "anna.jsonl"
    good = json.dumps(said("1", "same")).encode()
    path.write_bytes(good + b"\n\n" + line + b"\n" + good + b"\n")
    with pytest.raises(CurateError, match=f"anna.jsonl, line 3: {why}"):
        read_labels(path)
    before = path.read_bytes()
    with pytest.raises(CurateError, match="line 3"):
        LabelFile(path)
    assert path.read_bytes() == before


def test_a_stray_carriage_return_hides_no_label(tmp_path: Path) -> None:
    path = tmp_path / "anna.jsonl"
    lines = [json.dumps(said(name, "same")).encode() for name in "12"]
    path.write_bytes(lines[0] + b"\r\n\r\r\n" + lines[1] + b"\n")
    before = path.read_bytes()
    LabelFile(path).close()
    assert path.read_bytes() == before
    assert [row[0] for row in words(read_labels(path))] == ["t:1", "t:2"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_of_others_are_read(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({
        "label": ["same", None, "near", "different"], "test_id": ["1", "2", "3", "1"],
        "more": [1, 2, 3, 4], "train_id": ["r"] * 4,
    })  # fmt: skip
    path = tmp_path / f"theirs[1]{suffix}"  # a name, not a pattern
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    assert words(read_labels(path)) == [
        ("1", "theirs[1]", "different"), ("3", "theirs[1]", "near"),
    ]  # fmt: skip
    named = frame.with_columns(reviewer=pl.Series(["a", "a", None, "b"]))
    named.write_csv(path) if suffix == ".csv" else named.write_parquet(path)
    assert words(read_labels(path)) == [
        ("1", "a", "same"), ("1", "b", "different"), ("3", "theirs[1]", "near"),
    ]  # fmt: skip


def test_wrong_rows_of_a_table_are_named(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("test_id,train_id,label\n1,r,same\n2,r,copy\n")
    with pytest.raises(CurateError, match=r"theirs.csv, line 3: label 'copy'"):
        read_labels(path)
    path.write_text("test_id,train_id,label\n,r,same\n")
    with pytest.raises(CurateError, match=r"line 2: test_id or train_id is empty"):
        read_labels(path)
    path.write_text("test_id,label\n1,same\n")
    with pytest.raises(CurateError, match=r"columns \['train_id'\] are missing"):
        read_labels(path)


@pytest.mark.parametrize(
    "name", ["labels.txt", "gone.jsonl", "gone.csv", "broken.parquet", "hollow.parquet"]
)
def test_what_is_no_labels_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    write_hollow(tmp_path / "hollow.parquet", ["test_id", "train_id", "label"])
    with pytest.raises(CurateError, match=name):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a\\b", "a\0", "a\nb", "ä" * 51])
def test_a_name_that_no_file_may_have_is_refused(name: str) -> None:
    with pytest.raises(CurateError, match="--reviewer"):
        check_reviewer(name)


def test_names_in_any_script_are_taken(tmp_path: Path) -> None:
    assert labels_path(tmp_path, "Zoë 李").name == "Zoë 李.jsonl"


def naive(votes: list[str]) -> tuple[bool | None, bool]:
    kinds = [COPY[vote] for vote in votes]
    yes, no = kinds.count(True), kinds.count(False)
    return (None if yes == no else yes > no), len(set(kinds)) == 1


@given(st.lists(st.lists(st.sampled_from(LABELS), min_size=1, max_size=5), max_size=4))
def test_the_verdict_is_that_of_most_who_are_sure(votes: list[list[str]]) -> None:
    rows = [
        (f"{n}", f"{pair}", label) for pair, own in enumerate(votes) for n, label in enumerate(own)
    ]
    found = judged(table(rows))
    assert found.schema == pl.Schema({
        "test_id": pl.String, "train_id": pl.String, "copy": pl.Boolean, "reviewers": pl.Int32,
        "agree": pl.Boolean,
    })  # fmt: skip
    expected = [(f"{n}", naive(own)[0], len(own), naive(own)[1]) for n, own in enumerate(votes)]
    assert found.select("test_id", "copy", "reviewers", "agree").rows() == expected


def test_cohens_kappa_is_that_of_the_textbook() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5
    cells = [("same", "near", 20), ("near", "different", 5), ("different", "same", 10),
             ("different", "different", 15)]  # fmt: skip
    rows = [
        (name, f"{a}{b}{n}", label)
        for a, b, count in cells
        for n in range(count)
        for name, label in (("x", a), ("y", b))
    ]
    found = agreement(table([*rows, ("x", "unsure", "unsure"), ("y", "unsure", "same")]))
    assert (found.pairs, found.comparisons, found.share) == (50, 50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    (between,) = found.between
    assert (between.first, between.second, between.pairs) == ("x", "y", 50)
    assert between.kappa == found.kappa


def test_fleiss_kappa_of_three_reviewers_is_as_by_hand() -> None:
    votes = {"1": "sss", "2": "ssd", "3": "ddd", "4": "sdd"}
    names = {"s": "same", "d": "different"}
    rows = [(f"r{n}", pair, names[v]) for pair, own in votes.items() for n, v in enumerate(own)]
    found = agreement(table(rows))
    assert (found.pairs, found.comparisons) == (4, 12)
    assert found.share == pytest.approx(8 / 12)
    # P = (1 + 1/3 + 1 + 1/3) / 4 = 2/3; half of all votes are "same", so Pe = 1/2
    assert found.kappa == pytest.approx(1 / 3)
    assert len(found.between) == 3


def test_without_pairs_in_common_nothing_is_said() -> None:
    for rows in ([], [("x", "1", "same"), ("y", "2", "same")]):
        found = agreement(table(rows))
        assert (found.pairs, found.share, found.kappa, found.between) == (0, None, None, ())


def test_where_all_say_the_same_kappa_is_not_defined() -> None:
    found = agreement(table([("x", "1", "same"), ("y", "1", "near")]))
    assert (found.share, found.kappa) == (1.0, None)
