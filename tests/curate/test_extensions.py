"""Parts of other packages: found by name, told by name where they are broken, and dated."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from installing import Installs, forget, installing, project

from curate.detectors import Detector, all_detectors, find_detector
from curate.encoders import EncoderSpec, load_encoder
from curate.errors import CurateError
from curate.extensions import extension, extensions, origin, origins, package

MARK = """
from curate.detectors import Detector
part = Detector("thumb:x", 0.9, 0.8, ("identity",), "a guess")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installs]:
    with installing(tmp_path, monkeypatch) as found:
        yield found


def test_a_part_is_found_by_its_name(install: Installs) -> None:
    install(project("mine", "detectors", 'thumb = "my_thumb:part"'), {"my_thumb.py": MARK})
    assert find_detector("thumb:x").threshold == 0.9
    assert find_detector("thumb:other+white").encoder == "thumb:other+white"
    assert find_detector("thumb:x") in all_detectors()
    assert package("detectors", "thumb") == "mine"


def test_what_nobody_brings_is_none() -> None:
    assert extension("detectors", "nothing-of-the-kind", Detector) is None
    assert origin("attacks", "nothing-of-the-kind") == {}
    assert package("losses", "nothing-of-the-kind") is None
    with pytest.raises(CurateError, match="one that starts with"):
        find_detector("thumb:nail")
    with pytest.raises(CurateError, match="with a known prefix"):
        load_encoder(EncoderSpec("thumb:nail"))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("raise RuntimeError('no GPU here')", "cannot be imported .RuntimeError: no GPU here"),
        ("part = 7", "is of type int, but detectors are Detector"),
        ("", "cannot be imported"),
    ],
)
def test_a_broken_package_is_told_by_name(install: Installs, module: str, said: str) -> None:
    install(project("broken", "detectors", 'odd = "my_odd:part"'), {"my_odd.py": module})
    where = "package broken, entry point curate.detectors odd"
    with pytest.raises(CurateError, match=f"{where}.*{said}"):
        find_detector("odd:x")
    assert find_detector("builtin:copy").threshold > 0, "what is shipped does not hang on it"


def test_two_packages_cannot_bring_one_name(install: Installs) -> None:
    for number in (1, 2):
        name = f"my_part{number}"
        point = f'thumb = "{name}:part"'
        install(project(f"one{number}", "detectors", point), {f"{name}.py": MARK})
    with pytest.raises(CurateError, match=r"both bring 'thumb'; uninstall one"):
        find_detector("thumb:x")


def test_a_shipped_name_cannot_be_replaced(install: Installs) -> None:
    install(project("sly", "detectors", 'sscd = "my_sly:part"'), {"my_sly.py": MARK})
    assert find_detector("sscd:disc_mixup").threshold == 0.75
    with pytest.raises(CurateError, match=r"package sly.*cannot be replaced"):
        all_detectors()
    assert list(extensions("detectors", Detector, ())) == ["sscd"]


def test_changed_code_or_another_version_is_another_origin(install: Installs) -> None:
    site = install(project("mine", "attacks", 'odd = "my_odd:part"'), {"my_odd.py": "part = 1"})
    before = origin("attacks", "odd")["extension"]
    assert (before["package"], before["version"]) == ("mine", "1")
    assert origins() == {"attacks:odd": before}
    (site / "my_odd.py").write_text("part = 2")
    forget()
    after = origins()["attacks:odd"]
    assert after["code"] != before["code"]
    (site / "my_odd.py").unlink()
    forget()
    assert origins()["attacks:odd"]["code"] not in {before["code"], after["code"]}
