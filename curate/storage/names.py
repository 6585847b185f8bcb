"""Names of objects and of files in a folder, of which none leads out of it."""

from pathlib import PurePosixPath

from curate.artifacts import Manifest
from curate.errors import CurateError

_LONGEST = 255  # bytes that file systems take for one part of a path
_UNFIT = (".tmp", ".partial", ".lock")


def check_object_name(name: str, place: str) -> str:
    """A name below a folder, as it was given.

    Args:
        name: relative, with slashes.
        place: what it was found in, for messages.

    Raises:
        CurateError: as a file it would lie outside of its folder, or nowhere.
    """
    parts = name.split("/")
    is_fit = all(
        part not in ("", ".", "..")
        and part.isprintable()
        and "\\" not in part
        and len(part.encode("utf-8", "surrogatepass")) <= _LONGEST
        for part in parts
    )
    if not is_fit:
        raise CurateError(
            f"{place}: holds an object whose name can be no file's ({name!r}); remove or rename it."
        )
    return name


def is_published(name: str) -> bool:
    """False for what belongs to one machine only: hidden files, locks, what is being written."""
    path = PurePosixPath(name)
    return not any(part.startswith(".") or part.endswith(_UNFIT) for part in path.parts)


def is_below(name: str, folder: str) -> bool:
    """True for a name in a folder; every name is in the folder "."."""
    return folder == "." or name.startswith(folder + "/")


def joined(folder: str, name: str) -> str:
    """The name of a file in a folder; the folder "." adds nothing."""
    return name if folder == "." else f"{folder}/{name}"


def output_digests(manifest: Manifest, place: str) -> dict[str, str]:
    """The SHA-256 of each output of an artifact, by its name.

    Raises:
        CurateError: an output has no name or digest, or a name that can be no file's.
    """
    try:
        return {
            check_object_name(str(output["path"]), place): str(output["sha256"])
            for output in manifest.outputs
        }
    except (KeyError, TypeError) as error:
        raise CurateError(
            f"{place}: its manifest lists no outputs ({error}); write the artifact again."
        ) from error
