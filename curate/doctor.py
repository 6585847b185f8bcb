"""What this machine has and lacks for curate, with the command that remedies each gap.

Nothing here touches the network, and nothing fails: what cannot be found out is a finding too.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import multiprocessing
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GIB = 2**30
_OLDEST_PYTHON = (3, 11)
_LOW_MEMORY = 4 * GIB
_LOW_DISK = 10 * GIB
_FAISS_WHEELS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs")
_BASE = ("dask", "distributed", "numpy", "polars", "pyarrow", "pydantic", "webdataset")
_EXTRAS = {
    "img2dataset": "download", "dask-jobqueue": "cluster", "matplotlib": "eval", "foolbox": "eval",
    "pyautoattack": "eval", "imagecorruptions-imaug": "eval",
}  # fmt: skip
_WEIGHTS = "open_clip_pytorch_model.bin"  # the name where open_clip's registry names none
_IMPORT_ERRORS = (ImportError, RuntimeError, OSError, AttributeError)  # of a package half there


@dataclass(frozen=True)
class Finding:
    """One thing examined. `remedy` is a command or an advice, empty where there is nothing to do.

    `state` is "ok", "warn" (works, with a drawback or a doubt) or "missing".
    """

    area: str
    name: str
    state: Literal["ok", "warn", "missing"]
    detail: str
    remedy: str = ""


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Finding:
    detail = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return Finding("python", "python", "warn", detail, "install Python 3.11 or newer")
    return Finding("python", "python", "ok", detail)


def _start_method() -> Finding:
    """Never fork: a child forked after a threaded torch or faiss call hangs."""
    methods = multiprocessing.get_all_start_methods()
    chosen = multiprocessing.get_start_method(allow_none=True) or f"{methods[0]} by default"
    detail = f"curate starts its workers by spawn; this interpreter: {chosen}"
    return Finding("python", "multiprocessing", "ok", detail)


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes of memory that this process may use: the machine's, or a container's if lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = cgroup / name
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdigit():
            total = min(total, int(text))
    return total


def _cores() -> int:
    """Cores that this process may run on; an affinity mask counts where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _machine(folder: Path) -> list[Finding]:
    processor = f"{_cores()} cores, {platform.machine()}"
    findings = [Finding("machine", "processor", "ok", processor)]
    memory = memory_limit()
    if memory is None:
        findings.append(Finding("machine", "memory", "warn", "its size is not known here"))
    elif memory < _LOW_MEMORY:
        advice = "use smaller batches and fewer workers"
        findings.append(Finding("machine", "memory", "warn", _size(memory), advice))
    else:
        findings.append(Finding("machine", "memory", "ok", _size(memory)))
    free = shutil.disk_usage(folder).free
    detail = f"{_size(free)} free in {folder.resolve()}"
    if free < _LOW_DISK:
        advice = "work in a folder on a larger disk"
        return [*findings, Finding("machine", "disk", "warn", detail, advice)]
    return [*findings, Finding("machine", "disk", "ok", detail)]


def _import(name: str) -> tuple[Any | None, str]:
    """The module, or None and why it cannot be imported."""
    try:
        return importlib.import_module(name), ""
    except _IMPORT_ERRORS as error:
        lines = str(error).strip().splitlines()
        return None, f"{type(error).__name__}: {lines[0] if lines else ''}"


def _package(distribution: str, module: str | None = None) -> Finding:
    """A package that curate needs: its version, and whether `module` can be imported."""
    found = _version(distribution)
    if found is None:
        remedy = f"pip install {distribution}"
        return Finding("packages", distribution, "missing", "not installed", remedy)
    error = _import(module)[1] if module else ""
    if error:
        remedy = f"pip install --force-reinstall {distribution}"
        detail = f"{found}, but its import fails: {error}"
        return Finding("packages", distribution, "warn", detail, remedy)
    return Finding("packages", distribution, "ok", found)


def _extra(distribution: str, extra: str) -> Finding:
    found = _version(distribution)
    if found is None:
        remedy = f"pip install 'curate[{extra}]'"
        return Finding("packages", distribution, "missing", "not installed (optional)", remedy)
    return Finding("packages", distribution, "ok", found)


def _packages() -> list[Finding]:
    heavy = {"torch": "torch", "torchvision": "torchvision", "open_clip_torch": "open_clip"}
    needed = [_package(distribution, module) for distribution, module in heavy.items()]
    needed += [_package(distribution) for distribution in _BASE]
    return needed + [_extra(distribution, extra) for distribution, extra in _EXTRAS.items()]


def _gpus() -> list[Finding]:
    torch, error = _import("torch")
    if torch is None:
        return [Finding("gpu", "cuda", "missing", f"torch cannot be imported: {error}")]
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(at) for at in range(torch.cuda.device_count())]
        return [
            Finding("gpu", f"cuda:{at}", "ok", f"{device.name}, {_size(device.total_memory)}")
            for at, device in enumerate(devices)
        ]
    if shutil.which("nvidia-smi") is None:
        detail, remedy = "no NVIDIA driver", "install the NVIDIA driver if there is a GPU"
    elif torch.version.cuda is None:
        detail = "this torch is built for the CPU only"
        remedy = "pip install --force-reinstall torch torchvision"
    else:
        detail, remedy = f"torch (CUDA {torch.version.cuda}) finds no GPU", "nvidia-smi"
    return [Finding("gpu", "cuda", "missing", f"{detail}; everything runs on the CPU", remedy)]


def faiss_findings(installed: Sequence[str], gpus: int | None) -> list[Finding]:
    """Judge the faiss wheels by name; `gpus` is what faiss sees, None if it cannot be imported.

    All of them install one module `faiss`: the last one installed wins without a word, and
    uninstalling one of two breaks the other.
    """
    names = ", ".join(installed)
    if not installed:
        remedy = "pip install 'curate[cpu]' (or one of the extras gpu, gpu-cu12)"
        return [Finding("faiss", "faiss", "missing", "not installed: no index search", remedy)]
    if len(installed) > 1:
        remedy = f"pip uninstall -y {' '.join(installed)} && pip install 'curate[cpu]'"
        detail = f"{names} overwrite each other; keep one"
        return [Finding("faiss", "faiss", "warn", detail, remedy)]
    if gpus is None:
        remedy = f"pip install --force-reinstall {names}"
        return [Finding("faiss", "faiss", "warn", f"{names} cannot be imported", remedy)]
    wheel = Finding("faiss", "faiss", "ok", f"{names} {_version(names) or ''}".strip())
    if "gpu" in names and not gpus:
        remedy = "nvidia-smi, or pip install 'curate[cpu]' after uninstalling it"
        detail = f"{names} finds no GPU; it searches on the CPU"
        return [wheel, Finding("faiss", "faiss gpus", "warn", detail, remedy)]
    return [wheel, Finding("faiss", "faiss gpus", "ok", f"{gpus} used by faiss")]


def _faiss() -> list[Finding]:
    installed = [name for name in _FAISS_WHEELS if _version(name) is not None]
    _import("torch")  # first: faiss before torch brings a second pool of OpenMP threads
    module = _import("faiss")[0] if installed else None
    counter = getattr(module, "get_num_gpus", None)  # a wheel that another one overwrote has none
    return faiss_findings(installed, None if counter is None else counter())


def _codecs() -> list[Finding]:
    from PIL import features

    findings = [_package("pillow", "PIL.Image")]
    for name, codec in (("jpeg", "jpg"), ("webp", "webp"), ("png", "zlib")):
        if not features.check(codec):
            remedy = "pip install --force-reinstall pillow"
            detail = f"this Pillow cannot read {name}"
            findings.append(Finding("images", name, "missing", detail, remedy))
            continue
        turbo = "libjpeg-turbo " if name == "jpeg" and features.check("libjpeg_turbo") else ""
        version = features.version("libjpeg_turbo" if turbo else codec)
        findings.append(Finding("images", name, "ok", f"{turbo or codec + ' '}{version}"))
    return findings


def cached_models(hub: Path, clip: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """open_clip models whose weights lie on this machine, as ARCH/TAG -> file.

    First those in the Hugging Face cache `hub`, which load by name; then those that only
    open_clip's own folder `clip` has, which load as a weights file.
    """
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    named: dict[str, Path] = {}
    files: dict[str, Path] = {}
    for arch, tag in open_clip.list_pretrained():
        entry = open_clip.get_pretrained_cfg(arch, tag)
        repo, _, filename = str(entry.get("hf_hub", "")).rpartition("/")
        filename = filename or _WEIGHTS
        safe = "open_clip_model.safetensors" if filename == _WEIGHTS else ""
        for candidate in (safe or str(Path(filename).with_suffix(".safetensors")), filename):
            found = try_to_load_from_cache(repo, candidate, cache_dir=hub) if repo else None
            if isinstance(found, str):
                named.setdefault(f"{arch}/{tag}", Path(found))
        local = clip / Path(str(entry.get("url") or "/")).name
        if f"{arch}/{tag}" not in named and local.is_file():
            files[f"{arch}/{tag}"] = local
    return named, files


def detector_findings(named: dict[str, Path], files: dict[str, Path]) -> list[Finding]:
    """Which detectors can be used at once, given the weights that `cached_models` found."""
    area = "detectors"
    findings = [
        Finding(area, "builtin:copy", "ok", "shipped with its weights; the default"),
        Finding(area, "builtin:layout", "ok", "shipped; needs no weights and no network"),
    ]
    for name, path in named.items():
        findings.append(Finding(area, f"open_clip:{name}", "ok", f"weights at {path}"))
    for name, path in files.items():
        detail = f"weights at {path}, outside the cache that names are looked up in"
        remedy = f"use --detector open_clip:{name} --weights {path}"
        findings.append(Finding(area, f"open_clip:{name}", "warn", detail, remedy))
    if not named and not files:
        remedy = "hf download timm/vit_base_patch32_clip_224.openai (for ViT-B-32/openai)"
        detail = "no weights of any model in the local caches"
        findings.append(Finding(area, "open_clip", "missing", detail, remedy))
    return findings


def published_findings(places: Mapping[str, tuple[Path, str]]) -> list[Finding]:
    """Whether the weights of copy detectors are there that nothing downloads by itself.

    Of a family (what stands before the colon) without any, only the first is named.

    Args:
        places: by detector, where its weights are looked for, and the address of the file.
    """
    found = {name for name, (path, _) in places.items() if path.is_file()}
    families = {name.partition(":")[0] for name in found}
    findings = []
    for name, (path, url) in places.items():
        family = name.partition(":")[0]
        if name in found:
            findings.append(Finding("detectors", name, "ok", f"weights at {path}"))
        elif family not in families:
            families.add(family)
            remedy = f"download {url} and put it there, or give it with --weights PATH"
            findings.append(Finding("detectors", name, "missing", f"no weights at {path}", remedy))
    return findings


def _published() -> list[Finding]:
    if _import("torch")[0] is None:  # its hub's folder is where they are looked for
        return []
    from curate.encoders.isc import isc_weights
    from curate.encoders.torchscript import SSCD, sscd_weights

    places = {f"sscd:{name}": sscd_weights(name) for name in SSCD}
    return published_findings({**places, "isc:ft_v107": isc_weights()})


def _detectors() -> list[Finding]:
    hub, error = _import("huggingface_hub.constants")
    error = error or _import("open_clip")[1]
    if hub is None or error:
        found = [one for one in detector_findings({}, {}) if one.state == "ok"]
        remedy = "pip install open_clip_torch"
        return [*found, Finding("detectors", "open_clip", "missing", error, remedy)]
    clip = Path("~/.cache/clip").expanduser()
    return detector_findings(*cached_models(Path(hub.HF_HUB_CACHE), clip))


def examine(folder: Path = Path()) -> list[Finding]:
    """Examine this machine, its packages, and the disk of `folder`, an existing directory.

    Findings come grouped by area. Nothing is downloaded or changed; imports of torch and open_clip
    take some seconds.
    """
    return [
        _python(),
        _start_method(),
        *_machine(folder),
        *_gpus(),
        *_packages(),
        *_faiss(),
        *_codecs(),
        *_detectors(),
        *_published(),
    ]
