"""Compare what an answer did with what was wanted, and say the difference in words."""

import linecache
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from sysconfig import get_path

import numpy as np


@dataclass(frozen=True)
class Failure:
    """An exception that an answer raised, and the line it came from; the message is compared."""

    message: str
    where: str = field(default="", compare=False)

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Describe an exception by its type, its message and the last line of the learner's own."""
        ours = (str(Path(__file__).parents[1]), "site-packages", get_path("stdlib"))
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not any(part in frame.filename for part in ours)]
        message = f"{type(error).__name__}: {error}"
        # NumPy's own words for this are about gufunc signatures.
        if unequal := re.search(r"matmul: .*size (\d+) is different from (\d+)", message):
            message = (
                "ValueError: a matrix product needs as many columns on its left as rows on its "
                f"right; here they are {unequal[2]} and {unequal[1]}"
            )
        if not own:
            return cls(message)
        line = linecache.getline(own[-1].filename, own[-1].lineno).strip()
        return cls(message, f" (line {own[-1].lineno}: {line})")


def difference(wanted, got, tolerance: float, parts: Sequence[str] = ()) -> str:
    """Say how ``got`` differs from ``wanted``; an empty string where it does not.

    ``parts`` names the values of a tuple. A wrong shape is said before a wrong number.
    """
    if isinstance(got, Failure):
        same = isinstance(wanted, Failure) and got == wanted
        return "" if same else f"it raised {got.message}{got.where}"
    if got is None and wanted is not None:
        return "it is None: is a return missing?"
    got = in_the_form_of(wanted, got)
    if isinstance(wanted, Mapping) and isinstance(got, Mapping) and wanted.keys() == got.keys():
        got, parts, wanted = list(map(got.get, wanted)), list(wanted), list(wanted.values())
    if isinstance(wanted, list | tuple) and isinstance(got, list | tuple):
        return parts_differ(wanted, got, tolerance, parts)
    if isinstance(wanted, tuple) and parts:
        return f"wanted {len(parts)} values ({', '.join(parts)}), got one: {show(got)}."
    wanted_numbers, numbers = as_numbers(wanted), as_numbers(got)
    if wanted_numbers is not None and numbers is not None:
        return shapes_differ(wanted_numbers, numbers) or numbers_differ(
            wanted_numbers, numbers, tolerance
        )
    if isinstance(wanted, str) and isinstance(got, str):
        return "" if wanted == got else f"wanted {wanted}, got {got}."
    same = type(wanted) is type(got) and wanted == got
    return "" if same else f"wanted {show(wanted)}, got {show(got)}."


def parts_differ(wanted, got, tolerance, names):
    """Name the first part of two tuples that differs, and say how: shapes first, then numbers."""
    names = names or numbered(wanted)
    if len(wanted) != len(got):
        return f"wanted {len(wanted)} values ({', '.join(names)}), got {len(got)}."
    pairs = list(zip(wanted, map(in_the_form_of, wanted, got), strict=True))
    shapes = [shapes_differ(*map(as_numbers, pair)) for pair in pairs]
    said = shapes if any(shapes) else [difference(*pair, tolerance) for pair in pairs]
    if any(said) and not any(
        difference(w, g, tolerance) for w, g in zip(wanted, got[::-1], strict=True)
    ):
        return f"the values are in the wrong order: wanted ({', '.join(names)})."
    return next((f"{n}: {told}" for n, told in zip(names, said, strict=True) if told), "")


def numbered(values):
    """Name values that have no names: "value 1", "value 2", ..."""
    return [f"value {i}" for i, _ in enumerate(values, start=1)]


def shapes_differ(wanted, got):
    """Say how the shapes of two arrays differ; nothing where either is no array."""
    if wanted is None or got is None or wanted.shape == got.shape:
        return ""
    turned = wanted.ndim == 2 and wanted.shape == got.T.shape
    return f"wanted the shape {wanted.shape}, got {got.shape}{', its transpose' * turned}."


def numbers_differ(wanted, got, tolerance):
    """Say where arrays of one shape first differ, at a tolerance relative to the largest entry."""
    finite = np.isfinite(wanted)
    if finite.all() and not np.isfinite(got).all():
        return f"wanted finite numbers, got {show(got)}."
    scale = np.max(np.abs(wanted[finite]), initial=0.0)
    close = np.isclose(got, wanted, 0, tolerance * scale, equal_nan=True)
    if close.all():
        return ""
    first = tuple(int(i) for i in np.argwhere(~close)[0])
    place = f"at {list(first)} " if first and wanted.size > 4 else ""
    one, other = (wanted[first], got[first]) if place else (wanted, got)
    told = f"{place}wanted {show(one)}, got {show(other)}"
    if show(one) == show(other):
        told += f" (off by {np.max(np.abs(got - wanted)):.1g})"
    return told + constant_factor(wanted, got, tolerance) + "."


def constant_factor(wanted, got, tolerance):
    """Say it where every entry is the same multiple of what was wanted."""
    if not (np.isfinite(wanted).all() and np.isfinite(got).all()):
        return ""
    if np.count_nonzero(wanted) < 2:
        return ""
    factor = float(np.sum(wanted * got) / np.sum(wanted * wanted))
    if not factor or not np.allclose(got, factor * wanted, 0, tolerance * np.abs(got).max()):
        return ""
    told = "is reversed in sign" if np.isclose(factor, -1) else f"is {factor:.4g} times that"
    return f"; every entry {told}"


def in_the_form_of(wanted, got):
    """Give a list for an array, or an array for a list of numbers, where that was wanted."""
    try:
        if isinstance(wanted, list | tuple) and getattr(got, "ndim", 0):
            alike = all(np.shape(part) == tuple(got.shape[1:]) for part in wanted)
            return list(got) if alike else got
        if getattr(wanted, "ndim", 0) and isinstance(got, list | tuple):
            array = np.array(got) if len(got) == len(wanted) else got
            return array if array.dtype.kind in "biufc" else got
        if isinstance(got, str) and as_numbers(wanted) is not None:
            return float(got)
    except (ValueError, AttributeError):  # rows that differ in length; a word
        return got
    if isinstance(got, str) and isinstance(wanted, str):
        return wanted if got.strip().lower() == wanted.lower() else got
    return got


def as_numbers(value):
    """Give numbers, arrays and tensors as an array, and None for everything else."""
    if hasattr(value, "detach"):  # a torch tensor, recognised without importing torch
        value = value.detach().cpu().double().numpy()
    if isinstance(value, list | tuple):
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "biufc" else None


def show(value) -> str:
    """Write a value in one short line; a large array by its shape, a long list by its first."""
    numbers = as_numbers(value)
    if numbers is not None and numbers.ndim == 0:
        return f"{numbers.item():.6g}" if numbers.dtype.kind in "fc" else str(numbers.item())
    if numbers is not None and numbers.size > 9:
        return f"<array of shape {numbers.shape}>"
    if numbers is not None:
        text = np.array2string(numbers, separator=", ", formatter={"float_kind": "{:.5g}".format})
        return " ".join(text.split())
    if isinstance(value, list | tuple):
        more = f", … {len(value):,} values" if len(value) > 6 else ""
        return f"[{', '.join(map(show, islice(value, 6)))}{more}]"
    text = getattr(value, "name", None) or getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
