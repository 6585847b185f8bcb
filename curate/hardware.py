"""What this machine can compute on, found out without importing torch where that can be avoided."""

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
