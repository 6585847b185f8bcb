"""Names, slugs, the cache of loaded models, and the fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import curate
from curate.encoders import (
    Encoder,
    EncoderSpec,
    cached_encoder,
    decoding_of,
    encoder_slug,
    fingerprint,
    least_side,
    library_versions,
    load_encoder,
    probe_image,
)
from curate.errors import CurateError

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.usefixtures("tiny_archs")
ROOT = Path(curate.__file__).parent.parent
IN_ANOTHER_PROCESS = """
import hashlib, json, sys
import numpy as np
from curate.encoders import EncoderSpec, fingerprint, load_encoder
encoder = load_encoder(EncoderSpec("open_clip:local-dir", weights=sys.argv[1], device="cpu"))
batch = np.random.default_rng(0).normal(size=(3, *encoder.input_shape)).astype(np.float32)
vectors = hashlib.sha256(encoder.encode(batch).tobytes()).hexdigest()
print(json.dumps([fingerprint(encoder), vectors]))
"""


@pytest.fixture
def local_dir(tmp_path: Path, tiny_configs: dict[str, Any]) -> Path:
    write_config(tmp_path, tiny_configs, "shortest")
    random = load_encoder(EncoderSpec("open_clip:tinytest-rn/random", device="cpu"))
    save_weights(tmp_path, random.module.state_dict())  # type: ignore[attr-defined]
    return tmp_path


def write_config(folder: Path, configs: dict[str, Any], resize_mode: str) -> None:
    config = {
        "model_cfg": configs["tinytest-rn"],
        "preprocess_cfg": {"resize_mode": resize_mode},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def save_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    plain = {key: value.contiguous() for key, value in state.items()}
    save_file(plain, folder / "open_clip_model.safetensors")


def load_dir(folder: Path) -> Encoder:
    return load_encoder(EncoderSpec("open_clip:local-dir", weights=str(folder), device="cpu"))


def test_fingerprint_and_vectors_are_equal_in_another_process(local_dir: Path) -> None:
    encoder = load_dir(local_dir)
    batch = np.random.default_rng(0).normal(size=(3, *encoder.input_shape)).astype(np.float32)
    here = [fingerprint(encoder), hashlib.sha256(encoder.encode(batch).tobytes()).hexdigest()]
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(local_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "12345"},
    )
    assert json.loads(done.stdout) == here


def test_fingerprint_changes_with_one_weight(local_dir: Path) -> None:
    encoder = load_dir(local_dir)
    state = {k: v.contiguous().clone() for k, v in encoder.module.state_dict().items()}  # type: ignore[attr-defined]
    state["visual.conv2.weight"].view(-1)[5] += 1e-6
    save_weights(local_dir, state)
    before, after = fingerprint(encoder), fingerprint(load_dir(local_dir))
    assert {key for key in before if before[key] != after[key]} == {"weights"}


def test_fingerprint_changes_with_the_preprocessing(
    local_dir: Path, tiny_configs: dict[str, Any]
) -> None:
    before = fingerprint(load_dir(local_dir))
    write_config(local_dir, tiny_configs, "squash")
    after = fingerprint(load_dir(local_dir))
    assert {key for key in before if before[key] != after[key]} == {"preprocessing", "probe"}


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("builtin:layout", 64),
        ("builtin:copy", 128),
        ("open_clip:tinytest-vit/random", 128),
        ("timm:test_vit/random", 320),
    ],
)
def test_scaled_decoding_is_part_of_the_fingerprint_and_exact_is_not(name: str, least: int) -> None:
    exact, scaled = (load_encoder(EncoderSpec(name, decode=one)) for one in ("exact", "scaled"))
    assert type(exact) is type(scaled)
    assert (least_side(exact), least_side(scaled)) == (None, least)
    before, after = fingerprint(exact), fingerprint(scaled)
    assert fingerprint(load_encoder(EncoderSpec(name))) == before
    assert {key for key in before if before[key] != after[key]} == {"preprocessing"}
    stated = [one["preprocessing"] for one in (before, after)]
    assert all(isinstance(one, dict) for one in stated)
    assert [decoding_of(one) for one in stated] == ["exact", "scaled"]  # type: ignore[arg-type]


def test_an_encoder_that_reads_whole_images_refuses_others() -> None:
    with pytest.raises(CurateError, match=r"phash:phash: it reads whole images; say exact"):
        load_encoder(EncoderSpec("phash:phash", decode="scaled"))


def test_an_unknown_decoding_is_refused() -> None:
    with pytest.raises(CurateError, match=r"decode 'fast' of encoder builtin:layout: choose from"):
        load_encoder(EncoderSpec("builtin:layout", decode="fast"))


@pytest.mark.parametrize(
    "name",
    ["builtin:layout", "open_clip:tinytest-vit/random", "timm:test_vit/random"],
)
def test_every_kind_of_encoder_follows_the_protocol(name: str) -> None:
    encoder = load_encoder(EncoderSpec(name))
    assert isinstance(encoder, Encoder)
    assert encoder.name == name
    pixels = encoder.preprocess(probe_image())
    assert (pixels.shape, pixels.dtype) == (encoder.input_shape, encoder.input_dtype)
    vectors = encoder.encode(np.stack([pixels, pixels]))
    assert (vectors.shape, vectors.dtype) == ((2, encoder.dim), np.float32)
    assert abs(np.linalg.norm(vectors[0]) - 1) < 1e-5
    assert encoder.batch_size >= 1
    printed = fingerprint(encoder)
    assert json.loads(json.dumps(printed)) == printed
    assert re.fullmatch("[0-9a-f]{64}", str(printed["weights"]))
    assert "numpy" in library_versions(encoder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openclip:ViT-B-32/openai", "did you mean 'open_clip'"),
        ("ViT-B-32", "PREFIX:NAME"),
        ("open_clip", "PREFIX:NAME"),
        ("timm:", "nothing follows"),
        ("builtin:layot", "builtin:layout"),
    ],
)
def test_an_unknown_name_is_told_the_nearest_one(name: str, words: str) -> None:
    with pytest.raises(CurateError, match=words):
        load_encoder(EncoderSpec(name))


def test_the_builtin_encoder_takes_no_weights() -> None:
    with pytest.raises(CurateError, match=r"w\.pt"):
        load_encoder(EncoderSpec("builtin:layout", weights="w.pt"))


def test_a_model_is_loaded_once_per_spec() -> None:
    spec = EncoderSpec("timm:test_vit/random", device="cpu")
    assert cached_encoder(spec) is cached_encoder(EncoderSpec("timm:test_vit/random", device="cpu"))
    assert cached_encoder(spec) is not load_encoder(spec)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("open_clip:ViT-B-32/openai", "open_clip-ViT-B-32-openai"),
        ("builtin:layout", "builtin-layout"),
        (
            "torchscript:/a/b/sscd.pt?size=288&resize=short",
            "torchscript-sscd.pt-size-288-resize-short",
        ),
        ("timm:vit_base.dino/random", "timm-vit_base.dino-random"),
        ("torchscript:..", "torchscript-"),
        ("timm:../../x", "timm-..-..-x"),
    ],
)
def test_slugs_are_readable(name: str, slug: str) -> None:
    assert encoder_slug(name) == slug.strip("-.")


@given(st.text(min_size=1))
def test_a_slug_is_always_one_safe_folder_name(name: str) -> None:
    try:
        slug = encoder_slug(name)
    except CurateError:
        assert not re.search("[A-Za-z0-9_]", name)
    else:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", slug)


def test_long_names_keep_different_slugs() -> None:
    first, second = (encoder_slug(f"timm:{'x' * 200}{end}") for end in "ab")
    assert first != second
    assert len(first) == 100


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, curate.encoders as e; e.EncoderSpec('a:b'); e.encoder_slug('a:b');"
        "assert not {'torch', 'open_clip', 'timm', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
