"""What this machine offers a run: its devices, a compiler, a clock that waits for the device."""

import os
import shutil
import sys
import time

import torch
from torch import nn


def now(device: str) -> float:
    """Read the clock, in seconds, when the device has finished what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def default_device() -> str:
    """Return "cuda" if torch can use a GPU, and "cpu" otherwise."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """Raise ValueError for a device that torch does not know or this machine does not have.

    >>> check_device("cpu")
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises both
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {device!r} is not available on this machine ({reason}): use cpu, or cuda on a "
            "machine with an NVIDIA GPU and a torch built for it"
        ) from error


def has_compiler(device: str) -> bool:
    """Tell whether the compiler is installed that torch.compile calls for this device's code."""
    if torch.device(device).type == "cuda":  # Triton's launchers are C
        given = os.environ.get("CC")
        return any(map(shutil.which, [given] if given else ["cc", "gcc", "clang"]))
    default = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX", default)) is not None


def compiled(model: nn.Module, device: str) -> nn.Module:
    """Return the model with a compiled forward, for batches of one shape; the weights are shared.

    Raises ValueError if the compiler that this needs is missing.
    """
    if not has_compiler(device):
        raise ValueError(
            "compile=True needs a C++ compiler (for CUDA a C compiler), and none was found: "
            "install g++ or clang, name one in the variable CXX (CC), or leave compile out"
        )
    torch.compiler.reset()  # earlier models of this process would count towards a limit
    return torch.compile(model, dynamic=False)
