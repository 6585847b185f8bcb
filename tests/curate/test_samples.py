"""Keys are clean and unique, labels and captions are read off hostile members without harm."""

import json
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timing import cpu_seconds

from curate import samples
from curate.samples import (
    Failure,
    Limits,
    Member,
    Sample,
    as_text,
    class_name,
    describe,
    image_member,
    is_unsafe,
    printable,
    unique_keys,
)

stored_names = st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@given(stored_names)
def test_printable_names_are_one_line_of_utf8(name: str) -> None:
    clean = printable(name)
    assert clean.encode("utf-8").decode() == clean
    assert clean.splitlines() in ([clean], [])
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in clean)
    assert printable(clean) == clean


@given(st.text() | st.text(st.characters(exclude_categories=["Ll", "Lu", "Lo"])))
def test_a_printable_name_stays_as_it_is(name: str) -> None:
    assert (printable(name) == name) == (not samples._CONTROL.search(name))


def test_marks_that_turn_the_direction_of_text_are_escaped() -> None:
    assert printable("a\u202egpj.exe\u2028") == r"a\u202egpj.exe\u2028"
    assert printable("mot\u200d\u00e9\U0001f600 ok") == "mot\u200d\u00e9\U0001f600 ok"


@given(st.lists(st.sampled_from(["", "a", "a#2", "a#3", "a\n", "a\\n"]), max_size=20))
def test_keys_become_unique_in_order(keys: list[str]) -> None:
    unique = [s.key for s in unique_keys(Sample(key) for key in keys)]
    owned = [key for key in unique if key]
    assert len(set(owned)) == len(owned)
    assert [bool(key) for key in unique] == [bool(key) for key in keys]
    assert all(new.startswith(printable(old)) for new, old in zip(unique, keys, strict=True))


def test_a_key_repeated_very_often_takes_no_time() -> None:
    def last() -> str:
        return deque(unique_keys(Sample("k") for _ in range(50_000)), maxlen=1)[0].key

    assert last() == "k#50000"
    assert cpu_seconds(last) < 3


@pytest.mark.parametrize("name", ["/a", "\\a", "a/../b", "..", "a\\..\\b", "a\0b"])
def test_unsafe_names(name: str) -> None:
    assert is_unsafe(name)


@pytest.mark.parametrize("name", ["a", "./a", "a/b", "..a", "a..", "a/..b/c", "", "a\nb"])
def test_safe_names(name: str) -> None:
    assert not is_unsafe(name)


def sample(**members: bytes | None) -> Sample:
    return Sample("k", tuple(Member(f"k.{ext}", data) for ext, data in members.items()))


def test_the_first_image_in_the_shards_order_is_the_image() -> None:
    found = image_member(sample(txt=b"t", PNG=b"1", jpg=b"2"))
    assert isinstance(found, Member)
    assert found.name == "k.PNG"
    named = Sample("k", (Member("image", b"x"), Member("k.jpg", b"y")), image="image")
    assert image_member(named) == named.members[0]


def test_a_sample_without_an_image_or_with_a_failed_member_is_a_failure() -> None:
    missing = image_member(sample(txt=b"t", **{f"x{n}": b"" for n in range(9)}))
    assert isinstance(missing, Failure)
    assert missing.status == "no_image"
    assert "k.txt" in missing.error
    cut = Failure("cut_short", "x")
    assert image_member(Sample("k", (Member("k.jpg", b""), Member("k.cls", None, cut)))) == cut
    assert image_member(Sample("k", (Member("k.jpg", b""),), failure=cut)) == cut


def test_pictures_of_unreadable_formats_count_as_images() -> None:
    for extension in ("heic", "avif", "jfif", "pgm", "seg.jpg"):
        assert isinstance(image_member(sample(**{extension: b"x"})), Member)


def described(**members: bytes) -> tuple[str | None, str | None]:
    done = describe(sample(**members))
    return done.label, done.caption


def test_labels_and_captions_by_precedence() -> None:
    table = json.dumps({"label": 3, "caption": "from json"}).encode()
    assert described(cls=b" 7\n", txt=b" two words ", json=table) == ("7", "two words")
    assert described(json=table) == ("3", "from json")
    assert described(cls=b"7", json=b'{"classname": "owl"}') == ("owl", None)
    assert described(jpg=b"x") == (None, None)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 90_000, b'{"label": [1]}', b'{"label": true}',
     b'{"label": ' + b"9" * 5000 + b"}", b'{"caption": null}', b" " * (2 << 20)],
)  # fmt: skip
def test_hostile_json_gives_neither_label_nor_caption(data: bytes) -> None:
    assert described(json=data) == (None, None)


def test_text_that_is_no_utf8_is_replaced() -> None:
    assert described(txt=b"caf\xe9", json=rb'{"label": "\ud800"}') == ("?", "caf\ufffd")
    assert as_text(1.5) == "1.5"
    assert as_text(b"x") is None


def test_class_names_stand_for_numbers_only() -> None:
    names = ["cat", "dog"]
    assert [class_name(x, names) for x in ("0", "1", "2", "-1", "cat", "1.0", None)] == [
        "cat", "dog", "2", "-1", "cat", "1.0", None,
    ]  # fmt: skip
    assert class_name("9" * 5000, names) == "9" * 5000
    assert class_name("٣", names) == "٣"


def test_limits_keep_a_sample_within_memory() -> None:
    limits = Limits()
    assert limits.max_member_bytes <= limits.max_sample_bytes <= 1 << 30
