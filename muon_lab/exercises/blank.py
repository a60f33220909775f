"""The placeholder ____ that stands where an answer belongs."""

import inspect
from collections.abc import Mapping
from itertools import islice

UNTOUCHED = "Replace each ____ by your answer, then run the cell again."


class NotAttempted(Exception):
    """A placeholder was used before it was replaced."""


class Blank:
    """A value whose every use raises NotAttempted."""

    def _refuse(self, *args, **kwargs):
        raise NotAttempted(UNTOUCHED)

    def __repr__(self):
        return "____"

    def __deepcopy__(self, memo):
        return self

    def __getattr__(self, name):
        # Names with an underscore are how NumPy and Jupyter ask what an object can do.
        raise AttributeError(name) if name.startswith("_") else NotAttempted(UNTOUCHED)

    __torch_function__ = classmethod(_refuse)
    __hash__ = object.__hash__


OPERATIONS = """add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow
    matmul rmatmul neg pos abs invert and rand or ror xor rxor lt le gt ge eq ne bool int float
    complex index len iter next contains getitem setitem call enter array array_ufunc"""
for _name in OPERATIONS.split():
    setattr(Blank, f"__{_name}__", Blank._refuse)

____ = Blank()


def mentions_blank(answer) -> bool:
    """Return whether a placeholder is left in a value, a container, a function or a class."""
    if isinstance(answer, Mapping):
        return any(map(mentions_blank, answer.values()))
    if isinstance(answer, list | tuple):
        return any(map(mentions_blank, islice(answer, 1000)))  # nobody writes more by hand
    if isinstance(answer, type):
        return any(map(mentions_blank, vars(answer).values()))
    code = getattr(answer, "__code__", None) if inspect.isfunction(answer) else answer
    if inspect.iscode(code):
        return "____" in code.co_names or any(map(mentions_blank, code.co_consts))
    return isinstance(answer, Blank)
