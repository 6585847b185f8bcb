"""Names from stores and manifests never lead out of a folder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.artifacts import Manifest
from curate.errors import CurateError
from curate.storage.names import check_object_name, is_below, is_published, joined, output_digests


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/../x", "/etc/x", "a//b", "a/./b", "a/", "a\nb", "a\0b", "a\\..\\b", "x" * 256],
)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(CurateError, match="can be no file's"):
        check_object_name(name, "s3://b/run")


@pytest.mark.parametrize("name", ["a", "a/b.tar", "é/ü.jpg", "a b/c=d", ".hidden/x", "..a"])
def test_usual_names_stay_as_they_are(name: str) -> None:
    assert check_object_name(name, "s3://b/run") == name


@given(st.text())
def test_a_name_that_passes_stays_in_its_folder(name: str) -> None:
    try:
        check_object_name(name, "place")
    except CurateError:
        return
    assert not name.startswith("/")
    assert ".." not in name.split("/")


def test_what_is_being_written_is_not_published() -> None:
    assert is_published("a/b/run.json")
    for name in ("a/.lock", ".x.partial/y", "a/b.tmp", "a/.b/c", "a.lock", "x.partial/y"):
        assert not is_published(name)


def test_every_name_is_below_the_address_itself() -> None:
    assert is_below("a/b", ".")
    assert is_below("a/b", "a")
    assert not is_below("ab/c", "a")
    assert joined(".", "x") == "x"
    assert joined("a", "x") == "a/x"


def test_outputs_of_a_manifest_are_checked_too() -> None:
    good = Manifest("split", {}, [], [{"path": "a", "bytes": 1, "sha256": "0"}])
    assert output_digests(good, "here") == {"a": "0"}
    with pytest.raises(CurateError, match="can be no file's"):
        output_digests(Manifest("split", {}, [], [{"path": "../a", "sha256": "0"}]), "here")
    with pytest.raises(CurateError, match="lists no outputs"):
        output_digests(Manifest("split", {}, [], [{"bytes": 1}]), "here")
