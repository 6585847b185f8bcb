"""The device is what was asked for; "auto" agrees with torch, without importing it in vain."""

import subprocess
import sys

import pytest

from curate.hardware import choose_device, has_cuda, one_thread


def test_a_wish_is_granted() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("cuda") == "cuda"


def test_auto_agrees_with_torch() -> None:
    import torch

    assert has_cuda() == torch.cuda.is_available()
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_torch_is_not_imported_where_there_is_no_driver() -> None:
    if has_cuda():
        pytest.skip("there is a driver here")
    code = "import sys, curate.hardware as h; h.has_cuda(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_one_thread_computes_and_as_many_as_before_afterwards_also_after_an_error() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ValueError, match="1 thread"), one_thread():
            raise ValueError(f"{torch.get_num_threads()} thread")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
