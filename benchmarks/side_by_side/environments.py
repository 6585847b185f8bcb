"""Throw-away environments of peers: what each installs, and how one is made."""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

READY = "peer-ready.txt"


class CannotInstallError(Exception):
    """A peer's environment could not be made; the text is why."""


@dataclass(frozen=True)
class Environment:
    """What a peer needs.

    Attributes:
        requirements: what pip is asked for, each with its version.
        packages: those whose versions a result states.
        loose: installed without what they ask for, as their own pins are older than what works.
        sees_own: whether it sees the packages of this Python, as it runs code of this project too.
    """

    requirements: tuple[str, ...]
    packages: tuple[str, ...]
    loose: tuple[str, ...] = ()
    sees_own: bool = False


ENVIRONMENTS = {
    "imagededup": Environment(
        ("imagededup==0.3.3.post2",), ("imagededup", "numpy", "scipy", "pillow", "torch")
    ),
    "fastdup": Environment(
        # 3.11's venv has no setuptools for `pkg_resources`, which fastdup imports
        ("fastdup==2.54", "setuptools<81"),
        ("fastdup", "numpy", "opencv-python-headless", "pillow"),
    ),
    "cleanvision": Environment(
        ("cleanvision==0.3.7",), ("cleanvision", "imagehash", "numpy", "pandas", "pillow")
    ),
    "thumbnails": Environment(
        ("faiss-cpu==1.15.1", "numpy==2.4.6", "pillow==13.0.0"), ("faiss-cpu", "numpy", "pillow")
    ),
    "clip-retrieval": Environment(
        ("clip-retrieval==2.45.0", "setuptools<81"),
        ("clip-retrieval", "all-clip", "open_clip_torch", "torch", "numpy", "webdataset", "pillow"),
    ),
    "clip-benchmark": Environment(
        # newer ones refuse what its accuracy does: to make a number of an array of one
        ("clip-benchmark==1.6.2", "numpy==2.2.6"),
        ("clip-benchmark", "open_clip_torch", "torch", "numpy", "webdataset", "pillow"),
    ),
    "attacks": Environment(
        ("torchattack==1.7.2", "foolbox==3.3.4", "pyautoattack==0.2.0"),
        ("torchattacks", "torchattack", "foolbox", "pyautoattack", "torch"),
        loose=("torchattacks==3.5.1",),
        sees_own=True,
    ),
}


def make(name: str, root: Path, base: Path | None) -> Path:
    """The Python of a peer's environment, which is made unless it is there as it should be.

    Args:
        name: a key of `ENVIRONMENTS`.
        root: the folder of all environments.
        base: another environment, whose packages this one sees where it lacks its own: torch need
            not be stored once for each peer.

    Raises:
        CannotInstallError: the environment cannot be made, or pip cannot install what it needs.
    """
    wanted = ENVIRONMENTS[name]
    folder = root.absolute() / name
    python = folder / "bin" / "python"
    described = hashlib.sha256(f"{wanted} {base} {sys.version}".encode()).hexdigest()
    mark = folder / READY
    if mark.is_file() and mark.read_text() == described:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    log = root / f"{name}.log"
    log.write_text("")
    _call([sys.executable, "-m", "venv", str(folder)], log)
    see_packages(folder, base, own=wanted.sees_own)
    pip = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    _call([*pip, *wanted.requirements], log)
    if wanted.loose:
        _call([*pip, "--no-deps", *wanted.loose], log)
    mark.write_text(described)
    return python


def see_packages(folder: Path, base: Path | None, *, own: bool) -> None:
    """Let an environment see the packages of another one, behind its own.

    Args:
        folder: the environment.
        base: the other one, or None.
        own: whether it sees the packages of the Python that runs this, too.
    """
    site = _site(folder)
    seen = [_site(base)] if base is not None else []
    if own:
        seen.append(Path(sysconfig.get_path("purelib")))
    if seen:
        lines = dict.fromkeys(str(path.absolute()) for path in seen)
        (site / "base.pth").write_text("\n".join(lines) + "\n")


def _site(folder: Path) -> Path:
    found = sorted(folder.glob("lib/python3.*/site-packages"))
    if not found:
        raise CannotInstallError(
            f"{folder}: no environment of Python (lib/python3.*/site-packages)"
        )
    return found[0]


def _call(words: list[str], log: Path) -> None:
    """Run a command into the log.

    Raises:
        CannotInstallError: it failed; the text is the last error of the log.
    """
    with log.open("a") as out:
        done = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = [line for line in log.read_text().splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise CannotInstallError((errors or lines or ["no word why"])[-1])
