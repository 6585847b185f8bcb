"""Throw-away environments, made by pip from a wheel that is built here."""

import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

from benchmarks.side_by_side import environments
from benchmarks.side_by_side.environments import CannotInstallError, Environment, make


def wheel(folder: Path, version: str) -> Path:
    """A wheel with one module that knows its version."""
    path = folder / f"peer-{version}-py3-none-any.whl"
    about = f"peer-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("peer.py", f"VERSION = {version!r}\n")
        metadata = f"Metadata-Version: 2.1\nName: peer\nVersion: {version}\n"
        archive.writestr(f"{about}/METADATA", metadata)
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path


def says(python: Path, text: str) -> str:
    done = subprocess.run([python, "-c", text], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_an_environment_is_made_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    venv.create(base)
    (site,) = base.glob("lib/python3.*/site-packages")
    (site / "shared.py").write_text("NAME = 'of the base'\n")
    (site / "peer.py").write_text("VERSION = 'of the base'\n")
    for version in ("1.0", "2.0"):
        wanted = Environment((str(wheel(tmp_path, version)),), ("peer",))
        monkeypatch.setitem(environments.ENVIRONMENTS, "made-up", wanted)
        python = make("made-up", tmp_path / "all", base)
        made = python.parents[1].stat().st_ino
        assert says(python, "import peer, shared; print(peer.VERSION, shared.NAME)") == (
            f"{version} of the base"
        )
        assert make("made-up", tmp_path / "all", base) == python
        assert python.parents[1].stat().st_ino == made


@pytest.mark.slow
def test_what_pip_cannot_install_is_told_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Environment((str(tmp_path / "absent-1.0-py3-none-any.whl"),), ())
    monkeypatch.setitem(environments.ENVIRONMENTS, "made-up", wanted)
    with pytest.raises(CannotInstallError, match=r"absent-1\.0"):
        make("made-up", tmp_path / "all", None)
    assert not (tmp_path / "all" / "made-up" / environments.READY).exists()


def test_every_requirement_of_a_peer_has_its_version() -> None:
    for wanted in environments.ENVIRONMENTS.values():
        for one in (*wanted.requirements, *wanted.loose):
            assert "==" in one or one.startswith("setuptools<")


def test_a_base_that_is_no_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotInstallError, match="no environment of Python"):
        environments.see_packages(tmp_path, None, own=False)
