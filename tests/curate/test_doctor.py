"""The examination of this machine: what is there is found, what is not comes with a remedy."""

import os
import socket
import sys
from pathlib import Path

import pytest

from curate import doctor
from curate.doctor import (
    Finding,
    cached_models,
    detector_findings,
    examine,
    faiss_findings,
    published_findings,
)


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    """Examined with every connection forbidden."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return examine()


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_every_area_is_examined_once_and_in_groups(findings: list[Finding]) -> None:
    areas = list(dict.fromkeys(finding.area for finding in findings))
    assert set(areas) >= {"python", "machine", "gpu", "packages", "faiss", "images", "detectors"}
    names = [(finding.area, finding.name) for finding in findings]
    assert len(set(names)) == len(names)


def test_whatever_is_missing_has_a_remedy(findings: list[Finding]) -> None:
    assert all(finding.remedy for finding in findings if finding.state == "missing")
    assert all(finding.detail for finding in findings)
    assert not [finding for finding in findings if finding.state == "ok" and finding.remedy]


def test_the_packages_these_tests_run_with_are_found(findings: list[Finding]) -> None:
    import numpy as np
    import PIL
    import torch

    found = by_name(findings)
    versions = {"torch": torch.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    for name, version in versions.items():
        assert found[name].state == "ok"
        assert found[name].detail == version.partition("+")[0] or found[name].detail == version
    assert found["faiss"].state == "ok"
    assert sys.executable in found["python"].detail
    assert found["jpeg"].detail.startswith("libjpeg-turbo ")


def test_the_machine_is_described(findings: list[Finding]) -> None:
    found = by_name(findings)
    assert found["processor"].detail.startswith(f"{len(os.sched_getaffinity(0))} cores")
    assert str(Path.cwd()) in found["disk"].detail
    assert found["builtin:copy"].state == found["builtin:layout"].state == "ok"


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    whole = doctor.memory_limit(tmp_path)
    assert whole is not None
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.memory_limit(tmp_path) == whole
    (tmp_path / "memory.max").write_text("123456789\n")
    assert doctor.memory_limit(tmp_path) == 123456789


@pytest.mark.parametrize(
    ("free", "state"), [(doctor._LOW_DISK - 1, "warn"), (doctor._LOW_DISK, "ok")]
)
def test_a_small_disk_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert by_name(doctor._machine(tmp_path))["disk"].state == state


@pytest.mark.parametrize(
    ("installed", "gpus", "states"),
    [
        ([], None, ["missing"]),
        (["faiss-cpu"], 0, ["ok", "ok"]),
        (["faiss-cpu"], None, ["warn"]),
        (["faiss-gpu-cuvs"], 0, ["ok", "warn"]),
        (["faiss-gpu-cuvs"], 2, ["ok", "ok"]),
        (["faiss-cpu", "faiss-gpu"], 0, ["warn"]),
    ],
)
def test_faiss_wheels_are_judged(installed: list[str], gpus: int | None, states: list[str]) -> None:
    found = faiss_findings(installed, gpus)
    assert [finding.state for finding in found] == states
    if len(installed) > 1:
        assert "pip uninstall -y faiss-cpu faiss-gpu &&" in found[0].remedy


def test_a_package_that_is_absent_or_broken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "halfthere-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halfthere\nVersion: 1.2\n")
    (tmp_path / "halfthere.py").write_text("raise RuntimeError('operator does not exist\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    broken = doctor._package("halfthere", "halfthere")
    assert (broken.state, broken.remedy) == ("warn", "pip install --force-reinstall halfthere")
    assert broken.detail == "1.2, but its import fails: RuntimeError: operator does not exist"
    assert doctor._package("not-there-at-all").remedy == "pip install not-there-at-all"
    assert doctor._extra("not-there-at-all", "cluster").remedy == "pip install 'curate[cluster]'"


def put_in_cache(hub: Path, repo: str, filename: str) -> Path:
    """A file as the Hugging Face cache keeps it."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    path = folder / "snapshots" / "abc" / filename
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    return path


def test_cached_weights_become_usable_detectors(tmp_path: Path) -> None:
    import open_clip

    hub, clip = tmp_path / "hub", tmp_path / "clip"
    repo = open_clip.get_pretrained_cfg("ViT-B-32", "openai")["hf_hub"].rstrip("/")
    stored = put_in_cache(hub, repo, "open_clip_model.safetensors")
    put_in_cache(hub, "someone/else", "model.safetensors")
    url = open_clip.get_pretrained_cfg("RN50", "openai")["url"]
    clip.mkdir()
    (clip / Path(url).name).write_bytes(b"weights")
    named, files = cached_models(hub, clip)
    assert "ViT-B-32/openai" in named
    assert set(named.values()) == {stored}
    assert "RN50/openai" in files
    found = by_name(detector_findings(named, files))
    assert found["open_clip:ViT-B-32/openai"].state == "ok"
    assert f"--weights {clip}" in found["open_clip:RN50/openai"].remedy
    assert "open_clip" not in found


def test_without_cached_weights_only_builtin_detectors_are_ready(tmp_path: Path) -> None:
    found = detector_findings(*cached_models(tmp_path / "none", tmp_path / "none"))
    assert [finding.state for finding in found] == ["ok", "ok", "missing"]
    assert "hf download" in found[-1].remedy
    assert not (tmp_path / "none").exists()


def test_weights_that_nothing_downloads_are_looked_for_where_they_are_loaded_from(
    findings: list[Finding],
) -> None:
    found = by_name(findings)
    for name, file in (("sscd:disc_mixup", "sscd_disc_mixup"), ("isc:ft_v107", "isc_ft_v107")):
        assert file in found[name].detail
        assert (found[name].state == "ok") != ("--weights PATH" in found[name].remedy)


def test_of_a_family_without_weights_only_the_first_is_missing(tmp_path: Path) -> None:
    names = ("sscd:a", "sscd:b", "isc:c")
    places = {name: (tmp_path / name[-1], f"https://host/{name[-1]}") for name in names}
    missing = published_findings(places)
    assert [finding.name for finding in missing] == ["sscd:a", "isc:c"]
    assert missing[0].remedy.startswith("download https://host/a ")
    (tmp_path / "b").write_bytes(b"weights")
    assert [(f.name, f.state) for f in published_findings(places)] == [
        ("sscd:b", "ok"),
        ("isc:c", "missing"),
    ]
