"""URL lists: every row is either fetched or refused with a reason."""

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hollow_tables import write_hollow
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import CurateError
from curate.url_list import ListColumns, read_url_list

TABLE = pl.DataFrame({"link": ["http://a/1", "HTTPS://b/2"], "text": ["x, y", None], "n": [1, 2]})


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_all_kinds_of_tables_give_the_same_list(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list[1]{suffix}"  # a name, not a pattern
    if suffix == ".parquet":
        TABLE.write_parquet(path)
    else:
        TABLE.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    found = read_url_list(path, ListColumns(url="link", caption="text", keep=("n",)))
    assert found.fetch.columns == ["list_row", "url", "caption", "n"]
    assert found.fetch["url"].to_list() == TABLE["link"].to_list()
    assert found.fetch["caption"].to_list() == ["x, y", None]
    assert found.refused.height == 0


def test_a_text_list_keeps_commas_and_skips_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text('http://a/1,2.jpg\n\n  http://b/"q".jpg \n')
    found = read_url_list(tmp_path / "list.txt", ListColumns())
    assert found.fetch.rows() == [(0, "http://a/1,2.jpg"), (1, 'http://b/"q".jpg')]


@pytest.mark.parametrize("columns", [{"caption": "list"}, {"sha256": "list"}])
def test_a_column_that_is_no_text_is_named(tmp_path: Path, columns: dict[str, str]) -> None:
    path = tmp_path / "list.parquet"
    pl.DataFrame({"url": ["http://a/1"], "list": [[b"x"]]}).write_parquet(path)
    with pytest.raises(CurateError, match=r"list\.parquet: column 'list' holds List"):
        read_url_list(path, ListColumns(**columns))


@given(st.lists(st.none() | st.text(max_size=12) | st.just("http://h/x"), min_size=1, max_size=8))
def test_fetched_and_refused_rows_are_the_whole_list(urls: list[str | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.parquet"
        pl.DataFrame({"url": urls}, schema={"url": pl.String}).write_parquet(path)
        found = read_url_list(path, ListColumns())
    both = pl.concat([found.fetch, found.refused.select("list_row", "url")]).sort("list_row")
    assert both["url"].to_list() == urls
    assert both["list_row"].to_list() == list(range(len(urls)))
    assert all(url.strip().lower().startswith(("http:", "https:")) for url in found.fetch["url"])


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "URL:file:///etc/passwd", "<URL:file:///x>", "local_file:///x"),
        *("data:image/png;base64,AA", "ftp://h/x", "httpx://h/x", "http:/x", "http://", "//h/x"),
        " ",
    ],
)
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    pl.DataFrame({"url": [url]}).write_parquet(tmp_path / "list.parquet")
    found = read_url_list(tmp_path / "list.parquet", ListColumns())
    assert found.fetch.height == 0
    assert found.refused.select("url", "status").rows() == [(url, "refused")]


def test_digests_are_compared_in_lower_case(tmp_path: Path) -> None:
    pl.DataFrame({"url": ["http://h/x"], "d": ["AB" * 32]}).write_csv(tmp_path / "list.csv")
    found = read_url_list(tmp_path / "list.csv", ListColumns(sha256="d"))
    assert found.fetch["sha256"].to_list() == ["ab" * 32]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (ListColumns(), r"no column \['url'\]; it has \['link', 'text', 'n'\]"),
        (ListColumns(url="n"), "holds Int64, not text"),
        (ListColumns(url="link", keep=("absent",)), "absent"),
        (ListColumns(url="link", sha256="text"), "row 0: 'x, y' is no sha256"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, columns: ListColumns, message: str) -> None:
    TABLE.write_parquet(tmp_path / "list.parquet")
    with pytest.raises(CurateError, match=message):
        read_url_list(tmp_path / "list.parquet", columns)


def test_columns_that_cannot_travel_are_refused(tmp_path: Path) -> None:
    table = pl.DataFrame({"url": ["http://h/x"], "status": ["a"], "raw": [b"\x00"]})
    table.write_parquet(tmp_path / "list.parquet")
    for name, message in (("status", "names are used"), ("raw", "holds Binary")):
        with pytest.raises(CurateError, match=message):
            read_url_list(tmp_path / "list.parquet", ListColumns(keep=(name,)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.parquet", b"no parquet", "cannot be read as a .parquet list"),
        ("list.csv", b"", "the list is empty"),
        ("list.csv", b"url\n", "the list is empty"),
        ("list.txt", b"\n\n", "the list is empty"),
        ("list.txt", b"\xff\xfe\x00", "cannot be read as a .txt list"),
        ("list.xls", b"x", "unknown kind of list"),
    ],
)
def test_unusable_files_are_errors(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CurateError, match=message):
        read_url_list(tmp_path / name, ListColumns())


def test_a_list_whose_rows_are_lost_is_an_error(tmp_path: Path) -> None:
    path = write_hollow(tmp_path / "list.parquet", ["url"])
    with pytest.raises(CurateError, match=r"list\.parquet: cannot be read as a \.parquet list"):
        read_url_list(path, ListColumns())


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="there is no such file"):
        read_url_list(tmp_path / "list.csv", ListColumns())
