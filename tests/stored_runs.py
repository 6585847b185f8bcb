"""Small artifacts in runs that are stored elsewhere."""

from pathlib import Path

from curate import artifacts
from curate.artifacts import Manifest
from curate.files import write_bytes, write_json


def make(run: Path, name: str, word: str, files: int = 2) -> bool:
    """Finish an artifact that depends on a word; False: it is there already."""
    manifest = Manifest("split", {"word": word}, [])
    if artifacts.finished(run / name, manifest.key):
        return False
    work = artifacts.work_folder(run / name, manifest.key)
    for number in range(files):
        write_bytes(work / f"part_{number}.bin", f"{word} {number} ".encode() * 200)
    write_bytes(work / "same.bin", b"the same in all" * 100)
    write_json(work / artifacts.FACTS / "times.json", {"word": word})
    artifacts.commit(work, run / name, manifest)
    return True


def tree(root: Path) -> dict[str, bytes]:
    """All files below a folder that are not hidden, by name."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(root).parts)
    }
