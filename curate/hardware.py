"""What this machine can compute on, found out without importing torch where that can be avoided."""

from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from typing import Literal


def has_cuda() -> bool:
    """True when torch can use a CUDA device; torch is imported only if there is a driver."""
    if find_library("cuda") is None:
        return False
    import torch

    return torch.cuda.is_available()


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """The device that "auto" stands for here; another wish is granted as it is."""
    if wanted == "auto":
        return "cuda" if has_cuda() else "cpu"
    return wanted


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread of torch, so that no sum depends on how many there are; then as before."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
