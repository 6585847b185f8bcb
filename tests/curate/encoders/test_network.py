"""Checkpoints that are refused, digests, seeds, settings of torch that are put back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curate.encoders.base import EncoderSpec
from curate.encoders.network import (
    CPU_MICRO_BATCH,
    Runtime,
    read_state,
    reproducible,
    resolve_runtime,
    run_batches,
    seeded_init,
    state_digest,
)
from curate.errors import CurateError

CPU = Runtime("cpu", "fp32", compile=False, batch_size=32, micro_batch=CPU_MICRO_BATCH)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["bomb.pt", "bomb.bin", "bomb.safetensors"])
def test_a_pickle_bomb_does_not_go_off(tmp_path: Path, name: str) -> None:
    target = tmp_path / "fired"
    torch.save({"weight": torch.ones(2), "x": Bomb(target)}, tmp_path / name)
    with pytest.raises(CurateError, match=name):
        read_state(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(CurateError, match=name):
        read_state(tmp_path / name)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))  # the bomb works where it is let
    assert target.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04", b"\x00" * 64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_wrong_file_is_named_in_the_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CurateError, match=str(path)):
        read_state(path)


def test_a_checkpoint_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "short.pt"
    torch.save({"weight": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(CurateError, match=r"short\.pt"):
        read_state(path)


@pytest.mark.parametrize("value", [torch.ones(3), {"epoch": 3}, {}, [1]])
def test_a_file_without_a_state_dict_is_an_error(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(CurateError, match="state dict"):
        read_state(tmp_path / "x.pt")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(CurateError, match=r"nowhere\.pt: no such file"):
        read_state(Path("nowhere.pt"))


def test_a_training_checkpoint_is_unwrapped(tmp_path: Path) -> None:
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2.0)}
    wrapped = {"epoch": 7, "state_dict": {f"module.{k}": v for k, v in weights.items()}}
    torch.save(wrapped, tmp_path / "epoch.pt")
    save_file(weights, tmp_path / "plain.safetensors")
    first, second = read_state(tmp_path / "epoch.pt"), read_state(tmp_path / "plain.safetensors")
    assert state_digest(first) == state_digest(second) == state_digest(weights)


def test_the_digest_sees_values_names_shapes_and_dtypes_but_not_order_or_layout() -> None:
    base = {"a": torch.arange(4.0).reshape(1, 1, 2, 2), "b": torch.zeros((), dtype=torch.int64)}
    same = {"b": base["b"], "a": base["a"].to(memory_format=torch.channels_last)}
    assert state_digest(same) == state_digest(base)
    others = [
        base | {"a": base["a"] + torch.tensor([[0.0, 0.0], [0.0, 1e-6]])},
        base | {"a": base["a"].reshape(4)},
        base | {"a": base["a"].to(torch.bfloat16)},
        base | {"b": torch.zeros((), dtype=torch.float64)},
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"]},
    ]
    assert len({state_digest(state) for state in [base, *others]}) == 7


def test_seeded_weights_are_equal_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(99)
    expected = torch.rand(3)
    torch.manual_seed(99)
    drawn = []
    for _ in range(2):
        with seeded_init():
            drawn.append(torch.nn.Linear(4, 4).weight.detach())
    assert torch.equal(*drawn)
    assert torch.equal(torch.rand(3), expected)


def test_settings_of_torch_are_put_back_after_an_error() -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"{torch.get_num_threads()} thread")

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="1 thread"):
            run_batches(fail, np.zeros((1, 3), np.float32), 3, CPU)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_on_cuda_tf32_and_autotuning_are_off_and_put_back() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    with reproducible("cuda"):
        inside = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    assert inside == (False, False, False, True)
    assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic) == before


@pytest.mark.parametrize("rows", [0, 1, CPU_MICRO_BATCH, CPU_MICRO_BATCH + 1])
def test_a_network_sees_one_shape_only(rows: int) -> None:
    shapes = set()

    def forward(images: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(images.shape))
        return images.sum(dim=(2, 3))

    batch = np.random.default_rng(0).random((rows, 3, 4, 4), dtype=np.float32)
    vectors = run_batches(forward, batch, 3, CPU)
    assert vectors.shape == (rows, 3)
    assert shapes == ({(CPU_MICRO_BATCH, 3, 4, 4)} if rows else set())
    sums = batch.sum(axis=(2, 3))
    np.testing.assert_allclose(
        vectors, sums / np.linalg.norm(sums, axis=1, keepdims=True), rtol=1e-5
    )


def test_a_dead_feature_row_is_nan_and_spares_its_neighbours() -> None:
    batch = np.stack([np.full((1, 2, 2), value, np.float32) for value in (0.0, 1.0, np.inf)])
    vectors = run_batches(lambda images: images.flatten(1), batch, 4, CPU)
    assert np.isnan(vectors[[0, 2]]).all()
    assert vectors[1].tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"precision": "fp16"}, "precision"),
        ({"device": "tpu"}, "device"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(CurateError, match=word):
        resolve_runtime(EncoderSpec("open_clip:RN50/random", **options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(CurateError, match="no CUDA device"):
        resolve_runtime(EncoderSpec("x", device="cuda"))
    assert resolve_runtime(EncoderSpec("x")).device == "cpu"


def test_the_shape_on_cpu_does_not_follow_the_batch_size() -> None:
    runtime = resolve_runtime(EncoderSpec("x", device="cpu", batch_size=100))
    assert (runtime.batch_size, runtime.micro_batch) == (100, CPU_MICRO_BATCH)
