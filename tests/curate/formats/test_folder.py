"""Image folders: nothing that lies in one is lost, followed outside or waited for."""

import os
from pathlib import Path

import pytest
from archives import keys, statuses
from timing import cpu_seconds

from curate.errors import CurateError
from curate.formats import folder
from curate.samples import Limits, Sample


def put(root: Path, **files: bytes) -> Path:
    """Write files; `__` in a name stands for a folder, `_` for the last dot."""
    for name, data in files.items():
        path = root / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def read(root: Path, directory: str = ".", limits: Limits | None = None) -> list[Sample]:
    return list(folder.read(root, directory, limits or Limits()))


def test_every_folder_with_files_is_a_shard(tmp_path: Path) -> None:
    put(tmp_path, a_jpg=b"1", cat__x_jpg=b"2", dog__old__y_png=b"3", dog__z_txt=b"4")
    (tmp_path / "empty").mkdir()
    assert folder.directories(tmp_path) == [".", "cat", "dog", "dog/old"]


def test_images_are_samples_sorted_by_name_with_their_side_files(tmp_path: Path) -> None:
    put(tmp_path, cat__b_JPG=b"2", cat__a_png=b"1", cat__a_txt=b"a cat", cat__a_json=b"{}")
    found = read(tmp_path, "cat")
    assert keys(found) == ["a.png", "b.JPG"]
    assert [[m.name for m in s.members] for s in found] == [
        ["cat/a.png", "cat/a.json", "cat/a.txt"],
        ["cat/b.JPG"],
    ]
    assert [(s.label, s.caption, s.image) for s in found] == [
        ("cat", "a cat", "cat/a.png"),
        ("cat", None, "cat/b.JPG"),
    ]


def test_the_folder_is_the_label_unless_a_side_file_says_otherwise(tmp_path: Path) -> None:
    put(tmp_path, a_jpg=b"1", deep__cat__a_jpg=b"1", deep__cat__b_jpg=b"1", deep__cat__b_cls=b"7")
    assert [s.label for s in read(tmp_path)] == [None]
    assert [s.label for s in read(tmp_path, "deep/cat")] == ["cat", "7"]


def test_dots_in_a_file_name_do_not_hide_its_side_files(tmp_path: Path) -> None:
    (tmp_path / "photo.v2.jpg").write_bytes(b"1")
    (tmp_path / "photo.v2.txt").write_bytes(b"words")
    assert [(s.key, s.caption) for s in read(tmp_path)] == [("photo.v2.jpg", "words")]


def test_other_files_are_loose_and_images_of_odd_kinds_are_not(tmp_path: Path) -> None:
    put(tmp_path, notes_md=b"1", other_txt=b"2", a_heic=b"3", b_jfif=b"4", c_PGM=b"5")
    (tmp_path / "LICENSE").write_bytes(b"6")
    found = read(tmp_path)
    assert keys(found) == ["a.heic", "b.jfif", "c.PGM"]
    assert [s.members[0].name for s in found if s.is_loose] == ["LICENSE", "notes.md", "other.txt"]


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    root = put(tmp_path / "set", a__real_jpg=b"inside")
    (tmp_path / "secret.jpg").write_bytes(b"outside")
    links = {
        "in.jpg": "a/real.jpg", "out.jpg": "../secret.jpg", "dangling.jpg": "nowhere.jpg",
        "loop.jpg": "loop.jpg", "up.jpg": "..", "class": "a", "abs.jpg": "/etc/passwd",
    }  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    found = read(root)
    assert statuses(found) == {
        "abs.jpg": "link", "class": "link", "dangling.jpg": "link", "in.jpg": None,
        "loop.jpg": statuses(found)["loop.jpg"], "out.jpg": "link", "up.jpg": "link",
    }  # fmt: skip
    assert statuses(found)["loop.jpg"] in ("link", "failed_to_read")
    assert [m.data for s in found for m in s.members if m.data] == [b"inside"]
    assert folder.directories(root) == [".", "a"]


def test_a_pipe_is_a_failure_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert statuses(read(tmp_path)) == {"a.jpg": "link"}


def test_what_cannot_be_read_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, a_jpg=b"1", b_jpg=b"12345")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    assert statuses(read(tmp_path, limits=Limits(max_member_bytes=4))) == {
        "a.jpg": None,
        "b.jpg": "too_large",
    }
    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything
    assert set(statuses(read(tmp_path)).values()) == {"failed_to_read"}


def test_a_folder_that_cannot_be_listed_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="gone: the folder cannot be listed"):
        folder.directories(tmp_path / "gone")
    with pytest.raises(CurateError, match="gone: the folder cannot be listed"):
        read(tmp_path, "gone")


def test_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).write_bytes(b"1")
    assert [s.key for s in read(tmp_path)] == [name]


def test_a_large_flat_folder_takes_no_quadratic_time(tmp_path: Path) -> None:
    for number in range(4000):
        (tmp_path / f"{number}.jpg").touch()
    assert len(read(tmp_path)) == 4000
    assert cpu_seconds(lambda: read(tmp_path)) < 4


def test_copies_have_the_same_names_and_bytes(tmp_path: Path) -> None:
    root = put(tmp_path / "set", a__x_jpg=b"1", a__x_txt=b"2", a__LICENSE_md=b"3", a__y_jpg=b"4")
    kept = [s for s in read(root, "a") if s.key != "y.jpg"]
    assert folder.write(tmp_path / "copy", kept) == 1
    copied = {p.relative_to(tmp_path / "copy").as_posix() for p in folder.files(tmp_path / "copy")}
    assert copied == {"a/x.jpg", "a/x.txt", "a/LICENSE.md"}
    assert all((tmp_path / "copy" / c).read_bytes() == (root / c).read_bytes() for c in copied)


def test_the_files_of_each_sample_are_listed_without_being_read(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "a.txt", "note.md"):
        (tmp_path / name).write_bytes(name.encode())
    places = dict(folder.index(tmp_path, "."))
    assert [(key, [path.name for path in paths]) for key, paths in places.items()] == [
        ("a.jpg", ["a.jpg", "a.txt"]), ("b.png", ["b.png"]),
    ]  # fmt: skip
    found = folder.read_sample(tmp_path, ".", places["a.jpg"], Limits())
    assert found == next(s for s in folder.read(tmp_path, ".", Limits()) if s.key == "a.jpg")
