"""Read an answer in the form in which it is judged, or say which form is expected."""

import inspect
from collections.abc import Mapping
from functools import partial

from muon_lab.exercises.blank import NotAttempted
from muon_lab.exercises.compare import show


class Unreadable(Exception):
    """Say what kind of answer is expected; nothing can be observed of the one that was given."""


def read(answer, reference, start, choices):
    """Return the answer in the form that is judged; raise Unreadable for another kind."""
    if start is not None:
        return read_settings(answer, start)
    if callable(reference):
        names = list(inspect.signature(reference).parameters)
        if not callable(answer):
            raise Unreadable(
                f"Give the function itself, without calling it; {show(answer)} is not one."
            )
        if not accepts(answer, len(names)):
            raise Unreadable(f"Your function must take ({', '.join(names)}).")
    elif inspect.isroutine(answer):
        raise Unreadable("Give a value here, not a function.")
    elif isinstance(reference, tuple) and not has_length(answer, len(reference)):
        raise Unreadable(f"Give {len(reference)} values; this is {show(answer)}.")
    if choices:
        by_name = {str(choice): choice for choice in choices}
        name = answer.strip().lower() if isinstance(answer, str) else show(answer)
        if name not in by_name:
            raise Unreadable(f"Choose one of {', '.join(map(repr, choices))}.")
        return by_name[name]
    return answer


def has_length(value, count: int) -> bool:
    """Tell whether a value is a sequence of so many, and no text."""
    indexed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return indexed and not isinstance(value, str) and len(value) == count


def accepts(function, count: int) -> bool:
    """Tell whether a function can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        pass
    return True


def read_settings(answer, start):
    """Read the settings that ``start`` names from a dict or from an explorer's traits."""
    get = answer.__getitem__ if isinstance(answer, Mapping) else partial(getattr, answer)
    try:
        settings = {name: get(name) for name in start}
    except (AttributeError, KeyError):
        names = ", ".join(map(repr, start))
        raise Unreadable(f"Give the explorer, or a dict with the keys {names}.") from None
    if settings == dict(start):
        raise NotAttempted("The sliders are still where they began: move them.")
    return settings
