"""What a shard is made of: members and samples, and what is read off them (image, label, caption)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

IMAGE_EXTENSIONS = (
    "jpg",
    "jpeg",
    "png",
    "webp",
    "gif",
    "bmp",
    "tif",
    "tiff",
    "ppm",
    "img",
    "image",
)
_MAX_TEXT_BYTES = 1 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class Limits:
    """What is read into memory at most.

    Attributes:
        max_member_bytes: a larger member is a failure row, it is not read.
        max_header_bytes: of extended tar headers in front of one member.
        max_sample_members: members of one sample.
        max_sample_bytes: of all members of one sample together.
    """

    max_member_bytes: int = 256 << 20
    max_header_bytes: int = 16 << 20
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

    So an id never breaks a line of `clean_ids.txt`, a terminal or a Parquet string.
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def unique_keys(samples: Iterator[Sample]) -> Iterator[Sample]:
    """Give samples printable keys that are unique in the shard: a repeated `k` becomes `k#2`, ..."""
    seen: set[str] = set()
    for sample in samples:
        if sample.is_loose:
            yield sample
            continue
        key = base = printable(sample.key)
        count = 1
        while key in seen:
            count += 1
            key = f"{base}#{count}"
        seen.add(key)
        yield sample if key == sample.key else replace(sample, key=key)


def is_unsafe(name: str) -> bool:
    """True for a member name that would leave the folder it is unpacked in."""
    return name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")


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
    texts = {member.extension: member.data for member in sample.members}
    fields = _json_object(texts.get("json"))
    named = fields.get("classname", fields.get("class_name"))
    label = named or _text(texts.get("cls")) or fields.get("label", fields.get("cls"))
    caption = _text(texts.get("txt")) or fields.get("caption")
    return replace(sample, label=as_text(label), caption=as_text(caption))


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
