"""What a shard is made of: members and samples; their image, label and caption."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

# Formats that cannot be decoded are here too: such a file is a failure row, and never passes for
# something that is no image.
IMAGE_EXTENSIONS = frozenset((
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff",
    "ppm", "pgm", "pbm", "pnm", "pfm", "avif", "heic", "heif", "jp2", "j2k", "jxl", "img", "image",
))  # fmt: skip
_MAX_TEXT_BYTES = 1 << 20
_MAX_CLASS_DIGITS = 18  # far more than there are classes; `int` refuses to read thousands
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Limits:
    """What is read into memory at most.

    Attributes:
        max_member_bytes: a larger member is a failure row, it is not read.
        max_header_bytes: of extended tar headers in front of one member; more is damage.
        max_sample_members: members of one sample.
        max_sample_bytes: of all members of one sample together.
    """

    max_member_bytes: int = 256 << 20
    max_header_bytes: int = 1 << 20
    max_sample_members: int = 1000
    max_sample_bytes: int = 512 << 20


@dataclass(frozen=True)
class Failure:
    """Why a sample has no image: a word for counting (`status`) and a sentence for people."""

    status: str
    error: str


@dataclass(frozen=True)
class Member:
    """One file of a sample. `data` is None when it could not be read; `failure` then says why."""

    name: str
    data: bytes | None
    failure: Failure | None = None

    @property
    def extension(self) -> str:
        """What follows the first dot of the file name, in lower case (webdataset's rule)."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()


@dataclass(frozen=True)
class Sample:
    """One `__key__` of a shard, or a loose file that belongs to none (`key` is then empty).

    Attributes:
        image: the name of the member that holds the image; None: the extension tells.
    """

    key: str
    members: tuple[Member, ...] = ()
    failure: Failure | None = None
    label: str | None = None
    caption: str | None = None
    image: str | None = None

    @property
    def is_loose(self) -> bool:
        """True for a file that no sample owns, such as a README in a tar."""
        return not self.key


def printable(name: str) -> str:
    """A stored name as clean text: bytes that are not UTF-8 and control characters are escaped.

    So an id never breaks a line of `clean_ids.txt`, a terminal or a Parquet string, and no mark
    turns the direction of what follows it.
    """
    if name.isprintable():  # as nearly all are
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class UniqueKeys:
    """Printable keys that are unique in a shard: a repeated `k` becomes `k#2`."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._repeats: dict[str, int] = {}  # a key repeated a million times is still one step each

    def of(self, key: str) -> str:
        """The key in an item id of the shard's next sample."""
        key = base = printable(key)
        while key in self._seen:
            self._repeats[base] = self._repeats.get(base, 1) + 1
            key = f"{base}#{self._repeats[base]}"
        self._seen.add(key)
        return key


def unique_keys(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Give samples the keys that they have in item ids; loose files have none."""
    unique = UniqueKeys()
    for sample in samples:
        key = "" if sample.is_loose else unique.of(sample.key)
        yield sample if key == sample.key else replace(sample, key=key)


def is_unsafe(name: str) -> bool:
    """True for a name that would leave the folder it is unpacked in, or that no file can have."""
    leaves = name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")
    return leaves or "\0" in name


def image_member(sample: Sample) -> Member | Failure:
    """The member that holds the image, or why the sample has none that can be used.

    The first member wins whose last extension is a known image extension, in the shard's order.
    A sample with any member that could not be read is a failure as a whole: a clean copy of it
    could not be complete.
    """
    failures = [member.failure for member in sample.members if member.failure]
    if sample.failure or failures:
        return sample.failure or failures[0]
    for member in sample.members:
        extension = member.extension.rpartition(".")[2]
        if member.name == sample.image or (not sample.image and extension in IMAGE_EXTENSIONS):
            return member
    names = ", ".join(printable(member.name) for member in sample.members[:5]) or "none"
    return Failure("no_image", f"no member with an image extension (members: {names})")


def describe(sample: Sample) -> Sample:
    """Fill in label and caption from the sample's `.cls`, `.txt` and `.json` members."""
    return describe_from({member.extension: member.data for member in sample.members}, sample)


def describe_from(texts: Mapping[str, bytes | None], sample: Sample) -> Sample:
    """Fill in label and caption from the contents of files, by extension."""
    fields = _json_object(texts.get("json"))
    named = fields.get("classname", fields.get("class_name"))
    label = named or _text(texts.get("cls")) or fields.get("label", fields.get("cls"))
    caption = _text(texts.get("txt")) or fields.get("caption")
    return replace(sample, label=as_text(label), caption=as_text(caption))


def class_name(label: str | None, names: Sequence[str]) -> str | None:
    """The name of a class whose label is a number, where the data set has a list of names."""
    if label is None or not label.isdecimal() or len(label) > _MAX_CLASS_DIGITS:
        return label
    return names[int(label)] if int(label) < len(names) else label


def as_text(value: object) -> str | None:
    """A label or caption as text; null for anything that is neither text nor a number."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).encode("utf-8", "replace").decode()
    return None


def _text(data: bytes | None) -> str | None:
    if not data or len(data) > _MAX_TEXT_BYTES:
        return None
    return data.decode("utf-8", "replace").strip() or None


def _json_object(data: bytes | None) -> dict[str, object]:
    if not data or len(data) > _MAX_TEXT_BYTES:
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
