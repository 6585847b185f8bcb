"""Which files are found for what is given, in which order, and what is refused as incomplete."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from made_up import embeddings, random_parts
from published_sets import laion_columns, publish, write_table
from servers import s3_server, web_server

from curate.errors import CurateError
from curate.vector_files import PartFiles, are_vectors, find_parts, set_name

ARRAYS = random_parts(0, [2] * 12)


def found(*specs: str | Path) -> list[PartFiles]:
    return find_parts([str(spec) for spec in specs])


def names(*specs: str | Path) -> list[str]:
    return [part.name for part in found(*specs)]


@pytest.fixture(scope="module")
def laion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("files") / "laion", ARRAYS)


@pytest.mark.parametrize("width", [1, 4, 9])
@pytest.mark.parametrize("flat", [False, True])
def test_parts_come_in_numeric_order_whatever_their_padding(
    tmp_path: Path, width: int, flat: bool
) -> None:
    root = publish(tmp_path / "set", ARRAYS, width=width, flat=flat)
    assert are_vectors([str(root)])
    parts = found(root)
    assert [int(part.name.rpartition("_")[2]) for part in parts] == list(range(12))
    for part in parts:
        assert part.metadata is not None
        assert Path(part.metadata).stem == part.name.replace("img_emb", "metadata")
        assert Path(part.metadata).is_file()


def test_folders_patterns_braces_and_lists_find_the_same(laion: Path) -> None:
    whole = found(laion)
    assert found(laion / "img_emb") == [PartFiles(p.name, p.vectors, p.metadata) for p in whole]
    assert found(laion / "img_emb" / "img_emb_{0..11}.npy") == whole
    assert found(laion / "img_emb" / "img_emb_*.npy") == whole
    assert found(*[part.vectors for part in reversed(whole)]) == whole
    assert found(laion / "img_emb" / "img_emb_*.npy", laion / "metadata" / "*.parquet") == whole


def test_some_of_the_parts_can_be_named(laion: Path) -> None:
    assert names(laion / "img_emb" / "img_emb_{3..4}.npy") == ["img_emb_3", "img_emb_4"]
    assert names(laion / "img_emb" / "img_emb_1?.npy") == ["img_emb_10", "img_emb_11"]


def test_files_of_any_name_with_a_number_are_parts(tmp_path: Path) -> None:
    for number in range(3):
        np.save(tmp_path / f"clip-{number}.npy", ARRAYS[number])
    assert names(tmp_path / "clip-*.npy") == ["clip-0", "clip-1", "clip-2"]
    assert found(tmp_path / "clip-{0..2}.npy")[0].metadata is None
    shutil.copy(tmp_path / "clip-0.npy", tmp_path / "vectors.npy")
    assert names(tmp_path / "vectors.npy") == ["vectors"]
    with pytest.raises(CurateError, match=r"vectors\.npy: its name has no number"):
        found(tmp_path / "clip-0.npy", tmp_path / "vectors.npy")


@pytest.mark.parametrize("missing", [0, 5])
def test_a_missing_part_is_named_since_what_it_holds_would_pass_for_absent(
    tmp_path: Path, missing: int
) -> None:
    root = publish(tmp_path / "set", ARRAYS, tables=[])
    (root / "img_emb" / f"img_emb_{missing}.npy").unlink()
    with pytest.raises(CurateError, match=rf"img_emb: part {missing} of 11 is missing; fetch it"):
        found(root)
    if missing:
        with pytest.raises(CurateError, match=f"part {missing} of 11 is missing"):
            found(root / "img_emb" / "*.npy")


def test_a_last_part_that_is_missing_shows_by_its_table(tmp_path: Path) -> None:
    root = publish(tmp_path / "set", ARRAYS)
    (root / "img_emb" / "img_emb_11.npy").unlink()
    with pytest.raises(CurateError, match=r"metadata_11\.parquet: the vectors of part 11"):
        found(root)


def test_a_missing_table_is_named_while_no_tables_at_all_are_allowed(tmp_path: Path) -> None:
    root = publish(tmp_path / "set", ARRAYS)
    (root / "metadata" / "metadata_7.parquet").unlink()
    with pytest.raises(CurateError, match=r"img_emb_7\.npy: the table of part 7 cannot be found"):
        found(root)
    shutil.rmtree(root / "metadata")
    assert {part.metadata for part in found(root)} == {None}


def test_one_part_under_two_names_is_refused(tmp_path: Path) -> None:
    root = publish(tmp_path / "set", ARRAYS[:2], tables=[])
    shutil.copy(root / "img_emb" / "img_emb_1.npy", root / "img_emb" / "img_emb_01.npy")
    with pytest.raises(CurateError, match=r"img_emb_01\.npy, .*img_emb_1\.npy: both are part 1"):
        found(root)


def test_what_is_no_vectors_is_left_to_others(tmp_path: Path, laion: Path) -> None:
    own = embeddings(tmp_path / "own", ARRAYS[:1]).root
    (tmp_path / "photos").mkdir()
    for specs in ([str(own)], [str(tmp_path / "photos")], ["x.tar"], ["s3://b/{0..9}.tar"],
                  ["http://h/folder"], [str(laion), "x.tar"], []):  # fmt: skip
        assert not are_vectors(specs)
    assert are_vectors(["http://h/img_emb/img_emb_{0000..0409}.npy?token=x"])


def test_a_question_mark_in_a_folder_is_no_query(tmp_path: Path) -> None:
    root = publish(tmp_path / "what?" / "laion", ARRAYS[:2])
    parts = found(*(root / "img_emb" / f"img_emb_{number}.npy" for number in range(2)))
    assert [Path(part.metadata or "").name for part in parts] == [
        "metadata_0.parquet",
        "metadata_1.parquet",
    ]


def test_files_that_belong_to_nothing_are_refused(tmp_path: Path, laion: Path) -> None:
    tar = tmp_path / "x.tar"
    tar.write_bytes(b"")
    with pytest.raises(CurateError, match=r"x\.tar: neither vectors \(\.npy\) nor a table"):
        found(laion / "img_emb" / "img_emb_0.npy", tar)
    table = write_table(tmp_path / "metadata_0.parquet", laion_columns(0, 1))
    with pytest.raises(CurateError, match="no vectors are there"):
        found(table)
    (tmp_path / "empty" / "img_emb").mkdir(parents=True)
    with pytest.raises(CurateError, match=r"no img_emb_N\.npy is in this folder"):
        found(tmp_path / "empty")


def test_hidden_files_and_other_folders_do_not_count(tmp_path: Path) -> None:
    root = publish(tmp_path / "set", ARRAYS[:2], tables=[])
    (root / "img_emb" / "._img_emb_0.npy").write_bytes(b"mac")
    (root / "img_emb" / "img_emb_0.npy.part").write_bytes(b"half")
    np.save(root / "text_emb.npy", ARRAYS[0])
    assert names(root) == ["img_emb_0", "img_emb_1"]


def test_a_web_server_is_asked_by_numbered_names(laion: Path) -> None:
    with web_server(laion) as (address, faults):
        parts = found(f"{address}/img_emb/img_emb_{{0..11}}.npy?token=a/b.c")
        assert [part.name for part in parts] == [f"img_emb_{n}" for n in range(12)]
        assert parts[3].metadata == f"{address}/metadata/metadata_3.parquet?token=a/b.c"
        assert [path.partition("?")[0] for path, _, _ in faults.asked] == [
            "/metadata/metadata_0.parquet"
        ]
        with pytest.raises(CurateError, match=r"cannot be listed; .*\{0000\.\.0409\}\.npy"):
            are_vectors([f"{address}/"])


def test_tables_on_a_web_server_may_be_absent_or_in_the_same_folder(tmp_path: Path) -> None:
    publish(tmp_path / "a", ARRAYS[:2], tables=[])
    publish(tmp_path / "b", ARRAYS[:2], flat=True)
    with web_server(tmp_path) as (address, _):
        assert found(f"{address}/a/img_emb/img_emb_{{0..1}}.npy")[0].metadata is None
        beside = found(f"{address}/b/img_emb_{{0..1}}.npy")
        assert beside[1].metadata == f"{address}/b/metadata_1.parquet"


@pytest.fixture(scope="module")
def bucket(laion: Path) -> Iterator[str]:
    with s3_server("vectors") as url:
        fsspec.filesystem("s3").put(f"{laion}/", f"{url}/sets/laion/", recursive=True)
        yield url


def test_a_bucket_is_listed(bucket: str, laion: Path) -> None:
    for spec in (f"{bucket}/sets/laion/", f"{bucket}/sets/laion"):
        assert are_vectors([spec])
        assert [part.name for part in found(spec)] == [part.name for part in found(laion)]
    assert found(f"{bucket}/sets/laion/")[2] == PartFiles(
        "img_emb_2", f"{bucket}/sets/laion/img_emb/img_emb_2.npy",
        f"{bucket}/sets/laion/metadata/metadata_2.parquet",
    )  # fmt: skip
    assert len(found(f"{bucket}/sets/laion/img_emb/*.npy")) == 12
    assert not are_vectors([f"{bucket}/sets"])
    assert not are_vectors([f"{bucket}/nothing/"])


@pytest.mark.parametrize(
    ("spec", "name"),
    [("s3://bucket/laion/", "laion"), ("s3://bucket", "bucket"), ("/data/laion400m", "laion400m"),
     ("/data/x/img_emb/img_emb_{0..9}.npy", "x"), ("/data/x/img_emb/*.npy", "x"),
     ("http://h:80/img_emb/img_emb_{0000..0409}.npy", "h"), ("http://h/a/b/{0..9}.npy?t=/c", "b"),
     ("/img_emb/img_emb_0.npy", "published")],
)  # fmt: skip
def test_a_set_is_named_by_the_folder_of_its_folders(spec: str, name: str) -> None:
    assert set_name(spec) == name
