"""Paths and URLs, told apart also where `Path` has flattened a URL."""

from pathlib import Path

import pytest

from curate.errors import CurateError
from curate.storage.addresses import absolute, below, local_of, url_of


@pytest.mark.parametrize(
    "url", ["s3://bucket/a/run", "gs://b/x", "hf://datasets/a/b", "https://h/x"]
)
def test_a_flattened_url_is_the_url_again(url: str) -> None:
    assert url_of(Path(url)) == url
    assert url_of(url) == url
    assert url_of(url + "/") == url


@pytest.mark.parametrize("path", ["run", "/abs/run", "a:b/c", "./s3:x", "open_clip:/models/x"])
def test_a_path_is_no_url(path: str) -> None:
    assert url_of(path) is None
    assert url_of(Path(path)) is None


def test_text_is_not_flattened_so_it_is_taken_as_it_is() -> None:
    assert url_of("s3:/bucket/run") is None
    assert url_of("torchscript:/models/a.pt") is None


def test_a_folder_that_looks_like_a_url_is_reached_by_its_whole_path(tmp_path: Path) -> None:
    assert url_of(tmp_path / "s3:" / "x") is None


def test_file_urls_are_paths() -> None:
    for given in ("file:///a/b", Path("file:///a/b"), "local:///a/b"):
        assert url_of(given) is None
        assert local_of(given) == Path("/a/b")


def test_a_url_of_nothing_is_refused() -> None:
    with pytest.raises(CurateError, match="names nothing"):
        url_of("s3://")


def test_what_is_in_a_place_is_named_alike() -> None:
    assert below("s3://b/run", "x.json") == "s3://b/run/x.json"
    assert below(Path("s3://b/run"), "x.json") == "s3://b/run/x.json"
    assert below("run", "x.json") == Path("run/x.json")


def test_others_find_a_place_by_its_whole_name() -> None:
    assert absolute(Path("s3://b/run")) == "s3://b/run"
    assert absolute("run") == str(Path.cwd() / "run")
