"""What a path option stands for: a place on this machine, or a URL that `Path` has flattened."""

import re
from pathlib import Path

from curate.errors import CurateError

_PROTOCOLS = (
    *("http", "https", "s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "adl", "oci", "oss"),
    *("ftp", "sftp", "hdfs", "webhdfs", "memory", "file", "local"),
)
_LOCAL = ("file", "local")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_FLATTENED = re.compile(rf"({'|'.join(_PROTOCOLS)}):/+(?=[^/])", re.IGNORECASE)


def url_of(given: Path | str) -> str | None:
    """The URL that is meant, without a slash at its end; None for a place on this machine.

    `Path("s3://bucket/run")` is `s3:/bucket/run`, which this undoes. A folder that is really named
    `s3:` is reached as `./s3:`, which `Path` flattens too, so by its absolute path.

    Raises:
        CurateError: it is a URL without anything in it.
    """
    text = str(given)
    if _URL.match(text) is None:
        text = _FLATTENED.sub(r"\1://", text, count=1) if isinstance(given, Path) else text
    found = _URL.match(text)
    if found is None or found[1].lower() in _LOCAL:
        return None
    rest = text[found.end() :].rstrip("/")
    if not rest:
        raise CurateError(f"{text}: names nothing; give an address such as s3://bucket/run.")
    return f"{found[1].lower()}://{rest}"


def local_of(given: Path | str) -> Path:
    """The path of a place on this machine, which `file://` may stand before."""
    text = str(given)
    for protocol in _LOCAL:
        for start in (f"{protocol}:///", f"{protocol}:/"):
            if text.startswith(start):
                return Path("/" + text.removeprefix(start))
    return Path(given)


def below(given: Path | str, name: str) -> Path | str:
    """What a path or URL has of a name in it."""
    url = url_of(given)
    return local_of(given) / name if url is None else f"{url}/{name}"


def absolute(given: Path | str) -> str:
    """A place as others may find it: a URL as it was given, or an absolute path."""
    return url_of(given) or str(local_of(given).absolute())
