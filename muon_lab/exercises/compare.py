"""Compare what an answer did with what was wanted, and say the difference in words."""

import linecache
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Failure:
    """An exception that an answer raised, told by its line; equal failures are the same mistake."""

    message: str
    where: str = field(compare=False)


def where(error) -> str:
    """Name the last line of the learner's own code that an exception came through."""
    ours = (str(Path(__file__).parents[1]), "site-packages")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in ours)]
    if not own:
        return ""
    line = linecache.getline(own[-1].filename, own[-1].lineno).strip()
    return f" (line {own[-1].lineno}: {line})"


def difference(wanted, got, tolerance: float) -> str:
    """Say how ``got`` differs from ``wanted``; an empty string where it does not."""
    if isinstance(got, Failure):
        same = isinstance(wanted, Failure) and got == wanted
        return "" if same else f"it raised {got.message}{got.where}"
    if got is None and wanted is not None:
        return "the answer is None: is a return missing?"
    got = in_the_form_of(wanted, got)
    if isinstance(wanted, Mapping) and isinstance(got, Mapping) and wanted.keys() == got.keys():
        return parts_differ(wanted.values(), [got[key] for key in wanted], tolerance)
    if isinstance(wanted, list | tuple) and isinstance(got, list | tuple):
        if len(wanted) != len(got):
            return f"wanted {len(wanted)} values, got {len(got)}."
        return parts_differ(wanted, got, tolerance)
    wanted_numbers, numbers = as_numbers(wanted), as_numbers(got)
    if wanted_numbers is None or numbers is None:
        same = type(wanted) is type(got) and wanted == got
        return "" if same else f"wanted {show(wanted)}, got {show(got)}."
    return numbers_differ(wanted_numbers, numbers, tolerance)


def numbers_differ(wanted, got, tolerance):
    """Say how one array differs from another, at a tolerance relative to its largest entry."""
    if wanted.shape != got.shape:
        return f"wanted the shape {wanted.shape}, got {got.shape}."
    finite = np.isfinite(wanted)
    if finite.all() and not np.isfinite(got).all():
        return f"wanted finite numbers, got {show(got)}."
    scale = np.max(np.abs(wanted[finite]), initial=0.0)
    if np.allclose(got, wanted, 0, tolerance * scale, equal_nan=True):
        return ""
    told = f"wanted {show(wanted)}, got {show(got)}"
    if show(wanted) != show(got):
        return f"{told}."
    return f"{told} (off by {np.max(np.abs(got - wanted)):.1g})."


def in_the_form_of(wanted, got):
    """Give a list for an array, or an array for a list of numbers, where that was wanted."""
    try:
        if isinstance(wanted, list | tuple) and getattr(got, "ndim", 0):
            alike = all(np.shape(part) == tuple(got.shape[1:]) for part in wanted)
            return list(got) if alike else got
        if getattr(wanted, "ndim", 0) and isinstance(got, list | tuple):
            array = np.array(got)
            return array if array.dtype.kind in "biufc" else got
    except ValueError:  # rows that differ in length
        return got
    return got


def parts_differ(wanted, got, tolerance):
    """Give the first difference among the parts of two containers."""
    told = (difference(*pair, tolerance) for pair in zip(wanted, got, strict=True))
    return next(filter(None, told), "")


def as_numbers(value):
    """Give numbers, arrays and tensors as an array, and None for all else."""
    if hasattr(value, "detach"):  # a torch tensor, told without importing torch
        value = value.detach().cpu().double().numpy()
    if isinstance(value, list | tuple):
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "biufc" else None


def show(value) -> str:
    """Write a value so that it fits in a sentence."""
    numbers = as_numbers(value)
    if numbers is not None and numbers.ndim == 0:
        return f"{numbers.item():.6g}" if numbers.dtype.kind in "fc" else str(numbers.item())
    if numbers is not None:
        short = {"threshold": 8, "edgeitems": 2, "separator": ", "}
        if numbers.dtype.kind == "f":
            short["formatter"] = {"float_kind": "{:.5g}".format}
        return np.array2string(numbers, **short)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(show, value))}]"
    text = getattr(value, "name", None) or getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
