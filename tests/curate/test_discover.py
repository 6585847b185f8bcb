"""What paths stand for: every layout is found, and what is none is a clear error."""

import os
import stat
from pathlib import Path

import fsspec
import polars as pl
import pytest
from archives import tar_bytes
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, picture

from curate.discover import open_dataset
from curate.errors import CurateError
from curate.shards import Dataset

TAR = tar_bytes([("a.jpg", b"1")])


def put(root: Path, *names: str, data: bytes = TAR) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def put_table(path: Path, columns: dict[str, list[object]] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(columns or {"image": [b"1"]}).write_parquet(path)
    return path


def put_img2dataset(root: Path, *stems: str) -> Path:
    for stem in stems:
        put(root, f"{stem}.tar", f"{stem}_stats.json")
        put_table(root / f"{stem}.parquet", {"key": ["a"], "status": ["success"]})
    return root


def shards(dataset: Dataset) -> list[tuple[str, str]]:
    return [(shard.name, shard.path) for shard in dataset.shards]


# --- tars ----------------------------------------------------------------------------------------


def test_one_tar_is_a_set_named_after_it(tmp_path: Path) -> None:
    for name in ("x.tar", "x.tar.gz", "x.tgz"):
        dataset = open_dataset(str(put(tmp_path, name) / name))
        assert (dataset.name, dataset.layout, shards(dataset)) == ("x", "webdataset", [("x", name)])


def test_braces_globs_and_folders_name_the_same_shards(tmp_path: Path) -> None:
    root = put(tmp_path / "set", "00.tar", "01.tar", "10.tar")
    put(root, "._00.tar", ".00.tar.5f.tmp", "README.md")
    expected = [("00", "00.tar"), ("01", "01.tar"), ("10", "10.tar")]
    for spec in (root, root / "[0-9]*.tar", root / "{00,01,10}.tar", tmp_path / "**" / "[01]*.tar"):
        dataset = open_dataset(str(spec))
        assert (dataset.name, shards(dataset)) == ("set", expected)
        assert dataset.specs == (str(spec),)
        assert open_dataset(dataset.specs, dataset.name) == dataset


def test_a_relative_path_is_found_again_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "set", "0.tar")
    monkeypatch.chdir(tmp_path)
    specs = open_dataset("set").specs
    monkeypatch.chdir("/")
    assert open_dataset(specs).shards[0].url == str(tmp_path / "set" / "0.tar")


def test_several_folders_are_one_set_below_their_common_parent(tmp_path: Path) -> None:
    put(tmp_path / "a", "0.tar")
    put(tmp_path / "b", "deep/0.tar")
    put(tmp_path, "c.tar")
    dataset = open_dataset([str(tmp_path / name) for name in ("a", "b", "c.tar")], "mine")
    assert (dataset.name, dataset.root) == ("mine", str(tmp_path))
    assert shards(dataset) == [("a/0", "a/0.tar"), ("b/deep/0", "b/deep/0.tar"), ("c", "c.tar")]


def test_names_with_special_characters_are_found_as_they_are(tmp_path: Path) -> None:
    for name in (
        "a{0..1}.tar",
        "b[1].tar",
        "c*.tar",
        "d e.tar",
        "f:g.tar",
        "h?i.tar",
        "j?/k.tar",
        os.fsdecode(b"\xe9.tar"),
    ):
        dataset = open_dataset(str(put(tmp_path, name) / name))
        assert dataset.shards[0].url == str(tmp_path / name)
        assert ":" not in dataset.shards[0].name
        assert dataset.shards[0].name.encode()
    folder = put(tmp_path / "x[1]{2}", "0.tar", "1.tar")
    assert len(open_dataset(str(folder / "{0,1}.tar")).shards) == 2


def test_a_slash_in_the_query_of_a_url_is_no_folder() -> None:
    one = open_dataset("https://h/d/a.tar?sig=x/y")
    assert (one.name, shards(one)) == ("a", [("a", "a.tar")])
    two = open_dataset(["https://h/d/a.tar?sig=x/y", "https://h/e/b.tar?sig=z/w"])
    assert [shard.path for shard in two.shards] == ["d/a.tar", "e/b.tar"]


def test_shards_of_one_name_are_a_clear_error(tmp_path: Path) -> None:
    root = put(tmp_path, "0.tar", "0.tar.gz")
    with pytest.raises(CurateError, match=r"0\.tar, .*0\.tar\.gz: both would be shard 0;"):
        open_dataset(str(root))
    with pytest.raises(CurateError, match="both would be shard 0"):
        open_dataset([str(root / "0.tar"), str(root / "0.tar")])


@given(st.text(st.sampled_from("{},.*[]?a0"), max_size=12))
def test_any_pattern_without_a_match_is_a_clear_error(text: str) -> None:
    with pytest.raises(CurateError, match=r"nothing is there|braces do not expand"):
        open_dataset(f"/nowhere/x{text}")


@pytest.mark.parametrize("spec", ["x" * 300, "\0", "{a,b}" * 60 + "{", "gone.tar", "no/*.tar"])
def test_what_is_not_there_is_a_clear_error(spec: str) -> None:
    with pytest.raises(CurateError, match=r"nothing is there|braces do not expand"):
        open_dataset(f"/nowhere/{spec}")


@pytest.mark.parametrize("specs", ["", [], ["", "x"]])
def test_no_path_at_all_is_a_clear_error(specs: list[str]) -> None:
    with pytest.raises(CurateError, match="no data set was given"):
        open_dataset(specs)


def test_other_files_and_mixtures_are_clear_errors(tmp_path: Path) -> None:
    put(tmp_path, "0.tar", "notes.md")
    put_table(tmp_path / "t.parquet")
    with pytest.raises(CurateError, match=r"notes\.md: neither a tar, a Parquet file nor a folder"):
        open_dataset([str(tmp_path / "0.tar"), str(tmp_path / "notes.md")])
    with pytest.raises(CurateError, match="tars and Parquet files cannot be one data set"):
        open_dataset([str(tmp_path / "0.tar"), str(tmp_path / "t.parquet")])
    put(tmp_path / "pictures", "a.jpg")
    with pytest.raises(CurateError, match="layout folder cannot be joined"):
        open_dataset([str(tmp_path / "0.tar"), str(tmp_path / "pictures")])


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [(), ("notes.md",), ("deep/er/notes.txt",)])
def test_a_folder_without_images_is_a_clear_error(tmp_path: Path, files: tuple[str, ...]) -> None:
    with pytest.raises(
        CurateError, match="neither tars, nor Parquet files with images, nor images"
    ):
        open_dataset(str(put(tmp_path, *files)))


def test_a_folder_of_images_has_a_shard_per_directory(tmp_path: Path) -> None:
    put(tmp_path / "set", "b.png", "cat/a.jpg", "dog:1/a.jpg", data=encoded(picture(0)))
    put_table(tmp_path / "set" / "metadata.parquet", {"url": ["x"]})
    dataset = open_dataset(str(tmp_path / "set"))
    assert (dataset.name, dataset.layout) == ("set", "folder")
    assert shards(dataset) == [(".", "."), ("cat", "cat"), (r"dog\x3a1", "dog:1")]


def test_a_directory_that_is_named_like_a_tar_is_none(tmp_path: Path) -> None:
    put(tmp_path, "images.tar/a.jpg")
    assert open_dataset(str(tmp_path)).layout == "folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_subfolder_that_cannot_be_listed_is_a_clear_error(tmp_path: Path) -> None:
    put(tmp_path, "0.tar", "closed/1.tar")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(CurateError, match="closed: the folder cannot be listed"):
        open_dataset(str(tmp_path))
    (tmp_path / "closed").chmod(stat.S_IRWXU)


def test_tables_with_images_are_a_set_and_others_beside_them_are_not(tmp_path: Path) -> None:
    put_table(tmp_path / "data" / "train-0.parquet")
    put_table(tmp_path / "index.parquet", {"url": ["x"]})
    dataset = open_dataset(str(tmp_path))
    assert (dataset.layout, shards(dataset)) == (
        "parquet",
        [("data/train-0", "data/train-0.parquet")],
    )


def test_an_img2dataset_folder_is_known_by_its_tables(tmp_path: Path) -> None:
    root = put_img2dataset(tmp_path, "00000", "00001")
    for spec in (root, root / "{00000..00001}.tar", root / "*.tar"):
        assert open_dataset(str(spec)).layout == "img2dataset"
    (root / "00001_stats.json").unlink()
    with pytest.raises(CurateError, match=r"00001\.tar: has no status table.*img2dataset finish"):
        open_dataset(str(root))
    assert open_dataset(str(root / "00001.tar")).layout == "webdataset"


# --- CLIP_benchmark ------------------------------------------------------------------------------


def put_clip_benchmark(root: Path, shards: int = 2) -> Path:
    put(root, *(f"test/{n}.tar" for n in range(shards)))
    put(root, "test/nshards.txt", data=b"%d\n" % shards)
    put(root, "classnames.txt", data="chat\n\nœuf \n".encode())
    put(root, "zeroshot_classification_templates.txt", data=b"a photo of {c}")
    return root


def test_clip_benchmarks_layout_is_found_at_the_root_and_at_the_split(tmp_path: Path) -> None:
    root = put_clip_benchmark(tmp_path / "wds_food")
    for spec, name in ((root, "wds_food"), (root / "test", "wds_food-test")):
        dataset = open_dataset(str(spec))
        assert (dataset.name, dataset.layout, dataset.root) == (name, "clip_benchmark", str(root))
        assert shards(dataset) == [("test/0", "test/0.tar"), ("test/1", "test/1.tar")]
        assert dataset.class_names[:3] == ("chat", "", "œuf")
        assert [path for path, _ in dataset.side_files] == [
            "test/nshards.txt", "classnames.txt", "zeroshot_classification_templates.txt",
        ]  # fmt: skip


def test_a_missing_shard_is_a_clear_error(tmp_path: Path) -> None:
    root = put_clip_benchmark(tmp_path)
    (root / "test" / "1.tar").unlink()
    with pytest.raises(CurateError, match=r"says 2 shards, but 1\.tar are missing"):
        open_dataset(str(root))


@pytest.mark.parametrize("text", [b"", b"two", b"-1", b"0", b"9" * 5000, b"\xff", "٣".encode()])
def test_a_shard_count_that_is_none_is_a_clear_error(tmp_path: Path, text: bytes) -> None:
    root = put(put_clip_benchmark(tmp_path), "test/nshards.txt", data=text)
    with pytest.raises(CurateError, match="a number of shards was expected"):
        open_dataset(str(root))


def test_an_absurd_shard_count_is_answered_at_once(tmp_path: Path) -> None:
    root = put(put_clip_benchmark(tmp_path), "test/nshards.txt", data=b"999999999")
    with pytest.raises(CurateError, match=r"2\.tar, 3\.tar, 4\.tar are missing"):
        open_dataset(str(root))


# --- URLs ----------------------------------------------------------------------------------------


def test_urls_are_expanded_by_braces_and_globs(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for number in range(2):
        memory.pipe(f"/discover/set/{number}.tar", TAR)
    put(tmp_path, "0.tar", "1.tar")
    for base in ("memory:///discover/set", f"file://{tmp_path}"):
        for pattern in ("{0..1}.tar", "*.tar"):
            dataset = open_dataset(f"{base}/{pattern}", "mine")
            assert shards(dataset) == [("0", "0.tar"), ("1", "1.tar")]
            assert [shard.url for shard in dataset.shards] == [f"{base}/{n}.tar" for n in (0, 1)]
    memory.rm("/discover", recursive=True)


def test_what_follows_the_question_mark_of_a_url_is_no_part_of_a_path() -> None:
    dataset = open_dataset("https://example.org/data/{0..1}.tar.gz?key=a/b.c")
    assert (dataset.name, shards(dataset)) == ("data", [("0", "0.tar.gz"), ("1", "1.tar.gz")])
    assert dataset.shards[0].url.endswith("0.tar.gz?key=a/b.c")


@pytest.mark.parametrize(
    ("spec", "text"),
    [("memory://none/*.tar", "nothing matches"), ("nosuch://a/*.tar", "cannot be listed"),
     ("http://127.0.0.1:9/*.tar", "cannot be listed"), ("https://h/x.parquet", "local folders"),
     ("https://h/folder", "neither a tar")],
)  # fmt: skip
def test_urls_that_lead_nowhere_are_clear_errors(spec: str, text: str) -> None:
    with pytest.raises(CurateError, match=text):
        open_dataset(spec)
