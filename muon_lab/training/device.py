"""What a device is asked before a run: can it compile, and how much of a batch does it hold?"""

import os
import shutil
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

BACKEND = "inductor"  # torch.compile's own default


def now(device: str) -> float:
    """Read the clock once the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def check_device(device: str) -> None:
    """Raise ValueError for a device that torch does not know, or that this machine has not.

    >>> check_device("cpu")
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises both
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"device {device!r} is not to be had here ({why}): take cpu, or cuda on a machine "
            "with an NVIDIA GPU and a torch made for it"
        ) from error


def has_compiler(device: str) -> bool:
    """Tell whether the compiler is installed that torch.compile calls for this device's code."""
    if torch.device(device).type == "cuda":  # Triton's launchers are C
        given = os.environ.get("CC")
        return any(map(shutil.which, [given] if given else ["cc", "gcc", "clang"]))
    default = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX", default)) is not None


def compiled(model: nn.Module, device: str) -> nn.Module:
    """Return the same model with a compiled forward, for batches that are all of one shape.

    The weights are shared. Raises ValueError where the compiler is missing that this takes.
    """
    if BACKEND == "inductor" and not has_compiler(device):
        raise ValueError(
            "compile=True needs a C++ compiler (for CUDA a C compiler), and none was found: "
            "install g++ or clang, name one in the variable CXX (CC), or leave compile out"
        )
    torch.compiler.reset()  # else the code of earlier models in this process counts against a limit
    return torch.compile(model, backend=BACKEND, dynamic=False)


def parts_that_fit(batch: int, parts: int, attempt: Callable[[int], object]) -> int:
    """Return the least number of equal parts of a batch, from ``parts`` on, that memory holds.

    ``attempt(size)`` works on one part of that size and raises torch.OutOfMemoryError if it is too
    large. Raises ValueError where one sequence alone is.

    >>> def attempt(size):
    ...     if size > 5:
    ...         raise torch.OutOfMemoryError
    >>> parts_that_fit(24, 1, attempt)
    6
    """
    for number in range(parts, batch + 1):
        if batch % number:
            continue
        try:
            attempt(batch // number)
        except torch.OutOfMemoryError:
            continue
        return number
    raise ValueError(
        "the device's memory does not hold one sequence: lower context, width or layers, or take "
        "--device cpu"
    )
